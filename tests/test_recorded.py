"""Recorded traffic: what real providers answered, through the real SDKs, read right and remembered whole."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections import Counter
from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

import anthropic
import cohere
import groq
import httpx
import openai
import pytest
from botocore.exceptions import ClientError
from cerebras.cloud import sdk as cerebras
from cohere.core.api_error import ApiError
from flavours import LIBRARY, bedrock_sdk
from google import genai
from google.oauth2.credentials import Credentials
from mistralai.client import Mistral
from mistralai.client.errors import SDKError
from providers_table import UNASKED
from pydantic import BaseModel, ValidationError
from replay import RECORDED, Exchange, files, model_of, recorded, recut, replay_server

import instructor
from instructor import Mode
from instructor.cache import AutoCache, stats
from instructor.drive import close
from instructor.exceptions import (
    IncompleteOutputException,
    InstructorRetryException,
    RefusalError,
    ResponseParsingError,
)

if not RECORDED.is_dir():
    pytest.skip("the recorded traffic is not beside this checkout (../shared/recorded)", allow_module_level=True)


HI = [{"role": "user", "content": "hi"}]
CHAT: dict[str, Any] = {"model": "m", "messages": HI}


class Talk(NamedTuple):
    """How to ask a provider through its own SDK (in as few words as it takes: `least`), and through us."""

    sdk: Callable[..., Any]
    wrap: Callable[..., Any]
    bare: Callable[[Any], Callable[..., Any]]
    problem: type[Exception]
    code: Callable[[Any], int] = attrgetter("status_code")
    least: dict[str, Any] = CHAT


TRUST = ssl.create_default_context()  # read once: reading the certificates takes longer than the test


def _openai(url, *, awaits):
    http = openai.DefaultAsyncHttpxClient(verify=TRUST) if awaits else openai.DefaultHttpxClient(verify=TRUST)
    made = openai.AsyncOpenAI if awaits else openai.OpenAI
    return made(base_url=url, api_key="k", max_retries=0, http_client=http)


def _groq(url, *, awaits):
    http = groq.DefaultAsyncHttpxClient(verify=TRUST) if awaits else groq.DefaultHttpxClient(verify=TRUST)
    made = groq.AsyncGroq if awaits else groq.Groq
    return made(base_url=url, api_key="k", max_retries=0, http_client=http)


def _anthropic(url, *, awaits):
    http = anthropic.DefaultAsyncHttpxClient(verify=TRUST) if awaits else anthropic.DefaultHttpxClient(verify=TRUST)
    made = anthropic.AsyncAnthropic if awaits else anthropic.Anthropic
    return made(base_url=url, api_key="k", max_retries=0, http_client=http)


def _genai(url, *, awaits, **account):
    over_it = {"verify": TRUST, "transport": recut(LIBRARY, None, verify=TRUST)}  # and not over aiohttp, if it is there
    http = {"client_args": {"verify": TRUST}, "async_client_args": over_it}
    return genai.Client(**account or {"api_key": "k"}, http_options={"base_url": url, **http})


def _vertexai(url, *, awaits):
    return _genai(url, awaits=awaits, vertexai=True, project="p", location="l", credentials=Credentials("t"))


def _anthropic_vertex(url, *, awaits):
    http = anthropic.DefaultAsyncHttpxClient(verify=TRUST) if awaits else anthropic.DefaultHttpxClient(verify=TRUST)
    made = anthropic.AsyncAnthropicVertex if awaits else anthropic.AnthropicVertex
    account = {"project_id": "p", "region": "r", "access_token": "t"}
    return made(base_url=f"{url}/v1", max_retries=0, http_client=http, **account)


def _cerebras(url, *, awaits):
    kind = cerebras.DefaultAsyncHttpxClient if awaits else cerebras.DefaultHttpxClient
    made = cerebras.AsyncCerebras if awaits else cerebras.Cerebras
    http = kind(verify=TRUST)
    return made(base_url=url, api_key="k", max_retries=0, http_client=http, warm_tcp_connection=False)


def _cohere(url, *, awaits):
    http = (httpx.AsyncClient if awaits else httpx.Client)(verify=TRUST)
    made = cohere.AsyncClientV2 if awaits else cohere.ClientV2
    quiet = {"max_retries": 0, "log_warning_experimental_features": False}
    return made(base_url=url, api_key="k", httpx_client=http, **quiet)


def _mistral(url, *, awaits):
    return Mistral(server_url=url, api_key="k")  # it would not close what it is given


OPENAI = Talk(
    sdk=_openai,
    wrap=lambda sdk, mode, *, awaits: instructor.from_openai(sdk, mode=mode),
    bare=lambda sdk: sdk.chat.completions.create,
    problem=openai.APIStatusError,
)
RESPONSES = Talk(
    sdk=_openai,
    wrap=lambda sdk, mode, *, awaits: instructor.from_openai(sdk, mode=Mode.RESPONSES_TOOLS),
    bare=lambda sdk: sdk.responses.create,
    problem=openai.APIStatusError,
    least={"model": "m", "input": "hi"},
)
GROQ = Talk(
    sdk=_groq,
    wrap=lambda sdk, mode, *, awaits: instructor.from_groq(sdk, mode=mode),
    bare=lambda sdk: sdk.chat.completions.create,
    problem=groq.APIStatusError,
)
ANTHROPIC = Talk(
    sdk=_anthropic,
    wrap=lambda sdk, mode, *, awaits: instructor.from_anthropic(sdk, mode=mode),
    bare=lambda sdk: sdk.messages.create,
    problem=anthropic.APIStatusError,
    least={"model": "m", "messages": HI, "max_tokens": 9},
)
BETA = ANTHROPIC._replace(
    wrap=lambda sdk, mode, *, awaits: instructor.from_anthropic(sdk, mode=mode, beta=True),
    bare=lambda sdk: sdk.beta.messages.create,
)
GOOGLE = Talk(
    sdk=_genai,
    wrap=lambda sdk, mode, *, awaits: instructor.from_genai(sdk, mode=mode, use_async=awaits),
    bare=lambda sdk: sdk.models.generate_content,
    problem=genai.errors.APIError,
    code=attrgetter("code"),
    least={"model": "m", "contents": "hi"},
)
VERTEXAI = GOOGLE._replace(
    sdk=_vertexai,
    wrap=lambda sdk, mode, *, awaits: instructor.from_vertexai(sdk, mode=mode, use_async=awaits),
)
BEDROCK = Talk(
    sdk=lambda url, *, awaits: bedrock_sdk(url),  # noqa: PLW0108  boto3 is never awaited
    wrap=lambda sdk, mode, *, awaits: instructor.from_bedrock(sdk, mode=mode, async_client=awaits),
    bare=lambda sdk: sdk.converse,
    problem=ClientError,
    code=lambda error: error.response["ResponseMetadata"]["HTTPStatusCode"],
    least={"modelId": "m", "messages": [{"role": "user", "content": [{"text": "hi"}]}]},
)
CEREBRAS = Talk(
    sdk=_cerebras,
    wrap=lambda sdk, mode, *, awaits: instructor.from_cerebras(sdk, mode=mode),
    bare=lambda sdk: sdk.chat.completions.create,
    problem=cerebras.APIStatusError,
)
COHERE = Talk(
    sdk=_cohere,
    wrap=lambda sdk, mode, *, awaits: instructor.from_cohere(sdk, mode=mode),
    bare=lambda sdk: sdk.chat,
    problem=ApiError,
)
MISTRAL = Talk(
    sdk=_mistral,
    wrap=lambda sdk, mode, *, awaits: instructor.from_mistral(sdk, mode=mode, use_async=awaits),
    bare=lambda sdk: sdk.chat.complete,
    problem=SDKError,
)
TALKS = {
    "openai_chat": OPENAI,
    "openai_responses": RESPONSES,
    "groq": GROQ,
    "anthropic": ANTHROPIC,
    "google_genai": GOOGLE,
    "vertexai": VERTEXAI,
    "vertexai_anthropic": ANTHROPIC._replace(sdk=_anthropic_vertex),
    "bedrock": BEDROCK,
    "cerebras": CEREBRAS,
    "cohere": COHERE,
    "mistral": MISTRAL,
}


COPIES = (
    *("azure_openai", "bedrock_openai_compat", "cerebras", "cloudflare", "deepseek", "fireworks"),
    *("gemini_openai_compat", "huggingface", "instructor_traffic", "llamacpp", "mistral", "ollama"),
    *("openai_sdk_snapshots", "openrouter", "other_openai_compat", "perplexity", "together", "xai", "zai"),
)
APIS = {"chat": OPENAI, "responses": RESPONSES, "messages": ANTHROPIC}
OWN = [each for name in TALKS for each in recorded(name) if (name, each["api"]) not in UNASKED]
"""What was recorded of the providers that have an SDK of their own, and is asked through it."""
COPIED = [{**each, "file": f"openai/{name}"} for name in COPIES for each in recorded(name) if each["api"] in APIS]
"""What was recorded of the APIs that copy OpenAI's, and is asked through OpenAI's SDK."""
EXCHANGES = OWN + COPIED


def talk_of(exchange: Exchange) -> Talk:
    """The way to ask that the recorded request took."""
    if "beta=true" in exchange["request"]["url"]:
        return BETA
    return TALKS.get(exchange["file"]) or APIS[exchange["api"]]


def each(*kinds: str, of: list[Exchange] = EXCHANGES, where: Callable[[Exchange], Any] = bool) -> Any:
    """Parametrise with the exchanges of some kinds, by id."""
    chosen = [exchange for exchange in of if (not kinds or exchange["kind"] in kinds) and where(exchange)]
    ids = [f"{exchange['file']}-{exchange['id']}" for exchange in chosen]
    return pytest.mark.parametrize("exchange", chosen, ids=ids)


@pytest.fixture(scope="module")
def server():
    """One replay for all."""
    with replay_server() as replay:
        yield replay


@pytest.fixture(params=["sync", "async"])
def ask(request, server):
    """Ask an exchange's question again, each time with a client of its own; `ask.requests` is what was sent."""
    server.requests.clear()
    return Asker(server, awaits=request.param == "async")


