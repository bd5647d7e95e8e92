"""What a call may say of its cache: how it is used, which sample is meant, where the answer came from."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest
from cache_tools import DictCache
from fake_provider import FakeProvider
from flavours import ask, openai_client
from pydantic import BaseModel
from test_cache_flights import everybody_waits

from instructor.cache import AutoCache, CacheMiss, CacheWarning, Info, info, make_cache_key, stats

QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": "Extract: John is 25"}]}


class User(BaseModel):
    """Somebody."""

    name: str
    age: int


JOHN, EVE = User(name="John", age=25), User(name="Eve", age=1)
ANSWERS = '{"name": "John", "age": 25}', '{"name": "Eve", "age": 1}'


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def client(request: pytest.FixtureRequest, provider: FakeProvider) -> Any:
    """A client with a cache, whose provider changes its mind."""
    provider.say(*ANSWERS)
    return openai_client(provider, use_async=request.param, cache=AutoCache())


def asked(client: Any, **how: Any) -> Any:
    """Who it is."""
    return ask(client, response_model=User, **QUESTION, **how)


def test_refresh_asks_and_stores_without_looking(client: Any, provider: FakeProvider) -> None:
    """What was stored is replaced."""
    assert [asked(client), asked(client, cache_mode="refresh"), asked(client)] == [JOHN, EVE, EVE]
    assert provider.calls == 2


def test_read_looks_and_never_stores(client: Any, provider: FakeProvider) -> None:
    """A miss is asked, and forgotten; a hit is a hit."""
    assert [asked(client, cache_mode="read"), asked(client), asked(client, cache_mode="read")] == [JOHN, EVE, EVE]
    assert provider.calls == 2


def test_off_does_neither(client: Any, provider: FakeProvider) -> None:
    """As `cache=None`."""
    assert [asked(client, cache_mode="off"), asked(client)] == [JOHN, EVE]
    assert (provider.calls, stats(client.kwargs["cache"]).stores) == (2, 1)


def test_offline_never_asks(client: Any, provider: FakeProvider) -> None:
    """A miss raises before any request, also where there can be no key, or is no cache; a hit is a hit."""
    with pytest.raises(CacheMiss, match="offline"):
        asked(client, cache_mode="offline")
    with pytest.warns(CacheWarning), pytest.raises(CacheMiss):
        asked(client, cache_mode="offline", tools=[object()])
    with pytest.raises(CacheMiss):
        asked(client, cache_mode="offline", cache=None)
    assert provider.calls == 0

    assert asked(client) == asked(client, cache_mode="offline") == JOHN
    assert provider.calls == 1


def test_a_stream_may_be_offline(provider: FakeProvider) -> None:
    """And is replayed, or missing."""
    client = openai_client(provider, cache=AutoCache())
    with pytest.raises(CacheMiss):
        list(client.create_partial(response_model=User, cache_mode="offline", **QUESTION))

    first = list(client.create_partial(response_model=User, **QUESTION))

    assert list(client.create_partial(response_model=User, cache_mode="offline", **QUESTION)) == first
    assert provider.calls == 1


def test_a_refresh_is_not_shared_with_those_who_do_not_want_one(provider: FakeProvider) -> None:
    """Who refreshes while somebody asks makes a call of their own; two who refresh share one."""
    cache, provider.gate = AutoCache(), threading.Event()
    client = openai_client(provider, cache=cache)

    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(asked, client, cache_mode=mode) for mode in ("on", "refresh", "refresh")]
        everybody_waits(cache, 3)
        provider.gate.set()

        assert [future.result(20) for future in waiting] == [JOHN] * 3
    assert provider.calls == 2


@pytest.mark.parametrize("mode", ["", "On", None, 1, True])
def test_an_unknown_policy_costs_nothing(provider: FakeProvider, mode: Any) -> None:
    """It is refused, by the client and by a call."""
    with pytest.raises(ValueError, match="cache_mode must be one of 'on', 'off'"):
        openai_client(provider, cache_mode=mode)
    with pytest.raises(ValueError, match="cache_mode"):
        asked(openai_client(provider), cache_mode=mode)
    assert provider.calls == 0


def test_samples_are_kept_apart(client: Any, provider: FakeProvider) -> None:
    """Several answers to one question; none is the one without a number."""
    first = [asked(client, cache_sample=number) for number in (None, 0)]
    again = [asked(client, cache_sample=number) for number in (None, 0)]

    assert first == again == [JOHN, EVE]
    assert provider.calls == 2


@pytest.mark.parametrize("sample", [-1, 1.0, True, "1"])
def test_a_sample_is_a_number(provider: FakeProvider, sample: Any) -> None:
    """Anything else is refused before it costs something."""
    with pytest.raises(ValueError, match="cache_sample must be a whole number"):
        asked(openai_client(provider, cache=AutoCache()), cache_sample=sample)
    assert provider.calls == 0


def test_the_sample_is_in_the_public_key() -> None:
    """And changes nothing where there is none."""
    question: dict[str, Any] = {"messages": QUESTION["messages"], "model": "m", "response_model": User}
    keys = {make_cache_key(**question, sample=sample) for sample in (None, 0, 1)}

    assert len(keys) == 3
    assert make_cache_key(**question) in keys


def test_a_result_says_where_it_came_from(client: Any) -> None:
    """A miss says so; a hit has its key, its age, and what it saved, also after its completion was looked at."""
    hits: list[str] = []
    client.on("cache:hit", lambda key, **_: hits.append(key))
    first, again = asked(client), asked(client)

    assert info(first) == Info(hit=False)
    assert again._raw_response.usage.total_tokens == 15
    told = info(again)
    assert told is not None
    assert (told.hit, [told.key], told.saved_tokens) == (True, hits, 15)
    assert 0 <= told.age < 60
    assert [info(7), info("text"), info(User(name="new", age=0))] == [None] * 3


def test_who_follows_was_answered_just_now(provider: FakeProvider) -> None:
    """One of two pays; the other has a hit of no age."""
    cache, provider.gate = AutoCache(), threading.Event()
    client = openai_client(provider, cache=cache)

    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(asked, client) for _ in range(2)]
        everybody_waits(cache, 2)
        provider.gate.set()
        told = [info(future.result(20)) for future in waiting]

    (hit,) = (each for each in told if each is not None and each.hit)
    assert (hit.saved_tokens, hit.age < 60, len(hit.key or "")) == (15, True, 64)


def test_a_list_says_where_it_came_from(provider: FakeProvider) -> None:
    """So does every shape that carries a receipt."""
    provider.say('{"tasks": [{"name": "John", "age": 25}]}')
    client = openai_client(provider, cache=AutoCache())

    told = [info(client.create(response_model=list[User], **QUESTION)) for _ in range(2)]

    assert [each and each.hit for each in told] == [False, True]


def test_hooks_hear_of_the_cache(client: Any) -> None:
    """A miss and a store, then a hit; what cannot be cached says why."""
    heard: list[tuple[str, Any]] = []
    for name in ("hit", "miss", "store", "error", "bypass"):
        client.on(f"cache:{name}", lambda what, _name=name, **facts: heard.append((_name, facts)))

    asked(client, cache_ttl=60)
    asked(client)
    with pytest.warns(CacheWarning):
        asked(client, tools=[object()], cache_mode="read")

    names = [name for name, _ in heard]
    assert names == ["miss", "store", "hit", "bypass"]
    assert heard[1][1] == {"ttl": 60}


@pytest.mark.filterwarnings("ignore::instructor.cache.CacheWarning")
def test_hooks_hear_of_a_broken_store(provider: FakeProvider) -> None:
    """What it was doing, and what went wrong."""
    heard: list[tuple[type, str]] = []

    class Down(DictCache):
        """A store that is down."""

        def get(self, key: str) -> Any:
            """Fail."""
            raise OSError(key)

        set = get  # type: ignore[assignment]

    client = openai_client(provider, cache=Down())
    client.on("cache:error", lambda problem, doing: heard.append((type(problem), doing)))

    assert asked(client) == JOHN
    assert heard[0] == (OSError, "reading")
    assert heard[-1][1] == "storing an answer"


def test_tasks_have_policies_too(provider: FakeProvider) -> None:
    """The same in one event loop."""
    provider.say(*ANSWERS)

    async def main() -> list[User]:
        client = openai_client(provider, use_async=True, cache=AutoCache())
        modes = ("on", "refresh", "offline")
        return [await client.create(response_model=User, cache_mode=mode, **QUESTION) for mode in modes]

    assert asyncio.run(main()) == [JOHN, EVE, EVE]


class Strict(DictCache):
    """A user's cache that has its own ideas of what calls may do with it."""

    imposes: ClassVar[dict[str, Any]] = {"cache_mode": "on", "cache_namespace": "ours"}
    silent = False

    def get(self, key: str) -> Any:
        """What is stored; nobody may be asked while it is silent."""
        if self.silent:
            raise CacheMiss("not today")
        return super().get(key)


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
def test_what_a_cache_imposes_counts(provider: FakeProvider, use_async: bool) -> None:
    """More than what calls say, and only for those that go through it."""
    cache = Strict()
    clients = [openai_client(provider, use_async=use_async, key=key, cache=cache) for key in ("one", "other")]
    ways: list[dict[str, Any]] = [{}, {"cache_mode": "off"}, {"cache_mode": "refresh"}, {"cache_namespace": "theirs"}]

    assert [asked(client, **way) for client in clients for way in ways] == [JOHN] * 8
    assert (provider.calls, len(cache.texts)) == (1, 1)
    assert [asked(clients[0], cache=other, cache_mode="off") for other in (None, AutoCache())] == [JOHN] * 2
    assert provider.calls == 3


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
def test_a_cache_may_forbid_to_ask(provider: FakeProvider, use_async: bool) -> None:
    """`CacheMiss` out of `get` is no failure that the call goes on without: it is the user's to see."""
    cache = Strict()
    cache.silent = True

    with pytest.raises(CacheMiss, match="not today"):
        asked(openai_client(provider, use_async=use_async, cache=cache))

    assert (provider.calls, stats(cache).errors) == (0, 0)


def test_every_cache_has_statistics(provider: FakeProvider) -> None:
    """`cache.stats()` is `stats(cache)`, also of a cache of one's own, and knows how often it paid to look."""
    cache = DictCache()
    assert (cache.stats() is stats(cache), cache.stats().hit_rate) == (True, 0)

    for _ in range(4):
        asked(openai_client(provider, cache=cache))

    counted = cache.stats()
    assert (counted.hits, counted.misses, counted.stores, counted.errors, counted.tampered) == (3, 1, 1, 0, 0)
    assert (counted.hit_rate, counted.bypassed.total()) == (0.75, 0)
