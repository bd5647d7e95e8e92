"""RedisCache on a real Valkey, a real Redis and a real cluster: the contract, the loops, the leases, the faults."""

import asyncio
import gc
import json
import math
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from statistics import median

import pytest
from cache_tools import Clock, in_child
from flavours import ask, openai_client
from pydantic import BaseModel
from servers import PROGRAMS, running, running_cluster, until

from instructor.cache import AutoCache, RedisCache, stats
from instructor.cache.fuse import Fuse, ServerDownError
from instructor.cache.packed import packed
from instructor.testing import CacheContract

redis = pytest.importorskip("redis", reason="the Redis client is not installed")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no server for it")
sync_and_async = pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
KINDS = ["valkey", "redis", "cluster"]


class User(BaseModel):
    """Somebody."""

    name: str
    age: int


JOHN = User(name="John", age=25)


def question():
    """One that was never asked."""
    return {"messages": [{"role": "user", "content": f"Extract: John is 25 {uuid.uuid4().hex}"}]}


def key():
    """One that was never stored."""
    return uuid.uuid4().hex * 2


@pytest.fixture(scope="module")
def valkey():
    """A server that nobody harms."""
    with running(PROGRAMS["valkey"]()) as server:
        yield server


@pytest.fixture(scope="module")
def real_redis():
    """The same, of the other make."""
    with running(PROGRAMS["redis"]()) as server:
        yield server


@pytest.fixture(scope="module")
def nodes():
    """A cluster of three."""
    with running_cluster(PROGRAMS["valkey"]()) as nodes:
        yield nodes


@pytest.fixture
def fragile():
    """A server of one's own, to be harmed."""
    with running(PROGRAMS["valkey"]()) as server:
        yield server


@pytest.fixture
def url(request, kind):
    """Where a store of that kind is."""
    name = {"valkey": "valkey", "redis": "real_redis", "cluster": "nodes"}[kind]
    server = request.getfixturevalue(name)
    return f"redis+cluster://127.0.0.1:{server[0].port}" if kind == "cluster" else server.url


@pytest.fixture
def cache(url):
    """A store of that kind with a prefix of its own, which is closed."""
    with RedisCache(url, prefix=f"{uuid.uuid4().hex}:", timeout=10) as cache:  # the machine may be busy
        yield cache


class Looped:
    """The asynchronous side of a cache, for a sync caller, in one event loop."""

    def __init__(self, cache):
        self.cache = cache
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def __getattr__(self, name):
        async def call(*args, **kwargs):
            return await getattr(self.cache, f"a{name}")(*args, **kwargs)

        return lambda *args, **kwargs: asyncio.run_coroutine_threadsafe(call(*args, **kwargs), self.loop).result(20)

    def end(self):
        """Close what the loop has, and the loop."""
        self.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def side(cache, use_async):
    """A cache as threads see it, or as an event loop does."""
    if not use_async:
        yield cache
        return
    looped = Looped(cache)
    yield looped
    looped.end()


every_kind = pytest.mark.parametrize("kind", KINDS)
every_cluster = pytest.mark.parametrize("kind", ["cluster"])
one_kind = pytest.mark.parametrize("kind", ["valkey"])


@every_kind
class TestContract(CacheContract):
    @pytest.fixture(autouse=True)
    def _cache(self, cache):
        self.cache = cache

    def make_cache(self):
        return self.cache


@every_kind
class TestContractInALoop(CacheContract):
    @pytest.fixture(autouse=True)
    def _cache(self, cache):
        looped = Looped(cache)

        class Seen(RedisCache):
            get, set = staticmethod(looped.get), staticmethod(looped.set)

            def __init__(self):
                pass

        self.cache = Seen()
        self.cache.delete = cache.delete
        yield
        looped.end()

    def make_cache(self):
        return self.cache


# What is stored, where, and for how long


