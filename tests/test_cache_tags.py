"""Tags: names by which entries are found again to be deleted, in every store that keeps them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cache_tools import Clock, DictCache
from fake_provider import FakeProvider
from flavours import ask, openai_client
from pydantic import BaseModel
from servers import PROGRAMS, running, running_cluster

from instructor.cache import AutoCache, CacheWarning, DiskCache, RedisCache, SealedCache, TieredCache, stats
from instructor.cache.shelf import shelf_of

QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": "Extract: John is 25"}]}
SECRET = b"s" * 32


class User(BaseModel):
    """Somebody."""

    name: str
    age: int


KINDS: dict[str, Any] = {
    "memory": lambda _: AutoCache(),
    "disk": DiskCache,
    "tiered": lambda path: TieredCache([AutoCache(), DiskCache(path)], freshness=None),
    "sealed": lambda path: SealedCache(DiskCache(path), SECRET),
    "sealed tiers": lambda path: TieredCache([AutoCache(), SealedCache(DiskCache(path), signing_key=SECRET)]),
}


@pytest.fixture(params=KINDS)
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A cache of each kind that keeps tags."""
    made = KINDS[request.param](tmp_path / "cache")
    yield made
    for store in (made, *getattr(made, "_stores", ())):
        getattr(store, "close", lambda: None)()


def asked(client: Any, **how: Any) -> Any:
    """Who it is."""
    return ask(client, **{"response_model": User, **QUESTION, **how})


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
def test_what_a_call_stored_is_deleted_by_its_tag(provider: FakeProvider, cache: Any, use_async: bool) -> None:
    """The next call asks again; what bears other tags stays. Tags are no part of the question."""
    client = openai_client(provider, use_async=use_async, cache=cache, cache_tags=["everybody"])
    asked(client, cache_tags=["user:42", "user:42", "eu"])
    asked(client, max_tokens=7)
    asked(client, cache_tags={"user:43"})
    assert provider.calls == 2

    assert [cache.delete_tag("user:43"), cache.delete_tag("user:42"), cache.delete_tag("eu")] == [0, 1, 0]

    asked(client, cache_tags=None)
    asked(client, max_tokens=7)
    assert provider.calls == 3
    assert cache.delete_tag("everybody") == 1


def test_an_entry_that_is_stored_again_has_the_tags_of_who_stored_it(provider: FakeProvider, cache: Any) -> None:
    """Not those of before; a hit adds none."""
    client = openai_client(provider, cache=cache)
    asked(client, cache_tags=["old"])
    asked(client, cache_tags=["hit"])
    asked(client, cache_tags=["new"], cache_mode="refresh")

    assert [cache.delete_tag(tag) for tag in ("old", "hit", "new")] == [0, 0, 1]


def test_a_stream_has_tags_too(provider: FakeProvider, cache: Any) -> None:
    """As every answer that is stored."""
    client = openai_client(provider, cache=cache)
    list(client.create_partial(response_model=User, cache_tags=["user:42"], **QUESTION))

    assert cache.delete_tag("user:42") == 1


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ("user:42", r"must be a list of strings, not 'user:42': write cache_tags=\['user:42'\]"),
        ([""], "a tag in cache_tags must be a non-empty string, not ''"),
        ([42], "a tag in cache_tags must be a non-empty string, not 42"),
        ({"user": 42}, "must be a list of strings"),
        (42, "must be a list of strings, not 42"),
    ],
)
def test_what_is_no_list_of_tags_costs_nothing(provider: FakeProvider, tags: Any, said: str) -> None:
    """It is refused, by the client and by a call."""
    with pytest.raises(ValueError, match=said):
        openai_client(provider, cache_tags=tags)
    with pytest.raises(ValueError, match=said):
        asked(openai_client(provider), cache_tags=tags)
    assert provider.calls == 0


@pytest.mark.parametrize("tag", ["", None, 42, ["user:42"]])
def test_one_tag_is_deleted_at_a_time(tag: Any) -> None:
    """It is a name."""
    with pytest.raises(ValueError, match="a tag must be a non-empty string"):
        AutoCache().delete_tag(tag)


