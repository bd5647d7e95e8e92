"""Old answers: given at once while a new one is asked for, or where the provider fails; bounded, and marked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import openai
import pytest
from cache_tools import Clock, DictCache
from fake_provider import FakeProvider, Say
from flavours import openai_client
from pydantic import BaseModel
from test_flow import ending, never_called

from instructor.cache import AutoCache, CacheMiss, CacheWarning, DiskCache, TieredCache, info, stats
from instructor.cache.completion import keep
from instructor.cache.entry import Entry, seal, unseal
from instructor.cache.flights import LEADING
from instructor.client import Instructor
from instructor.drive import BEGUN, run, run_async
from instructor.effects import Begin, Emit, Join, Load, Next, Save, Share
from instructor.exceptions import InstructorRetryException
from instructor.flow import solve
from instructor.plan import Plan, growing, several
from instructor.stale import is_outage
from instructor.streaming import stream
from instructor.streams import streamed
from instructor.telemetry import watched

MESSAGES = [{"role": "user", "content": "Extract: John is 25"}]
BOTH: dict[str, Any] = {"cache_ttl": 60, "stale_while_revalidate": 30, "stale_if_error": 300}
DOWN = Say(status=503)


class User(BaseModel):
    """Somebody."""

    name: str
    age: int


JOHN, EVE = User(name="John", age=25), User(name="Eve", age=1)
ANSWERS = '{"name": "John", "age": 25}', '{"name": "Eve", "age": 1}'


class Asking:
    """Somebody who asks one question at a time of a clock's own; sync, or in event loops of its own."""

    def __init__(self, provider: FakeProvider, *, use_async: bool = False, cache: Any = None, **kwargs: Any) -> None:
        self.use_async = use_async
        self.cache = AutoCache() if cache is None else cache
        self.clock = Clock()
        self.client = openai_client(provider, use_async=use_async, cache=self.cache, **kwargs)

    def planned(self, response_model: Any = User, **how: Any) -> Plan:
        """A call, decided."""
        messages = how.pop("messages", MESSAGES)
        plan: Plan = self.client._plan(response_model, messages, 0, None, True, None, None, how)
        plan.clock = self.clock
        return plan

    def __call__(self, response_model: Any = User, **how: Any) -> Any:
        """The answer, after which what goes on in the background comes to its end."""
        answer = self.at_once(response_model, **how)
        finish()
        return answer

    def at_once(self, response_model: Any = User, **how: Any) -> Any:
        """The answer, for which nothing in the background is waited for; event loops cannot do that."""
        plan = self.planned(response_model, **how)
        if plan.streams:
            return [*streamed(plan)]
        return asyncio.run(self._wait(plan)) if self.use_async else run(watched(solve, plan)).value

    async def _wait(self, plan: Plan) -> Any:
        answer = await run_async(watched(solve, plan))
        await asyncio.gather(*BEGUN)
        return answer.value


def finish() -> None:
    """Wait for what goes on in threads."""
    for thread in threading.enumerate():
        if thread.name == "instructor-refresh":
            thread.join(20)


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def asking(request: pytest.FixtureRequest, provider: FakeProvider) -> Asking:
    """Somebody who was told that it is John, and would now be told that it is Eve."""
    provider.say(*ANSWERS)
    asking = Asking(provider, use_async=request.param, **BOTH)
    assert asking() == JOHN
    return asking


def is_stale(result: Any) -> bool:
    """What its receipt says."""
    told = info(result)
    assert told is not None
    return told.stale


# While a new one is asked for


def test_a_fresh_answer_is_as_ever(asking: Asking, provider: FakeProvider) -> None:
    """Up to the end of its `cache_ttl`."""
    asking.clock.now += 59.9
    answer = asking()

    assert (answer, is_stale(answer), provider.calls) == (JOHN, False, 1)


def test_an_old_answer_is_given_and_refreshed(asking: Asking, provider: FakeProvider) -> None:
    """At once, and marked; the next one gets what came of it."""
    asking.clock.now += 60
    old = asking()
    new = asking()

    assert (old, is_stale(old), new, is_stale(new)) == (JOHN, True, EVE, False)
    assert (provider.calls, stats(asking.cache).hits) == (2, 2)


def test_one_that_is_too_old_is_none(asking: Asking, provider: FakeProvider) -> None:
    """What is past both windows is a miss, also when the provider fails."""
    asking.clock.now += 60 + 30
    assert asking() == EVE

    provider.say(DOWN)
    asking.clock.now += 60 + 300
    with pytest.raises(InstructorRetryException):
        asking()