@one_kind
@sync_and_async
@pytest.mark.parametrize(
    ("ttl", "low", "high"),
    [
        (None, -1, -1),
        (60, 59_000, 60_000),
        (1.5, 1_000, 1_500),
        (timedelta(minutes=1), 59_000, 60_000),
        (1e300, 2**61, 2**63),
        (0, -2, -2),
        (-5, -2, -2),
    ],
    ids=str,
)
def test_the_server_counts_the_time(valkey, cache, side, ttl, low, high):
    """In milliseconds; what has none left supersedes what was there, and is not kept."""
    name = key()
    side.set(name, "before")

    side.set(name, "text", ttl)

    assert low <= int(valkey.ask("PTTL", cache._name(name).decode())) <= high


@one_kind
def test_an_entry_is_gone_when_its_time_is_over(cache):
    """However short it was."""
    name = key()
    cache.set(name, "text", 0.000_01)

    until(lambda: cache.get(name) is None)


@one_kind
def test_a_time_to_live_of_the_store_is_for_those_that_name_none(valkey, url):
    """One that is named counts, also when it is longer."""
    with RedisCache(url, ttl=60) as cache:
        names = [key(), key()]
        cache.set(names[0], "text")
        cache.set(names[1], "text", 600)

        lives = [int(valkey.ask("PTTL", f"instructor:{name}")) / 1000 for name in names]

    assert [60, 600] == [pytest.approx(life, abs=5) for life in map(float, lives)]


@one_kind
@pytest.mark.parametrize(("value", "ttl", "error"), [(b"x", None, TypeError), ("x", float("nan"), ValueError)])
def test_what_is_no_text_or_no_time_is_refused(cache, value, ttl, error):
    """As the other stores refuse it."""
    with pytest.raises(error):
        cache.set(key(), value, ttl)


@every_kind
def test_only_what_has_the_prefix_is_listed_and_cleared(url):
    """A prefix is no pattern, whatever signs are in it."""
    with RedisCache(url, prefix="x[y]*?\\:") as mine, RedisCache(url, prefix="xy") as other:
        for number in range(1200):
            mine.set(f"k{number}", "text")
        other.set("ycd\\:k", "text")

        listed, there = Counter(mine), ["k7" in mine, "k1200" in mine]
        mine.clear()
        left = [list(mine), list(other)]
        other.clear()

    assert Counter(f"k{number}" for number in range(1200)) == listed
    assert [True, False] == there
    assert [[], ["ycd\\:k"]] == left


@every_kind
def test_the_time_that_is_left(cache):
    """Seconds; infinite for what stays, none for what never was."""
    staying, going = key(), key()
    cache.set(staying, "text")
    cache.set(going, "text", 60.5)

    assert [cache.remaining(staying), cache.remaining(key())] == [math.inf, 0]
    assert 55 < cache.remaining(going) <= 60.5


@every_kind
def test_deleting_says_whether_there_was_anything(cache):
    """The second time there is not."""
    name = key()
    cache.set(name, "text")

    assert [True, False, None] == [cache.delete(name), cache.delete(name), cache.get(name)]


# How it is reached


@every_kind
@pytest.mark.parametrize("decodes", [False, True])
def test_a_client_of_ones_own_will_do(kind, url, cache, decodes):
    """For threads and, in a thread, for event loops; whatever it makes of replies; and it stays open."""
    name = key()
    cls = redis.RedisCluster if kind == "cluster" else redis.Redis
    client = cls.from_url(url.replace("+cluster", ""), decode_responses=decodes)
    with RedisCache(client, prefix=cache._prefix) as mine:
        mine.set(name, "text")
        found = [mine.get(name), asyncio.run(mine.aget(name)), list(mine)]

    assert ["text", "text", [name]] == found
    assert client.ping()
    client.close()


