"""DiskCache keeps the contract, and keeps entries exactly as long and as many as it promises."""

import subprocess
import sys
import tempfile
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from cache_tools import Clock, chance, describe, volume
from hypothesis import given, settings
from hypothesis import strategies as st

from instructor.cache.disk import DiskCache
from instructor.testing import CacheContract


class TestDiskCache(CacheContract):
    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path):
        self.directory = tmp_path / "cache"

    def make_cache(self):
        return DiskCache(self.directory)


@pytest.fixture
def directory(tmp_path):
    """Where a cache may be made."""
    return tmp_path / "cache"


def test_making_a_cache_touches_nothing(directory):
    """A `DiskCache()` on a full or read-only disk does not raise: the directory is made when it is needed."""
    DiskCache(directory).close()

    assert not directory.exists()


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_limit_must_be_above_zero(size):
    """A cache for nothing is a mistake, and the message shows the value."""
    with pytest.raises(ValueError, match=f"^size_limit must be > 0, got {size}$"):
        DiskCache(size_limit=size)


@pytest.mark.parametrize("size", [True, 1.5, "3", None])
def test_a_size_limit_must_be_a_whole_number(size):
    """Nothing that merely resembles a number is taken for one."""
    with pytest.raises(TypeError, match=r"^size_limit must be a whole number"):
        DiskCache(size_limit=size)


@pytest.mark.parametrize("value", [5, b"text", None, ["text"]])
def test_only_text_is_kept(directory, value):
    """What is not text is refused rather than turned into it."""
    with DiskCache(directory) as cache, pytest.raises(TypeError, match="a DiskCache keeps str, got "):
        cache.set("key", value)


@settings(max_examples=60, deadline=None)
@given(key=st.text(st.characters()), text=st.text(st.characters()))
def test_any_text_under_any_key_comes_back(key, text):
    """Text is kept exactly, be it empty, or with lone surrogates and NULs, and so are keys."""
    with tempfile.TemporaryDirectory() as directory, DiskCache(Path(directory, "cache")) as cache:
        cache.set(key, text)

        assert cache.get(key) == text


def test_lone_surrogates_come_back(directory):
    """Half a character, as JavaScript sends it, is text too."""
    with DiskCache(directory) as cache:
        cache.set("\udc00", "\ud800\x00\udfff")

        assert cache.get("\udc00") == "\ud800\x00\udfff"


def test_another_process_finds_what_was_stored(directory):
    """The answers of one run are there in the next."""
    with DiskCache(directory) as cache:
        cache.set("key", "text")
    script = f"from instructor.cache.disk import DiskCache; print(DiskCache({str(directory)!r}).get('key'))"

    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert run.stdout == "text\n"


def test_two_caches_on_one_directory_are_one(directory):
    """Objects, threads and processes that name the same directory share it while they live."""
    one, other = DiskCache(directory), DiskCache(directory)
    one.set("key", "text")
    other.set("key", "other")

    assert [one.get("key"), other.delete("key"), one.get("key")] == ["other", True, None]
    one.close()
    other.close()


def test_the_directory_is_the_one_of_the_start(directory, monkeypatch, tmp_path):
    """A relative directory does not move with the process."""
    monkeypatch.chdir(tmp_path)
    cache = DiskCache("cache")
    monkeypatch.chdir("/")

    cache.set("key", "text")

    assert (directory / "cache.sqlite3").exists()
    cache.close()


def test_names_that_mean_something_in_an_address(tmp_path):
    """A directory may have any name."""
    with DiskCache(tmp_path / "100% #1? ü&mode=ro") as cache:
        cache.set("key", "text")

        assert cache.get("key") == "text"


def test_git_does_not_see_it(directory):
    """A new cache directory hides itself from version control."""
    with DiskCache(directory) as cache:
        cache.set("key", "text")

    assert (directory / ".gitignore").read_text() == "*\n"


def test_a_closed_cache_opens_again(directory):
    """`close` lets go of the file; it is no end."""
    cache = DiskCache(directory)
    cache.set("key", "text")
    cache.close()
    left = sorted(path.name for path in directory.iterdir())

    assert (left, cache.get("key")) == ([".gitignore", "cache.sqlite3"], "text")
    cache.close()


