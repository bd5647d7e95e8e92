"""A blocking client's calls and streams, in threads, so that an event loop stays free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

from .effects import END


def in_thread(call: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """The call, to be awaited."""
    return partial(asyncio.to_thread, call)


def stream_in_thread(call: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """The call, to be awaited, and each event of the stream that it gives."""

    async def opened(**kwargs: Any) -> AsyncIterator[Any]:
        made: list[Any] = []
        gone: list[BaseException] = []

        def work() -> None:
            made.append(call(**kwargs))
            if gone:  # nobody awaits it any more
                made[0].close()

        try:
            await asyncio.to_thread(work)
        except asyncio.CancelledError as cancelled:
            gone.append(cancelled)
            for stream in made:
                stream.close()
            raise
        return Stream(made[0])

    return opened


class Stream(AsyncIterator[Any]):
    """A blocking stream, whose events are waited for in threads."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._events = iter(stream)

    async def __anext__(self) -> Any:
        event = await asyncio.to_thread(next, self._events, END)
        if event is END:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Hang up. A thread that still waits for an event, because who awaited it is gone, is told so first."""
        with suppress(Exception):
            self._stream._raw_stream.shutdown()  # noqa: SLF001  closing would wait for that thread
        await asyncio.to_thread(self._stream.close)
