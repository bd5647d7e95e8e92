"""The pipeline: how a plan becomes an answer. Pure generators; `drive.py` does what they ask for."""

from __future__ import annotations

import copy
import sys
from functools import partial
from typing import Any

import tenacity
from msgspec.structs import replace

from .answer import Answer, Restored, deliver, is_whole, judge, receipt, sign
from .cache.completion import Kept, keep, restore
from .cache.entry import Entry, seal, unseal
from .conversation import Conversation, root
from .effects import END, Decide, Emit, Flow, Join, Load, Next, Run, Save, Send, Share, Sleep
from .exceptions import CacheMiss, IncompleteOutputException, InstructorRetryException, RefusalError, TokenBudgetError
from .hooks import HookName
from .listen import listen, overhear
from .plan import Plan, Slot, key_of, within
from .receipt import attach
from .retry import RETRYABLE, controller, seconds
from .shape import Shape

FINAL = (IncompleteOutputException, RefusalError, TokenBudgetError)
"""What no controller may retry: asking again would give the same, or cost what may not be spent."""


def solve(plan: Plan) -> Flow[Answer]:
    """The answer to a question: remembered, or asked for once by all who want it now."""
    slot = plan.slot
    if slot is None:
        return (yield from ask(plan))
    text, answer = yield from recall(plan, slot)
    if answer is not None:
        return answer
    work = partial(lead, plan, slot, text)
    try:
        led, answer, left = yield Share(slot.shelf.flights, slot.flight, work, plan.patience, plan.terms)
    except TimeoutError as late:  # an error of the work itself comes as an InstructorRetryException already
        raise _broken(late) from late
    return answer if led else (yield from follow(within(plan, left), slot, answer))


def stream(plan: Plan) -> Flow[None]:
    """Emit what a question is answered with, item by item: replayed, or heard by all who ask for it now."""
    slot = plan.slot
    if slot is None:
        yield Emit((yield from ask(plan)).value)
        return
    text, answer = yield from recall(plan, slot)
    if answer is not None:
        yield from replay(plan, answer)
    while answer is None:
        work = partial(tell, plan, slot, text)
        seat = yield Join(slot.shelf.flights, slot.flight, work, plan.patience, plan.terms)
        answer = yield from (along(plan, slot, seat) if seat else ask_anew(plan, slot))
    yield Emit(answer.value)


def tell(plan: Plan, slot: Slot, refused: Any = None, left: float | None = None) -> Flow[None]:
    """As `lead`, while others listen."""
    answer = yield from lead(plan, slot, refused, left)
    yield Emit(answer=answer)


def along(plan: Plan, slot: Slot, seat: Any) -> Flow[Answer | None]:
    """Hear an answer while it is given: who leads takes its items, the others read the tape with a model of their own.

    None when nothing came of it that counts for us.

    Raises:
        InstructorRetryException: it broke off, or will not do for us, after something of it had been shown.
    """
    reader, shown = plan.reader(), False
    while (said := (yield from _next(seat))) is not END:
        try:
            items = said.items if seat.leading else _overheard(plan, reader, said)
        except Exception as problem:  # validators are strangers' code
            if shown:
                raise _broken(problem) from problem
            return (yield from ask_anew(plan, slot))
        if items:
            shown = True
            yield Emit(items)
    answer: Answer | None = seat.answer
    if seat.leading:
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
        raise _broken(late) from late


def _overheard(plan: Plan, reader: Any, said: Emit) -> list[Any]:
    if reader is None:
        kind = plan.endpoint.row.event
        return [restore(each, kind) if isinstance(each, Kept) else copy.deepcopy(each) for each in said.pieces]
    return [item for piece in said.pieces for item in reader.feed(piece)]


def _ended(plan: Plan, slot: Slot, reader: Any, answer: Answer | None) -> Answer:
    """The rest of what we read along."""
    if answer is None:
        raise _broken("The stream broke off: whoever asked for it went away.")
    try:
        rest = reader.end("".join(answer.tape)) if reader else []
    except Exception as problem:
        raise _broken(problem) from problem
    sign(plan, rest, *receipt(plan, answer))
    slot.shelf.stats.hits += 1
    return replace(answer, value=rest)


def _broken(problem: object) -> InstructorRetryException:
    return InstructorRetryException(str(problem), n_attempts=0, total_usage=None)


def recall(plan: Plan, slot: Slot, refused: Any = None) -> Flow[tuple[Any, Answer | None]]:
    """What is stored, and the answer in it; no answer where the store fails, or has what was `refused` before.

    Raises:
        CacheMiss: there is none, and nobody may be asked.
    """
    text = answer = None
    try:
        if slot.policy != "refresh":
            text = yield Load(slot.shelf.store, slot.key)
    except Exception as problem:  # noqa: BLE001  a store is a stranger's code
        _trouble(plan, slot, "reading", problem)
    if text is not None and (refused is None or text != refused):
        entry = unseal(text, slot.key)
        if entry is None:
            _trouble(plan, slot, "reading", "the entry is damaged, or not ours")
        else:
            kept = Restored(entry.completion, plan.endpoint, slot.key, entry.made_at)
            answer = deliver(plan, entry.tape, kept, entry.events)
    if answer is not None:
        slot.shelf.stats.hits += 1
        if plan.hooks.on_hit:
            plan.hooks.emit(HookName.CACHE_HIT, slot.key, age=kept.age(plan.clock()))
    elif slot.policy == "offline":
        raise CacheMiss(f"The cache has no answer under {slot.key}, and cache_mode is 'offline'.")
    return text, answer


