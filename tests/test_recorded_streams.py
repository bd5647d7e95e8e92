"""Recorded streams, asked for through our own clients: shown right however they are cut, and replayed as they came.

Skipped as the tests are that it takes its tools from, where there is no recorded traffic.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pkgutil import resolve_name
from typing import Any

import pytest
from botocore.exceptions import ClientError
from pydantic import BaseModel, ValidationError
from replay import Exchange, model_of, recorded, replay_server, streams_in
from test_listeners_recorded import CUT, ERRORS, FILES, SIZES, Wire, row_of
from test_recorded import (
    ANTHROPIC,
    BEDROCK,
    BETA,
    CEREBRAS,
    COHERE,
    GOOGLE,
    GROQ,
    MISTRAL,
    OPENAI,
    RESPONSES,
    STRUCTURED,
    Expected,
    Talk,
    data_of,
    expected,
    question_model,
    question_of,
    tools_of,
)

from instructor import Mode
from instructor.cache import AutoCache, stats
from instructor.exceptions import (
    IncompleteOutputException,
    InstructorRetryException,
    RefusalError,
    ResponseParsingError,
)

APIS = {"chat": OPENAI, "responses": RESPONSES, "messages": ANTHROPIC, "generateContent": GOOGLE, "v2/chat": COHERE}
APIS["converse-stream"] = BEDROCK
OWN = {"groq": GROQ, "mistral": MISTRAL, "cerebras": CEREBRAS}
STREAMED = [
    {**exchange, "file": name}
    for name in (*FILES, "openai_responses", "bedrock_openai_compat", "bedrock")
    for exchange in recorded(name, stream=True)
    if exchange.get("api") in APIS
]


def talk_of(exchange: Exchange) -> Talk:
    """The way to ask in the API that an exchange speaks."""
    if "beta=true" in exchange["request"]["url"]:
        return BETA
    return OWN.get(exchange["file"]) or APIS[exchange["api"]]


def kind_of(exchange: Exchange) -> str:
    """The SDK's class of what the exchange would have been, had it come whole."""
    return row_of(exchange).completion


def called(exchange: Exchange) -> dict[str, Any]:
    """The call that is ours: the first; of the tools that the Responses API repeats, ours is the last."""
    calls, offered = exchange["reading"]["tool_calls"], [*tools_of(exchange["request"]["body"])]
    ours = [call for call in calls if call["name"] == offered[-1]] if exchange["api"] == "responses" else []
    return (ours or calls)[0]


def fits(exchange: Exchange) -> bool:
    """Whether what was said is what was asked for."""
    call = called(exchange) if exchange["kind"] == "tool_call" else {}
    return call.get("arguments_parse") is not False and call.get("valid_against_request_schema") is not False


def wanted(exchange: Exchange) -> Expected:
    """The mode, a model of the request's own schema, and the data of the reading."""
    if exchange["kind"] != "tool_call":
        return expected(exchange)
    call = called(exchange)
    schema, arguments = tools_of(exchange["request"]["body"]).get(call["name"]), call["arguments"]
    data = json.loads(arguments) if isinstance(arguments, str) else arguments
    return Expected(Mode.TOOLS, model_of(schema, call["name"]), data)


def structured(exchange: Exchange) -> bool:
    """Whether it holds what was asked for, whole."""
    return exchange["kind"] in STRUCTURED and fits(exchange) and exchange["id"] not in CUT


def answered(exchange: Exchange) -> bool:
    """Whether there are events to be had."""
    return exchange["kind"] != "error"


def each(where: Any, of: list[Exchange] = STREAMED) -> Any:
    """Parametrise with exchanges, by id."""
    chosen = [exchange for exchange in of if where(exchange)]
    ids = [f"{exchange['file']}-{exchange['id']}" for exchange in chosen]
    return pytest.mark.parametrize("exchange", chosen, ids=ids)


def of_kind(*kinds: str) -> Any:
    """Whether an exchange is of one of these kinds."""
    return lambda exchange: exchange["kind"] in kinds


