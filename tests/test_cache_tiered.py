"""TieredCache keeps the contract, fills upward, notices what changes below, and outlives a tier that fails."""

import asyncio
import copy
import datetime as dt
import math
import pickle
import threading

import pytest
from cache_tools import Clock, DictCache
from flavours import ask, openai_client
from hypothesis import given
from hypothesis import strategies as st

from instructor.cache import AutoCache, CacheWarning, DiskCache, SealedCache, TieredCache, stats
from instructor.cache import tiered as module
from instructor.cache.base import BaseCache
from instructor.cache.shelf import shelf_of
from instructor.testing import CacheContract

REMAKES = [copy.copy, copy.deepcopy, lambda cache: pickle.loads(pickle.dumps(cache))]  # noqa: S301 - our own
QUIET = pytest.mark.filterwarnings("ignore::instructor.cache.CacheWarning")


class Counting(DictCache):
    """A tier that counts what it is asked, and fails as long as it is told to."""

    def __init__(self, *, blocking="never"):
        super().__init__()
        self.asked = 0
        self.broken = False
        self.lives = {}
        self.threads = set()
        self.blocking = blocking

    def _turn(self):
        self.threads.add(threading.current_thread())
        if self.broken:
            raise OSError("out of reach")

    def get(self, key):
        self.asked += 1
        self._turn()
        return super().get(key)

    def set(self, key, value, ttl=None):
        self._turn()
        super().set(key, value)
        self.lives[key] = ttl

    def delete(self, key):
        self._turn()
        return self.texts.pop(key, None) is not None

    def clear(self):
        self._turn()
        self.texts.clear()


@pytest.mark.parametrize("given", [(AutoCache(), AutoCache()), ([AutoCache()], AutoCache()), (AutoCache(),), ([],)])
def test_tiers_are_given_in_a_list(given):
    """Whoever gives them otherwise, or none, is told how."""
    with pytest.raises(ValueError, match=r"its tiers in one list: TieredCache\(\[AutoCache\(\), DiskCache\(\)\]\)"):
        TieredCache(*given)


def test_a_layer_imposes_what_its_stores_do_and_what_it_does_itself():
    """Its own word counts, where both have one."""

    class Inner(AutoCache):
        imposes = {"cache_mode": "read", "cache_ttl": 5}  # noqa: RUF012 - as users write it

    class Outer(TieredCache):
        imposes = {"cache_mode": "offline"}  # noqa: RUF012 - as users write it

    assert Outer([AutoCache(), Inner()]).imposes == {"cache_mode": "offline", "cache_ttl": 5}


@pytest.mark.parametrize("make", [lambda inner: TieredCache([inner]), lambda inner: SealedCache(inner, b"s" * 32)])
def test_a_layer_takes_the_times_that_stores_take(make):
    """A `timedelta` is one; what is no time is refused before anything is stored."""
    inner = Counting()
    make(inner).set("key", "text", dt.timedelta(seconds=5))
    with pytest.raises(ValueError, match="ttl must be a finite number"):
        make(inner).set("other", "text", math.nan)

    assert inner.lives == {"key": 5}


class Asynchronous(BaseCache):
    """A tier with coroutines only, as some users write it."""

    def __init__(self):
        self.texts = {}

    async def get(self, key):
        return self.texts.get(key)

    async def set(self, key, value, ttl=None):
        self.texts[key] = value


def two(**kwargs):
    """A tiered cache of two, and both its tiers and its clock."""
    near, far, clock = Counting(), Counting(), Clock()
    return TieredCache([near, far], clock=clock, **kwargs), near, far, clock


class TestMemoryBeforeMemory(CacheContract):
    def make_cache(self):
        return TieredCache([AutoCache(), AutoCache(maxsize=1000)])


class TestMemoryBeforeADisk(CacheContract):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path):
        self.directory = tmp_path / "cache"

    def make_cache(self):
        return TieredCache([AutoCache(), DiskCache(self.directory)])


class TestAnAlwaysDoubtfulCopy(CacheContract):
    def make_cache(self):
        return TieredCache([AutoCache(), DictCache(), AutoCache(maxsize=1000)], freshness=0)

    test_a_deleted_text_is_gone = None  # DictCache has no delete


