"""Single flight, driven: one call for all who ask the same at the same time, heard by all while it goes on."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from concurrent.futures import TimeoutError as NotLanded
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any, TypeVar

from .cache.flights import LEADING, Flight, Landing
from .effects import Emit, Flow, Join, Share
from .exceptions import InstructorError

T = TypeVar("T")
SILENT = "Nothing more came for {patience} s of a stream that somebody else asked for; raise timeout, or ask again."
LATE = "Waited {patience} s for an identical question that is already being asked; raise timeout, or ask again."

Run = Callable[[Flow[T]], T]
RunAsync = Callable[[Flow[T]], Awaitable[T]]
Steps = Callable[[Flow[Any]], Generator[Emit, None, None]]
StepsAsync = Callable[[Flow[Any]], AsyncIterator[Emit]]


def share(effect: Share, run: Run[Any]) -> tuple[bool, Any, float | None]:
    """Lead the flight, or wait for it; when its leader went away, try again with what is left of our patience."""
    end, left = _end(effect.patience), None
    while True:
        flight, leading = effect.flights.board(effect.key, inside=_this_loop())
        if flight is None:
            return False, None, left
        if leading:
            return True, _lead(effect, flight, left, run), left
        try:
            with _patient(effect.patience):
                landing = _landing(flight, end)
        finally:
            _leave(effect, flight)
        if _counts(landing, flight, effect):
            return False, _unpacked(landing, mine=False), _left(end)
        left = _left(end)


@contextmanager
def _patient(patience: float | None, said: str = LATE) -> Iterator[None]:
    """Say what it means when nothing came."""
    try:
        yield
    except NotLanded:
        raise TimeoutError(said.format(patience=patience)) from None


def _this_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _landing(flight: Flight, end: float | None) -> Landing:
    """Wait for a flight; where it is a stream that somebody listens to at leisure, do not wait for them."""
    while flight.pump is not None and not flight.landing.done():
        flight.wait(len(flight.said), _left(end))
    return flight.landing.result(_left(end))


def _leave(effect: Share, flight: Flight) -> None:
    """Stop waiting in this thread; the last to leave a flight calls it off."""
    if not effect.flights.leave(effect.key, flight) or flight.landing.done():
        return
    flight.stop()
    if flight.task is not None and flight.loop is not None and not flight.loop.is_closed():
        flight.loop.call_soon_threadsafe(flight.task.cancel)


def _lead(effect: Share, flight: Flight, left: float | None, run: Run[Any]) -> Any:
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


async def share_async(effect: Share, run: RunAsync[Any]) -> tuple[bool, Any, float | None]:
    """As `share`; but the work is a task of its own, so that its first asker may be cancelled and the others not."""
    loop, end, left = asyncio.get_running_loop(), _end(effect.patience), None
    while True:
        flight, leading = effect.flights.board(effect.key, loop=loop)
        if flight is None:
            return False, None, left
        if leading:
            flight.task = loop.create_task(_lead_async(effect, flight, left, run))
        landing = await _landed(effect, flight, None if leading else end)
        if leading or _counts(landing, flight, effect):
            return leading, _unpacked(landing, mine=leading), _left(end)
        left = _left(end)


async def _landed(effect: Share, flight: Flight, end: float | None) -> Landing:
    try:
        with _patient(effect.patience):
            if flight.pump is not None:
                return await asyncio.to_thread(_landing, flight, end)
            return await _waited(flight.landing, _left(end))  # type: ignore[no-any-return]
    finally:
        await _leave_async(effect, flight)


async def _waited(future: Any, patience: float | None) -> Any:
    """The result of a future that belongs to no loop."""
    waiter = asyncio.wrap_future(future)
    try:
        await asyncio.wait({waiter}, timeout=patience)
        if waiter.done():
            return waiter.result()
        raise NotLanded
    finally:
        waiter.cancel()


async def _leave_async(effect: Share, flight: Flight) -> None:
    """Stop waiting; the last to leave a flight calls it off, and sees that it ends."""
    if not effect.flights.leave(effect.key, flight) or flight.landing.done():
        return
    if flight.pump is not None:
        await asyncio.to_thread(flight.stop)
    if flight.task is None or flight.loop is None or flight.loop.is_closed():
        return
    flight.loop.call_soon_threadsafe(flight.task.cancel)
    if flight.loop is asyncio.get_running_loop():
        await asyncio.wait({flight.task})


async def _lead_async(effect: Share, flight: Flight, left: float | None, run: RunAsync[Any]) -> None:
    flight.terms, landing = effect.terms, Landing(abandoned=True)
    LEADING.set(effect.flights.leading(effect.key))  # this task's own context: nothing to undo
    try:
        landing = Landing(await run(effect.work(left)))
    except Exception as error:  # noqa: BLE001  raised again by everyone who waits
        landing = _failed(error)
    except BaseException as error:
        landing = _failed(error)
        raise
    finally:
        effect.flights.land(effect.key, flight, landing)


class Seat:
    """Where one sits who listens to a flight: gives what it emits to `next` and to `anext`.

    It ends when the flight has landed; `answer` is then what came of it, or None where that does not count for us.
    """

    def __init__(self, effect: Join, flight: Flight, *, leading: bool) -> None:
        self.leading = leading
        self.answer: Any = None
        self._effect, self._flight = effect, flight
        self._patience = None if leading else effect.patience  # between two things said, as an SDK's own timeout
        self._heard = 0

    def __next__(self) -> Emit:
        """What was said next, waited for in this thread."""
        while not self._flight.has(self._heard):
            self._wait()
        return self._next(StopIteration)

    async def __anext__(self) -> Emit:
        """What was said next, waited for in this event loop."""
        while True:
            grown = self._flight.grown  # before looking: another thread may say something meanwhile
            if self._flight.has(self._heard):
                return self._next(StopAsyncIteration)
            if self._flight.pump is not None:
                await asyncio.to_thread(self._wait)
            else:
                with _patient(self._patience, SILENT):
                    await _waited(grown, self._patience)

    def _wait(self) -> None:
        with _patient(self._patience, SILENT):
            self._flight.wait(self._heard, self._patience)

    def _next(self, over: type[Exception]) -> Emit:
        if self._heard < len(self._flight.said):
            self._heard += 1
            return self._said()
        landing = self._flight.landing.result()
        if self.leading or _counts(landing, self._flight, self._effect):
            self.answer = _unpacked(landing, mine=self.leading)
        raise over

    def _said(self) -> Emit:
        """What was said last; when its leader has taken the items, what is left of it is the tape for the others."""
        said: Emit = self._flight.said[self._heard - 1]
        if self.leading:
            self._flight.said[self._heard - 1] = Emit(pieces=said.pieces)
        return said

    def close(self) -> None:
        """Listen no longer."""
        _leave(self._effect, self._flight)

    async def aclose(self) -> None:
        """Listen no longer."""
        await _leave_async(self._effect, self._flight)


def join(effect: Join, steps: Steps) -> Seat | None:
    """A seat in the flight; the first one's work goes on as far as somebody listens."""
    flight, leading = effect.flights.board(effect.key, inside=_this_loop(), pump=partial(_pump, effect, steps))
    if flight is None:
        return None
    return Seat(effect, flight, leading=leading)