def each_and_async(where: Any) -> Any:
    """The same with `awaits`: the asynchronous client is asked for the first of a kind that its SDK has."""
    seen: set[Any] = set()
    cases = []
    for exchange in filter(where, STREAMED):
        name, kind = f"{exchange['file']}-{exchange['id']}", (kind_of(exchange), exchange["kind"])
        cases.append(pytest.param(exchange, False, id=f"{name}-sync"))
        if kind not in seen:
            cases.append(pytest.param(exchange, True, id=f"{name}-async"))
        seen.add(kind)
    return pytest.mark.parametrize(("exchange", "awaits"), cases)


class Streamer:
    """Asks the questions of exchanges again, and hears the answers to their ends."""

    def __init__(self, server: Any) -> None:
        self.wire = Wire(server)
        self.requests = server.requests

    def __call__(
        self, exchange: Exchange, mode: Mode, method: str, model: Any, *, size=None, awaits=False, **more: Any
    ) -> Any:
        """What a client gives: the items of a stream, as a list, or an answer."""
        with self.wire.sdk(exchange, size, awaits=awaits) as sdk:
            client = talk_of(exchange).wrap(sdk, mode, awaits=awaits)
            question = {**question_of(exchange), "response_model": model, **more}
            if not awaits:
                given = getattr(client, method)(**question)
                return given if method == WHOLE else list(given)
            return asyncio.run(_awaited(client, method, question))

    def bare(self, exchange: Exchange) -> list[Any]:
        """The events that the SDK alone makes of the same bytes."""
        return self.wire.events(exchange)


WHOLE = "create_with_completion"


async def _awaited(client: Any, method: str, question: dict[str, Any]) -> Any:
    async with client:
        given = getattr(client, method)(**question)
        if method == WHOLE:
            return await given
        given = given if hasattr(given, "__aiter__") else await given
        return [item async for item in given]


@pytest.fixture(scope="module")
def streamer():
    """One replay for all."""
    with replay_server() as server:
        streamer = Streamer(server)
        yield streamer
        for client in streamer.wire.clients.values():
            client.close()


@pytest.fixture
def ask(streamer):
    """Asks; nothing has been asked yet."""
    streamer.requests.clear()
    return streamer


@each(structured)
def test_partials_come_to_the_reading(exchange, ask):
    """The last is the object of the reading, and what is shown is the same wherever the bytes were cut."""
    mode, model, data = wanted(exchange)

    shown = [ask(exchange, mode, "create_partial", model, size=size) for size in SIZES]

    assert data == data_of(shown[0][-1])
    assert type(shown[0][-1]) is model
    assert all(isinstance(snapshot, model) for snapshot in shown[0])
    assert shown == [shown[0]] * len(SIZES)


@each_and_async(structured)
def test_partials_are_replayed(exchange, awaits, ask):
    """Again the same items without a request, and `create` has the answer, whose completion is of the SDK's class."""
    mode, model, data = wanted(exchange)
    cache = AutoCache()

    first, again = (ask(exchange, mode, "create_partial", model, awaits=awaits, cache=cache) for _ in range(2))
    answer, completion = ask(exchange, mode, WHOLE, model, awaits=awaits, cache=cache)

    assert first == again
    assert [type(each) for each in first] == [type(each) for each in again]
    assert first[-1] == answer
    assert data == data_of(answer)
    assert type(completion) is resolve_name(kind_of(exchange))
    assert first[-1]._raw_response == again[-1]._raw_response == completion
    assert answer._raw_response is completion
    assert (len(ask.requests), stats(cache).hits, stats(cache).stores) == (1, 2, 1)


class Step(BaseModel):
    """One of several."""

    name: str
    weight: int


def renamed(exchange: Exchange, names: dict[str, str]) -> Exchange:
    """An exchange in which the model used the names that a list has with us."""
    body = exchange["response"]["body"]
    for name, other in names.items():
        assert name in body
        body = body.replace(name, other)
    return {**exchange, "response": {**exchange["response"], "body": body}}


