"""One thread's connection to a cache file, and what becomes of all of them when the process forks.

A cursor shared between threads crashes CPython 3.11.7, so each thread has its own. SQLite keeps the locks of a process
in tables that a child inherits without the locks, so a connection must not live through a fork, not even unused: all
are closed just before, and each thread opens anew when it needs to.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import weakref
from contextlib import suppress

from .disk_file import CacheFile, Identity

_LONGEST_OPERATION = 2.0
"""Seconds that a fork waits for a thread inside SQLite; past that the child gives up the connection unclosed."""


class Thread:
    """A thread's way into `file`: the cursor (None until it is needed) and the lock under which it is used."""

    def __init__(self, file: CacheFile) -> None:
        self.file = file
        self.lock = threading.Lock()
        self.cursor: sqlite3.Cursor | None = None
        self.identity: Identity = None
        self.writable = True
        self.hits = 0
        with _gate:
            _threads[id(self)] = self

    def open(self) -> sqlite3.Cursor:
        """The cursor, of a connection made now if there is none. The caller holds the lock."""
        if self.cursor is None:
            self.cursor = self.file.open()
            self.identity, self.writable = self.file.identity(), self.file.writable()
        return self.cursor

    def confirm(self) -> None:
        """Raise ESTALE unless the file at the path is still the one that is open, for all that it now allows."""
        found = self.file.identity()
        if found is None or found != self.identity or (not self.writable and self.file.writable()):
            raise OSError(errno.ESTALE, "the cache's file was replaced", self.file.path)

    def close(self) -> None:
        """Close the connection, when whoever uses it is done."""
        with self.lock:
            self.let_go()

    def let_go(self) -> None:
        """Close the connection. The caller holds the lock."""
        cursor, self.cursor, self.identity = self.cursor, None, None
        if cursor is not None:
            with suppress(sqlite3.Error):
                cursor.close()  # a statement left in it, as an error leaves one, would keep SQLite from closing
                cursor.connection.close()

    def __del__(self) -> None:
        self.let_go()


class PerThread(threading.local):
    """Every thread that looks at `thread` finds its own."""

    def __init__(self, file: CacheFile) -> None:
        self.thread = Thread(file)


def threads_of(file: CacheFile) -> list[Thread]:
    """Every thread's way into `file`."""
    return [thread for thread in _all() if thread.file is file]


_threads: weakref.WeakValueDictionary[int, Thread] = weakref.WeakValueDictionary()
_gate = threading.Lock()
_held: list[Thread] = []
_given_up: list[sqlite3.Cursor] = []


def _all() -> list[Thread]:
    # valuerefs() copies at once: iterating would meet the threads that come and go meanwhile.
    return [thread for reference in _threads.valuerefs() if (thread := reference()) is not None]


def _before_fork() -> None:
    _gate.acquire()
    for thread in _all():
        if thread.lock.acquire(timeout=_LONGEST_OPERATION):
            thread.let_go()
            _held.append(thread)


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().lock.release()
    _gate.release()


def _after_fork_in_child() -> None:
    global _gate  # noqa: PLW0603 - whoever held it is not in this process
    _gate = threading.Lock()
    _held.clear()
    for thread in _all():
        thread.lock = threading.Lock()
        if thread.cursor is not None:
            _given_up.append(thread.cursor)  # closing it would release locks that the parent has
            thread.cursor = None


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
