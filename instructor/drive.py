"""The two drivers, sync and async: they perform what flows ask for; what many share, `sharing.py` does for both."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import aclosing, closing, suppress
from contextvars import Context, copy_context
from functools import partial
from typing import Any, TypeVar

import pydantic
import tenacity

from .cache.base import BaseCache
from .cache.flights import LEADING
from .effects import END, Begin, Decide, Do, Emit, Flow, Join, Load, Next, Open, Run, Save, Send, Share, Sleep, Whole
from .sharing import join, join_async, share, share_async

T = TypeVar("T")


def run(flow: Flow[T]) -> T:
    """Perform a flow in this thread, and give its result."""
    step, given = flow.send, None
    while True:
        try:
            effect = step(given)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        try:
            given, step = PERFORM[type(effect)](effect), flow.send
        except BaseException as problem:  # noqa: BLE001  whatever happened, the flow decides
            given, step = problem, flow.throw


async def run_async(flow: Flow[T]) -> T:
    """Perform a flow in this event loop, and give its result."""
    step, given = flow.send, None
    while True:
        try:
            effect = step(given)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        try:
            given, step = PERFORM_ASYNC[type(effect)](effect), flow.send
            if type(given) is not str:  # most often the text of a hit, which needs no looking at
                given = await _awaited(given)
        except BaseException as problem:  # noqa: BLE001  cancellation too: the flow releases what it holds
            given, step = problem, flow.throw


def steps(flow: Flow[Any]) -> Generator[Emit, None, None]:
    """Perform a flow in this thread, and give what it emits when it does; what it listens to is closed at the end."""
    step, given, held = flow.send, None, None
    try:
        while True:
            try:
                effect = step(given)
            except StopIteration:
                return
            given, step = None, flow.send
            if type(effect) is Emit:
                yield effect
                continue
            try:
                if type(effect) in OPEN:  # a flow listens to one source at a time
                    _close(held)
                    held = None
                    given, held = OPEN[type(effect)](effect)
                else:
                    given = PERFORM[type(effect)](effect)
            except BaseException as problem:  # noqa: BLE001  whatever happened, the flow decides
                given, step = problem, flow.throw
    finally:
        flow.close()
        _close(held)


async def steps_async(flow: Flow[Any]) -> AsyncGenerator[Emit, None]:
    """Perform a flow in this event loop, and give what it emits when it does; what it listens to is closed."""
    step, given, held = flow.send, None, None
    try:
        while True:
            try:
                effect = step(given)
            except StopIteration:
                return
            given, step = None, flow.send
            if type(effect) is Emit:
                yield effect
                continue
            try:
                if type(effect) in OPEN:
                    await _close_async(held)
                    held = None
                    given, held = await OPEN_ASYNC[type(effect)](effect)
                else:
                    given = await _awaited(PERFORM_ASYNC[type(effect)](effect))
            except BaseException as problem:  # noqa: BLE001  cancellation too
                given, step = problem, flow.throw
    finally:
        flow.close()
        await _close_async(held)


def iterate(flow: Flow[Any]) -> Generator[Any, None, None]:
    """The items that a flow emits, each when it is there."""
    with closing(steps(flow)) as emitted:
        for effect in emitted:
            yield from effect.items


async def iterate_async(flow: Flow[Any]) -> AsyncGenerator[Any, None]:
    """The items that a flow emits, each when it is there."""
    async with aclosing(steps_async(flow)) as emitted:
        async for effect in emitted:
            for item in effect.items:
                yield item
            await asyncio.sleep(0)  # a replay waits for nothing, and the loop has other work


def _close(source: Any) -> None:
    """Close a stream, if there is one; that which cannot be, or will not, has still said what it said."""
    with suppress(Exception):
        source.close()


async def _close_async(source: Any) -> None:
    with suppress(Exception):
        await closed(source)


def close(client: Any) -> None:
    """Close an SDK's client; litellm has none, and Cohere's and Mistral's know only the end of a `with`."""
    if client is not None:
        (getattr(client, "close", None) or partial(client.__exit__, None, None, None))()


async def closed(client: Any) -> None:
    """Close an SDK's asynchronous client; Google's has its asynchronous side in `aio`."""
    side = getattr(client, "aio", client)
    if side is not None:
        leave = getattr(side, "aclose", None) or getattr(side, "close", None)
        await _awaited((leave or partial(side.__aexit__, None, None, None))())


def _load(effect: Load) -> Any:
    text = effect.store.get(effect.key)
    return text if type(text) is str else _settled(text, effect.store)


def _save(effect: Save) -> None:
    _settled(effect.store.set(*_given(effect)), effect.store)


def _settled(result: Any, store: BaseCache) -> Any:
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError(f"{store!r} is asynchronous, and this client is not: use an async client, or a sync cache")
    return result


def _given(effect: Save) -> tuple[Any, ...]:
    """What `set` takes: whole seconds, rounded up, unless the store counts finer; tags only where there are any."""
    ttl = effect.ttl if effect.ttl is None or effect.store.fractional_ttl else math.ceil(effect.ttl)
    return (effect.key, effect.text, ttl, *filter(None, [effect.tags]))


