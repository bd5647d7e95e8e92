"""One thread's connection to a cache file, and what becomes of all of them when the process forks.

A cursor shared between threads crashes CPython 3.11.7, so each thread has its own. SQLite keeps the locks of a process
in tables that a child inherits without the locks, so a connection must not live through a fork, not even unused: a fork
waits until no thread is inside SQLite and closes them all, and each thread opens anew when it needs to.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from contextlib import suppress

from . import disk_table as table
from .disk_file import CacheFile, Identity


class Thread:
    """A thread's way into `file`: the cursor (None until it is needed) and the lock under which it is used."""

    def __init__(self, file: CacheFile) -> None:
        self.file = file
        self.lock = threading.RLock()  # of many entries: what is called under it, a clock or a warning, may fork
        self.cursor: sqlite3.Cursor | None = None
        self.identity: Identity | None = None
        self.reads = 0
        with _gate:
            _threads[id(self)] = self

    def open(self) -> tuple[sqlite3.Cursor, int]:
        """A new connection's cursor, and the last place taken in the order of use. The caller holds the lock."""
        with self.file.opening() as cursor:
            self.cursor = cursor
            try:
                table.check_format(cursor)
                newest = table.newest(cursor)  # also opens the log, which is part of the identity
                cursor.executescript(table.SETTINGS)
            except BaseException:
                self.close()
                raise
            finally:
                self.identity = self.file.identity()
        return cursor, newest

    def confirm(self) -> None:
        """Raise FileNotFoundError unless the file at the path is still the one that is open."""
        if self.file.identity() != self.identity:
            raise FileNotFoundError(f"{self.file.path} was replaced")

    def close(self) -> None:
        """Close the connection, when whoever uses it is done."""
        with self.lock, suppress(sqlite3.Error):
            cursor, self.cursor = self.cursor, None
            if cursor is not None:
                cursor.close()  # a statement left in it, as an error leaves one, would keep SQLite from closing
                cursor.connection.close()

    __del__ = close


class PerThread(threading.local):
    """Every thread that looks at `thread` finds its own."""

    def __init__(self, file: CacheFile) -> None:
        self.thread = Thread(file)


def close_all(file: CacheFile) -> None:
    """Close every thread's connection to `file`."""
    for thread in _all():
        if thread.file is file:
            thread.close()


_threads: weakref.WeakValueDictionary[int, Thread] = weakref.WeakValueDictionary()
_gate = threading.Lock()
_held: list[Thread] = []


def _all() -> list[Thread]:
    # valuerefs() copies at once: iterating would meet the threads that come and go meanwhile.
    return [thread for reference in _threads.valuerefs() if (thread := reference()) is not None]


def _before_fork() -> None:
    _gate.acquire()
    _held.extend(_all())
    for thread in _held:
        thread.lock.acquire()
        thread.close()


def _after_fork() -> None:
    while _held:
        _held.pop().lock.release()
    _gate.release()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