@every_kind
def test_an_asynchronous_client_of_ones_own_will_do(kind, url, cache):
    """In its event loop; threads are told that there is none for them."""
    name = key()
    cls = redis.asyncio.RedisCluster if kind == "cluster" else redis.asyncio.Redis

    async def use():
        client = cls.from_url(url.replace("+cluster", ""))
        mine = RedisCache(client, prefix=cache._prefix)
        await mine.aset(name, "text")
        found = await mine.aget(name)
        with pytest.raises(TypeError, match="asynchronous client only"):
            mine.get(name)
        await mine.aclose()
        assert await client.get(cache._name(name)) == b"text"
        await (getattr(client, "aclose", None) or client.close)()
        return found

    assert "text" == asyncio.run(use())


def test_a_unix_socket_will_do(valkey):
    """By its URL."""
    with RedisCache(valkey.unix) as cache:
        name = key()
        cache.set(name, "text")

        assert "text" == cache.get(name)


@pytest.mark.fault("F6")
@pytest.mark.parametrize("given", [{}, 6379, None, object()])
def test_what_is_no_client_is_refused_at_once(given):
    """Not when the first answer is to be stored."""
    with pytest.raises(TypeError, match="takes a URL or a client of redis-py"):
        RedisCache(given)


def test_a_prefix_with_braces_is_refused():
    """They would send leases and entries to different nodes."""
    with pytest.raises(ValueError, match="braces"):
        RedisCache(prefix="{app}:")


def test_no_secret_is_shown():
    """Neither a password nor a query."""
    shown = repr(RedisCache("rediss://me:secret@127.0.0.1:6379/3?password=secret"))

    assert "RedisCache('127.0.0.1:6379/3', prefix='instructor:')" == shown


