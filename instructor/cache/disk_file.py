"""The file under a DiskCache: found or begun, kept private, set aside when it is damaged."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from . import disk_table as table
from .base import CacheWarning

if sys.platform != "win32":
    import fcntl

NAME = "cache.sqlite3"
_LOGS = ("-wal", "-shm", "-journal")

Identity: TypeAlias = "tuple[int, int, int] | None"
"""Device and number of a file, and the number of its log (0: none); None where there is no file."""


class CacheFile:
    """One SQLite file in a directory of its own. Making this object touches nothing."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory).expanduser().absolute()
        self.path = str(self.directory / NAME)
        self._log = self.path + "-wal"

    def open(self) -> sqlite3.Cursor:
        """A new connection's cursor. Whoever opens holds the directory's lock, so nobody swaps the file meanwhile."""
        self._own_directory()
        with self._lock():
            if not os.path.lexists(self.path):
                self._begin()
            self._own_files()
            try:
                return self._connect()
            except sqlite3.DatabaseError as error:
                if not tells_damage(error):
                    raise
                self._move_aside(error)
                self._begin()
                return self._connect()

    def set_aside(self, damaged: Identity, problem: Exception) -> None:
        """Move the `damaged` file out of the way, unless somebody already did."""
        with self._lock():
            found = self.identity()
            if found and damaged and found[:2] == damaged[:2]:  # its log may be gone: the last to close removes it
                self._move_aside(problem)

    def identity(self) -> Identity:
        """Which file and which log stand at the path now: a connection to others writes into the void."""
        file, log = _stat(self.path), _stat(self._log)
        return file and (file.st_dev, file.st_ino, log.st_ino if log else 0)

    def writable(self) -> bool:
        """Whether a log can be made beside the file; where not, what is there can still be read."""
        return os.access(self.directory, os.W_OK)

    def log_size(self) -> int:
        """Bytes in the write-ahead log."""
        return _size(self._log)

    def volume(self) -> int:
        """Bytes that the file takes together with its logs."""
        return sum(map(_size, _with_logs(self.path)))

    def _own_directory(self) -> None:
        """Make the directory, or see that nobody else can put things into it."""
        try:
            self.directory.mkdir(0o700, parents=True)
        except FileExistsError:
            self._check_directory()
        else:
            self.directory.chmod(0o700)  # the umask may have taken more away
            with suppress(OSError):
                (self.directory / ".gitignore").write_text("*\n")
                (self.directory / ".gitignore").chmod(0o600)

    def _check_directory(self) -> None:
        found = self.directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or _foreign(found) or found.st_mode & stat.S_ISVTX:
            problem = "a cache needs a directory of its own: no link, not another user's, not one like /tmp"
            raise PermissionError(errno.EPERM, problem, str(self.directory))
        if self._too_open(found):
            self.directory.chmod(stat.S_IMODE(found.st_mode) & 0o700)
            warnings.warn(f"Others could enter {self.directory}: it was made private.", CacheWarning, stacklevel=2)

    def _own_files(self) -> None:
        """Refuse files that others put there; make private what is ours."""
        for path in map(Path, _with_logs(self.path)):
            with suppress(FileNotFoundError):
                found = path.lstat()
                if not stat.S_ISREG(found.st_mode) or _foreign(found):
                    raise PermissionError(errno.EPERM, "not a file of this user's own", str(path))
                if self._too_open(found):
                    path.chmod(stat.S_IMODE(found.st_mode) & 0o600)

    def _too_open(self, found: os.stat_result) -> bool:
        return os.name == "posix" and found.st_mode & 0o077 != 0 and self.writable()

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
        new = self.path + ".new"
        _remove(*_with_logs(new), *_with_logs(self.path)[1:])  # a log that stayed behind would be replayed
        try:
            os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            Path(new).chmod(0o600)
            with closing(_connection(new, "rw")) as db:
                db.executescript(table.BEGIN)
            Path(new).rename(self.path)
        finally:
            _remove(*_with_logs(new))

    def _move_aside(self, problem: Exception) -> None:
        aside = f"{self.path}.corrupt-{time.time_ns()}"
        for old, new in zip(_with_logs(self.path), _with_logs(aside), strict=True):
            with suppress(FileNotFoundError):
                Path(old).rename(new)
        warnings.warn(f"{self.path} is damaged ({problem}): it was moved to {aside}.", CacheWarning, stacklevel=2)

    def _connect(self) -> sqlite3.Cursor:
        if self.writable():
            return self._attach("rw")
        try:
            return self._attach("ro")
        except sqlite3.OperationalError:
            # Reading a log needs a shared index beside it. Nobody writes here, so the file alone will do.
            return self._attach("ro&immutable=1")

    def _attach(self, mode: str) -> sqlite3.Cursor:
        with ExitStack() as unless_good:
            db = unless_good.enter_context(closing(_connection(self.path, mode)))
            cursor = unless_good.enter_context(closing(db.cursor()))
            table.check_format(cursor, self.path)
            for setting in table.SETTINGS:
                cursor.execute(setting)
            unless_good.pop_all()
        return cursor


def tells_damage(error: Exception) -> bool:
    """Whether `error` says that the file is not what it should be; sqlite3 raises subclasses for all else."""
    return type(error) is sqlite3.DatabaseError


def _connection(path: str, mode: str) -> sqlite3.Connection:
    # No waiting inside SQLite: the cache waits, so that all the locks of one operation share one deadline.
    # No check of threads: each keeps to its own connection, but closing and forking go through all of them.
    uri = f"{Path(path).as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False)


def _flock(descriptor: int) -> None:
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return  # a network file system that locks no directories


def _foreign(found: os.stat_result) -> bool:
    return hasattr(os, "geteuid") and found.st_uid != os.geteuid()


def _with_logs(path: str) -> list[str]:
    return [path, *(path + suffix for suffix in _LOGS)]


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116 - asked for at every write: a Path costs twice as much
    except OSError:
        return None


def _size(path: str) -> int:
    found = _stat(path)
    return found.st_size if found else 0


def _remove(*paths: str) -> None:
    for path in paths:
        Path(path).unlink(missing_ok=True)
