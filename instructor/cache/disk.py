"""DiskCache: answers kept in one SQLite file, shared by threads, processes and runs."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import blake2b
from itertools import count
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

from typing_extensions import Self

from . import disk_table as table
from .base import BaseCache
from .clock import ForwardClock
from .disk_file import CacheFile, tells_damage
from .disk_thread import PerThread, Thread, threads_of
from .limits import lifetime, whole

T = TypeVar("T")

_TOUCHES = 8192
"""How many reads are remembered until the next write; past that the oldest of them are forgotten."""
_HITS = 64
"""After how many hits a thread looks whether its file is still there: looking takes a third of a hit's time."""
_SPARE = 8
"""Pages that a write may take beside those of its value: every tree may split, and an empty cache has five."""
_DIGEST = 64
"""Characters of a SHA-256 digest."""
_PRIME = 2**63 - 25
"""The largest prime in SQLite's integers: digests that differ in one place have different remainders."""
_PAUSE = 0.001
"""Seconds between two tries to get a lock."""


class _Turn(NamedTuple):
    """One transaction: its cursor, the time at which it began, and the place in the order of use that it may give."""

    cursor: sqlite3.Cursor
    now: float
    place: int


class DiskCache(BaseCache):
    """Answers in one SQLite file in `directory`, for every thread and process of this user.

    Nothing is touched before the first `get` or `set`. The files stay within `size_limit` bytes (down to some two
    megabytes): expired entries make room first, then those used longest ago. An operation waits at most `timeout`
    seconds for locks; then it raises, as it does for a full disk, and the next one tries anew. A damaged file is moved
    aside, with a `CacheWarning`.

    `ttl` is what entries get whose `set` names none. `set` always supersedes: a value that cannot be kept (larger than
    the limit, or out of time already) evicts nothing, but what stood under its key is gone. An entry never outlives
    its `ttl`, not even when the clock is set back. Reads count for the order of use from the next write on.
    """

    blocking: ClassVar[Literal["never", "writes", "always"]] = "writes"
    fractional_ttl: ClassVar[bool] = True

    def __init__(
        self,
        directory: str | os.PathLike[str] = ".instructor_cache",
        *,
        size_limit: int = 2**30,
        ttl: float | None = None,
        timeout: float = 0.25,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = CacheFile(directory)
        self._limits = _Limits(whole("size_limit", size_limit))
        self._ttl = lifetime(ttl)
        self._timeout = float(timeout)
        self._clock = ForwardClock(clock)
        self._touched: OrderedDict[int, None] = OrderedDict()
        self._local = PerThread(self._file)
        self._folded = True

    def get(self, key: str) -> str | None:
        """The text stored under `key`, or None. Writes nothing."""
        return self._run(self._find, *_address(key))

    def set(self, key: str, value: str, ttl: float | None = None) -> None:
        """Store `value` under `key`, for `ttl` seconds when given, replacing what was there."""
        if not isinstance(value, str):
            raise TypeError(f"a DiskCache keeps str, got {type(value).__name__}")
        seconds = self._ttl if ttl is None else lifetime(ttl)
        self._run(self._write, partial(self._put, *_address(key), _encoded(value), seconds))

    def delete(self, key: str) -> bool:
        """Forget what is under `key`; whether there was anything."""
        there: bool = self._run(self._write, partial(_drop, *_address(key)))
        return there

    def clear(self) -> None:
        """Forget everything, and give the space back."""
        self._run(self._empty)

    def __len__(self) -> int:
        return self._run(self._ask, table.COUNT)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._run(self._ask, table.PEEK, *_address(key)) == 1

    def __bool__(self) -> bool:
        """True, even when empty: `if cache:` asks whether there is a cache."""
        return True

    def volume(self) -> int:
        """Bytes on disk."""
        return self._file.volume()

    def close(self) -> None:
        """Note what was read since the last write, and let go of the file. A closed cache opens again when used."""
        if self._touched:
            with suppress(sqlite3.Error, OSError):
                self._run(self._write, _nothing)
        self._close_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"DiskCache({str(self._file.directory)!r})"

    def __reduce__(self) -> tuple[Callable[[], DiskCache], tuple[()]]:
        return partial(
            type(self),
            self._file.directory,
            size_limit=self._limits.total,
            ttl=self._ttl,
            timeout=self._timeout,
            clock=self._clock.wall,
        ), ()

    # One operation: tried until it is done, its time is up, or trying again is of no use.

    def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        deadline, mended = None, False
        thread = self._local.thread
        while True:
            try:
                with thread.lock:
                    return work(thread, *arguments)
            except (sqlite3.Error, OSError) as error:  # noqa: PERF203 - the loop is there for this
                deadline = deadline or time.monotonic() + self._timeout
                if time.monotonic() >= deadline or (mended and not _passes(error)):
                    raise
                mended = self._mend(thread, error) or mended

    def _mend(self, thread: Thread, error: Exception) -> bool:
        """Make another try worth it; whether, if that fails as well, there is nothing more to do."""
        if _passes(error):
            time.sleep(_PAUSE)
            return False
        damaged = thread.identity
        self._close_all()  # of what failed nothing is trusted, and a full disk or lost rights may be mended by now
        if tells_damage(error):
            with suppress(BlockingIOError):
                self._file.set_aside(damaged, error)
        return not tells_damage(error) and not _is_replaced(error)

    def _open(self, thread: Thread) -> sqlite3.Cursor:
        cursor = thread.open()
        self._clock.catch_up(table.newest(cursor) / 1e6)
        return cursor

    def _close_all(self) -> None:
        for thread in threads_of(self._file):
            thread.close()

    # Reading.

    def _find(self, thread: Thread, ident: int, key: bytes) -> str | None:
        row = (thread.cursor or self._open(thread)).execute(table.FIND, (ident,)).fetchone()
        if row is None or row[0] != key or (row[1] is not None and row[1] <= self._clock.now()):
            thread.confirm()
            return None
        thread.hits += 1
        if not thread.hits % _HITS:
            thread.confirm()
        self._touch(ident)
        return _text(row[2])

    def _touch(self, ident: int) -> None:
        # No lock: each step is one step to other threads too, and a lost touch is a small loss.
        touched = self._touched
        touched.pop(ident, None)
        touched[ident] = None
        if len(touched) > _TOUCHES:
            touched.popitem(last=False)

    def _ask(self, thread: Thread, question: str, *values: Any) -> int:
        cursor = thread.cursor or self._open(thread)
        thread.confirm()
        row = cursor.execute(question, (*values, self._clock.now())).fetchone()
        return int(row[0]) if row else 0

    # Writing.

    def _write(self, thread: Thread, change: Callable[[_Turn], T]) -> T:
        """Make `change` in a transaction that also notes what was read since the last one."""
        cursor = thread.cursor or self._open(thread)
        thread.confirm()
        if not thread.writable:
            raise OSError(errno.EROFS, "the cache can only be read", self._file.path)
        if not self._folded and not self._fold(cursor):
            raise sqlite3.OperationalError("the log is full, and locked by whoever reads it")
        touched = list(self._touched)
        try:
            cursor.execute("BEGIN IMMEDIATE")
            result = change(self._take_turn(cursor, touched))
            cursor.execute("COMMIT")
        except BaseException:
            if cursor.connection.in_transaction:
                cursor.execute("ROLLBACK")
            raise
        for ident in touched:
            self._touched.pop(ident, None)
        self._folded = self._fold(cursor)
        return result

    def _take_turn(self, cursor: sqlite3.Cursor, touched: list[int]) -> _Turn:
        """Move what was `touched` to the end of the order of use, and step behind it."""
        newest = table.newest(cursor)
        self._clock.catch_up(newest / 1e6)
        now = self._clock.now()
        place = max(newest, int(now * 1e6)) + 1
        cursor.executemany(table.TOUCH, zip(count(place), touched))
        return _Turn(cursor, now, place + len(touched))

    def _put(self, ident: int, key: bytes, value: bytes, seconds: float | None, turn: _Turn) -> None:
        turn.cursor.execute(table.DROP, (ident,))
        turn.cursor.execute(table.DROP_EXPIRED, (turn.now,))
        need = _SPARE + (len(key) + len(value)) // (table.PAGE - 64) + 1
        if need + _SPARE > self._limits.pages or (seconds is not None and seconds <= 0):
            return
        self._make_room(need, turn)
        expires = None if seconds is None else turn.now + seconds
        turn.cursor.execute(table.PUT, (ident, turn.place, expires, key, value))

    def _make_room(self, need: int, turn: _Turn) -> None:
        total = table.pragma(turn.cursor, "page_count")
        while total - table.pragma(turn.cursor, "freelist_count") + need > self._limits.pages and _forget(turn):
            pass
        table.shorten(turn.cursor, total - self._limits.pages)  # where the file was made under a higher limit

    def _fold(self, cursor: sqlite3.Cursor) -> bool:
        """Bring the log back into the file when it is long. False where a reader keeps it from that."""
        return self._file.log_size() <= self._limits.log or table.fold(cursor)

    def _empty(self, thread: Thread) -> None:
        self._write(thread, _clear)
        table.fold(thread.open())


class _Limits:
    """How a size limit is divided: most of it is for the file, two short logs and their index fit beside it."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.log = min(total // 16, 2**22)
        self.pages = (total - 2 * self.log - 2**16) // table.PAGE


def _address(key: str) -> tuple[int, bytes]:
    data = _encoded(key)
    if len(key) == _DIGEST:  # our own keys are digests already
        with suppress(ValueError):
            return int(key, 16) % _PRIME, data
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big") >> 1, data


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(value: Any) -> str | None:
    try:
        return str(value, "utf-8", "surrogatepass")
    except (TypeError, UnicodeDecodeError):
        return None  # damage that SQLite does not see


def _drop(ident: int, key: bytes, turn: _Turn) -> bool:
    there = turn.cursor.execute(table.PEEK, (ident, key, turn.now)).fetchone() is not None
    turn.cursor.execute(table.DROP, (ident,))
    return there


def _forget(turn: _Turn) -> bool:
    """Drop what is needed least; whether there was anything."""
    expired = turn.cursor.execute(table.DROP_EXPIRED, (turn.now,)).rowcount
    return expired > 0 or turn.cursor.execute(table.DROP_OLDEST).rowcount > 0


def _clear(turn: _Turn) -> None:
    turn.cursor.execute(table.CLEAR)
    table.shorten(turn.cursor, table.pragma(turn.cursor, "freelist_count"))


def _nothing(_turn: _Turn) -> None:
    """Change nothing: only what was read is noted."""


def _passes(error: Exception) -> bool:
    """Whether what stands in the way goes by itself: a lock, or a directory removed while it was being entered."""
    if isinstance(error, sqlite3.OperationalError):
        return "locked" in str(error)
    return isinstance(error, (BlockingIOError, FileNotFoundError))


def _is_replaced(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno == errno.ESTALE
