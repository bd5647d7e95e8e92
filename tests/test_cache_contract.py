"""Stores that users write keep the contract, and the contract tells those that do not."""

import uuid

import pytest
from cache_tools import DictCache
from flavours import openai_client
from servers import PROGRAMS, running

from instructor.cache import stats
from instructor.cache.base import BaseCache
from instructor.testing import CacheContract


class TestUsersDictCache(CacheContract):
    def make_cache(self):
        return DictCache()


@pytest.fixture(scope="module")
def valkey():
    """The port of a real server that speaks Redis's protocol."""
    pytest.importorskip("redis", reason="the Redis client is not installed")
    with running(PROGRAMS["valkey"]()) as server:
        yield server.port


@pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")  # redis 8 about what the docs show
class TestRedisCacheOfTheDocs(CacheContract):
    """The RedisCache that the documentation shows, word for word, on a real server."""

    @pytest.fixture(autouse=True)
    def _connect(self, valkey):
        self.port = valkey

    def make_cache(self):
        import redis

        class RedisCache(BaseCache):
            def __init__(self, host="localhost", port=6379, **kwargs):
                self.redis = redis.Redis(host=host, port=port, **kwargs)

            def get(self, key: str):
                value = self.redis.get(key)
                return value.decode() if value else None

            def set(self, key: str, value, ttl: int | None = None):
                if ttl:
                    self.redis.setex(key, ttl, value)
                else:
                    self.redis.set(key, value)

        return RedisCache(host="127.0.0.1", port=self.port)


def test_a_contract_without_a_cache_says_what_is_missing():
    """Who inherits the contract and forgets `make_cache` reads so in the error."""
    with pytest.raises(NotImplementedError, match=r"CacheContract needs a make_cache\(\)"):
        CacheContract().make_cache()


class Short(DictCache):
    """Keeps eight digits of a key."""

    def get(self, key):
        return super().get(key[:8])

    def set(self, key, value, ttl=None):
        super().set(key[:8], value)


class Bytes(DictCache):
    """Forgets to decode."""

    def set(self, key, value, ttl=None):
        super().set(key, value.encode())


class Raising(DictCache):
    """Raises for what is absent."""

    def get(self, key):
        return self.texts[key]


class WholeOnly(DictCache):
    """Takes no `ttl`."""

    def set(self, key, value):
        super().set(key, value)


@pytest.mark.parametrize(
    ("cache", "rule", "error"),
    [
        (Short, "test_keys_are_kept_apart", AssertionError),
        (Bytes, "test_what_is_stored_comes_back", AssertionError),
        (Raising, "test_what_was_never_stored_is_none", KeyError),
        (WholeOnly, "test_a_time_to_live_is_accepted", TypeError),
        (object, "test_it_is_a_base_cache", AssertionError),
    ],
)
def test_the_contract_tells_what_does_not_keep_it(cache, rule, error):
    """A store that breaks a rule fails that rule."""
    contract = CacheContract()
    contract.make_cache = cache

    with pytest.raises(error):
        getattr(contract, rule)()


@pytest.mark.fault("F5")
def test_a_ttl_of_nothing_never_reaches_the_documented_redis_cache(valkey, provider):
    """Its `set` takes a TTL of 0 for none and would keep the answer for good; so `set` is not called."""
    contract = TestRedisCacheOfTheDocs()
    contract.port = valkey
    cache = contract.make_cache()
    client = openai_client(provider, cache=cache)
    question = {"messages": [{"role": "user", "content": "for no time at all"}], "cache_namespace": uuid.uuid4().hex}

    provider.say('{"content": "hello"}')
    for _ in range(2):
        client.create(response_model=str, cache_ttl=0, **question)

    assert provider.calls == 2
    assert stats(cache).stores == 0
