"""OpenAI's Responses API: how it is asked, read, asked again and listened to, and clients that speak it."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Literal, Union

import golden
import httpx
import openai
import pytest
from fake_provider import FakeProvider, Say
from flavours import ask, openai_client
from openai.resources.responses import Responses
from openai.types.responses import Response
from pydantic import BaseModel, Field
from replay import RECORDED

import instructor
from instructor import Mode
from instructor.cache import AutoCache
from instructor.dialects import responses
from instructor.dialects.base import Call, Reply
from instructor.exceptions import (
    IncompleteOutputException,
    InstructorRetryException,
    ModeError,
    ProviderError,
    RefusalError,
    ResponseParsingError,
    TokenBudgetExceeded,
)
from instructor.providers import ROWS, row_in
from instructor.shape import compile_shape

MODE = Mode.RESPONSES_TOOLS
QUESTION = [{"role": "user", "content": "Extract: John is 25"}]
SEARCH = {"type": "web_search"}
WEATHER = {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}
PROBLEM = ValueError("age: should be a whole number")


class User(BaseModel):
    """Somebody."""

    name: str
    age: int = Field(description="in years", ge=0)


class Loose(BaseModel):
    """What is not known beforehand."""

    name: str
    more: dict[str, str] = {}


SHAPE = compile_shape(User)
JOHN = User(name="John", age=25)

# How it is asked


ASKED: dict[str, Any] = {
    "model": "a-model",
    "messages": [
        {"role": "system", "content": "You extract people."},
        {
            "role": "user",
            "name": "ann",
            "content": [
                {"type": "text", "text": "Ann, 25, lives in Łódź."},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
                {"type": "image_url", "image_url": "data:image/png;base64,AAAA"},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}},
                {"type": "input_image", "file_id": "file-1"},
            ],
        },
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "Let me look."}],
            "refusal": None,
            "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "She is 25."},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "t2", "function": {"name": "f"}}]},
        {"role": "tool", "tool_call_id": "t2", "content": [{"type": "text", "text": "Yes."}]},
        {"type": "function_call_output", "call_id": "t3", "output": "as it is"},
    ],
    "temperature": 0,
    "max_tokens": 200,
}


def response(*output: dict[str, Any], **more: Any) -> Response:
    """A response as the SDK gives it."""
    head = {"id": "r1", "object": "response", "created_at": 1, "model": "m", "status": "completed"}
    return Response.construct(**{**head, "output": list(output), **more})


THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "c2VjcmV0", "status": None}
SEARCHED = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}}


def called(name: str = "User", arguments: str = '{"name": "Ann", "age": "old"}', number: int = 1) -> dict[str, Any]:
    """A call of a function."""
    ids = {"id": f"fc_{number}", "call_id": f"call_{number}"}
    return {"type": "function_call", **ids, "name": name, "arguments": arguments, "status": "completed"}


def told(text: str, kind: str = "output_text") -> dict[str, Any]:
    """A message."""
    key = "refusal" if kind == "refusal" else "text"
    content = [{"type": kind, key: text, **({} if key == "refusal" else {"annotations": []})}]
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content}


def again(asked: dict[str, Any], completion: Any) -> dict[str, Any]:
    """The request that follows `completion`."""
    return responses.reask(asked, completion, responses.read(completion), PROBLEM, MODE)


def test_requests_are_those_that_were_reviewed():
    """Alone, beside tools of the user's, for a schema that has no exact form, and after a bad answer."""
    asked = responses.ask(ASKED, SHAPE, MODE)
    beside = responses.ask({"input": "hi", "tools": [SEARCH, {"function": WEATHER}]}, SHAPE, MODE)
    loose = responses.ask({"input": "hi"}, compile_shape(Loose), MODE)
    said = again(asked, response(THOUGHT, called()))["input"][len(asked["input"]) :]

    made = {"ask": asked, "beside other tools": beside, "without an exact schema": loose, "reask adds": said}
    golden.check(responses, MODE.name, made)


@pytest.mark.parametrize("shape", [None, SHAPE])
def test_the_sdk_takes_what_it_is_asked(shape):
    """Every argument is one that the SDK knows."""
    asked = responses.ask(ASKED, shape, MODE)
    streamed = row_in(ROWS["openai"], MODE).streamed(asked)
    takes = inspect.signature(Responses.create)

    for request in (asked, streamed):
        takes.bind(None, **request)
    assert streamed == {**asked, "stream": True}