def _pump(effect: Join, steps: Steps, flight: Flight) -> Generator[None, None, None]:
    flight.terms, landing = effect.terms, Landing(abandoned=True)
    work = steps(effect.work(None))
    try:
        while (said := _said(effect, work)) is not None:
            landing = landing if said.answer is None else Landing(said.answer)
            flight.say(said)
            yield
    except Exception as error:  # noqa: BLE001  raised again by everyone who listens
        landing = _failed(error)
    finally:
        work.close()
        effect.flights.land(effect.key, flight, landing)


def _said(effect: Join, work: Generator[Emit, None, None]) -> Emit | None:
    """What the work says next, done by this thread for everybody."""
    mark = LEADING.set(effect.flights.leading(effect.key))
    try:
        return next(work, None)
    finally:
        LEADING.reset(mark)


async def join_async(effect: Join, steps: StepsAsync) -> Seat | None:
    """A seat in the flight, which is a task of its own."""
    loop = asyncio.get_running_loop()
    flight, leading = effect.flights.board(effect.key, loop=loop)
    if flight is None:
        return None
    if leading:
        flight.task = loop.create_task(_lead_async(effect, flight, None, _heard_by(flight, steps)))
    return Seat(effect, flight, leading=leading)


def _heard_by(flight: Flight, steps: StepsAsync) -> RunAsync[Any]:
    """A driver that lets all who listen hear what a flow emits, and gives the answer in it."""

    async def run(flow: Flow[Any]) -> Any:
        answer = None
        async with aclosing(steps(flow)) as saying:  # type: ignore[type-var]
            async for said in saying:
                answer = said.answer or answer
                flight.say(said)
        return answer

    return run