def test_the_library_is_loaded_by_who_uses_it():
    """And who has not got it reads what to install."""
    script = (
        "import sys, instructor.cache\n"
        "assert 'RedisCache' in instructor.cache.__all__ and 'redis' not in sys.modules\n"
        "import instructor.cache.redis; assert 'redis' not in sys.modules\n"
        "sys.modules['redis'] = None\n"
        "try: instructor.cache.RedisCache()\n"
        "except ImportError as problem: print(problem)"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout

    assert 'RedisCache needs redis: pip install "instructor[redis]"' == said.strip()


# Event loops and forks


def connections(server):
    """How many others are connected."""
    return server.ask("CLIENT", "LIST").count(b"id=") - 1


@one_kind
def test_each_event_loop_has_its_own_connections_and_leaves_none(fragile, kind):
    """The end of the loop closes them, and so does `aclose`; what is not used any more can be used again."""
    cache, name = RedisCache(fragile.url), key()

    async def use(*, close):
        await cache.aset(name, "text")
        found = await asyncio.gather(*(cache.aget(name) for _ in range(100)))
        most = connections(fragile)
        if close:
            await cache.aclose()
            until(lambda: connections(fragile) == 0)
        return set(found), most, await cache.aget(name)

    for close in (False, True, False):
        found, most, again = asyncio.run(use(close=close))

        assert ({"text"}, "text") == (found, again)
        assert 1 <= most <= 32
        until(lambda: connections(fragile) == 0)
    gc.collect()


@every_kind
def test_a_call_that_is_cancelled_spoils_nothing(cache):
    """Its reply is never taken for that of another."""

    async def use():
        names = [key() for _ in range(50)]
        for name in names:
            await cache.aset(name, name)
        wrong = []
        for round_ in range(200):
            task = asyncio.ensure_future(cache.aget(names[round_ % 50]))
            for _ in range(round_ % 7):
                await asyncio.sleep(0)
            task.cancel()
            found = await asyncio.gather(*(cache.aget(name) for name in names[:3]))
            wrong += [text for text, name in zip(found, names, strict=False) if text != name]
        return wrong

    assert [] == asyncio.run(use())


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
@every_kind
def test_a_child_of_a_fork_uses_the_same_cache(cache):
    """With connections of its own, in threads and in a loop; the parent's go on."""
    name = key()
    cache.set(name, "text")

    status = in_child(lambda: ["text"] * 2 == [cache.get(name), asyncio.run(cache.aget(name))])

    assert [0, "text"] == [status, cache.get(name)]


# Leases


@every_kind
@sync_and_async
def test_a_lease_is_held_by_one(cache, side):
    """Until it is given back or its time is over; then it is the next one's."""
    name = key()

    assert [True, False] == [side.lease(name, "mine", 60), side.lease(name, "yours", 60)]
    assert [False, True] == [cache.renew(name, "yours", 60), cache.renew(name, "mine", 600)]
    assert [False, True] == [side.release(name, "yours"), side.release(name, "mine")]
    assert [False, False] == [cache.renew(name, "mine", 60), side.release(name, "mine")]
    assert side.lease(name, "yours", 0.01)
    until(lambda: side.lease(name, "mine", 60))
    assert [] == list(cache)
    assert cache.get(name) is None


@pytest.mark.fault("B8")
@every_kind
@sync_and_async
def test_a_late_writer_without_the_lease_is_refused(side):
    """What the new holder stored stays; to store ends the lease."""
    name = key()
    side.lease(name, "late", 0.01)
    until(lambda: side.lease(name, "next", 60))

    written = [side.set_leased(name, "new", 60, "next"), side.set_leased(name, "old", None, "late")]

    assert [True, False, "new"] == [*written, side.get(name)]
    assert side.lease(name, "again", 60)
    assert [True, None] == [side.set_leased(name, "none", 0, "again"), side.get(name)]


@one_kind
def test_a_renewed_lease_lasts_longer(valkey, cache):
    """From now on, not from when it was taken."""
    name = key()
    cache.lease(name, "mine", 5)
    cache.renew(name, "mine", 60)

    assert 55_000 <= int(valkey.ask("PTTL", cache._lease(name).decode())) <= 60_000


# Clients


@every_kind
def test_an_answer_is_a_hit_for_every_client(provider, url):
    """One call for all of them, whichever way they ask."""
    asked, caches = question(), [RedisCache(url, timeout=10) for _ in range(4)]
    for cache, use_async in zip(caches, [False, True, False, True], strict=True):
        client = openai_client(provider, use_async=use_async, cache=cache)
        assert JOHN == ask(client, response_model=User, **asked)
        cache.close()

    assert 1 == provider.calls
    assert [(0, 1, 1)] + [(1, 0, 0)] * 3 == [(s.hits, s.misses, s.stores) for s in map(stats, caches)]


@one_kind
def test_an_answer_is_a_hit_for_other_processes(provider, url, cache):
    """They need not know each other."""
    client, asked = openai_client(provider, cache=cache), question()
    client.create(response_model=User, **asked)
    script = (
        "import sys, json, openai, instructor\n"
        "from instructor.cache import RedisCache\n"
        "from test_cache_redis import User\n"
        "provider, url, prefix, messages = sys.argv[1:]\n"
        "sdk = openai.OpenAI(api_key='k', base_url=provider)\n"
        "client = instructor.from_openai(sdk, model='m', cache=RedisCache(url, prefix=prefix))\n"
        "print(client.create(response_model=User, messages=json.loads(messages)))\n"
    )
    arguments = [f"{provider.url}/v1", url, cache._prefix, json.dumps(asked["messages"])]
    command = [sys.executable, "-c", script, *arguments]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent).stdout

    assert "name='John' age=25" == said.strip()
    assert 1 == provider.calls


@pytest.mark.fault("F5")
@one_kind
def test_a_ttl_of_nothing_is_not_stored(provider, cache):
    """Nor looked for."""
    client, asked = openai_client(provider, cache=cache), question()

    for _ in range(2):
        client.create(response_model=User, cache_ttl=0, **asked)

    assert 2 == provider.calls
    assert [] == list(cache)