class Asker:
    def __init__(self, server, *, awaits):
        self.server = server
        self.awaits = awaits
        self.requests = server.requests
        self.sent: dict[str, Any] | None = None

    def _note(self, **kwargs: Any) -> None:
        self.sent = kwargs

    def __call__(self, exchange: Exchange, mode: Mode = Mode.TOOLS, response_model: Any = None, **more: Any) -> Any:
        """The answer and its completion."""
        talk = talk_of(exchange)
        sdk = talk.sdk(self.server.at(exchange), awaits=self.awaits)
        client = talk.wrap(sdk, mode, awaits=self.awaits)
        client.on("completion:kwargs", self._note)
        question = {**question_of(exchange), "response_model": response_model, **more}
        if not self.awaits:
            with client:
                return client.create_with_completion(**question)

        async def main():
            async with client:
                return await client.create_with_completion(**question)

        return asyncio.run(main())

    def bare(self, exchange: Exchange) -> Any:
        """What the SDK alone makes of the same bytes, asked as we asked it or in as few words as it takes."""
        talk = talk_of(exchange)
        question = self.sent or talk.least
        sdk = talk.sdk(self.server.at(exchange), awaits=False)
        try:
            completion = talk.bare(sdk)(**question)
        finally:
            close(sdk)
        self.requests.pop()
        return completion