def test_nothing_given_is_changed():
    """Asking and asking again leave the question and the completion as they were."""
    completion = response(THOUGHT, called())
    given = copy.deepcopy((ASKED, completion))
    asked = responses.ask(ASKED, SHAPE, MODE)
    sent = copy.deepcopy(asked)

    again(asked, completion)

    assert given == (ASKED, completion)
    assert sent == asked


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 7}, 7),
        ({"max_tokens": 7, "max_output_tokens": 8}, 8),
        ({"max_tokens": None}, None),
    ],
)
def test_the_limit_of_an_answer_has_three_names(limits, limit):
    """The API's own name wins."""
    assert responses.ask({"input": "hi", **limits}, None, MODE).get("max_output_tokens") == limit


def test_a_choice_among_the_users_tools_stays():
    """What the user says of tools and text is kept beside what we add."""
    given = {"input": "hi", "tools": [SEARCH], "tool_choice": "required", "text": {"verbosity": "low"}}
    asked = responses.ask(given, SHAPE, MODE)

    assert (asked["tools"][0], asked["tool_choice"], asked["text"]["verbosity"]) == (SEARCH, "required", "low")


# How it is read


@pytest.mark.parametrize(
    ("completion", "reply"),
    [
        (response(THOUGHT, SEARCHED, told("a"), told("b")), Reply(text="ab")),
        (response(called("f", "{}")), Reply(calls=(Call("call_1", "f", "{}"),))),
        (response(told("no", "refusal")), Reply(finish="refusal", refusal="no")),
        (
            response(told("{"), status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
            Reply(text="{", finish="length"),
        ),
        (
            response(status="incomplete", incomplete_details={"reason": "content_filter"}),
            Reply(finish="refusal"),
        ),
        (response(status="in_progress"), Reply(finish="length")),
        (response(status=None, usage={"total_tokens": 3}), Reply(usage=3)),
        *((odd, Reply()) for odd in (
            None, {}, SimpleNamespace(), Response.construct(), Response.construct(output=None), response({}),
            Response.construct(output=[None]), response({"type": "message", "content": None}),
            response({"type": "message", "content": [None, {}]}), response({"type": "new"}),
        )),
    ],
)  # fmt: skip
def test_what_a_response_says(completion, reply):
    """Text, calls, end and usage; what is left out has not been said."""
    read = responses.read(completion)

    assert (reply.text, reply.calls, reply.finish, reply.refusal) == (read.text, read.calls, read.finish, read.refusal)
    assert reply.usage == (read.usage and read.usage.total_tokens)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ({"code": "server_error", "message": "boom"}, "openai: server_error: boom"),
        (None, "openai: the response failed"),
    ],
)
def test_a_response_that_failed_is_an_error(error, says):
    """The API reports its own failure with HTTP 200."""
    with pytest.raises(ProviderError, match=says):
        responses.read(response(status="failed", error=error))


# How it is asked again


def test_every_call_is_answered():
    """Ours with the error, another's with the news that nobody runs it here; all items are given back before."""
    asked = responses.ask({"input": "hi", "tools": [SEARCH, WEATHER]}, SHAPE, MODE)
    items = again(asked, response(THOUGHT, SEARCHED, called("get_weather", "{}", 2), called()))["input"][1:]

    kinds = ["reasoning", "web_search_call", "function_call", "function_call", *["function_call_output"] * 2]
    assert kinds == [item["type"] for item in items]
    assert items[0] == {key: value for key, value in THOUGHT.items() if value is not None}
    assert [("call_2", True), ("call_1", False)] == [
        (item["call_id"], "cannot be run here" in item["output"]) for item in items[-2:]
    ]
    assert str(PROBLEM) in items[-1]["output"]


def test_text_is_corrected_as_a_user_would():
    """Where no function was called, the correction is a message."""
    *_, said, correction = again(responses.ask({"input": "hi"}, SHAPE, MODE), response(told("{}")))["input"]

    assert ("message", "msg_1", "user") == (said["type"], said["id"], correction["role"])
    assert str(PROBLEM) in correction["content"]


