"""SealedCache keeps the contract, and takes nothing that it did not seal itself: for this key, and until this time."""

import asyncio
import inspect
import pickle
import string
import subprocess
import sys

import pytest
from cache_tools import Clock, DictCache
from flavours import ask, openai_client
from hypothesis import given, settings
from hypothesis import strategies as st

from instructor.cache import AutoCache, CacheWarning, DiskCache, SealedCache, TieredCache, stats
from instructor.cache.base import BaseCache
from instructor.testing import CacheContract

OLD, NEW = bytes(range(32)), bytes(range(32, 64))
WAYS = pytest.mark.parametrize("way", ["key", "signing_key"])
QUIET = pytest.mark.filterwarnings("ignore::instructor.cache.CacheWarning")
TEXT = '{"name": "Ada"}'


def sealed(way="key", secret=OLD, inner=None, **kwargs):
    """A sealed cache and the dict in which its entries are."""
    inner = DictCache() if inner is None else inner
    return SealedCache(inner, **{way: secret}, **kwargs), inner.texts


class TestSealedInMemory(CacheContract):
    def make_cache(self):
        return SealedCache(AutoCache(), OLD)


class TestSignedInMemory(CacheContract):
    def make_cache(self):
        return SealedCache(AutoCache(), signing_key=OLD)


class TestSealedOnDisk(CacheContract):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path):
        self.directory = tmp_path / "cache"

    def make_cache(self):
        return TieredCache([AutoCache(), SealedCache(DiskCache(self.directory), [NEW, OLD])])


