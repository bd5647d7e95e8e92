"""The two drivers: they perform what flows ask for, and are the only place that knows sync from async."""

from __future__ import annotations

import asyncio
import copy
import inspect
import math
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as NotLanded
from typing import Any, TypeVar

import tenacity

from .cache.base import BaseCache
from .cache.flights import LEADING, Flight, Landing
from .effects import Decide, Effect, Flow, Load, Run, Save, Send, Share, Sleep
from .exceptions import InstructorError

T = TypeVar("T")
LATE = "Waited {patience} s for an identical question that is already being asked; raise timeout, or ask again."


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


async def closed(client: Any) -> None:
    """Close an SDK's asynchronous client; Google's has its asynchronous side in `aio`, litellm has none."""
    side = getattr(client, "aio", client)
    if side is not None:
        await _awaited((getattr(side, "aclose", None) or side.close)())


def _load(effect: Load) -> Any:
    text = effect.store.get(effect.key)
    return text if type(text) is str else _settled(text, effect.store)


def _save(effect: Save) -> None:
    _settled(effect.store.set(effect.key, effect.text, _whole(effect)), effect.store)


def _settled(result: Any, store: BaseCache) -> Any:
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError(f"{store!r} is asynchronous, and this client is not: use an async client, or a sync cache")
    return result


def _whole(effect: Save) -> Any:
    """The TTL as the store takes it: whole seconds, rounded up, unless it says that it counts finer."""
    return effect.ttl if effect.ttl is None or effect.store.fractional_ttl else math.ceil(effect.ttl)


def _load_async(effect: Load) -> Any:
    store = effect.store
    if store.blocking != "always" or inspect.iscoroutinefunction(store.get):
        return store.get(effect.key)
    return _load_in_thread(store, effect.key)


async def _load_in_thread(store: BaseCache, key: str) -> Any:
    return await _awaited(await asyncio.to_thread(store.get, key))


async def _save_async(effect: Save) -> None:
    store, ttl = effect.store, _whole(effect)
    if store.blocking == "never" or inspect.iscoroutinefunction(store.set):
        await _awaited(store.set(effect.key, effect.text, ttl))
    else:
        await _awaited(await asyncio.to_thread(store.set, effect.key, effect.text, ttl))


