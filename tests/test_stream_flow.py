"""The flow of a stream driven by hand: what it asks for, in which order, and what it shows when."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from openai.types.chat import ChatCompletion
from pydantic import BaseModel
from test_flow import attempts, ending, never_called

from instructor.answer import Answer
from instructor.cache import AutoCache, CacheWarning, stats
from instructor.client import Instructor
from instructor.effects import END, Decide, Emit, Join, Load, Next, Open, Save
from instructor.exceptions import IncompleteOutputException, InstructorRetryException
from instructor.plan import Plan, growing
from instructor.streaming import stream


class User(BaseModel):
    """Somebody."""

    name: str
    age: int


ANN = User(name="Ann", age=31)
PIECES = ('{"name": "An', 'n", "age"', ": 31}")


def event(piece: str = "", finish: str | None = None) -> dict[str, Any]:
    """What a provider says: some of the arguments of a call, or that it is over."""
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "User", "arguments": piece}}
    delta = {"tool_calls": [call]} if piece else {}
    return {"id": "r", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


@pytest.fixture
def cache() -> AutoCache:
    """A cache that drivers would ask."""
    return AutoCache()


def planned(cache: Any) -> Plan:
    """A stream that is asked for."""
    client = Instructor(None, never_called, model="m", cache=cache)
    return client._plan_stream(growing(User), [{"role": "user", "content": "who?"}], 0, None, True, None, {})


@pytest.fixture
def plan(cache: AutoCache) -> Plan:
    """A stream that is remembered."""
    return planned(cache)


def key_of(plan: Plan) -> str:
    """Where it is remembered."""
    assert plan.slot is not None
    return plan.slot.key


def seated(plan: Plan, *, leading: bool) -> tuple[Any, Any]:
    """A flow that listens, and where it sits."""
    flow, seat = stream(plan), SimpleNamespace(leading=leading, answer=None)
    next(flow)
    assert isinstance(flow.send(None), Join)
    assert Next(seat) == flow.send(seat)
    return flow, seat


def begun(plan: Plan) -> tuple[Any, Any]:
    """The work on a stream, up to where the provider is about to speak, and the source that it listens to."""
    flow = stream(plan)
    next(flow)
    work, source = flow.send(None).work(None), object()
    assert Load(plan.slot.shelf.store, key_of(plan)) == next(work), "somebody may have just been answered"
    asked = work.send(attempts(work.send(None)))
    assert isinstance(asked, Open)
    assert asked.kwargs["stream"] is True
    assert Next(source) == work.send(source)
    return work, source


def told(plan: Plan) -> tuple[Save, Answer]:
    """What is stored of a stream that was heard to its end, and its answer."""
    work, source = begun(plan)
    for piece in PIECES:
        assert isinstance(work.send(event(piece)), Emit)
        assert Next(source) == work.send(None)
    assert Next(source) == work.send(event(finish="tool_calls"))
    save = work.send(END)
    assert isinstance(save, Save), "no controller is asked any more: what was shown cannot be taken back"
    over = work.send(None)
    assert (ending(work, None), over.items) == (None, ())
    return save, over.answer


def test_a_cold_stream_is_looked_for_and_joined(plan: Plan, cache: AutoCache) -> None:
    """Load, then Join: nothing is asked in the flow of who listens."""
    flow = stream(plan)

    assert Load(cache, key_of(plan)) == next(flow)
    join = flow.send(None)

    assert isinstance(join, Join)
    assert (join.flights, join.key, join.patience) == (plan.slot.shelf.flights, key_of(plan), plan.patience)


def test_the_work_emits_and_then_saves(plan: Plan, cache: AutoCache) -> None:
    """Open, then Next and Emit in turn, with the pieces for those who read along; the answer comes after the Save."""
    work, source = begun(plan)
    shown = []
    for piece in PIECES:
        emit = work.send(event(piece))
        shown.append((emit.items, emit.pieces))
        assert Next(source) == work.send(None)

    assert [[piece] for piece in PIECES] == [pieces for _, pieces in shown]
    assert ["An", "Ann", "Ann"] == [items[-1].name for items, _ in shown]

    save, answer = told(plan)
    assert (save.store, save.key, save.ttl) == (cache, key_of(plan), None)
    assert (answer.value, answer.tape) == ([ANN], PIECES)
    assert type(answer.completion) is ChatCompletion


def test_a_stream_that_ends_early_saves_nothing(plan: Plan) -> None:
    """The provider stops before it has said why: an error straight after."""
    work, _ = begun(plan)
    work.send(event(PIECES[0]))
    work.send(None)

    with pytest.raises(IncompleteOutputException):
        work.send(END)


def test_who_leads_takes_what_is_emitted(plan: Plan) -> None:
    """The work's own items pass through, then those of the answer."""
    _, answer = told(plan)
    flow, seat = seated(plan, leading=True)
    items = [object()]

    assert Emit(items) == flow.send(Emit(items, ["any"]))
    assert Next(seat) == flow.send(None)
    assert Next(seat) == flow.send(Emit((), ["more"])), "nothing to show yet"
    seat.answer = answer

    assert Emit([ANN]) == flow.send(END)
    assert ending(flow, None) is answer