def test_what_is_found_below_fills_what_is_above():
    """The second look is answered by the first tier."""
    cache, near, far, _ = two()
    far.texts["k"] = "text"

    found = [cache.get("k"), cache.get("k"), cache.get("k")]

    assert ["text"] * 3 == found
    assert {"k": "text"} == near.texts
    assert far.asked == 1


def test_a_middle_tier_fills_the_first():
    """While it is fresh, what the first has forgotten is looked for from the top, and not copied downward."""
    tiers = [Counting(), Counting(), Counting()]
    cache = TieredCache(tiers, clock=Clock())
    cache.set("k", "text")
    tiers[0].texts.clear()

    assert cache.get("k") == "text"
    assert tiers[0].texts == {"k": "text"}
    assert tiers[2].asked == 0


@pytest.mark.parametrize("change", ["deleted", "replaced"])
def test_a_change_below_is_noticed_when_the_copy_is_no_longer_fresh(change):
    """A copy is served for `freshness` seconds and not a moment longer, however often it is read."""
    cache, near, far, clock = two(freshness=10)
    cache.set("k", "old")
    expected = None if change == "deleted" else "new"
    far.texts.clear() if change == "deleted" else far.texts.update(k="new")

    seen = []
    for _ in range(3):
        seen.append(cache.get("k"))
        clock.now += 3.3
    clock.now += 0.2

    assert seen == ["old"] * 3
    assert cache.get("k") == expected
    assert near.texts.get("k") == expected


def test_reading_from_a_middle_tier_makes_nothing_fresher():
    """Only asking the last tier does."""
    tiers, clock = [Counting(), Counting(), Counting()], Clock()
    cache = TieredCache(tiers, freshness=10, clock=clock)
    cache.set("k", "old")
    tiers[2].texts.clear()
    for _ in range(3):
        clock.now += 3
        tiers[0].texts.clear()
        assert cache.get("k") == "old"

    clock.now += 2

    assert cache.get("k") is None
    assert [tier.texts for tier in tiers] == [{}, {}, {}]


def test_a_copy_that_this_cache_knows_nothing_of_is_asked_for_below():
    """What an earlier run left in a near tier may be out of date by any time."""
    cache, near, _, _ = two()
    near.texts["k"] = "left behind"

    assert cache.get("k") is None
    assert near.texts == {}


def test_without_freshness_the_nearest_copy_always_counts():
    """`freshness=None` is for answers that nobody deletes or replaces."""
    cache, near, far, clock = two(freshness=None)
    near.texts["k"] = "copy"
    clock.now += 1e9

    assert cache.get("k") == "copy"
    assert far.asked == 0


def test_without_freshness_a_time_to_live_counts_all_the_same():
    """Even where the near tier ignores it."""
    cache, _, far, clock = two(freshness=None)
    cache.set("k", "text", 10)
    far.texts.clear()

    assert cache.get("k") == "text"
    clock.now += 10
    assert cache.get("k") is None


@pytest.mark.parametrize(("left", "expected"), [(7.5, 8), (math.inf, None), (None, 60)])
def test_a_copy_keeps_the_time_that_its_original_has_left(left, expected):
    """Told by `remaining`, for ever included, in whole seconds; else freshness bounds it."""
    cache, near, far, _ = two()
    far.remaining = lambda key: left
    far.texts["k"] = "text"

    cache.get("k")

    assert near.lives == {"k": expected}


def test_a_tier_that_fails_to_tell_the_time_left_has_still_answered():
    """The text is there, and counts."""
    cache, near, far, _ = two()
    far.remaining = lambda key: 1 / 0
    far.texts["k"] = "text"

    assert cache.get("k") == "text"
    assert near.lives == {"k": 60}


def test_memory_that_ignores_ttl_does_not_outlive_the_disk(tmp_path):
    """An entry with three seconds left is not served from memory after four."""
    clock = Clock()
    with DiskCache(tmp_path / "cache", clock=clock) as disk:
        disk.set("k", "text", 3)
        cache = TieredCache([AutoCache(), disk], clock=clock)

        assert cache.get("k") == "text"
        clock.now += 4
        assert cache.get("k") is None


@QUIET
def test_a_tier_that_cannot_be_read_does_not_stop_the_others():
    """An upper hit stays a hit while the last tier is out of reach, which is told once, and asked again in time."""
    cache, _, far, clock = two(freshness=10)
    cache.set("k", "text")
    clock.now += 11
    far.broken = True

    assert [cache.get("k") for _ in range(5)] == ["text"] * 5
    assert far.asked == 1
    assert stats(cache).errors == 1
    assert stats(far).errors == 1