def question_of(exchange: Exchange) -> dict[str, Any]:
    """What of the recorded request is ours to ask again. Not its model: SDKs warn of those retired since."""
    body = exchange["request"]["body"]
    return {"model": "m"} | {key: body[key] for key in ("messages", "input", "contents", "system") if key in body}


def tools_of(body: dict[str, Any]) -> dict[str, Any]:
    """The schemas of the functions that a request offers, by name; an SDK's own tool has none."""
    tools = body.get("tools") or body.get("functions") or (body.get("toolConfig") or {}).get("tools") or ()
    offered = [part for tool in tools for part in _declared(tool)]
    return {tool["name"]: _schema(tool) for tool in offered if "name" in tool}


def _schema(tool: dict[str, Any]) -> Any:
    schema = next((tool[key] for key in _SCHEMAS if key in tool), None)
    return schema["json"] if "inputSchema" in tool else schema


_SCHEMAS = ("parameters", "inputSchema", "input_schema", "parametersJsonSchema", "parameters_json_schema")


def _declared(tool: dict[str, Any]) -> list[dict[str, Any]]:
    return (
        tool.get("functionDeclarations")
        or tool.get("function_declarations")
        or [tool.get("function") or tool.get("toolSpec") or tool]
    )


def output_of(body: dict[str, Any]) -> Any:
    """The schema that a request demands of the text of its answer."""
    config = body.get("generationConfig") or {}
    written = (body.get("outputConfig") or {}).get("textFormat", {}).get("structure", {}).get("jsonSchema", {})
    places = [
        config.get("responseSchema") or config.get("responseJsonSchema"),
        (body.get("text") or {}).get("format", {}).get("schema"),
        (body.get("output_config") or {}).get("format", {}).get("schema"),
        (body.get("output_format") or {}).get("schema"),
        ((body.get("response_format") or {}).get("json_schema") or {}).get("schema"),
        json.loads(written.get("schema", "null")),
    ]
    return next(filter(None, places), None)


