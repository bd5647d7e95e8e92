"""TieredCache: a near cache before a far one, so that what is asked often is found close by."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ..effects import Flow, Load, Run, Save
from ..exceptions import CacheMiss
from .base import BaseCache
from .layer import Layer, time_left
from .limits import lifetime
from .shelf import shelf_of

_SEEN = 2**16
"""Keys of which it is known until when they need not be asked for in the last tier; of others that is asked again."""


class TieredCache(Layer):
    """`TieredCache([AutoCache(), DiskCache()])`: looks from the first to the last, fills upward, stores in all.

    The last tier is what counts, those above keep copies. What somebody else deletes or replaces there is noticed
    within `freshness` seconds (None: never), when the last tier is asked again; until then a copy is as good. Copies
    keep the time that their original has left; where a tier has no `remaining(key)` to tell it, `freshness` bounds it.

    A tier that fails is passed over, and its failure counted here and there; while the last one is out of reach, copies
    serve in its place. Only when no tier takes an answer does `set` raise.
    """

    def __init__(
        self,
        tiers: Sequence[BaseCache],
        *more: object,
        freshness: float | None = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if more or isinstance(tiers, BaseCache) or not tiers:
            raise ValueError("a TieredCache takes its tiers in one list: TieredCache([AutoCache(), DiskCache()])")
        super().__init__(*tiers)
        seconds = lifetime("freshness", freshness)
        self._freshness = math.inf if seconds is None else seconds
        self._clock = clock
        self._seen: OrderedDict[str, float] = OrderedDict()  # one step of it needs no lock

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_seen": OrderedDict()}  # another process has another clock

    def recheck(self, key: str) -> None:
        """Ask the last tier for `key` next time: what is above is old."""
        self._seen[key] = -math.inf

    def _find(self, key: str) -> Flow[Any]:
        """What the first tier has that has something; or the last, when it is time to ask that."""
        fresh = self._clock() < self._seen.get(key, math.inf if self._freshness == math.inf else -math.inf)
        last = len(self._stores) - 1
        for place in range(last + 1) if fresh else (last, *range(last)):
            try:
                text = yield Load(self._stores[place], key)
            except CacheMiss:  # no failure: nobody may be asked
                raise
            except Exception as problem:  # noqa: BLE001  a store is a stranger's code
                self._tell(place, "reading", problem)
                continue
            if text is not None or place == last:
                left = yield from self._fill(place, key, text)
                if not fresh or place == last:  # else the last was not asked: a copy is no older for being read
                    self._saw(key, left)
                return text
        return None

    def _fill(self, place: int, key: str, text: Any) -> Flow[float]:
        """Have the tiers above a place hold what it holds; gives the seconds that are left for it."""
        told = 0 if text is None else (yield from time_left(self._stores[place], key))
        left = self._freshness if told is None else told
        for above, store in enumerate(self._stores[:place]):
            try:
                if text is not None:
                    yield Save(store, key, text, None if left == math.inf else left)
                elif hasattr(store, "delete") and (yield Load(store, key)) is not None:
                    yield Run(partial(store.delete, key))
            except Exception as problem:  # noqa: BLE001, PERF203  a store is a stranger's code
                self._tell(above, "filling it", problem)
        return left

    def _keep(self, key: str, value: str, ttl: float | None, tags: tuple[str, ...]) -> Flow[None]:
        failed: dict[int, Exception] = {}
        last = len(self._stores) - 1
        for place in range(last, -1, -1):  # the last first: what is above must not be older
            try:
                yield Save(self._stores[place], key, value, ttl, tags)
            except Exception as problem:  # noqa: BLE001, PERF203  a store is a stranger's code
                failed[place] = problem
        older_above = bool(failed.keys() - {last})
        self._saw(key, 0 if older_above else math.inf if ttl is None else ttl)
        if len(failed) > last:
            raise failed[last]
        for place, failure in failed.items():
            self._tell(place, "storing an answer", failure)

    def _saw(self, key: str, left: float) -> None:
        """Note until when the last tier need not be asked for `key`; nor is a dead one, which may be slow to say so."""
        self._seen.pop(key, None)
        self._seen[key] = self._clock() + min(self._freshness, left)
        if len(self._seen) > _SEEN:
            self._seen.popitem(last=False)

    def _tell(self, place: int, doing: str, problem: Exception) -> None:
        shelf_of(self).stats.errors += 1
        shelf_of(self._stores[place]).trouble(doing, problem)
