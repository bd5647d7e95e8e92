"""Streams in flight: who asks while somebody is being answered reads along, whoever goes away meanwhile."""

from __future__ import annotations

import asyncio
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from fake_provider import FakeProvider, Say
from flavours import ask, openai_client, responses_client
from pydantic import BaseModel, ValidationError, field_validator
from test_cache_flights import all_wait, everybody_waits

from instructor.cache import AutoCache
from instructor.cache.shelf import shelf_of, stats
from instructor.exceptions import InstructorRetryException

QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": "Extract: John is 25, Ann is 31"}]}


class User(BaseModel):
    """Somebody."""

    name: str
    age: int


JOHN, ANN = User(name="John", age=25), User(name="Ann", age=31)
BOTH = '{"tasks": [{"name": "John", "age": 25}, {"name": "Ann", "age": 31}]}'
SOME, ALL = 10, 100
"""Events until John has been said, and more than there are."""


@pytest.fixture
def paced(provider: FakeProvider) -> FakeProvider:
    """A provider that says as much as it is allowed to."""
    provider.say(BOTH)
    provider.pace = threading.Semaphore(0)
    return provider


@pytest.fixture(params=[openai_client, responses_client], ids=["chat", "responses"])
def make(request: pytest.FixtureRequest) -> Any:
    """A client of each of OpenAI's two APIs."""
    return request.param


def asked(client: Any, model: Any = User, **kwargs: Any) -> Any:
    """Both of them, one after the other."""
    return client.create_iterable(response_model=model, **QUESTION, **kwargs)


async def items(stream: Any) -> list[Any]:
    """All that comes."""
    return [item async for item in stream]


@pytest.mark.fault("B4")
def test_threads_read_along(paced: FakeProvider, make: Any) -> None:
    """20 threads, one call; each has seen John before Ann is said."""
    cache, seen = AutoCache(), threading.Semaphore(0)
    client = make(paced, cache=cache)

    def listen() -> list[User]:
        stream = asked(client)
        first = next(stream)
        seen.release()
        return [first, *stream]

    with ThreadPoolExecutor(20) as pool:
        listening = [pool.submit(listen) for _ in range(20)]
        everybody_waits(cache, 20)
        paced.pace.release(SOME)
        for _ in range(20):
            assert seen.acquire(timeout=20)
        sent = paced.sent
        paced.pace.release(ALL)
        heard = [future.result(20) for future in listening]

    assert heard == [[JOHN, ANN]] * 20
    assert len({id(user) for users in heard for user in users}) == 40
    assert sent <= SOME
    assert (paced.calls, len(shelf_of(cache).flights)) == (1, 0)


@pytest.mark.fault("B4")
def test_tasks_read_along(paced: FakeProvider, make: Any) -> None:
    """50 tasks, one call; each has seen John before Ann is said."""
    cache = AutoCache()
    client = make(paced, use_async=True, cache=cache)

    async def main() -> tuple[list[User], list[list[User]], int]:
        streams = [asked(client) for _ in range(50)]
        firsts = [asyncio.create_task(anext(stream)) for stream in streams]
        await all_wait(cache, 50)
        paced.pace.release(SOME)
        first, sent = await asyncio.gather(*firsts), paced.sent
        paced.pace.release(ALL)
        return first, await asyncio.gather(*map(items, streams)), sent

    first, rest, sent = asyncio.run(main())
    assert (first, rest) == ([JOHN] * 50, [[ANN]] * 50)
    assert sent <= SOME
    assert (paced.calls, len(shelf_of(cache).flights)) == (1, 0)


