"""Flows driven by hand: what they ask for, in which order, and what they make of what they are given."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import tenacity
from pydantic import BaseModel

from instructor.answer import Answer
from instructor.cache import AutoCache, CacheWarning, stats
from instructor.client import Instructor
from instructor.effects import Decide, Load, Save, Send, Share
from instructor.exceptions import InstructorRetryException
from instructor.flow import solve
from instructor.leading import lead
from instructor.plan import Plan


class User(BaseModel):
    """Somebody."""

    name: str


def completion(arguments: str, finish: str = "tool_calls") -> SimpleNamespace:
    """What a provider says: one tool call."""
    call = SimpleNamespace(id="c", function=SimpleNamespace(name="User", arguments=arguments))
    message = SimpleNamespace(content=None, refusal=None, tool_calls=[call])
    return SimpleNamespace(choices=[SimpleNamespace(message=message, finish_reason=finish)], usage=None)


def never_called(**_: Any) -> Any:
    """The provider's function: a flow names it, a driver would call it."""
    raise AssertionError


@pytest.fixture
def cache() -> AutoCache:
    """A cache that drivers would ask."""
    return AutoCache()


@pytest.fixture
def plan(cache: AutoCache) -> Plan:
    """A question that is remembered."""
    client = Instructor(None, never_called, model="m", cache=cache)
    return client._plan(User, [{"role": "user", "content": "who?"}], 1, None, True, None, None, {})


def ending(flow: Iterator[Any], *given: Any) -> Any:
    """What a flow returns once it has been given all that."""
    try:
        for value in given:
            flow.send(value)  # type: ignore[attr-defined]
    except StopIteration as end:
        return end.value
    return pytest.fail("the flow goes on")


def attempts(state: Decide) -> Any:
    """What the controller of `state` decides, asked as a driver does."""
    return state.controller.iter(state.state)


def test_a_hit_asks_the_store_and_nothing_else(plan: Plan, cache: AutoCache) -> None:
    """One effect, and the answer."""
    assert plan.slot is not None
    key = plan.slot.key
    stored = store_one(plan)

    flow = solve(plan)

    assert Load(cache, key) == next(flow)
    assert User(name="Ann") == ending(flow, stored).value


def store_one(plan: Plan) -> str:
    """What a leader has stored after asking."""
    assert plan.slot is not None
    flow = lead(plan, plan.slot)
    next(flow)
    decide = flow.send(None)
    assert isinstance(decide, Decide)
    send = flow.send(attempts(decide))
    assert isinstance(send, Send)
    decide = flow.send(completion('{"name":"Ann"}'))
    save = flow.send(attempts(decide))
    assert isinstance(save, Save)
    return save.text


def test_a_miss_is_shared_with_those_who_ask_the_same(plan: Plan, cache: AutoCache) -> None:
    """Look, then join the flight."""
    flow = solve(plan)

    assert isinstance(next(flow), Load)
    share = flow.send(None)

    assert isinstance(share, Share)
    assert plan.slot is not None
    assert plan.slot.key == share.key
    assert isinstance(next(share.work(None)), Load), "a leader looks again: somebody may have just been answered"


def test_a_follower_gets_an_object_of_its_own(plan: Plan) -> None:
    """What the leader was given stays the leader's."""
    assert plan.slot is not None
    flow = lead(plan, plan.slot)
    next(flow)
    flow.send(attempts(flow.send(None)))
    decide = flow.send(completion('{"name":"Ann"}'))
    flow.send(attempts(decide))
    theirs = ending(flow, None)

    follower = solve(plan)
    next(follower)
    follower.send(None)
    mine = ending(follower, (False, theirs, None))

    assert theirs.value == mine.value
    assert theirs.value is not mine.value


def test_without_a_cache_nothing_is_looked_for(plan: Plan) -> None:
    """The first effect is the controller's decision."""
    client = Instructor(None, never_called, model="m")

    flow = solve(client._plan(User, [], 1, None, True, None, None, {}))

    assert isinstance(next(flow), Decide)


