"""The pipeline: how a plan becomes an answer. Pure generators; `drive.py` does what they ask for."""

from __future__ import annotations

import math
import sys
from functools import partial
from typing import Any

import tenacity
from msgspec.structs import replace

from .answer import Answer, Restored, deliver, is_whole, judge, receipt
from .cache.completion import keep
from .cache.entry import Entry, seal, unseal
from .cache.flights import is_nested
from .cache.leases import HEART, Lease
from .conversation import Conversation, root
from .effects import Decide, Do, Emit, Flow, Load, Run, Save, Send, Share, Sleep
from .exceptions import CacheMiss, IncompleteOutputException, InstructorRetryException, RefusalError, TokenBudgetError
from .hooks import HookName
from .listen import listen, overhear
from .plan import Plan, Slot, key_of, within
from .receipt import attach
from .retry import RETRYABLE, controller, seconds
from .shape import Shape

PAUSE = tenacity.Retrying()
"""Pauses as tenacity does when it is not told how."""
SHORTEST, LONGEST = 0.01, 0.25
"""Seconds between two looks at what another process is answered: a quarter of the time that was waited already."""

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
    work = partial(tell, plan, slot, text)
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


def recall(plan: Plan, slot: Slot, refused: Any = None) -> Flow[tuple[Any, Answer | None]]:
    """What is stored, and the answer in it; no answer where the store fails, or has what was `refused` before.

    Raises:
        CacheMiss: there is none, and nobody may be asked.
    """
    text = answer = None
    try:
        if slot.policy != "refresh":
            text = yield Load(slot.shelf.store, slot.key)
    except CacheMiss:  # no failure: the store knows that nobody may be asked
        raise
    except Exception as problem:  # noqa: BLE001  a store is a stranger's code
        _trouble(plan, slot, "reading", problem)
    if text is not None and (refused is None or text != refused):
        entry = unseal(text, slot.key)
        if entry is None:
            _trouble(plan, slot, "reading", "the entry is damaged, or not ours")
        else:
            kept = Restored(entry.completion, plan.endpoint, slot.key, entry.made_at, entry.model)
            answer = deliver(plan, entry.tape, kept, entry.events)
    if answer is not None:
        slot.shelf.stats.hits += 1
        if plan.hooks.on_hit:
            plan.hooks.emit(HookName.CACHE_HIT, slot.key, age=kept.age(plan.clock()))
    elif slot.policy == "offline":
        has = "has no answer" if text is None else "has an answer that does not fit (any more)"
        raise CacheMiss(f"{slot.shelf.store!r} {has} under {slot.key}, and cache_mode is 'offline'.")
    return text, answer


def _trouble(plan: Plan, slot: Slot, doing: str, problem: object) -> None:
    slot.shelf.trouble(doing, problem)
    plan.hooks.emit(HookName.CACHE_ERROR, problem, doing=doing)


def tell(plan: Plan, slot: Slot, refused: Any = None, left: float | None = None) -> Flow[None]:
    """As `lead`, while others listen."""
    answer = yield from lead(plan, slot, refused, left)
    yield Emit(answer=answer)


def lead(plan: Plan, slot: Slot, refused: Any = None, left: float | None = None) -> Flow[Answer]:
    """Ask for everybody, unless somebody else has just been answered; with what is left of a timeout."""
    lease = slot.shelf.lease(slot.key) if slot.keep and slot.policy == "on" else None
    if lease is not None:
        return (yield from lead_all(plan, slot, lease, refused, left))
    _, answer = yield from recall(plan, slot, refused)
    return answer or (yield from ask_anew(within(plan, left), slot))


def lead_all(plan: Plan, slot: Slot, lease: Lease, refused: Any, left: float | None) -> Flow[Answer]:
    """As `lead`, for all processes: with the lease, which is given back however this ends."""
    answer: Answer | None
    try:
        answer, left = yield from wait(plan, slot, lease, refused, left)
        if answer is None:
            leased = replace(slot, lease=lease) if lease.taken else slot
            answer = yield from ask_anew(within(plan, left), leased)
        yield from give_back(plan, slot, lease)
    except Exception:
        yield from give_back(plan, slot, lease)
        raise
    finally:
        HEART.drop(lease)  # where it was not given back: who is cancelled, or not listened to, cannot
    return answer


def wait(plan: Plan, slot: Slot, lease: Lease, refused: Any, left: float | None) -> Flow[tuple[Any, float | None]]:
    """Take the lease, or wait for the answer of who has it: for half of our patience, which leaves the rest to ask."""
    patience = plan.patience if left is None else left
    waited, enough = 0.0, 0.0 if is_nested() else math.inf if patience is None else patience / 2
    while True:
        free = yield from take(plan, slot, lease)  # before looking: it may have been given back with an answer just now
        refused, answer = yield from recall(plan, slot, refused)
        if answer is not None or free or waited >= enough:
            return answer, left if patience is None or not waited else patience - waited
        pause = min(SHORTEST + waited / 4, LONGEST, enough - waited)
        yield Sleep(PAUSE, pause)
        waited += pause


def take(plan: Plan, slot: Slot, lease: Lease) -> Flow[bool]:
    """Whether nobody else has the lease: it is ours, or not to be had from a store that fails."""
    try:
        if not (yield Do(lease.store, "lease", (lease.key, lease.token, lease.seconds))):
            return False
        HEART.keep(lease)
    except Exception as problem:  # noqa: BLE001  a store is a stranger's code
        _trouble(plan, slot, "taking a lease", problem)
    return True


def give_back(plan: Plan, slot: Slot, lease: Lease) -> Flow[None]:
    """Let the next one ask, unless that was done when the answer was stored."""
    try:
        if lease.taken:
            yield Do(lease.store, "release", (lease.key, lease.token))
            HEART.let_go(lease)
    except Exception as problem:  # noqa: BLE001  a store is a stranger's code
        _trouble(plan, slot, "giving back a lease", problem)


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
            yield from save(plan, slot, seal(entry, slot.key))
        except Exception as problem:  # noqa: BLE001  a store is a stranger's code
            _trouble(plan, slot, "storing an answer", problem)
    return replace(answer, kept=kept)


def save(plan: Plan, slot: Slot, text: str) -> Flow[None]:
    """Store a text; not where the lease was lost, since somebody else asks now, or was answered."""
    lease, store = slot.lease, slot.shelf.store
    if lease is None:
        yield Save(store, slot.key, text, slot.ttl)
    elif (yield Do(store, "set_leased", (slot.key, text, slot.ttl, lease.token))):
        HEART.let_go(lease)
    else:
        return
    slot.shelf.stats.stores += 1
    plan.hooks.emit(HookName.CACHE_STORE, slot.key, ttl=slot.ttl)


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
        return Answer((yield Send(endpoint.stream, endpoint.row.streamed(asked))), whole=False)
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