TASKS = {r"\"steps\"": r"\"tasks\"", "inspect_manifest": "IterableStep"}
CONTENT = {r"\"value\"": r"\"content\""}
STEPS = [Step(name="plan", weight=1), Step(name="verify", weight=2)]
LISTS = {
    "527b7b2179870ba8": (TASKS, Step, STEPS),
    "12eff8a34f857664": (TASKS, Step, STEPS),
    "3bc5e13d750afe46": (CONTENT, int, [1, 2, 3, 4, 5]),
    "2c639bc155071d84": (CONTENT, str, ["apple", "banana", "orange", "grape", "strawberry"]),
}
"""The streams that hold a list: its names with us, what it is a list of, and its items."""


@each(lambda exchange: exchange["id"] in LISTS)
def test_items_are_those_of_the_reading(exchange, ask):
    """However the bytes were cut; asked again, equal without a request; and `create` has them as a list."""
    names, item, items = LISTS[exchange["id"]]
    mode, said = wanted(exchange).mode, renamed(exchange, names)

    for size in SIZES:
        assert items == ask(said, mode, "create_iterable", item, size=size)
    ask.requests.clear()
    for awaits in (False, True):
        cache = AutoCache()
        asked = [ask(said, mode, "create_iterable", item, awaits=awaits, cache=cache) for _ in range(2)]
        whole, completion = ask(said, mode, WHOLE, list[item], awaits=awaits, cache=cache)
        assert [items, items, items] == [*asked, whole]
        assert type(completion) is resolve_name(kind_of(exchange))
        assert (stats(cache).hits, stats(cache).stores) == (2, 1)
    assert len(ask.requests) == 2


@each_and_async(answered)
def test_events_are_the_sdks(exchange, awaits, ask):
    """Without a response model they come as they are, one by one; those of a whole answer come again from the cache."""
    cache = AutoCache()

    first, again = (
        ask(exchange, Mode.TOOLS, "create", None, awaits=awaits, cache=cache, stream=True) for _ in range(2)
    )

    requests = len(ask.requests)
    bare = ask.bare(exchange)
    assert bare == first == again
    assert [type(each) for each in bare] == [type(each) for each in first] == [type(each) for each in again]
    assert (requests, len(cache)) == ((1, 1) if whole(exchange) else (2, 0))


def whole(exchange: Exchange) -> bool:
    """Whether a stream says something, and says it to the end."""
    said = exchange["reading"]["text"] or exchange["reading"]["tool_calls"]
    return bool(said) and exchange["kind"] not in {"truncated", "refusal"} and exchange["id"] not in CUT


# What is no answer.


def cut_off(exchange: Exchange) -> bool:
    """Whether it ends before it is over."""
    return exchange["kind"] == "truncated" or exchange["id"] in CUT


@pytest.mark.fault("G4")
@pytest.mark.parametrize("mode", [Mode.TOOLS, Mode.JSON])
@each_and_async(cut_off)
def test_truncated(exchange, mode, awaits, ask):
    """A stream that was cut off raises, in every mode, asked for once, and is never remembered."""
    cache = AutoCache()

    with pytest.raises(IncompleteOutputException) as caught:
        ask(exchange, mode, "create_partial", question_model(exchange), awaits=awaits, cache=cache)

    assert type(caught.value.last_completion) is resolve_name(kind_of(exchange))
    assert (len(ask.requests), len(cache)) == (1, 0)


@pytest.mark.fault("G3")
@each_and_async(of_kind("refusal"))
def test_refused(exchange, awaits, ask):
    """A refusal raises in the provider's words, asked for once, and is never remembered."""
    cache, said = AutoCache(), exchange["reading"]["refusal"] or exchange["reading"]["finish"]

    with pytest.raises(RefusalError) as caught:
        ask(exchange, Mode.JSON_SCHEMA, "create_partial", question_model(exchange), awaits=awaits, cache=cache)

    assert said in str(caught.value)
    assert (len(ask.requests), len(cache)) == (1, 0)


@pytest.mark.fault("G4")
@each_and_async(of_kind("error"))
def test_errors(exchange, awaits, ask):
    """An error, be it in mid-stream, is the SDK's own, told as the cause; one call, nothing kept."""
    cache = AutoCache()
    with pytest.raises((*ERRORS, ClientError)) as alone:
        ask.bare(exchange)
    ask.requests.clear()

    with pytest.raises(InstructorRetryException) as caught:
        ask(exchange, Mode.TOOLS, "create_partial", question_model(exchange), awaits=awaits, cache=cache)
    with pytest.raises(type(alone.value)) as plain:
        ask(exchange, Mode.TOOLS, "create", None, awaits=awaits, cache=cache, stream=True)

    told = caught.value.__cause__
    assert type(alone.value) is type(told) is type(plain.value)
    assert str(alone.value) == str(told) == str(plain.value)
    assert (len(ask.requests), len(cache)) == (2, 0)


