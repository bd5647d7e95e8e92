"""The pipeline of a stream: replayed, or heard by all who ask for it now. Pure generators, as in `flow.py`."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

from msgspec.structs import replace

from .answer import Answer, receipt, sign
from .asking import ask
from .cache.completion import Kept, restore
from .effects import END, Emit, Flow, Join, Next
from .flow import broken, follow
from .leading import ask_anew, tell
from .plan import Plan, Slot
from .remembering import recall
from .stale import after, meanwhile


def stream(plan: Plan) -> Flow[Answer]:
    """Emit what a question is answered with, item by item: replayed, or heard by all who ask for it now."""
    slot = plan.slot
    if slot is None:
        asked = yield from ask(plan)
        yield Emit(asked.value)
        return asked
    text, answer = yield from recall(plan, slot)
    shown: list[Any] = []
    if answer is None:
        answer = yield from meanwhile(plan, slot, text, partial(heard, shown=shown))
    if answer is not None:
        yield from replay(plan, answer)
    else:
        try:
            answer = yield from heard(plan, slot, text, shown)
        except Exception as error:
            answer = None if shown else after(plan, slot, text, error)
            if answer is None:
                raise
            yield from replay(plan, answer)
    yield Emit(answer.value)
    return answer


def heard(plan: Plan, slot: Slot, refused: Any, shown: list[Any]) -> Flow[Answer]:
    """An answer that is just being given, once for all who listen; `shown` is what it showed so far."""
    answer = None
    while answer is None:
        work = partial(tell, plan, slot, refused)
        seat = yield Join(slot.shelf.flights, slot.flight, work, plan.patience, plan.terms)
        answer = yield from (along(plan, slot, seat, shown) if seat else alone(plan, slot, shown))
    return answer


def alone(plan: Plan, slot: Slot, shown: list[Any]) -> Flow[Answer]:
    """What is answered to us only; of which something may be shown at any time."""
    shown.append(plan)
    return (yield from ask_anew(plan, slot))


def along(plan: Plan, slot: Slot, seat: Any, shown: list[Any]) -> Flow[Answer | None]:
    """Hear an answer while it is given: who leads takes its items, the others read the tape with a model of their own.

    None when nothing came of it that counts for us.

    Raises:
        InstructorRetryException: it broke off, or will not do for us, after something of it had been shown.
    """
    reader = plan.reader()
    while (said := (yield from _next(seat))) is not END:
        try:
            items = said.items if seat.leading else _overheard(plan, reader, said)
        except Exception as problem:  # validators are strangers' code
            if shown:
                raise broken(problem) from problem
            return (yield from alone(plan, slot, shown))
        if items:
            shown.append(items)
            yield Emit(items)
    answer: Answer | None = seat.answer
    if seat.leading:
        if answer is not None and not shown:  # somebody else's, in another process
            yield from replay(plan, answer)
        return answer
    if shown:
        return _ended(plan, slot, reader, answer)
    if answer is not None:
        answer = yield from follow(plan, slot, answer)
        yield from replay(plan, answer)
    return answer


def replay(plan: Plan, answer: Answer) -> Flow[None]:
    """What is known to be the answer, shown as it once came; its end is its value."""
    reader: Any = plan.reader()
    for piece in answer.tape if plan.reading == "snapshots" else ():
        items = reader.feed(piece)
        if items:
            yield Emit(items)


def _next(seat: Any) -> Flow[Any]:
    try:
        return (yield Next(seat))
    except TimeoutError as late:
        raise broken(late) from late


def _overheard(plan: Plan, reader: Any, said: Emit) -> list[Any]:
    if reader is None:
        kind = plan.endpoint.row.event
        return [restore(each, kind) if isinstance(each, Kept) else copy.deepcopy(each) for each in said.pieces]
    return [item for piece in said.pieces for item in reader.feed(piece)]


def _ended(plan: Plan, slot: Slot, reader: Any, answer: Answer | None) -> Answer:
    """The rest of what we read along."""
    if answer is None:
        raise broken("The stream broke off: whoever asked for it went away.")
    try:
        rest = reader.end("".join(answer.tape)) if reader else []
    except Exception as problem:
        raise broken(problem) from problem
    sign(plan, rest, *receipt(plan, answer))
    slot.shelf.stats.hits += 1
    return replace(answer, value=rest)