def test_who_does_not_ask_for_old_answers_gets_none(asking: Asking, provider: FakeProvider) -> None:
    """For such a call it is a miss; it may also be said call by call, and 0 or None says no."""
    asking.clock.now += 70
    assert asking(stale_while_revalidate=0, stale_if_error=None, cache_ttl=None) == EVE
    assert provider.calls == 2


def test_one_refresh_at_a_time(provider: FakeProvider) -> None:
    """However many find the same answer old; none of them waits."""
    provider.say(*ANSWERS)
    asking = Asking(provider, **BOTH)
    asking()
    asking.clock.now += 70
    provider.gate = threading.Event()

    first = asking.at_once()
    assert provider.arrived.acquire(timeout=20)
    assert provider.arrived.acquire(timeout=20)
    others = [asking.at_once() for _ in range(5)]
    provider.gate.set()
    finish()

    assert [first, *others] == [JOHN] * 6
    assert (asking(), provider.calls) == (EVE, 2)


def test_tasks_share_a_refresh(provider: FakeProvider) -> None:
    """Those of one event loop, who all find the answer old before the first of them could begin."""
    provider.say(*ANSWERS)
    asking = Asking(provider, use_async=True, **BOTH)
    asking()
    asking.clock.now += 70

    async def main() -> list[Any]:
        answers = await asyncio.gather(*(run_async(solve(asking.planned())) for _ in range(5)))
        await asyncio.gather(*BEGUN)
        return [answer.value for answer in answers]

    assert asyncio.run(main()) == [JOHN] * 5
    assert (asking(), provider.calls) == (EVE, 2)


def test_processes_share_a_refresh(provider: FakeProvider, tmp_path: Path) -> None:
    """Where the store lends: two caches on one directory know of each other what two processes do."""
    provider.say(*ANSWERS)
    with DiskCache(tmp_path) as one, DiskCache(tmp_path) as two:
        askings = [Asking(provider, cache=cache, **BOTH) for cache in (one, two)]
        askings[0]()
        provider.gate = threading.Event()
        for asking in askings:
            asking.clock.now += 70
            assert asking.at_once() == JOHN
        assert provider.arrived.acquire(timeout=20)
        assert provider.arrived.acquire(timeout=20)
        provider.gate.set()
        finish()

        assert [asking() for asking in askings] == [EVE, EVE]
    assert provider.calls == 2


def test_a_refresh_that_fails_is_told_and_not_raised(asking: Asking, provider: FakeProvider) -> None:
    """As a warning and by a hook; the old answer serves on."""
    heard: list[Any] = []
    asking.client.on("cache:error", lambda problem, doing: heard.append((type(problem), doing)))
    provider.say(DOWN)
    asking.clock.now += 70

    with pytest.warns(CacheWarning, match="refreshing"):
        assert asking() == JOHN
    assert heard == [(InstructorRetryException, "refreshing")]
    assert is_stale(asking())


@pytest.mark.filterwarnings("error")
def test_nothing_escapes_from_the_background(asking: Asking, provider: FakeProvider) -> None:
    """Not even what a hook does there, and where warnings are errors: no task's exception is left unread."""

    def broken(*_: object, **__: object) -> None:
        raise OSError

    asking.client.on("cache:error", broken)
    provider.say(DOWN)
    asking.clock.now += 70

    assert asking() == JOHN


def test_a_loop_that_ends_takes_the_refresh_along(provider: FakeProvider) -> None:
    """Before it began, or in its middle; the next one begins anew."""
    provider.say(*ANSWERS)
    asking = Asking(provider, use_async=True, **BOTH)
    asking()
    asking.clock.now += 70

    assert asyncio.run(run_async(solve(asking.planned()))).value == JOHN
    assert not BEGUN
    assert asking() == JOHN
    assert asking() == EVE


def test_a_loop_that_was_closed_refreshes_nothing(provider: FakeProvider) -> None:
    """Nor does it keep others from it: who closes a loop without cancelling what goes on in it leaves it unfinished."""
    provider.say(*ANSWERS)
    asking = Asking(provider, use_async=True, **BOTH)
    asking()
    asking.clock.now += 70
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # "Task was destroyed but it is pending!"
    loop.run_until_complete(run_async(solve(asking.planned())))
    loop.run_until_complete(asyncio.sleep(0))
    assert len(asking.cache._shelf.flights) == 1
    loop.close()

    assert [asking(), asking()] == [JOHN, EVE]
    assert not BEGUN


