"""Clients with caches: what is stored, for how long, where, and what happens when a store fails."""

from __future__ import annotations

import datetime as dt
import math
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from fake_provider import FakeProvider
from flavours import CLIENTS, ask, openai_client
from pydantic import BaseModel, Field

import instructor
from instructor.cache import AutoCache, BaseCache, CacheWarning, DiskCache, stats
from instructor.hooks import HookName

QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": "Extract: John is 25"}]}
sync_and_async = pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])


class User(BaseModel):
    """Somebody."""

    name: str
    age: int


JOHN = User(name="John", age=25)


class Now:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 1_700_000_000.0

    def __call__(self) -> float:
        return self.seconds


class Mine(BaseCache):
    """The smallest cache of a user's own; remembers the TTLs it was given."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.ttls: list[Any] = []

    def get(self, key: str) -> str | None:
        return self.kept.get(key)

    def set(self, key: str, value: str, ttl: int | None = None) -> None:
        self.kept[key] = value
        self.ttls.append(ttl)


class Native(Mine):
    """A cache whose methods are coroutines."""

    async def get(self, key: str) -> str | None:  # type: ignore[override]
        return self.kept.get(key)

    async def set(self, key: str, value: str, ttl: int | None = None) -> None:  # type: ignore[override]
        self.kept[key] = value


class Both(Mine):
    """A cache with two sides; what the asynchronous one was asked is counted."""

    asked = 0

    async def aget(self, key: str) -> str | None:
        """As `get`."""
        self.asked += 1
        return self.get(key)

    async def aset(self, key: str, value: str, ttl: int | None = None) -> None:
        """As `set`."""
        self.asked += 1
        self.set(key, value, ttl)


class Broken(BaseCache):
    """A cache that fails at what it is told to fail at."""

    def __init__(self, *failing: str) -> None:
        self.failing = failing

    def get(self, key: str) -> None:
        if "get" in self.failing:
            raise ConnectionError("nobody there")

    def set(self, key: str, value: str, ttl: int | None = None) -> None:
        if "set" in self.failing:
            raise OSError("no space")


class Forgetful(Mine):
    """A store of several that fails where it is told that what it gave was old."""

    def recheck(self, key: str) -> None:
        raise OSError("gone")


def caches(tmp_path: Path, clock: Now) -> dict[str, BaseCache]:
    """The three kinds of cache."""
    return {
        "memory": AutoCache(honor_ttl=True, clock=clock),
        "disk": DiskCache(tmp_path / "cache", clock=clock),
        "mine": Mine(),
    }


@pytest.mark.fault("C1")
@pytest.mark.parametrize("kind", ["memory", "disk", "mine"])
@pytest.mark.parametrize(
    ("ttl", "stored"),
    [
        (None, True),
        (60, True),
        (0, False),
        (-5, False),
        (0.05, True),
        (1.5, True),
        (1e12, True),
        (dt.timedelta(minutes=1), True),
        (dt.timedelta(0), False),
    ],
    ids=str,
)
def test_a_ttl_is_a_number_of_seconds_or_a_timedelta(
    provider: FakeProvider, tmp_path: Path, kind: str, ttl: Any, stored: bool
) -> None:
    """Zero or less: not stored."""
    client = openai_client(provider, cache=caches(tmp_path, Now())[kind])

    for _ in range(2):
        assert JOHN == client.create(response_model=User, cache_ttl=ttl, **QUESTION)

    assert (1 if stored else 2) == provider.calls


@pytest.mark.fault("C1")
@pytest.mark.parametrize("bad", [math.inf, math.nan, True, "60", [1]], ids=repr)
def test_a_ttl_that_is_no_time_costs_nothing(provider: FakeProvider, bad: Any) -> None:
    """A clear error, before any request, and at construction where it is given there."""
    with pytest.raises(ValueError, match="cache_ttl"):
        openai_client(provider, cache=AutoCache()).create(response_model=User, cache_ttl=bad, **QUESTION)
    with pytest.raises(ValueError, match="cache_ttl"):
        openai_client(provider, cache_ttl=bad)

    assert 0 == provider.calls


@pytest.mark.fault("C2")
@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_ttl_runs_out(provider: FakeProvider, tmp_path: Path, kind: str) -> None:
    """Fractions of a second count."""
    clock = Now()
    client = openai_client(provider, cache=caches(tmp_path, clock)[kind], cache_ttl=1.5)

    for wait, calls in ((0, 1), (1.4, 1), (0.2, 2)):
        clock.seconds += wait
        client.create(response_model=User, **QUESTION)
        assert calls == provider.calls


def test_auto_cache_ignores_a_ttl_unless_it_is_told_to_honour_it(provider: FakeProvider) -> None:
    """As documented."""
    clock = Now()
    client = openai_client(provider, cache=AutoCache(clock=clock), cache_ttl=1)

    client.create(response_model=User, **QUESTION)
    clock.seconds += 1000
    client.create(response_model=User, **QUESTION)

    assert 1 == provider.calls


def test_a_users_cache_is_given_text_and_whole_seconds(provider: FakeProvider) -> None:
    """Rounded up; what its `get` gives back may be text or bytes."""
    cache = Mine()
    client = openai_client(provider, cache=cache)

    client.create(response_model=User, cache_ttl=1.2, **QUESTION)
    client.create(response_model=User, cache_ttl=dt.timedelta(milliseconds=1), messages=[])

    assert [2, 1] == cache.ttls
    assert [int, int] == [type(ttl) for ttl in cache.ttls]
    assert all(type(value) is str and len(key) == 64 for key, value in cache.kept.items())


@sync_and_async
def test_an_asynchronous_cache_works_with_an_asynchronous_client_only(provider: FakeProvider, use_async: bool) -> None:
    """A sync client cannot await it: a miss, with a warning that says so."""
    client = openai_client(provider, use_async=use_async, cache=Native())

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert [JOHN, JOHN] == [ask(client, response_model=User, **QUESTION) for _ in range(2)]

    assert (1 if use_async else 2) == provider.calls
    assert use_async or "is asynchronous" in str(caught[0].message)


@pytest.mark.fault("F1")
@sync_and_async
@pytest.mark.parametrize("failing", [("get",), ("set",), ("get", "set")], ids="+".join)
def test_a_broken_store_costs_a_miss_and_one_warning(
    provider: FakeProvider, use_async: bool, failing: tuple[str, ...]
) -> None:
    """Never the call; the errors are counted."""
    cache = Broken(*failing)
    client = openai_client(provider, use_async=use_async, cache=cache)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert JOHN == ask(client, response_model=User, **QUESTION)

    assert [CacheWarning] == [warning.category for warning in caught]
    assert stats(cache).errors >= 1
    assert 1 == provider.calls


@sync_and_async
def test_a_store_that_cannot_forget_costs_a_miss(provider: FakeProvider, use_async: bool) -> None:
    """Where it is told that what it gave will not do."""
    cache = Forgetful()
    client = openai_client(provider, use_async=use_async, cache=cache)
    ask(client, response_model=User, **QUESTION)
    cache.kept = dict.fromkeys(cache.kept, "damaged")

    with pytest.warns(CacheWarning):
        assert JOHN == ask(client, response_model=User, **QUESTION)
    assert 2 == provider.calls


@pytest.mark.fault("E6")
@sync_and_async
def test_what_listeners_hear(provider: FakeProvider, use_async: bool) -> None:
    """A miss tells of the call and of the store, a hit of nothing but the hit, a store that fails of each failure."""
    heard: list[str] = []

    def told(cache: BaseCache) -> list[str]:
        client = openai_client(provider, use_async=use_async, cache=cache)
        for name in HookName:
            client.on(name, lambda *_, name=name, **__: heard.append(name.value))
        heard.clear()
        assert JOHN == ask(client, response_model=User, **QUESTION)
        return heard[:]

    cache = AutoCache()
    call = ["completion:kwargs", "completion:response", "completion:usage"]

    assert ["cache:miss", *call, "cache:store"] == told(cache)
    assert ["cache:hit"] == told(cache)
    with pytest.warns(CacheWarning):
        assert ["cache:error", "cache:error", "cache:miss", *call, "cache:error"] == told(Broken("get", "set"))


@pytest.mark.fault("H5")
def test_questions_are_not_stored(provider: FakeProvider, tmp_path: Path) -> None:
    """Of a question its digest is kept and nothing else: no message, system prompt, context or description."""

    class Described(User):
        name: str = Field(description="canary-description")

    cache = DiskCache(tmp_path / "cache")
    messages = [
        {"role": "system", "content": "canary-system"},
        {"role": "user", "content": "canary-prompt {{ secret }}"},
    ]
    client = openai_client(provider, cache=cache)
    client.create(response_model=Described, messages=messages, context={"secret": "canary-context"}, user="canary-user")

    assert "canary-prompt canary-context" in str(provider.requests)
    assert len(cache) == 1
    assert b"canary" not in b"".join(path.read_bytes() for path in (tmp_path / "cache").iterdir())
    cache.close()


@pytest.mark.fault("F6")
@pytest.mark.parametrize("bad", [{}, "cache", 1, AutoCache], ids=repr)
def test_what_is_no_cache_is_refused(provider: FakeProvider, bad: Any) -> None:
    """At construction and at the call, before anything is asked."""
    with pytest.raises(TypeError, match="BaseCache"):
        openai_client(provider, cache=bad)
    with pytest.raises(TypeError, match="BaseCache"):
        openai_client(provider).create(response_model=User, cache=bad, **QUESTION)
    with pytest.raises(TypeError, match="BaseCache"):
        instructor.from_provider("openai/m", cache=bad, api_key="k")

    assert 0 == provider.calls


@pytest.mark.parametrize("bad", ["", None, 1], ids=repr)
def test_a_namespace_is_a_name(provider: FakeProvider, bad: Any) -> None:
    """Not nothing, and not a number."""
    with pytest.raises(ValueError, match="cache_namespace must be a non-empty string"):
        openai_client(provider, cache_namespace=bad)
    with pytest.raises(ValueError, match="cache_namespace must be a non-empty string"):
        openai_client(provider).create(response_model=User, cache_namespace=bad, **QUESTION)


def test_a_call_may_bring_its_own_cache_or_do_without(provider: FakeProvider) -> None:
    """The call wins over the client."""
    mine, clients = AutoCache(), AutoCache()
    client = openai_client(provider, cache=clients)

    for cache, calls in (({"cache": mine}, 1), ({"cache": mine}, 1), ({}, 2), ({"cache": None}, 3), ({}, 3)):
        client.create(response_model=User, **QUESTION, **cache)
        assert calls == provider.calls


@pytest.mark.parametrize("writes_async", [False, True], ids=["sync first", "async first"])
def test_sync_and_async_clients_share_their_answers(provider: FakeProvider, tmp_path: Path, writes_async: bool) -> None:
    """The question is the same."""
    cache = DiskCache(tmp_path / "cache")

    for use_async in (writes_async, not writes_async):
        assert JOHN == ask(openai_client(provider, use_async=use_async, cache=cache), response_model=User, **QUESTION)

    assert 1 == provider.calls


def test_providers_do_not_share_their_answers(provider: FakeProvider) -> None:
    """Several providers, two APIs of one of them, one cache: a call and a hit for each."""
    cache = AutoCache()

    for _ in range(2):
        for make in CLIENTS.values():
            assert JOHN == make(provider, cache=cache).create(response_model=User, **QUESTION)

    assert len(CLIENTS) == provider.calls


ANOTHER_PROCESS = """
import sys
from pydantic import BaseModel
import instructor
from instructor.cache import DiskCache

