"""The pipeline: how a plan becomes an answer. Pure generators; `drive.py` does what they ask for."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import msgspec
import tenacity
from msgspec.structs import replace

from . import jsontext
from .cache.completion import Kept, keep, restore
from .cache.entry import Entry, seal, unseal
from .conversation import Conversation, root
from .dialects.base import CALLED, Dialect, Reply
from .effects import Decide, Flow, Load, Run, Save, Send, Share, Sleep
from .endpoint import Endpoint
from .exceptions import (
    IncompleteOutputException,
    InstructorRetryException,
    RefusalError,
    ResponseParsingError,
    TokenBudgetError,
)
from .mode import Mode
from .parallel import payload
from .plan import Plan, Slot, key_of, within
from .receipt import Later, attach, made
from .retry import RETRYABLE, controller, seconds
from .shape import Shape
from .usage import nothing

FINAL = (IncompleteOutputException, RefusalError, TokenBudgetError)
"""What no controller may retry: asking again would give the same, or cost what may not be spent."""


class Answer(msgspec.Struct, frozen=True, eq=False):
    """What a flow delivers.

    `tape` is the payload in the pieces in which it arrived; `kept` the completion as text, once it has been
    remembered; `whole` whether it may be.
    """

    value: Any
    tape: tuple[str, ...] = ()
    raw: Any = None
    kept: Kept | None = None
    whole: bool = True

    @property
    def completion(self) -> Any:
        """The SDK's own completion."""
        return made(self.raw)


def solve(plan: Plan) -> Flow[Answer]:
    """The answer to a question: remembered, or asked for once by all who want it now."""
    slot = plan.slot
    if slot is None:
        return (yield from ask(plan))
    text, answer = yield from recall(plan, slot)
    if answer is not None:
        return answer
    # An answer that will do for one may not do for another; nor is an error another's on other terms.
    terms = (plan.shape, plan.max_retries, plan.budget)
    work = partial(lead, plan, slot, text)
    try:
        led, answer, left = yield Share(slot.shelf.flights, slot.key, work, plan.patience, terms)
    except TimeoutError as late:  # an error of the work itself comes as an InstructorRetryException already
        raise InstructorRetryException(str(late), n_attempts=0, total_usage=None) from late
    return answer if led else (yield from follow(within(plan, left), slot, answer))


def recall(plan: Plan, slot: Slot, refused: Any = None) -> Flow[tuple[Any, Answer | None]]:
    """What is stored, and the answer in it; no answer where the store fails, or has what was `refused` before."""
    shelf = slot.shelf
    try:
        text = yield Load(shelf.store, slot.key)
    except Exception as problem:  # noqa: BLE001  a store is a stranger's code
        shelf.trouble("reading", problem)
        return None, None
    if text is None or (refused is not None and text == refused):
        return text, None
    entry = unseal(text, slot.key)
    if entry is None:
        shelf.trouble("reading", "the entry is damaged, or not ours")
        return text, None
    answer = deliver(plan, entry.tape, Restored(entry.completion, plan.endpoint))
    if answer is not None:
        shelf.stats.hits += 1
    return text, answer


def lead(plan: Plan, slot: Slot, refused: Any = None, left: float | None = None) -> Flow[Answer]:
    """Ask for everybody, unless somebody else has just been answered; with what is left of a timeout."""
    _, answer = yield from recall(plan, slot, refused)
    return answer or (yield from ask_anew(within(plan, left), slot))


def ask_anew(plan: Plan, slot: Slot) -> Flow[Answer]:
    """Ask, and remember the answer; not if the question was changed under our hands since it was looked up."""
    slot.shelf.stats.misses += 1
    changed = key_of(plan, slot.shelf, slot.namespace) != slot.key
    answer = yield from ask(plan)
    return replace(answer, whole=False) if changed else (yield from remember(plan, slot, answer))


def follow(plan: Plan, slot: Slot, answer: Answer) -> Flow[Answer]:
    """What somebody else was just answered, read as if from the cache; asked again where it will not do for us."""
    kept = answer.kept
    raw = answer.raw if kept is None else Restored(kept, plan.endpoint)
    mine = deliver(plan, answer.tape, raw) if answer.whole else None
    if mine is None:
        return (yield from ask_anew(plan, slot))
    slot.shelf.stats.hits += 1
    return mine


def deliver(plan: Plan, tape: tuple[str, ...], raw: Any) -> Answer | None:
    """The answer that was once given, given again; None when today's model refuses it."""
    try:
        if plan.shape is None:
            completion = made(raw)
            return Answer(completion, tape, completion)
        value = plan.shape.load(tape[0] if len(tape) == 1 else "".join(tape), plan.context, strict=plan.strict)
    except Exception:  # noqa: BLE001  validators are strangers' code, and this one will run again on the miss
        return None
    attach(value, raw, Free(raw, plan.endpoint))
    return Answer(value, tape, raw)