class Encrypting(AutoCache):
    """A subclass that changes `set` alone."""

    def set(self, key: str, value: Any, ttl: float | None = None) -> None:  # type: ignore[override]
        """Store it backwards."""
        super().set(key, value[::-1], ttl)

    def get(self, key: str) -> Any:
        """Read it backwards."""
        return (super().get(key) or "")[::-1] or None


@pytest.mark.parametrize("made", [DictCache, Encrypting, lambda: TieredCache([DictCache(), AutoCache()])])
def test_what_could_not_be_deleted_by_its_tags_is_not_stored(provider: FakeProvider, made: Any) -> None:
    """A store without tags warns once, and goes on without: better to pay twice than to keep what must go."""
    cache, heard = made(), []
    client = openai_client(provider, cache=cache)
    client.on("cache:bypass", lambda reason, problem: heard.append((reason, problem)))

    with pytest.warns(CacheWarning, match="keeps no tags") as warned:
        assert len([asked(client, cache_tags=["user:42"]) for _ in range(2)]) == 2
    assert (len(warned), provider.calls, stats(cache).stores) == (1, 2, 0)
    assert stats(cache).bypassed == {"tags": 2}
    assert [reason for reason, _ in heard] == ["tags"] * 2

    asked(client)
    asked(client, cache_tags=["user:42"])
    assert provider.calls == 3


def test_who_keeps_no_tags_says_so() -> None:
    """Instead of having deleted nothing."""
    for cache in (DictCache(), TieredCache([AutoCache(), DictCache()]), SealedCache(DictCache(), SECRET)):
        with pytest.raises(TypeError, match=r"keeps no tags: give it a delete_tagged\(tag\)"):
            cache.delete_tag("user:42")


# The stores


def rows(directory: Path) -> list[Any]:
    """How many tags stand in a DiskCache's file."""
    with sqlite3.connect(directory / "cache.sqlite3") as file:
        found = file.execute("SELECT count(*) FROM tags").fetchall()
    file.close()
    return found


def test_a_file_has_no_tags_of_what_is_gone(tmp_path: Path) -> None:
    """Deleted, replaced, expired, evicted: rows go with their entry, also where another release deletes that."""
    clock = Clock()
    with DiskCache(tmp_path, size_limit=2**21, clock=clock) as cache:
        cache.set("deleted", "text", tags=["a", "b"])
        cache.set("replaced", "text", tags=["a", "b"])
        cache.set("expired", "text", 10, tags=["a", "b"])
        assert cache.lease("leased", "token", 5)
        assert cache.set_leased("leased", "text", None, "token", ["a"])
        assert rows(tmp_path) == [(7,)]

        cache.delete("deleted")
        cache.set("replaced", "text", tags=["c"])
        clock.now += 60
        cache.set("large", "x" * 2**19)
        assert rows(tmp_path) == [(2,)]
        for number in range(8):
            cache.set(f"large {number}", "x" * 2**18)
        assert cache.get("leased") is None
        assert rows(tmp_path) == [(0,)]
        assert cache.delete_tag("a") == 0


def test_of_what_is_deleted_by_tag_nothing_is_left_on_the_disk(tmp_path: Path) -> None:
    """Neither in free pages nor in the log; the tag itself never was there."""
    with DiskCache(tmp_path) as cache:
        cache.set("k" * 64, "a private matter" * 1000, tags=["John Doe"])
        cache.set("j" * 64, "a private matter", tags=["John Doe"])
        written = b"".join(path.read_bytes() for path in tmp_path.glob("cache.sqlite3*"))

        assert cache.delete_tag("John Doe") == 2

        left = b"".join(path.read_bytes() for path in tmp_path.glob("cache.sqlite3*"))
    assert (b"private" in written, b"John Doe" in written, b"private" in left) == (True, False, False)


def test_many_are_deleted_within_the_limit(tmp_path: Path) -> None:
    """Not all at once: the log would grow with them."""
    with DiskCache(tmp_path) as cache:
        for number in range(200):
            cache.set(f"key {number}", "text", tags=["all"])

        assert [cache.delete_tag("all"), len(cache)] == [200, 0]


def test_a_copy_that_was_filled_up_goes_too() -> None:
    """It knows no tags, and would serve for ever."""
    far = AutoCache()
    writer, reader = TieredCache([AutoCache(), far]), TieredCache([AutoCache(), far], freshness=None)
    writer.set("key", "text", None, ["user:42"])
    assert reader.get("key") == "text"

    assert reader.delete_tag("user:42") == 1
    assert reader.get("key") is None