def test_what_was_not_stored_is_given_back_without_ids():
    """With `store=False` the API knows no ids, and no thoughts but encrypted ones."""
    asked = responses.ask({"input": "hi", "store": False}, SHAPE, MODE)
    plain = {**THOUGHT, "id": "rs_2", "encrypted_content": None}
    items = again(asked, response(plain, THOUGHT, called()))["input"][1:]

    assert [("reasoning", "rs_1"), ("function_call", None), ("function_call_output", None)] == [
        (item["type"], item.get("id")) for item in items
    ]


def test_a_conversation_is_not_told_twice():
    """In a conversation that the API keeps, only what is new is sent."""
    asked = responses.ask({"input": "hi", "conversation": "conv_1"}, SHAPE, MODE)

    assert ["function_call_output"] == [item["type"] for item in again(asked, response(THOUGHT, called()))["input"]]


# Clients

sync_and_async = pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])


def client_of(provider: FakeProvider, **kwargs: Any) -> Any:
    """A client of OpenAI's SDK that speaks the Responses API with the fake provider."""
    return openai_client(provider, mode=MODE, **kwargs)


def said(*output: dict[str, Any], **more: Any) -> Say:
    """An answer of the provider's, item by item."""
    usage = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}
    return Say(body=response(*output, usage=usage, **more).model_dump_json(exclude_unset=True).encode())


@sync_and_async
@pytest.mark.parametrize("prose", [False, True], ids=["called", "in text"])
def test_an_answer_is_asked_for_once(provider, use_async, prose):
    """By a call or in text: the same value, and the second time the same completion from the cache."""
    client = client_of(provider, use_async=use_async, cache=AutoCache())
    provider.say(Say(prose=prose))

    miss, completion = ask(client, method="create_with_completion", response_model=User, messages=QUESTION)
    hit, same = ask(client, method="create_with_completion", response_model=User, messages=QUESTION)

    assert [JOHN, JOHN] == [miss, hit]
    assert (Response, completion) == (type(same), same)
    assert type(completion.usage) is type(hit._total_usage)
    assert (15, 0) == (miss._total_usage.total_tokens, hit._total_usage.total_tokens)
    assert provider.paths == ["/v1/responses"]


@sync_and_async
@pytest.mark.parametrize(
    ("response_model", "payload", "expected"),
    [
        (list[User], {"tasks": [{"name": "A", "age": 1}]}, [User(name="A", age=1)]),
        (int, {"content": 7}, 7),
        (Literal["yes", "no"], {"content": "yes"}, "yes"),
        (Union[int, User], {"content": {"name": "A", "age": 1}}, User(name="A", age=1)),
        (Loose, {"name": "A", "more": {"b": "c"}}, Loose(name="A", more={"b": "c"})),
    ],
    ids=str,
)
def test_every_shape_is_answered_and_remembered(provider, use_async, response_model, payload, expected):
    """As in the other modes."""
    client = client_of(provider, use_async=use_async, cache=AutoCache())
    provider.say(json.dumps(payload))

    answers = [ask(client, response_model=response_model, messages=QUESTION) for _ in range(2)]

    assert [expected, expected] == answers
    assert provider.calls == 1


@sync_and_async
def test_a_plain_response_is_the_sdks_own(provider, use_async):
    """Without a response model, from the cache too."""
    client = client_of(provider, use_async=use_async, cache=AutoCache())
    provider.say(Say(payload="hello", prose=True))

    miss, hit = (ask(client.responses, response_model=None, input="hi") for _ in range(2))

    assert ("hello", Response, miss) == (miss.output_text, type(hit), hit)
    assert provider.requests == [{"model": "m", "input": [{"role": "user", "content": "hi"}]}]


@sync_and_async
def test_an_answer_that_does_not_fit_is_asked_for_again(provider, use_async):
    """With the model's own thoughts, the error as the call's output, and all that it cost; kept under the first key."""
    client = client_of(provider, use_async=use_async, cache=AutoCache())
    heard: list[int] = []
    client.on("completion:usage", lambda usage: heard.append(usage.total_tokens))
    provider.say(said(THOUGHT, called(arguments='{"name": "John"}')), Say())

    users = [ask(client, response_model=User, messages=QUESTION) for _ in range(2)]

    assert [JOHN, JOHN] == users
    assert provider.calls == 2
    kinds = [item.get("type") for item in provider.requests[1]["input"]]
    assert [None, "reasoning", "function_call", "function_call_output"] == kinds
    assert "Field required" in provider.requests[1]["input"][-1]["output"]
    assert (30, [15, 30]) == (users[0]._total_usage.total_tokens, heard)
    assert users[0]._raw_response.usage.input_tokens == 20


