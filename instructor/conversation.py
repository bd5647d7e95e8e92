"""What has been said so far in one call: the next request, the failed attempts, the running total."""

from __future__ import annotations

import sys
from typing import Any

import tenacity

from .dialects.base import Reply
from .effects import Decide, Flow, Open, Send, Sleep
from .exceptions import FailedAttempt, InstructorRetryException, TokenBudgetExceeded, TokenUsageUnavailableError
from .plan import Plan
from .retry import controller
from .usage import add, tokens

QUESTION = ("messages", "contents", "input")
"""Where the dialects' requests hold what was said."""


class Conversation:
    """The attempts of one call, from its first request to its last."""

    def __init__(self, plan: Plan, attempts: int | None) -> None:
        self.plan = plan
        self.attempts = attempts
        self.kwargs = plan.endpoint.dialect.ask(plan.kwargs, plan.shape, plan.mode)
        self.failures: list[FailedAttempt] = []
        self.number = 0
        self.shown = False  # whether anything of a stream was given out
        self.usage: Any = None
        self.completion: Any = None

    def asks(self) -> dict[str, Any]:
        """Another attempt begins, with these arguments."""
        self.number += 1
        asked = self.plan.endpoint.row.streamed(self.kwargs) if self.plan.reading else self.kwargs
        self.plan.hooks.emit_completion_arguments(**asked)
        return asked

    def hears(self, completion: Any, reply: Reply) -> None:
        """The provider answered. The completion's own usage becomes the running total, as users of re-asks know it."""
        self.completion = completion
        if reply.usage is not None:
            self.usage = reply.usage if self.usage is None else add(self.usage, reply.usage)
            _replace_usage(completion, reply.usage, self.usage)
        hooks = self.plan.hooks
        hooks.emit_completion_response(completion)
        if self.usage is not None:
            hooks.emit_completion_usage(self.usage, attempt_number=self.number)

    def breaks(self, error: Exception) -> None:
        """The provider did not answer."""
        self.failures.append(FailedAttempt(self.number, error))
        self.plan.hooks.emit_completion_error(error, **self._standing(last=self.attempts is not None))

    def goes_on(self, reply: Reply, problem: Exception) -> None:
        """The answer would not do: say why, and make it the next request.

        Raises:
            TokenBudgetError: there is a budget, and it is spent or cannot be kept.
        """
        self.failures.append(FailedAttempt(self.number, problem, self.completion))
        self.plan.hooks.emit_parse_error(problem, **self._standing(last=self.number == self.attempts))
        if self.plan.budget is not None:
            self._keep_to(self.plan.budget, problem)
        dialect = self.plan.endpoint.dialect
        self.kwargs = dialect.reask(self.kwargs, self.completion, reply, problem, self.plan.mode)

    def ends(self, error: Exception) -> InstructorRetryException:
        """The error that tells the whole story; the last one is its cause."""
        self.plan.hooks.emit_completion_last_attempt(error, **self._standing(last=True))
        return InstructorRetryException(str(error) or repr(error), **self._story())

    def _standing(self, *, last: bool) -> dict[str, Any]:
        return {"attempt_number": self.number, "max_attempts": self.attempts, "is_last_attempt": last}

    def _story(self) -> dict[str, Any]:
        return {
            "last_completion": self.completion,
            "messages": next((self.kwargs[name] for name in QUESTION if name in self.kwargs), None),
            "n_attempts": self.number,
            "total_usage": self.usage,
            "create_kwargs": self.kwargs,
            "failed_attempts": self.failures,
        }

    def _keep_to(self, budget: int, problem: Exception) -> None:
        spent = tokens(self.usage)
        if spent is None:
            text = f"token_budget={budget} cannot be kept: the provider does not say what an attempt cost."
            raise TokenUsageUnavailableError(text, budget=budget, **self._story()) from problem
        if spent >= budget:
            text = f"{self.number} failed attempts used {spent} tokens of token_budget={budget}."
            raise TokenBudgetExceeded(text, budget=budget, **self._story()) from problem


def _replace_usage(completion: Any, usage: Any, total: Any) -> None:
    for name in ("usage", "usage_metadata"):
        if total is not usage and getattr(completion, name, None) is usage:
            setattr(completion, name, total)


def insist(plan: Plan, effect: Send | Open) -> Flow[Any]:
    """What comes of a plain question: asked once, or as often as a controller of the user's own has it.

    Raises:
        Exception: the SDK's own, as it came.
    """
    if not isinstance(plan.max_retries, tenacity.BaseRetrying):
        return (yield effect)
    control = controller(plan.max_retries, None, is_async=plan.endpoint.is_async)
    if plan.reading:  # what a callback gives in a stream's place is none
        control.retry_error_callback = None
    control.begin()
    state = tenacity.RetryCallState(control, None, (), {})
    while True:
        try:
            step = yield Decide(control, state)
        except Exception as error:  # noqa: BLE001  the controller gives up with whatever stopped it
            raise root(error)  # noqa: B904  it has a cause of its own
        if isinstance(step, tenacity.DoSleep):
            state.prepare_for_next_attempt()
            yield Sleep(control, float(step))
        elif not isinstance(step, tenacity.DoAttempt):
            return step
        else:
            try:
                state.set_result((yield effect))
            except Exception:  # noqa: BLE001  the controller decides what is worth another attempt
                state.set_exception(sys.exc_info())  # type: ignore[arg-type]


def root(error: Exception) -> Exception:
    """The error inside tenacity's `RetryError`, which says only that there was one."""
    if isinstance(error, tenacity.RetryError):
        inner = error.last_attempt.exception()
        return inner if isinstance(inner, Exception) else error
    return error
