"""What a program that collects spans and metrics sees of its calls: OpenTelemetry's own SDK, kept in memory."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from fake_provider import FakeProvider, Say
from flavours import anthropic_client, ask, google_client, groq_client, openai_client, responses_client
from pydantic import BaseModel
from test_cache_flights import everybody_waits
from test_cache_stale import Asking
from test_public import loaded_by

import instructor
from instructor.cache import AutoCache, CacheMiss, CacheWarning
from instructor.exceptions import InstructorRetryException
from instructor.providers import Provider
from instructor.telemetry import PROVIDERS, SECONDS, TOKENS, _histogram

REASON = "opentelemetry-sdk is not installed"
sdk = pytest.importorskip("opentelemetry.sdk.trace", reason=REASON)
export = pytest.importorskip("opentelemetry.sdk.trace.export", reason=REASON)
memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter", reason=REASON)
measures = pytest.importorskip("opentelemetry.sdk.metrics", reason=REASON)
readers = pytest.importorskip("opentelemetry.sdk.metrics.export", reason=REASON)
trace = pytest.importorskip("opentelemetry.trace")
metrics = pytest.importorskip("opentelemetry.metrics")

PROMPT, NAME, KEY = "Extract: SECRET-PROMPT is 25", "SECRET-ANSWER", "SECRET-KEY"
QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": PROMPT}]}
ANSWER = json.dumps({"name": NAME, "age": 25})
LIST = json.dumps({"tasks": [{"name": NAME, "age": 25}, {"name": "Ann", "age": 31}]})
CHAT, SPENT = {"gen_ai.operation.name": "chat"}, {"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 5}


class User(BaseModel):
    """Somebody."""

    name: str
    age: int


class Seen:
    """What was collected since the test began."""

    def __init__(self) -> None:
        self._spans = memory.InMemorySpanExporter()
        self.source = sdk.TracerProvider()
        self.source.add_span_processor(export.SimpleSpanProcessor(self._spans))
        delta = {measures.Histogram: readers.AggregationTemporality.DELTA}
        self._metrics = readers.InMemoryMetricReader(preferred_temporality=delta)
        self.meters = measures.MeterProvider([self._metrics])

    def forget(self) -> None:
        """A test begins."""
        self._spans.clear()
        self._metrics.get_metrics_data()

    @property
    def spans(self) -> list[Any]:
        """Ours, in the order in which they ended."""
        return [span for span in self._spans.get_finished_spans() if span.instrumentation_scope.name == "instructor"]

    @property
    def facts(self) -> list[dict[str, Any]]:
        """Their attributes, but for an age, which is some small number."""
        return [{name: each for name, each in span.attributes.items() if name != AGE} for span in self.spans]

    def points(self) -> dict[str, list[Any]]:
        """The points of each metric; each is read but once."""
        data = self._metrics.get_metrics_data()
        scopes = [scope for each in (data.resource_metrics if data else []) for scope in each.scope_metrics]
        return {metric.name: [metric, *metric.data.data_points] for scope in scopes for metric in scope.metrics}

    def tokens(self) -> dict[str, int]:
        """The tokens that were counted."""
        _, *points = self.points().get("gen_ai.client.token.usage", [None])
        kinds = {point.attributes["gen_ai.token.type"] for point in points}
        return {kind: sum(p.sum for p in points if p.attributes["gen_ai.token.type"] == kind) for kind in kinds}


AGE = "instructor.cache.age"


@pytest.fixture(scope="module")
def collected() -> Iterator[Seen]:
    """The program's own collection; there can be one in a process."""
    seen = Seen()
    trace.set_tracer_provider(seen.source)
    metrics.set_meter_provider(seen.meters)
    yield seen
    seen.source.shutdown()
    seen.meters.shutdown()


@pytest.fixture
def seen(collected: Seen, provider: FakeProvider, caplog: pytest.LogCaptureFixture) -> Iterator[Seen]:
    """What a test has to look at; nothing went wrong on the way."""
    provider.say(ANSWER)
    collected.forget()
    yield collected
    assert [record.message for record in caplog.records if record.name.startswith("opentelemetry")] == []


def asked(client: Any, **how: Any) -> Any:
    """Who it is."""
    return ask(client, **{"response_model": User, **QUESTION, **how})


