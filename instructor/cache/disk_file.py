"""The file under a DiskCache: found or begun, kept private, set aside when it is damaged."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from . import disk_table as table
from .base import CacheWarning

if sys.platform != "win32":
    import fcntl

NAME = "cache.sqlite3"
_SUFFIXES = ("", "-wal", "-shm", "-journal")

Identity: TypeAlias = "tuple[int, int, int]"
"""Device and number of a file, and the number of its log (0: none)."""


class CacheFile:
    """One SQLite file in a directory of its own. Making this object touches nothing."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory).expanduser().absolute()
        self.path = str(self.directory / NAME)
        self._log = self.path + "-wal"

    @contextmanager
    def opening(self) -> Iterator[sqlite3.Cursor]:
        """A new connection's cursor: one that only reads where no log can be made beside the file.

        First there is a file, and it is ours; and while it is being opened nobody can put another in place.
        """
        self._own_directory()
        with self._lock():
            try:
                Path(self.path).lstat()
            except FileNotFoundError:  # nothing else: what just cannot be seen must not be written over
                self._begin()
            self._own_files()
            reading = "ro" if self.log()[1] else "ro&immutable=1"
            yield _connection(self.path, "rw" if os.access(self.directory, os.W_OK) else reading).cursor()

    def set_aside(self, damaged: Identity | None, problem: Exception) -> None:
        """Move the `damaged` file out of the way, unless somebody already did."""
        with self._lock():
            if damaged is None or self.identity()[:2] != damaged[:2]:  # the last to close removes the log
                return
            aside = f"{self.path}.corrupt-{time.time_ns()}"
            for suffix in _SUFFIXES:
                with suppress(FileNotFoundError):
                    Path(self.path + suffix).rename(aside + suffix)
        warnings.warn(f"{self.path} is damaged ({problem}): it was moved to {aside}.", CacheWarning, stacklevel=2)

    def identity(self) -> Identity:
        """Which file and which log stand at the path now: a connection to others writes into the void."""
        file = os.stat(self.path)  # noqa: PTH116 - at every write: a Path costs twice as much
        return file.st_dev, file.st_ino, self.log()[0]

    def log(self) -> tuple[int, int]:
        """The number of the write-ahead log and the bytes in it, or zeros where there is none."""
        try:
            found = os.stat(self._log)  # noqa: PTH116 - as above
        except FileNotFoundError:
            return 0, 0
        return found.st_ino, found.st_size

    def _own_directory(self) -> None:
        """Make the directory, or see that nobody else can put things into it."""
        try:
            self.directory.mkdir(0o700, parents=True)
        except FileExistsError:
            problem = "a cache needs a directory of its own: no link, not another user's, not one like /tmp"
            if _made_private(self.directory, stat.S_ISDIR, problem):
                message = f"Others could enter {self.directory}: it was made private."
                warnings.warn(message, CacheWarning, stacklevel=2)
        else:
            with suppress(OSError):
                (self.directory / ".gitignore").write_text("*\n")
                (self.directory / ".gitignore").chmod(0o600)

    def _own_files(self) -> None:
        """Refuse files that others put there; make private what is ours."""
        for suffix in _SUFFIXES:
            with suppress(FileNotFoundError):
                _made_private(Path(self.path + suffix), stat.S_ISREG, "not a file of this user's own")

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Keep other openers out. What is locked is the directory itself: that works even where it is read-only."""
        if sys.platform == "win32":  # directories cannot be locked there: two processes may both set a file aside
            yield
            return
        directory = os.open(self.directory, os.O_RDONLY)
        try:
            _flock(directory)
            yield
        finally:
            os.close(directory)

    def _begin(self) -> None:
        """Put an empty cache in place, in one step: so an empty file at the path is always a damaged one."""
        try:
            new = self._made("WAL")
        except sqlite3.OperationalError as problem:
            if not table.tells_no_memory(problem):
                raise
            new = self._made("DELETE")  # slower, and readers wait for whoever writes
        Path(new).rename(self.path)

    def _made(self, journal: str) -> str:
        """The path of an empty cache that keeps such a journal."""
        new = self.path + ".new"
        for left in [new, *(path + log for path in (new, self.path) for log in _SUFFIXES[1:])]:
            Path(left).unlink(missing_ok=True)  # a log that stayed behind would be replayed
        Path(new).touch(0o600, exist_ok=False)
        with closing(_connection(new, "rw")) as db:
            db.executescript(table.BEGIN % journal)
        return new


def _connection(path: str, mode: str) -> sqlite3.Connection:
    # No waiting inside SQLite: the cache waits, so that all the locks of one operation share one deadline.
    # No check of threads: each keeps to its own connection, but closing and forking go through all of them.
    uri = f"{Path(path).as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False)


def _flock(directory: int) -> None:
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if isinstance(error, BlockingIOError):  # else it is a network file system that locks no directories
            raise


def _made_private(path: Path, is_kind: Callable[[int], bool], problem: str) -> bool:
    """Whether others had rights to `path`, which they no longer have; PermissionError if it is not ours to use."""
    found, posix = path.lstat(), os.name == "posix"
    foreign = posix and found.st_uid != os.geteuid()
    if foreign or not is_kind(found.st_mode) or found.st_mode & stat.S_ISVTX:
        raise PermissionError(errno.EPERM, problem, str(path))
    exposed = posix and found.st_mode & 0o077 != 0
    if exposed:
        path.chmod(stat.S_IMODE(found.st_mode) & 0o700)
    return exposed
