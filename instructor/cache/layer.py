"""What caches that stand on other caches have in common: they are read and written by flows, and emptied as one."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import chain
from typing import Any

from ..drive import run, run_async
from ..effects import Flow, Run
from .base import BaseCache
from .limits import lifetime
from .shelf import check_cache, shelf_of

WRITING = 5.0
"""Seconds for which a lease is held while what was asked is stored."""


class Layer(BaseCache):
    """A cache over others, the last of which is what counts. It blocks, and rounds a `ttl`, where one of them does."""

    def __init__(self, *stores: BaseCache) -> None:
        self._stores = tuple(map(check_cache, stores))
        waits = ["always" if inspect.iscoroutinefunction(store.get) else store.blocking for store in self._stores]
        self.blocking = max(waits, key=("never", "writes", "always").index)  # type: ignore[misc]
        self.fractional_ttl = all(store.fractional_ttl for store in self._stores)  # type: ignore[misc]
        self._lender: Any = self._stores[-1]
        self.lends = bool(getattr(self._lender, "set_leased", None)) and getattr(self._lender, "lends", True)
        self.keeps_tags = all(shelf_of(store).keeps_tags for store in self._stores)
        self.imposes = {**dict(chain.from_iterable(store.imposes.items() for store in self._stores)), **self.imposes}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._stores))})"

    @abstractmethod
    def _find(self, key: str) -> Flow[Any]:
        """The text under `key`, or None."""

    @abstractmethod
    def _keep(self, key: str, value: str, ttl: float | None, tags: tuple[str, ...]) -> Flow[None]:
        """Store it."""

    def get(self, key: str) -> Any | None:
        """The text stored under `key`, or None."""
        return run(self._find(key))

    def set(self, key: str, value: str, ttl: float | None = None, tags: Iterable[str] = ()) -> None:
        """Store `value` under `key`, for `ttl` seconds when given, replacing what was there."""
        run(self._keep(key, value, lifetime("ttl", ttl), tuple(tags)))

    async def aget(self, key: str) -> Any | None:
        """As `get`, awaited: what blocks is done in a thread."""
        return await run_async(self._find(key))

    async def aset(self, key: str, value: str, ttl: float | None = None, tags: Iterable[str] = ()) -> None:
        """As `set`, awaited."""
        await run_async(self._keep(key, value, lifetime("ttl", ttl), tuple(tags)))

    def lease(self, key: str, token: str, seconds: float) -> bool:
        """Whether the last store lends us `key` for `seconds`."""
        return bool(self._lender.lease(key, token, seconds))

    def renew(self, key: str, token: str, seconds: float) -> bool:
        """Hold `key` for `seconds` from now; False where it was lost."""
        return bool(self._lender.renew(key, token, seconds))

    def release(self, key: str, token: str) -> None:
        """Let others ask about `key`."""
        self._lender.release(key, token)

    def set_leased(self, key: str, value: str, ttl: float | None, token: str, tags: Iterable[str] = ()) -> bool:
        """As `set` and `release`; False, and nothing done, where the lease was lost."""
        if not self.renew(key, token, WRITING):
            return False
        self.set(key, value, ttl, tags)
        self.release(key, token)
        return True

    def delete(self, key: str) -> bool:
        """Forget what is under `key`, everywhere; whether there was anything."""
        return any(self._each(lambda store: store.delete(key)))

    def delete_tagged(self, tag: str) -> list[str]:
        """Forget what was stored with `tag`, and copies of it, which know no tags; the keys that went."""
        gone: dict[str, bool] = {}
        self._each(lambda store: gone.update(dict.fromkeys(self._drop(store, tag, [*gone]), True)))
        return [*gone]

    def _drop(self, store: Any, tag: str, below: list[str]) -> list[str]:
        tagged = [key for mark in self._marks(tag) for key in store.delete_tagged(mark)]
        return [*tagged, *filter(store.delete, below)]

    def _marks(self, tag: str) -> Iterable[str]:
        """What stands for a tag in the stores."""
        return (tag,)

    def clear(self) -> None:
        """Forget everything, everywhere."""
        self._each(lambda store: store.clear())

    def remaining(self, key: str) -> float | None:
        """Seconds that the entry has left (`math.inf`: it stays; 0: there is none), or None where nobody can tell."""
        return run(time_left(self._stores[-1], key))  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(chain.from_iterable(self._stores)))  # type: ignore[arg-type]

    def _each(self, work: Callable[[Any], Any]) -> list[Any]:
        """What `work` gives for each store, all of which get their turn before one's error is raised."""
        done: list[Any] = []
        with ExitStack() as turns:  # the last begins: else what goes above would be filled up again from below
            for store in self._stores:
                turns.callback(lambda store: done.append(work(store)), store)
        return done


def time_left(store: Any, key: str) -> Flow[Any]:
    """What `store` knows of the time that an entry has left: seconds, or None where it cannot tell."""
    try:
        return (yield Run(partial(store.remaining, key)))
    except Exception:  # noqa: BLE001  it has no such method, or that fails; what counts is that it gave the entry
        return None
