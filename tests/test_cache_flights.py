"""Single flight: identical questions asked at once make one call, whoever asks and whatever goes wrong."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fake_provider import FakeProvider, Say
from flavours import ask, openai_client
from pydantic import BaseModel, ValidationError, field_validator

from instructor.cache import AutoCache, BaseCache
from instructor.cache.shelf import shelf_of
from instructor.exceptions import InstructorRetryException

QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": "Extract: John is 25"}]}


class User(BaseModel):
    """Somebody."""

    name: str
    age: int


JOHN = User(name="John", age=25)


def everybody_waits(cache: BaseCache, number: int) -> None:
    """Return once `number` of us are on board of one flight."""
    flights = shelf_of(cache).flights
    end = time.monotonic() + 10
    while sum(flight.waiting for flight in list(flights._open.values())) < number:
        assert time.monotonic() < end, "nobody comes"
        threading.Event().wait(0.001)


async def all_wait(cache: BaseCache, number: int) -> None:
    """As `everybody_waits`, for tasks of this loop."""
    await asyncio.to_thread(everybody_waits, cache, number)


@pytest.mark.fault("B4")
def test_threads_that_ask_the_same_make_one_call(provider: FakeProvider) -> None:
    """20 threads, one call, 20 objects."""
    cache, provider.gate = AutoCache(), threading.Event()
    client = openai_client(provider, cache=cache)

    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(client.create, response_model=User, **QUESTION) for _ in range(20)]
        everybody_waits(cache, 20)
        provider.gate.set()
        users = [future.result(20) for future in asked]

    assert users == [JOHN] * 20
    assert len({id(user) for user in users}) == 20
    assert (provider.calls, len(shelf_of(cache).flights)) == (1, 0)


@pytest.mark.fault("B4")
def test_tasks_that_ask_the_same_make_one_call(provider: FakeProvider) -> None:
    """50 tasks, one call."""
    cache, provider.gate = AutoCache(), threading.Event()
    client = openai_client(provider, use_async=True, cache=cache)

    async def main() -> list[User]:
        tasks = [asyncio.create_task(client.create(response_model=User, **QUESTION)) for _ in range(50)]
        await all_wait(cache, 50)
        provider.gate.set()
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == [JOHN] * 50
    assert (provider.calls, len(shelf_of(cache).flights)) == (1, 0)


@pytest.mark.fault("B4")
def test_plain_completions_are_shared_too(provider: FakeProvider) -> None:
    """Nobody gets another's object."""
    cache, provider.gate = AutoCache(), threading.Event()
    client = openai_client(provider, cache=cache)

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(client.create, **QUESTION) for _ in range(4)]
        everybody_waits(cache, 4)
        provider.gate.set()
        completions = [future.result(20) for future in asked]

    assert provider.calls == 1
    assert [completions[0]] * 4 == completions
    assert len({id(completion) for completion in completions}) == 4


@pytest.mark.fault("B5")
def test_a_cancelled_leader_does_not_harm_its_followers(provider: FakeProvider) -> None:
    """49 of 49 followers get their answer from the one call; only the leader is cancelled."""
    cache, provider.gate = AutoCache(), threading.Event()
    client = openai_client(provider, use_async=True, cache=cache)

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(client.create(response_model=User, **QUESTION)) for _ in range(50)]
        await all_wait(cache, 50)
        tasks[0].cancel()
        await asyncio.wait([tasks[0]])
        provider.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    leader, *followers = asyncio.run(main())

    assert isinstance(leader, asyncio.CancelledError)
    assert followers == [JOHN] * 49
    assert provider.calls == 1


@pytest.mark.fault("B6")
def test_when_everybody_is_cancelled_so_is_the_work(provider: FakeProvider) -> None:
    """Nothing is left behind: no flight, no task, no entry."""
    cache, provider.gate = AutoCache(), threading.Event()
    client = openai_client(provider, use_async=True, cache=cache)

    async def main() -> set[Any]:
        tasks = [asyncio.create_task(client.create(response_model=User, **QUESTION)) for _ in range(50)]
        await all_wait(cache, 50)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert set() == asyncio.run(main())
    assert (len(shelf_of(cache).flights), len(cache)) == (0, 0)


@pytest.mark.fault("B7")
@pytest.mark.parametrize("say", [Say(status=500), Say(payload="{}")], ids=["500", "does not fit"])
def test_an_error_is_shared_with_those_who_waited_and_not_stored(provider: FakeProvider, say: Say) -> None:
    """The same error for all, from one call; who asks later asks again."""
    cache, provider.gate = AutoCache(), threading.Event()
    client = openai_client(provider, cache=cache)
    provider.say(say)

    with ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(client.create, response_model=User, max_retries=0, **QUESTION) for _ in range(5)]
        everybody_waits(cache, 5)
        provider.gate.set()
        errors = [future.exception(20) for future in asked]

    assert [InstructorRetryException] * 5 == [type(error) for error in errors]
    assert (provider.calls, len(cache)) == (1, 0)
    provider.say(Say())
    assert client.create(response_model=User, **QUESTION) == JOHN
    assert provider.calls == 2