class Expected(NamedTuple):
    """How to ask for what an exchange holds, and the data that must come."""

    mode: Mode
    model: type[BaseModel]
    data: Any


def expected(exchange: Exchange) -> Expected:
    """The mode of a kind, a model of the request's own schema, and the data of the reading."""
    body, reading = exchange["request"]["body"], exchange["reading"]
    match exchange["kind"]:
        case "tool_call":
            calls, ours = reading["tool_calls"], tools_of(body)
            call = next((each for each in calls if each["name"] in ours), calls[0])  # the first is the server's own
            arguments = call["arguments"]
            data = json.loads(arguments or "null") if isinstance(arguments, str) else arguments
            return Expected(Mode.TOOLS, model_of(tools_of(body).get(call["name"]), call["name"]), data)
        case kind:
            mode = {"json_schema": Mode.JSON_SCHEMA, "json_mode": Mode.JSON}.get(kind, Mode.MD_JSON)
            return Expected(mode, model_of(output_of(body), "Answer"), json_in(exchange))


FENCED = re.compile(r"```json\n(.*?)\n```", re.DOTALL)


def json_in(exchange: Exchange) -> Any:
    """The document in an answer, found as the reading says that it lies there; an imitator sends it decoded."""
    text = exchange["reading"]["text"]
    match exchange["reading"]["json_in_text"]:
        case "fence":
            return json.loads(FENCED.findall(text)[0])
        case None:
            return json.loads(exchange["response"]["body"])["choices"][0]["message"]["content"]
        case _:
            return json.JSONDecoder().raw_decode(text, text.index("{"))[0]


NULLABLE = {"4b83fc0eaa876406", "c058de5089e6561e", "cf97c50bba518d8a"}
"""The calls with a null that only OpenAPI's `nullable` allows, which the readings do not know."""


def fits(exchange: Exchange) -> bool:
    """Whether what the model called a tool with is what the tool takes."""
    if exchange["id"] in NULLABLE:
        return True
    called = exchange["reading"]["tool_calls"][:1]
    return all(call["arguments_parse"] and call["valid_against_request_schema"] is not False for call in called)


def data_of(answer: BaseModel) -> Any:
    """What was said of a model's fields, under the names of the schema."""
    return answer.model_dump(mode="json", by_alias=True, exclude_unset=True)


STRUCTURED = ("tool_call", "json_schema", "json_mode", "prompted_json")


@each(*STRUCTURED, where=fits)
def test_read_right_and_remembered_whole(exchange, ask):
    """An answer is the object of the reading; the second time, it and its completion come from the cache."""
    wanted, cache = expected(exchange), AutoCache()

    first, completion = ask(exchange, wanted.mode, wanted.model, cache=cache)

    assert wanted.data == data_of(first)
    assert type(first) is wanted.model
    bare = ask.bare(exchange)
    assert (type(bare), bare) == (type(completion), completion)
    assert completion is first._raw_response

    second, again = ask(exchange, wanted.mode, wanted.model, cache=cache)

    assert first == second
    assert (type(bare), bare) == (type(again), again)
    assert again is second._raw_response
    assert len(ask.requests) == 1
    assert (stats(cache).hits, len(cache)) == (1, 1)


