"""AutoCache keeps the contract, and forgets in the order and at the time that it promises."""

import copy
import os
import pickle
import threading
from collections import Counter, OrderedDict

import pytest
from cache_tools import Clock, in_child
from hypothesis import given, settings
from hypothesis import strategies as st

from instructor.cache.memory import AutoCache
from instructor.testing import CacheContract


class TestAutoCache(CacheContract):
    def make_cache(self):
        return AutoCache()


class TestAutoCacheThatHonorsTtl(CacheContract):
    def make_cache(self):
        return AutoCache(honor_ttl=True, maxbytes=2**24)


@pytest.mark.fault("C9")
@pytest.mark.parametrize("name", ["maxsize", "maxbytes"])
@pytest.mark.parametrize("size", [0, -1])
def test_a_size_must_be_above_zero(name, size):
    """A cache for nothing is a mistake, and the message shows the value."""
    with pytest.raises(ValueError, match=f"^{name} must be > 0, got {size}$"):
        AutoCache(**{name: size})


@pytest.mark.fault("C9")
@pytest.mark.parametrize("size", [True, False, 1.5, "3", None])
def test_a_size_must_be_a_whole_number(size):
    """Nothing that merely resembles a number is taken for one."""
    with pytest.raises(TypeError, match=r"^maxsize must be a whole number"):
        AutoCache(maxsize=size)


@pytest.mark.fault("C9")
@pytest.mark.parametrize("size", [True, 1.5, "3"])
def test_a_size_in_bytes_must_be_a_whole_number(size):
    """`maxbytes` follows the rule of `maxsize`, but may be None."""
    with pytest.raises(TypeError, match=r"^maxbytes must be a whole number"):
        AutoCache(maxbytes=size)


def test_the_least_recently_used_is_forgotten_first():
    """Reading and writing both count as use."""
    cache = AutoCache(3)
    for key in "abc":
        cache.set(key, key)
    cache.get("a")
    cache.set("b", "again")

    cache.set("d", "d")

    assert [key for key in "abcd" if key in cache] == ["a", "b", "d"]


def test_time_to_live_is_ignored_unless_honored():
    """As upstream documents it, AutoCache keeps entries whatever their `ttl`, even one that has no meaning."""
    clock = Clock()
    cache = AutoCache(clock=clock)
    for number, ttl in enumerate([1, 0, -5, "60", float("nan")]):
        cache.set(str(number), "text", ttl)

    clock.now += 10**9

    assert [cache.get(str(number)) for number in range(5)] == ["text"] * 5


@pytest.mark.fault("C1")
@pytest.mark.parametrize(
    ("ttl", "after", "expected"),
    [
        (None, 1e15, "text"),
        (60, 59.9, "text"),
        (60, 60, None),
        (0.05, 0.04, "text"),
        (0.05, 0.06, None),
        (1.5, 1.4, "text"),
        (1e12, 1e11, "text"),
        (0, 0, None),
        (-5, 0, None),
    ],
)
def test_time_to_live_when_honored(ttl, after, expected):
    """Fractions count, zero or less is not stored, None is for ever."""
    clock = Clock()
    cache = AutoCache(honor_ttl=True, clock=clock)
    cache.set("key", "text", ttl)

    clock.now += after

    assert ("key" in cache, cache.get("key"), len(cache)) == (expected is not None, expected, int(expected is not None))


@pytest.mark.fault("C1")
@pytest.mark.parametrize("ttl", [True, "60", float("nan"), float("inf"), float("-inf")])
def test_a_time_to_live_without_meaning_is_refused(ttl):
    """What cannot be seconds is an error, and nothing is stored."""
    cache = AutoCache(honor_ttl=True)

    with pytest.raises(ValueError, match="ttl must be a finite number of seconds"):
        cache.set("key", "text", ttl)

    assert len(cache) == 0


def test_an_entry_out_of_time_replaces_what_was_there():
    """`set` supersedes even when there is nothing to keep: the old text is not served."""
    cache = AutoCache(honor_ttl=True)
    cache.set("key", "old")

    cache.set("key", "new", 0)

    assert cache.get("key") is None


@pytest.mark.fault("C2")
def test_an_expired_entry_makes_room():
    """A read that finds an expired entry drops it, so that it holds no place."""
    clock = Clock()
    cache = AutoCache(honor_ttl=True, maxbytes=10, clock=clock)
    cache.set("short", "12345", 1)
    clock.now += 1.2

    assert cache.get("short") is None

    cache.set("a", "12345")
    cache.set("b", "12345")

    assert [cache.get("a"), cache.get("b")] == ["12345", "12345"]


@pytest.mark.fault("C6")
def test_a_text_larger_than_the_bound_evicts_nothing():
    """One text that cannot be kept costs no other its place."""
    cache = AutoCache(maxbytes=10)
    cache.set("a", "12345")

    cache.set("b", "ä" * 6)

    assert [cache.get("a"), cache.get("b")] == ["12345", None]


