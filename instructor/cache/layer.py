"""What caches that stand on other caches have in common: they are read and written by flows, and emptied as one."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any, Literal, cast

from ..drive import run, run_async
from ..effects import Flow, Run
from .base import BaseCache
from .shelf import check_cache

_BLOCKING = ("never", "writes", "always")
WRITING = 5.0
"""Seconds for which a lease is held while what was asked is stored."""


class Layer(BaseCache):
    """A cache over others, the last of which is what counts. It blocks, and rounds a `ttl`, where one of them does."""

    def __init__(self, *stores: BaseCache) -> None:
        self._stores = tuple(map(check_cache, stores))
        self.blocking = max(map(_blocking, self._stores), key=_BLOCKING.index)  # type: ignore[misc]
        self.fractional_ttl = all(store.fractional_ttl for store in self._stores)  # type: ignore[misc]
        self._lender: Any = self._stores[-1]
        self.lends = bool(getattr(self._lender, "set_leased", None)) and getattr(self._lender, "lends", True)

    @abstractmethod
    def _find(self, key: str) -> Flow[Any]:
        """The text under `key`, or None."""

    @abstractmethod
    def _keep(self, key: str, value: str, ttl: float | None) -> Flow[None]:
        """Store it."""

    def get(self, key: str) -> Any | None:
        """The text stored under `key`, or None."""
        return run(self._find(key))

    def set(self, key: str, value: str, ttl: float | None = None) -> None:
        """Store `value` under `key`, for `ttl` seconds when given, replacing what was there."""
        run(self._keep(key, value, ttl))

    async def aget(self, key: str) -> Any | None:
        """As `get`, awaited: what blocks is done in a thread."""
        return await run_async(self._find(key))

    async def aset(self, key: str, value: str, ttl: float | None = None) -> None:
        """As `set`, awaited."""
        await run_async(self._keep(key, value, ttl))

    def lease(self, key: str, token: str, seconds: float) -> bool:
        """Whether the last store lends us `key` for `seconds`."""
        return bool(self._lender.lease(key, token, seconds))

    def renew(self, key: str, token: str, seconds: float) -> bool:
        """Hold `key` for `seconds` from now; False where it was lost."""
        return bool(self._lender.renew(key, token, seconds))

    def release(self, key: str, token: str) -> None:
        """Let others ask about `key`."""
        self._lender.release(key, token)

    def set_leased(self, key: str, value: str, ttl: float | None, token: str) -> bool:
        """As `set` and `release`; False, and nothing done, where the lease was lost."""
        if not self.renew(key, token, WRITING):
            return False
        self.set(key, value, ttl)
        self.release(key, token)
        return True

    def delete(self, key: str) -> bool:
        """Forget what is under `key`, everywhere; whether there was anything."""
        return any(self._each(lambda store: store.delete(key)))

    def clear(self) -> None:
        """Forget everything, everywhere."""
        self._each(lambda store: store.clear())

    def remaining(self, key: str) -> float | None:
        """Seconds that the entry has left (`math.inf`: it stays; 0: there is none), or None where nobody can tell."""
        tell = getattr(self._stores[-1], "remaining", None)
        return None if tell is None else tell(key)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(chain.from_iterable(cast("Any", self._stores))))

    def __len__(self) -> int:
        return len(cast("Any", self._stores[-1]))

    def __contains__(self, key: object) -> bool:
        return any(key in cast("Any", store) for store in self._stores)

    def _each(self, work: Callable[[Any], Any]) -> list[Any]:
        """What `work` gives for each store, all of which get their turn before one's error is raised."""
        done, problems = [], []
        for store in reversed(self._stores):  # else what goes above would be filled up again from below
            try:
                done.append(work(store))
            except Exception as problem:  # noqa: BLE001, PERF203  a store is a stranger's code
                problems.append(problem)
        if problems:
            raise problems[0]
        return done


def _blocking(store: BaseCache) -> Literal["never", "writes", "always"]:
    return "always" if inspect.iscoroutinefunction(store.get) else store.blocking


def time_left(store: Any, key: str) -> Flow[Any]:
    """What `store` knows of the time that an entry has left: seconds, or None where it cannot tell."""
    try:
        return None if not hasattr(store, "remaining") else (yield Run(partial(store.remaining, key)))
    except Exception:  # noqa: BLE001  a store is a stranger's code, and it gave the entry itself
        return None
