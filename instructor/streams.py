"""Streams as they are handed out: generators of typed items, and what looks like the SDK's own stream of events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any

from typing_extensions import Self

from .drive import iterate, iterate_async
from .plan import Plan
from .streaming import stream
from .telemetry import watched


def streamed(plan: Plan) -> Any:
    """The items of a stream, each when it is there."""
    items = iterate(watched(stream, plan))
    return items if plan.shape else Events(items)


def streamed_async(plan: Plan) -> Any:
    """The items of a stream, each when it is there, for `async for`."""
    items = iterate_async(watched(stream, plan))
    return items if plan.shape else AsyncEvents(items)


class Events(Iterator[Any]):
    """The SDK's own events, iterated and closed as its stream is."""

    def __init__(self, items: Generator[Any, None, None]) -> None:
        self._items = items
        self.close = items.close

    def __next__(self) -> Any:
        return next(self._items)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncEvents(AsyncIterator[Any]):
    """The SDK's own events, iterated and closed as its asynchronous stream is."""

    def __init__(self, items: AsyncGenerator[Any, None]) -> None:
        self._items = items
        self.close = self.aclose = items.aclose

    async def __anext__(self) -> Any:
        return await anext(self._items)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