def test_what_surrounds_a_call_surrounds_its_refresh(asking: Asking) -> None:
    """The context variables of the program, such as whose call it is; not the flights that the call leads."""
    tenant = ContextVar("tenant", default="nobody")
    heard: list[Any] = []
    asking.client.on("cache:miss", lambda key: heard.append((tenant.get(), len(LEADING.get()))))
    asking.clock.now += 70
    mark = tenant.set("Ada"), LEADING.set(frozenset({(0, "another")}))
    try:
        asking()
    finally:
        tenant.reset(mark[0])
        LEADING.reset(mark[1])

    assert heard == [("Ada", 1)], "it leads its own"


def test_who_goes_on_writing_changes_no_refresh(provider: FakeProvider) -> None:
    """What is asked in the background is what was asked, however late that begins."""
    provider.say(*ANSWERS)
    asking, messages = Asking(provider, **BOTH), [dict(MESSAGES[0])]
    asking(messages=messages)
    asking.clock.now += 70
    plan = asking.planned(messages=messages)
    assert plan.slot is not None
    flow = solve(plan)
    next(flow)
    begin = flow.send(asking.cache.get(plan.slot.key))
    messages.append({"role": "user", "content": "and how old?"})

    run(begin.work(begin.plan))

    assert [len(request["messages"]) for request in provider.requests] == [1, 1]
    assert asking() == EVE


# Where the provider fails


@pytest.mark.parametrize("say", [DOWN, Say(status=500), Say(status=429), Say(cut=True)], ids=repr)
def test_an_old_answer_stands_in_for_one_that_is_not_to_be_had(
    asking: Asking, provider: FakeProvider, say: Say
) -> None:
    """Down, failing, busy, gone in the middle: the provider is asked first, and the old answer is marked."""
    provider.say(say)
    asking.clock.now += 60 + 299
    answer = asking()

    assert (answer, is_stale(answer), provider.calls) == (JOHN, True, 2)
    provider.say(ANSWERS[1])
    assert asking() == EVE


@pytest.mark.parametrize(
    "say", [Say(status=400), Say(status=401), Say('{"name": "Eve"}'), Say(finish="length"), Say(refusal="no")], ids=repr
)
def test_what_is_wrong_with_the_question_or_the_answer_is_told(
    asking: Asking, provider: FakeProvider, say: Say
) -> None:
    """It would not go by itself."""
    provider.say(say)
    asking.clock.now += 100

    with pytest.raises(Exception, match=r"."):
        asking()
    assert stats(asking.cache).hits == 0


def test_a_plain_completion_may_be_old(provider: FakeProvider) -> None:
    """Its errors are the SDK's own; the hook tells what the completion cannot."""
    asking, heard = Asking(provider, **BOTH), []
    asking.client.on("cache:hit", lambda key, **facts: heard.append(facts))
    first = asking(None)
    provider.say(DOWN)
    asking.clock.now += 100

    assert asking(None) == first
    assert heard == [{"age": 100, "stale": True}]
    asking.clock.now += 300
    with pytest.raises(openai.InternalServerError):
        asking(None)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (httpx.ReadTimeout("late"), True),
        (httpx.RemoteProtocolError("cut"), True),
        (ConnectionResetError(), True),
        (asyncio.TimeoutError(), True),
        (type("APIError", (Exception,), {"code": 503})(), True),
        (type("APIError", (Exception,), {"code": 404})(), False),
        (type("ClientError", (Exception,), {"response": {"ResponseMetadata": {"HTTPStatusCode": 500}}})(), True),
        (type("ClientError", (Exception,), {"response": {"ResponseMetadata": {"HTTPStatusCode": 403}}})(), False),
        (type("APIError", (Exception,), {"code": "invalid"})(), False),
        (type("APIStatusError", (Exception,), {"status_code": 200})(), True),
        (type("AioRpcError", (Exception,), {"code": lambda _: SimpleNamespace(name="UNAVAILABLE")})(), True),
        (type("AioRpcError", (Exception,), {"code": lambda _: SimpleNamespace(name="INVALID_ARGUMENT")})(), False),
        (FileNotFoundError(), False),
        (TypeError("unexpected keyword"), False),
    ],
    ids=repr,
)
def test_what_an_outage_is(error: Exception, expected: bool) -> None:
    """By its status where there is one, by its name where nobody answered."""
    assert is_outage(error) == expected


