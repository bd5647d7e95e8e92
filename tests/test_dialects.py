"""How each API family is asked, read, and asked again."""

import copy
import inspect
import json
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import anthropic as anthropic_sdk
import boto3
import cohere as cohere_sdk
import golden
import httpx
import openai as openai_sdk
import pytest
from anthropic.types import Message
from botocore.validate import ParamValidator
from google import genai
from google.genai import types
from groq.types.chat import ChatCompletion as GroqCompletion
from hypothesis import given, settings
from hypothesis import strategies as st
from mistralai.client.chat import Chat
from mistralai.client.models import ChatCompletionResponse
from openai.types.chat import ChatCompletion
from pydantic import BaseModel, Field, StringConstraints, create_model
from test_listeners import EVENTS
from writerai.resources.chat import ChatResource
from writerai.types import ChatCompletion as WriterCompletion
from xai_sdk import Client as XAIClient
from xai_sdk.chat import Response as XAIResponse
from xai_sdk.chat import chat_pb2

from instructor.dialects import anthropic, bedrock, cohere, google, mistral, openai, responses, writer, xai
from instructor.dialects.base import Call, Dialect, Reply, listed
from instructor.dialects.media import PARTS
from instructor.mode import Mode
from instructor.parallel import compile_parallel
from instructor.schema import ANTHROPIC, GOOGLE, OPENAI, fit, schema_of
from instructor.shape import Shape, compile_shape
from instructor.testing import DialectContract
from instructor.usage import add, tokens

FAMILIES = (openai, anthropic, google, cohere, mistral, writer, bedrock, xai)
DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in FAMILIES}
CALLED = {Mode.TOOLS, Mode.TOOLS_STRICT, Mode.PARALLEL_TOOLS}
MODES = (*sorted(CALLED, key=str), Mode.JSON, Mode.JSON_SCHEMA, Mode.MD_JSON)
every_dialect = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
EVERY = [(dialect, mode) for dialect in FAMILIES for mode in MODES if mode in dialect.modes]
every_way = pytest.mark.parametrize(("dialect", "mode"), EVERY, ids=lambda each: each.name)


class Address(BaseModel):
    """Where somebody lives.

    Args:
        city: the city, without its country
    """

    city: str
    kind: Literal["home", "work"] = "home"


class User(BaseModel):
    """A person who is spoken of."""

    name: str = Field(description="the full name", min_length=1)
    age: int = Field(ge=0, le=150)
    tags: list[str] = Field(default_factory=list, description="words that fit")
    address: Address | None = None
    main: Address = Field(description="the address for letters")


SHAPE = compile_shape(User)
SEVERAL = compile_parallel(list[User | Address])
PROBLEM = ValueError("age: should be a whole number")
QUESTION: dict[str, Any] = {
    "model": "a-model",
    "messages": [
        {"role": "system", "content": "You extract people."},
        {"role": "user", "content": "Ann, 25, lives in Łódź."},
    ],
    "temperature": 0,
    "max_tokens": 200,
}


def openai_said(message: dict[str, Any], finish: str = "stop") -> ChatCompletion:
    """A completion as OpenAI's SDK gives it."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    head = {"id": "c1", "object": "chat.completion", "created": 1, "model": "a-model"}
    return ChatCompletion.construct(**head, choices=[choice], usage=usage)


def anthropic_said(blocks: Any, stop_reason: str = "end_turn", **more: Any) -> Message:
    """A message as Anthropic's SDK gives it."""
    head = {"id": "m1", "type": "message", "role": "assistant", "model": "a-model"}
    usage = {"input_tokens": 10, "output_tokens": 5}
    return Message.construct(**head, content=blocks, stop_reason=stop_reason, usage=usage, **more)


def google_said(parts: Any, finish: str = "STOP", **more: Any) -> types.GenerateContentResponse:
    """A response as Google's SDK gives it."""
    candidate = {"content": {"role": "model", "parts": parts}, "finish_reason": finish, **more}
    return types.GenerateContentResponse.model_validate({"candidates": [candidate]})


def bedrock_said(blocks: Any, stop_reason: str = "end_turn", **more: Any) -> dict[str, Any]:
    """A completion as boto3 gives it."""
    message = {"role": "assistant", "content": blocks}
    return {"output": {"message": message}, "stopReason": stop_reason, "usage": {"inputTokens": 10}, **more}


def xai_said(*outputs: dict[str, Any]) -> XAIResponse:
    """A response as xAI's SDK gives it; a reason to stop is a number."""
    made = [{"message": {"content": each.pop("content", "")}, "finish_reason": 3, **each} for each in outputs]
    return XAIResponse(chat_pb2.GetChatCompletionResponse(id="x1", outputs=made), None)


def xai_called(id_: str, name: str, arguments: str, kind: int = 1) -> dict[str, Any]:
    """A tool call of a client's, or of xAI's own where it is of another kind."""
    return {"id": id_, "type": kind, "function": {"name": name, "arguments": arguments}}


def cohere_said(message: dict[str, Any], finish: str = "COMPLETE") -> cohere_sdk.V2ChatResponse:
    """A response as Cohere's SDK gives it."""
    tokens = {"input_tokens": 10, "output_tokens": 5}
    return cohere_sdk.V2ChatResponse.construct(id="c1", finish_reason=finish, message=message, usage={"tokens": tokens})


def mistral_said(said: ChatCompletion) -> ChatCompletionResponse:
    """The same completion as Mistral's SDK gives it."""
    return ChatCompletionResponse.model_validate(said.model_dump())


def writer_said(said: ChatCompletion) -> WriterCompletion:
    """The same completion as Writer's SDK gives it."""
    return WriterCompletion.construct(**said.model_dump())


WRONG = {"name": "Ann", "age": "old"}
CALL = {"id": "t1", "name": "User"}