def test_len_and_in_count_what_is_alive(directory):
    """Expired entries are neither counted nor in, even while they still take space."""
    clock = Clock()
    with DiskCache(directory, clock=clock) as cache:
        cache.set("stays", "text")
        cache.set("goes", "text", 5)
        before = (len(cache), "stays" in cache, "goes" in cache, "absent" in cache, 5 in cache)
        clock.now += 10

        after = (len(cache), "stays" in cache, "goes" in cache, bool(cache))

    assert before == (2, True, True, False, False)
    assert after == (1, True, False, True)


def test_delete_says_whether_there_was_anything(directory):
    """`delete` is true once, and never for what is expired."""
    clock = Clock()
    with DiskCache(directory, clock=clock) as cache:
        cache.set("key", "text")
        cache.set("old", "text", 5)
        clock.now += 10

        assert [cache.delete("key"), cache.delete("key"), cache.delete("old")] == [True, False, False]


def test_clear_gives_the_space_back(directory):
    """After `clear` nothing is left, neither entries nor bytes."""
    with DiskCache(directory) as cache:
        empty = cache.get("key") or volume(directory)
        for number in range(200):
            cache.set(str(number), "x" * 20_000)
        full = volume(directory)
        cache.clear()

        assert (len(cache), full > 4_000_000, volume(directory) <= empty + 2**16) == (0, True, True)


@pytest.mark.fault("C1")
@pytest.mark.parametrize(
    ("ttl", "after", "expected"),
    [
        (None, 1e9, "text"),
        (60, 59.9, "text"),
        (60, 60, None),
        (0.05, 0.04, "text"),
        (0.05, 0.06, None),
        (1.5, 1.4, "text"),
        (1.5, 1.6, None),
        (1e12, 1e11, "text"),
        (timedelta(minutes=1), 59, "text"),
        (timedelta(minutes=1), 61, None),
        (0, 0, None),
        (-5, 0, None),
    ],
)
def test_time_to_live(directory, ttl, after, expected):
    """Fractions count, zero or less is not stored, None is for ever."""
    clock = Clock()
    with DiskCache(directory, clock=clock) as cache:
        cache.set("key", "text", ttl)

        clock.now += after

        assert cache.get("key") == expected


@pytest.mark.fault("C1")
@pytest.mark.parametrize("ttl", [True, "60", float("nan"), float("inf"), float("-inf")])
def test_a_time_to_live_without_meaning_is_refused(directory, ttl):
    """What cannot be seconds is an error, at once for a default, and nothing is stored."""
    with pytest.raises(ValueError, match="ttl must be a finite number of seconds"):
        DiskCache(directory, ttl=ttl)
    with DiskCache(directory) as cache:
        with pytest.raises(ValueError, match="ttl must be a finite number of seconds"):
            cache.set("key", "text", ttl)

        assert len(cache) == 0


def test_the_default_time_to_live(directory):
    """`ttl=` of the cache is for entries that name none."""
    clock = Clock()
    with DiskCache(directory, ttl=10, clock=clock) as cache:
        cache.set("default", "text")
        cache.set("own", "text", 60)
        clock.now += 20

        assert [cache.get("default"), cache.get("own")] == [None, "text"]


def test_an_entry_out_of_time_replaces_what_was_there(directory):
    """`set` supersedes even when there is nothing to keep: the old text is not served."""
    with DiskCache(directory) as cache:
        cache.set("key", "old")

        cache.set("key", "new", 0)

        assert cache.get("key") is None


@pytest.mark.fault("C3")
def test_a_clock_put_forward_expires(directory):
    """An hour forward is an hour passed."""
    clock = Clock()
    with DiskCache(directory, clock=clock) as cache:
        cache.set("short", "text", 60)
        cache.set("long", "text", 7200)

        clock.now += 3600

        assert [cache.get("short"), cache.get("long")] == [None, "text"]


@pytest.mark.fault("C3")
@pytest.mark.parametrize("seen_by", ["a read", "a write"])
def test_a_clock_set_back_resurrects_nothing(directory, seen_by):
    """What was seen to be expired stays so."""
    clock = Clock()
    with DiskCache(directory, clock=clock) as cache:
        cache.set("key", "text", 60)
        clock.now += 61
        cache.get("key") if seen_by == "a read" else cache.set("other", "text")

        clock.now -= 86_400

        assert cache.get("key") is None