# Streams


STREAMS = {"object": growing(User), "list": several(User), "events": None}


@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_may_be_old(provider: FakeProvider, kind: str) -> None:
    """It is replayed while a new one is heard in the background, and where the provider fails."""
    both = '{"name": "John", "age": 25, "tasks": [{"name": "John", "age": 25}]}'
    provider.say(both, both.replace("John", "Eve"))
    asking = Asking(provider, stream=True, **BOTH)
    first = asking(STREAMS[kind])
    asking.clock.now += 70
    old, new = asking(STREAMS[kind]), asking(STREAMS[kind])
    provider.say(DOWN)
    asking.clock.now += 100
    again = asking(STREAMS[kind])

    assert (old, provider.calls) == (first, 3)
    assert new != first
    assert (new, len(new)) == (again, len(first)), "it was heard piece by piece"
    assert kind != "object" or is_stale(again[-1])


@pytest.mark.parametrize("shown", [False, True])
def test_of_what_was_shown_nothing_is_taken_back(shown: bool) -> None:
    """A stream that breaks off is replaced by an old one as long as nothing was shown, and not continued with it."""
    client = Instructor(None, never_called, model="m", cache=DictCache())
    plan = client._plan_stream(growing(User), MESSAGES, 0, None, True, None, dict(BOTH))
    plan.clock = Clock(1000.0)
    assert plan.slot is not None
    flow = stream(plan)
    assert isinstance(next(flow), Load)
    assert isinstance(flow.send(aged(plan, 900.0)), Join)
    assert isinstance(flow.send(SimpleNamespace(leading=True)), Next)
    if not shown:
        flow.throw(httpx.ReadError("cut"))
        assert next(flow) == Emit([JOHN])
        return
    assert flow.send(Emit([EVE])) == Emit([EVE])
    assert isinstance(flow.send(None), Next)
    with pytest.raises(httpx.ReadError):
        flow.throw(httpx.ReadError("cut"))


# What a call may say


def test_a_window_needs_a_beginning(provider: FakeProvider) -> None:
    """There is no past its time where there is no time; a client may leave it to its calls."""
    for name in ("stale_if_error", "stale_while_revalidate"):
        with pytest.raises(ValueError, match=f"{name}.* cache_ttl: give that, too"):
            Asking(provider, **{name: 30})()
        assert Asking(provider, **{name: timedelta(seconds=30)})(cache_ttl=60) == JOHN
    assert provider.calls == 2


@pytest.mark.parametrize("seconds", [-1, "60", True, float("inf")])
@pytest.mark.parametrize("name", ["stale_if_error", "stale_while_revalidate"])
def test_a_window_is_a_number_of_seconds(provider: FakeProvider, name: str, seconds: Any) -> None:
    """Anything else is refused, by the client and by a call."""
    with pytest.raises(ValueError, match=name):
        Asking(provider, **{name: seconds})
    with pytest.raises(ValueError, match=name):
        Asking(provider)(cache_ttl=60, **{name: seconds})
    assert provider.calls == 0


def test_a_store_keeps_an_answer_as_long_as_it_may_be_of_use(provider: FakeProvider) -> None:
    """Its time to live, and the longer of the two windows."""
    clock = Clock()
    asking = Asking(provider, cache=AutoCache(honor_ttl=True, clock=clock), **BOTH)
    asking()
    clock.now += 60 + 299
    assert len(asking.cache) == 1
    clock.now += 1
    assert len(asking.cache) == 0


def test_offline_an_old_answer_will_do(asking: Asking, provider: FakeProvider) -> None:
    """As after an error, and nothing is asked; past its windows there is none."""
    asking.clock.now += 60 + 299
    assert is_stale(asking(cache_mode="offline"))
    asking.clock.now += 1
    with pytest.raises(CacheMiss):
        asking(cache_mode="offline")
    assert provider.calls == 1


def test_offline_who_takes_no_old_answers_has_none(asking: Asking) -> None:
    """What is past its freshness is a miss."""
    asking.clock.now += 70
    with pytest.raises(CacheMiss):
        asking(cache_mode="offline", stale_if_error=0, stale_while_revalidate=0)