def test_a_sealed_tag_is_a_digest_under_the_key() -> None:
    """It cannot be guessed without; one that an older key made is found as long as that opens entries."""
    inner = AutoCache()
    SealedCache(inner, SECRET).set("key", "text", None, ["user:42"])
    ((tag,),) = [entry.tags for entry in inner._entries.values()]

    assert (len(tag), "user" in tag) == (64, False)
    assert SealedCache(inner, b"t" * 32).delete_tag("user:42") == 0
    assert SealedCache(inner, [b"t" * 32, SECRET]).delete_tag("user:42") == 1


@pytest.fixture(scope="module", params=["valkey", "cluster"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server, and a cluster of them."""
    pytest.importorskip("redis", reason="the Redis client is not installed")
    program = PROGRAMS["valkey"]()
    if request.param == "valkey":
        with running(program) as server:
            yield server.url
    else:
        with running_cluster(program) as nodes:
            yield f"redis+cluster://127.0.0.1:{nodes[0].port}"


def test_the_set_of_a_tag_lives_as_long_as_its_entries(url: str) -> None:
    """And not for ever where they do not; who looks for entries does not meet it, and `clear` takes it along."""
    with RedisCache(url, timeout=10) as cache:
        cache.clear()
        lives = []
        for name, ttl in (("a", 60), ("b", 600), ("c", 60), ("d", None), ("e", 60)):
            cache.set(name, "text", ttl, ["user:42"])
            (mark,) = cache._connect().scan_iter(match="{*}:tags")
            lives.append(cache._connect().pttl(mark) / 1000)

        assert lives == [pytest.approx(each, abs=5) for each in (120, 660, 660, -0.001, -0.001)]
        assert sorted(cache) == ["a", "b", "c", "d", "e"]
        cache._connect().zadd(mark, {"of last year": 1})
        cache.set("e", "text", 60, ["user:42"])
        assert cache._connect().zcard(mark) == 5, "what is over is taken out"
        cache.clear()
        assert list(cache._connect().scan_iter(match="*")) == []


def test_any_text_comes_back_from_a_server(url: str) -> None:
    """Also one that looks as if it had tags."""
    text = "instructor-tags/1 abc\ntext"
    with RedisCache(url, timeout=10) as cache:
        cache.set("plain", text)
        cache.set("tagged", text, None, ["user:42"])

        assert [cache.get("plain"), cache.get("tagged"), cache.delete_tag("user:42")] == [text, text, 1]


def test_event_loops_store_tags_too(url: str) -> None:
    """With a lease and without."""

    async def main(cache: RedisCache) -> bool:
        await cache.aset("one", "text", None, ["user:42"])
        return await cache.alease("two", "token", 5) and await cache.aset_leased("two", "text", 9, "token", ["user:42"])

    with RedisCache(url, timeout=10) as cache:
        assert asyncio.run(main(cache))
        assert [cache.delete_tag("user:42"), cache.get("one"), cache.get("two")] == [2, None, None]


def test_a_fleet_deletes_what_any_of_it_stored(provider: FakeProvider, url: str) -> None:
    """Here at once; elsewhere a copy is forgotten within `freshness` seconds."""
    clock = Clock()
    with RedisCache(url, timeout=10) as far:
        one, two = (TieredCache([AutoCache(), far], clock=clock) for _ in range(2))
        for cache in (one, two):
            asked(openai_client(provider, cache=cache, cache_tags=["user:42"]))
        assert provider.calls == 1

        assert one.delete_tag("user:42") == 1
        asked(openai_client(provider, cache=two, cache_mode="offline"))
        clock.now += 61
        asked(openai_client(provider, cache=two))
    assert provider.calls == 2


def test_what_a_layer_can_is_what_all_below_can() -> None:
    """One tier without tags would keep what the others forget."""
    layers = [TieredCache([AutoCache(), AutoCache()]), SealedCache(DictCache(), SECRET), TieredCache([Encrypting()])]

    assert [shelf_of(layer).keeps_tags for layer in layers] == [True, False, False]
