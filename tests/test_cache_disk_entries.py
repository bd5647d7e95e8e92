"""What a DiskCache tells of its entries, and how it is tidied and checked."""

import math
import sqlite3

import pytest
from cache_tools import Clock, volume

from instructor.cache.disk import DiskCache


@pytest.fixture
def clock():
    """A time that stands still."""
    return Clock()


@pytest.fixture
def cache(tmp_path, clock):
    """A cache on that clock."""
    with DiskCache(tmp_path / "cache", clock=clock) as cache:
        yield cache


def test_entries_tell_size_use_and_time_left(cache, clock):
    """Sizes are in bytes of UTF-8; reading moves an entry's last use once it is noted."""
    cache.set("a", "é")
    clock.now += 5
    cache.set("b" * 64, "text", 10)
    clock.now += 1

    rows = {row.key: row for row in cache.entries()}

    assert rows.keys() == {"a", "b" * 64}
    assert (rows["a"].size, rows["a"].used, rows["a"].left) == (2, clock.now - 6, math.inf)
    assert (rows["b" * 64].size, rows["b" * 64].used, rows["b" * 64].left) == (4, clock.now - 1, 9)


def test_there_may_be_more_entries_than_are_looked_at_at_once(cache):
    """Every key comes once, also when what was seen is deleted on the way."""
    keys = [f"{number:064x}" for number in range(600)]
    for key in keys:
        cache.set(key, "text")

    seen = [key for key in cache if cache.delete(key)]

    assert sorted(seen) == keys
    assert list(cache) == []


def test_what_has_expired_is_no_entry(cache, clock):
    """Although it is still in the file."""
    cache.set("k", "text", 10)
    clock.now += 10

    assert list(cache) == []


@pytest.mark.parametrize(("ttl", "after", "expected"), [(10, 4, 6), (10, 11, 0), (None, 4, math.inf)])
def test_the_time_that_is_left(cache, clock, ttl, after, expected):
    """Seconds; infinite for what stays, none for what is gone or never was."""
    cache.set("k", "text", ttl)
    clock.now += after

    assert cache.remaining("k") == expected
    assert cache.remaining("other") == 0


def test_pruning_drops_what_has_expired_and_gives_the_space_back(cache, clock, tmp_path):
    """However much that is."""
    for number in range(300):
        cache.set(f"old {number}", "x" * 10_000, 10)
    cache.set("kept", "text")
    clock.now += 11

    assert cache.prune() == 300
    assert cache.prune() == 0
    assert list(cache) == ["kept"]
    assert volume(tmp_path / "cache") < 100_000


def test_pruning_keeps_to_the_limit_of_whoever_prunes(cache, tmp_path):
    """What was used longest ago goes first."""
    for number in range(300):
        cache.set(f"{number:03}", "x" * 30_000)
    cache.get("000")
    cache.close()

    with DiskCache(tmp_path / "cache", size_limit=3 * 2**20) as small:
        gone = small.prune()
        left = sorted(small)

    assert gone + len(left) == 300
    assert left[0] == "000"
    assert left[1:] == [f"{number:03}" for number in range(300 - len(left) + 1, 300)]
    assert volume(tmp_path / "cache") <= 3 * 2**20


def test_a_whole_file_has_nothing_wrong_with_it(cache):
    """SQLite looks at every page, and every index."""
    cache.set("k", "text")

    assert cache.verify() == []


def test_what_is_wrong_is_told(cache, tmp_path):
    """A row that an index does not know is found, though reading never would."""
    cache.set("k", "text", 60)
    cache.close()
    with sqlite3.connect(tmp_path / "cache" / "cache.sqlite3", isolation_level=None) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute("DELETE FROM sqlite_schema WHERE name = 'entries_by_use'")
        db.execute("PRAGMA writable_schema = RESET")
    db.close()

    assert any("never used" in problem for problem in cache.verify())
    assert cache.get("k") == "text"
