"""DiskCache and its clients where the system fails: killed inside a call, calls that fail, disks without space."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from cache_tools import describe, in_child
from echo import Asked
from strace import tampered
from test_cache_disk_faults import SOUND, as_root, check, mounted, set_aside

from instructor.cache import CacheWarning, DiskCache, stats
from instructor.cache.shelf import shelf_of

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="forks, signals and limits are POSIX"),
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
]


@pytest.fixture
def directory(tmp_path):
    """Where a cache may be made."""
    return tmp_path / "cache"


def files_of(directory):
    """The directory of a cache and every file that may be in it."""
    names = [f"cache.sqlite3{new}{log}" for new in ("", ".new") for log in ("", "-wal", "-shm", "-journal")]
    return [directory, *(directory / name for name in names)]


# Killed inside a system call


KEYS = [str(number) for number in range(12)]
RENAME, UNLINK = "?rename,?renameat,?renameat2", "?unlink,?unlinkat"
STAT = "?stat,?fstat,?newfstatat,?statx"


@pytest.mark.fault("A2")
@pytest.mark.parametrize("begun", [True, False], ids=["a cache that exists", "a new cache"])
@pytest.mark.parametrize("call", ["pwrite64", "fdatasync", "ftruncate", RENAME, UNLINK])
def test_a_writer_killed_inside_a_system_call(directory, tmp_path, tried, call, begun):
    """At its Nth write, sync, cut or move: what was acknowledged is there, the rest is as before, new, or absent."""
    if begun:
        with DiskCache(directory) as cache:
            for key in KEYS:
                cache.set(key, describe(key, "old"))
    most, killed = (60 if call == "pwrite64" else 10), 0
    for number in range(1, most + 1):
        there = tmp_path / str(number)
        if begun:
            shutil.copytree(directory, there)
        reading, acknowledge = os.pipe()
        status, was_killed = tampered(partial(_replace, there, acknowledge), f"{call}:signal=KILL:when={number}")
        os.close(acknowledge)
        with os.fdopen(reading) as pipe:
            stored = pipe.read().split()
        assert (status == -9) is was_killed
        killed += was_killed
        _look_at(there, stored, begun=begun)
        if not was_killed:
            assert stored == KEYS
            break
    tried(killed)


def _replace(directory, acknowledge):
    """Store more than the log may hold, so that it is folded in between; close, which folds it again."""
    with DiskCache(directory, size_limit=2 * 2**20) as cache:
        for key in KEYS:
            cache.set(key, describe(key, "new" + "x" * 15_000))
            os.write(acknowledge, f"{key}\n".encode())
    return True


def _look_at(directory, stored, *, begun):
    with DiskCache(directory) as cache:
        found = {key: cache.get(key) for key in KEYS}
        new = {key: describe(key, "new" + "x" * 15_000) for key in KEYS}
        old = {key: describe(key, "old") if begun else None for key in KEYS}
        assert [key for key in stored if found[key] != new[key]] == []
        assert [key for key in KEYS if found[key] not in (old[key], new[key])] == []
        assert cache.verify() == []
        cache.set("after", "text")
        assert cache.get("after") == "text"
    assert set_aside(directory) == []


# System calls that fail


FAILURES = [
    ("openat", "EMFILE"),
    ("openat", "EIO"),
    ("openat", "ENOMEM"),
    ("pread64", "EIO"),
    ("pwrite64", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("pwrite64", "EFBIG"),
    ("fdatasync", "EIO"),
    ("ftruncate", "EIO"),
    ("mmap", "ENOMEM"),
    ("fcntl", "EIO"),
    ("flock", "EIO"),
    (RENAME, "EIO"),
    (UNLINK, "EIO"),
    (STAT, "EIO"),
]


@pytest.mark.fault("A8")
@pytest.mark.parametrize("lasting", ["", "+"], ids=["once", "from then on"])
@pytest.mark.parametrize(("call", "error"), FAILURES, ids=lambda value: value.strip("?").partition(",")[0])
def test_a_system_call_that_fails(directory, tmp_path, tried, call, error, lasting):
    """Whichever call fails at its Nth time: every answer is right, no file stays open, no other answer is lost.

    When a read fails, SQLite says that the file is damaged: it is set aside, and answers are asked for again.
    """
    with DiskCache(directory) as cache:
        assert Asked(cache).right("before")
    failed, some = 0, [1, 5, 13] if lasting else [1, 2, 3, 5, 8, 13, 21]
    every = range(1, 11 if lasting else 31)
    for number in some if tried(len(some), full=len(every)) == len(some) else every:
        there = tmp_path / str(number)
        if call != RENAME:  # which happens only where a cache begins
            shutil.copytree(directory, there)
        inject = f"{call}:error={error}:when={number}{lasting}"
        status, was_hit = tampered(partial(_use, there), inject, files_of(there))
        assert status == 0, number
        failed += was_hit
        lost = call in {"pread64", RENAME}
        with DiskCache(there) as cache:
            asked = Asked(cache)
            assert (asked.right("before"), asked.calls <= lost, cache.verify()) == (True, True, [])
        assert (set_aside(there) == []) or lost
        if not was_hit:  # there are no more of these calls
            tried(failed)
            break
    assert failed > 0


def _use(directory):
    """Ask seven questions twice, hits and misses in turn, with a log that is folded in between; nothing stays open."""
    before = open_files()
    with warnings.catch_warnings(record=True) as given, DiskCache(directory, size_limit=2 * 2**20) as cache:
        warnings.simplefilter("always")
        shelf_of(cache).lease_seconds = 0.2  # one that cannot be given back is waited for
        asked = Asked(cache, size=20_000)
        answers = [asked.right(question) for question in [*"abcdefg", *"abcdefg"]]
    assert answers == [True] * 14
    assert 7 <= asked.calls <= 14
    assert all(warning.category is CacheWarning for warning in given)
    assert open_files() == before
    return True


def open_files():
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a Path would open what it counts


@pytest.mark.fault("A8")
@pytest.mark.parametrize(
    ("limit", "value"), [(resource.RLIMIT_NOFILE, 0), (resource.RLIMIT_FSIZE, 16_384)], ids=["descriptors", "file size"]
)
def test_a_limit_of_the_process(directory, limit, value):
    """Without descriptors, or space in files, calls are answered without the cache; with them, it works again."""

    def use():
        with warnings.catch_warnings(record=True) as given, DiskCache(directory) as cache:
            warnings.simplefilter("always")
            asked = Asked(cache, size=20_000)
            assert asked.right("warm up")
            cache.close()
            before = open_files()
            soft, hard = resource.getrlimit(limit)
            resource.setrlimit(limit, (value or before - 1, hard))
            answers = [asked.right(str(number)) for number in range(20)]
            resource.setrlimit(limit, (soft, hard))
            again = [asked.right("after"), asked.right("after")]
        assert (answers, again, len(given)) == ([True] * 20, [True] * 2, 1)
        assert (asked.calls, stats(cache).hits, open_files()) == (22, 1, before)
        return True

    assert in_child(use) == 0


@pytest.mark.fault("A12")
def test_a_file_system_without_shared_memory(directory):
    """Where SQLite's log cannot be used, as on some network disks, a cache is begun that keeps a plain journal."""

    def use():
        with (
            warnings.catch_warnings(record=True) as given,
            DiskCache(directory, timeout=20) as cache,
            DiskCache(directory) as other,
        ):
            warnings.simplefilter("always")
            asked = Asked(cache)
            assert [asked.right(question) for question in "abcabc"] == [True] * 6
            with ThreadPoolExecutor(4) as pool:
                assert all(pool.map(asked.right, map(str, range(40))))
            cache.set("key", "text", tags=["tag"])
            assert (other.get("key"), other.delete_tag("tag"), cache.get("key")) == ("text", 1, None)
        return (given, asked.calls, stats(cache).hits, check(directory)) == ([], 43, 3, SOUND)

    shm = [path for path in files_of(directory) if path.name.endswith("-shm")]
    assert tampered(use, "mmap:error=ENODEV", shm) == (0, True)


