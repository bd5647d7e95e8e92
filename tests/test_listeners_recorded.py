"""Recorded streams, cut at any byte and heard through the real SDKs: what is folded is what was said."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import ssl
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from operator import attrgetter
from pkgutil import resolve_name
from typing import Any, NamedTuple, get_args

import anthropic
import groq
import httpx
import httpx2
import openai
import pytest
from cerebras.cloud import sdk as cerebras
from cohere.core.api_error import ApiError
from flavours import LIBRARY, bedrock_sdk
from google import genai
from mistralai.client.errors import SDKError
from replay import RECORDED, Exchange, recorded, recut, replay_server, streams_in

from instructor import Mode
from instructor.cache.completion import Kept, keep, restore
from instructor.dialects.base import Reply
from instructor.drive import closed
from instructor.endpoint import dialect_of
from instructor.providers import BETA, ROWS, Row, row_for, row_in

if not RECORDED.is_dir():
    pytest.skip("the recorded traffic is not beside this checkout (../shared/recorded)", allow_module_level=True)

FILES = (
    *("openai_chat", "groq", "anthropic", "google_genai", "vertexai", "vertexai_anthropic", "azure_openai", "cerebras"),
    *("deepseek", "fireworks", "gemini_openai_compat", "huggingface", "llamacpp", "mistral", "ollama", "openrouter"),
    *("other_openai_compat", "openai_sdk_snapshots", "perplexity", "together", "xai", "zai", "cohere"),
)
APIS = {
    "chat": ROWS["openai"],
    "messages": ROWS["anthropic"],
    "generateContent": ROWS["google"],
    "v2/chat": ROWS["cohere"],
}
OWN = {
    "groq": ROWS["groq"],
    "mistral": ROWS["mistral"],
    "cerebras": row_for(cerebras.Cerebras(api_key="k", warm_tcp_connection=False), ROWS["cerebras"]),
}
"""The providers who copy OpenAI's API and have an SDK of their own."""
STREAMED = [
    {**exchange, "file": name}
    for name in FILES
    for exchange in recorded(name, stream=True)
    if exchange.get("api") in APIS
]
SIZES = (None, 7, 3, 1)
ERRORS = (openai.APIError, anthropic.APIError, groq.APIError, genai.errors.APIError)
ERRORS = (*ERRORS, cerebras.APIError, ApiError, SDKError)
TRUST = ssl.create_default_context()  # read once: reading the certificates takes longer than the test
HI = [{"role": "user", "content": "hi"}]
QUESTIONS: dict[str, dict[str, Any]] = {
    "openai": {"model": "m", "messages": HI},
    "anthropic": {"model": "m", "messages": HI, "max_tokens": 9},
    "google": {"model": "m", "contents": "hi"},
    "cohere": {"model": "m", "messages": HI},
    "mistral": {"model": "m", "messages": HI},
    "responses": {"model": "m", "input": "hi"},
    "bedrock": {"modelId": "m", "messages": [{"role": "user", "content": [{"text": "hi"}]}]},
}

CUT = {"5ec6985b0af099e8": "its stream stops before any reason to stop is given"}
BROKEN = {"7e7f2318be2b8186": "Groq finds in mid-stream that the tool call does not fit, and says so in an event"}
NAMELESS = {
    "3bc5e13d750afe46": "the imitation has no id",
    "6652df0b06538c86": "the imitation has no id",
    "0594e4f60f292f4a": "its `x_groq` has no id",
    **CUT,
}
"""What the SDK's class does not take, and how it still is that class: as the SDK itself builds what it gets."""


def row_of(exchange: Exchange) -> Row:
    """The row of the API that an exchange speaks."""
    if "beta=true" in exchange["request"]["url"]:
        return BETA
    if exchange["api"] == "responses":
        return row_in(ROWS["openai"], Mode.RESPONSES_TOOLS)
    if exchange["api"] == "converse-stream":
        return ROWS["bedrock"]
    return OWN.get(exchange["file"]) or APIS[exchange["api"]]


