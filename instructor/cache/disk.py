"""DiskCache: answers kept in one SQLite file, shared by threads, processes and runs."""

from __future__ import annotations

import math
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

from . import disk_table as table
from .base import BaseCache
from .disk_file import CacheFile
from .disk_thread import PerThread, Thread, close_all
from .limits import lifetime, whole

T = TypeVar("T")
Work = Callable[[Thread, sqlite3.Cursor, tuple[Any, ...]], T]

_TOUCHES = 8192
"""How many reads are remembered until the next write; past that the oldest of them are forgotten."""
_READS = 64
"""After how many reads a thread looks whether its file is still there: looking takes a third of a hit's time."""
_SPARE = 8
"""Pages that a write may take beside those of its value: every tree may split, and an empty cache has five."""


class Row(NamedTuple):
    """What is known of an entry: the bytes of its text, when it was used last, and the seconds it has left."""

    key: str
    size: int
    used: float
    left: float


class DiskCache(BaseCache, AbstractContextManager["DiskCache"]):
    """Answers in one SQLite file in `directory`, for every thread and process of this user.

    Nothing is touched before the first `get` or `set`. The files stay within `size_limit` bytes (down to some two
    megabytes): expired entries make room first, then those used longest ago. An operation waits at most `timeout`
    seconds for locks; then it raises, as it does for a full disk, and the next one tries anew. After one that waited in
    vain others wait half as long, until one gets its lock. A damaged file is moved aside, with a `CacheWarning`.

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
        # Most of the limit is for the file; two short logs and their index fit beside it.
        self._longest_log = min(whole("size_limit", size_limit) // 16, 2**22)
        self._pages = (size_limit - 2 * self._longest_log - 2**16) // table.PAGE
        self._ttl = lifetime("ttl", ttl)
        self._timeout = float(timeout)
        self._clock = clock
        self._latest, self._ahead = 0.0, 0.0
        self._in_vain = False  # whether a lock was waited for that was not to be had, and none was since
        self._touched: deque[int] = deque(maxlen=_TOUCHES)
        self._local = PerThread(self._file)

    def get(self, key: str) -> str | None:
        """The text stored under `key`, or None. Writes nothing."""
        return self._run(self._find, table.address(key))

    def set(self, key: str, value: str, ttl: float | None = None, tags: Iterable[str] = ()) -> None:
        """Store `value` under `key`, for `ttl` seconds when given, replacing what was there."""
        if not isinstance(value, str):
            raise TypeError(f"a DiskCache keeps str, got {type(value).__name__}")
        seconds = self._ttl if ttl is None else lifetime("ttl", ttl)
        self._run(self._write, (self._put, *table.address(key), table.encoded(value), seconds, tags))

    def delete(self, key: str) -> bool:
        """Forget what is under `key`; whether there was anything."""
        return bool(self._run(self._write, (_drop, *table.address(key))))

    def delete_tagged(self, tag: str) -> list[str]:
        """Forget what was stored with `tag`, and overwrite its place in the file; the keys that went."""
        keys: list[str] = []
        while some := self._run(self._wipe, (table.drop_tagged, table.address(tag)[0])):  # as `prune` does
            keys += some
        return keys

    def clear(self) -> None:
        """Forget everything, and give the space back."""
        self._run(self._write, (_clear,))
        self._run(lambda _thread, cursor, _: table.fold(cursor), ())

    def remaining(self, key: str) -> float:
        """Seconds that the entry under `key` has left: `math.inf` when it stays, 0 when there is none."""
        return max(0.0, float(self._ask(table.LEFT, *table.address(key))[0][0]))

    def entries(self) -> Iterator[Row]:
        """What is kept, in no order that means anything. What changes meanwhile may be there or not."""
        ident = -1
        while rows := self._ask(table.ROWS, ident):
            ident = rows[-1][0]
            yield from (Row(bytes(key).decode("utf-8", "surrogatepass"), *rest) for _, key, *rest in rows)

    def prune(self) -> int:
        """Forget what has expired, then what was used longest ago as long as there is too much; how many went."""
        before = self._ask(table.COUNT_ALL)[0][0]
        while self._run(self._write, (_drop_expired,)):  # not all at once: the log would grow with it
            pass
        self._run(self._write, (self._fit,))
        self._run(lambda _thread, cursor, _: table.fold(cursor), ())
        return int(before - self._ask(table.COUNT_ALL)[0][0])

    def verify(self) -> list[str]:
        """What SQLite finds wrong with the file, looking at all of it."""
        return [problem for (problem,) in self._ask(table.PROBLEMS)]

    def __iter__(self) -> Iterator[str]:
        return (row.key for row in self.entries())

    def __len__(self) -> int:
        return int(self._ask(table.COUNT)[0][0])

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._ask(table.HAS, *table.address(key))[0][0] > 0

    def lease(self, key: str, token: str, seconds: float) -> bool:
        """Whether it is now for the holder of `token` to ask about `key`: for `seconds`, and until another wants to.

        This, `renew` and `release` wait half as long for locks as the rest.
        """
        held = self._run(self._is_held, (table.address(key)[0], token, seconds))
        return not held and self._leased(table.TAKE, key, token, seconds)

    def renew(self, key: str, token: str, seconds: float) -> bool:
        """Hold `key` for `seconds` from now; False where it was lost."""
        return self._leased(table.RENEW, key, token, seconds)

    def release(self, key: str, token: str) -> None:
        """Let others ask about `key`."""
        self._leased(table.RELEASE, key, token)

    def set_leased(self, key: str, value: str, ttl: float | None, token: str, tags: Iterable[str] = ()) -> bool:
        """As `set` and `release` in one; False, and nothing done, where the lease was lost."""
        seconds = self._ttl if ttl is None else lifetime("ttl", ttl)
        given = (*table.address(key), table.encoded(value), seconds, tags)
        return bool(self._run(self._write, (self._put_leased, token, *given)))

    def close(self) -> None:
        """Note what was read since the last write, and let go of the file. A closed cache opens again when used."""
        if self._touched:
            with suppress(sqlite3.Error, OSError):
                self._run(self._write, (lambda *_: None,))
        close_all(self._file)

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"DiskCache({str(self._file.directory)!r})"

    # One operation: tried until it is done, its time is up, or trying again is of no use.

    def _run(self, work: Work[T], given: tuple[Any, ...], wait: float | None = None) -> T:
        thread, deadline = self._local.thread, math.inf
        patience = (wait or self._timeout) / (1 + self._in_vain)
        while True:
            try:
                with thread.lock:
                    return work(thread, thread.cursor or self._open(thread), given)
            except (sqlite3.Error, OSError) as error:  # noqa: PERF203 - the loop is there for this
                now = time.monotonic()
                if now >= deadline:
                    self._in_vain = _is_lock(error)
                    raise
                deadline = min(deadline, now + patience if _passes(error) else now)
                self._mend(thread, error)

    def _open(self, thread: Thread) -> sqlite3.Cursor:
        cursor, newest = thread.open()
        self._latest, self._in_vain = max(self._latest, newest / 1e6), False
        return cursor

    def _mend(self, thread: Thread, error: Exception) -> None:
        """Make another try worth it."""
        if not _is_lock(error):
            close_all(self._file)  # nothing is trusted of what failed; a full disk or lost rights may be mended by now
        if table.tells_damage(error):
            with suppress(BlockingIOError, FileNotFoundError):
                self._file.set_aside(thread.identity, error)
        time.sleep(0.001)

    def _now(self) -> float:
        """Seconds since 1970 that do not go back: where the clock does, time goes on from the latest that was seen."""
        wall = self._clock()
        if wall + self._ahead < self._latest - 1:  # less is two threads that looked at the same time
            self._ahead = self._latest - wall
        self._latest = max(self._latest, wall + self._ahead)
        return self._latest

    # Reading.

    def _find(self, thread: Thread, cursor: sqlite3.Cursor, address: tuple[int, bytes]) -> str | None:
        ident, key = address
        row = cursor.execute(table.FIND, (ident,)).fetchone()
        thread.reads += 1
        if row is None or not thread.reads % _READS:
            thread.confirm()
        found, expires, value = row or (None, None, b"")
        if found != key or (expires is not None and expires <= self._now()):
            return None
        self._touched.append(ident)
        try:
            return value.decode("utf-8", "surrogatepass")
        except (AttributeError, UnicodeDecodeError):
            return None  # damage that SQLite does not see

    def _ask(self, question: str, *values: Any) -> list[Any]:
        return self._run(self._answer, (question, *values))

    def _answer(self, thread: Thread, cursor: sqlite3.Cursor, question: tuple[Any, ...]) -> list[Any]:
        thread.confirm()
        text, *values = question
        return cursor.execute(text, (*values, self._now())).fetchall()

    def _is_held(self, _thread: Thread, cursor: sqlite3.Cursor, lease: tuple[int, str, float]) -> bool:
        """Whether a lease is another's, as far as can be seen without a transaction: many may look again and again."""
        ident, token, seconds = lease
        with suppress(sqlite3.OperationalError):  # no lease was ever taken here; what else is wrong shows when writing
            held = cursor.execute(table.HELD, (ident, token, now := self._now(), now + 2 * seconds))
            return held.fetchone() is not None
        return False

    # Writing.

    def _write(self, thread: Thread, cursor: sqlite3.Cursor, change: tuple[Any, ...]) -> Any:
        """Make `change`, a function and its arguments, in a transaction that also notes what was read before."""
        thread.confirm()
        make, *arguments = change
        if not self._fold(cursor):
            raise sqlite3.OperationalError("the log is full, and locked by whoever reads it")
        with cursor.connection:
            cursor.execute("BEGIN IMMEDIATE")
            now, self._in_vain = self._now(), False
            self._note_reads(cursor, now)
            result = make(cursor, now, *arguments)
        self._fold(cursor)
        return result

    def _wipe(self, thread: Thread, cursor: sqlite3.Cursor, change: tuple[Any, ...]) -> Any:
        """Make `change`, and overwrite the places of what it deletes: copies may be left where SQLite moved it."""
        cursor.execute("PRAGMA secure_delete = ON")
        try:
            result = self._write(thread, cursor, change)
            table.fold(cursor)
        finally:
            cursor.execute("PRAGMA secure_delete = OFF")
        return result

    def _note_reads(self, cursor: sqlite3.Cursor, now: float) -> None:
        """Move what was read to the end of the order of use."""
        touched, self._touched = self._touched, deque(maxlen=_TOUCHES)
        once = reversed(dict.fromkeys(reversed(touched)))
        cursor.executemany(table.TOUCH, [(now, ident) for ident in once])

    def _put(
        self, cursor: sqlite3.Cursor, now: float, ident: int, key: bytes, value: bytes, seconds: float | None, tags: Any
    ) -> None:
        cursor.execute(table.DROP, (ident,))
        cursor.execute(table.DROP_EXPIRED, (now,))
        need = _SPARE + 2 * len(tags) + (len(key) + len(value)) // (table.PAGE - 64) + 1
        if need + _SPARE <= self._pages and (seconds is None or seconds > 0):
            self._make_room(cursor, need)
            expires = None if seconds is None else now + seconds
            cursor.execute(table.PUT, (ident, now, expires, key, value))
            table.tag(cursor, ident, tags)

    def _leased(self, sql: str, key: str, token: str, seconds: float = 0) -> bool:
        return self._run(self._change_lease, (sql, table.address(key)[0], token, seconds), self._timeout / 2)

    def _change_lease(self, thread: Thread, cursor: sqlite3.Cursor, change: tuple[str, int, str, float]) -> bool:
        """One statement and no transaction: among many threads, one that holds the lock would wait between two."""
        thread.confirm()
        cursor.execute(table.BEGIN_LEASES)
        sql, ident, token, seconds = change
        given = {"now": self._now(), "id": ident, "token": token, "seconds": seconds}
        changed, self._in_vain = cursor.execute(sql, given).rowcount > 0, False
        self._fold(cursor)
        return changed

    def _put_leased(self, cursor: sqlite3.Cursor, now: float, token: str, ident: int, *given: Any) -> bool:
        cursor.execute(table.BEGIN_LEASES)
        cursor.execute(table.DROP_STALE, (now,))
        ours = cursor.execute(table.RELEASE, {"id": ident, "token": token}).rowcount > 0
        if ours:
            self._put(cursor, now, ident, *given)
        return ours

    def _make_room(self, cursor: sqlite3.Cursor, need: int) -> None:
        total, left = table.pragma(cursor, "page_count"), True
        while left and total - table.pragma(cursor, "freelist_count") + need > self._pages:
            left = cursor.execute(table.DROP_OLDEST).rowcount > 0
        table.shorten(cursor, self._pages)  # where the file was made under a higher limit

    def _fit(self, cursor: sqlite3.Cursor, _now: float) -> None:
        """Keep the file within its pages, and give back those that are free."""
        self._make_room(cursor, 0)
        table.shorten(cursor, 0)

    def _fold(self, cursor: sqlite3.Cursor) -> bool:
        """Bring the log back into the file when it is long. False where a reader keeps it from that."""
        return self._file.log()[1] <= self._longest_log or table.fold(cursor)


def _drop_expired(cursor: sqlite3.Cursor, now: float) -> int:
    return cursor.execute(table.DROP_EXPIRED, (now,)).rowcount


def _drop(cursor: sqlite3.Cursor, now: float, ident: int, key: bytes) -> int:
    return cursor.execute(table.DROP_ALIVE, (ident, key, now)).rowcount


def _clear(cursor: sqlite3.Cursor, _now: float) -> None:
    cursor.execute(table.CLEAR)
    table.shorten(cursor, 0)


def _is_lock(error: Exception) -> bool:
    busy = isinstance(error, sqlite3.OperationalError) and "locked" in str(error)
    return busy or isinstance(error, BlockingIOError)


def _passes(error: Exception) -> bool:
    """Whether what stands in the way goes by itself, or by what is done about it: a lock, a lost or damaged file."""
    return _is_lock(error) or isinstance(error, FileNotFoundError) or table.tells_damage(error)
