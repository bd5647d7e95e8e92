"""The one table of a DiskCache: its layout, and every statement made about it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from hashlib import blake2b

PAGE = 4096
"""Bytes in a page: 16 KB pages made a smaller file, but slower reads and three times the log for each write."""
APPLICATION = 0x1257C70A
FORMAT = 1
_DIGEST = 64
"""Characters of a SHA-256 digest."""
_PRIME = 2**63 - 25
"""The largest prime in SQLite's integers: digests that differ in one place have different remainders."""

BEGIN = f"""
    PRAGMA page_size = {PAGE};
    PRAGMA auto_vacuum = INCREMENTAL;
    PRAGMA synchronous = OFF;
    PRAGMA journal_mode = %s;
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
    PRAGMA application_id = {APPLICATION};
    PRAGMA user_version = {FORMAT};
    COMMIT;
"""
# The cache folds the log itself, to keep within its size. Debian's builds delete securely: they would write every freed
# page. A cold page through mmap costs thirty times a read. A thread may keep 8 MB of pages: the 2 MB that are usual do
# not hold the inner pages of a million entries, and made a read a fifth slower.
SETTINGS = """
    PRAGMA synchronous = NORMAL;
    PRAGMA wal_autocheckpoint = 0;
    PRAGMA secure_delete = OFF;
    PRAGMA mmap_size = 0;
    PRAGMA cache_size = -8192;
"""
FIND = "SELECT key, expires, value FROM entries WHERE id = ?"
HAS = "SELECT count(*) FROM entries WHERE id = ? AND key = ? AND (expires IS NULL OR expires > ?)"
COUNT = "SELECT (SELECT count(*) FROM entries) - (SELECT count(*) FROM entries WHERE expires <= ?)"
COUNT_ALL = "SELECT count(*) FROM entries WHERE ? IS NOT NULL"  # as everything that is asked takes the time
LEFT = "SELECT coalesce(max(coalesce(expires - ?3, 9e999)), 0) FROM entries WHERE id = ?1 AND key = ?2"
ROWS = """
    SELECT id, key, length(value), used / 1e6, coalesce(expires - ?2, 9e999) FROM entries
    WHERE id > ?1 AND (expires IS NULL OR expires > ?2) ORDER BY id LIMIT 256
"""
PROBLEMS = "SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check != 'ok' AND ? IS NOT NULL"
TOUCH = "UPDATE entries SET used = max(CAST(? * 1e6 AS INTEGER), 1 + (SELECT max(used) FROM entries)) WHERE id = ?"
PUT = """
    INSERT INTO entries (id, used, expires, key, value)
    VALUES (?, max(CAST(? * 1e6 AS INTEGER), 1 + coalesce((SELECT max(used) FROM entries), 0)), ?, ?, ?)
"""
DROP = "DELETE FROM entries WHERE id = ?"
DROP_ALIVE = "DELETE FROM entries WHERE id = ? AND key = ? AND (expires IS NULL OR expires > ?)"
DROP_EXPIRED = "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE expires <= ? ORDER BY expires LIMIT 64)"
DROP_OLDEST = "DELETE FROM entries WHERE id = (SELECT id FROM entries ORDER BY used LIMIT 1)"
CLEAR = "DELETE FROM entries"

# Who asks for what. Made when it is needed, because older files have no such table.
BEGIN_LEASES = "CREATE TABLE IF NOT EXISTS leases (id INTEGER PRIMARY KEY, token TEXT NOT NULL, expires REAL NOT NULL)"
# A lease that ends later than any taken now was made by a clock that is wrong.
TAKE = """
    INSERT INTO leases VALUES (:id, :token, :now + :seconds)
    ON CONFLICT (id) DO UPDATE SET token = excluded.token, expires = excluded.expires
    WHERE token = excluded.token OR expires NOT BETWEEN :now AND :now + 2 * :seconds
"""
HELD = "SELECT id FROM leases WHERE id = ? AND token != ? AND expires BETWEEN ? AND ?"
RENEW = "UPDATE leases SET expires = :now + :seconds WHERE id = :id AND token = :token"
RELEASE = "DELETE FROM leases WHERE id = :id AND token = :token"
DROP_STALE = "DELETE FROM leases WHERE expires < ? - 3600"