@pytest.mark.fault("C3")
def test_a_clock_set_back_resurrects_nothing_for_those_who_open_later(directory):
    """The latest time at which anybody wrote is known to whoever opens the cache."""
    clock = Clock()
    with DiskCache(directory, clock=clock) as cache:
        cache.set("long", "text", 3600)
        clock.now += 1000
        cache.set("short", "text", 60)
    clock.now -= 86_400
    with DiskCache(directory, clock=clock) as cache:
        assert cache.get("short") == "text"
        clock.now += 61
        soon = [cache.get("long"), cache.get("short")]
        clock.now += 2600

        assert (soon, cache.get("long")) == (["text", None], None)


@pytest.mark.fault("C3")
def test_time_goes_on_after_a_clock_was_set_back(directory):
    """An entry lives as long as it was given, counted from where the clock was set back."""
    clock = Clock()
    with DiskCache(directory, clock=clock) as cache:
        cache.set("before", "text", 60)
        clock.now -= 86_400
        cache.set("after", "text", 60)

        clock.now += 59
        alive = [cache.get("before"), cache.get("after")]
        clock.now += 2
        dead = [cache.get("before"), cache.get("after")]

    assert (alive, dead) == (["text", "text"], [None, None])


@pytest.mark.fault("C5")
def test_the_limit_holds_at_every_moment(directory, tried):
    """400 texts of 20 KB into 2 MB: never more than 2 MB, the newest always there, the rest by last use."""
    limit, dice, model = 2 * 2**20, chance(5), OrderedDict()
    with DiskCache(directory, size_limit=limit) as cache:
        for number in range(tried(400)):
            key = str(number)
            cache.set(key, describe(key, "x" * 20_000))
            model[key] = None
            _forget_what_is_gone(model, cache)
            for old in dice.sample(list(model), min(3, len(model))):
                assert cache.get(old) == describe(old, "x" * 20_000)
                model.move_to_end(old)

            assert volume(directory) <= limit

        assert len(model) >= 70, "most of the limit is for texts"


def _forget_what_is_gone(model, cache):
    """Assert that what is gone from the cache is what was used longest ago, and drop it from the model."""
    kept = [key for key in model if key in cache]
    assert kept == list(model)[len(model) - len(kept) :]
    assert kept[-1:] == list(model)[-1:], "what was stored last is there"
    while len(model) > len(kept):
        model.popitem(last=False)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("get"), st.integers(0, 40)),
        st.tuples(st.just("set"), st.integers(0, 40), st.sampled_from([10, 700, 5_000, 20_000, 90_000])),
        st.tuples(st.just("set"), st.integers(0, 40), st.sampled_from([10, 700, 5_000, 20_000, 90_000])),
        st.tuples(st.just("delete"), st.integers(0, 40)),
        st.tuples(st.just("reopen")),
    ),
    min_size=100,
    max_size=150,
)