def test_a_listener_at_leisure_holds_nobody_up(paced: FakeProvider) -> None:
    """Who asked first stops after one item, and keeps the stream: another one gets all of it."""
    cache = AutoCache()
    client = openai_client(paced, cache=cache)
    paced.pace.release(ALL)
    leisurely = asked(client)
    first = next(leisurely)

    assert list(asked(client)) == [JOHN, ANN]
    assert client.create(response_model=list[User], **QUESTION) == [JOHN, ANN]
    assert [first, *leisurely] == [JOHN, ANN]
    assert (paced.calls, stats(cache).stores) == (1, 1)


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
def test_create_waits_for_a_stream_in_flight(paced: FakeProvider, make: Any, use_async: bool) -> None:
    """`create`, asked in another world while a thread listens at leisure, fetches the rest itself."""
    cache = AutoCache()
    leisurely = asked(make(paced, cache=cache))
    paced.pace.release(ALL)
    first = next(leisurely)

    users = ask(make(paced, use_async=use_async, cache=cache), response_model=list[User], **QUESTION)

    assert users == [first, *leisurely] == [JOHN, ANN]
    assert paced.calls == 1


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
def test_a_stream_waits_for_create_in_flight(provider: FakeProvider, make: Any, use_async: bool) -> None:
    """What `create` is being told is given item by item when it is there."""
    provider.say(BOTH)
    cache, provider.gate = AutoCache(), threading.Event()
    client, other = make(provider, cache=cache), make(provider, use_async=use_async, cache=cache)

    with ThreadPoolExecutor(2) as pool:
        leading = pool.submit(client.create, response_model=list[User], **QUESTION)
        everybody_waits(cache, 1)
        stream = asked(other)
        following = pool.submit(asyncio.run, items(stream)) if use_async else pool.submit(list, stream)
        everybody_waits(cache, 2)
        provider.gate.set()

        assert leading.result(20) == following.result(20) == [JOHN, ANN]
    assert provider.calls == 1


def test_a_task_follows_a_thread_and_a_thread_a_task(paced: FakeProvider, make: Any) -> None:
    """One flight for both worlds, whoever leads."""
    for use_async in (False, True):
        cache, paced.pace = AutoCache(), threading.Semaphore(0)
        clients = [make(paced, use_async=each, cache=cache) for each in (use_async, not use_async)]
        with ThreadPoolExecutor(2) as pool:
            heard = []
            for number, client in enumerate(clients, 1):
                stream = asked(client)
                is_async = hasattr(stream, "__aiter__")
                heard.append(pool.submit(asyncio.run, items(stream)) if is_async else pool.submit(list, stream))
                everybody_waits(cache, number)
            paced.pace.release(ALL)

            assert [future.result(20) for future in heard] == [[JOHN, ANN]] * 2
    assert paced.calls == 2


@pytest.mark.fault("B5")
def test_a_leader_that_goes_away_takes_nobody_with_it(paced: FakeProvider, make: Any) -> None:
    """A thread abandons its loop in the middle; the other hears the same call to its end."""
    cache = AutoCache()
    client = make(paced, cache=cache)
    leader, follower = asked(client), asked(client)
    paced.pace.release(SOME)
    assert [next(leader), next(follower)] == [JOHN, JOHN]

    leader.close()
    paced.pace.release(ALL)

    assert list(follower) == [ANN]
    assert (paced.calls, stats(cache).stores, len(shelf_of(cache).flights)) == (1, 1, 0)


@pytest.mark.fault("B5")
@pytest.mark.filterwarnings("error")
def test_a_cancelled_leader_takes_nobody_with_it(paced: FakeProvider, make: Any) -> None:
    """50 tasks; the first is cancelled half-way; 49 get everything from one call."""
    cache = AutoCache()
    client = make(paced, use_async=True, cache=cache)

    async def main() -> tuple[list[list[User]], BaseException | None]:
        tasks = [asyncio.create_task(items(asked(client))) for _ in range(50)]
        await all_wait(cache, 50)
        paced.pace.release(SOME)
        await asyncio.to_thread(_sent, paced, SOME)
        tasks[0].cancel()
        await asyncio.wait({tasks[0]})
        paced.pace.release(ALL)
        heard = await asyncio.gather(*tasks[1:])
        return heard, None if not tasks[0].cancelled() else asyncio.CancelledError()

    heard, gone = asyncio.run(main())
    gc.collect()
    assert heard == [[JOHN, ANN]] * 49
    assert isinstance(gone, asyncio.CancelledError)
    assert (paced.calls, stats(cache).stores, len(shelf_of(cache).flights)) == (1, 1, 0)


def _sent(paced: FakeProvider, number: int) -> None:
    for _ in range(2000):
        if paced.sent >= number:
            return
        threading.Event().wait(0.005)