@QUIET
@WAYS
@pytest.mark.fault("H3")
def test_every_flip_of_a_bit_is_a_miss(way):
    """Each of them alone, anywhere in what is stored, is a miss and is counted."""
    cache, texts = sealed(way)
    cache.set("k", TEXT)
    stored = texts["k"].encode()

    found = []
    for bit in range(8 * len(stored)):
        flipped = bytearray(stored)
        flipped[bit // 8] ^= 1 << bit % 8
        texts["k"] = flipped.decode("latin-1")
        found.append(cache.get("k"))

    assert found == [None] * (8 * len(stored))
    assert stats(cache).tampered == len(found)


@QUIET
@WAYS
@pytest.mark.fault("H3")
def test_every_swap_of_two_characters_is_a_miss(way):
    """Unless the two are the same."""
    cache, texts = sealed(way)
    cache.set("k", TEXT)
    stored = texts["k"]
    pairs = [(i, j) for i in range(len(stored)) for j in range(i) if stored[i] != stored[j]]

    for i, j in pairs:
        swapped = list(stored)
        swapped[i], swapped[j] = stored[j], stored[i]
        texts["k"] = "".join(swapped)
        assert cache.get("k") is None

    assert stats(cache).tampered == len(pairs) > 1000


@QUIET
@WAYS
@pytest.mark.fault("H3")
@given(data=st.data())
@settings(max_examples=200)
def test_what_was_made_up_is_a_miss(way, data):
    """Whether cut, extended, put together from two entries, or invented."""
    cache, texts = sealed(way)
    cache.set("k", TEXT)
    cache.set("l", "another text")
    whole, other = texts["k"], texts["l"]
    cut = data.draw(st.integers(0, len(whole)))
    forged = data.draw(
        st.sampled_from([whole[:cut], whole[:cut] + other[cut:], whole + whole[cut:]])
        | st.text(st.sampled_from(string.printable)).map(lambda tail: whole[:cut] + tail)
    )

    texts["k"] = forged

    assert cache.get("k") == (TEXT if forged == whole else None)


@QUIET
@WAYS
@pytest.mark.fault("H3")
def test_entries_cannot_be_swapped_between_keys(way):
    """An entry is bound to the key under which it was stored."""
    cache, texts = sealed(way)
    cache.set("k", "of k")
    cache.set("l", "of l")
    texts["k"], texts["l"] = texts["l"], texts["k"]

    assert [cache.get("k"), cache.get("l")] == [None, None]
    assert stats(cache).tampered == 2


@QUIET
@WAYS
@pytest.mark.fault("H3")
def test_an_expired_entry_that_is_put_back_is_a_miss(way):
    """Its time is part of what is sealed, so the store has no say in it."""
    clock = Clock()
    cache, _ = sealed(way, clock=clock)
    cache.set("k", TEXT, 10)
    clock.now += 9.9
    assert cache.get("k") == TEXT

    clock.now += 2

    assert cache.get("k") is None
    assert stats(cache).tampered == 1


def test_a_store_that_is_a_moment_late_is_not_suspected():
    """Clocks of two machines differ: it is a miss, and nothing more."""
    clock = Clock()
    cache, _ = sealed(clock=clock)
    cache.set("k", TEXT, 10)

    clock.now += 10.5

    assert cache.get("k") is None
    assert stats(cache).tampered == 0


@QUIET
@WAYS
@pytest.mark.fault("H3")
@pytest.mark.parametrize(
    "plain", ["", TEXT, "instructor-sealed/1 ", "instructor-signed/1 AAAA", b"\xff", 7, "é", "\ud800"]
)
def test_what_nobody_sealed_is_a_miss(way, plain):
    """Plain text, an empty box and things that are no text were put there by somebody else."""
    cache, texts = sealed(way)
    texts["k"] = plain

    assert cache.get("k") is None
    assert stats(cache).tampered == 1


@QUIET
@WAYS
def test_another_key_opens_nothing(way):
    """Nor does the same key, used the other way."""
    cache, texts = sealed(way)
    cache.set("k", TEXT)

    for other in ({way: NEW}, {"signing_key" if way == "key" else "key": OLD}):
        stranger = SealedCache(DictCache(), **other)
        stranger._stores[0].texts = texts
        assert stranger.get("k") is None
        assert stats(stranger).tampered == 1


@WAYS
def test_keys_are_rotated(way):
    """The first seals, all open: what the old key sealed is read as long as it is in the list."""
    inner = DictCache()
    before, _ = sealed(way, OLD, inner)
    both, _ = sealed(way, [NEW, OLD], inner)
    after, _ = sealed(way, [NEW], inner)
    before.set("old", "sealed before")
    both.set("new", "sealed since")

    assert [both.get("old"), both.get("new")] == ["sealed before", "sealed since"]
    assert after.get("new") == "sealed since"
    with pytest.warns(CacheWarning, match="an entry that no key of this cache sealed"):
        assert after.get("old") is None


@pytest.mark.fault("H5")
def test_nothing_of_a_text_is_readable_in_the_store(tmp_path):
    """Neither in the file of a disk nor in its logs; nor is one text sealed the same way twice."""
    with DiskCache(tmp_path / "cache") as disk:
        cache = SealedCache(disk, OLD)
        cache.set("a" * 64, "the secret of Ada Lovelace " * 50)
        cache.set("b" * 64, "the secret of Ada Lovelace " * 50)
        stored = b"".join(path.read_bytes() for path in disk._file.directory.iterdir())

        assert b"Lovelace" not in stored
        assert b"TG92ZWxhY2" not in stored  # as base64 writes it
        assert b"instructor-sealed/1" in stored
        assert disk.get("a" * 64) != disk.get("b" * 64)


@WAYS
@pytest.mark.parametrize("secret", [b"short", b"x" * 33, "x" * 32, bytearray(32), [OLD, "x"], [OLD, b"xxx"], []])
def test_a_bad_key_is_refused_when_the_cache_is_made(way, secret):
    """With what to do, and without showing the key."""
    with pytest.raises(ValueError, match=f"^{way} must be 32 bytes.* make one with secrets.token_bytes") as caught:
        SealedCache(DictCache(), **{way: secret})

    assert "xxx" not in str(caught.value)


@pytest.mark.parametrize("given", [{}, {"key": OLD, "signing_key": NEW}])
def test_it_is_one_key_or_the_other(given):
    """Encrypting signs as well."""
    with pytest.raises(TypeError, match="one of the two"):
        SealedCache(DictCache(), **given)


def test_only_text_is_sealed():
    """As on a disk."""
    with pytest.raises(TypeError, match="bytes"):
        sealed()[0].set("k", b"bytes")


def test_what_is_passed_on_is_what_the_inner_cache_does(tmp_path):
    """Deleting, clearing, iterating, and the time that is left."""
    disk = DiskCache(tmp_path / "cache", clock=Clock())
    cache = SealedCache(disk, OLD)
    cache.set("a", "1", 10)
    cache.set("b", "2")

    assert sorted(cache) == ["a", "b"]
    assert ["a" in cache, "c" in cache] == [True, False]
    assert cache.remaining("a") == pytest.approx(10)
    assert [cache.delete("a"), cache.delete("a")] == [True, False]
    cache.clear()
    assert list(disk) == []
    assert (cache.blocking, cache.fractional_ttl) == ("writes", True)


def test_a_key_is_never_shown_and_travels_with_its_cache():
    """A worker process gets what it needs to read; a log does not."""
    cache, _ = sealed("key", b"k" * 32)
    cache.set("k", TEXT)

    assert "kkk" not in repr(cache)
    assert pickle.loads(pickle.dumps(cache)).get("k") == TEXT  # noqa: S301 - our own bytes


class Asynchronous(BaseCache):
    """A store with coroutines only."""

    def __init__(self):
        self.texts = {}

    async def get(self, key):
        return self.texts.get(key)

    async def set(self, key, value, ttl=None):
        self.texts[key] = value


def test_an_asynchronous_store_is_sealed_too(provider):
    """Through a client as by hand."""
    cache, texts = sealed(inner=Asynchronous())
    client = openai_client(provider, use_async=True, cache=cache)
    provider.say('{"content": "hello"}')
    question = {"messages": [{"role": "user", "content": "hi"}], "response_model": str}

    assert [ask(client, **question), ask(client, **question)] == ["hello"] * 2
    assert provider.calls == 1
    (key,) = texts
    assert asyncio.run(cache.aget(key)).startswith("instructor/1 ")


@QUIET
@WAYS
def test_a_forged_answer_costs_a_call_and_is_replaced(provider, way):
    """Whoever can write to the store cannot put words into the model's mouth."""
    cache, texts = sealed(way)
    client = openai_client(provider, cache=cache)
    provider.say('{"content": "hello"}')
    question = {"messages": [{"role": "user", "content": "hi"}], "response_model": str}
    client.create(**question)
    ((key, honest),) = texts.items()
    plain = cache.get(key)

    texts[key] = plain.replace("hello", "hallo")

    assert client.create(**question) == "hello"
    assert provider.calls == 2
    assert texts[key] != honest
    assert stats(cache).tampered > 0


def test_who_only_signs_needs_nothing_more():
    """Without `cryptography` signing works, and encrypting says what to install."""
    script = inspect.cleandoc("""
        import sys
        sys.modules["cryptography"] = None
        from instructor.cache import AutoCache, SealedCache
        cache = SealedCache(AutoCache(), signing_key=bytes(32))
        cache.set("k", "text")
        assert cache.get("k") == "text"
        try:
            SealedCache(AutoCache(), bytes(32))
        except ImportError as error:
            print(error)
    """)

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == 'SealedCache(key=...) needs cryptography: pip install "instructor[sealed]"\n'


def test_importing_the_cache_imports_nothing_optional():
    """What is optional comes with the first object that needs it."""
    script = "import sys, instructor.cache as c; c.SealedCache, c.TieredCache; print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert {"cryptography", "redis", "openai", "rich", "typer"}.isdisjoint(done.stdout.split())