@sync_and_async
@pytest.mark.parametrize(
    ("say", "error"),
    [
        (Say(finish="length"), IncompleteOutputException),
        (Say(finish="content_filter"), RefusalError),
        (Say(refusal="I would rather not"), RefusalError),
        (said(status="failed", error={"code": "server_error", "message": "boom"}), InstructorRetryException),
        (Say(status=500), InstructorRetryException),
        (Say(body=b'{"error": {"message": "overloaded"}}'), InstructorRetryException),
        (Say(payload="I do not know.", prose=True), InstructorRetryException),
        (said(called("get_weather", '{"name": "John", "age": 25}')), InstructorRetryException),
    ],
)
def test_what_is_no_answer_raises_and_is_not_kept(provider, use_async, say, error):
    """Cut off, withheld, refused, failed, prose, or a call of a tool that is not ours."""
    cache = AutoCache()
    client = client_of(provider, use_async=use_async, cache=cache)
    provider.say(say)

    with pytest.raises(error):
        ask(client, response_model=User, messages=QUESTION, max_retries=0)

    assert (provider.calls, len(cache)) == (1, 0)


def test_the_cause_of_a_failure_is_told(provider):
    """What the API says of its failure; what is missing in an answer without a payload."""
    client = client_of(provider)
    causes = []
    for say in (said(status="failed", error={"code": "server_error", "message": "boom"}), said(told("well"))):
        provider.say(say)
        with pytest.raises(InstructorRetryException) as caught:
            client.create(response_model=User, messages=QUESTION, max_retries=0)
        causes.append(type(caught.value.__cause__))

    assert [ProviderError, ResponseParsingError] == causes
    assert caught.value.messages[0] == QUESTION[0]


@pytest.mark.parametrize(
    "output",
    [
        [SEARCHED, told('{"name": "John", "age": 25}')],
        [SEARCHED, told("Found it."), called(arguments='{"name": "John", "age": 25}')],
        [called("get_weather", '{"name": "Jack", "age": 3}', 2), called(arguments='{"name": "John", "age": 25}')],
        [called("get_weather", '{"name": "Jack", "age": 3}', 2), told('{"name": "John", "age": 25}')],
    ],
)
def test_the_users_own_tools_stay(provider, output):
    """They are beside ours, the model is free to use them, and the answer is our call, or else the text."""
    client = client_of(provider)
    provider.say(said(*output))

    user = client.create(response_model=User, messages=QUESTION, tools=[SEARCH])

    request = provider.requests[0]
    assert user == JOHN
    assert ["web_search", "function"] == [tool["type"] for tool in request["tools"]]
    assert ("auto", "json_schema") == (request["tool_choice"], request["text"]["format"]["type"])


def test_a_token_budget_is_kept(provider):
    """The tokens of the Responses API count."""
    provider.say("{}")

    with pytest.raises(TokenBudgetExceeded) as caught:
        client_of(provider).create(response_model=User, messages=QUESTION, max_retries=9, token_budget=30)

    assert (30, 2) == (caught.value.total_usage.total_tokens, caught.value.n_attempts)


@sync_and_async
@pytest.mark.parametrize("response_model", [None, User])
@pytest.mark.parametrize("cache", [None, AutoCache()], ids=["no cache", "cache"])
def test_a_question_is_messages_or_input(provider, use_async, response_model, cache):
    """Neither, or both, is an error before anything is asked."""
    client = client_of(provider, use_async=use_async, cache=cache)

    for question in ({}, {"messages": QUESTION, "input": "hi"}):
        with pytest.raises(TypeError, match="`messages` or `input`"):
            ask(client.responses, response_model=response_model, **question)

    assert provider.calls == 0


