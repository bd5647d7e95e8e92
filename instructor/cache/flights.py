"""Single flight: who is asking what, so that one question at a time is one call.

A flight is the work on one key. The first to board leads it, everybody else waits for it to land. Threads and
tasks of any event loop may wait for the same flight, so it is a `concurrent.futures.Future` underneath.
"""

from __future__ import annotations

import os
import threading
import weakref
from asyncio import AbstractEventLoop, Task
from collections.abc import Callable, Generator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TimeoutError_
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeAlias

LEADING: ContextVar[frozenset[tuple[int, str]]] = ContextVar("instructor_leading", default=frozenset())
"""The flights that the current context leads: asking for one of them again must not wait for itself."""


class Landing(NamedTuple):
    """How a flight ended: with a result, with an error, or with neither, when whoever led it went away."""

    result: Any = None
    error: BaseException | None = None
    abandoned: bool = False


Pump: TypeAlias = "Callable[[Flight], Generator[None, None, None]]"


class Flight:
    """The work on one key while it lasts, and what it has `said` so far to all who listen.

    `pump` is work that goes on only while somebody waits for what it says next, who may be another than who began it.
    Without one, the work runs by itself, in a thread or in `task`.
    """

    def __init__(self, loop: AbstractEventLoop | None, pump: Pump | None = None) -> None:
        self.loop = loop
        self.task: Task[None] | None = None
        self.pump = pump and pump(self)
        self.waiting = 0
        self.terms: Any = None
        self.said: list[Any] = []
        self.grown = _future()
        self.landing: Future[Landing] = _future()
        self._pumping = False
        self._turn = threading.Condition()

    def say(self, something: Any) -> None:
        """Let all who listen hear something."""
        self.said.append(something)
        grown, self.grown = self.grown, _future()
        grown.set_result(None)

    def land(self, landing: Landing) -> None:
        """End, once."""
        if not self.landing.done():
            self.landing.set_result(landing)
            self.grown.set_result(None)

    @property
    def is_lost(self) -> bool:
        """Whether its loop was closed, so that nobody will ever land it."""
        return self.loop is not None and self.loop.is_closed()

    def has(self, number: int) -> bool:
        """Whether that many things and one more were said, or all is over."""
        return len(self.said) > number or self.landing.done()

    @property
    def rests(self) -> bool:
        """Whether there is a pump that nobody works at."""
        return self.pump is not None and not self._pumping

    def wait(self, number: int, patience: float | None) -> None:
        """Return when there is more than that; have the pump go on, unless somebody else just does.

        Raises:
            concurrent.futures.TimeoutError: nothing more was said for `patience` seconds.
        """
        if self.pump is None:
            grown = self.grown  # before looking
            if not self.has(number):
                grown.result(patience)
        elif self._is_our_turn(number, patience):
            try:
                next(self.pump, None)
            finally:
                with self._turn:
                    self._pumping = False
                    self._turn.notify_all()

    def _is_our_turn(self, number: int, patience: float | None) -> bool:
        with self._turn:
            if not self._turn.wait_for(lambda: not self._pumping or self.has(number), patience):
                raise TimeoutError_
            if self.has(number):
                return False
            self._pumping = True
            return True

    def stop(self) -> None:
        """End the pump, when nobody wants to hear more; one that never began does not land by itself."""
        with self._turn:
            self._turn.wait_for(lambda: not self._pumping)
            if self.pump is not None:
                self.pump.close()
                self.land(Landing(abandoned=True))


def _future() -> Future[Any]:
    """A future that no waiter can cancel for the others."""
    made: Future[Any] = Future()
    made.set_running_or_notify_cancel()
    return made


class Flights:
    """The flights of one cache."""

    def __init__(self) -> None:
        self._forget()
        _everywhere.add(self)

    def _forget(self) -> None:
        self._lock = threading.RLock()  # the garbage collector may have this very thread leave a flight, anywhere
        self._open: dict[str, Flight] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, key: str) -> bool:
        flight = self._open.get(key)
        return flight is not None and not flight.is_lost

    def board(
        self,
        key: str,
        *,
        loop: AbstractEventLoop | None = None,
        inside: AbstractEventLoop | None = None,
        pump: Pump | None = None,
    ) -> tuple[Flight | None, bool]:
        """The flight for `key` and whether we lead it; None when waiting for it could never end.

        `loop` is the one that would do the work, or `pump` makes what would; `inside` is the one that waiting holds up.
        """
        if (id(self), key) in LEADING.get():
            return None, False
        with self._lock:
            flight = self._open.get(key)
            if flight is not None and flight.is_lost:
                flight = None
            if flight is not None and _waits_for_ever(flight, inside):
                return None, False
            leading = flight is None
            if flight is None:
                flight = self._open[key] = Flight(loop, pump)
            flight.waiting += 1
        return flight, leading

    def leave(self, key: str, flight: Flight) -> bool:
        """Stop waiting; true when nobody waits any more, and the flight is off the board."""
        with self._lock:
            flight.waiting -= 1
            deserted = flight.waiting == 0
            if deserted and self._open.get(key) is flight:
                del self._open[key]
        return deserted

    def land(self, key: str, flight: Flight, landing: Landing) -> None:
        """End the flight for everybody who waits for it."""
        with self._lock:
            if self._open.get(key) is flight:
                del self._open[key]
        flight.land(landing)

    def leading(self, key: str) -> frozenset[tuple[int, str]]:
        """What the context that leads `key` has to say of itself."""
        return LEADING.get() | {(id(self), key)}


def is_nested() -> bool:
    """Whether a flight is led here by who leads another already, and might wait in a ring."""
    return len(LEADING.get()) > 1


def _waits_for_ever(flight: Flight, inside: AbstractEventLoop | None) -> bool:
    """Whether its loop stands still, or would if we waited; or we lead, too, and might wait in a ring."""
    stands = flight.loop is not None and (flight.loop is inside or not flight.loop.is_running())
    return stands or bool(LEADING.get())


_everywhere: weakref.WeakSet[Flights] = weakref.WeakSet()


def _after_fork() -> None:
    """A child has none of the threads that lead its parent's flights, and must not wait for them."""
    for flights in list(_everywhere):
        flights._forget()  # noqa: SLF001  our own class, in our own module
    LEADING.set(frozenset())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