class Restored(Later, eq=False):
    """The completion that an answer from the cache was read from."""

    kept: Kept
    endpoint: Endpoint
    value: Any = None

    def make(self) -> Any:
        """The completion, of the SDK's own type; the same object each time."""
        if self.value is None:
            self.value = restore(self.kept, self.endpoint.row.completion)
        return self.value


class Free(Later, eq=False):
    """What an answer from the cache cost: nothing, in the provider's own units."""

    raw: Any
    endpoint: Endpoint

    def make(self) -> Any:
        """A usage of the provider's own type, all zero."""
        return nothing(self.endpoint.dialect.read(made(self.raw)).usage)


def remember(plan: Plan, slot: Slot, answer: Answer) -> Flow[Answer]:
    """Store an answer that is finished, validated and whole; a store that fails costs nobody the answer."""
    if not answer.whole:
        return answer
    kept = keep(answer.raw, plan.endpoint.row.completion)
    if kept is None:
        slot.shelf.bypass("completion", f"a {type(answer.raw).__name__} cannot be kept as text and come back equal")
        return answer
    if slot.keep:
        entry = Entry(answer.tape, kept, str(plan.kwargs.get("model")), plan.clock())
        try:
            yield Save(slot.shelf.store, slot.key, seal(entry, slot.key), slot.ttl)
            slot.shelf.stats.stores += 1
        except Exception as problem:  # noqa: BLE001  a store is a stranger's code
            slot.shelf.trouble("storing an answer", problem)
    return Answer(answer.value, answer.tape, answer.raw, kept)


def ask(plan: Plan) -> Flow[Answer]:
    """Ask the provider, until the answer will do or there is reason to stop."""
    if plan.endpoint.start is not None:
        yield Run(plan.endpoint.start)
    if plan.shape is None:
        return (yield from complete(plan))
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
        elif isinstance(step, tenacity.DoSleep):
            state.prepare_for_next_attempt()
            yield Sleep(control, float(step))
        elif answer is not None and step is answer.value:
            return answer
        else:  # what the user's own `retry_error_callback` gives in an answer's place
            return Answer(step, raw=talk.completion, whole=False)


def complete(plan: Plan) -> Flow[Answer]:
    """A plain completion: one call, given back as it came."""
    dialect = plan.endpoint.dialect
    completion = yield Send(plan.endpoint.call, dialect.ask(plan.kwargs, None, plan.mode))
    return Answer(completion, raw=completion, whole=plan.slot is not None and _is_whole(dialect, completion))


def _is_whole(dialect: Dialect, completion: Any) -> bool:
    """Whether a plain completion says something, and all of it; not if it is nothing that we can read."""
    try:
        reply = dialect.read(completion)
    except Exception:  # noqa: BLE001  it has been paid for, whatever it is
        return False
    return reply.finish == "stop" and bool(reply.text or reply.calls)


def attempt(plan: Plan, shape: Shape, talk: Conversation, state: tenacity.RetryCallState) -> Flow[Answer | None]:
    """One call and its outcome, told to the controller's `state`."""
    try:
        answer = yield from _try(plan, shape, talk)
    except FINAL:
        raise
    except Exception:  # noqa: BLE001  the controller decides what is worth another attempt
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


def judge(mode: Mode, name: str, reply: Reply, completion: Any) -> str:
    """The payload of a reply that is whole: the call of the tool `name`, or text where none is forced.

    Raises:
        IncompleteOutputException, RefusalError: the model did not finish, or did not want to.
        ResponseParsingError: there is no payload in it.
    """
    if reply.finish == "length":
        raise IncompleteOutputException(last_completion=completion)
    if reply.finish == "refusal":
        said = reply.refusal or "the answer was withheld by a content filter"
        raise RefusalError(f"The model declined: {said}", last_completion=completion)
    if mode is Mode.PARALLEL_TOOLS:
        return payload(reply.calls)  # none at all is an answer too
    calls = reply.calls if mode in CALLED else [made for made in reply.calls if made.name == name]
    if calls:
        return calls[0].arguments
    if mode in CALLED:
        problem = "The answer holds no tool call"
    else:
        try:
            return jsontext.find(reply.text or "")
        except ValueError as error:
            problem = str(error)
    raise ResponseParsingError(f"{problem} (mode: {mode.name})", mode=mode.name, raw_response=completion)