def test_input_is_part_of_the_question(provider):
    """Another input is another question; templates in it and in the instructions are rendered."""
    client = client_of(provider, cache=AutoCache())

    for words in ("hi", "ho", "hi"):
        question = {"input": "Say {{ words }}", "instructions": "Be {{ words }}", "context": {"words": words}}
        assert client.responses.create(response_model=User, **question) == JOHN

    assert ["Say hi", "Say ho"] == [request["input"][0]["content"] for request in provider.requests]
    assert ["Be hi", "Be ho"] == [request["instructions"] for request in provider.requests]


def test_responses_is_the_client_in_this_mode_only(provider):
    """In every other mode it is the SDK's own, as all that we do not know of."""
    client = client_of(provider)
    other = openai_client(provider)

    assert client.responses is client
    assert other.responses is other.client.responses


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("mode", [MODE, Mode.RESPONSES_TOOLS_WITH_INBUILT_TOOLS])
@pytest.mark.filterwarnings("ignore:Mode.RESPONSES_TOOLS_WITH_INBUILT_TOOLS is deprecated")
def test_it_is_reached_by_name(provider, use_async, mode):
    """`from_provider` takes the mode, for OpenAI and for Azure, under its older name too."""
    places = {"openai": {}, "azure_openai": {"api_version": "2025-03-01-preview"}}
    for name, more in places.items():
        given = {"base_url": f"{provider.url}/v1", "api_key": "k", "max_retries": 0, **more}
        client = instructor.from_provider(f"{name}/m", use_async, mode=mode, **given)

        assert ask(client, response_model=User, messages=QUESTION) == JOHN
        assert client.mode is MODE

    assert ["/v1/responses", "/v1/responses?api-version=2025-03-01-preview"] == provider.paths


def test_a_patched_client_speaks_it_too(provider):
    """It is `responses.create` that learns, in place or as a function; so does a client made of one."""
    sdk = openai.OpenAI(api_key="k", base_url=f"{provider.url}/v1")
    create = instructor.patch(create=sdk.responses.create, mode=MODE)
    client = instructor.Instructor(sdk, create=sdk.responses.create, mode=MODE)
    instructor.patch(sdk, mode=MODE)

    question = {"model": "m", "input": "hi", "response_model": User}
    answers = [create(**question), client.create(**question), sdk.responses.create(**question)]

    assert [JOHN] * 3 == answers


@pytest.mark.parametrize("name", ["together", "deepseek", "groq", "ollama", "anthropic", "google"])
def test_providers_without_it_refuse_the_mode(name):
    """Those that copy the chat API only say which modes they have."""
    with pytest.raises(ModeError) as caught:
        instructor.from_provider(f"{name}/m", api_key="k", mode=MODE)

    assert "RESPONSES_TOOLS" not in caught.value.valid_modes


# Streams


def listen(events: Any) -> tuple[str, responses.Listener]:
    """The payload of the events, and who heard them."""
    listener = responses.Listener(MODE)
    return "".join([listener.hear(event) for event in events]), listener


def event(kind: str, **fields: Any) -> dict[str, Any]:
    """An event as data."""
    return {"type": f"response.{kind}", **fields}


def call_events(name: str, *deltas: str, at: int = 0) -> list[dict[str, Any]]:
    """A call of a function, as it comes."""
    item = {**called(name, "".join(deltas)), "status": "completed"}
    heard = [event("function_call_arguments.delta", delta=delta, output_index=at) for delta in deltas]
    added = event("output_item.added", item={**item, "arguments": ""}, output_index=at)
    return [added, *heard, event("output_item.done", item=item, output_index=at)]


BEGUN = event("created", response={"id": "r1", "tools": [{"name": "get_weather"}, {"name": "User"}], "output": []})
TEXT = event("output_text.delta", delta="Let me see. ", output_index=0)


@pytest.mark.parametrize(
    ("events", "payload"),
    [
        ([BEGUN, TEXT, TEXT], "Let me see. Let me see. "),
        ([BEGUN, *call_events("get_weather", "{", "}"), *call_events("User", '{"a"', ": 1}", at=1)], '{"a": 1}'),
        ([BEGUN, *call_events("User", "{}"), TEXT, *call_events("User", "{}", at=1)], "{}"),
        ([BEGUN, TEXT, *call_events("User", "{}", at=1), TEXT], "Let me see. {}"),
        ([*call_events("get_weather", "{}"), *call_events("User", "{}", at=1)], "{}"),
        ([event("refusal.delta", delta="no"), event("reasoning_text.delta", delta="hm"), event("new")], ""),
    ],
    ids=["text", "ours of two", "the first of ours", "text before a call", "no tools repeated", "neither"],
)
def test_the_payload_of_a_stream(events, payload):
    """The first call of our function; the text as long as it is not called."""
    heard, listener = listen(events)

    assert (payload, False) == (heard, listener.ended)