def test_an_answer_that_does_not_fit_becomes_the_next_request(plan: Plan) -> None:
    """The second Send carries the first answer and the error."""
    client = Instructor(None, never_called, model="m")
    flow = solve(client._plan(User, [{"role": "user", "content": "who?"}], 1, None, True, None, None, {}))

    first = flow.send(attempts(next(flow)))
    decide = flow.send(completion("{}"))
    pause = attempts(decide)
    decide = flow.send(pause) if not isinstance(pause, tenacity.DoSleep) else sleep_over(flow, pause)
    second = flow.send(attempts(decide))

    assert len(first.kwargs["messages"]) == 1
    assert [message["role"] for message in second.kwargs["messages"]] == ["user", "assistant", "tool"]


def sleep_over(flow: Any, pause: Any) -> Any:
    """The effect after a pause."""
    flow.send(pause)
    return flow.send(None)


@pytest.mark.fault("F1")
def test_a_store_that_fails_to_read_is_a_miss_and_a_warning(plan: Plan, cache: AutoCache) -> None:
    """The call goes on to ask."""
    flow = solve(plan)
    next(flow)

    with pytest.warns(CacheWarning, match="reading"):
        effect = flow.throw(OSError("no"))

    assert isinstance(effect, Share)
    assert stats(cache).errors == 1


@pytest.mark.fault("F1")
def test_a_store_that_fails_to_write_costs_nobody_the_answer(plan: Plan, cache: AutoCache) -> None:
    """What was paid for is delivered."""
    assert plan.slot is not None
    flow = lead(plan, plan.slot)
    next(flow)
    flow.send(attempts(flow.send(None)))
    decide = flow.send(completion('{"name":"Ann"}'))
    flow.send(attempts(decide))

    with pytest.warns(CacheWarning, match="storing"), pytest.raises(StopIteration) as end:
        flow.throw(OSError("disk full"))

    assert User(name="Ann") == end.value.value.value


def test_an_error_of_the_provider_ends_the_flow_with_its_cause(plan: Plan) -> None:
    """One attempt: an int retries answers that do not fit, not calls that fail."""
    client = Instructor(None, never_called, model="m")
    flow = solve(client._plan(User, [], 3, None, True, None, None, {}))
    flow.send(attempts(next(flow)))

    decide = flow.throw(ConnectionError("gone"))
    with pytest.raises(ConnectionError) as gone:
        attempts(decide)
    with pytest.raises(InstructorRetryException) as caught:
        flow.throw(gone.value)

    assert isinstance(caught.value.__cause__, ConnectionError)


def test_a_ttl_of_nothing_stores_nothing(cache: AutoCache) -> None:
    """Zero or less: asked for by everybody, kept by nobody."""
    client = Instructor(None, never_called, model="m", cache=cache, cache_ttl=0)
    plan = client._plan(User, [], 1, None, True, None, None, {})
    assert plan.slot is not None
    flow = lead(plan, plan.slot)
    next(flow)
    flow.send(attempts(flow.send(None)))
    decide = flow.send(completion('{"name":"Ann"}'))

    answer = ending(flow, attempts(decide))

    assert isinstance(answer, Answer)
    assert answer.kept is not None


def test_a_question_changed_since_it_was_looked_up_is_answered_and_not_stored(plan: Plan, cache: AutoCache) -> None:
    """The answer to what was asked in the end must not stand under the key of what was asked for at first."""
    assert plan.slot is not None
    flow = lead(plan, plan.slot)
    assert Load(cache, plan.slot.key) == next(flow)
    plan.kwargs["messages"].append({"role": "user", "content": "and how old?"})

    assert isinstance(flow.send(attempts(flow.send(None))), Send)
    decide = flow.send(completion('{"name":"Ann"}'))
    answer = ending(flow, attempts(decide))

    assert (answer.value, answer.whole) == (User(name="Ann"), False)


def test_who_waited_for_a_question_that_was_changed_asks_for_themselves(plan: Plan) -> None:
    """What the leader was answered in the end is no answer to what the follower asked."""
    theirs = Answer(User(name="Eve"), ('{"name":"Eve"}',), completion('{"name":"Eve"}'), whole=False)
    flow = solve(plan)
    next(flow)
    assert isinstance(flow.send(None), Share)

    assert isinstance(flow.send((False, theirs, None)), Decide)