@pytest.mark.parametrize(
    ("make", "use_async", "name", "mode"),
    [
        (openai_client, False, "openai", "tool_call"),
        (openai_client, True, "openai", "tool_call"),
        (responses_client, False, "openai", "responses_tools"),
        (anthropic_client, True, "anthropic", "tool_call"),
        (google_client, False, "gcp.gemini", "tool_call"),
        (groq_client, False, "groq", "tool_call"),
    ],
)
def test_a_call_is_one_span(
    provider: FakeProvider, seen: Seen, make: Any, use_async: bool, name: str, mode: str
) -> None:
    """A miss says who answered and what that cost, a hit that it was one; both took their time."""
    client = make(provider, use_async=use_async, cache=AutoCache())
    for _ in range(2):
        asked(client)

    both = {**CHAT, "gen_ai.provider.name": name, "gen_ai.request.model": "m", "instructor.mode": mode}
    miss = {"gen_ai.response.model": "m", **SPENT, "instructor.cache": "miss", "instructor.attempts": 1}
    hit = {"instructor.cache": "hit", "instructor.attempts": 0}
    assert seen.facts == [both | miss, both | hit]
    assert [(span.name, span.kind.name, span.status.status_code.name) for span in seen.spans] == [
        ("chat m", "CLIENT", "UNSET")
    ] * 2
    assert 0 <= seen.spans[1].attributes[AGE] < 60


def test_the_metrics_are_those_of_the_conventions(provider: FakeProvider, seen: Seen) -> None:
    """A hit has a duration and no tokens; the histograms have the bounds that are advised."""
    client = openai_client(provider, cache=AutoCache())
    for _ in range(3):
        asked(client)

    points = seen.points()
    duration, *lasted = points["gen_ai.client.operation.duration"]
    usage, *counted = points["gen_ai.client.token.usage"]
    common = {**CHAT, "gen_ai.provider.name": "openai", "gen_ai.request.model": "m"}
    miss = {**common, "gen_ai.response.model": "m", "instructor.cache": "miss"}

    assert (duration.unit, usage.unit) == ("s", "{token}")
    assert [(dict(point.attributes), point.count) for point in lasted] == [
        (miss, 1),
        ({**common, "instructor.cache": "hit"}, 2),
    ]
    assert all(0 < point.sum < 60 for point in lasted)
    assert {tuple(point.explicit_bounds) for point in lasted} == {tuple(SECONDS)}
    assert [(dict(point.attributes), point.count, point.sum) for point in counted] == [
        ({**miss, "gen_ai.token.type": "input"}, 1, 10),
        ({**miss, "gen_ai.token.type": "output"}, 1, 5),
    ]
    assert {tuple(point.explicit_bounds) for point in counted} == {tuple(TOKENS)}