@pytest.mark.parametrize("how", ["completed", "incomplete", "failed"])
def test_a_stream_ends_with_the_whole_response(how):
    """Whatever became of it; the items are those that were done if it does not repeat them."""
    whole = {"id": "r1", "status": how, "output": [told("a")]}
    _, listener = listen([BEGUN, event(how, response=whole)])
    _, bare = listen([*call_events("User", "{}"), event(how, response={"id": "r1", "output": []})])

    assert (True, whole) == (listener.ended, listener.data())
    assert bare.data() == {"id": "r1", "output": [called("User", "{}")]}


def test_a_stream_that_was_broken_off_tells_what_there_was():
    """The response as it began, with the items that were done."""
    _, listener = listen([BEGUN, *call_events("User", "{}")])

    assert (False, ["call_1"]) == (listener.ended, [item["call_id"] for item in listener.data()["output"]])
    assert responses.Listener(MODE).data() == {"output": []}


@pytest.mark.parametrize("error", [{"code": "server_error", "message": "boom"}, {"error": {"message": "boom"}}])
def test_an_error_in_mid_stream_raises(error):
    """In the provider's words."""
    with pytest.raises(ProviderError, match="boom"):
        listen([BEGUN, {"type": "error", **error}])


FILES = ("openai_responses", "azure_openai", "bedrock_openai_compat", "deepseek", "openrouter", "xai")


def recorded() -> Iterator[Any]:
    """Every streamed exchange in this API."""
    if not RECORDED.is_dir():
        yield pytest.param(None, marks=pytest.mark.skip(reason="../shared/recorded is not beside this checkout"))
        return
    for name in FILES:
        for exchange in json.loads((RECORDED / f"{name}.json").read_text("utf-8")):
            spoken = exchange["api"] == "responses" and exchange["stream"]
            if spoken and exchange["response"]["status"] == 200:
                yield pytest.param(exchange, id=f"{name}-{exchange['id']}")


def events_of(body: bytes, size: int) -> Iterator[Any]:
    """The SDK's events of a body that arrives in pieces of `size` bytes."""
    pieces = (body[start : start + size] for start in range(0, len(body), size))
    answer = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=pieces)
    transport = httpx.MockTransport(lambda _: answer)
    with (
        httpx.Client(transport=transport) as http,
        openai.OpenAI(api_key="k", base_url="http://test", http_client=http) as sdk,
    ):
        yield from sdk.responses.create(model="m", input="hi", stream=True)


@pytest.mark.parametrize("size", [1, 3, 7, 2**30], ids=["1", "3", "7", "whole"])
@pytest.mark.parametrize("exchange", [*recorded()])
def test_recorded_streams_are_heard_right(exchange, size):
    """The payload is the call or the text of the reading; the response is the one that ends the stream, whole."""
    events = list(events_of(exchange["response"]["body"].encode(), size))
    payload, listener = listen(events)
    reading, last = exchange["reading"], events[-1].response
    completion = Response.construct(**listener.data())
    reply = responses.read(completion)

    assert payload_of(reading, last.tools or ()) == payload
    assert listener.ended
    assert (type(last), last) == (type(completion), completion)
    assert reading["text"] == (reply.text or "")
    assert [call["arguments"] for call in reading["tool_calls"]] == [call.arguments for call in reply.calls]
    assert reading["refusal"] == reply.refusal
    assert {"max_output_tokens": "length"}.get(reading["finish"], "stop") == (
        "stop" if reply.finish == "refusal" else reply.finish
    )
    assert reply.usage.total_tokens > 0


def payload_of(reading: Any, tools: Any) -> str:
    """The first call of the last tool that was offered, or the text."""
    ours = [call["arguments"] for call in reading["tool_calls"] if not tools or call["name"] == tools[-1].name]
    return ours[0] if ours else reading["text"]