def test_bytes_are_those_of_utf8():
    """A text counts as long as it would be in UTF-8, lone surrogates too."""
    cache = AutoCache(maxbytes=12)

    for key in "abc":
        cache.set(key, "€\ud800")  # three bytes each

    assert [key for key in "abc" if key in cache] == ["b", "c"]


def test_only_text_can_be_measured():
    """With `maxbytes` a value must be text; without, any value is kept as upstream does."""
    with pytest.raises(TypeError, match="a cache with maxbytes keeps str, got int"):
        AutoCache(maxbytes=10).set("key", 5)

    cache = AutoCache()
    cache.set("key", 5)
    assert cache.get("key") == 5


def test_delete_says_whether_there_was_anything():
    """`delete` is true once."""
    cache = AutoCache()
    cache.set("key", "text")

    assert [cache.delete("key"), cache.delete("key")] == [True, False]


def test_clear_forgets_everything():
    """After `clear` the whole room is free again."""
    cache = AutoCache(maxbytes=10)
    cache.set("a", "0123456789")

    cache.clear()
    cache.set("b", "0123456789")

    assert (len(cache), cache.get("b")) == (1, "0123456789")


def test_an_empty_cache_is_a_cache():
    """`if cache:` asks whether there is one, not whether it holds anything."""
    assert AutoCache()


@pytest.mark.parametrize("remake", [copy.copy, copy.deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))])  # noqa: S301
def test_a_copy_goes_its_own_way(remake):
    """A copied or pickled cache holds the same entries, and shares none of its future."""
    cache = AutoCache(2, maxbytes=100)
    cache.set("key", "text")

    other = remake(cache)
    other.set("key", "other")
    other.set("more", "text")

    assert (cache.get("key"), other.get("key"), len(cache), len(other)) == ("text", "other", 1, 2)


@pytest.mark.fault("B2")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_fork_waits_until_nobody_is_inside(tried):
    """Children of a process whose threads are inside a cache can use it, and find its entries counted."""
    cache, stop = AutoCache(maxbytes=10), threading.Event()

    def stay_inside():
        while not stop.is_set():
            cache.set("other", "text")

    def sound():
        cache.set("new", "text")
        return (cache.get("new"), cache._bytes) == ("text", sum(map(len, map(cache.get, list(cache._entries)))))

    threads = [threading.Thread(target=stay_inside) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        statuses = [in_child(sound, seconds=2) for _ in range(tried(30, full=200))]
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    assert set(statuses) == {0}


@pytest.mark.fault("B2")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_from_inside_frees_the_lock():
    """A clock may fork, as a signal may while the cache is in use: child and parent go on."""
    statuses = []

    def forks():
        if not statuses:
            statuses.append(None)
            statuses[0] = in_child(lambda: cache.set("child", "text") or cache.get("child") == "text", seconds=2)
        return 0.0

    cache = AutoCache(honor_ttl=True, clock=forks)
    cache.set("key", "text", 60)

    assert (statuses, cache.get("key"), cache.get("child")) == ([0], "text", None)


class Model:
    """What an exact LRU does, in the plainest words."""

    def __init__(self, maxsize, maxbytes):
        self.maxsize, self.maxbytes, self.texts = maxsize, maxbytes, OrderedDict()

    def get(self, key):
        if key in self.texts:
            self.texts.move_to_end(key)
        return self.texts.get(key)

    def set(self, key, text):
        self.texts.pop(key, None)
        if len(text) > self.maxbytes:
            return
        self.texts[key] = text
        while len(self.texts) > self.maxsize or sum(map(len, self.texts.values())) > self.maxbytes:
            self.texts.popitem(last=False)

    def delete(self, key):
        return self.texts.pop(key, None) is not None


steps = st.lists(
    st.one_of(
        st.tuples(st.just("get"), st.integers(0, 9)),
        st.tuples(st.just("set"), st.integers(0, 9), st.integers(0, 60).map("x".__mul__)),
        st.tuples(st.just("delete"), st.integers(0, 9)),
    ),
    min_size=70,
    max_size=100,
)


@pytest.mark.fault("C5")
def test_forgetting_is_exactly_least_recently_used(tried):
    """After each of 10,000 steps, in histories of 70 or more, what is left is what the model has, in its order."""
    taken = Counter()

    @settings(max_examples=150, deadline=None)
    @given(maxsize=st.integers(1, 8), maxbytes=st.integers(1, 200), steps=steps)
    def follow(maxsize, maxbytes, steps):
        cache, model = AutoCache(maxsize, maxbytes=maxbytes), Model(maxsize, maxbytes)
        for name, *arguments in steps:
            taken[name] += 1
            assert getattr(cache, name)(*arguments) == getattr(model, name)(*arguments)
            assert list(cache._entries) == list(model.texts)
            assert cache._bytes == sum(map(len, model.texts.values()))

    follow()

    assert taken.total() >= tried(10_000)


def test_a_cache_says_how_many_answers_it_keeps():
    """In logs and warnings, a cache is told from another by what it is."""
    assert "AutoCache(maxsize=7)" == repr(AutoCache(7))