def test_the_bounds_are_the_advised_ones() -> None:
    """As https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/ lists them."""
    assert SECONDS == [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
    assert [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864] == TOKENS


def test_an_old_api_takes_no_advice() -> None:
    """Then the histogram has other bounds, and the call goes on."""

    def create_histogram(name: str, unit: str) -> tuple[str, str]:
        return name, unit

    assert _histogram(create_histogram, "a", "s", SECONDS) == ("a", "s")


def test_the_conventions_know_our_providers() -> None:
    """Every name that is translated is a provider's."""
    assert set(PROVIDERS) <= {known.value for known in Provider}


# Streams


async def _listed(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


async def _awaited_list(asked: Any) -> list[Any]:
    return await _listed(await asked)


STREAMS: dict[str, Callable[[Any], list[Any]]] = {
    "partial": lambda client: list(client.create_partial(User, **QUESTION)),
    "iterable": lambda client: list(client.create_iterable(response_model=User, **QUESTION)),
    "events": lambda client: list(client.create(stream=True, **QUESTION)),
}
STREAMS_ASYNC: dict[str, Callable[[Any], list[Any]]] = {
    "partial": lambda client: asyncio.run(_listed(client.create_partial(User, **QUESTION))),
    "iterable": lambda client: asyncio.run(_listed(client.create_iterable(response_model=User, **QUESTION))),
    "events": lambda client: asyncio.run(_awaited_list(client.create(stream=True, **QUESTION))),
}


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("kind", STREAMS)
def test_a_stream_is_one_span(provider: FakeProvider, seen: Seen, kind: str, use_async: bool) -> None:
    """Asked for or replayed; without a cache too, unless it is the SDK's own stream."""
    provider.say(LIST if kind == "iterable" else ANSWER)
    client = openai_client(provider, use_async=use_async, cache=AutoCache())

    for _ in range(2):
        assert (STREAMS_ASYNC if use_async else STREAMS)[kind](client)

    assert [facts["instructor.cache"] for facts in seen.facts] == ["miss", "hit"]
    assert [facts["instructor.attempts"] for facts in seen.facts] == [1, 0]
    assert (seen.tokens(), SPENT.items() <= seen.facts[0].items()) == ({"input": 10, "output": 5}, True)


def test_the_span_of_a_stream_ends_with_it(provider: FakeProvider, seen: Seen) -> None:
    """While its items are looked at it is not the current span: what the program does then is its own business."""
    with trace.get_tracer("test").start_as_current_span("outside") as outside:
        for _ in openai_client(provider).create_partial(User, **QUESTION):
            assert (trace.get_current_span() is outside, seen.spans) == (True, [])

    assert [span.parent.span_id for span in seen.spans] == [outside.get_span_context().span_id]


@pytest.mark.parametrize("cache", [None, AutoCache()], ids=["bare", "cached"])
def test_who_has_seen_enough_made_no_error(provider: FakeProvider, seen: Seen, cache: Any) -> None:
    """A loop that is left ends the span."""
    items = openai_client(provider, cache=cache).create_partial(User, **QUESTION)
    next(items)
    items.close()

    (span,) = seen.spans
    assert (span.status.status_code.name, "error.type" in span.attributes) == ("UNSET", False)


def test_items_may_be_taken_by_different_tasks(provider: FakeProvider, seen: Seen) -> None:
    """As `asyncio.wait_for` has them: each task has its own idea of what is current."""
    client = openai_client(provider, use_async=True, cache=AutoCache())

    async def main() -> int:
        count, items = 0, client.create_partial(User, **QUESTION)
        while await asyncio.create_task(anext(items, None)):
            count += 1
            assert not trace.get_current_span().get_span_context().is_valid
        return count

    assert asyncio.run(main()) > 1
    assert len(seen.spans) == 1


# Where a span belongs


def parents(spans: Iterable[Any]) -> set[Any]:
    """What the spans hang from."""
    return {span.parent and span.parent.span_id for span in spans}


def test_a_call_belongs_to_what_is_going_on(provider: FakeProvider, seen: Seen) -> None:
    """In this thread, in a thread that was given the context, and in each task; what a call does belongs to it."""
    tracer, client = trace.get_tracer("test"), openai_client(provider)
    inside: list[Any] = []
    client.on("completion:kwargs", lambda **_: inside.append(trace.get_current_span()))

    def sync() -> int:
        with tracer.start_as_current_span("outside") as outside:
            asked(client)
            with ThreadPoolExecutor(1) as pool:
                pool.submit(contextvars.copy_context().run, asked, client).result(20)
        return int(outside.get_span_context().span_id)

    async def one(later: Any) -> int:
        with tracer.start_as_current_span("outside") as outside:
            await later.create(response_model=User, **QUESTION)
        return int(outside.get_span_context().span_id)

    async def several() -> list[int]:
        later = openai_client(provider, use_async=True)
        return await asyncio.gather(*(one(later) for _ in range(3)))

    first = sync()
    assert parents(seen.spans) == {first}
    assert [span.get_span_context().span_id for span in inside] == [span.context.span_id for span in seen.spans]

    ids = asyncio.run(several())
    assert (parents(seen.spans[2:]), len(set(ids))) == (set(ids), 3)
    assert not trace.get_current_span().get_span_context().is_valid


def test_who_waits_for_an_answer_did_not_pay_for_it(provider: FakeProvider, seen: Seen) -> None:
    """One of three asks, and its tokens are counted once."""
    cache, provider.gate = AutoCache(), threading.Event()
    client = openai_client(provider, cache=cache)

    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(asked, client) for _ in range(3)]
        everybody_waits(cache, 3)
        provider.gate.set()
        for future in waiting:
            future.result(20)

    assert sorted(facts["instructor.cache"] for facts in seen.facts) == ["hit", "hit", "miss"]
    assert sum("gen_ai.usage.input_tokens" in facts for facts in seen.facts) == 1
    assert seen.tokens() == {"input": 10, "output": 5}


# What goes wrong


def test_every_attempt_costs(provider: FakeProvider, seen: Seen) -> None:
    """An answer that took two has the tokens of both."""
    provider.say('{"name": "John"}', ANSWER)
    asked(openai_client(provider))

    (facts,) = seen.facts
    assert (facts["instructor.attempts"], facts["instructor.cache"]) == (2, "off")
    assert seen.tokens() == {"input": 20, "output": 10}
    assert (facts["gen_ai.usage.input_tokens"], facts["gen_ai.usage.output_tokens"]) == (20, 10)


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize(
    ("say", "problem", "tokens"),
    [
        (Say(status=429), "RateLimitError", {}),
        (Say('{"name": "John"}'), "ValidationError", {"input": 20, "output": 10}),
        (Say(finish="length"), "IncompleteOutputException", {"input": 10, "output": 5}),
    ],
)
def test_an_error_marks_its_span(
    provider: FakeProvider, seen: Seen, say: Say, problem: str, tokens: Any, use_async: bool
) -> None:
    """By what caused it, in the metrics too; what was paid for is counted all the same."""
    provider.say(say)
    with pytest.raises(instructor.exceptions.InstructorError):
        asked(openai_client(provider, use_async=use_async, cache=AutoCache()), max_retries=1)

    (span,) = seen.spans
    points = seen.points()
    _, lasted = points["gen_ai.client.operation.duration"]
    counted = {p.attributes["gen_ai.token.type"]: p.sum for p in points.get("gen_ai.client.token.usage", [None])[1:]}
    assert (span.attributes["error.type"], lasted.attributes["error.type"]) == (problem, problem)
    assert (span.status.status_code.name, span.status.description, span.events) == ("ERROR", None, ())
    assert counted == tokens


def test_who_is_cancelled_did_not_get_there(provider: FakeProvider, seen: Seen) -> None:
    """That is an error as well."""
    provider.gate = threading.Event()
    client = openai_client(provider, use_async=True)

    async def main() -> None:
        task = asyncio.create_task(client.create(response_model=User, **QUESTION))
        assert await asyncio.to_thread(provider.arrived.acquire, timeout=20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert [facts["error.type"] for facts in seen.facts] == ["CancelledError"]


def test_an_answer_that_is_not_there_is_a_miss(provider: FakeProvider, seen: Seen) -> None:
    """Nobody was asked."""
    with pytest.raises(CacheMiss):
        asked(openai_client(provider, cache=AutoCache()), cache_mode="offline")

    (facts,) = seen.facts
    found = facts["instructor.cache"], facts["instructor.attempts"], facts["error.type"]
    assert found == ("miss", 0, "CacheMiss")


@pytest.mark.parametrize("use_async", [False, True])
def test_a_refresh_is_a_call_of_its_own(provider: FakeProvider, seen: Seen, use_async: bool) -> None:
    """Within the one that got the old answer, which cost nothing; what the new one costs is counted."""
    asking = Asking(provider, use_async=use_async, cache_ttl=60, stale_while_revalidate=30)
    for later in (0, 70):
        asking.clock.now += later
        seen.forget()
        asking()
    spans = {span.attributes["instructor.cache"]: span for span in seen.spans}

    assert {said: span.attributes["instructor.attempts"] for said, span in spans.items()} == {"hit": 0, "miss": 1}
    assert spans["miss"].parent.span_id == spans["hit"].context.span_id
    assert spans["hit"].attributes["instructor.cache.stale"]
    assert seen.tokens() == {"input": 10, "output": 5}


def test_what_has_no_key_is_told(provider: FakeProvider, seen: Seen) -> None:
    """And what could not be kept; who wants no cache is no such case."""
    client = openai_client(provider, cache=AutoCache())
    with pytest.warns(CacheWarning):
        asked(client, tools=[object()], cache_mode="read")
    asked(client, cache=None)

    assert [facts["instructor.cache"] for facts in seen.facts] == ["bypass", "off"]
    assert [facts.get("instructor.cache.reason") for facts in seen.facts] == ["no stable identity", None]


def test_a_patched_client_is_seen(provider: FakeProvider, seen: Seen) -> None:
    """Its calls are calls."""
    client = instructor.patch(openai.OpenAI(api_key="k", base_url=f"{provider.url}/v1"))
    client.chat.completions.create(response_model=User, model="m", **QUESTION)

    assert [facts["gen_ai.usage.input_tokens"] for facts in seen.facts] == [10]


def test_nothing_that_was_said_is_told(provider: FakeProvider, seen: Seen) -> None:
    """Neither in a span nor in a metric, whatever became of the call: no prompt, answer or key."""
    client = openai_client(provider, key=KEY, cache=AutoCache())
    for model in (User, User, None):
        asked(client, response_model=model)
    list(client.create_partial(User, **QUESTION, cache=None))
    provider.say(json.dumps({"name": NAME, "age": NAME}))
    with pytest.raises(InstructorRetryException, match=NAME):
        asked(client, max_retries=0, cache=None)

    told = [*(span.to_json() for span in seen.spans), *map(repr, seen.points().values())]

    assert len(seen.spans) == 5
    assert [text for text in told if "SECRET" in text] == []


# When it is loaded


def test_who_does_not_collect_loads_nothing() -> None:
    """The package and its clients do without OpenTelemetry."""
    code = "from instructor import AsyncInstructor, Instructor, from_provider; import instructor.telemetry"

    assert [name for name in loaded_by(code) if name.startswith("opentelemetry")] == []


def test_a_program_may_begin_to_collect_at_any_time(provider: FakeProvider) -> None:
    """After the client was made, and after calls were; those are not told of, those that follow are."""
    code = f"""
import openai, instructor
client = instructor.from_openai(openai.OpenAI(api_key="k", base_url="{provider.url}/v1"), model="m")
ask = lambda: client.create(messages=[{{"role": "user", "content": "Hi"}}])
ask()
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider, export
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
ask()
spans = InMemorySpanExporter()
source = TracerProvider()
source.add_span_processor(export.SimpleSpanProcessor(spans))
trace.set_tracer_provider(source)
ask()
print([span.name for span in spans.get_finished_spans()] == ["chat m"] or spans.get_finished_spans())
"""

    assert "True" in loaded_by(code)
    assert provider.calls == 3