@pytest.mark.fault("B6")
@pytest.mark.filterwarnings("error")
def test_when_all_are_cancelled_the_work_is(paced: FakeProvider, make: Any) -> None:
    """50 tasks cancelled: the connection is closed, nothing stored, nothing left in flight."""
    cache = AutoCache()
    client = make(paced, use_async=True, cache=cache)

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(items(asked(client))) for _ in range(50)]
        await all_wait(cache, 50)
        paced.pace.release(SOME)
        await asyncio.to_thread(_sent, paced, SOME)
        for task in tasks:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert {type(result) for result in asyncio.run(main())} == {asyncio.CancelledError}
    gc.collect()
    assert paced.gone.wait(10)
    assert (paced.calls, stats(cache).stores, len(shelf_of(cache).flights)) == (1, 0, 0)


@pytest.mark.fault("B7")
def test_an_error_is_shared_and_not_stored(paced: FakeProvider, make: Any) -> None:
    """A stream that breaks off raises in all who listen; the next one asks anew."""
    paced.say(Say(BOTH, events=SOME), BOTH)
    cache = AutoCache()
    client = make(paced, cache=cache)
    leader, follower = asked(client), asked(client)
    paced.pace.release(ALL)
    assert [next(leader), next(follower)] == [JOHN, JOHN]

    errors = []
    for stream in (leader, follower):
        with pytest.raises(Exception, match=r".") as raised:
            next(stream)
        errors.append(raised.value)

    assert type(errors[0]) is type(errors[1])
    assert errors[0] is not errors[1]
    paced.pace.release(ALL)
    assert (list(asked(client)), paced.calls, stats(cache).stores) == ([JOHN, ANN], 2, 1)


@pytest.mark.fault("B11")
def test_a_validator_may_ask_its_own_question(provider: FakeProvider) -> None:
    """A stream whose validator asks for the same stream: no wait for itself."""
    provider.say(BOTH)
    client = openai_client(provider, cache=AutoCache())
    inside: list[list[Any]] = []

    class Curious(BaseModel):
        """Somebody."""

        name: str
        age: int

        @field_validator("name")
        @classmethod
        def _ask(cls, name: str) -> str:
            if not inside:
                inside.append([])
                inside[0] = [each.name for each in asked(client, Curious)]
            return name

    assert [each.name for each in asked(client, Curious)] == ["John", "Ann"] == inside[0]


@pytest.mark.fault("B12")
def test_each_listener_waits_as_long_as_it_is_ready_to(paced: FakeProvider) -> None:
    """A follower whose timeout is short gives up; the leader, at leisure, does not notice."""
    client = openai_client(paced, cache=AutoCache())
    paced.pace.release(1)

    with ThreadPoolExecutor(1) as pool:
        leading = pool.submit(list, asked(client))
        everybody_waits(client.kwargs["cache"], 1)
        with pytest.raises(InstructorRetryException, match=r"Nothing more came for 0.1 s"):
            list(asked(client, timeout=0.1))
        paced.pace.release(ALL)

        assert leading.result(20) == [JOHN, ANN]
    assert paced.calls == 1


def test_a_model_that_refuses_asks_for_itself(paced: FakeProvider) -> None:
    """A follower whose own model has a validator of the same schema that refuses what was said asks anew."""
    client, cache = openai_client(paced), AutoCache()

    def model(refuses: str) -> Any:
        def check(name: str) -> str:
            if name == refuses:
                raise ValueError(f"not {name}")
            return name

        fields = {"__annotations__": {"name": str, "age": int}, "__module__": __name__, "__doc__": "Somebody."}
        return type(User)("User", (BaseModel,), {**fields, "check": field_validator("name")(staticmethod(check))})

    paced.say(BOTH, '{"tasks": [{"name": "Eve", "age": 1}]}')
    leader, follower = asked(client, model(""), cache=cache), asked(client, model("John"), cache=cache)
    paced.pace.release(ALL)
    first = next(leader)

    heard = [each.name for each in follower]

    assert ([first.name, *(each.name for each in leader)], heard) == (["John", "Ann"], ["Eve"])
    assert paced.calls == 2


