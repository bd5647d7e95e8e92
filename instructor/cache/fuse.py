"""A fuse: it blows when a server stops answering, so that calls do not wait for it in vain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PATIENCE = 5
"""After how many failures in a row a server counts as down."""
_PAUSE = 5.0
"""Seconds for which it is let alone then."""

_SIGNS = ("Connection", "Timeout", "OSError", "Cluster")
"""What is in the names of errors, whatever library they are of, when no server answered or a cluster is down."""


class ServerDownError(ConnectionError):
    """The server did not answer a moment ago, and is not asked again before it had time to recover."""


class Fuse:
    """What is known of one server. It has no lock, which would have to survive forks: the worst is a question more."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._until: dict[str | None, float] = {}  # keys that timed out, and None for all when the server is down

    @contextmanager
    def watch(self, key: str) -> Iterator[None]:
        """Learn from what happens.

        Raises:
            ServerDownError: that would only be waiting in vain.
        """
        now = self._clock()
        if now < max(self._until.get(key, now), self._until.get(None, now)):
            raise ServerDownError("the server did not answer a moment ago")
        if None in self._until:
            self._until = {None: now + _PAUSE}  # the others wait for what this one finds
        try:
            yield
        except Exception as problem:
            self._learn(key, " ".join(kind.__name__ for kind in type(problem).__mro__))
            raise
        self._failures, self._until = 0, {}

    def _learn(self, key: str, kinds: str) -> None:
        """Count what is a sign that nobody is there; somebody who says no is there."""
        self._failures += any(sign in kinds for sign in _SIGNS)
        if "Timeout" in kinds:
            self._until[key] = self._clock() + _PAUSE
        if self._failures >= _PATIENCE:
            self._until[None] = self._clock() + _PAUSE
