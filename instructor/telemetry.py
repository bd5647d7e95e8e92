"""Spans and metrics of calls, for programs that collect them with OpenTelemetry.

Names are those of its GenAI semantic conventions, version 1.37 (https://opentelemetry.io/docs/specs/semconv/gen-ai/);
what only we know begins with `instructor.`. Prompts, answers, and the texts of errors, which quote them, stay out.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any

from msgspec.structs import replace

from . import __version__
from .answer import Answer
from .dialects.base import model_of
from .effects import Begin, Emit, Flow
from .exceptions import InstructorRetryException
from .hooks import HookName
from .plan import Plan
from .usage import sides

PROVIDERS = {"azure_openai": "azure.ai.openai", "bedrock": "aws.bedrock", "genai": "gcp.gemini"}
PROVIDERS |= {"mistral": "mistral_ai", "vertexai": "gcp.vertex_ai", "xai": "x_ai"}
"""What the conventions call a provider, where it is not our word."""
SECONDS = [0.01 * 2**step for step in range(14)]
TOKENS = [4**step for step in range(14)]
"""The bounds of histograms that the conventions advise."""


def watched(pipeline: Callable[[Plan], Flow[Answer]], plan: Plan) -> Flow[Answer]:
    """The flow of a plan; told of in a span where the program has loaded OpenTelemetry's SDK, be it a moment ago."""
    return _told(pipeline, plan) if "opentelemetry.sdk" in sys.modules else pipeline(plan)


def _told(pipeline: Callable[[Plan], Flow[Answer]], plan: Plan) -> Flow[Answer]:
    """The flow, in a span that is the current one except while the caller looks at an item of a stream."""
    call = Call(plan)
    flow = pipeline(replace(plan, hooks=call.hooks))
    step, given = flow.send, None
    call.enter()
    try:
        while True:
            effect = step(given)
            if type(effect) is Emit:
                call.leave()
            elif type(effect) is Begin:  # a call of its own, of which ours hears nothing
                effect = Begin(partial(_told, effect.work), replace(effect.plan, hooks=plan.hooks))
            try:
                given, step = (yield effect), flow.send
            except BaseException as problem:  # noqa: BLE001  whatever happened, the flow decides
                given, step = problem, flow.throw
            if type(effect) is Emit:
                call.enter()
    except StopIteration as end:
        call.answers(end.value)
        return end.value  # type: ignore[no-any-return]
    except (Exception, asyncio.CancelledError) as error:  # not who has seen enough of a stream
        call.fails(error)
        raise
    finally:
        call.end()
        call.leave()


class Call:
    """One call: its span, and what is known of it. `facts` go to the span and the metrics, `own` to the span alone.

    It `paid` where the provider was asked, and not by somebody else: what that cost is counted once.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.began = time.perf_counter()
        self.attempts, self.paid = 0, plan.slot is None
        self.hooks = plan.hooks.copy()
        self.hooks.on(HookName.COMPLETION_KWARGS, self._asks)
        self.hooks.on(HookName.CACHE_HIT, self._finds)
        self.hooks.on(HookName.CACHE_MISS, self._misses)
        self.hooks.on(HookName.CACHE_BYPASS, self._bypasses)
        provider, model = plan.endpoint.row.provider.value, str(plan.kwargs.get("model") or "")
        self.facts = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": PROVIDERS.get(provider, provider)}
        self.facts |= {"gen_ai.request.model": model} if model else {}
        self.own: dict[str, Any] = {"instructor.mode": plan.mode.value}
        self.own |= {"instructor.cache.reason": "no stable identity"} if plan.bypassed else {}
        self.context, self.trace, start, self.seconds, self.tokens = _opentelemetry()
        self.span = start(f"chat {model}".strip(), attributes=self.facts)
        self.facts["instructor.cache"] = "miss" if plan.slot else "bypass" if plan.bypassed else "off"

    def _asks(self, **_: Any) -> None:
        self.attempts += 1

    def _finds(self, _key: str, **facts: Any) -> None:
        self.own |= {f"instructor.cache.{name}": value for name, value in facts.items()}

    def _misses(self, _key: str) -> None:
        self.paid = True

    def _bypasses(self, reason: str, **_: Any) -> None:
        self.own["instructor.cache.reason"] = reason

    def enter(self) -> None:
        """Let what is done from now on belong to the call."""
        self.before = self.context.attach(self.trace.set_span_in_context(self.span))

    def leave(self) -> None:
        """... and no more."""
        self.context.detach(self.before)

    def answers(self, answer: Answer) -> None:
        """There is an answer."""
        if self.paid:
            self._read(answer.raw)
        else:
            self.facts["instructor.cache"] = "hit"

    def fails(self, error: BaseException) -> None:
        """There is none, but what was paid for has been paid for."""
        if self.paid:
            self._read(getattr(error, "last_completion", None))
        cause = error.__cause__ if isinstance(error, InstructorRetryException) else None
        self.facts["error.type"] = type(cause or error).__qualname__
        self.span.set_status(self.trace.StatusCode.ERROR)

    def end(self) -> None:
        """It is over."""
        self.own["instructor.attempts"] = self.attempts or int(self.paid)  # plain completions are not told of
        self.seconds.record(time.perf_counter() - self.began, self.facts)
        self.span.set_attributes(self.facts | self.own)
        self.span.end()

    def _read(self, completion: Any) -> None:
        """Note who answered, and what all attempts cost."""
        with suppress(Exception):  # it may be anything
            self.facts |= {"gen_ai.response.model": model} if (model := model_of(completion)) else {}
            for side, count in sides(self.plan.endpoint.dialect.read(completion).usage).items():
                self.own[f"gen_ai.usage.{side}_tokens"] = count
                self.tokens.record(count, {**self.facts, "gen_ai.token.type": side})


@lru_cache(maxsize=1)
def _opentelemetry() -> tuple[Any, ...]:
    """What we need of it; good also for providers of spans and metrics that are set up later."""
    from opentelemetry import context, metrics, trace  # noqa: PLC0415  who loaded the SDK has them

    start = partial(trace.get_tracer("instructor", __version__).start_span, kind=trace.SpanKind.CLIENT)
    make = metrics.get_meter("instructor", __version__).create_histogram
    seconds = _histogram(make, "gen_ai.client.operation.duration", "s", SECONDS)
    return context, trace, start, seconds, _histogram(make, "gen_ai.client.token.usage", "{token}", TOKENS)


def _histogram(make: Callable[..., Any], name: str, unit: str, bounds: list[Any]) -> Any:
    try:
        return make(name, unit, explicit_bucket_boundaries_advisory=bounds)
    except TypeError:  # before 1.30 it took no advice
        return make(name, unit)