class User(BaseModel):
    "Somebody."
    name: str
    age: int

url, directory = sys.argv[1:]
client = instructor.from_provider("openai/m", api_key="k", base_url=url, cache=DiskCache(directory))
user, completion = client.create_with_completion(
    response_model=User, messages=[{"role": "user", "content": "Extract: John is 25"}]
)
print(user, type(completion).__name__, completion.usage.total_tokens)
"""


def test_another_process_is_answered_from_the_disk(provider: FakeProvider, tmp_path: Path) -> None:
    """Whatever Python's hash seed; and a new client object, and a reopened directory, are no other question."""
    told = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", ANOTHER_PROCESS, f"{provider.url}/v1", str(tmp_path / "cache")],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(instructor.__file__).parents[1])},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]

    assert ["name='John' age=25 ChatCompletion 15\n"] * 2 == told
    assert 1 == provider.calls
    assert JOHN == openai_client(provider, cache=DiskCache(tmp_path / "cache")).create(response_model=User, **QUESTION)
    assert 1 == provider.calls


def test_statistics_count_what_a_cache_did(provider: FakeProvider) -> None:
    """One miss, one store, two hits."""
    cache = AutoCache()
    client = openai_client(provider, cache=cache)

    for _ in range(3):
        client.create(response_model=User, **QUESTION)

    counted = stats(cache)
    assert (2, 1, 1, 0) == (counted.hits, counted.misses, counted.stores, counted.errors)


@sync_and_async
def test_an_event_loop_asks_the_asynchronous_side_of_a_cache(provider: FakeProvider, use_async: bool) -> None:
    """Where there is one: to look twice, to store, and for the hit."""
    cache = Both()
    client = openai_client(provider, use_async=use_async, cache=cache)

    for _ in range(2):
        assert JOHN == ask(client, response_model=User, **QUESTION)

    assert 1 == provider.calls
    assert (4 if use_async else 0) == cache.asked
