"""The file under a DiskCache: found or begun, kept private, set aside when it is damaged."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
import sys
import time
import warnings
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from .base import CacheWarning

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "cache.sqlite3"
PAGE = 4096
"""Bytes in a page: 16 KB pages made a smaller file, but slower reads and twice the log for each write."""

_APPLICATION = 0x1257C70A
_FORMAT = 1
_BEGIN = f"""
    PRAGMA page_size = {PAGE};
    PRAGMA auto_vacuum = INCREMENTAL;
    PRAGMA synchronous = OFF;
    PRAGMA journal_mode = WAL;
    BEGIN;
    CREATE TABLE entries (
        id INTEGER PRIMARY KEY,     -- 63 bits of a digest of the key: a row is found by number
        used INTEGER NOT NULL,      -- microseconds since 1970, never the same twice
        expires REAL,               -- seconds since 1970
        key BLOB NOT NULL,
        value BLOB NOT NULL         -- last, so that the other columns are read without it
    );
    CREATE INDEX entries_by_use ON entries (used);
    CREATE INDEX entries_by_expiry ON entries (expires) WHERE expires IS NOT NULL;
    PRAGMA application_id = {_APPLICATION};
    PRAGMA user_version = {_FORMAT};
    COMMIT;
"""
_LOOK = "SELECT id, used, expires, key, value FROM entries LIMIT 0"
_LOGS = ("-wal", "-shm", "-journal")

Identity: TypeAlias = "tuple[int, int, int] | None"


class CacheFile:
    """One SQLite file in a directory of its own. Making this object touches nothing."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = os.path.abspath(os.path.expanduser(directory))
        self.path = os.path.join(self.directory, NAME)

    def open(self) -> sqlite3.Connection:
        """A new connection. Whoever opens holds the directory's lock, so nobody swaps the file meanwhile."""
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
        database, log = _stat(self.path), _stat(self.path + "-wal")
        return database and (database.st_dev, database.st_ino, log.st_ino if log else 0)

    def writable(self) -> bool:
        """Whether a log can be made beside the file; where not, what is there can still be read."""
        return os.access(self.directory, os.W_OK)

    def log_size(self) -> int:
        """Bytes in the write-ahead log."""
        return _size(self.path + "-wal")

    def volume(self) -> int:
        """Bytes that the file takes together with its logs."""
        return sum(_size(self.path + suffix) for suffix in ("", *_LOGS))

    def _own_directory(self) -> None:
        """Make the directory, or see that nobody else can put things into it."""
        try:
            os.makedirs(self.directory, 0o700)
        except FileExistsError:
            self._check_directory()
        else:
            os.chmod(self.directory, 0o700)  # the umask may have taken more away
            with suppress(OSError), open(os.path.join(self.directory, ".gitignore"), "x") as file:
                file.write("*\n")

    def _check_directory(self) -> None:
        found = os.lstat(self.directory)
        if not stat.S_ISDIR(found.st_mode) or _foreign(found) or found.st_mode & stat.S_ISVTX:
            raise PermissionError(
                errno.EPERM, "a cache needs a directory of its own: no link, not shared, not another user's", self.directory
            )
        if os.name == "posix" and found.st_mode & 0o077 and self.writable():
            os.chmod(self.directory, stat.S_IMODE(found.st_mode) & 0o700)
            warnings.warn(f"Others could enter {self.directory}: made it private.", CacheWarning, stacklevel=2)

    def _own_files(self) -> None:
        """Refuse files that others put there; make private what is ours."""
        for path in (self.path + suffix for suffix in ("", *_LOGS)):
            with suppress(FileNotFoundError):
                found = os.lstat(path)
                if not stat.S_ISREG(found.st_mode) or _foreign(found):
                    raise PermissionError(errno.EPERM, "not a file of this user's", path)
                if found.st_mode & 0o077 and self.writable():
                    os.chmod(path, stat.S_IMODE(found.st_mode) & 0o600)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Keep other openers out. The directory itself is locked: no file to leave behind, none needed where all is read-only."""
        if sys.platform == "win32":  # directories cannot be locked there: two processes may both set a file aside
            yield
            return
        directory = os.open(self.directory, os.O_RDONLY)
        try:
            _flock(directory)
            yield
        finally:
            os.close(directory)

    def _move_aside(self, problem: Exception) -> None:
        aside = f"{self.path}.corrupt-{time.time_ns()}"
        for suffix in ("", *_LOGS):
            with suppress(FileNotFoundError):
                os.rename(self.path + suffix, aside + suffix)
        warnings.warn(f"{self.path} is damaged ({problem}): it was moved to {aside}.", CacheWarning, stacklevel=2)

    def _begin(self) -> None:
        """Put an empty cache in place, in one step, so that an empty file at the path is always a damaged one."""
        new = self.path + ".new"
        _remove(new, *(new + suffix for suffix in _LOGS), *(self.path + suffix for suffix in _LOGS))
        try:
            os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            os.chmod(new, 0o600)
            with closing(_connection(new, "rw")) as db:
                db.executescript(_BEGIN)
            os.rename(new, self.path)
        finally:
            _remove(new, *(new + suffix for suffix in _LOGS))

    def _connect(self) -> sqlite3.Connection:
        if self.writable():
            return self._attach("rw")
        try:
            return self._attach("ro")
        except sqlite3.OperationalError:
            # Reading a log needs a shared index beside it. Nobody writes here, so the file alone will do.
            return self._attach("ro&immutable=1")

    def _attach(self, mode: str) -> sqlite3.Connection:
        db = _connection(self.path, mode)
        with contextlib.ExitStack() as unless_good:
            unless_good.callback(db.close)
            _check_format(db, self.path)
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA wal_autocheckpoint = 0")  # the cache folds the log itself, to keep within its size
            db.execute("PRAGMA secure_delete = OFF")  # on in Debian's builds: it would write every freed page
            db.execute("PRAGMA mmap_size = 0")  # a cold page through mmap costs thirty times a read
            unless_good.pop_all()
        return db


def _connection(path: str, mode: str) -> sqlite3.Connection:
    # No waiting inside SQLite: the cache waits, so that all the locks of one operation share one deadline.
    # No check of threads: each keeps to its own connection, but closing and forking go through all of them.
    uri = f"{Path(path).as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False)


def _check_format(db: sqlite3.Connection, path: str) -> None:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if application == _APPLICATION and version > _FORMAT:
        raise sqlite3.NotSupportedError(f"{path} has format {version}, this release knows {_FORMAT}: upgrade instructor")
    if (application, version) != (_APPLICATION, _FORMAT):
        raise sqlite3.DatabaseError(f"application {application:#x}, format {version}: not a cache")
    try:
        db.execute(_LOOK).fetchone()  # also opens the log, while the lock is held
    except sqlite3.OperationalError as error:
        if "no such" in str(error):
            raise sqlite3.DatabaseError(str(error)) from error
        raise


def tells_damage(error: Exception) -> bool:
    """Whether `error` says that the file is not what it should be; sqlite3 raises subclasses for all else."""
    return type(error) is sqlite3.DatabaseError


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


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _size(path: str) -> int:
    found = _stat(path)
    return found.st_size if found else 0


def _remove(*paths: str) -> None:
    for path in paths:
        with suppress(FileNotFoundError):
            os.remove(path)