def test_a_model_that_refuses_late_raises(paced: FakeProvider) -> None:
    """What a follower has shown cannot be taken back: it raises, and the leader does not notice."""
    client, cache = openai_client(paced), AutoCache()

    class Picky(BaseModel):
        """Somebody."""

        name: str
        age: int

        @field_validator("name")
        @classmethod
        def _no_ann(cls, name: str) -> str:
            if name == "Ann":
                raise ValueError("no Ann")
            return name

    Picky.__name__ = Picky.__qualname__ = "User"
    Picky.model_config["title"] = "User"
    Picky.model_rebuild(force=True)
    leader, follower = asked(client, cache=cache), asked(client, Picky, cache=cache)
    paced.pace.release(ALL)
    assert (next(leader), next(follower).name) == (JOHN, "John")

    with pytest.raises(InstructorRetryException) as raised:
        list(follower)

    assert isinstance(raised.value.__cause__, ValidationError)
    assert (list(leader), paced.calls) == ([ANN], 1)


def test_events_are_read_along_too(paced: FakeProvider, make: Any) -> None:
    """The SDK's own events: equal ones for each, and no two the same object."""
    client = make(paced, cache=AutoCache())
    streams = [client.create(response_model=None, stream=True, **QUESTION) for _ in range(2)]
    paced.pace.release(ALL)

    firsts = [next(stream) for stream in streams]
    heard = [[first, *stream] for first, stream in zip(firsts, streams, strict=True)]

    assert heard[0] == heard[1]
    assert {id(event) for event in heard[0]}.isdisjoint(map(id, heard[1]))
    assert paced.calls == 1


def test_a_stream_that_nobody_began_leaves_nothing(provider: FakeProvider) -> None:
    """Asked for, never iterated: no call, no flight."""
    cache = AutoCache()
    stream = asked(openai_client(provider, cache=cache))

    with suppress(AttributeError):
        stream.close()

    assert (provider.calls, len(shelf_of(cache).flights)) == (0, 0)


def test_the_garbage_collector_may_drop_a_stream_anywhere(provider: FakeProvider) -> None:
    """A stream in a reference cycle is closed by whoever happens to make an object, also inside the cache's lock."""
    provider.say(BOTH)
    client = openai_client(provider, cache=AutoCache())
    cycle: dict[str, Any] = {}
    cycle["self"], cycle["stream"] = cycle, asked(client)
    assert next(cycle["stream"]) == JOHN
    flights = shelf_of(client.kwargs["cache"]).flights

    def listen() -> list[User]:
        with flights._lock:
            cycle.clear()
        return list(asked(client))

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(listen).result(20) == [JOHN, ANN]


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
def test_when_nothing_came_of_it_one_of_those_who_wait_asks(paced: FakeProvider, use_async: bool) -> None:
    """The first one's timeout passes before anything is said: ten others make one more call between them."""
    cache = AutoCache()
    leader = openai_client(paced, cache=cache, timeout=0.3)
    others = openai_client(paced, use_async=use_async, cache=cache, timeout=20)
    failed: list[Any] = []

    def lead() -> None:
        try:
            list(asked(leader, max_retries=0))
        except InstructorRetryException as error:
            failed.append(error)

    def listen() -> list[User]:
        stream = asked(others)
        return asyncio.run(items(stream)) if use_async else list(stream)

    with ThreadPoolExecutor(11) as pool:
        leading = pool.submit(lead)
        everybody_waits(cache, 1)
        listening = [pool.submit(listen) for _ in range(10)]
        everybody_waits(cache, 11)
        leading.result(20)
        paced.pace.release(ALL)

        assert [future.result(20) for future in listening] == [[JOHN, ANN]] * 10
    assert len(failed) == 1
    assert paced.calls == 2


def test_what_the_leader_does_to_an_event_is_its_own_affair(paced: FakeProvider) -> None:
    """A follower hears what the provider said."""
    client = openai_client(paced, cache=AutoCache())
    leader, follower = (client.create(response_model=None, stream=True, **QUESTION) for _ in range(2))
    paced.pace.release(ALL)

    for event in leader:
        event.id = "changed"

    assert {event.id for event in follower} == {"chatcmpl-1"}
    assert paced.calls == 1