@pytest.mark.fault("B9")
def test_tasks_of_several_loops_and_threads_share_one_call(provider: FakeProvider) -> None:
    """Two event loops in two threads, and two threads without any, on one cache."""
    cache, provider.gate = AutoCache(), threading.Event()
    sync = openai_client(provider, cache=cache)

    async def ask() -> list[User]:
        client = openai_client(provider, use_async=True, cache=cache)
        return await asyncio.gather(*(client.create(response_model=User, **QUESTION) for _ in range(3)))

    with ThreadPoolExecutor(4) as pool:
        loops = [pool.submit(asyncio.run, ask()) for _ in range(2)]
        threads = [pool.submit(sync.create, response_model=User, **QUESTION) for _ in range(2)]
        everybody_waits(cache, 8)
        provider.gate.set()
        answers = [*(user for future in loops for user in future.result(20)), *(f.result(20) for f in threads)]

    assert answers == [JOHN] * 8
    assert provider.calls == 1


@pytest.mark.fault("B9")
def test_a_loop_that_ends_in_mid_flight_leaves_the_question_to_the_others(provider: FakeProvider) -> None:
    """The leader's loop is gone; a thread that waited asks itself."""
    cache, provider.gate = AutoCache(), threading.Event()
    sync = openai_client(provider, cache=cache)

    async def lead_and_go() -> None:
        client = openai_client(provider, use_async=True, cache=cache)
        leader = asyncio.create_task(client.create(response_model=User, **QUESTION))
        await asyncio.to_thread(provider.arrived.acquire, timeout=10)
        await all_wait(cache, 2)
        assert not leader.done()

    with ThreadPoolExecutor(2) as pool:
        loop = pool.submit(asyncio.run, lead_and_go())
        everybody_waits(cache, 1)
        follower = pool.submit(sync.create, response_model=User, **QUESTION)
        loop.result(20)
        provider.gate.set()

        assert follower.result(20) == JOHN
    assert provider.calls == 2


class Slow(BaseCache):
    """A store whose reads wait until they are let go."""

    def __init__(self) -> None:
        self.inside = threading.Event()
        self.let_go = threading.Event()

    def get(self, key: str) -> None:
        """Nothing, after a while."""
        self.inside.set()
        self.let_go.wait(20)

    def set(self, key: str, value: Any, ttl: int | None = None) -> None:
        """Not here."""


@pytest.mark.fault("B10")
def test_a_slow_store_does_not_hold_up_the_event_loop(provider: FakeProvider) -> None:
    """While a store is being read, other tasks run: here, the one that lets it go."""
    cache = Slow()
    client = openai_client(provider, use_async=True, cache=cache)

    async def main() -> User:
        task = asyncio.create_task(client.create(response_model=User, **QUESTION))
        await asyncio.to_thread(cache.inside.wait, 20)
        cache.let_go.set()
        return await task

    assert asyncio.run(main()) == JOHN


@pytest.mark.fault("B11")
def test_a_validator_may_ask_the_question_that_it_validates(provider: FakeProvider) -> None:
    """It would wait for itself: it asks alone."""
    client = openai_client(provider, cache=AutoCache())

    class Asking(User):
        @field_validator("name")
        @classmethod
        def ask_again(cls, name: str) -> str:
            if not inner:
                inner.append(None)
                inner.append(client.create(response_model=Asking, **QUESTION))
            return name

    inner: list[Any] = []

    assert client.create(response_model=Asking, **QUESTION).name == "John"
    assert inner[1].name == "John"


@pytest.mark.fault("B11")
def test_a_sync_call_inside_the_loop_that_flies_does_not_wait_for_it(provider: FakeProvider) -> None:
    """Waiting would stop the very loop that the flight needs."""
    cache, provider.gate = AutoCache(), threading.Event()
    sync, client = openai_client(provider, cache=cache), openai_client(provider, use_async=True, cache=cache)

    async def main() -> list[User]:
        task = asyncio.create_task(client.create(response_model=User, **QUESTION))
        await all_wait(cache, 1)
        provider.gate.set()  # type: ignore[union-attr]
        return [sync.create(response_model=User, **QUESTION), await task]

    assert asyncio.run(main()) == [JOHN, JOHN]