async def _awaited(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


def _send(effect: Send) -> Any:
    return effect.call(**effect.kwargs)


async def _send_async(effect: Send) -> Any:
    return await _awaited(effect.call(**effect.kwargs))


def _run(effect: Run) -> Any:
    return effect.work()


async def _run_async(effect: Run) -> Any:
    return await asyncio.to_thread(effect.work)


def _decide(effect: Decide) -> Any:
    return effect.controller.iter(effect.state)


async def _decide_async(effect: Decide) -> Any:
    return await _awaited(effect.controller.iter(effect.state))


def _sleep(effect: Sleep) -> None:
    effect.controller.sleep(effect.seconds)


async def _sleep_async(effect: Sleep) -> None:
    """Pause as the controller says; tenacity's plain sleep would hold up the whole loop."""
    sleep = effect.controller.sleep
    await _awaited(asyncio.sleep(effect.seconds) if sleep is tenacity.nap.sleep else sleep(effect.seconds))


def _share(effect: Share) -> tuple[bool, Any, float | None]:
    """Lead the flight, or wait for it; when its leader went away, try again with what is left of our patience."""
    end, left = _end(effect.patience), None
    while True:
        flight, leading = effect.flights.board(effect.key, inside=_this_loop())
        if flight is None:
            return True, run(effect.work(left)), left
        if leading:
            return True, _lead(effect, flight, left), left
        try:
            landing = flight.landing.result(_left(end))
        except NotLanded:
            raise TimeoutError(LATE.format(patience=effect.patience)) from None
        finally:
            effect.flights.leave(effect.key, flight)
        if _counts(landing, flight, effect):
            return False, _unpacked(landing, mine=False), _left(end)
        left = _left(end)


def _this_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _lead(effect: Share, flight: Flight, left: float | None) -> Any:
    flight.terms, landing = effect.terms, Landing(abandoned=True)
    mark = LEADING.set(effect.flights.leading(effect.key))
    try:
        landing = Landing(run(effect.work(left)))
    except Exception as error:
        landing = _failed(error)
        raise
    finally:
        LEADING.reset(mark)
        effect.flights.land(effect.key, flight, landing)
    return landing.result


def _failed(error: BaseException) -> Landing:
    """What an error means to those who wait: a timeout was the leader's own, and theirs may be longer."""
    late = any("Timeout" in cls.__name__ for problem in (error, error.__cause__) for cls in type(problem).__mro__)
    return Landing(error=error, abandoned=late or not isinstance(error, Exception))


def _counts(landing: Landing, flight: Flight, effect: Share) -> bool:
    """Whether a landing answers one who waited: a result does, an error only on the same terms."""
    return not landing.abandoned and (landing.error is None or flight.terms == effect.terms)


def _unpacked(landing: Landing, *, mine: bool) -> Any:
    if landing.error is not None:
        raise landing.error if mine else _twin(landing.error)
    return landing.result


def _twin(error: BaseException) -> BaseException:
    """An error of one's own: one object raised in many places would grow its traceback in all of them."""
    if not isinstance(error, InstructorError):  # an SDK's, which may not know how to be copied
        return error
    twin = copy.copy(error)
    twin.__cause__, twin.__suppress_context__ = error.__cause__, True
    return twin


def _end(patience: float | None) -> float | None:
    return None if patience is None else time.monotonic() + patience


def _left(end: float | None) -> float | None:
    return None if end is None else max(end - time.monotonic(), 0)


async def _share_async(effect: Share) -> tuple[bool, Any, float | None]:
    """As `_share`; but the work is a task of its own, so that its first asker may be cancelled and the others not."""
    loop, end, left = asyncio.get_running_loop(), _end(effect.patience), None
    while True:
        flight, leading = effect.flights.board(effect.key, loop=loop)
        if flight is None:
            return True, await run_async(effect.work(left)), left
        if leading:
            flight.task = loop.create_task(_lead_async(effect, flight, left))
        landing = await _landed(effect, flight, None if leading else _left(end))
        if leading or _counts(landing, flight, effect):
            return leading, _unpacked(landing, mine=leading), _left(end)
        left = _left(end)


async def _landed(effect: Share, flight: Flight, patience: float | None) -> Landing:
    """Wait for a flight; the last to leave one calls it off."""
    waiter = asyncio.wrap_future(flight.landing)
    try:
        await asyncio.wait({waiter}, timeout=patience)
        if waiter.done():
            return waiter.result()
        raise TimeoutError(LATE.format(patience=effect.patience))
    finally:
        deserted = effect.flights.leave(effect.key, flight)  # first: in a closed loop nothing more can be done
        waiter.cancel()
        if deserted and not flight.landing.done():
            await _call_off(flight)


async def _call_off(flight: Flight) -> None:
    if flight.task is None or flight.loop is None or flight.loop.is_closed():
        return
    flight.loop.call_soon_threadsafe(flight.task.cancel)
    if flight.loop is asyncio.get_running_loop():
        await asyncio.wait({flight.task})


async def _lead_async(effect: Share, flight: Flight, left: float | None) -> None:
    flight.terms, landing = effect.terms, Landing(abandoned=True)
    LEADING.set(effect.flights.leading(effect.key))  # this task's own context: nothing to undo
    try:
        landing = Landing(await run_async(effect.work(left)))
    except Exception as error:  # noqa: BLE001  raised again by everyone who waits
        landing = _failed(error)
    except BaseException as error:
        landing = _failed(error)
        raise
    finally:
        effect.flights.land(effect.key, flight, landing)


PERFORM: dict[type[Effect], Callable[[Any], Any]] = {
    Load: _load,
    Save: _save,
    Send: _send,
    Run: _run,
    Decide: _decide,
    Sleep: _sleep,
    Share: _share,
}
PERFORM_ASYNC: dict[type[Effect], Callable[[Any], Any]] = {
    Load: _load_async,
    Save: _save_async,
    Send: _send_async,
    Run: _run_async,
    Decide: _decide_async,
    Sleep: _sleep_async,
    Share: _share_async,
}