@pytest.mark.fault("C5")
def test_forgetting_is_exactly_least_recently_used(tried):
    """After each step of any history of texts of many sizes, those that are left are those used last, in the limit."""
    limit, taken, wanted = 2**20, [], tried(4_000, full=10_000)

    @settings(max_examples=wanted // 100, deadline=None)
    @given(steps=steps)
    def follow(steps):
        model = OrderedDict()
        with tempfile.TemporaryDirectory() as temporary:
            directory = Path(temporary, "cache")
            cache = DiskCache(directory, size_limit=limit)
            for name, *arguments in steps:
                cache = _step(name, arguments, cache, model, directory, limit)
                taken.append(name)

                assert volume(directory) <= limit
            cache.close()

    follow()

    assert len(taken) >= wanted


def _step(name, arguments, cache, model, directory, limit):
    key = str(arguments[0]) if arguments else ""
    if name == "reopen":
        cache.close()
        return DiskCache(directory, size_limit=limit)
    if name == "delete":
        assert cache.delete(key) == (model.pop(key, None) is not None)
    elif name == "get":
        assert cache.get(key) == model.get(key)
        if key in model:
            model.move_to_end(key)
    else:
        model.pop(key, None)
        model[key] = describe(key, "x" * arguments[1])
        cache.set(key, model[key])
        _forget_what_is_gone(model, cache)
    return cache


@pytest.mark.fault("C6")
@pytest.mark.parametrize("size", [5 * 2**20, 100 * 2**20])
def test_a_text_larger_than_the_limit_evicts_nothing(directory, size):
    """A text that cannot be kept costs no other its place, and what it replaces is gone."""
    with DiskCache(directory, size_limit=2 * 2**20) as cache:
        for number in range(20):
            cache.set(str(number), "x" * 20_000)

        cache.set("0", "x" * size)

        assert (len(cache), cache.get("0"), cache.get("1")) == (19, None, "x" * 20_000)


def test_a_text_of_half_the_limit_fits(directory):
    """Large texts are kept while the limit allows, at the cost of those used longest ago."""
    limit = 2 * 2**20
    with DiskCache(directory, size_limit=limit) as cache:
        for number in range(90):
            cache.set(str(number), "x" * 20_000)

        cache.set("large", "y" * (limit // 2))

        assert cache.get("large") == "y" * (limit // 2)
        assert volume(directory) <= limit
        assert "89" in cache


def test_expired_entries_make_room_first(directory):
    """An expired entry goes before one that is older and alive."""
    clock = Clock()
    with DiskCache(directory, size_limit=2**20, clock=clock) as cache:
        cache.set("old", "x" * 20_000)
        for number in range(30):
            cache.set(f"short {number}", "x" * 20_000, ttl=10)
        clock.now += 20
        for number in range(25):
            cache.set(f"new {number}", "x" * 20_000)

        assert (cache.get("old"), len(cache)) == ("x" * 20_000, 26)


def test_a_lowered_limit_is_reached(directory):
    """A cache made under a higher limit shrinks to the one it is opened with."""
    with DiskCache(directory) as cache:
        for number in range(300):
            cache.set(str(number), "x" * 20_000)
    with DiskCache(directory, size_limit=2 * 2**20) as cache:
        for number in range(300, 320):
            cache.set(str(number), "x" * 20_000)

        assert volume(directory) <= 2 * 2**20
        assert [str(number) in cache for number in (0, 250, 319)] == [False, True, True]


def test_a_tiny_limit_keeps_nothing_and_raises_nothing(directory):
    """A limit below what an empty cache takes is no error."""
    with DiskCache(directory, size_limit=1) as cache:
        cache.set("key", "text")

        assert cache.get("key") is None


def test_reading_writes_nothing(directory):
    """A hit changes no file: what was used is noted by the next write, or on closing."""
    cache = DiskCache(directory)
    cache.set("key", "text")
    before = _contents(directory)

    for _ in range(200):
        cache.get("key")

    assert _contents(directory) == before
    cache.close()


def _contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir() if not path.name.endswith("-shm")}


def test_what_was_read_is_noted_on_closing(directory):
    """A run of hits alone counts as use for the next run."""
    with DiskCache(directory, size_limit=2**20) as cache:
        for number in range(30):
            cache.set(str(number), "x" * 20_000)
    with DiskCache(directory, size_limit=2**20) as cache:
        cache.get("0")
    with DiskCache(directory, size_limit=2**20) as cache:
        for number in range(30, 60):
            cache.set(str(number), "x" * 20_000)

        assert ["0" in cache, "1" in cache] == [True, False]


def test_more_reads_than_are_remembered(directory):
    """Between two writes the last 8192 reads are remembered, and the memory they take is bounded."""
    with DiskCache(directory, size_limit=2**20) as cache:
        for number in range(30):
            cache.set(str(number), "x" * 20_000)
        cache.get("0")
        for _ in range(8191):
            cache.get("1")
        cache.get("2")
        for number in range(30, 56):
            cache.set(str(number), "x" * 20_000)

        assert ["0" in cache, "1" in cache, "2" in cache] == [False, True, True]


def test_threads_come_and_go(directory):
    """Threads that end leave no connection behind, and the files they opened are used by those that follow."""
    with DiskCache(directory) as cache:
        cache.set("key", "text")
        for _ in range(5):
            with ThreadPoolExecutor(8) as pool:
                assert list(pool.map(cache.get, ["key"] * 40)) == ["text"] * 40

        # SQLite keeps the descriptors of closed connections for the next: closing one would drop the locks of all.
        assert sum(f"{directory}/cache.sqlite3" in link for link in _open_files()) <= 9 + len(["-wal", "-shm"])


def _open_files():
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc to count open files")
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that reads this directory is gone already
            yield str(link.readlink())