def by_calls(*calls: dict[str, Any]) -> dict[str, Any]:
    """A completion of each dialect that makes these calls, with the wrong arguments."""
    functions = [{"name": call["name"], "arguments": json.dumps(WRONG)} for call in calls]
    called = [
        {"id": call["id"], "type": "function", "function": each} for call, each in zip(calls, functions, strict=True)
    ]
    thinking = {"type": "thinking", "thinking": "Who is it?", "signature": "c2ln"}
    used = [{"type": "tool_use", **call, "input": WRONG} for call in calls]
    parts = [{"function_call": {**call, "args": WRONG}} for call in calls]
    reasons = {"reasoningContent": {"reasoningText": {"text": "Who is it?", "signature": "c2ln"}}}
    uses = [{"toolUse": {"toolUseId": call["id"], "name": call["name"], "input": WRONG}} for call in calls]
    grok = [xai_called(call["id"], call["name"], json.dumps(WRONG)) for call in calls]
    said = openai_said({"content": None, "tool_calls": called}, "tool_calls")
    thought = {"type": "thinking", "thinking": "Who is it?"}
    return {
        "openai": said,
        "mistral": mistral_said(said),
        "writer": writer_said(said),
        "cohere": cohere_said({"content": [thought], "tool_plan": "I call.", "tool_calls": called}, "TOOL_CALL"),
        "bedrock": bedrock_said([reasons, {"text": "Here you are."}, *uses], "tool_use"),
        "xai": xai_said({"message": {"tool_calls": grok}}),
        "anthropic": anthropic_said([thinking, {"type": "text", "text": "Here you are."}, *used], "tool_use"),
        "google": google_said([{"text": "Who is it?", "thought": True}, *parts]),
    }


BY_CALL = by_calls(CALL)
BY_CALLS = by_calls(CALL, {"id": "t2", "name": "Address"})
IN_WORDS = openai_said({"content": json.dumps(WRONG)})
IN_TEXT = {
    "openai": IN_WORDS,
    "mistral": mistral_said(IN_WORDS),
    "writer": writer_said(IN_WORDS),
    "cohere": cohere_said({"content": [{"type": "text", "text": json.dumps(WRONG)}]}),
    "anthropic": anthropic_said([{"type": "text", "text": json.dumps(WRONG)}]),
    "google": google_said([{"text": json.dumps(WRONG)}]),
    "bedrock": bedrock_said([{"text": json.dumps(WRONG)}]),
    "xai": xai_said({"content": json.dumps(WRONG)}),
}


def shape_in(mode: Mode) -> Shape | None:
    """What is asked for in a mode: a model, or a list of two."""
    return SEVERAL if mode is Mode.PARALLEL_TOOLS else SHAPE


def said_badly(dialect: Dialect, mode: Mode) -> Any:
    """A completion whose payload is where `mode` looks for it, and wrong."""
    if mode is Mode.PARALLEL_TOOLS:
        return BY_CALLS[dialect.name]
    return (BY_CALL if mode in CALLED else IN_TEXT)[dialect.name]


def ask_again(dialect: Dialect, mode: Mode, asked: dict[str, Any], completion: Any) -> dict[str, Any]:
    """The request that follows `completion`."""
    return dialect.reask(asked, completion, dialect.read(completion), PROBLEM, mode)


class TestEveryDialect(DialectContract):
    """The rules that are shipped for those who write one hold for ours.

    Cohere's, Bedrock's and xAI's events are heard in the tests of what was recorded.
    """

    payload = WRONG

    @pytest.fixture(autouse=True, params=DIALECTS)
    def _speak(self, request):
        self.dialect = DIALECTS[request.param]

    def said(self, mode):
        return said_badly(self.dialect, mode)

    def events(self, mode):
        text = json.dumps(self.payload)
        pieces = [text[:9], text[9:]]
        made = EVENTS.get({"mistral": "openai", "writer": "openai"}.get(self.dialect.name, self.dialect.name))
        return (made([], [pieces]) if mode in CALLED else made(pieces, [])) if made else []


def other(**verbs: Any) -> Any:
    """OpenAI's dialect with a fault."""
    return SimpleNamespace(**{**vars(openai), "modes": frozenset({Mode.TOOLS}), **verbs})


def asks_in_place(kwargs: Any, shape: Shape | None, mode: Mode) -> dict[str, Any]:
    """What no dialect may do."""
    kwargs["messages"].append({"role": "user", "content": "name and age, please"})
    return openai.ask(kwargs, shape, mode)


class Deaf(openai.Listener):
    def hear(self, event):
        return ""


FAULTS = {
    "nothing_given_is_changed": other(ask=asks_in_place),
    "a_plain_question_asks_for_nothing": other(
        modes=frozenset({Mode.TOOLS, Mode.JSON}), ask=lambda kwargs, shape, mode: {**kwargs, "mode": mode}
    ),
    "the_fields_are_asked_for": other(ask=lambda kwargs, shape, mode: dict(kwargs)),
    "what_was_said_is_read": other(read=lambda completion: Reply(text="{}")),
    "an_error_is_told_of": other(reask=lambda kwargs, *_: dict(kwargs)),
    "what_says_nothing_is_no_answer": other(read=lambda completion: Reply(text=str(completion))),
    "pieces_add_up": other(Listener=Deaf),
}


@pytest.mark.parametrize("rule", [name.removeprefix("test_") for name in vars(DialectContract) if "test_" in name])
def test_the_contract_finds_each_fault(rule):
    """Every rule fails for a dialect that breaks it."""
    suite = TestEveryDialect()
    suite.dialect = FAULTS[rule]

    with pytest.raises((AssertionError, ValueError)):
        getattr(suite, f"test_{rule}")()


def test_a_contract_without_an_answer_says_what_is_missing():
    """Who inherits the contract and forgets `said` reads so in the error."""
    with pytest.raises(NotImplementedError, match=r"DialectContract needs a said\(mode\)"):
        DialectContract().said(Mode.JSON)


@every_way
def test_requests_are_those_that_were_reviewed(dialect, mode):
    """A dialect sends what its golden files say, the first time and after a bad answer, until its version changes."""
    asked = dialect.ask(QUESTION, shape_in(mode), mode)
    again = ask_again(dialect, mode, asked, said_badly(dialect, mode))
    said, *words = (again.get("messages") or again["contents"])[len(asked.get("messages") or asked["contents"]) :]

    golden.check(dialect, mode.name, {"ask": asked, "reask adds": [said, *words]})


def test_every_golden_file_is_of_a_dialect_and_a_mode():
    """No golden file outlives what it is of; how media are sent is in one for each dialect that knows them."""
    every = (*DIALECTS.values(), responses)
    expected = {f"{dialect.name}/{mode.name.lower()}.json" for dialect in every for mode in dialect.modes}
    expected |= {f"{name}/media.json" for name in PARTS}

    assert expected == {path.relative_to(golden.HERE).as_posix() for path in golden.HERE.rglob("*.json")}