@pytest.mark.fault("A12")
def test_a_file_that_came_from_a_better_file_system(directory):
    """It cannot be opened without its log: calls are answered, and one warning says why they are not kept."""
    with DiskCache(directory) as cache:
        cache.set("key", "text")

    def use():
        with warnings.catch_warnings(record=True) as given, DiskCache(directory) as cache:
            warnings.simplefilter("always")
            asked = Asked(cache)
            assert [asked.right(question) for question in "abcabc"] == [True] * 6
            assert stats(cache).errors > 0
        return [warning.category for warning in given] == [CacheWarning]

    shm = [path for path in files_of(directory) if path.name.endswith("-shm")]
    assert tampered(use, "mmap:error=ENODEV", shm) == (0, True)


# Clients on disks that are full, or turn read-only


@pytest.mark.fault("A6")
@as_root
def test_calls_on_a_full_disk(tmp_path, tried):
    """120 of 120 calls are answered, with one warning; once there is space again, the same cache keeps answers."""
    with mounted(tmp_path / "small") as small, DiskCache(small / "cache") as cache:
        asked = Asked(cache, size=20_000)
        with pytest.warns(CacheWarning, match="full") as given:
            answers = [asked.right(str(number)) for number in [*range(60)] * 2]
        subprocess.run(["mount", "-o", "remount,size=8m", small], check=True)
        before = asked.calls
        again = [asked.right("new"), asked.right("new")]

        assert (answers, again, len(given)) == ([True] * 120, [True] * 2, 1)
        assert (before <= 120, asked.calls - before) == (True, 1)
    tried(120)


@pytest.mark.fault("A7")
@as_root
def test_calls_on_a_disk_that_turns_read_only(tmp_path):
    """What is there is a hit; the rest is asked for, and nobody but a warning says that it cannot be kept."""
    with mounted(tmp_path / "disk", "8m") as disk, DiskCache(disk / "cache") as cache:
        asked = Asked(cache)
        assert asked.right("there")
        cache.close()  # else the disk would be busy
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with pytest.warns(CacheWarning) as given:
            answers = [asked.right(question) for question in ("there", "new", "there", "new")]
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        again = [asked.right("new"), asked.right("new")]

        assert (answers, again, len(given)) == ([True] * 4, [True] * 2, 1)
        assert (asked.calls, stats(cache).hits) == (4, 3)
