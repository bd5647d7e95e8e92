"""Single flight across processes: whoever asks holds a lease in the store, and the others wait for its answer."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cache_tools import Clock, DictCache, fork, wait_for
from fake_provider import FakeProvider, Say
from flavours import ask, openai_client
from pydantic import BaseModel, field_validator
from test_flow import attempts, completion, ending, never_called

from instructor.cache import CacheWarning, DiskCache, stats
from instructor.cache.leases import HEART, Heart, Lease
from instructor.cache.shelf import shelf_of
from instructor.client import Instructor
from instructor.effects import Decide, Do, Load, Save, Send, Sleep
from instructor.exceptions import InstructorRetryException
from instructor.leading import lead
from instructor.plan import Plan

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="forks and signals are POSIX"),
    pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning"),
]
QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": "Extract: John is 25"}]}
OTHER: dict[str, Any] = {"messages": [{"role": "user", "content": "Extract: Jane is 31"}]}


class User(BaseModel):
    """Somebody."""

    name: str
    age: int


JOHN, JANE = User(name="John", age=25), User(name="Jane", age=31)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where a cache may be made."""
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def _nothing_held() -> Iterator[None]:
    """After each test no lease is held here."""
    yield
    eventually(lambda: not HEART._leases)


def eventually(true: Callable[[], Any], seconds: float = 10.0) -> None:
    """Return once something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never was"
        threading.Event().wait(0.005)


def disk(directory: Path, seconds: float = 5.0) -> DiskCache:
    """A cache whose leases last so long."""
    cache = DiskCache(directory)
    shelf_of(cache).lease_seconds = seconds
    return cache


def key_of(client: Any, **question: Any) -> str:
    """The key of a question."""
    return str(client._plan(User, None, 0, None, True, None, None, {**question}).slot.key)


class Children:
    """Processes that ask the provider through one directory, and say when they begin."""

    def __init__(self, provider: FakeProvider, directory: Path) -> None:
        self.provider, self.directory = provider, directory
        self._reading, self._writing = os.pipe()

    def ask(self, expected: Any = JOHN, *, seconds: float = 5.0, use_async: bool = False, **kwargs: Any) -> int:
        """A process that asks, and ends well if the answer is the expected one."""
        return self.do(
            lambda client: ask(client, response_model=User, **QUESTION, **kwargs) == expected, seconds, use_async
        )

    def do(self, work: Callable[[Any], Any], seconds: float = 5.0, use_async: bool = False) -> int:
        """A process that does something with a client of its own."""

        def child() -> Any:
            client = openai_client(self.provider, use_async=use_async, cache=disk(self.directory, seconds))
            os.write(self._writing, b".")
            return work(client)

        return fork(child)

    def began(self, number: int) -> None:
        """Return when so many more have begun."""
        for _ in range(number):
            os.read(self._reading, 1)


@pytest.fixture
def children(provider: FakeProvider, directory: Path) -> Iterator[Children]:
    """Processes, and nothing left of them."""
    made = Children(provider, directory)
    provider.gate = threading.Event()
    yield made
    os.close(made._reading)
    os.close(made._writing)


def arrives(provider: FakeProvider, seconds: float = 10.0) -> None:
    """Return when a call has come."""
    assert provider.arrived.acquire(timeout=seconds)


# --- processes ------------------------------------------------------------------------------------------------------


@pytest.mark.fault("B4")
def test_processes_that_ask_the_same_make_one_call(provider: FakeProvider, children: Children) -> None:
    """Six sync and two async processes, one call, the same answer for all."""
    asking = [children.ask(use_async=number > 5) for number in range(8)]
    children.began(8)
    arrives(provider)
    provider.gate.set()  # type: ignore[union-attr]

    assert [wait_for(pid) for pid in asking] == [0] * 8
    assert provider.calls == 1


@pytest.mark.fault("B4")
def test_threads_of_processes_make_one_call(provider: FakeProvider, children: Children) -> None:
    """20 threads in each of 4 processes."""

    def twenty(client: Any) -> bool:
        with ThreadPoolExecutor(20) as pool:
            asked = [pool.submit(client.create, response_model=User, **QUESTION) for _ in range(20)]
            return [future.result(20) for future in asked] == [JOHN] * 20

    asking = [children.do(twenty) for _ in range(4)]
    children.began(4)
    arrives(provider)
    provider.gate.set()  # type: ignore[union-attr]

    assert [wait_for(pid) for pid in asking] == [0] * 4
    assert provider.calls == 1


@pytest.mark.fault("B4")
def test_streams_of_processes_make_one_call(provider: FakeProvider, children: Children) -> None:
    """Who comes second waits for the entry, and is shown all of it then."""

    def stream(client: Any) -> bool:
        *_, last = client.create_partial(response_model=User, **QUESTION)
        return bool(last.model_dump() == JOHN.model_dump())

    asking = [children.do(stream) for _ in range(3)]
    children.began(3)
    arrives(provider)
    provider.gate.set()  # type: ignore[union-attr]

    assert [wait_for(pid) for pid in asking] == [0] * 3
    assert provider.calls == 1


@pytest.mark.fault("B8")
def test_a_killed_leader_is_succeeded(provider: FakeProvider, children: Children) -> None:
    """Within its lease and a second, by one of those who waited."""
    leader = children.ask(seconds=0.5)
    arrives(provider)
    waiting = [children.ask(seconds=0.5) for _ in range(3)]
    children.began(4)
    os.kill(leader, signal.SIGKILL)
    killed = time.monotonic()
    arrives(provider)
    took = time.monotonic() - killed
    provider.gate.set()  # type: ignore[union-attr]

    assert [wait_for(pid) for pid in (leader, *waiting)] == [-signal.SIGKILL, 0, 0, 0]
    assert (provider.calls, took < 1.5) == (2, True)


@pytest.mark.fault("B8")
def test_a_leader_that_comes_back_too_late_writes_nothing(provider: FakeProvider, children: Children) -> None:
    """It was stopped for longer than its lease: it has its answer, but what its successor stored stays."""
    provider.say(Say(), Say(JANE.model_dump_json()))
    leader = children.ask(JOHN, seconds=0.3)
    arrives(provider)
    os.kill(leader, signal.SIGSTOP)
    successor = children.ask(JANE, seconds=0.3)
    arrives(provider)
    provider.gate.set()  # type: ignore[union-attr]
    assert wait_for(successor) == 0
    os.kill(leader, signal.SIGCONT)

    assert wait_for(leader) == 0
    assert wait_for(children.ask(JANE)) == 0
    assert provider.calls == 2


@pytest.mark.fault("B8")
def test_an_error_is_not_waited_out(provider: FakeProvider, children: Children) -> None:
    """A leader that raises gives its lease back: the next one asks at once."""
    provider.say(Say(status=500), Say())

    def fail(client: Any) -> bool:
        try:
            client.create(response_model=User, max_retries=0, **QUESTION)
        except InstructorRetryException:
            return True
        return False

    leader = children.do(partial(fail), 60)
    arrives(provider)
    follower = children.ask(seconds=60)
    children.began(2)
    provider.gate.set()  # type: ignore[union-attr]

    assert [wait_for(leader), wait_for(follower)] == [0, 0]
    assert provider.calls == 2


@pytest.mark.fault("B11")
def test_processes_do_not_wait_for_each_other_in_a_ring(provider: FakeProvider, children: Children) -> None:
    """Each validates its answer by asking what the other one is asking: the inner calls are made alone."""

    def crossing(mine: Any, theirs: Any, client: Any) -> bool:
        class Asking(User):
            @field_validator("name")
            @classmethod
            def ask_the_other(cls, name: str) -> str:
                if not inner:
                    inner.append(None)
                    inner.append(client.create(response_model=Asking, **theirs))
                return name

        inner: list[Any] = []
        return client.create(response_model=Asking, **mine).name == inner[1].name

    start = time.monotonic()
    asking = [children.do(partial(crossing, *pair), 60) for pair in ((QUESTION, OTHER), (OTHER, QUESTION))]
    arrives(provider)
    arrives(provider)
    provider.gate.set()  # type: ignore[union-attr]

    assert [wait_for(pid) for pid in asking] == [0, 0]
    assert time.monotonic() - start < 5


# --- one process ----------------------------------------------------------------------------------------------------


@pytest.mark.fault("B11")
@pytest.mark.parametrize("caches", [1, 2])
def test_a_validator_may_ask_the_question_that_it_validates(
    provider: FakeProvider, directory: Path, caches: int
) -> None:
    """It would wait for itself, even through another object: it asks alone."""
    clients = [openai_client(provider, cache=disk(directory)) for _ in range(caches)]

    class Asking(User):
        @field_validator("name")
        @classmethod
        def ask_again(cls, name: str) -> str:
            if not inner:
                inner.append(None)
                inner.append(clients[-1].create(response_model=Asking, **QUESTION))
            return name

    inner: list[Any] = []

    assert clients[0].create(response_model=Asking, **QUESTION).name == "John"
    assert inner[1].name == "John"


@pytest.mark.fault("B12")
@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
def test_patience_ends(provider: FakeProvider, directory: Path, use_async: bool) -> None:
    """After half of its timeout a call asks by itself, with the other half; it stores what it gets."""
    cache = disk(directory, 60)
    client = openai_client(provider, use_async=use_async, cache=cache)
    timeouts: list[float] = []
    client.on("completion:kwargs", lambda **kwargs: timeouts.append(kwargs["timeout"]))
    assert cache.lease(key_of(client, **QUESTION), "another's", 60)

    assert ask(client, response_model=User, timeout=2.0, **QUESTION) == JOHN
    assert (timeouts, len(cache)) == ([1.0], 1)


@pytest.mark.fault("B8")
def test_a_lease_is_kept_as_long_as_its_owner_lives(provider: FakeProvider, directory: Path) -> None:
    """An answer may take many times as long; then the lease is free."""
    cache, provider.gate = disk(directory, 0.15), threading.Event()
    client = openai_client(provider, cache=cache)
    key = key_of(client, **QUESTION)

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.create, response_model=User, **QUESTION)
        arrives(provider)
        end = time.monotonic() + 0.6
        while time.monotonic() < end:
            assert not cache.lease(key, "another's", 0.15)
            threading.Event().wait(0.02)
        provider.gate.set()
        assert asked.result(20) == JOHN

    assert cache.lease(key, "another's", 0.15)


def test_what_is_cancelled_or_abandoned_gives_its_lease_back(provider: FakeProvider, directory: Path) -> None:
    """Nothing waits for it, and the next one asks."""
    cache, provider.pace = disk(directory, 60), threading.Semaphore(3)
    sync, client = openai_client(provider, cache=cache), openai_client(provider, use_async=True, cache=cache)
    key = key_of(sync, **QUESTION)
    next(stream := sync.create_partial(response_model=User, **QUESTION))
    assert not cache.lease(key, "another's", 60)
    stream.close()
    eventually(lambda: cache.lease(key, "another's", 60))
    cache.release(key, "another's")
    provider.gate = threading.Event()

    async def main() -> None:
        task = asyncio.create_task(client.create(response_model=User, **QUESTION))
        await asyncio.to_thread(provider.arrived.acquire, timeout=10)
        await asyncio.to_thread(provider.arrived.acquire, timeout=10)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())
    eventually(lambda: cache.lease(key, "another's", 60))
    assert provider.calls == 2


@pytest.mark.fault("B2")
def test_a_forked_child_holds_nothing(provider: FakeProvider, directory: Path) -> None:
    """It gives nothing back of its parent's, and may ask other things."""
    cache, provider.gate = disk(directory, 60), threading.Event()
    client = openai_client(provider, cache=cache)

    def child() -> bool:
        held = list(HEART._leases)
        answer = openai_client(provider, cache=cache).create(response_model=User, **OTHER)
        return held == [] and answer == JOHN and key_of(client, **OTHER) in cache

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.create, response_model=User, **QUESTION)
        arrives(provider)
        pid = fork(child)
        arrives(provider)
        assert not cache.lease(key_of(client, **QUESTION), "another's", 60)
        provider.gate.set()

        assert (wait_for(pid), asked.result(20)) == (0, JOHN)