@pytest.mark.parametrize(("kept", "version", "says"), [("old", 1, "bump its version"), ("old", 2, "GOLDEN_UPDATE=1")])
def test_a_request_changes_only_with_the_version(tmp_path, monkeypatch, kept, version, says):
    """The same version with another request asks for a bump; another version asks for a review."""
    monkeypatch.setattr(golden, "HERE", tmp_path)
    monkeypatch.setenv("GOLDEN_UPDATE", "1")
    golden.check(SimpleNamespace(name="d", version=1), "TOOLS", {"ask": kept})
    monkeypatch.delenv("GOLDEN_UPDATE")

    with pytest.raises((AssertionError, pytest.fail.Exception), match=says):
        golden.check(SimpleNamespace(name="d", version=version), "TOOLS", {"ask": "new"})


@every_way
def test_sdks_take_what_they_are_asked(dialect, mode):
    """Every argument is one that the SDK knows; Google's SDK also checks what is in them."""
    asked = dialect.ask(QUESTION, shape_in(mode), mode)

    for request in (asked, ask_again(dialect, mode, asked, said_badly(dialect, mode))):
        if dialect.name in TAKES:
            TAKES[dialect.name](request)
        else:
            inspect.signature(CREATE[dialect.name]).bind(None, **request)


def google_takes(request: dict[str, Any]) -> None:
    """Have the SDK's types validate a whole request."""
    assert {"model", "contents", "config"} == set(request)
    types.GenerateContentConfig.model_validate(request["config"])
    for content in request["contents"]:
        types.Content.model_validate(content)


CONVERSE = boto3.client("bedrock-runtime", region_name="r", aws_access_key_id="k", aws_secret_access_key="s")


def bedrock_takes(request: dict[str, Any]) -> None:
    """Have boto3 check a whole request, and send none."""
    operation = CONVERSE.meta.service_model.operation_model("Converse")
    report = ParamValidator().validate(request, operation.input_shape)
    assert not report.has_errors(), report.generate_report()


def xai_takes(request: dict[str, Any]) -> None:
    """Have the SDK make protobuf messages of a whole request."""
    with closing(XAIClient(api_key="k")) as client:
        sent = xai._chat(client, request).proto
    assert [f"ROLE_{each['role'].upper()}" for each in request["messages"]] == [
        chat_pb2.MessageRole.Name(each.role) for each in sent.messages
    ]
    assert [each["function"]["parameters"] for each in request.get("tools", ())] == [
        json.loads(each.function.parameters) for each in sent.tools
    ]


TAKES = {"google": google_takes, "bedrock": bedrock_takes, "xai": xai_takes}
CREATE = {
    "openai": openai_sdk.resources.chat.Completions.create,
    "anthropic": anthropic_sdk.resources.Messages.create,
    "cohere": cohere_sdk.ClientV2.chat,
    "mistral": Chat.complete,
    "writer": ChatResource.chat,
}


# What users write: any roles in any order, text or parts, and settings in OpenAI's words.

texts = st.text(max_size=8)
contents = texts | st.lists(st.builds(lambda text: {"type": "text", "text": text}, texts), max_size=2) | st.none()
calls = st.just([{"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}])
messages = st.one_of(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "developer", "user", "assistant"]), "content": texts | contents}
    ),
    st.fixed_dictionaries({"role": st.just("assistant"), "content": contents, "tool_calls": calls}),
    st.fixed_dictionaries({"role": st.just("tool"), "content": texts, "tool_call_id": st.just("t1")}),
)
questions = st.fixed_dictionaries(
    {"model": st.just("m"), "messages": st.lists(messages, max_size=5)},
    optional={
        "temperature": st.floats(0, 2),
        "max_tokens": st.integers(1, 99),
        "stop": texts | st.lists(texts, max_size=2),
        "extra_body": st.just({"a": {"b": 1}}),
        "system": texts | st.just([{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}]),
        "thinking": st.just({"type": "enabled", "budget_tokens": 1024}),
        "config": st.just({"labels": {"a": "b"}, "http_options": {"headers": {"x": "y"}}, "tools": []}),
    },
)


@settings(deadline=None)
@given(kwargs=questions, mode=st.sampled_from(MODES), shape=st.sampled_from([None, SHAPE, SEVERAL]))
@every_dialect
def test_nothing_given_is_changed(dialect, kwargs, mode, shape):
    """Asking and asking again leave the question, the shape and the completion as they were."""
    completion = said_badly(dialect, mode)
    said = getattr(completion, "proto", completion)  # xAI's is a coat around that, and equal to nothing
    given_ = copy.deepcopy((kwargs, SHAPE.schema, SHAPE.parameters, said))
    asked = dialect.ask(kwargs, shape, mode)
    sent = copy.deepcopy(asked)

    ask_again(dialect, mode, asked, completion)

    assert given_ == (kwargs, SHAPE.schema, SHAPE.parameters, said)
    assert sent == asked


HELLO = [{"role": "user", "content": "hello"}]
NATIVE = {
    "cohere": {"model": "m", "messages": HELLO, "p": 0.5, "stop_sequences": ["."], "request_options": {"timeout": 5}},
    "mistral": {"model": "m", "messages": HELLO, "random_seed": 1, "timeout_ms": 5, "max_tokens": 9},
    "writer": {"model": "m", "messages": HELLO, "top_p": 0.5},
    "openai": {"model": "m", "messages": HELLO, "temperature": 0, "tools": [], "extra_body": {"a": 1}},
    "anthropic": {"model": "m", "messages": HELLO, "system": "be kind", "max_tokens": 5, "stop_sequences": ["."]},
    "google": {"model": "m", "contents": "hello", "config": {"temperature": 0, "top_k": 3}},
    "bedrock": {
        "modelId": "m",
        "messages": [{"role": "user", "content": [{"text": "hello"}]}],
        "system": [{"text": "be kind"}, {"cachePoint": {"type": "default"}}],
        "inferenceConfig": {"maxTokens": 5},
        "guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1"},
    },
    "xai": {"model": "m", "messages": HELLO, "temperature": 0, "seed": 1, "reasoning_effort": "low"},
}


@every_way
def test_plain_questions_pass_as_they_are(dialect, mode):
    """Without a shape, a question in the SDK's own words is sent in these words."""
    kwargs = NATIVE[dialect.name]

    assert kwargs == dialect.ask(kwargs, None, mode)