def test_a_follower_reads_the_pieces_itself(plan: Plan) -> None:
    """Its items are its own; the last is signed as an answer that cost nothing."""
    _, answer = told(plan)
    flow, seat = seated(plan, leading=False)
    names = []
    for piece in PIECES:
        emit = flow.send(Emit([object()], [piece]))
        names += [item.name for item in emit.items]
        assert Next(seat) == flow.send(None)
    seat.answer = answer

    last = flow.send(END)

    assert (names, last) == (["An", "Ann", "Ann"], Emit([ANN]))
    assert last.items[0] is not answer.value[0]
    assert last.items[0]._raw_response == answer.completion
    assert stats(plan.slot.shelf.store).hits == 1


def test_a_follower_whose_leader_went_away_asks_if_nothing_was_shown(plan: Plan) -> None:
    """It takes a seat anew, as all others do, so that one of them asks; or raises, if something was shown."""
    flow, _ = seated(plan, leading=False)
    assert isinstance(flow.send(END), Join)

    flow, _ = seated(plan, leading=False)
    assert isinstance(flow.send(Emit([object()], PIECES[:1])), Emit)
    flow.send(None)
    with pytest.raises(InstructorRetryException, match="went away"):
        flow.send(END)


def test_a_follower_that_waited_too_long_raises(plan: Plan) -> None:
    """In the words of who measured it."""
    flow, _ = seated(plan, leading=False)

    with pytest.raises(InstructorRetryException, match="waited"):
        flow.throw(TimeoutError("waited"))


def test_a_hit_is_loaded_and_emitted(plan: Plan, cache: AutoCache) -> None:
    """Every snapshot again, as they came the first time."""
    save, _ = told(plan)
    flow = stream(plan)

    assert Load(cache, key_of(plan)) == next(flow)
    shown = [flow.send(save.text), *(flow.send(None) for _ in range(3))]

    assert [["An"], ["Ann"], ["Ann"], ["Ann"]] == [[item.name for item in emit.items] for emit in shown]
    assert shown[-1] == Emit([ANN])
    assert [ANN] == ending(flow, None).value


@pytest.mark.fault("F1")
def test_a_broken_load_is_a_miss(plan: Plan, cache: AutoCache) -> None:
    """It is told, and the stream is joined as if nothing were stored."""
    flow = stream(plan)
    next(flow)

    with pytest.warns(CacheWarning, match="reading"):
        effect = flow.throw(OSError("no"))

    assert isinstance(effect, Join)
    assert stats(cache).errors == 1


def test_where_nobody_can_be_joined_the_flow_asks_itself(plan: Plan) -> None:
    """Part of the work already: waiting for it would never end."""
    flow = stream(plan)
    next(flow)
    flow.send(None)

    assert isinstance(flow.send(None), Decide)


def test_without_a_cache_the_first_effect_is_the_controllers() -> None:
    """No Load, no Join, and no pieces for anybody."""
    flow = stream(planned(None))

    assert isinstance(flow.send(attempts(next(flow))), Open)
    flow.send(object())
    emit = flow.send(event(PIECES[0]))

    assert (emit.items[0].name, emit.pieces) == ("An", ())


def test_what_another_process_was_told_is_shown_as_it_came(plan: Plan) -> None:
    """Who leads here may find the answer in the store: it is replayed, piece by piece."""
    _, answer = told(plan)
    flow, seat = seated(plan, leading=True)
    seat.answer = answer

    shown = [flow.send(END), *(flow.send(None) for _ in range(3))]

    assert [["An"], ["Ann"], ["Ann"], ["Ann"]] == [[item.name for item in emit.items] for emit in shown]