class Wire:
    """What asks for an exchange through its own SDK."""

    def __init__(self, server):
        self.server = server
        self.clients: dict[Any, Any] = {}

    @contextmanager
    def sdk(self, exchange: Exchange, size: int | None, *, awaits: bool = False) -> Iterator[Any]:
        """The SDK's client, at the exchange's address, to whom answers come in pieces of so many bytes."""
        row, url = row_of(exchange), self.server.at(exchange)
        if row.dialect == "google":
            args = {"transport": recut(LIBRARY, size, verify=TRUST), "verify": TRUST}
            http = {"base_url": url, "client_args": args, "async_client_args": args}
            with genai.Client(api_key="k", http_options=http) as client:
                yield client
        elif row.dialect == "bedrock":  # boto3 has no transport that could be told to cut
            with closing(bedrock_sdk(url)) as client:
                yield client
        else:
            yield self._made(row, url, self._http(http_of(row, awaits=awaits), size, fresh=awaits), awaits=awaits)

    def _made(self, row: Row, url: str, http: Any, *, awaits: bool) -> Any:
        make = getattr(importlib.import_module(row.sdk), row.clients[awaits])
        match row.sdk:
            case "cohere":
                return make(base_url=url, api_key="k", max_retries=0, httpx_client=http)
            case "mistralai.client":
                made = make(server_url=url, api_key="k", **{"async_client" if awaits else "client": http})
                made.sdk_configuration.async_client_supplied = False  # so that it is closed with the other
                return made
            case sdk:
                more = {"warm_tcp_connection": False} if sdk.startswith("cerebras") else {}
                return make(base_url=url, api_key="k", max_retries=0, http_client=http, **more)

    def _http(self, kind: Any, size: int | None, *, fresh: bool) -> Any:
        """A client of the SDK's HTTP library, kept for the next exchange unless its event loop ends before."""
        if fresh:
            return kind(transport=recut(library_of(kind), size, verify=TRUST))
        if (kind, size) not in self.clients:
            self.clients[kind, size] = self._http(kind, size, fresh=True)
        return self.clients[kind, size]

    def events(self, exchange: Exchange, size: int | None = None) -> list[Any]:
        """What the SDK makes of the stream."""
        row = row_of(exchange)
        with self.sdk(exchange, size) as client:
            if row.dialect == "bedrock":
                return list(client.converse_stream(**question(row))["stream"])
            return list(attrgetter((row.streams or row.calls)[0])(client)(**question(row)))

    def awaited(self, exchange: Exchange, size: int | None = None) -> list[Any]:
        """The same, asynchronously."""
        row = row_of(exchange)

        async def main():
            with self.sdk(exchange, size, awaits=True) as client:
                stream = attrgetter((row.streams or row.calls)[1])(client)(**question(row))
                events = [event async for event in (await stream if inspect.isawaitable(stream) else stream)]
                await closed(client)
                return events

        return asyncio.run(main())


def http_of(row: Row, *, awaits: bool) -> Any:
    """The client of an HTTP library that an SDK is used to."""
    library = {"cohere": httpx, "mistralai.client": httpx2}.get(row.sdk)
    if library:
        return library.AsyncClient if awaits else library.Client
    sdk = importlib.import_module(row.sdk)
    return sdk.DefaultAsyncHttpxClient if awaits else sdk.DefaultHttpxClient


def library_of(kind: Any) -> Any:
    """The module of the HTTP library that an SDK is built on."""
    return sys.modules[kind.__mro__[1].__module__.partition(".")[0]]


def question(row: Row) -> dict[str, Any]:
    """A question in as few words as it takes, to be answered as a stream."""
    return row.streamed(QUESTIONS[row.dialect])


@pytest.fixture(scope="module")
def wire():
    """One replay for all."""
    with replay_server() as server:
        wire = Wire(server)
        yield wire
        for client in wire.clients.values():
            client.close()


class Said(NamedTuple):
    """What a stream came to."""

    arguments: str
    text: str
    parallel: str
    ended: bool
    data: dict[str, Any]


def said_in(exchange: Exchange, events: list[Any]) -> Said:
    """Every event heard in the modes that hear something else."""
    listeners = [dialect_of(row_of(exchange)).Listener(mode) for mode in (Mode.TOOLS, Mode.JSON, Mode.PARALLEL_TOOLS)]
    heard = ["".join(map(listener.hear, events)) for listener in listeners]
    assert listeners[0].data() == listeners[1].data() == listeners[2].data()
    return Said(*heard, listeners[0].ended, listeners[0].data())


def completion_of(exchange: Exchange, data: dict[str, Any]) -> Any:
    """The SDK's own object, as an answer from the cache would be one."""
    kept = Kept("lenient" if exchange["id"] in NAMELESS else "model", json.dumps(data).encode())
    return restore(kept, row_of(exchange).completion)


def each(*, where) -> Any:
    """Parametrise with exchanges, by id."""
    chosen = [exchange for exchange in STREAMED if where(exchange)]
    ids = [f"{exchange['file']}-{exchange['id']}" for exchange in chosen]
    return pytest.mark.parametrize("exchange", chosen, ids=ids)


def answered(exchange: Exchange) -> bool:
    """Whether it is no error, from the beginning or from its middle."""
    return exchange["kind"] != "error"


def parsed(arguments: Any) -> Any:
    """Arguments as data; as they are where they were cut off."""
    try:
        return json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        return arguments


def calls_of(exchange: Exchange) -> list[Any]:
    """The calls of the reading."""
    return [(call["name"], parsed(call["arguments"])) for call in exchange["reading"]["tool_calls"]]


@each(where=answered)
def test_what_is_heard_is_what_was_said(exchange, wire):
    """The pieces are the payload of the reading, the completion reads like it, wherever the bytes were cut."""
    reading, row = exchange["reading"], row_of(exchange)

    said = said_in(exchange, wire.events(exchange))

    calls, completion = calls_of(exchange), completion_of(exchange, said.data)
    assert reading["text"] == said.text
    assert calls[:1] == [(calls[0][0], parsed(said.arguments))] if calls else said.arguments == ""
    assert said.parallel == ""
    assert (exchange["id"] not in CUT) == said.ended
    assert type(completion) is resolve_name(row.completion)
    assert expected_reply(exchange) == simplified(dialect_of(row).read(completion))
    assert keep(completion, row.completion) is not None
    for size in SIZES[1:]:
        assert comparable(said) == comparable(said_in(exchange, wire.events(exchange, size)))