@each_and_async(lambda exchange: exchange["kind"] == "tool_call" and not fits(exchange))
def test_arguments_that_do_not_fit(exchange, awaits, ask):
    """They are sent back with the error while nothing was shown of them; nothing is remembered."""
    cache = AutoCache()

    with pytest.raises(InstructorRetryException) as caught:
        ask(exchange, Mode.TOOLS, "create_partial", closed(exchange), awaits=awaits, cache=cache, max_retries=1)

    assert isinstance(caught.value.__cause__, ValidationError)
    assert len(cache) == 0


def closed(exchange: Exchange) -> type[BaseModel]:
    """The model of the tool that was called, with no room for what the schema does not name."""
    call = called(exchange)

    class Closed(model_of(tools_of(exchange["request"]["body"])[call["name"]], call["name"]), extra="forbid"):
        pass

    return Closed


@each_and_async(of_kind("prose_with_tools_offered"))
def test_prose_in_place_of_a_tool_call(exchange, awaits, ask):
    """A model that talks instead of calling its tool is told so once per retry; nothing is shown or kept."""
    cache = AutoCache()

    with pytest.raises(InstructorRetryException) as caught:
        ask(exchange, Mode.TOOLS, "create_partial", question_model(exchange), awaits=awaits, cache=cache, max_retries=1)

    assert isinstance(caught.value.__cause__, ResponseParsingError)
    assert (len(ask.requests), len(cache)) == (2, 0)


COUNTS = {
    "chat": {
        "error": 18,
        "json_mode": 12,
        "json_schema": 18,
        "multimodal": 13,
        "prose_with_tools_offered": 9,
        "refusal": 5,
        "text": 6,
        "tool_call": 52,
        "truncated": 29,
    },
    "responses": {
        "error": 1,
        "json_mode": 5,
        "json_schema": 6,
        "multimodal": 3,
        "prose_with_tools_offered": 2,
        "refusal": 3,
        "text": 1,
        "tool_call": 15,
        "truncated": 3,
    },
    "messages": {
        "error": 4,
        "json_schema": 4,
        "multimodal": 2,
        "prompted_json": 1,
        "prose_with_tools_offered": 1,
        "text": 1,
        "tool_call": 7,
        "truncated": 4,
    },
    "generateContent": {
        "error": 2,
        "json_mode": 4,
        "json_schema": 8,
        "prompted_json": 1,
        "prose_with_tools_offered": 3,
        "text": 1,
        "tool_call": 6,
        "truncated": 2,
    },
    "converse-stream": {"error": 1, "refusal": 1, "tool_call": 3},
    "v2/chat": {
        "error": 2,
        "json_mode": 2,
        "json_schema": 1,
        "multimodal": 1,
        "prose_with_tools_offered": 1,
        "text": 1,
        "tool_call": 1,
        "truncated": 1,
    },
}
STRUCTURED_COUNTS = {
    "chat": 78,
    "responses": 26,
    "messages": 12,
    "generateContent": 19,
    "v2/chat": 4,
    "converse-stream": 3,
}
"""How many hold what was asked for; of the others of those kinds, three do not fit and one was cut off."""


def test_counts():
    """Every recorded stream in these APIs is one of those above."""
    assert streams_in(APIS) == {each["id"] for each in STREAMED}
    assert COUNTS == {api: Counter(x["kind"] for x in STREAMED if x["api"] == api) for api in APIS}
    assert STRUCTURED_COUNTS == Counter(x["api"] for x in STREAMED if structured(x))
    assert sum(map(cut_off, STREAMED)) == 40
    assert sum(answered(x) and whole(x) for x in STREAMED) == 190
    assert len([x for x in STREAMED if not fits(x)]) == 3
    assert set(LISTS) <= {x["id"] for x in STREAMED}
