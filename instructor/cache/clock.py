"""A wall clock that does not go back: what expired stays expired, whatever is done to the machine's time."""

from __future__ import annotations

from collections.abc import Callable


class ForwardClock:
    """Seconds since 1970 by `wall`; where that is set back, time goes on from the latest that was seen."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self.wall = wall
        self._ahead = 0.0
        self._latest = float("-inf")

    def now(self) -> float:
        """The time, never before any that was seen."""
        wall = self.wall()
        seen = wall + self._ahead
        if seen > self._latest:
            self._latest = seen
        elif seen < self._latest - 1:  # less is two threads that looked at the same time
            self._ahead = self._latest - wall
        return self._latest

    def catch_up(self, seen: float) -> None:
        """Take note of a time that somebody else saw."""
        self._latest = max(self._latest, seen)