# --- a store that fails ---------------------------------------------------------------------------------------------


@pytest.mark.fault("A9")
def test_a_lock_that_is_held_for_ever(provider: FakeProvider, directory: Path) -> None:
    """The answer is there, the wait bounded, and one warning given."""
    cache = disk(directory)
    client = openai_client(provider, cache=cache)
    cache.set("key", "text")

    with closing(sqlite3.connect(directory / "cache.sqlite3", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        with pytest.warns(CacheWarning, match="taking a lease: OperationalError") as warned:
            assert client.create(response_model=User, **QUESTION) == JOHN
        took = time.monotonic() - start

    assert (len(warned), stats(cache).errors, took < 0.6) == (1, 2, True)


def test_a_table_that_is_not_ours(provider: FakeProvider, directory: Path) -> None:
    """No lease, but everything else."""
    cache = disk(directory)
    client = openai_client(provider, cache=cache)
    cache.set("key", "text")
    with closing(sqlite3.connect(directory / "cache.sqlite3")) as db:
        db.execute("CREATE TABLE leases (who TEXT)")

    with pytest.warns(CacheWarning, match="taking a lease"):
        assert client.create(response_model=User, **QUESTION) == JOHN

    assert (len(cache), stats(cache).stores) == (2, 1)


# --- the store ------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    """What the store thinks of the time."""
    return Clock()


@pytest.fixture
def cache(directory: Path, clock: Clock) -> Iterator[DiskCache]:
    """A store that lends."""
    with DiskCache(directory, clock=clock) as made:
        yield made


def test_one_holds_a_lease(cache: DiskCache) -> None:
    """The others do not, whatever they try; who holds it may take it again."""
    assert [cache.lease("key", "a", 5), cache.lease("key", "b", 5), cache.lease("key", "a", 5)] == [True, False, True]
    assert [cache.renew("key", "b", 5), cache.set_leased("key", "text", None, "b")] == [False, False]
    cache.release("key", "b")
    assert [cache.renew("key", "a", 5), cache.lease("other", "b", 5), cache.get("key")] == [True, True, None]


def test_a_lease_ends_when_the_answer_is_stored(cache: DiskCache) -> None:
    """Or when it is given back."""
    assert cache.lease("key", "a", 5)
    assert cache.set_leased("key", "text", None, "a")
    assert [cache.get("key"), cache.renew("key", "a", 5), cache.lease("key", "b", 5)] == ["text", False, True]
    cache.release("key", "b")
    assert cache.lease("key", "c", 5)


def test_a_lease_runs_out(cache: DiskCache, clock: Clock) -> None:
    """Another may take it then; where nobody does, an answer that comes late is as good as any."""
    assert [cache.lease("taken", "a", 5), cache.lease("untouched", "a", 5)] == [True, True]
    clock.now += 4
    assert cache.renew("taken", "a", 5)
    clock.now += 4.9
    assert not cache.lease("taken", "b", 5)
    clock.now += 0.2

    assert cache.lease("taken", "b", 5)
    assert [cache.set_leased(key, "text", None, "a") for key in ("taken", "untouched")] == [False, True]


def test_a_lease_of_a_wrong_clock_is_no_lease(directory: Path, cache: DiskCache, clock: Clock) -> None:
    """It would be waited for until then; nor are leases kept that nobody gave back."""
    ahead = DiskCache(directory, clock=lambda: clock.now + 60)
    assert [ahead.lease("key", "a", 5), cache.lease("key", "b", 5)] == [True, True]
    clock.now += 4000

    assert [cache.lease("other", "b", 5), cache.set_leased("other", "text", None, "b")] == [True, True]
    assert not cache.renew("key", "b", 5)
    ahead.close()


def test_a_leased_answer_has_a_time_to_live(cache: DiskCache, clock: Clock) -> None:
    """As one that is set."""
    assert cache.lease("key", "a", 5)
    assert cache.set_leased("key", "text", 1.5, "a")
    clock.now += 2

    assert cache.get("key") is None


# --- the heart ------------------------------------------------------------------------------------------------------


class Lender:
    """A store whose renewals are answered in turn; the last for ever."""

    def __init__(self, *renewed: bool | Exception) -> None:
        self.renewed, self.renewals, self.released = list(renewed), 0, threading.Event()

    def renew(self, key: str, token: str, seconds: float) -> bool:
        """As told."""
        self.renewals += 1
        answer = self.renewed[0] if len(self.renewed) == 1 else self.renewed.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def release(self, key: str, token: str) -> None:
        """Gone, and nothing said."""
        self.released.set()
        raise OSError


def test_a_failing_store_is_tried_again_and_a_lost_lease_is_not() -> None:
    """A lease that is another's by now is let go."""
    heart, store = Heart(), Lender(OSError(), True, False)
    lease = Lease(store, "key", 0.01)

    heart.keep(lease)
    eventually(lambda: not heart._leases)

    assert (store.renewals, store.released.is_set()) == (3, False)


def test_a_dropped_lease_is_given_back_in_the_thread() -> None:
    """At once, not at the next beat; a second time is nothing."""
    heart, store = Heart(), Lender(True)
    lease = Lease(store, "key", 60)

    heart.keep(lease)
    heart.drop(lease)

    assert store.released.wait(10)
    store.released.clear()
    heart.drop(lease)
    heart.keep(other := Lease(Lender(True), "key", 60))
    heart.drop(other)
    assert other.store.released.wait(10)
    assert (store.renewals, store.released.is_set()) == (0, False)


def test_a_short_lease_does_not_wait_for_a_long_one() -> None:
    """The thread sleeps until the first is due, also when that came last."""
    heart, long, short = Heart(), Lender(True), Lender(True)
    leases = Lease(long, "key", 600), Lease(short, "key", 0.03)

    for lease in leases:
        heart.keep(lease)
    eventually(lambda: short.renewals)

    assert long.renewals == 0
    for lease in leases:
        heart.drop(lease)
    assert long.released.wait(10)


# --- flows by hand --------------------------------------------------------------------------------------------------


@pytest.fixture
def plan(cache: DiskCache) -> Plan:
    """A question that is remembered by a store that lends."""
    client = Instructor(None, never_called, model="m", cache=cache)
    return client._plan(User, [{"role": "user", "content": "who?"}], 1, None, True, None, None, {"timeout": 20.0})


def answered(plan: Plan, flow: Any) -> Any:
    """What a flow does with an answer, from where it decides."""
    decide = flow.send(None)
    assert isinstance(decide, Decide)
    assert isinstance(flow.send(attempts(decide)), Send)
    decide = flow.send(completion('{"name": "John", "age": 25}'))
    return flow.send(attempts(decide))


def stored_text(plan: Plan) -> str:
    """What a leader would store."""
    slot = plan.slot
    assert slot is not None
    flow = lead(plan, slot)
    next(flow)
    flow.send(True)
    save = answered(plan, flow)
    flow.close()
    return str(save.given[1])


def test_who_has_the_lease_asks_and_stores(plan: Plan, cache: DiskCache) -> None:
    """Take, look again, ask, store and give back in one."""
    slot = plan.slot
    assert slot is not None
    flow = lead(plan, slot)
    took = next(flow)
    assert isinstance(took, Do)
    key, token, seconds = took.given

    assert (took.store, took.verb, key, seconds) == (cache, "lease", slot.key, 5.0)
    assert Load(cache, slot.key) == flow.send(True)
    assert list(HEART._leases) == [token]
    save = answered(plan, flow)
    assert (save.verb, save.given[0], save.given[2:]) == ("set_leased", slot.key, (None, token))
    assert ending(flow, True).value == JOHN
    assert (list(HEART._leases), stats(cache).stores) == ([], 1)


def test_who_lost_the_lease_has_the_answer_all_the_same(plan: Plan, cache: DiskCache) -> None:
    """It is not stored; the lease is given back, in case it was not lost."""
    slot = plan.slot
    assert slot is not None
    flow = lead(plan, slot)
    token = next(flow).given[1]  # type: ignore[union-attr]
    flow.send(True)
    answered(plan, flow)

    assert Do(cache, "release", (slot.key, token)) == flow.send(False)
    assert ending(flow, None).value == JOHN
    assert stats(cache).stores == 0


def test_who_waits_looks_less_and_less_often(plan: Plan, cache: DiskCache) -> None:
    """For half of its patience; then it asks, and stores as if there were no leases."""
    slot, pauses = plan.slot, []
    assert slot is not None
    flow = lead(plan, slot)
    effect = next(flow)
    while isinstance(effect, Do):
        assert Load(cache, slot.key) == flow.send(False)
        effect = flow.send(None)
        if isinstance(effect, Sleep):
            pauses.append(effect.seconds)
            effect = flow.send(None)

    assert (pauses[0], max(pauses), math.isclose(sum(pauses), 10)) == (0.01, 0.25, True)
    assert isinstance(effect, Decide)
    assert flow.send(attempts(effect)).kwargs["timeout"] == pytest.approx(10)  # type: ignore[union-attr]
    decide = flow.send(completion('{"name": "John", "age": 25}'))
    assert isinstance(decide, Decide)
    assert isinstance(flow.send(attempts(decide)), Save)
    assert ending(flow, None).value == JOHN


def test_who_waits_finds_the_answer(plan: Plan, cache: DiskCache) -> None:
    """A hit like any other."""
    slot, text = plan.slot, stored_text(plan)
    assert slot is not None
    flow = lead(plan, slot)
    next(flow)
    flow.send(False)
    assert isinstance(flow.send(None), Sleep)
    assert isinstance(flow.send(None), Do)
    assert isinstance(flow.send(False), Load)

    assert ending(flow, text).value == JOHN
    assert stats(cache).hits == 1


def test_who_waits_takes_what_becomes_free(plan: Plan, cache: DiskCache) -> None:
    """And looks again: where the answer is there by now, the lease goes back."""
    slot, text = plan.slot, stored_text(plan)
    assert slot is not None
    flow = lead(plan, slot)
    next(flow)
    flow.send(False)
    flow.send(None)
    token = flow.send(None).given[1]  # type: ignore[union-attr]
    assert isinstance(flow.send(True), Load)

    assert Do(cache, "release", (slot.key, token)) == flow.send(text)
    with pytest.warns(CacheWarning, match="giving back a lease"), pytest.raises(StopIteration) as end:
        flow.throw(OSError("disk"))
    assert end.value.value.value == JOHN


def test_who_fails_gives_the_lease_back_before_it_says_so(plan: Plan, cache: DiskCache) -> None:
    """So that the next one may ask at once."""
    slot = plan.slot
    assert slot is not None
    flow = lead(plan, slot)
    token = next(flow).given[1]  # type: ignore[union-attr]
    flow.send(True)
    flow.send(None)

    assert Do(cache, "release", (slot.key, token)) == flow.throw(OSError("gone"))
    with pytest.raises(InstructorRetryException, match="gone"):
        flow.send(None)


def test_a_text_that_will_not_do_is_judged_once(plan: Plan, cache: DiskCache) -> None:
    """However long it stands there: it is complained of once."""
    slot = plan.slot
    assert slot is not None
    flow = lead(plan, slot)
    next(flow)
    flow.send(False)
    with pytest.warns(CacheWarning, match="damaged"):
        flow.send("junk")
    for _ in range(3):
        flow.send(None)
        flow.send(False)
        assert isinstance(flow.send("junk"), Sleep)

    assert stats(cache).errors == 1
    flow.close()


def test_without_patience_nothing_is_waited_for(plan: Plan) -> None:
    """Nor is there an end without a timeout: a lease lasts as long as its owner."""
    slot = plan.slot
    assert slot is not None
    flow = lead(plan, slot, left=0.0)
    next(flow)
    flow.send(False)
    assert isinstance(flow.send(None), Decide)

    plan.kwargs["timeout"] = None
    flow = lead(plan, slot)
    next(flow)
    for _ in range(10_000):
        flow.send(False)
        assert isinstance(flow.send(None), Sleep)
        flow.send(None)


def test_nothing_is_leased_for_an_answer_that_is_not_kept(directory: Path) -> None:
    """Nobody could find it; nor by a store that does not lend, or might store it otherwise than it would set it."""

    class Shouting(DiskCache):
        def set(self, key: str, value: str, ttl: float | None = None) -> None:
            super().set(key, value.upper(), ttl)

    for cache, ttl in ((DiskCache(directory), 0), (DictCache(), None), (Shouting(directory), None)):
        client = Instructor(None, never_called, model="m", cache=cache)
        messages = [{"role": "user", "content": "who?"}]
        plan = client._plan(User, messages, 1, None, True, None, None, {"cache_ttl": ttl})
        assert plan.slot is not None
        flow = lead(plan, plan.slot)

        assert [type(next(flow)), type(flow.send(None))] == [Load, Decide]


class Native(DictCache):
    """A store with asynchronous twins."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []

    async def alease(self, key: str, token: str, seconds: float) -> bool:
        """Always ours."""
        self.done.append("alease")
        return True

    async def aset_leased(self, key: str, value: str, ttl: float | None, token: str) -> bool:
        """Always kept."""
        self.done.append("aset_leased")
        return True

    lease, set_leased = alease, aset_leased
    set = DictCache.set


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
def test_event_loops_use_asynchronous_twins(provider: FakeProvider, use_async: bool) -> None:
    """Where there are any; a sync client cannot, and goes on without."""
    cache = Native()
    client = openai_client(provider, use_async=use_async, cache=cache)

    if use_async:
        assert ask(client, response_model=User, **QUESTION) == JOHN
        assert cache.done == ["alease", "aset_leased"]
        return
    with pytest.warns(CacheWarning, match="is asynchronous, and this client is not"):
        assert client.create(response_model=User, **QUESTION) == JOHN