@pytest.mark.fault("B12")
@pytest.mark.parametrize("short_leads", [False, True], ids=["short follows", "short leads"])
def test_nobody_waits_longer_than_their_own_timeout(provider: FakeProvider, short_leads: bool) -> None:
    """The impatient one times out, the patient one gets the answer."""
    cache, provider.gate = AutoCache(), threading.Event()
    client = openai_client(provider, cache=cache)
    patience = [0.1, 30] if short_leads else [30, 0.1]

    with ThreadPoolExecutor(2) as pool:
        asked = []
        for timeout in patience:
            asked.append(pool.submit(client.create, response_model=User, timeout=timeout, **QUESTION))
            provider.arrived.acquire(timeout=10) if len(asked) == 1 else everybody_waits(cache, 1)
        short, patient = asked if short_leads else reversed(asked)
        error = short.exception(20)
        provider.gate.set()

        assert isinstance(error, InstructorRetryException)
        assert patient.result(20) == JOHN


def test_a_forked_child_does_not_wait_for_its_parents_flights(provider: FakeProvider) -> None:
    """The threads that lead them are not in the child."""
    cache, provider.gate = AutoCache(), threading.Event()
    client = openai_client(provider, cache=cache)

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.create, response_model=User, **QUESTION)
        everybody_waits(cache, 1)
        child = os.fork()
        if child == 0:
            os._exit(len(shelf_of(cache).flights))
        _, status = os.waitpid(child, 0)
        provider.gate.set()
        asked.result(20)

    assert os.waitstatus_to_exitcode(status) == 0


def test_questions_on_two_caches_fly_apart(provider: FakeProvider) -> None:
    """Each cache must get its entry."""
    caches, provider.gate = [AutoCache(), AutoCache()], threading.Event()

    with ThreadPoolExecutor(2) as pool:
        asked = [
            pool.submit(openai_client(provider, cache=cache).create, response_model=User, **QUESTION)
            for cache in caches
        ]
        for cache in caches:
            everybody_waits(cache, 1)
        provider.gate.set()
        assert [future.result(20) for future in asked] == [JOHN, JOHN]

    assert [len(cache) for cache in caches] == [1, 1]


# --- loops that stand still ---------------------------------------------------------------------------------------


@pytest.mark.fault("B9")
def test_a_loop_that_stands_still_is_not_waited_for(provider: FakeProvider) -> None:
    """A loop that was only run for a while moves nothing until it is run again: others ask for themselves."""
    cache, provider.gate = AutoCache(), threading.Event()
    sync, client = openai_client(provider, cache=cache), openai_client(provider, use_async=True, cache=cache)
    loop = asyncio.new_event_loop()
    leader = loop.create_task(client.create(response_model=User, **QUESTION))
    loop.run_until_complete(asyncio.to_thread(provider.arrived.acquire, timeout=10))
    provider.gate.set()

    try:
        assert sync.create(response_model=User, timeout=5, max_retries=0, **QUESTION) == JOHN
        assert (provider.calls, leader.done()) == (2, False)
        assert loop.run_until_complete(leader) == JOHN
    finally:
        loop.close()


@pytest.mark.fault("B9")
@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
def test_a_loop_that_was_closed_is_not_waited_for(provider: FakeProvider, use_async: bool) -> None:
    """Nobody will ever land its flight; who comes next leads one that others may wait for."""
    cache, loop = AutoCache(), asyncio.new_event_loop()
    client = openai_client(provider, use_async=use_async, cache=cache)
    plan = client._plan(User, None, 0, None, True, None, None, {**QUESTION})
    shelf_of(cache).flights.board(plan.slot.key, loop=loop)
    loop.close()

    answers = [ask(client, response_model=User, timeout=5, max_retries=0, **QUESTION) for _ in range(2)]

    assert [JOHN, JOHN] == answers
    assert (provider.calls, len(shelf_of(cache).flights)) == (1, 0)


# --- whose error it is --------------------------------------------------------------------------------------------


def strict_user(allowed: int) -> type[BaseModel]:
    """A class with the schema of its namesakes and a validator of its own."""

    class Person(BaseModel):
        name: str
        age: int

        @field_validator("age")
        @classmethod
        def young(cls, age: int) -> int:
            if age > allowed:
                raise ValueError("too old")
            return age

    return Person


STRICT, LAX = strict_user(18), strict_user(99)
TERMS: dict[str, tuple[Any, ...]] = {
    "more retries": ((User, 0), (User, 3), "{}"),
    "a laxer class": ((STRICT, 0), (LAX, 0), '{"name": "John", "age": 25}'),
}


