"""A blocking client's calls and streams, in threads, so that an event loop stays free."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import Any

from .effects import END

THREADS = 256
"""How many may wait at once. An event loop's own are few, and for what takes less time, such as files."""


class _Pool:
    """The threads of this process, made as they are needed."""

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(THREADS, "instructor")


_pool = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: vars(_pool).update(vars(_Pool())))  # the parent keeps its own


def in_thread(call: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """The call, to be awaited."""
    return partial(_run, call)


async def _run(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    work = partial(copy_context().run, call, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_pool.threads, work)


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
            await _run(work)
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
        event = await _run(next, self._events, END)
        if event is END:
            raise StopAsyncIteration
        return event

    async def aclose(self) -> None:
        """Hang up. A thread that still waits for an event, because who awaited it is gone, is told so first."""
        with suppress(Exception):
            self._stream._raw_stream.shutdown()  # noqa: SLF001  closing would wait for that thread
        await _run(self._stream.close)
