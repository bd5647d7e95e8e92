"""DiskCache under faults and abuse: killed, damaged, full, read-only, locked, removed, forked, exposed."""

import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
from cache_tools import chance, describe, describes, fork, in_child, volume, wait_for

from instructor.cache.base import CacheWarning
from instructor.cache.disk import DiskCache
from instructor.cache.entry import unseal

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="forks, signals and modes are POSIX"),
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
]
as_root = pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="needs root: mounts, owners")
NOBODY = 65534


@pytest.fixture
def directory(tmp_path):
    """Where a cache may be made."""
    return tmp_path / "cache"


def answer(cache, key):
    """What a call does with a store: look, and remember what was not there. The value, and whether it was a hit."""
    found = cache.get(key)
    if found is not None and describes(key, found):
        return True
    cache.set(key, describe(key, "x" * 500))
    return False


def check(directory):
    """What SQLite itself says of the file, asked by another process: closing it here would drop our locks."""
    script = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('PRAGMA integrity_check').fetchall())"
    command = [sys.executable, "-c", script, directory / "cache.sqlite3"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


SOUND = "[('ok',)]"


def set_aside(directory):
    """The damaged files that were moved aside, without their logs."""
    return [path.name for path in directory.glob("*.corrupt-*") if path.suffix[-4:] not in ("-wal", "-shm")]


@contextmanager
def mounted(path, size="512k"):
    """A small file system of its own at `path`."""
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=False).returncode:
        pytest.skip("this root may not mount")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


# Crash and durability: the rows A


@pytest.mark.fault("A1")
def test_what_was_acknowledged_survives_a_kill(directory, tried):
    """Four writers, killed at any moment: whatever `set` returned for is there, whole."""
    dice, slowest = chance(1), 0.0
    for round_ in range(tried(25, full=100)):
        reading, writing = os.pipe()
        writers = [fork(partial(_write_until_killed, directory, writing, f"{round_} {n}")) for n in range(4)]
        os.close(writing)
        time.sleep(dice.uniform(0.005, 0.4))
        for pid in writers:
            os.kill(pid, signal.SIGKILL)
        assert [wait_for(pid) for pid in writers] == [-signal.SIGKILL] * 4

        with os.fdopen(reading) as acknowledged:
            keys = [line.rstrip("\n") for line in acknowledged if line.endswith("\n")]
        start = time.perf_counter()
        with DiskCache(directory) as cache:
            cache.get("key")
            slowest = max(slowest, time.perf_counter() - start)
            found = [cache.get(key) for key in keys]
            assert [key for key, text in zip(keys, found, strict=True) if text is None] == []
            assert [key for key, text in zip(keys, found, strict=True) if not describes(key, text)] == []

    assert check(directory) == SOUND
    assert sorted(path.name for path in directory.iterdir()) == [".gitignore", "cache.sqlite3"]
    assert slowest < 1


def _write_until_killed(directory, acknowledge, name):
    cache = DiskCache(directory, timeout=10)  # four writers on a busy machine wait for each other
    for number in itertools.count():
        key = f"{name} {number}"
        cache.set(key, describe(key, "x" * (number % 50 * 100)))
        os.write(acknowledge, f"{key}\n".encode())


@pytest.fixture
def torn(tmp_path):
    """The file and the log of 40 entries, as a writer had them when it was killed."""
    directory = tmp_path / "writer"

    def write():
        cache = DiskCache(directory)
        for number in range(40):
            cache.set(str(number), describe(str(number), "x" * 2000))
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(write) == -signal.SIGKILL
    return (directory / "cache.sqlite3").read_bytes(), (directory / "cache.sqlite3-wal").read_bytes()


def _read_all(directory, file, log):
    """How many of the 40 entries are hits when `file` and `log` are what is left."""
    directory.mkdir(0o700)
    (directory / "cache.sqlite3").write_bytes(file)
    (directory / "cache.sqlite3-wal").write_bytes(log)
    with DiskCache(directory) as cache:
        found = {key: cache.get(key) for key in map(str, range(40))}
    shutil.rmtree(directory)
    assert [key for key, text in found.items() if text is not None and not describes(key, text)] == []
    return sum(text is not None for text in found.values())