@pytest.mark.parametrize(
    ("dialect", "completion"),
    [
        *(("openai", ChatCompletion.construct(**fields)) for fields in (
            {}, {"choices": None}, {"choices": []}, {"choices": [{"message": None}]}, {"choices": [{}]},
            {"error": {"message": "no"}}, {"choices": [{"message": {"content": 7}}]},
            {"choices": [{"message": {"content": None, "tool_calls": [{"id": None, "function": None}, None]}}]},
        )),
        *(("anthropic", Message.construct(**fields)) for fields in (
            {}, {"content": None}, {"content": []}, {"content": "text"}, {"content": [None, {"type": "new"}]},
            {"content": [{"type": "text", "text": None}]}, {"type": "error", "error": {"message": "no"}},
        )),
        *(("google", types.GenerateContentResponse.model_validate(fields)) for fields in (
            {}, {"candidates": None}, {"candidates": []}, {"candidates": [{}]}, {"candidates": [{"content": None}]},
            {"candidates": [{"content": {}}]}, {"candidates": [{"content": {"parts": [{}]}}]},
        )),
        *(("bedrock", fields) for fields in (
            {"output": None}, {"output": {}}, {"output": {"message": {"content": None}}},
            {"output": {"message": {"content": [{}, {"text": ""}, {"citationsContent": {}}]}}},
        )),
        ("xai", XAIResponse(chat_pb2.GetChatCompletionResponse(), None)),
        *(("cohere", cohere_sdk.V2ChatResponse.construct(**fields)) for fields in (
            {}, {"message": None}, {"message": {}}, {"message": {"content": None}}, {"message": {"content": "text"}},
            {"message": {"content": [None, {"type": "new"}], "tool_calls": None}},
        )),
        *((name, None) for name in DIALECTS),
        *((name, {}) for name in DIALECTS),
        *((name, SimpleNamespace()) for name in DIALECTS),
    ],
)  # fmt: skip
def test_an_odd_completion_has_said_nothing(dialect, completion):
    """Whatever a provider leaves out, reading raises nothing, and one can go on."""
    reply = DIALECTS[dialect].read(completion)
    ask_again(DIALECTS[dialect], Mode.JSON, DIALECTS[dialect].ask(QUESTION, SHAPE, Mode.JSON), completion)

    expected = ("", (), "stop")
    assert expected == (reply.text or "", reply.calls, reply.finish)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"a": 1}, '{"a": 1}'),
        ([{"type": "thinking"}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab"),
    ],
)
def test_openai_is_imitated_with_parts_and_with_data(content, text):
    """Text may come in parts, and JSON decoded; so may arguments, and none at all are an empty object."""
    functions = [{"name": "f", "arguments": {"a": 1}}, {"name": "f", "arguments": None}]
    message = {"content": content, "tool_calls": [{"id": "t1", "function": function} for function in functions]}
    reply = openai.read(ChatCompletion.construct(choices=[{"message": message}]))

    expected = (text, (Call("t1", "f", '{"a": 1}'), Call("t1", "f", "{}")))
    assert expected == (reply.text, reply.calls)


def test_openai_filters_may_leave_no_message():
    """Azure's content filter takes the message away; what is left says that it was the filter."""
    reply = openai.read(ChatCompletion.construct(choices=[{"index": 0, "finish_reason": "content_filter"}]))

    assert reply == Reply(finish="refusal")


def test_cohere_is_told_in_its_own_words():
    """Settings in OpenAI's words are translated; how to send it goes where the SDK takes it, and what is there wins."""
    given_ = {"top_p": 0.5, "top_k": 3, "stop": ".", "max_completion_tokens": 7, "seed": 1, "temperature": None}
    sent = {"timeout": 5, "extra_headers": {"a": "b"}, "request_options": {"max_retries": 0, "timeout_in_seconds": 9}}
    messages_ = [{"role": "developer", "content": "be brief"}, *HELLO]
    asked = cohere.ask({"messages": messages_, **given_, **sent}, None, Mode.TOOLS)

    expected = {
        "messages": [{"role": "system", "content": "be brief"}, *HELLO],
        "p": 0.5,
        "k": 3,
        "stop_sequences": ["."],
        "max_tokens": 7,
        "seed": 1,
        "request_options": {"timeout_in_seconds": 9, "additional_headers": {"a": "b"}, "max_retries": 0},
    }
    assert expected == asked


def test_cohere_counts_tokens_and_what_it_bills():
    """Usages add up field by field; a budget is kept with the tokens of both directions."""
    usage = cohere_said({}).usage
    total = add(usage, usage)

    assert (15, 30) == (tokens(usage), tokens(total))
    assert type(usage) is type(total)


def test_mistral_is_told_in_its_own_words():
    """Settings in OpenAI's words are translated; Mistral's client counts milliseconds."""
    given_ = {"seed": 1, "max_completion_tokens": 7, "timeout": 0.5, "extra_headers": {"a": "b"}, "stop": "."}
    messages_ = [{"role": "developer", "content": "be brief"}, *HELLO]
    asked = mistral.ask({"messages": messages_, **given_}, None, Mode.TOOLS)

    expected = {"random_seed": 1, "max_tokens": 7, "timeout_ms": 500, "http_headers": {"a": "b"}, "stop": "."}
    assert {"messages": [{"role": "system", "content": "be brief"}, *HELLO], **expected} == asked


def test_a_schema_that_is_open_is_not_called_exact():
    """Where a schema lets anything in, Mistral and Cohere are given it as it is, and nothing is called strict."""
    shape = compile_shape(create_model("Open", things=(dict[str, Any], ...)))
    plain = {"schema": shape.schema}

    assert plain.items() <= mistral.ask(QUESTION, shape, Mode.JSON_SCHEMA)["response_format"]["json_schema"].items()
    assert "strict" not in mistral.ask(QUESTION, shape, Mode.JSON_SCHEMA)["response_format"]["json_schema"]
    assert plain.items() <= cohere.ask(QUESTION, shape, Mode.JSON_SCHEMA)["response_format"].items()
    assert "strict_tools" not in cohere.ask(QUESTION, shape, Mode.TOOLS_STRICT)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        *(("COMPLETE", "stop"), ("STOP_SEQUENCE", "stop"), ("TOOL_CALL", "stop")),
        *(("MAX_TOKENS", "length"), ("ERROR", "length"), ("TIMEOUT", "length"), ("ERROR_TOXIC", "refusal")),
    ],
)
def test_cohere_finish_reasons(reason, finish):
    """What cuts an answer short makes it incomplete; a filter's word for it is what was said."""
    reply = cohere.read(cohere_said({"content": [{"type": "text", "text": "so"}]}, reason))

    assert (finish, "so" if finish == "refusal" else None) == (reply.finish, reply.refusal)