def test_who_does_not_store_does_not_refresh(asking: Asking, provider: FakeProvider) -> None:
    """With `read` there is nothing to do in the background: it asks. With `refresh` nothing old is looked at."""
    asking.clock.now += 70
    assert asking(cache_mode="read") == EVE
    provider.say(DOWN)
    assert is_stale(asking(cache_mode="read"))
    with pytest.raises(InstructorRetryException):
        asking(cache_mode="refresh")


def test_old_handlers_are_called_as_ever(provider: FakeProvider) -> None:
    """Who knows of `age` only is told no more; who takes all is told that it is stale."""
    heard: list[Any] = []
    asking = Asking(provider, **BOTH)
    asking.client.on("cache:hit", lambda key: heard.append(len(key)))
    asking.client.on("cache:hit", lambda key, *, age: heard.append(age))
    asking.client.on("cache:hit", lambda key, **facts: heard.append(facts))
    asking()
    asking()
    asking.clock.now += 70
    asking()

    assert heard == [64, 0, {"age": 0}, 64, 70, {"age": 70, "stale": True}]


# The entry


def test_an_entry_of_before_is_fresh_as_long_as_it_is_there() -> None:
    """And one that is fresh for a while is told apart by its version, which is part of the check."""
    kept = keep({"choices": []}, "dict")
    plain = seal(Entry(("x",), kept, "m", 1.0), "key")
    aging = seal(Entry(("x",), kept, "m", 1.0, fresh_until=61.0), "key")

    assert plain.startswith("instructor/1 ")
    assert aging.startswith("instructor/2 ")
    assert [entry and entry.fresh_until for entry in (unseal(plain, "key"), unseal(aging, "key"))] == [None, 61.0]
    assert [unseal(text.replace("/2", "/3").replace("/1", "/4"), "key") for text in (plain, aging)] == [None, None]


# By hand


@pytest.fixture
def old() -> tuple[Plan, str]:
    """A call that takes old answers, and an entry that is one."""
    client = Instructor(None, never_called, model="m", cache=DictCache())
    plan = client._plan(User, MESSAGES, 0, None, True, None, None, dict(BOTH))
    plan.clock = Clock(1000.0)
    return plan, aged(plan, 990.0)


def aged(plan: Plan, until: float) -> str:
    """An entry that was fresh until then."""
    assert plan.slot is not None
    return seal(Entry((ANSWERS[0],), keep({"choices": []}, "dict"), "m", 900.0, fresh_until=until), plan.slot.key)


def test_what_is_old_begins_a_flow_of_its_own(old: tuple[Plan, str]) -> None:
    """Look, begin, done; what began joins the flight that everybody joins, and looks again for something newer."""
    plan, text = old
    flow = solve(plan)

    assert isinstance(next(flow), Load)
    begin = flow.send(text)
    assert isinstance(begin, Begin)
    assert ending(flow, None).value == JOHN
    share = next(begin.work(begin.plan))
    assert isinstance(share, Share)
    assert plan.slot is not None
    assert share.key == plan.slot.key
    look = share.work(None)
    assert isinstance(next(look), Load)
    assert not isinstance(look.send(text), (Save, Begin)), "the old one is refused: it is asked for"


def test_nothing_begins_while_it_is_being_asked(old: tuple[Plan, str]) -> None:
    """Whoever leads will store it."""
    plan, text = old
    assert plan.slot is not None
    plan.slot.shelf.flights.board(plan.slot.key)
    flow = solve(plan)
    next(flow)

    assert ending(flow, text).value == JOHN


def test_an_error_of_those_who_lead_is_ours(old: tuple[Plan, str]) -> None:
    """Who waited in vain takes the old answer, too."""
    plan, text = old
    plan.clock = Clock(990.0 + 100)
    flow = solve(plan)
    next(flow)
    assert isinstance(flow.send(text), Share)

    with pytest.raises(StopIteration) as end:
        flow.throw(TimeoutError("in vain"))
    assert end.value.value.value == JOHN


def test_a_tier_that_is_behind_is_passed_over(provider: FakeProvider) -> None:
    """Who finds an old copy close by looks for a newer one far away before asking."""
    provider.say(*ANSWERS)
    far = AutoCache()
    one, two = (Asking(provider, cache=TieredCache([AutoCache(), far], freshness=None), **BOTH) for _ in range(2))
    first: Iterable[User] = (one(), two())
    for asking in (one, two):
        asking.clock.now += 70
    again = [one(), two(), one(), two()]

    assert (list(first), again, provider.calls) == ([JOHN, JOHN], [JOHN, JOHN, EVE, EVE], 2)
