"""The pipeline's view of one store: what it gave so far, what is being asked, what to complain of."""

from __future__ import annotations

import logging
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from .base import BaseCache, CacheWarning
from .flights import Flights
from .leases import SECONDS, Lease

logger = logging.getLogger("instructor.cache")
QUIET = 60.0
"""Seconds between two warnings about the same store."""


class Stats(msgspec.Struct):
    """What a cache did in this process.

    `bypassed` counts the calls that had no key, by reason; `tampered` the entries that a `SealedCache` refused.
    """

    hits: int = 0
    misses: int = 0
    stores: int = 0
    errors: int = 0
    bypassed: Counter[str] = msgspec.field(default_factory=Counter)
    tampered: int = 0

    @property
    def hit_rate(self) -> float:
        """Hits, as a part of all that was looked up: from 0 to 1, and 0 before the first."""
        return self.hits / (self.hits + self.misses or 1)


class Shelf:
    """A store, with what this process knows of it."""

    def __init__(self, store: BaseCache, clock: Callable[[], float] = time.monotonic) -> None:
        self.store = store
        self.imposes = store.imposes
        self.stats = Stats()
        self.flights = Flights()
        self.lease_seconds = SECONDS
        self._clock = clock
        self._quiet_until = float("-inf")

    def lease(self, key: str) -> Lease | None:
        """A lease to take before asking what others may ask elsewhere; None where the store does not lend."""
        return Lease(self.store, key, self.lease_seconds) if self._can("set_leased", "lends") else None

    @property
    def keeps_tags(self) -> bool:
        """Whether what is stored with tags can be deleted by them."""
        return self._can("delete_tagged", "keeps_tags")

    def _can(self, verb: str, flag: str) -> bool:
        """Whether the store can do more; not a subclass that changes `set` alone, say to encrypt: it would be left out.

        A layer says by a flag whether what is below it can.
        """
        setter = next(cls for cls in type(self.store).__mro__ if "set" in vars(cls))
        return bool(vars(setter).get(verb)) and getattr(self.store, flag, True)

    def trouble(self, doing: str, problem: object) -> None:
        """Count what went wrong, and warn of it unless a warning was given a moment ago."""
        self.stats.errors += 1
        self._warn(f"The cache {self.store!r} failed while {doing}: {problem!r}. The call goes on without it.")

    def bypass(self, reason: str, problem: object) -> None:
        """Count a call that could not be cached, and say why once."""
        self.stats.bypassed[reason] += 1
        if self.stats.bypassed[reason] == 1:
            self._warn(f"Not cached: {problem}", always=True)

    def _warn(self, text: str, *, always: bool = False) -> None:
        now = self._clock()
        if not always and now < self._quiet_until:
            return
        self._quiet_until = now + QUIET
        logger.warning("%s", text)
        with suppress(CacheWarning):  # even where warnings are errors: what was paid for is not lost to a warning
            warnings.warn(text, CacheWarning, stacklevel=2)


def shelf_of(store: Any) -> Shelf:
    """The shelf of a store: one for all clients that use it, kept on the store itself.

    Raises:
        TypeError: that is no cache.
    """
    try:
        return store.__dict__["_shelf"]  # type: ignore[no-any-return]
    except (AttributeError, KeyError):
        return check_cache(store).__dict__.setdefault("_shelf", Shelf(store))  # type: ignore[no-any-return]


def check_cache(cache: Any) -> BaseCache:
    """The cache, if it is one."""
    if isinstance(cache, BaseCache):
        return cache
    raise TypeError(
        f"cache must be an instance of instructor.cache.BaseCache, or None to go without; got {cache!r}. "
        "Subclass BaseCache and write get(key) and set(key, value, ttl)."
    )


def stats(store: BaseCache) -> Stats:
    """What `store` did in this process so far."""
    return shelf_of(store).stats
