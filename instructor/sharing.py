"""Single flight, driven: one call for all who ask the same at the same time, heard by all while it goes on."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from concurrent.futures import TimeoutError as NotLanded
from contextlib import aclosing, closing, contextmanager
from functools import partial
from typing import Any

from .cache.flights import LEADING, Flight, Landing
from .effects import END, Emit, Flow, Share
from .exceptions import InstructorError

SILENT = "Nothing more came for {patience} s of a stream that somebody else asked for; raise timeout, or ask again."
LATE = "Waited {patience} s for an identical question that is already being asked; raise timeout, or ask again."

Steps = Callable[[Flow[Any]], Generator[Emit, None, None]]
StepsAsync = Callable[[Flow[Any]], AsyncGenerator[Emit, None]]


def share(effect: Share, steps: Steps) -> tuple[bool, Any, float | None]:
    """Lead the flight, or wait for it; when its leader went away, try again with what is left of our patience."""
    end, left = _end(effect.patience), None
    while True:
        seat = join(effect, steps, left, end)
        if seat is None:
            return False, None, left
        with closing(seat):
            while next(seat, END) is not END:
                pass
        if seat.answer is not None:
            return seat.leading, seat.answer, left if seat.leading else _left(end)
        left = _left(end)


async def share_async(effect: Share, steps: StepsAsync) -> tuple[bool, Any, float | None]:
    """As `share`; but the work is a task of its own, so that its first asker may be cancelled and the others not."""
    end, left = _end(effect.patience), None
    while True:
        seat = await join_async(effect, steps, left, end)
        if seat is None:
            return False, None, left
        async with aclosing(seat):
            while await anext(seat, END) is not END:
                pass
        if seat.answer is not None:
            return seat.leading, seat.answer, left if seat.leading else _left(end)
        left = _left(end)


def _this_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _leave(effect: Share, flight: Flight) -> None:
    """Stop waiting in this thread; the last to leave a flight calls it off."""
    if not effect.flights.leave(effect.key, flight) or flight.landing.done():
        return
    flight.stop()
    if flight.task is not None and flight.loop is not None and not flight.loop.is_closed():
        flight.loop.call_soon_threadsafe(flight.task.cancel)


def _failed(error: BaseException) -> Landing:
    """What an error means to those who wait: a timeout was the leader's own, and theirs may be longer."""
    late = any("Timeout" in cls.__name__ for problem in (error, error.__cause__) for cls in type(problem).__mro__)
    return Landing(error=error, abandoned=late or not isinstance(error, Exception))


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


class Seat:
    """Where one sits who listens to a flight: gives what it emits to `next` and to `anext`.

    It ends when the flight has landed; `answer` is then what came of it, or None where that does not count for us. Who
    does not lead waits until `end`; without one for some time between two things said, as an SDK's own timeout does.
    """

    def __init__(self, effect: Share, flight: Flight, *, leading: bool, end: float | None) -> None:
        self.leading = leading
        self.answer: Any = None
        self._effect, self._flight, self._end = effect, flight, end
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
            if self._flight.rests:
                await asyncio.to_thread(self._wait)
            else:
                with self._patiently() as patience:
                    await _waited(grown, patience)

    def _wait(self) -> None:
        with self._patiently() as patience:
            self._flight.wait(self._heard, patience)

    @contextmanager
    def _patiently(self) -> Iterator[float | None]:
        """Seconds to wait now; says what it means when nothing came."""
        patience = self._effect.patience
        try:
            yield None if self.leading else patience if self._end is None else _left(self._end)
        except NotLanded:
            raise TimeoutError((LATE if self._end else SILENT).format(patience=patience)) from None

    def _next(self, over: type[Exception]) -> Emit:
        if self._heard < len(self._flight.said):
            self._heard += 1
            return self._said()
        landing = self._flight.landing.result()
        if self.leading or self._counts(landing):
            if landing.error is not None:
                raise landing.error if self.leading else _twin(landing.error)
            self.answer = landing.result
        raise over

    def _counts(self, landing: Landing) -> bool:
        """Whether a landing answers one who waited: a result does, an error only on the same terms."""
        return not landing.abandoned and (landing.error is None or self._flight.terms == self._effect.terms)

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


def join(effect: Share, steps: Steps, left: float | None = None, end: float | None = None) -> Seat | None:
    """A seat in the flight; the first one's work, with what is `left` of its time, goes on while somebody listens."""
    flight, leading = effect.flights.board(effect.key, inside=_this_loop(), pump=partial(_pump, effect, steps, left))
    return None if flight is None else Seat(effect, flight, leading=leading, end=end)


def _pump(effect: Share, steps: Steps, left: float | None, flight: Flight) -> Generator[None, None, None]:
    flight.terms, landing = effect.terms, Landing(abandoned=True)
    work = steps(effect.work(left))
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


def _said(effect: Share, work: Generator[Emit, None, None]) -> Emit | None:
    """What the work says next, done by this thread for everybody."""
    mark = LEADING.set(effect.flights.leading(effect.key))
    try:
        return next(work, None)
    finally:
        LEADING.reset(mark)


async def join_async(
    effect: Share, steps: StepsAsync, left: float | None = None, end: float | None = None
) -> Seat | None:
    """A seat in the flight, which is a task of its own."""
    loop = asyncio.get_running_loop()
    flight, leading = effect.flights.board(effect.key, loop=loop)
    if flight is None:
        return None
    if leading:
        flight.task = loop.create_task(_lead(effect, flight, steps(effect.work(left))))
    return Seat(effect, flight, leading=leading, end=end)


async def _lead(effect: Share, flight: Flight, work: AsyncGenerator[Emit, None]) -> None:
    """Let all who listen hear what the work emits, and at last the answer in it."""
    flight.terms, landing = effect.terms, Landing(abandoned=True)
    LEADING.set(effect.flights.leading(effect.key))  # this task's own context: nothing to undo
    try:
        async with aclosing(work):
            async for said in work:
                landing = landing if said.answer is None else Landing(said.answer)
                flight.say(said)
    except Exception as error:  # noqa: BLE001  raised again by everyone who listens
        landing = _failed(error)
    except BaseException as error:
        landing = _failed(error)
        raise
    finally:
        effect.flights.land(effect.key, flight, landing)