@pytest.mark.fault("A3")
def test_a_log_that_was_cut_gives_what_came_before_the_cut(torn, directory, tried):
    """Wherever the log ends within its last 64 KB, nothing raises or is wrong; the longer it is, the more hits."""
    file, log = torn
    hits = [_read_all(directory, file, log[: len(log) - 512 * cut]) for cut in range(tried(129))]

    assert hits[0] == 40
    assert hits == sorted(hits, reverse=True)
    assert hits[-1] < 40


@pytest.mark.fault("A3")
def test_a_flipped_bit_in_the_log_costs_entries_only(torn, directory, tried):
    """200 single bits, spread over the headers and bodies of all frames: nothing raises and nothing is wrong."""
    file, log = torn
    dice, frame = chance(3), 24 + 4096
    hits = []
    for number in range(tried(200)):
        start = 32 + frame * (number % (len(log) // frame))
        at = start + (dice.randrange(24) if number % 2 else dice.randrange(24, frame))
        hits.append(_read_all(directory, file, _flip(log, at, dice.randrange(8))))

    assert (min(hits), max(hits) < 40) == (0, True)


def _flip(data, at, bit):
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def _damages():
    dice = chance(4)
    return {
        "header": lambda data: dice.randbytes(100) + data[100:],
        "400 random bytes": lambda data: data[:8192] + dice.randbytes(400) + data[8592:],
        "half a file": lambda data: data[: len(data) // 2],
        "0 bytes": lambda _: b"",
        "random": lambda data: dice.randbytes(len(data)),
        "another program's": lambda _: _foreign_database(),
        "no table": lambda data: data.replace(b"CREATE TABLE entries", b"CREATE TABLE entriez"),
    }


def _foreign_database():
    with tempfile.TemporaryDirectory() as directory:
        with closing(sqlite3.connect(Path(directory, "theirs"))) as other:
            other.execute("CREATE TABLE entries (key, value)")
        return Path(directory, "theirs").read_bytes()


@pytest.mark.fault("A4")
@pytest.mark.parametrize("damage", _damages())
def test_a_damaged_file_is_set_aside_once(directory, tried, damage):
    """40 calls over a damaged file succeed, ask at most 40 times, warn once, and leave it beside a new one."""
    _fill(directory, tried(40))
    file = directory / "cache.sqlite3"
    file.write_bytes(_damages()[damage](file.read_bytes()))

    with DiskCache(directory) as cache:
        with pytest.warns(CacheWarning, match="is damaged") as given:
            misses = [answer(cache, str(number)) for number in range(40)].count(False)
        hits = [answer(cache, str(number)) for number in range(40)].count(True)

    assert (misses <= 40, hits, len(given), len(set_aside(directory))) == (True, 40, 1, 1)
    assert check(directory) == SOUND


def _fill(directory, entries, size=500):
    with DiskCache(directory) as cache:
        for number in range(entries):
            cache.set(str(number), describe(str(number), "x" * size))


@pytest.mark.fault("A4")
def test_damage_under_a_live_cache(directory):
    """A file that is damaged while threads use it is set aside once, and all of them go on."""
    _fill(directory, 1200, 4000)  # more than SQLite keeps in memory
    keys = [str(number) for number in range(1200)]
    with DiskCache(directory) as cache, ThreadPoolExecutor(4) as pool:
        before = list(pool.map(partial(answer, cache), keys))
        _overwrite(directory / "cache.sqlite3")
        with pytest.warns(CacheWarning) as given:  # not at once: what SQLite has in memory is still good
            after = [list(pool.map(partial(answer, cache), keys)) for _ in range(3)]

    assert (all(before), all(after[-1]), len(given), len(set_aside(directory))) == (True, True, 1, 1)
    assert check(directory) == SOUND


def _overwrite(*files):
    # Another process does it: opening and closing the file here would drop the locks of this one.
    script = "import os, sys; [open(name, 'r+b').write(os.urandom(os.stat(name).st_size)) for name in sys.argv[1:]]"
    subprocess.run([sys.executable, "-c", script, *files], check=True)


@pytest.mark.fault("A4")
def test_processes_that_meet_over_a_damaged_file_set_it_aside_once(directory):
    """Four processes of four threads open a damaged file: one moves it, one warns, none loses a new entry."""
    for round_ in range(5):
        _fill(directory, 1)
        (directory / "cache.sqlite3").write_bytes(b"not a database at all" * 1000)
        reading, writing = os.pipe()
        children = [fork(partial(_meet, directory, writing, n)) for n in range(4)]
        os.close(writing)
        statuses = [wait_for(pid) for pid in children]
        with os.fdopen(reading) as pipe:
            given = pipe.read()

        with DiskCache(directory) as cache:
            found = [cache.get(f"{n} {thread}") for n in range(4) for thread in range(4)]

        assert (statuses, given, found) == ([0] * 4, "warned\n", ["text"] * 16)
        assert len(set_aside(directory)) == round_ + 1


def _meet(directory, report, n):
    with warnings.catch_warnings(record=True) as given, ThreadPoolExecutor(4) as pool:
        warnings.simplefilter("always")
        cache = DiskCache(directory, timeout=10)
        list(pool.map(lambda thread: cache.set(f"{n} {thread}", "text"), range(4)))
    os.write(report, b"warned\n" * len(given))
    return True


@pytest.mark.fault("A5")
def test_a_value_that_is_no_text_is_a_miss(directory):
    """Bytes that SQLite takes for good but that are no UTF-8 are a miss, and storing again mends it."""
    _fill(directory, 1)
    with closing(sqlite3.connect(directory / "cache.sqlite3", isolation_level=None)) as db:
        db.execute("UPDATE entries SET value = x'ff80'")
    with DiskCache(directory) as cache:
        assert [answer(cache, "0"), answer(cache, "0")] == [False, True]


@pytest.mark.fault("A5")
def test_an_order_of_use_beyond_reason_is_damage(directory):
    """A row whose time of use was damaged does not stop every later write."""
    _fill(directory, 1)
    with closing(sqlite3.connect(directory / "cache.sqlite3", isolation_level=None)) as db:
        db.execute("UPDATE entries SET used = ?", [2**63 - 1])
    with DiskCache(directory) as cache, pytest.warns(CacheWarning, match="an entry was used at"):
        assert [answer(cache, "0"), answer(cache, "0")] == [False, True]


@pytest.mark.fault("A6")
@as_root
@pytest.mark.parametrize("filled", ["before it is opened", "by the cache itself"])
def test_a_full_disk(tmp_path, tried, filled):
    """Of 120 calls on 512 KB none is answered wrongly; once there is space again, the same object caches again."""
    with mounted(tmp_path / "small") as small:
        cache, weight = DiskCache(small / "cache"), small / "weight"
        weight.touch()
        if filled == "before it is opened":
            _fill_up(weight)
        failures = 0
        for number in [*range(tried(120) // 2)] * 2:
            key = str(number)
            try:
                found = cache.get(key)
                assert found is None or describes(key, found)
                cache.set(key, describe(key, "x" * 20_000))
            except (sqlite3.Error, OSError):
                failures += 1

        weight.unlink()
        if filled == "by the cache itself":
            subprocess.run(["mount", "-o", "remount,size=8m", small], check=True)
        cache.set("new", "text")

        assert (failures > 0, cache.get("new")) == (True, "text")
        cache.close()


def _fill_up(path):
    with path.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        file.writelines(itertools.repeat(bytes(4096)))


@pytest.mark.fault("A7")
@as_root
@pytest.mark.parametrize("left", ["closed", "killed"])
def test_a_disk_that_turns_read_only(tmp_path, left):
    """Hits are still served, storing raises, and both work again when the disk does, with the same object."""
    with mounted(tmp_path / "disk", "8m") as disk:
        in_child(lambda: _leave_one_entry(disk / "cache", left))
        cache = DiskCache(disk / "cache")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)

        found = cache.get("key")
        with pytest.raises((sqlite3.Error, OSError)):
            cache.set("new", "text")
        again = cache.get("key")
        cache.close()
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        cache.set("new", "text")

        assert (found, again, cache.get("key"), cache.get("new")) == ("text", "text", "text", "text")
        cache.close()


def _leave_one_entry(directory, left):
    cache = DiskCache(directory)
    cache.set("key", "text")
    if left == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    cache.close()
    return True


@pytest.mark.fault("A7")
@as_root
def test_a_user_who_may_only_read():
    """In a directory of mode 0500 hits are served and storing raises, until there is the right to write."""
    with tempfile.TemporaryDirectory() as entrance:
        Path(entrance).chmod(0o755)  # pytest's own directories let nobody through
        directory = Path(entrance, "cache")
        with DiskCache(directory) as cache:
            cache.set("key", "text")
        for path in (directory, *directory.iterdir()):
            os.chown(path, NOBODY, NOBODY)
        directory.chmod(0o500)

        assert in_child(lambda: _read_then_write(directory)) == 0


def _read_then_write(directory):
    os.setuid(NOBODY)
    cache = DiskCache(directory)
    assert [cache.get("key"), cache.get("absent")] == ["text", None]
    with pytest.raises(sqlite3.OperationalError, match="attempt to write a readonly database"):
        cache.set("new", "text")
    assert cache.get("key") == "text"
    directory.chmod(0o700)
    cache.set("new", "text")
    return cache.get("new") == "text"


@pytest.mark.fault("A9")
def test_a_lock_that_is_held_for_ever(directory):
    """Storing gives up within its time limit, reading does not wait at all, and storing works when the lock is gone."""
    _fill(directory, 1)
    locked, let_go, holder = _hold_the_write_lock(directory)
    with DiskCache(directory) as cache:
        os.read(locked, 1)
        start = time.perf_counter()
        found = cache.get("0")
        reading = time.perf_counter() - start
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            cache.set("key", "text")
        whole = time.perf_counter() - start
        os.write(let_go, b".")
        assert wait_for(holder) == 0
        cache.set("key", "text")

        assert (describes("0", found), reading < 0.1, 0.2 < whole < 0.4) == (True, True, True)
        assert cache.get("key") == "text"


@pytest.mark.fault("A9")
def test_operations_share_the_time_for_a_lock(directory):
    """To take a lease and to store wait as long as one; who gets a lock gives the next its time back."""
    _fill(directory, 1)
    locked, let_go, holder = _hold_the_write_lock(directory)
    with DiskCache(directory) as cache:
        os.read(locked, 1)
        took = []
        for work in (
            lambda: cache.lease("key", "token", 5),
            lambda: cache.set("key", "text"),
            lambda: cache.lease("other", "token", 5),
            lambda: cache.set("other", "text"),
        ):
            start = time.perf_counter()
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                work()
            took.append(time.perf_counter() - start)
        assert (0.1 < took[0], 0.1 < took[1], sum(took[:2]) < 0.35, sum(took[2:]) < 0.3) == (True,) * 4

        os.write(let_go, b".")
        assert wait_for(holder) == 0
        cache.set("key", "text")
        locked, let_go, holder = _hold_the_write_lock(directory)
        os.read(locked, 1)
        start = time.perf_counter()
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            cache.set("key", "text")
        assert 0.2 < time.perf_counter() - start
        os.write(let_go, b".")
        assert wait_for(holder) == 0


def _hold_the_write_lock(directory):
    locked, tell = os.pipe()
    wait, let_go = os.pipe()

    def hold():
        with closing(sqlite3.connect(directory / "cache.sqlite3", isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            os.write(tell, b".")
            os.read(wait, 1)
        return True

    return locked, let_go, fork(hold)


@pytest.mark.fault("A9")
def test_a_directory_lock_that_is_held_for_ever(directory):
    """Opening gives up within the same limit."""
    import fcntl

    _fill(directory, 1)
    held = os.open(directory, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    cache, start = DiskCache(directory), time.perf_counter()

    with pytest.raises(BlockingIOError):
        cache.get("0")

    assert 0.2 < time.perf_counter() - start < 0.4
    os.close(held)
    assert describes("0", cache.get("0"))
    cache.close()


@pytest.mark.fault("A9")
def test_a_reader_that_never_ends(directory):
    """While a stopped reader keeps the log from being folded, it stays bounded: storing raises, reading goes on."""
    limit = 2 * 2**20
    _fill(directory, 1)
    reader = sqlite3.connect(directory / "cache.sqlite3", isolation_level=None)
    with closing(reader), DiskCache(directory, size_limit=limit, timeout=0.05) as cache:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM entries").fetchone()
        with pytest.raises(sqlite3.OperationalError, match="the log is full"):
            _store(cache, 400)
        stored = len(cache)

        assert (5 < stored < 100, volume(directory) < limit, describes("0", cache.get("0"))) == (True, True, True)

        reader.execute("COMMIT")
        cache.set("key", "text")
        assert cache.get("key") == "text"


def _store(cache, entries):
    for number in range(entries):
        cache.set(f"new {number}", "x" * 5_000)


@pytest.mark.fault("A10")
@pytest.mark.parametrize("lost", ["file", "log", "logs", "directory", "replaced", "moved"])
def test_what_is_lost_under_a_live_cache_is_begun_again(directory, tmp_path, tried, lost):
    """Whatever is removed or replaced between two calls, none raises, and caching resumes at once."""
    _fill(tmp_path / "other", 1)
    with DiskCache(directory) as cache, ThreadPoolExecutor(3) as pool:
        for number in range(3 * tried(20)):
            list(pool.map(lambda thread, number=number: cache.set(f"{thread} {number}", "text"), range(3)))
            if number % 3 == 0:
                _lose(lost, directory, tmp_path)
            list(pool.map(lambda thread, number=number: cache.get(f"{thread} {number}"), range(3)))
            cache.set("key", str(number))

            assert cache.get("key") == str(number)
            assert (directory / "cache.sqlite3").exists()

    assert check(directory) == SOUND
    assert set_aside(directory) == []


def _lose(lost, directory, tmp_path):
    match lost:
        case "directory":
            shutil.rmtree(directory)
        case "moved":
            directory.rename(tmp_path / f"away {time.time_ns()}")
        case "replaced":
            shutil.copy(tmp_path / "other" / "cache.sqlite3", directory / "new")
            (directory / "new").rename(directory / "cache.sqlite3")
            for log in ("-wal", "-shm"):
                (directory / f"cache.sqlite3{log}").unlink()
        case _:
            for suffix in {"file": ["", "-wal", "-shm"], "log": ["-wal"], "logs": ["-wal", "-shm"]}[lost]:
                (directory / f"cache.sqlite3{suffix}").unlink()


@pytest.mark.fault("A10")
def test_a_log_without_its_file_is_not_replayed(directory):
    """Where a killed writer's file was removed but not its log, a new cache begins empty and sound."""

    def write():
        cache = DiskCache(directory)
        _store(cache, 50)
        cache.clear()  # brings the log into the file: what follows makes sense only together with it
        _store(cache, 50)
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(write) == -signal.SIGKILL
    assert (directory / "cache.sqlite3-wal").stat().st_size > 0
    (directory / "cache.sqlite3").unlink()

    with DiskCache(directory) as cache:
        assert (len(cache), cache.get("new 1")) == (0, None)
    assert check(directory) == SOUND


@pytest.mark.fault("A10")
def test_hits_alone_notice_a_lost_file(directory):
    """A process that only reads goes over to the new file within 64 hits."""
    with DiskCache(directory) as cache:
        cache.set("key", "old")
        shutil.rmtree(directory)
        assert in_child(lambda: DiskCache(directory).set("key", "new") is None) == 0

        assert [cache.get("key") for _ in range(65)][-1] == "new"


@pytest.mark.fault("A11")
def test_a_file_of_a_later_release_is_left_alone(directory):
    """What a later release wrote is neither read, nor changed, nor moved: the error says what to do."""
    _fill(directory, 1)
    file = directory / "cache.sqlite3"
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA user_version = 99")
    before = file.read_bytes()
    with DiskCache(directory) as cache:
        for use in (lambda: cache.get("0"), lambda: cache.set("0", "text")):
            with pytest.raises(sqlite3.NotSupportedError, match=r"format 99.*upgrade"):
                use()

    assert (file.read_bytes() == before, set_aside(directory)) == (True, [])


@pytest.mark.fault("A11")
def test_a_later_release_may_come_while_a_cache_is_open(directory):
    """From then on the file is let alone, without a restart."""
    with DiskCache(directory) as cache:
        cache.set("key", "text")
        shutil.rmtree(directory)
        _fill(directory, 1)
        with closing(sqlite3.connect(directory / "cache.sqlite3")) as db:
            db.execute("PRAGMA user_version = 99")
        before = (directory / "cache.sqlite3").read_bytes()
        with pytest.raises(sqlite3.NotSupportedError, match="format 99"):
            cache.set("key", "new")

    assert (directory / "cache.sqlite3").read_bytes() == before
    assert sorted(path.name for path in directory.iterdir()) == [".gitignore", "cache.sqlite3"]


@pytest.mark.fault("A11")
def test_a_file_of_the_first_day_is_read(directory):
    """What was written when the format was new is found by every release that says it has that format."""
    directory.mkdir(0o700)
    with closing(sqlite3.connect(directory / "cache.sqlite3")) as db:
        db.executescript(Path(__file__).with_name("golden").joinpath("cache_format_1.sql").read_text())
    (directory / "cache.sqlite3").chmod(0o600)
    with DiskCache(directory) as cache:
        (key,) = cache
        entry = unseal(cache.get(key), key)

    assert entry is not None
    assert (entry.tape, entry.model) == (('{"said": "yesterday", "more": ""}',), "m")


@pytest.mark.fault("A11")
def test_the_directory_of_the_old_library_is_shared_in_peace(directory):
    """What the library `diskcache` keeps there, as its files look, stays as it is, damaged or not."""
    directory.mkdir(0o700)
    theirs = {"cache.db": b"theirs", "cache.db-wal": b"log", "cache.db-shm": b"shared", "3f/a1/0.val": b"a value"}
    for name, data in theirs.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)

    _fill(directory, 1)
    (directory / "cache.sqlite3").write_bytes(b"damage" * 1000)
    with DiskCache(directory) as cache:
        with pytest.warns(CacheWarning):
            cache.set("key", "text")
        cache.clear()
        cache.prune()

    assert {name: (directory / name).read_bytes() for name in theirs} == theirs


@pytest.mark.fault("A11")
def test_the_old_library_goes_on_beside_us(directory):
    """The library itself, where it is installed, still finds what it kept."""
    theirs = pytest.importorskip("diskcache", reason="the library diskcache is not installed").Cache(str(directory))
    theirs.set("small", "text")
    theirs.set("large", "x" * 100_000)
    directory.chmod(0o700)

    _fill(directory, 10)

    assert [theirs.get("small"), theirs.get("large"), len(theirs)] == ["text", "x" * 100_000, 2]
    theirs.close()


# Concurrency and forks: the rows B


@pytest.mark.fault("B1")
def test_processes_and_threads_mixed(directory, tried):
    """4 processes of 4 threads read, store and delete 37 keys: every text read is whole, the file sound."""
    children = [fork(lambda n=n: _mix(directory, n)) for n in range(4)]
    tried(4 * 4 * 250)

    assert [wait_for(pid) for pid in children] == [0] * 4
    assert check(directory) == SOUND


def _mix(directory, process):
    cache = DiskCache(directory, size_limit=2**20, timeout=10)
    with ThreadPoolExecutor(4) as pool:
        return not any(pool.map(lambda thread: _torn(cache, chance(process * 4 + thread)), range(4)))


def _torn(cache, dice):
    torn = 0
    for _ in range(250):
        key = str(dice.randrange(37))
        match dice.randrange(4):
            case 0:
                cache.set(key, describe(key, "x" * dice.randrange(10, 40_000)))
            case 1 if dice.random() < 0.3:
                cache.delete(key)
            case _:
                found = cache.get(key)
                torn += found is not None and not describes(key, found)
    return torn


@pytest.mark.fault("B2")
def test_forks_while_threads_are_at_work(directory, tried):
    """200 children of a process whose threads are inside SQLite read and store; parent and file stay sound."""
    stop, failures = threading.Event(), []
    cache = DiskCache(directory, timeout=2)
    threads = [threading.Thread(target=_spin, args=(cache, stop, failures, n)) for n in range(3)]
    for thread in threads:
        thread.start()
    try:
        statuses = [in_child(lambda n=n: _get_and_set(cache, f"child {n}"), seconds=2) for n in range(tried(200))]
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    assert (statuses, failures) == ([0] * 200, [])
    assert [n for n in range(200) if not describes(f"child {n}", cache.get(f"child {n}"))] == []
    cache.close()
    assert check(directory) == SOUND


def _spin(cache, stop, failures, n):
    key = f"thread {n}"
    while not stop.is_set():
        try:
            if not _get_and_set(cache, key):
                failures.append(key)
        except Exception as error:  # noqa: BLE001, PERF203 - whatever it is, the test shows it
            failures.append(repr(error))


def _get_and_set(cache, key):
    cache.get("thread 0")
    cache.set(key, describe(key))
    return describes(key, cache.get(key))


@pytest.mark.fault("B2")
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to see open files")
def test_a_child_inherits_no_open_file(directory, tried):
    """SQLite would believe that the child holds the locks that came with its parent's files."""
    stop, failures = threading.Event(), []
    cache = DiskCache(directory, timeout=2)
    threads = [threading.Thread(target=_spin, args=(cache, stop, failures, n)) for n in range(3)]
    for thread in threads:
        thread.start()
    try:
        statuses = [in_child(_nothing_open) for _ in range(tried(30))]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    cache.close()

    assert (statuses, failures) == ([0] * 30, [])


def _nothing_open():
    links = list(Path("/proc/self/fd").iterdir())
    return not any("cache.sqlite3" in str(link.readlink()) for link in links if link.is_symlink())


@pytest.mark.fault("B3")
def test_a_cache_opened_before_the_workers_start(directory):
    """What each of four children of a preloaded parent stores is seen by all of them, and by the parent."""
    with DiskCache(directory, timeout=5) as cache:
        cache.set("parent", "text")
        assert [in_child(lambda n=n: cache.set(f"child {n}", "text") is None) for n in range(4)] == [0] * 4
        every = ["parent", *(f"child {n}" for n in range(4))]

        assert [in_child(lambda: [cache.get(key) for key in every] == ["text"] * 5) for _ in range(4)] == [0] * 4
        assert [cache.get(key) for key in every] == ["text"] * 5


@pytest.mark.fault("B3")
def test_a_child_outlives_its_parents_use(directory):
    """A child that goes on writing after the parent closed, as the last to close folds the log, loses nothing."""
    go, tell = os.pipe()
    cache = DiskCache(directory)
    cache.set("parent", "text")

    def write_later():
        cache.set("before", "text")
        os.read(go, 1)
        cache.set("after", "text")
        return [cache.get(key) for key in ("parent", "before", "after")] == ["text"] * 3

    pid = fork(write_later)
    while cache.get("before") is None:
        time.sleep(0.001)
    cache.close()
    os.write(tell, b".")

    assert wait_for(pid) == 0
    assert [cache.get(key) for key in ("parent", "before", "after")] == ["text"] * 3
    cache.close()
    assert check(directory) == SOUND


# Confidentiality: the rows H


@pytest.mark.fault("H1")
@pytest.mark.parametrize("mask", [0o022, 0o000, 0o077])
def test_nobody_else_may_look(directory, mask):
    """Directory 0700 and every file 0600 whatever the umask, while in use, after clearing, and when set aside."""

    def use():
        os.umask(mask)
        seen = set()
        with DiskCache(directory) as cache:
            for change in (lambda: cache.set("key", "text"), cache.clear, lambda: cache.set("key", "text")):
                change()
                seen |= _modes(directory)
        (directory / "cache.sqlite3").write_bytes(b"damage" * 1000)
        with DiskCache(directory) as cache:
            with pytest.warns(CacheWarning):
                cache.set("key", "text")
            seen |= _modes(directory)
        return seen == {0o700, 0o600} and len(set_aside(directory)) == 1

    assert in_child(use) == 0


def _modes(directory):
    return {path.stat().st_mode & 0o7777 for path in (directory, *directory.iterdir())}


@pytest.mark.fault("H1")
def test_what_others_could_enter_is_made_private(directory):
    """An existing directory of mode 0777 is closed to others with a warning, and so are its files."""
    _fill(directory, 1)
    directory.chmod(0o777)
    (directory / "cache.sqlite3").chmod(0o666)

    with DiskCache(directory) as cache:
        with pytest.warns(CacheWarning, match="Others could enter"):
            found = cache.get("0")

        assert (describes("0", found), _modes(directory)) == (True, {0o700, 0o600})


@pytest.mark.fault("H1")
def test_a_link_is_not_followed(directory, tmp_path):
    """A directory or file that is a link may have been put there by others: it is refused, its target unharmed."""
    (tmp_path / "elsewhere").mkdir(0o755)
    directory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="no link"):
        DiskCache(directory).get("key")
    directory.unlink()
    directory.mkdir(0o700)
    (tmp_path / "precious").write_text("precious")
    (directory / "cache.sqlite3").symlink_to(tmp_path / "precious")
    with pytest.raises(PermissionError, match="not a file of this user's own"):
        DiskCache(directory).set("key", "text")

    assert ((tmp_path / "precious").read_text(), list((tmp_path / "elsewhere").iterdir())) == ("precious", [])


@pytest.mark.fault("H1")
@as_root
@pytest.mark.parametrize("name", ["", "cache.sqlite3", "cache.sqlite3-wal"])
def test_what_belongs_to_others_is_refused(directory, name):
    """A directory, file or log of another user's is neither read nor written."""
    _fill(directory, 1)
    (directory / "cache.sqlite3-wal").touch()
    os.chown(directory / name, NOBODY, NOBODY)

    for use in (lambda cache: cache.get("0"), lambda cache: cache.set("0", "text")):
        with pytest.raises(PermissionError, match=r"another user's|not a file of this user's own"):
            use(DiskCache(directory))


@pytest.mark.fault("H1")
def test_a_directory_that_all_share_is_refused(directory):
    """One like /tmp is not made private under everybody's feet."""
    directory.mkdir()
    directory.chmod(0o1777)

    with pytest.raises(PermissionError, match="not one like /tmp"):
        DiskCache(directory).get("key")

    assert _modes(directory) == {0o1777}


@pytest.mark.fault("H2")
def test_a_planted_row_is_only_text(directory, tmp_path):
    """Whatever a row holds, it is handed out as text or not at all: nothing in it is run."""
    _fill(directory, 2)
    with closing(sqlite3.connect(directory / "cache.sqlite3", isolation_level=None)) as db:
        planted = b"cposix\nsystem\n(S'touch " + os.fsencode(tmp_path / "canary") + b"'\ntR."
        db.execute("UPDATE entries SET value = ?", [planted])
    with DiskCache(directory) as cache:
        assert [cache.get("0"), cache.get("1")] == [planted.decode()] * 2

    assert not (tmp_path / "canary").exists()
