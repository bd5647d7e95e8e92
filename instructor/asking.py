"""Asking the provider, until its answer will do or there is reason to stop."""

from __future__ import annotations

import re
import sys
from difflib import get_close_matches
from functools import partial

import tenacity
from msgspec.structs import replace

from .answer import Answer, is_whole, judge
from .cache.wishes import WORDS
from .conversation import Conversation, insist, root
from .effects import Decide, Flow, Run, Send, Sleep
from .exceptions import (
    ConfigurationError,
    IncompleteOutputException,
    InstructorRetryException,
    RefusalError,
    TokenBudgetError,
)
from .listen import listen, overhear
from .media import PLACES, holds, rendered
from .plan import Plan
from .receipt import attach
from .retry import RETRYABLE, controller, seconds
from .shape import Shape

UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")
"""What Python says of an argument that a function does not have."""
OURS = (
    "response_model",
    "max_retries",
    "context",
    "strict",
    "hooks",
    "token_budget",
    "cache",
    "stream",
    *sorted(WORDS),
)
FINAL = (IncompleteOutputException, RefusalError, TokenBudgetError)
"""What no controller may retry: asking again would give the same, or cost what may not be spent."""


def ask(plan: Plan) -> Flow[Answer]:
    """Ask the provider, until the answer will do or there is reason to stop.

    Raises:
        ConfigurationError: an argument is almost one of ours, and not one of the SDK's.
    """
    try:
        return (yield from _ask(plan))
    except (TypeError, InstructorRetryException) as error:
        unknown = UNEXPECTED.findall(str(error.__cause__ or error))
        for wrong in plan.kwargs.keys() & unknown:
            for ours in get_close_matches(wrong, OURS, 1, cutoff=0.8):
                text = f"Neither we nor the SDK know an argument {wrong!r}. Did you mean {ours!r}?"
                raise ConfigurationError(text) from error
        raise


def _ask(plan: Plan) -> Flow[Answer]:
    if plan.endpoint.start is not None:
        yield Run(plan.endpoint.start)
    if any(holds(plan.kwargs.get(name)) for name in PLACES):
        plan = replace(plan, kwargs=(yield Run(partial(rendered, plan.kwargs, plan.endpoint.dialect.name))))
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
    """A plain completion, or the SDK's own stream of one, given back as it came."""
    endpoint = plan.endpoint
    asked = endpoint.dialect.ask(plan.kwargs, None, plan.mode)
    if plan.reading:
        return Answer((yield from insist(plan, Send(endpoint.stream, endpoint.row.streamed(asked)))), whole=False)
    completion = yield from insist(plan, Send(endpoint.call, asked))
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
