"""The pipeline: how a plan becomes an answer. Pure generators; `drive.py` does what they ask for."""

from __future__ import annotations

from functools import partial
from typing import Any

from .answer import Answer, deliver, receipt
from .asking import ask
from .effects import Flow, Share
from .exceptions import InstructorRetryException
from .leading import ask_anew, tell
from .plan import Plan, Slot, within
from .remembering import recall
from .stale import after, meanwhile


def solve(plan: Plan) -> Flow[Answer]:
    """The answer to a question: remembered, or asked for once by all who want it now."""
    slot = plan.slot
    if slot is None:
        return (yield from ask(plan))
    text, answer = yield from recall(plan, slot)
    if answer is not None:
        return answer
    answer = yield from meanwhile(plan, slot, text, together)
    if answer is not None:
        return answer
    try:
        return (yield from together(plan, slot, text))
    except Exception as error:
        answer = after(plan, slot, text, error)
        if answer is None:
            raise
        return answer


def together(plan: Plan, slot: Slot, refused: Any) -> Flow[Answer]:
    """The answer, asked for by one for all who want it now; what is stored was `refused`."""
    answer: Answer | None
    work = partial(tell, plan, slot, refused)
    try:
        led, answer, left = yield Share(slot.shelf.flights, slot.flight, work, plan.patience, plan.terms)
    except TimeoutError as late:  # an error of the work itself comes as an InstructorRetryException already
        raise broken(late) from late
    if answer is None:  # we are part of the work ourselves
        return (yield from ask_anew(within(plan, left), slot))
    return answer if led else (yield from follow(within(plan, left), slot, answer))


def broken(problem: object) -> InstructorRetryException:
    """The error of who waited for others in vain."""
    return InstructorRetryException(str(problem), n_attempts=0, total_usage=None)


def follow(plan: Plan, slot: Slot, answer: Answer) -> Flow[Answer]:
    """What somebody else was just answered, read as if from the cache; asked again where it will not do for us."""
    mine = None
    if answer.whole:
        mine = deliver(plan, answer.tape, receipt(plan, answer)[0], answer.events)
    if mine is None:
        return (yield from ask_anew(plan, slot))
    slot.shelf.stats.hits += 1
    return mine