@pytest.mark.fault("F4")
@one_kind
@sync_and_async
@pytest.mark.parametrize(
    "junk",
    [
        *(b"", b"null", b"[]", b"7", b"\xff\xfe\x00", b'{"name": "Eve", "age": 1}', b"x" * 5000, [b"a list"]),
        packed(str(JOHN) * 1000)[:-1],
    ],
    ids=lambda junk: repr(junk)[:40],
)
@pytest.mark.filterwarnings("ignore::instructor.cache.CacheWarning")
def test_junk_is_a_miss(provider, url, cache, use_async, junk):
    """Whatever somebody else put there; a value is put right, and asked for once."""
    client, asked = openai_client(provider, use_async=use_async, cache=cache), question()
    ask(client, response_model=User, **asked)
    (name,) = cache
    with redis.Redis.from_url(url) as other:
        other.delete(cache._name(name))
        (other.rpush if isinstance(junk, list) else other.set)(
            cache._name(name), junk[0] if isinstance(junk, list) else junk
        )

    answers = [ask(client, response_model=User, **asked) for _ in range(2)]

    assert [JOHN, JOHN] == answers
    assert 2 == provider.calls


@one_kind
def test_a_long_text_takes_less_room(url, cache):
    """It is compressed, also where it is stored under a lease; what stands there uncompressed is read as well."""
    text, one, leased, plain = "".join(f"Line {number}.\n" for number in range(5000)), key(), key(), key()
    cache.set(one, text)
    cache.lease(leased, "me", 9)
    cache.set_leased(leased, text, None, "me")
    with redis.Redis.from_url(url) as other:
        other.set(cache._name(plain), text)
        taken = [other.strlen(cache._name(each)) for each in (one, leased, plain)]

    assert [text] * 3 == [cache.get(each) for each in (one, leased, plain)]
    assert max(taken[:2]) < len(text) / 2 < taken[2]


# Faults


def says(fuse, name, problem=None):
    """What comes of asking when that would happen."""
    watching = fuse.watch(name)
    try:
        watching.__enter__()
    except ServerDownError:
        return ServerDownError
    kind = None if problem is None else type(problem)
    with suppress(kind or Exception):
        watching.__exit__(kind, problem, None)
    return kind


def test_a_key_that_timed_out_is_let_alone_for_a_while():
    """One call looks twice and stores once, and waits once; other keys, and quick failures, are tried again."""
    clock = Clock()
    fuse = Fuse(clock)

    assert TimeoutError is says(fuse, "late", TimeoutError())
    assert [ServerDownError, None] == [says(fuse, "late"), says(fuse, "other")]
    assert [OSError, None] == [says(fuse, "late", OSError()), says(fuse, "late")]
    assert TimeoutError is says(fuse, "late", TimeoutError())
    clock.now += 5
    assert None is says(fuse, "late")


def test_five_failures_in_a_row_stop_all_but_a_probe():
    """An error that a server sends is none, nor is one of ours; what works begins the count anew."""
    clock = Clock()
    fuse = Fuse(clock)
    gone = redis.exceptions.ConnectionError()

    for problem in [gone] * 4 + [None] + [redis.exceptions.ResponseError(), TypeError()] * 5 + [gone] * 4:
        says(fuse, "key", problem)
    assert None is says(fuse, "key")
    for _ in range(5):
        says(fuse, "key", gone)
    assert ServerDownError is says(fuse, "key")
    clock.now += 5
    assert [type(gone), ServerDownError] == [says(fuse, "key", gone), says(fuse, "key")]
    clock.now += 5
    assert [None] * 3 == [says(fuse, "key") for _ in range(3)]