@each("tool_call", where=lambda exchange: not fits(exchange))
def test_arguments_that_do_not_fit(exchange, ask):
    """Arguments that the tool does not take are sent back with the error, and never remembered."""
    cache = AutoCache()
    model = closed(exchange)

    with pytest.raises(InstructorRetryException) as caught:
        ask(exchange, Mode.TOOLS, model, cache=cache, max_retries=1)

    assert isinstance(caught.value.__cause__, ValidationError)
    assert len(ask.requests) == 2
    assert "Validation Error found" in json.dumps(ask.requests[1])
    assert len(cache) == 0


def closed(exchange: Exchange) -> type[BaseModel]:
    """The model of the tool that was called, with no room for what the schema does not name."""

    class Closed(expected(exchange).model, extra="forbid"):  # type: ignore[misc]
        pass

    return Closed


class Said(BaseModel):
    """What there was to say."""

    words: str


def question_model(exchange: Exchange) -> type[BaseModel]:
    """The first thing that a request asks for; a model of our own where it asks for nothing."""
    body = exchange["request"]["body"]
    schema = output_of(body) or next(iter(tools_of(body).values()), None)
    return model_of(schema, "Answer") if schema else Said


@pytest.mark.fault("G1")
@pytest.mark.parametrize("mode", [Mode.TOOLS, Mode.TOOLS_STRICT, Mode.JSON, Mode.JSON_SCHEMA, Mode.MD_JSON])
@each("truncated")
def test_truncated(exchange, mode, ask):
    """An answer that was cut off is an error in every mode, asked for once, and never remembered."""
    cache = AutoCache()

    with pytest.raises(IncompleteOutputException) as caught:
        ask(exchange, mode, question_model(exchange), cache=cache)

    assert ask.bare(exchange) == caught.value.last_completion
    assert len(ask.requests) == 1
    assert len(cache) == 0


@pytest.mark.fault("G3")
@each("refusal")
def test_refused(exchange, ask):
    """A refusal is an error in the provider's words, no object, asked for once, and never remembered."""
    cache = AutoCache()
    words = exchange["reading"]["refusal"] or exchange["reading"]["finish"]

    with pytest.raises(RefusalError) as caught:
        ask(exchange, Mode.JSON_SCHEMA, question_model(exchange), cache=cache)

    assert words.replace("_", " ") in str(caught.value).replace("_", " ")
    assert ask.bare(exchange) == caught.value.last_completion
    assert len(ask.requests) == 1
    assert len(cache) == 0


def made_by_hand(name: str, label: str, status: int, body: Any) -> Exchange:
    """An exchange that nobody recorded."""
    question = {"contents": "hi"} if name == "google_genai" else {"messages": HI}
    return {
        "id": f"synthetic-{label}",
        "file": name,
        "kind": "error",
        "request": {"url": "", "body": question},
        "response": {"status": status, "headers": {}, "body": json.dumps(body)},
    }


OK = 200
AS_TOLD = {"error": {"message": "as told", "type": "made_by_hand"}}
SYNTHETIC = [
    made_by_hand(name, str(status), status, AS_TOLD) for name in TALKS for status in (400, 401, 429, 500, 503, 529)
]


@pytest.mark.fault("G5")
@each("error", of=EXCHANGES + SYNTHETIC, where=lambda exchange: exchange["response"]["status"] != OK)
def test_errors(exchange, ask):
    """An error is the SDK's own, told as the cause or, without a response model, as it is; one call, nothing kept."""
    talk, cache = talk_of(exchange), AutoCache()
    with pytest.raises(talk.problem) as alone:
        ask.bare(exchange)
    ask.requests.clear()

    with pytest.raises(InstructorRetryException) as caught:
        ask(exchange, Mode.TOOLS, question_model(exchange), cache=cache)
    with pytest.raises(talk.problem) as plain:
        ask(exchange, cache=cache)

    told = caught.value.__cause__
    assert type(alone.value) is type(told) is type(plain.value)
    assert exchange["response"]["status"] == talk.code(told) == talk.code(plain.value)
    assert str(alone.value) == str(told) == str(caught.value.args[0])
    assert caught.value.n_attempts == 1
    assert len(ask.requests) == 2
    assert len(cache) == 0