def test_anthropic_answers_are_limited_by_default():
    """The API insists on a limit; the caller's own is kept, under either name."""
    limits = [
        anthropic.ask({"messages": [], **given_}, None, Mode.TOOLS)["max_tokens"]
        for given_ in ({}, {"max_tokens": None}, {"max_tokens": 7}, {"max_completion_tokens": 8})
    ]

    expected = [anthropic.MAX_TOKENS, anthropic.MAX_TOKENS, 7, 8]
    assert expected == limits


def test_anthropic_sampling_travels_in_the_body():
    """SDKs that take `temperature` and those that do not send the same request; a body given by hand wins."""
    asked = anthropic.ask({"messages": [], "temperature": 0, "top_p": 0.5, "extra_body": {"top_p": 1}}, None, Mode.JSON)

    expected = {"temperature": 0, "top_p": 1}
    assert expected == asked["extra_body"]
    assert not {"temperature", "top_p"} & set(asked)


@pytest.mark.parametrize("thinking", [{"type": "enabled", "budget_tokens": 1024}, {"type": "adaptive"}])
def test_anthropic_does_not_force_a_model_that_thinks(thinking):
    """The tool is asked for in words, because the API refuses to force it."""
    asked = anthropic.ask({**QUESTION, "thinking": thinking}, SHAPE, Mode.TOOLS)

    expected = {"type": "auto", "disable_parallel_tool_use": True}
    assert expected == asked["tool_choice"]
    assert asked["system"].endswith("Answer by calling the tool `User` once, and with nothing else.")


def test_anthropic_forces_a_model_whose_thinking_is_off():
    """Thinking that is named only to be disabled changes nothing."""
    asked = anthropic.ask({**QUESTION, "thinking": {"type": "disabled"}}, SHAPE, Mode.TOOLS)

    assert asked["tool_choice"]["type"] == "tool"


def test_anthropic_keeps_system_blocks():
    """A cached system block stays a block, and the words of messages and schema follow it."""
    block = {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}
    asked = anthropic.ask({**QUESTION, "system": [block]}, SHAPE, Mode.JSON)

    assert [block, {"type": "text", "text": "You extract people."}] == asked["system"][:2]
    assert "JSON schema" in asked["system"][2]["text"]


@every_dialect
def test_system_parts_stand_side_by_side(dialect):
    """A system message made of parts, and one that says nothing, are told like any other."""
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages_ = [{"role": "system", "content": parts}, {"role": "developer", "content": None}, *HELLO]
    asked = dialect.ask({"model": "m", "messages": messages_}, None, Mode.JSON)

    blocks = [{"text": "a"}, {"text": "b"}]
    expected = {"anthropic": parts, "google": "a\n\nb", "bedrock": blocks}.get(dialect.name)
    assert expected == asked.get("system", asked.get("config", {}).get("system_instruction"))


@pytest.mark.parametrize(
    ("dialect", "message"),
    [
        (anthropic, SimpleNamespace(role="user", content="hello")),
        (google, types.Content(role="user", parts=[types.Part(text="hello")])),
        (google, {"role": "user", "parts": [{"text": "hello"}]}),
    ],
)
def test_messages_in_the_sdks_own_form_pass_as_they_are(dialect, message):
    """Only what is written as OpenAI writes it is translated."""
    asked = dialect.ask({"model": "m", "messages": [message]}, None, Mode.JSON)

    assert [message] == (asked.get("messages") or asked["contents"])


def test_anthropic_keeps_the_rest_of_an_output_config():
    """The format stands beside what the user said of the output."""
    asked = anthropic.ask({**QUESTION, "output_config": {"effort": "low"}}, SHAPE, Mode.JSON_SCHEMA)

    assert {"effort", "format"} == set(asked["output_config"])


# Schemas: what an API does not take is told in words, and what it cannot hold an answer to is not sent as exact.