@QUIET
def test_a_failing_first_tier_is_passed_over():
    """The last one answers, and takes what is new."""
    cache, near, _, _ = two()
    near.broken = True

    cache.set("k", "text")
    before = cache.get("k")
    near.broken = False
    cache.get("k")
    near.broken = True

    assert [before, cache.get("k")] == ["text", "text"]
    assert stats(cache).errors > 0


def test_the_warning_names_the_tier_that_failed():
    """Whoever reads it knows where to look."""
    cache, _, far, _ = two()
    far.broken = True

    with pytest.warns(CacheWarning, match=r"Counting object .* failed while storing an answer: OSError"):
        cache.set("k", "text")


def test_storing_fails_only_where_no_tier_stores():
    """And then it raises, as any cache does."""
    cache, near, far, _ = two()
    near.broken = far.broken = True

    with pytest.raises(OSError, match="out of reach"):
        cache.set("k", "text")


@QUIET
def test_what_could_not_be_replaced_above_does_not_hide_what_is_new_below():
    """A near tier that failed to store may still hold something older."""
    cache, near, _, _ = two()
    cache.set("k", "old")
    near.broken = True
    cache.set("k", "new")
    near.broken = False

    assert cache.get("k") == "new"


def test_deleting_and_clearing_reach_every_tier():
    """Whether there was anything is told of all of them."""
    cache, near, far, _ = two()
    cache.set("a", "1")
    cache.set("b", "2")
    del near.texts["a"]

    assert [cache.delete("a"), cache.delete("a")] == [True, False]
    assert near.texts == far.texts == {"b": "2"}
    cache.clear()
    assert near.texts == far.texts == {}


def test_deleting_goes_on_where_a_tier_fails_and_says_so():
    """An entry that may still be there is no success."""
    cache, near, far, _ = two()
    cache.set("k", "text")
    far.broken = True

    with pytest.raises(OSError, match="out of reach"):
        cache.delete("k")
    assert near.texts == {}


def test_iterating_gives_every_key_once():
    """Of whichever tier."""
    memory, disk = AutoCache(), AutoCache()
    cache = TieredCache([memory, disk])
    cache.set("a", "1")
    memory.set("b", "2")
    disk.set("c", "3")

    assert sorted(cache) == ["a", "b", "c"]
    assert [key in cache for key in "abcd"] == [True, True, True, False]


@pytest.mark.parametrize(
    ("blocking", "expected"),
    [(("never", "never"), "never"), (("never", "writes"), "writes"), (("always", "never"), "always")],
)
def test_it_blocks_as_long_as_its_slowest_tier(blocking, expected):
    """And takes fractions of seconds where all do."""
    cache = TieredCache([Counting(blocking=each) for each in blocking])

    assert cache.blocking == expected
    assert not cache.fractional_ttl
    assert TieredCache([AutoCache(), AutoCache()]).fractional_ttl


@pytest.mark.parametrize(("tiers", "error"), [([], ValueError), ([AutoCache(), {}], TypeError)])
def test_what_is_no_tier_is_refused(tiers, error):
    """When the cache is made, not at the first call."""
    with pytest.raises(error):
        TieredCache(tiers)


@pytest.mark.parametrize("freshness", ["60", math.nan, True])
def test_a_freshness_without_meaning_is_refused(freshness):
    """It is seconds, or None."""
    with pytest.raises(ValueError, match=r"^freshness must be"):
        TieredCache([AutoCache()], freshness=freshness)


def test_in_an_event_loop_memory_is_looked_at_in_place_and_what_blocks_in_a_thread():
    """The near tier is only ever asked by the loop's own thread, the far one never."""
    near, far = Counting(), Counting(blocking="always")
    cache = TieredCache([near, far])

    async def work():
        await cache.aset("k", "text")
        near.texts.clear()
        return [await cache.aget("k"), await cache.aget("k"), await cache.aget("nothing")]

    assert asyncio.run(work()) == ["text", "text", None]
    assert near.threads == {threading.current_thread()}
    assert threading.current_thread() not in far.threads