@contextmanager
def session(provider, cache, use_async):
    """What asks with a client, in a loop that stays or in none, and says how long that took."""
    clients = [openai_client(provider, use_async=use_async, cache=each) for each in (cache, AutoCache())]
    loop = asyncio.new_event_loop()

    def finished(answer):
        return loop.run_until_complete(answer) if use_async else answer

    def go(asked, client=clients[0]):
        start = time.perf_counter()
        assert JOHN == finished(client.create(response_model=User, **asked))
        return time.perf_counter() - start

    go.bare = lambda: go(question(), clients[1])
    try:
        yield go
    finally:
        finished(cache.aclose() if use_async else cache.close())
        for client in clients:
            finished(client.client.close())
        loop.close()
        cache.close()


@pytest.mark.fault("F2")
@sync_and_async
@pytest.mark.filterwarnings("ignore::instructor.cache.CacheWarning")
def test_a_frozen_server_costs_little_and_then_nothing(provider, fragile, use_async):
    """A quarter of a second for each of five calls, then less than a millisecond; one probe after five seconds."""
    clock = Clock()
    cache = RedisCache(fragile.url, clock=clock)
    with session(provider, cache, use_async) as go:
        known = question()
        go(known)
        plain = [go.bare() for _ in range(20)]
        bare, noise = min(plain), max(plain) - min(plain) + 0.01
        fragile.freeze()
        first = [go(question()) - bare for _ in range(5)]
        then = [go(question()) - bare for _ in range(20)]
        clock.now += 5
        probe, refused = go(question()) - bare, go(question()) - bare
        fragile.thaw()
        still = go(question()) - bare
        hits = [stats(cache).hits]
        clock.now += 5
        go(known)
        for asked in [question()] * 2:
            go(asked)
        hits.append(stats(cache).hits)

    late = (*first, probe)
    assert min(late) > 0.2
    assert median(late) < 0.25 + noise
    assert max(late) < 0.5  # half of it for a machine that is busy with something else
    assert min(then) < 0.001
    assert median((*then, refused, still)) < 0.001 + noise
    assert [0, 2] == hits
    assert stats(cache).errors > 5 * 3


def latency(work):
    """How long it took to raise, or not."""
    start = time.perf_counter()
    with suppress(Exception):
        work()
    return time.perf_counter() - start


@pytest.fixture
def frozen(nodes):
    """Freezes nodes of the cluster for as long as the test lasts."""
    yield lambda *which: [nodes[number].freeze() for number in which]
    for node in nodes:
        node.thaw()


@pytest.mark.fault("F2")
@every_cluster
@sync_and_async
@pytest.mark.parametrize("met", [True, False], ids=["known", "new"])
def test_a_frozen_cluster_costs_no_more(side, cache, nodes, frozen, met):
    """Five times for each node, once it is known which has what; its client would wait for a second."""
    if met:
        side.get(key())
    cache._timeout = 0.05
    frozen(0, 1, 2)

    took = [latency(lambda: side.get(key())) for _ in range(60)]
    for node in nodes:
        node.thaw()
    cache._fuses.clear()

    assert max(took) < 0.2
    assert (15 if met else 5) + 3 >= sum(one > 0.03 for one in took)
    assert median(took) < 0.001
    until(lambda: latency(lambda: side.get(key())) < 0.02)
    assert side.get(key()) is None


@pytest.mark.fault("F2")
@every_cluster
@sync_and_async
def test_a_frozen_node_of_a_cluster_leaves_the_others(side, cache, frozen):
    """Their keys are found as ever, while its own are let alone."""
    names, found = [key() for _ in range(90)], []
    for name in names:
        side.set(name, name)
    cache._timeout = 0.05
    frozen(2)

    took = [latency(lambda name=name: found.append(side.get(name))) for name in names]

    assert 40 < len(found) < 80
    assert [] == [name for name in found if name not in names]
    assert 5 <= sum(one > 0.03 for one in took) <= 10
    assert max(took) < 0.2