WIDE = {
    "type": "object",
    "properties": {
        "minimum": {"type": "integer", "minimum": 1, "description": "the least"},
        "either": {"oneOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}], "discriminator": {}},
        "when": {"type": "string", "format": "date"},
        "where": {"type": "string", "format": "uri"},
        "some": {"type": "array", "items": {"$ref": "#/$defs/A"}, "minItems": 1, "uniqueItems": True},
        "one": {"allOf": [{"$ref": "#/$defs/A"}], "title": "One"},
        "other": {"$ref": "#/$defs/A", "description": "the other", "default": None},
        "const": {"const": "x", "type": "string"},
        "yes": {"const": True, "type": "boolean"},
    },
    "$defs": {
        "A": {"type": "object", "properties": {}},
        "B": {"type": "object", "properties": {}, "additionalProperties": False},
    },
}
SOME = {"type": "array", "items": {"$ref": "#/$defs/A"}}
FITTED: dict[str, tuple[Any, dict[str, Any]]] = {
    "openai": (OPENAI, {
        "minimum": {"type": "integer", "minimum": 1, "description": "the least"},
        "where": {"type": "string", "description": '{format: "uri"}'},
        "some": {**SOME, "minItems": 1, "description": "{uniqueItems: true}"},
    }),
    "anthropic": (ANTHROPIC, {
        "minimum": {"type": "integer", "description": "the least\n\n{minimum: 1}"},
        "some": {**SOME, "minItems": 1, "description": "{uniqueItems: true}"},
    }),
    "google": (GOOGLE, {
        "some": {**SOME, "minItems": 1, "description": "{uniqueItems: true}"},
        "const": {"enum": ["x"], "type": "string"},
        "yes": {"type": "boolean", "description": "{const: true}"},
    }),
}  # fmt: skip


@pytest.mark.parametrize(("subset", "changed"), FITTED.values(), ids=FITTED)
def test_schemas_are_said_in_the_words_that_an_api_takes(subset, changed):
    """References stand alone, unions are `anyOf`, the rest is told; a property may have the name of a keyword."""
    kept = copy.deepcopy(WIDE)
    ends = {"additionalProperties": False} if subset.exact else {}
    ends |= {"required": []} if subset is OPENAI else {}
    expected = {
        "type": "object",
        "properties": {
            **WIDE["properties"],
            "either": {"anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}]},
            "one": {"anyOf": [{"$ref": "#/$defs/A"}], "title": "One"},
            "other": {"anyOf": [{"$ref": "#/$defs/A"}], "description": "the other\n\n{default: null}"},
            **changed,
        },
        "$defs": {name: {**part, **ends} for name, part in WIDE["$defs"].items()},
        **ends,
    }
    if subset is OPENAI:
        expected["required"] = list(WIDE["properties"])

    assert expected == fit(WIDE, subset)
    assert kept == WIDE


class Tree(BaseModel):
    """What has parts like itself."""

    parts: list["Tree"] = []


class Table(BaseModel):
    """A value for every name."""

    rows: dict[str, int]


class Open(BaseModel, extra="allow"):
    """What may hold more than it says."""

    name: str


class Pair(BaseModel):
    """Values by their place."""

    both: tuple[int, str]


class Anything(BaseModel):
    """A value of any kind."""

    value: Any


class Patterned(BaseModel):
    """A value for names of a kind."""

    rows: dict[Annotated[str, StringConstraints(pattern="^a")], int]


OPEN = (Table, Open, Pair, Anything, Patterned)


@pytest.mark.parametrize("model", [Tree, *OPEN])
def test_what_no_api_holds_an_answer_to_is_asked_for_all_the_same(model):
    """A schema without an exact form goes as a plain tool or in words; OpenAI takes a recursive one."""
    shape = compile_shape(model)
    ours = openai.ask(QUESTION, shape, Mode.TOOLS_STRICT)["tools"][0]["function"]

    assert (model is Tree) == ours.get("strict", False)
    assert model is Tree or shape.parameters == ours["parameters"]
    expected = anthropic.ask(QUESTION, shape, Mode.TOOLS)
    assert expected == anthropic.ask(QUESTION, shape, Mode.TOOLS_STRICT)
    expected = anthropic.ask(QUESTION, shape, Mode.JSON)
    assert expected == anthropic.ask(QUESTION, shape, Mode.JSON_SCHEMA)


def test_google_takes_open_schemas():
    """Its subset knows mappings, tuples and free values."""
    expected = [schema_of(model)["properties"] for model in (Table, Pair, Anything)]

    assert expected == [fit(schema_of(model), GOOGLE)["properties"] for model in (Table, Pair, Anything)]


def test_anthropic_thoughts_are_not_the_answer():
    """Text is that of the text blocks, a call's arguments are JSON text, and the usage is the SDK's own."""
    completion = BY_CALL["anthropic"]

    expected = Reply("Here you are.", (Call("t1", "User", json.dumps(WRONG)),), "stop", None, completion.usage)
    assert expected == anthropic.read(completion)


@pytest.mark.parametrize(
    ("stop", "finish"),
    [
        ("end_turn", "stop"), ("tool_use", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"), ("pause_turn", "length"), ("refusal", "refusal"),
    ],
)  # fmt: skip
def test_anthropic_stop_reasons(stop, finish):
    """Whatever cuts an answer short makes it incomplete."""
    assert finish == anthropic.read(anthropic_said([], stop)).finish


@pytest.mark.parametrize(
    ("details", "words"), [({"type": "refusal", "explanation": "not that"}, "not that"), (None, "I would rather not.")]
)
def test_anthropic_refusals_have_words(details, words):
    """They are the API's explanation, or else what the model said."""
    text = {"type": "text", "text": "I would rather not."}

    assert words == anthropic.read(anthropic_said([text], "refusal", stop_details=details)).refusal


def test_anthropic_gets_its_own_blocks_back():
    """Signed thoughts come back as they were, blank texts (which the API refuses) do not."""
    blocks = [*BY_CALL["anthropic"].content, {"type": "text", "text": " \n"}]
    completion = anthropic_said([block if isinstance(block, dict) else block.model_dump() for block in blocks])
    said, answer = ask_again(anthropic, Mode.TOOLS, {"messages": []}, completion)["messages"]

    expected = {"type": "thinking", "thinking": "Who is it?", "signature": "c2ln"}
    assert expected == said["content"][0]
    expected = ["thinking", "text", "tool_use"]
    assert expected == [block["type"] for block in said["content"]]
    expected = ("t1", True)
    assert expected == (answer["content"][0]["tool_use_id"], answer["content"][0]["is_error"])


def test_google_settings_are_translated():
    """OpenAI's names become Google's; a name that Google does not know is left for the SDK to refuse."""
    named = {
        "max_tokens": 5, "temperature": 0, "top_p": 0.5, "n": 2, "stop": ".", "seed": 3,
        "presence_penalty": 1, "frequency_penalty": 2, "timeout": 1.5, "extra_headers": {"x": "y"}, "user": "u",
    }  # fmt: skip
    config = {
        "max_output_tokens": 5, "temperature": 0, "top_p": 0.5, "candidate_count": 2, "stop_sequences": ["."],
        "seed": 3, "presence_penalty": 1, "frequency_penalty": 2,
        "http_options": {"timeout": 1500, "headers": {"x": "y"}},
    }  # fmt: skip

    expected = {"user": "u", "contents": [{"role": "user", "parts": [{"text": "hello"}]}], "config": config}
    assert expected == google.ask({"messages": HELLO, **named}, None, Mode.JSON)


@pytest.mark.parametrize("kind", [dict, types.GenerateContentConfig])
def test_google_config_is_honoured(kind):
    """The user's config wins over OpenAI's names, keeps what it holds, and comes to no harm."""
    options = types.HttpOptions(timeout=3)
    config = kind(temperature=1, system_instruction="be brief", http_options=options, labels={"a": "b"})
    before = copy.deepcopy(config)
    made = google.ask({**QUESTION, "config": config}, SHAPE, Mode.TOOLS)["config"]

    expected = "be brief\n\nYou extract people."
    assert expected == made["system_instruction"]
    assert (1, options, {"a": "b"}, 200) == tuple(
        made[key] for key in ("temperature", "http_options", "labels", "max_output_tokens")
    )
    assert before == config


def test_google_takes_one_schema():
    """Ours replaces the one that the user's config names in another way."""
    made = google.ask({**QUESTION, "config": {"response_schema": User}}, SHAPE, Mode.JSON_SCHEMA)["config"]

    assert "response_schema" not in made


@pytest.mark.parametrize(
    "given_",
    [
        {"HARM_CATEGORY_HARASSMENT": "BLOCK_NONE"},
        [{"category": types.HarmCategory.HARM_CATEGORY_HARASSMENT, "threshold": "BLOCK_NONE"}],
        [types.SafetySetting(category="HARM_CATEGORY_HARASSMENT", threshold="BLOCK_NONE")],
    ],
)
def test_google_filters_are_off_unless_set(given_):
    """What is set stays set, once; the other categories of text are not filtered."""
    made = google.ask({**QUESTION, "safety_settings": given_}, SHAPE, Mode.JSON)["config"]
    settings = types.GenerateContentConfig.model_validate(made).safety_settings

    thresholds = {setting.category.value: setting.threshold.value for setting in settings}
    expected = ("BLOCK_NONE", "OFF")
    assert expected == (thresholds["HARM_CATEGORY_HARASSMENT"], thresholds["HARM_CATEGORY_HATE_SPEECH"])
    assert len(thresholds) == len(settings) == 5


@pytest.mark.parametrize("contents", ["hello", ["hello", types.Part(text="there")]])
def test_google_contents_pass_as_they_are(contents):
    """Contents in the SDK's own words stay; a re-ask goes on after them."""
    asked = google.ask({"model": "m", "contents": contents}, SHAPE, Mode.JSON)
    again = ask_again(google, Mode.JSON, asked, IN_TEXT["google"])["contents"]

    assert contents == asked["contents"]
    assert (listed(contents), "model", "user") == (again[:-2], again[-2]["role"], again[-1]["role"])


def test_google_contents_follow_the_messages():
    """Where there are both, both are asked."""
    asked = google.ask({"messages": HELLO, "contents": "there"}, None, Mode.JSON)

    expected = [{"role": "user", "parts": [{"text": "hello"}]}, "there"]
    assert expected == asked["contents"]


def test_google_thoughts_are_not_the_answer():
    """Text is that of the parts that are not thoughts, and a call's arguments are JSON text."""
    assert Reply(None, (Call("t1", "User", json.dumps(WRONG)),)) == google.read(BY_CALL["google"])


@pytest.mark.parametrize("reason", [*types.FinishReason])
def test_google_finish_reasons(reason):
    """What cuts an answer short makes it incomplete; what is not known to be harmless is a filter's doing."""
    name = reason.value
    done = {"STOP", "FINISH_REASON_UNSPECIFIED"} | {
        "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MALFORMED_RESPONSE",
        "MISSING_THOUGHT_SIGNATURE",
    }  # fmt: skip
    short = {"MAX_TOKENS", "CONTINUATION"}
    reply = google.read(google_said([{"text": "so"}], name))

    expected = ("stop", None) if name in done else ("length", None) if name in short else ("refusal", name)
    assert expected == (reply.finish, reply.refusal)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt_feedback": {"block_reason": "SAFETY"}}, "SAFETY"),
        ({"prompt_feedback": {"block_reason": "OTHER", "block_reason_message": "not that"}}, "not that"),
        ({"candidates": [{"finish_reason": "RECITATION", "finish_message": "a song"}]}, "a song"),
    ],
)
def test_google_refusals_have_words(fields, words):
    """They are the API's message, or else its reason."""
    reply = google.read(types.GenerateContentResponse.model_validate(fields))

    assert ("refusal", words) == (reply.finish, reply.refusal)


def test_google_gets_its_own_parts_back():
    """Signed thoughts come back as they were, byte for byte, and the error answers the call by its id."""
    part = {"function_call": {"id": "t1", "name": "User", "args": {"a": None}}, "thought_signature": b"\xff\x00"}
    said, answer = ask_again(google, Mode.TOOLS, {"contents": []}, google_said([part]))["contents"]

    assert {"role": "model", "parts": [part]} == said
    expected = ("t1", "User")
    assert expected == tuple(answer["parts"][0]["function_response"][key] for key in ("id", "name"))


# Recorded traffic: what real providers said, and an independent reading of it.


def parse_google(**fields: Any) -> types.GenerateContentResponse:
    """As the SDK itself does, leaving out what is newer than its types (`serviceTier`), which validation refuses."""
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=fields))
    with httpx.Client(transport=transport) as http:
        client = genai.Client(api_key="k", http_options=types.HttpOptions(httpx_client=http))
        return client.models.generate_content(model="m", contents="hello")