def test_asynchronous_tiers_work_in_an_event_loop():
    """Also those whose `get` is itself a coroutine."""
    far = Asynchronous()
    cache = TieredCache([AutoCache(), far])

    async def work():
        await cache.aset("k", "text")
        far.texts["other"] = "below"
        return [await cache.aget("k"), await cache.aget("other")]

    assert cache.blocking == "always"
    assert asyncio.run(work()) == ["text", "below"]


@pytest.mark.parametrize("use_async", [False, True])
def test_a_client_asks_once_for_both_tiers(provider, tmp_path, use_async):
    """A second process, which has an empty memory, is answered by the disk; after that its own memory answers."""
    provider.say('{"content": "hello"}')
    question = {"messages": [{"role": "user", "content": "hi"}], "response_model": str}

    for _ in range(2):
        near = AutoCache()
        with DiskCache(tmp_path / "cache") as disk:
            cache = TieredCache([near, disk])
            client = openai_client(provider, use_async=use_async, cache=cache)
            assert [ask(client, **question) for _ in range(2)] == ["hello"] * 2
            assert len(near) == 1

    assert provider.calls == 1
    assert stats(cache).hits == 2


@QUIET
def test_a_call_survives_all_tiers_failing(provider):
    """It costs a miss, and is counted."""
    cache, near, far, _ = two()
    near.broken = far.broken = True
    provider.say('{"content": "hello"}')

    answer = openai_client(provider, cache=cache).create(
        messages=[{"role": "user", "content": "hi"}], response_model=str
    )

    assert answer == "hello"
    assert stats(cache).stores == 0
    assert stats(cache).errors > 0


@pytest.mark.parametrize("remake", REMAKES)
def test_a_copy_takes_nothing_for_fresh(remake):
    """Its clock may be another's."""
    cache = TieredCache([AutoCache(), AutoCache()])
    cache.set("k", "text")

    other = remake(cache)

    assert other.get("k") == "text"
    assert not hasattr(other, "_shelf") or other._shelf is not cache._shelf


def test_what_it_knows_of_keys_is_bounded(monkeypatch):
    """Past the bound, what was known longest is asked for again."""
    monkeypatch.setattr(module, "_SEEN", 3)
    cache, _, far, _ = two()
    for key in "abcd":
        cache.set(key, key)

    assert [cache.get(key) for key in "dcba"] == list("dcba")
    assert far.asked == 1


STEPS = st.lists(
    st.tuples(st.sampled_from(["set", "get", "wait", "below", "gone"]), st.sampled_from("ab"), st.integers(0, 9)),
    max_size=40,
)


@given(STEPS)
def test_nothing_older_than_freshness_is_ever_served(steps):
    """Whatever happens below, an answer was the last tier's at some moment of the last ten seconds."""
    cache, _, far, clock = two(freshness=10)
    past = {"a": [(clock.now, None)], "b": [(clock.now, None)]}

    for number, (step, key, seconds) in enumerate(steps):
        if step == "wait":
            clock.now += seconds
        elif step == "get":
            changes = past[key]
            ends = [*(when for when, _ in changes[1:]), math.inf]
            true = [text for (_, text), end in zip(changes, ends, strict=True) if end > clock.now - 10]
            assert cache.get(key) in true
        else:
            text = None if step == "gone" else f"{step} {number}"
            if step == "set":
                cache.set(key, text)
            else:
                far.texts.pop(key, None) if text is None else far.texts.update({key: text})
            past[key].append((clock.now, text))


LAYERED = {
    "tiered": lambda disk: TieredCache([AutoCache(), disk]),
    "signed": lambda disk: SealedCache(disk, signing_key=b"k" * 32),
}


@pytest.mark.parametrize("layered", LAYERED.values(), ids=LAYERED)
def test_what_stands_on_a_store_that_lends_lends_too(tmp_path, layered):
    """One asks, for all processes: a lease is the last store's, and what is stored under it passes all tiers."""
    with DiskCache(tmp_path) as disk:
        cache, other = layered(disk), layered(disk)
        held = cache.lease("k", "me", 5), other.lease("k", "you", 5)
        refused = other.set_leased("k", "text", None, "you")
        stored = cache.set_leased("k", "text", None, "me")

        assert (held, refused, stored, other.get("k")) == ((True, False), False, True, "text")
        assert other.lease("k", "you", 5)
        assert shelf_of(cache).lease("k") is not None
    assert shelf_of(TieredCache([disk, AutoCache()])).lease("k") is None