def _trouble(plan: Plan, slot: Slot, doing: str, problem: object) -> None:
    slot.shelf.trouble(doing, problem)
    plan.hooks.emit(HookName.CACHE_ERROR, problem, doing=doing)


def lead(plan: Plan, slot: Slot, refused: Any = None, left: float | None = None) -> Flow[Answer]:
    """Ask for everybody, unless somebody else has just been answered; with what is left of a timeout."""
    _, answer = yield from recall(plan, slot, refused)
    return answer or (yield from ask_anew(within(plan, left), slot))


def ask_anew(plan: Plan, slot: Slot) -> Flow[Answer]:
    """Ask, and remember the answer; not if the question was changed under our hands since it was looked up."""
    slot.shelf.stats.misses += 1
    plan.hooks.emit(HookName.CACHE_MISS, slot.key)
    if key_of(plan, slot.shelf, slot.namespace, slot.sample) != slot.key:
        return replace((yield from ask(replace(plan, slot=None))), whole=False)
    return (yield from remember(plan, slot, (yield from ask(plan))))


def follow(plan: Plan, slot: Slot, answer: Answer) -> Flow[Answer]:
    """What somebody else was just answered, read as if from the cache; asked again where it will not do for us."""
    mine = None
    if answer.whole:
        mine = deliver(plan, answer.tape, receipt(plan, answer)[0], answer.events)
    if mine is None:
        return (yield from ask_anew(plan, slot))
    slot.shelf.stats.hits += 1
    return mine


def remember(plan: Plan, slot: Slot, answer: Answer) -> Flow[Answer]:
    """Store an answer that is finished, validated and whole; a store that fails costs nobody the answer."""
    if not answer.whole:
        return answer
    kept = keep(answer.raw, plan.endpoint.row.completion)
    if kept is None:
        problem = f"a {type(answer.raw).__name__} cannot be kept as text and come back equal"
        slot.shelf.bypass("completion", problem)
        plan.hooks.emit(HookName.CACHE_BYPASS, "completion", problem=problem)
        return answer
    if slot.keep:
        entry = Entry(answer.tape, kept, str(plan.kwargs.get("model")), plan.clock(), answer.events)
        try:
            yield Save(slot.shelf.store, slot.key, seal(entry, slot.key), slot.ttl)
            slot.shelf.stats.stores += 1
            plan.hooks.emit(HookName.CACHE_STORE, slot.key, ttl=slot.ttl)
        except Exception as problem:  # noqa: BLE001  a store is a stranger's code
            _trouble(plan, slot, "storing an answer", problem)
    return replace(answer, kept=kept)


def ask(plan: Plan) -> Flow[Answer]:
    """Ask the provider, until the answer will do or there is reason to stop."""
    if plan.endpoint.start is not None:
        yield Run(plan.endpoint.start)
    if plan.shape is None:
        return (yield from (overhear if plan.streams else complete)(plan))
    control = controller(plan.max_retries, seconds(plan.kwargs.get("timeout")), is_async=plan.endpoint.is_async)
    talk = Conversation(plan, getattr(control, "attempts", None))
    control.begin()
    state = tenacity.RetryCallState(control, None, (), {})
    answer = None
    while True:
        try:
            step = yield Decide(control, state)
        except Exception as error:  # noqa: BLE001  the controller gives up with whatever stopped it
            raise talk.ends(root(error)) from root(error)
        if isinstance(step, tenacity.DoAttempt):
            answer = yield from attempt(plan, plan.shape, talk, state)
            if talk.shown and answer is not None:  # and nothing of it can be taken back
                return answer
        elif isinstance(step, tenacity.DoSleep):
            state.prepare_for_next_attempt()
            yield Sleep(control, float(step))
        elif answer is not None and step is answer.value:
            return answer
        else:  # what the user's own `retry_error_callback` gives in an answer's place
            value = [step] if plan.reading and not isinstance(step, list) else step
            return Answer(value, raw=talk.completion, whole=False)


def complete(plan: Plan) -> Flow[Answer]:
    """A plain completion, or the SDK's own stream of one: one call, given back as it came."""
    endpoint = plan.endpoint
    asked = endpoint.dialect.ask(plan.kwargs, None, plan.mode)
    if plan.reading:
        return Answer((yield Send(endpoint.stream, endpoint.dialect.streamed(asked))), whole=False)
    completion = yield Send(endpoint.call, asked)
    return Answer(completion, raw=completion, whole=plan.slot is not None and is_whole(plan, completion))


def attempt(plan: Plan, shape: Shape, talk: Conversation, state: tenacity.RetryCallState) -> Flow[Answer | None]:
    """One call and its outcome, told to the controller's `state`."""
    try:
        answer = yield from (listen if plan.reading else _try)(plan, shape, talk)
    except FINAL:
        raise
    except Exception as error:  # the controller decides what is worth another attempt
        if talk.shown:
            raise talk.ends(error) from error
        state.set_exception(sys.exc_info())  # type: ignore[arg-type]
        return None
    state.set_result(answer.value)
    return answer


def _try(plan: Plan, shape: Shape, talk: Conversation) -> Flow[Answer]:
    talk.asks()
    try:
        completion = yield Send(plan.endpoint.call, talk.kwargs)
    except Exception as error:
        talk.breaks(error)
        raise
    reply = plan.endpoint.dialect.read(completion)
    talk.hears(completion, reply)
    try:
        text = judge(plan.mode, shape.name, reply, completion)
        value = shape.load(text, plan.context, strict=plan.strict)
    except RETRYABLE as problem:
        talk.goes_on(reply, problem)
        raise
    attach(value, completion, talk.usage)
    return Answer(value, (text,), completion)