RECORDED = Path(__file__).parents[2] / "shared" / "recorded"
READERS = {
    "openai_chat": (openai, ChatCompletion.construct),
    "groq": (openai, GroqCompletion.construct),
    "anthropic": (anthropic, Message.construct),
    "google_genai": (google, parse_google),
    "cohere": (cohere, cohere_sdk.V2ChatResponse.construct),
    "mistral": (mistral, ChatCompletionResponse),
}
FINISH = {"length": "length", "max_tokens": "length", "MAX_TOKENS": "length", "SAFETY": "refusal"}


def recorded() -> list[Any]:
    """The whole, good answers of the families whose SDKs are tested; none where the folder is absent."""
    exchanges = [
        (name, exchange)
        for name in READERS
        if (RECORDED / f"{name}.json").exists()
        for exchange in json.loads((RECORDED / f"{name}.json").read_text("utf-8"))
        if exchange.get("api") != "v1/chat"  # Cohere's older one
    ]
    answered = [(n, e) for n, e in exchanges if e["response"]["status"] == 200 and not e["stream"]]
    missing = pytest.param("", None, marks=pytest.mark.skip(reason="../shared/recorded is not beside this checkout"))
    return [pytest.param(name, e, id=f"{name}-{e['id']}") for name, e in answered] or [missing]


@pytest.mark.parametrize(("name", "exchange"), recorded())
def test_recorded_answers_are_read_as_they_were_meant(name, exchange):
    """Text, tool calls, finish and refusal are those of the independent reading of the same bytes."""
    dialect, parse = READERS[name]
    reply = dialect.read(parse(**json.loads(exchange["response"]["body"])))
    meant = exchange["reading"]

    assert meant["text"] == (reply.text or "")
    assert [(call["name"], data(call["arguments"])) for call in meant["tool_calls"]] == [
        (call.name, data(call.arguments)) for call in reply.calls
    ]
    assert ("refusal" if meant["refusal"] else FINISH.get(meant["finish"], "stop")) == reply.finish
    # A filter says no words: where Google stops for safety, ours are its reason, and the reading has none.
    assert meant["refusal"] == (None if meant["finish"] == "SAFETY" else reply.refusal)
    assert reply.usage is not None