def _load_async(effect: Load) -> Any:
    store = effect.store
    if store.blocking != "always" or inspect.iscoroutinefunction(store.get):
        return store.get(effect.key)
    aget = getattr(store, "aget", None)
    return _load_in_thread(store, effect.key) if aget is None else aget(effect.key)


async def _load_in_thread(store: BaseCache, key: str) -> Any:
    return await _awaited(await asyncio.to_thread(store.get, key))


async def _save_async(effect: Save) -> None:
    store, given = effect.store, _given(effect)
    if store.blocking == "never" or inspect.iscoroutinefunction(store.set):
        await _awaited(store.set(*given))
    elif aset := getattr(store, "aset", None):
        await aset(*given)
    else:
        await _awaited(await asyncio.to_thread(store.set, *given))


async def _awaited(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


def _do(effect: Do) -> Any:
    return _settled(getattr(effect.store, effect.verb)(*effect.given), effect.store)


def _do_async(effect: Do) -> Any:
    native = getattr(effect.store, f"a{effect.verb}", None)
    if native is not None:
        return native(*effect.given)
    return asyncio.to_thread(getattr(effect.store, effect.verb), *effect.given)


async def _sleep_async(effect: Sleep) -> None:
    """Pause as the controller says; tenacity's plain sleep would hold up the whole loop."""
    sleep = effect.controller.sleep
    await _awaited(asyncio.sleep(effect.seconds) if sleep is tenacity.nap.sleep else sleep(effect.seconds))


def _open(effect: Open) -> tuple[Any, Any]:
    stream = effect.call(**effect.kwargs)
    return iter(_streaming(stream)), stream


async def _open_async(effect: Open) -> tuple[Any, Any]:
    stream = _streaming(await _awaited(effect.call(**effect.kwargs)))
    return aiter(stream if hasattr(stream, "__aiter__") else _one_by_one(stream)), stream


def _streaming(answer: Any) -> Any:
    """The answer, which was to be a stream."""
    return [Whole(answer)] if isinstance(answer, (dict, pydantic.BaseModel)) else answer


async def _one_by_one(events: Iterable[Any]) -> AsyncGenerator[Any, None]:
    """What a user's function made of a stream."""
    for event in events:
        yield event


def _join(effect: Join) -> tuple[Any, Any]:
    seat = join(effect, steps)
    return seat, seat


async def _join_async(effect: Join) -> tuple[Any, Any]:
    seat = await join_async(effect, steps_async)
    return seat, seat


def _begin(effect: Begin) -> None:
    work = partial(_aside().run, _drain, effect.work(effect.plan))
    with suppress(RuntimeError):  # a program that ends begins no threads
        threading.Thread(target=work, name="instructor-refresh", daemon=True).start()


def _aside() -> Context:
    """What surrounds us now, for what goes on beside us: it leads none of the flights that we lead."""
    context = copy_context()
    context.run(LEADING.set, frozenset())
    return context


def _drain(flow: Flow[Any]) -> None:
    with suppress(Exception):  # nobody would hear it
        deque(steps(flow), maxlen=0)


async def _begin_async(effect: Begin) -> None:
    task = _aside().run(asyncio.create_task, _drain_async(effect.work(effect.plan)))
    BEGUN.difference_update([begun for begun in list(BEGUN) if begun.get_loop().is_closed()])
    BEGUN.add(task)
    task.add_done_callback(BEGUN.discard)


async def _drain_async(flow: Flow[Any]) -> None:
    with suppress(Exception):
        async for _ in steps_async(flow):
            pass


BEGUN: set[asyncio.Task[None]] = set()
"""What goes on in the background: event loops forget tasks that nobody else holds."""

PERFORM: dict[type[Any], Callable[[Any], Any]] = {
    Load: _load,
    Save: _save,
    Do: _do,
    Send: lambda effect: effect.call(**effect.kwargs),
    Run: lambda effect: effect.work(),
    Begin: _begin,
    Decide: lambda effect: effect.controller.iter(effect.state),
    Sleep: lambda effect: effect.controller.sleep(effect.seconds),
    Share: lambda effect: share(effect, steps),
    Next: lambda effect: next(effect.source, END),
}
PERFORM_ASYNC: dict[type[Any], Callable[[Any], Any]] = {
    **PERFORM,
    Load: _load_async,
    Save: _save_async,
    Do: _do_async,
    Run: lambda effect: asyncio.to_thread(effect.work),
    Begin: _begin_async,
    Sleep: _sleep_async,
    Share: lambda effect: share_async(effect, steps_async),
    Next: lambda effect: anext(effect.source, END),
}
"""What each effect gives, or something to await that does."""

OPEN: dict[type[Any], Callable[[Any], tuple[Any, Any]]] = {Open: _open, Join: _join}
OPEN_ASYNC: dict[type[Any], Callable[[Any], Any]] = {Open: _open_async, Join: _join_async}
"""What gives a source, and what is to be closed when it is not needed any more."""