def comparable(said: Said) -> Said:
    """Google's SDK puts the headers of the answer, with the time in it, into the answer."""
    return said._replace(data={key: value for key, value in said.data.items() if key != "sdk_http_response"})


FINISH = {"truncated": "length", "refusal": "refusal"}


def expected_reply(exchange: Exchange) -> tuple[Any, ...]:
    """The reading, as we call it."""
    reading = exchange["reading"]
    refusal = reading["refusal"] or None
    return reading["text"] or None, calls_of(exchange), FINISH.get(exchange["kind"], "stop"), refusal


def simplified(reply: Reply) -> tuple[Any, ...]:
    """A reply without what the readings do not hold."""
    calls = [(call.name, parsed(call.arguments)) for call in reply.calls]
    return reply.text or None, calls, reply.finish, reply.refusal


def first_of_a_kind(exchange: Exchange) -> bool:
    """Whether it is the first that its SDK has of its kind."""
    alike = [each for each in STREAMED if (row_of(each), each["kind"]) == (row_of(exchange), exchange["kind"])]
    return answered(exchange) and exchange is alike[0]


@each(where=first_of_a_kind)
def test_asynchronous_clients_hear_the_same(exchange, wire):
    """The asynchronous client's events come to the same, cut or whole."""
    said = comparable(said_in(exchange, wire.events(exchange)))

    assert said == comparable(said_in(exchange, wire.awaited(exchange)))
    assert said == comparable(said_in(exchange, wire.awaited(exchange, 5)))


@each(where=first_of_a_kind)
def test_events_are_of_the_row(exchange, wire):
    """Every event is of the class that the row names, or of one of them."""
    kind = resolve_name(row_of(exchange).event)
    kinds = get_args(get_args(kind)[0]) if get_args(kind) else (kind,)

    assert {type(event) for event in wire.events(exchange)} <= set(kinds)


@each(where=lambda exchange: exchange["kind"] == "error")
def test_errors_are_the_sdks(exchange, wire):
    """An error, be it in mid-stream, is raised by the SDK; no listener ever hears it."""
    with pytest.raises(ERRORS) as caught:
        wire.events(exchange, 3)

    assert (exchange["response"]["status"] == 200) == (exchange["id"] in BROKEN)
    assert type(caught.value) is not Exception


def broken(api: str, *events: dict[str, Any]) -> Exchange:
    """A stream that nobody recorded."""
    told = [(f"event: {event['type']}\n" if "type" in event else "", json.dumps(event)) for event in events]
    body = "".join(f"{kind}data: {data}\n\n" for kind, data in told)  # Google's SDK knows of no line but data
    response = {"status": 200, "headers": {"content-type": "text/event-stream"}, "body": body}
    return {"id": f"synthetic-{api}", "file": "", "api": api, "request": {"url": ""}, "response": response}


USAGE = {"input_tokens": 1, "output_tokens": 1}
START = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": USAGE}
AS_TOLD = {"error": {"message": "as told", "code": 503, "type": "overloaded_error"}}
SYNTHETIC = [
    broken("chat", {"id": "c", "choices": [{"index": 0, "delta": {"content": "h"}}]}, AS_TOLD),
    broken("messages", {"type": "message_start", "message": START}, {"type": "error", **AS_TOLD}),
    broken("generateContent", {"candidates": [{"content": {"parts": [{"text": "h"}]}}]}, AS_TOLD),
]


@pytest.mark.parametrize("exchange", SYNTHETIC, ids=lambda exchange: exchange["api"])
def test_errors_in_mid_stream_are_the_sdks(exchange, wire):
    """Every SDK raises the error that comes in the middle of a stream, in the provider's words."""
    with pytest.raises(ERRORS, match="as told"):
        wire.events(exchange, 3)


def test_broken_stream_has_not_ended(wire):
    """What comes before an error in mid-stream is heard, and nobody takes it for the end."""
    (exchange,) = (each for each in STREAMED if each["id"] in BROKEN)
    listener = dialect_of(row_of(exchange)).Listener(Mode.TOOLS)

    with wire.sdk(exchange, None) as client:
        events = client.chat.completions.create(**question(row_of(exchange)))
        with pytest.raises(groq.APIError):
            assert [] != list(map(listener.hear, events))

    assert not listener.ended
    assert listener.data()["choices"][0]["message"]["reasoning"].startswith("We need to call the tool")


def test_counts():
    """Every recorded stream of these dialects is one of those above."""
    assert streams_in(APIS) == {each["id"] for each in STREAMED}
    assert COUNTS == Counter(each["api"] for each in STREAMED)


COUNTS = {"chat": 162, "messages": 24, "generateContent": 27, "v2/chat": 10}