def data(arguments: Any) -> Any:
    """Arguments as data, where they are whole; a truncated call's are compared as text."""
    try:
        return json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        return arguments


# AWS Bedrock.


def test_bedrock_speaks_converse():
    """What is written in OpenAI's words becomes converse's: roles take turns, calls and results are blocks."""
    functions = [{"name": "f", "arguments": '{"a": 1}'}, {"name": "f", "arguments": "{oops"}]
    called = [{"id": f"t{n}", "type": "function", "function": each} for n, each in enumerate(functions)]
    messages = [
        {"role": "user", "content": "one"},
        {"role": "user", "content": [{"type": "text", "text": "two"}, {"text": "three"}, ""]},
        {"role": "assistant", "content": None, "tool_calls": called},
        {"role": "tool", "tool_call_id": "t0", "content": "four"},
        {"role": "tool", "tool_call_id": "t1", "content": "five"},
    ]
    settings_ = {"max_tokens": 9, "top_p": 0.5, "stop": "end", "timeout": 5, "inferenceConfig": {"topP": 1}}
    asked = bedrock.ask({"model": "m", "messages": messages, **settings_, "system": "be kind"}, None, Mode.TOOLS)

    user, assistant, tools = asked.pop("messages")
    expected = {"maxTokens": 9, "topP": 1, "stopSequences": ["end"]}
    assert {"modelId": "m", "system": [{"text": "be kind"}], "inferenceConfig": expected} == asked
    assert {"role": "user", "content": [{"text": "one"}, {"text": "two"}, {"text": "three"}]} == user
    assert [{"a": 1}, {"INVALID_JSON": "{oops"}] == [block["toolUse"]["input"] for block in assistant["content"]]
    assert ["t0", "t1"] == [block["toolResult"]["toolUseId"] for block in tools["content"]]


def test_bedrock_forces_no_tool_on_a_model_that_thinks():
    """Such a model is told in words to call the tool."""
    thinking = {"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1024}}}
    made = bedrock.ask({**QUESTION, **thinking}, SHAPE, Mode.TOOLS)

    assert {"auto": {}} == made["toolConfig"]["toolChoice"]
    assert "`User`" in made["system"][-1]["text"]


def test_bedrock_falls_back_to_words():
    """What has no exact form is asked for in words."""

    class Open(BaseModel):
        anything: dict[str, Any]

    made = bedrock.ask(QUESTION, compile_shape(Open), Mode.JSON_SCHEMA)

    assert "outputConfig" not in made
    assert "anything" in made["system"][-1]["text"]


def test_bedrock_calls_of_the_server_are_not_ours():
    """A tool that AWS itself runs was not called for us, nor is its result an answer."""
    theirs = {"toolUse": {"toolUseId": "t0", "name": "run", "input": {}, "type": "server_tool_use"}}
    result = {"toolResult": {"toolUseId": "t0", "content": [{"json": {}}], "type": "run_result"}}
    ours = {"toolUse": {"toolUseId": "t1", "name": "User", "input": {"a": 1}}}
    reply = bedrock.read(bedrock_said([theirs, result, ours], "tool_use"))

    assert (Call("t1", "User", '{"a": 1}'),) == reply.calls


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        *((reason, "stop") for reason in ("end_turn", "tool_use", "stop_sequence", "malformed_tool_use", "new")),
        *((reason, "length") for reason in ("max_tokens", "model_context_window_exceeded")),
        *((reason, "refusal") for reason in ("guardrail_intervened", "content_filtered")),
    ],
)
def test_bedrock_stop_reasons(reason, finish):
    """A guardrail's words are in the answer's place; a filter leaves only its name."""
    replies = [bedrock.read(bedrock_said(blocks, reason)) for blocks in ([{"text": "no"}], [])]

    assert [finish, finish] == [reply.finish for reply in replies]
    assert ([f"no ({reason})", reason] if finish == "refusal" else [None, None]) == [each.refusal for each in replies]


def test_bedrock_gets_its_own_blocks_back():
    """Signed and redacted thoughts as they were; blank texts, which it refuses, left out; inputs as objects."""
    thoughts = [
        {"reasoningContent": {"reasoningText": {"text": "so", "signature": "s"}}},
        {"reasoningContent": {"redactedContent": b"\xff\x00"}},
    ]
    torn = {"toolUse": {"toolUseId": "t1", "name": "User", "input": "{torn"}}
    completion = bedrock_said([*thoughts, {"text": " "}, torn], "tool_use")
    said, answer = ask_again(bedrock, Mode.TOOLS, {"messages": []}, completion)["messages"]

    assert [*thoughts, {"toolUse": {**torn["toolUse"], "input": {"INVALID_JSON": "{torn"}}}] == said["content"]
    assert ("t1", "error") == tuple(answer["content"][0]["toolResult"][key] for key in ("toolUseId", "status"))


# xAI.


def test_xai_reads_the_last_output():
    """Tools of xAI itself have outputs before it, and calls that are not ours."""
    theirs = {"message": {"tool_calls": [xai_called("t0", "search", "{}", kind=2)]}, "finish_reason": 4}
    ours = {"message": {"content": "so", "tool_calls": [xai_called("t1", "User", "")]}}

    assert Reply("so", (Call("t1", "User", "{}"),)) == xai.read(xai_said(theirs, ours))


@pytest.mark.parametrize(("reason", "finish"), [*enumerate(("stop", "length", "length", "stop", "stop", "length"))])
def test_xai_finish_reasons(reason, finish):
    """Too many tokens, too long a context and too much time cut an answer short."""
    assert finish == xai.read(xai_said({"content": "so", "finish_reason": reason})).finish


def test_xai_takes_the_sdks_own_words():
    """Messages and tools that are protobuf messages already stay as they are."""
    native = chat_pb2.Message(role=1, content=[chat_pb2.Content(text="hello")])
    asked = xai.ask({"model": "m", "messages": [native], "stop": "x", "timeout": 3}, None, Mode.TOOLS)
    with closing(XAIClient(api_key="k")) as client:
        sent = xai._chat(client, {**asked, "tool_choice": "auto", "response_format": {"type": "json_object"}}).proto

    assert [native] == list(sent.messages)
    assert (["x"], "TOOL_MODE_AUTO", "FORMAT_TYPE_JSON_OBJECT") == (
        list(sent.stop),
        chat_pb2.ToolMode.Name(sent.tool_choice.mode),
        chat_pb2.FormatType.Name(sent.response_format.format_type),
    )