@pytest.mark.fault("B7")
@pytest.mark.parametrize("use_async", [False, True], ids=["threads", "tasks"])
@pytest.mark.parametrize(("leads", "follows", "payload"), TERMS.values(), ids=TERMS.keys())
def test_an_error_counts_only_for_those_on_the_same_terms(
    provider: FakeProvider, leads: Any, follows: Any, payload: str, use_async: bool
) -> None:
    """Who would have retried, or whose validators take what the leader's refuse, asks instead of failing with it."""
    cache, provider.gate = AutoCache(), threading.Event()
    provider.say(payload, Say())
    client = openai_client(provider, use_async=use_async, cache=cache)

    def question(terms: tuple[type[BaseModel], int]) -> Any:
        return ask(client, response_model=terms[0], max_retries=terms[1], **QUESTION)

    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(question, leads)
        everybody_waits(cache, 1)
        follower = pool.submit(question, follows)
        everybody_waits(cache, 2)
        provider.gate.set()

        assert isinstance(leader.exception(20), InstructorRetryException)
        assert follower.result(20).model_dump() == JOHN.model_dump()
    assert provider.calls == 2


@pytest.mark.fault("B7")
@pytest.mark.parametrize("use_async", [False, True], ids=["threads", "tasks"])
def test_every_error_that_is_shared_is_an_object_of_its_own(provider: FakeProvider, use_async: bool) -> None:
    """Raising one object in many places would grow its traceback in all of them; what they tell is the same."""
    cache, provider.gate = AutoCache(), threading.Event()
    client = openai_client(provider, use_async=use_async, cache=cache)
    provider.say("{}")

    def question() -> Any:
        return ask(client, response_model=User, max_retries=0, **QUESTION)

    with ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(question) for _ in range(5)]
        everybody_waits(cache, 5)
        provider.gate.set()
        errors = [future.exception(20) for future in asked]

    assert provider.calls == 1
    assert len({id(error) for error in errors}) == 5
    assert {InstructorRetryException} == {type(error) for error in errors}
    assert len({str(error) for error in errors}) == 1
    assert len({id(error.__cause__) for error in errors if error is not None}) == 1
    assert errors[0] is not None
    assert isinstance(errors[0].__cause__, ValidationError)


@pytest.mark.fault("B7")
def test_errors_of_many_tasks_do_not_share_a_traceback(provider: FakeProvider) -> None:
    """However many wait, each error is as long as that of somebody who asks alone."""
    cache = AutoCache()
    client = openai_client(provider, use_async=True, cache=cache)
    provider.say(Say(status=400))

    async def failing(number: int) -> list[int]:
        provider.gate = threading.Event()
        tasks = [asyncio.create_task(client.create(response_model=User, **QUESTION)) for _ in range(number)]
        await all_wait(cache, number)
        provider.gate.set()
        errors: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
        return [len(traceback.extract_tb(error.__traceback__)) for error in errors]

    (alone,) = asyncio.run(failing(1))

    assert max(asyncio.run(failing(20))) == alone


# --- rings, and how long one waits in all -------------------------------------------------------------------------


@pytest.mark.fault("B11")
def test_two_leaders_that_ask_each_others_question_do_not_wait_in_a_ring(provider: FakeProvider) -> None:
    """Each leads, and its validator asks what the other one is being answered: whoever leads waits for nobody."""
    client = openai_client(provider, cache=AutoCache(), timeout=2)
    both, inside = threading.Barrier(2, timeout=10), threading.local()

    class Asking(User):
        @field_validator("name")
        @classmethod
        def ask_the_other(cls, name: str) -> str:
            if not getattr(inside, "asks", False):
                inside.asks = True
                both.wait()
                question("B" if threading.current_thread().name == "A" else "A")
                both.wait()
            return name

    def question(text: str) -> None:
        messages = [{"role": "user", "content": text}]
        answers.append(client.create(response_model=Asking, messages=messages, max_retries=0).name)

    answers: list[str] = []
    threads = [threading.Thread(target=question, args=(name,), name=name) for name in "AB"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ["John"] * 4 == answers
    assert provider.calls == 4


@pytest.mark.fault("B12")
@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
def test_who_waited_in_vain_asks_with_what_is_left_of_their_timeout(provider: FakeProvider, use_async: bool) -> None:
    """The leader's timeout was its own; the time spent on waiting for it was the follower's."""
    cache, provider.gate = AutoCache(), threading.Event()
    leader, follower = (openai_client(provider, use_async=use_async, cache=cache) for _ in range(2))
    timeouts: list[float] = []
    follower.on("completion:kwargs", lambda **kwargs: timeouts.append(kwargs["timeout"]))

    def question(client: Any, timeout: float) -> Any:
        return ask(client, response_model=User, timeout=timeout, max_retries=0, **QUESTION)

    with ThreadPoolExecutor(2) as pool:
        impatient = pool.submit(question, leader, 0.5)
        everybody_waits(cache, 1)
        patient = pool.submit(question, follower, 30)
        everybody_waits(cache, 2)

        assert isinstance(impatient.exception(20), InstructorRetryException)
        provider.gate.set()
        assert patient.result(20) == JOHN

    (left,) = timeouts
    assert 0 < left < 30