@pytest.mark.fault("F3")
@sync_and_async
@pytest.mark.parametrize("harm", ["kill", "restart", "flush"])
@pytest.mark.filterwarnings("ignore::instructor.cache.CacheWarning")
def test_no_call_fails_when_the_server_does(provider, fragile, tried, use_async, harm):
    """500 calls, four at a time, the server harmed in the middle; if it comes back, it is used again."""
    provider.keep_alive = True
    cache = RedisCache(fragile.url, clock=lambda: time.monotonic() * 50)
    client = openai_client(provider, use_async=use_async, cache=cache)
    asked = [question() for _ in range(25)]
    strikes = {150: fragile.kill, 350: fragile.start} if harm == "restart" else {150: fragile.kill}
    if harm == "flush":
        strikes = {150: lambda: fragile.ask("FLUSHALL")}

    def one(number):
        if number in strikes:  # by another thread: it takes longer than a call may
            threading.Thread(target=strikes[number]).start()
        return client.create(response_model=User, **asked[number % 25])

    answers, took = (in_loop if use_async else in_threads)(one, tried(500), client.client)
    cache.close()

    assert (JOHN,) * 500 == answers
    assert sorted(took)[-5] < 0.25  # the machine may be busy
    if harm != "kill":
        until(lambda: fragile.process.poll() is None)
        with RedisCache(fragile.url) as other:
            assert sum(1 for _ in other) == 25


def in_threads(one, times, sdk):
    """What came of it, four at a time, and how long each took."""

    def timed(number):
        start = time.perf_counter()
        return one(number), time.perf_counter() - start

    with ThreadPoolExecutor(4) as pool:
        pairs = list(pool.map(timed, range(times)))
    sdk.close()
    return zip(*pairs, strict=True)


def in_loop(one, times, sdk):
    """The same in an event loop."""

    async def timed(number):
        start = time.perf_counter()
        return await one(number), time.perf_counter() - start

    async def four():
        pairs = [pair for at in range(0, times, 4) for pair in await asyncio.gather(*map(timed, range(at, at + 4)))]
        await sdk.close()
        return pairs

    return zip(*asyncio.run(four()), strict=True)


@pytest.mark.fault("B10")
@pytest.mark.parametrize("given", ["url", "sync client"])
@pytest.mark.filterwarnings("ignore::instructor.cache.CacheWarning")
def test_an_event_loop_goes_on_whatever_the_server_does(provider, fragile, given):
    """It never stands still for more than 50 ms, the server being there or frozen; a busy machine gets three rounds."""
    own = redis.Redis.from_url(fragile.url, socket_timeout=0.25)

    async def use():
        cache = RedisCache(fragile.url if given == "url" else own)
        client = openai_client(provider, use_async=True, cache=cache)
        ticking = asyncio.ensure_future(ticker(gaps := []))
        for harm in (fragile.thaw, fragile.freeze):
            harm()
            await asyncio.gather(*(client.create(response_model=User, **question()) for _ in range(5)))
        fragile.thaw()
        ticking.cancel()
        await client.client.close()
        return len(gaps), max(gaps)

    ticks, longest = zip(*(asyncio.run(use()) for _ in range(3)), strict=True)
    own.close()

    assert min(ticks) > 20
    assert min(longest) <= 0.05


@one_kind
def test_a_loop_that_stands_still_is_not_blamed_on_the_server(url):
    """What was on its way is a miss, which does not count as a failure: what comes next is found."""
    cache, name = RedisCache(url, timeout=0.05), key()

    async def hog():
        await asyncio.sleep(0)
        time.sleep(0.1)  # noqa: ASYNC251 - what nobody should do is what happens here

    async def use():
        await cache.aset(name, "text", 60)
        found = await asyncio.gather(*(cache.aget(name) for _ in range(10)), hog(), return_exceptions=True)
        return {type(each) for each in found[:10]}, await cache.aget(name)

    kinds, found = asyncio.run(use())

    assert RuntimeError in kinds
    assert "text" == found


async def ticker(gaps):
    """How long the loop took to come back, each time."""
    while True:
        start = time.perf_counter()
        await asyncio.sleep(0.001)
        gaps.append(time.perf_counter() - start)