# Which entries bear a tag, both by number. Made when it is needed, too; rows go with their entry, whoever deletes that.
_BEGIN_TAGS = (
    "CREATE TABLE IF NOT EXISTS tags (tag INTEGER, id INTEGER, PRIMARY KEY (tag, id)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS tags_by_entry ON tags (id)",
    "CREATE TRIGGER IF NOT EXISTS untag AFTER DELETE ON entries BEGIN DELETE FROM tags WHERE id = old.id; END",
)
_PUT_TAG = "INSERT OR IGNORE INTO tags VALUES (?, ?)"
_TAGGED = "SELECT key FROM entries WHERE id IN (SELECT id FROM tags WHERE tag = ? ORDER BY id LIMIT 64)"
_DROP_TAGGED = "DELETE FROM entries WHERE id IN (SELECT id FROM tags WHERE tag = ? ORDER BY id LIMIT 64)"


def address(key: str) -> tuple[int, bytes]:
    """The number under which a key, or a tag, is found, and its bytes."""
    if len(key) == _DIGEST:  # our own keys are digests already
        try:
            return int(key, 16) % _PRIME, key.encode()
        except ValueError:
            pass
    data = encoded(key)
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big") >> 1, data


def encoded(text: str) -> bytes:
    """A text as bytes, whatever is in it."""
    return text.encode("utf-8", "surrogatepass")


def tag(cursor: sqlite3.Cursor, ident: int, tags: Iterable[str]) -> None:
    """Note the tags of an entry."""
    if tags:
        _begin_tags(cursor)
        cursor.executemany(_PUT_TAG, [(address(name)[0], ident) for name in tags])


def drop_tagged(cursor: sqlite3.Cursor, _now: float, number: int) -> list[str]:
    """Delete some of what bears the tag of that number, if there is any; the keys of it."""
    _begin_tags(cursor)
    found = cursor.execute(_TAGGED, (number,)).fetchall()
    cursor.execute(_DROP_TAGGED, (number,))
    return [bytes(key).decode("utf-8", "surrogatepass") for (key,) in found]


def _begin_tags(cursor: sqlite3.Cursor) -> None:
    for statement in _BEGIN_TAGS:
        cursor.execute(statement)


def check_format(cursor: sqlite3.Cursor) -> None:
    """Raise `DatabaseError` unless the file is a cache, and `NotSupportedError` if it is a later release's."""
    application, version = pragma(cursor, "application_id"), pragma(cursor, "user_version")
    if application == APPLICATION and version > FORMAT:
        raise sqlite3.NotSupportedError(f"the file has format {version}, not {FORMAT}: upgrade instructor to read it")
    if (application, version) != (APPLICATION, FORMAT):
        raise sqlite3.DatabaseError(f"application {application:#x}, format {version}: not a cache")


def newest(cursor: sqlite3.Cursor) -> int:
    """The last place taken in the order of use."""
    place = cursor.execute("SELECT max(used) FROM entries").fetchone()[0] or 0
    if not (isinstance(place, int) and 0 <= place < 2**62):
        raise sqlite3.DatabaseError(f"an entry was used at {place!r}")
    return place


def shorten(cursor: sqlite3.Cursor, pages: int) -> None:
    """Take free pages off the end of the file, as long as it has more than `pages`."""
    for _ in range(pragma(cursor, "page_count") - pages):
        cursor.execute("PRAGMA incremental_vacuum(1)")  # one step of a statement frees one page, and one is all we get


def fold(cursor: sqlite3.Cursor) -> bool:
    """Bring the whole log into the file and cut it off; False while somebody reads from it."""
    return not pragma(cursor, "wal_checkpoint(TRUNCATE)")  # its first column is whether somebody was in the way


def pragma(cursor: sqlite3.Cursor, name: str) -> int:
    """What SQLite says of the file."""
    return int(cursor.execute(f"PRAGMA {name}").fetchone()[0])


def tells_damage(error: Exception) -> bool:
    """Whether `error` says that the file is not what it should be; sqlite3 raises subclasses for almost all else."""
    return type(error) is sqlite3.DatabaseError or str(error).startswith("no such table")


def tells_no_memory(error: Exception) -> bool:
    """Whether `error` says that processes can share no memory here, which a write-ahead log needs."""
    return getattr(error, "sqlite_errorname", str(error)).startswith(("SQLITE_IOERR_SHM", "disk I/O error"))
