"""AutoCache: answers kept in this process, the least recently used forgotten first."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from typing import Any, ClassVar, Literal, NamedTuple

from .base import BaseCache
from .limits import lifetime, whole

# One lock for all caches is enough for what takes less than a microsecond, and leaves caches that can be copied. A fork
# waits for it: in the child nobody would be left to release it, or to finish counting.
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class _Entry(NamedTuple):
    value: Any
    size: int
    expires: float | None
    tags: Collection[str] = ()


class AutoCache(BaseCache):
    """The `maxsize` answers used last, shared by the threads of one process and gone with it.

    `ttl` is ignored unless `honor_ttl` is true. `maxbytes` also bounds what the texts add up to, in UTF-8.
    `set` always supersedes: a value that cannot be kept (larger than `maxbytes`, or out of time already) evicts
    nothing, but what stood under its key is gone.
    """

    blocking: ClassVar[Literal["never", "writes", "always"]] = "never"
    fractional_ttl: ClassVar[bool] = True

    def __init__(
        self,
        maxsize: int = 128,
        *,
        honor_ttl: bool = False,
        maxbytes: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._maxsize = whole("maxsize", maxsize)
        self._maxbytes = math.inf if maxbytes is None else whole("maxbytes", maxbytes)
        self._honor_ttl = honor_ttl
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0

    def __repr__(self) -> str:
        return f"AutoCache(maxsize={self._maxsize})"

    def get(self, key: str) -> Any | None:
        """The value stored under `key`, which is now the one used last, or None."""
        with _lock:
            try:
                value, _, expires, _ = self._entries[key]
            except KeyError:
                return None
            if expires is not None and expires <= self._clock():
                self._drop(key)
                return None
            self._entries.move_to_end(key)
            return value

    def set(self, key: str, value: Any, ttl: float | None = None, tags: Collection[str] = ()) -> None:
        """Store `value` under `key`, forgetting what was used longest ago where room is needed."""
        seconds = lifetime("ttl", ttl) if self._honor_ttl else None
        size = 0 if self._maxbytes == math.inf else _utf8_length(value)
        with _lock:
            self._drop(key)
            if size <= self._maxbytes and (seconds is None or seconds > 0):
                self._entries[key] = _Entry(value, size, None if seconds is None else self._clock() + seconds, tags)
                self._bytes += size
            while len(self._entries) > self._maxsize or self._bytes > self._maxbytes:
                self._drop(next(iter(self._entries)))

    def delete(self, key: str) -> bool:
        """Forget what is under `key`; whether there was anything."""
        with _lock:
            return self._drop(key)

    def delete_tagged(self, tag: str) -> list[str]:
        """Forget what was stored with `tag`; the keys that went."""
        with _lock:  # going through all takes some 50 ns each: less than a book of tags would cost every `set`
            return [key for key, entry in [*self._entries.items()] if tag in entry.tags and self._drop(key)]

    def clear(self) -> None:
        """Forget everything."""
        with _lock:
            self._entries.clear()
            self._bytes = 0

    def __iter__(self) -> Iterator[str]:
        with _lock:
            return iter([key for key, entry in self._entries.items() if self._alive(entry)])

    def __len__(self) -> int:
        with _lock:
            return sum(map(self._alive, self._entries.values()))

    def __contains__(self, key: object) -> bool:
        with _lock:
            entry = self._entries.get(key)  # type: ignore[call-overload]
            return entry is not None and self._alive(entry)

    def __getstate__(self) -> dict[str, Any]:
        with _lock:
            return {**super().__getstate__(), "_entries": self._entries.copy()}

    def _alive(self, entry: _Entry) -> bool:
        return entry.expires is None or entry.expires > self._clock()

    def _drop(self, key: str) -> bool:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.size
        return entry is not None


def _utf8_length(value: object) -> int:
    if not isinstance(value, str):
        raise TypeError(f"a cache with maxbytes keeps str, got {type(value).__name__}")
    return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
