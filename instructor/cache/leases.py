"""The leases that this process holds: who asks a question for all processes, for as long as it lives.

A store lends when it has four methods more: `lease(key, token, seconds)` says whether the question is now ours,
`renew(key, token, seconds)` whether it still is, `release(key, token)` gives it back, and `set_leased(key, text, ttl,
token)` stores an answer and gives the lease back, neither once it is another's. Where there are asynchronous twins
(`alease` …), event loops use those; the thread here uses `renew` and `release`.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

SECONDS = 5.0
"""How long a lease outlives whoever took it."""
_BEATS = 3
"""How often it is renewed in that time: it survives a store that fails once or twice."""


class Lease:
    """The right to ask a question for everybody; lost by who does not renew it in time."""

    def __init__(self, store: Any, key: str, seconds: float) -> None:
        self.store, self.key, self.seconds = store, key, seconds
        self.token = secrets.token_hex(16)
        self.taken = False
        self.due = 0.0


class Heart:
    """Renews the leases of this process, in a thread that begins with the first of them.

    Leases are dropped by whoever is cancelled or collected, in whatever state: so a queue, which knows no deadlock.
    """

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}
        self._bell: SimpleQueue[Lease | None] = SimpleQueue()
        self._beating = False

    def keep(self, lease: Lease) -> None:
        """Renew a lease that was just taken, until it is given back."""
        lease.taken, lease.due = True, time.monotonic() + lease.seconds / _BEATS
        self._leases[lease.token] = lease
        self._bell.put(None)
        if not self._beating:  # without a lock: two threads would do no harm
            self._beating = True
            threading.Thread(target=self._beat, name="instructor-leases", daemon=True).start()

    def let_go(self, lease: Lease) -> None:
        """Renew a lease no longer: it was given back."""
        lease.taken = False
        self._leases.pop(lease.token, None)

    def drop(self, lease: Lease) -> None:
        """Have the thread give back a lease, unless that was done: for those who may not wait."""
        if self._leases.pop(lease.token, None):
            self._bell.put(lease)

    def _beat(self) -> None:
        while True:
            with suppress(Exception):  # nobody rang; or the store fails, where the lease will expire
                if dropped := self._bell.get(timeout=self._pause()):
                    dropped.store.release(dropped.key, dropped.token)
            for lease in list(self._leases.values()):
                if lease.due <= time.monotonic():
                    self._renew(lease)

    def _pause(self) -> float | None:
        """Seconds until a lease is due; None where none is held."""
        due = [lease.due for lease in list(self._leases.values())]
        return max(min(due) - time.monotonic(), 0) if due else None

    def _renew(self, lease: Lease) -> None:
        lease.due = time.monotonic() + lease.seconds / _BEATS
        with suppress(Exception):  # a store that fails now may have recovered at the next beat
            if not lease.store.renew(lease.key, lease.token, lease.seconds):
                self._leases.pop(lease.token, None)


HEART = Heart()

if hasattr(os, "register_at_fork"):  # a forked child holds nothing, and has no thread
    os.register_at_fork(after_in_child=HEART.__init__)  # type: ignore[misc]