SPEECHLESS = [
    {"choices": [{"index": 0, "finish_reason": "stop", "message": None}]},
    {"choices": [{"index": 0, "finish_reason": None}]},
    {"choices": []},
    {"choices": None, "error": {"message": "overloaded", "code": 502}},
    {"error": {"message": "overloaded"}},
    {},
]
MUTE = [
    made_by_hand(name, f"mute{number}", 200, body)
    for name in ("openai_chat", "groq")
    for number, body in enumerate(SPEECHLESS)
]
"""What OpenAI's imitators send where there should be a message."""


@each("error", of=EXCHANGES + MUTE, where=lambda exchange: exchange["response"]["status"] == OK)
@pytest.mark.fault("G5")
def test_errors_that_say_they_are_none(exchange, ask):
    """HTTP 200 around an error, or around no message, is no answer: asked again as often as allowed, never kept."""
    cache = AutoCache()

    with pytest.raises(InstructorRetryException) as caught:
        ask(exchange, Mode.TOOLS, Said, cache=cache, max_retries=1)
    assert isinstance(caught.value.__cause__, ResponseParsingError)
    assert len(ask.requests) == 2

    answer, completion = ask(exchange, cache=cache)
    assert ask.bare(exchange) == answer == completion
    assert len(cache) == 0


SAID = ("messages", "input", "contents")


@each("prose_with_tools_offered")
def test_prose_in_place_of_a_tool_call(exchange, ask):
    """A model that talks instead of calling its tool is told so once per retry, and its talk is never kept."""
    cache = AutoCache()

    with pytest.raises(InstructorRetryException) as caught:
        ask(exchange, Mode.TOOLS, question_model(exchange), cache=cache, max_retries=1)

    cause = caught.value.__cause__
    assert isinstance(cause, ResponseParsingError)
    first, second = (next(request[key] for key in SAID if key in request) for request in ask.requests)
    assert first == second[: len(first)]
    assert str(cause) in json.dumps(second[-1])
    assert json.dumps(exchange["reading"]["text"])[1:-1] in json.dumps(second[len(first) : -1])
    assert (caught.value.n_attempts, len(ask.requests), len(cache)) == (2, 2, 0)


def whole(exchange: Exchange) -> bool:
    """Whether a plain completion says something, and says it to the end."""
    reading = exchange["reading"]
    said = reading["text"] or reading["tool_calls"] or exchange["kind"] in STRUCTURED  # an object in place of text
    return bool(said) and exchange["kind"] not in {"truncated", "refusal"}


@pytest.mark.fault("G7")
@each(where=lambda exchange: exchange["kind"] != "error")
def test_plain_completion(exchange, ask):
    """Without a response model, the completion comes as it is; when it is whole, the second time from a cache."""
    cache = AutoCache()

    answer, completion = ask(exchange, cache=cache)
    bare = ask.bare(exchange)
    again, _ = ask(exchange, cache=cache)

    assert completion is answer
    assert (type(bare), bare) == (type(answer), answer) == (type(again), again)
    assert len(ask.requests) == (1 if whole(exchange) else 2)
    assert len(cache) == (1 if whole(exchange) else 0)


COUNTS = {
    "error": 94,
    "json_mode": 39,
    "json_schema": 54,
    "multimodal": 35,
    "prompted_json": 12,
    "prose_with_tools_offered": 38,
    "refusal": 11,
    "text": 14,
    "tool_call": 189,
    "truncated": 63,
}
"""What is asked, twice where it is asked through two SDKs."""


def test_counts():
    """So many exchanges of each kind are asked, which are all that were not streamed, but for those with a reason."""
    every = {(file, each["id"]) for file in files() for each in recorded(file) if (file, each["api"]) not in UNASKED}

    assert {(each["file"].removeprefix("openai/"), each["id"]) for each in EXCHANGES} == {
        (file, id_)
        for file, id_ in every
        if file != "xai_grpc"  # which has tests of its own
    }
    assert Counter(each["kind"] for each in EXCHANGES) == COUNTS
    assert sum(each["kind"] == "tool_call" and not fits(each) for each in EXCHANGES) == 10
