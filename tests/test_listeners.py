"""Streams made by hand: what imitators leave out, what is cut off, and any way to say a thing in pieces."""

from __future__ import annotations

import copy
import json
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from google.genai.types import GenerateContentResponse
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk

from instructor import Mode
from instructor.cache.completion import Kept, restore
from instructor.dialects import anthropic, cohere, google, openai
from instructor.dialects.base import Call, Reply
from instructor.exceptions import ProviderError
from instructor.providers import ROWS

DIALECTS: dict[str, Any] = {"openai": openai, "anthropic": anthropic, "google": google}
every_dialect = pytest.mark.parametrize("name", DIALECTS)


def listened(dialect: Any, events: list[Any], mode: Mode = Mode.TOOLS) -> tuple[str, Any]:
    """The text that was heard, and the listener."""
    listener = dialect.Listener(mode)
    return "".join([listener.hear(event) for event in events]), listener


def reply(name: str, listener: Any) -> Reply:
    """What the folded completion says, as an object of the SDK."""
    kept = Kept("model", json.dumps(listener.data()).encode())
    return DIALECTS[name].read(restore(kept, ROWS[name].completion))


# OpenAI and its imitators


def chunk(delta: Any = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of one choice."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice], **more}


def calling(*calls: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A chunk with pieces of calls."""
    return chunk({"tool_calls": list(calls)}, **more)


def piece(arguments: str | None = None, name: str | None = None, **more: Any) -> dict[str, Any]:
    """A piece of a call."""
    return {"function": {"name": name, "arguments": arguments}, **more}


END = chunk({}, "tool_calls")


def called(*events: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The calls in a stream."""
    _, listener = listened(openai, [*events, END])
    return [(call.id, call.name, call.arguments) for call in reply("openai", listener).calls]


@pytest.mark.parametrize(
    ("events", "calls"),
    [
        pytest.param(
            [calling(piece('{"a"', "f", id="1")), calling(piece(":1}")), calling(piece("{}", "g", id="2"))],
            [("1", "f", '{"a":1}'), ("2", "g", "{}")],
            id="ids, no index",
        ),
        pytest.param(
            [calling(piece("{", "f")), calling(piece("}")), calling(piece("{", "f")), calling(piece("}"))],
            [("", "f", "{}"), ("", "f", "{}")],
            id="names alone",
        ),
        pytest.param(
            [calling(piece("{}", "f", id=""), piece("{}", "f", id=""))],
            [("", "f", "{}"), ("", "f", "{}")],
            id="several at once, their ids empty",
        ),
        pytest.param(
            [calling(piece("{", "f", id="1")), calling(piece("}", "f", id="1"))],
            [("1", "f", "{}")],
            id="id and name repeated, no index",
        ),
        pytest.param(
            [calling(piece("{", "f", id="1", index=0)), calling(piece("}", "f", id="1", index=0))],
            [("1", "f", "{}")],
            id="id and name repeated",
        ),
        pytest.param(
            [calling(piece("{", "f", id="1", index=0)), calling(piece("}", "f", index=0))],
            [("1", "f", "{}")],
            id="name repeated",
        ),
        pytest.param(
            [calling(piece("{}", "f", id="1", index=0)), calling(piece("{}", "g", id="2", index=0))],
            [("1", "f", "{}"), ("2", "g", "{}")],
            id="every call has the index 0",
        ),
        pytest.param(
            [
                calling(piece("{", "f", id="1", index=0), piece("[", "g", id="2", index=1)),
                calling(piece("]", index=1)),
                calling(piece("}", index=0)),
            ],
            [("1", "f", "{}"), ("2", "g", "[]")],
            id="interleaved",
        ),
        pytest.param(
            [calling(piece("{", "f", id="1")), calling(piece("[", "g", id="2")), calling(piece("}", id="1"))],
            [("1", "f", "{}"), ("2", "g", "[")],
            id="interleaved by id",
        ),
        pytest.param(
            [calling(piece(None, "f", id="1", index=0)), calling(piece("{}", index=0)), calling(piece("", index=0))],
            [("1", "f", "{}")],
            id="arguments null, then empty",
        ),
        pytest.param(
            [calling({"id": "1", "index": 0, "function": {"name": "f", "arguments": {"a": 1}}})],
            [("1", "f", '{"a": 1}')],
            id="arguments decoded",
        ),
        pytest.param(
            [chunk({"function_call": {"name": "f", "arguments": "{"}}), chunk({"function_call": {"arguments": "}"}})],
            [("", "f", "{}")],
            id="the older way",
        ),
        pytest.param(
            [calling({"id": "1", "index": 0, "function": None}), calling(piece("{}", "f", index=0))],
            [("1", "f", "{}")],
            id="function null",
        ),
    ],
)
def test_calls_are_told_apart(events, calls):
    """Pieces find their call by index, id or order; the first call is the one that is heard."""
    text, listener = listened(openai, [*events, END])

    assert calls == called(*events)
    assert calls[0][2] == text
    assert listener.ended
    assert not any("index" in call for call in _message(listener)["tool_calls"] or ())


def _message(listener: Any) -> dict[str, Any]:
    return listener.data()["choices"][0]["message"]


def test_chunks_that_say_nothing():
    """No choices, null choices, a null delta, null content: nothing is added, and nothing breaks."""
    empty = [{}, {"choices": None}, {"choices": []}, chunk(), chunk({}), chunk({"content": None, "tool_calls": None})]

    text, listener = listened(openai, [*empty, chunk({"content": "hi"}), *empty], Mode.JSON)

    assert text == "hi"
    assert _message(listener)["content"] == "hi"
    assert not listener.ended


def test_only_the_end_ends():
    """An empty reason to stop is none; after the end there may still be the usage."""
    _, listener = listened(openai, [chunk({"content": "hi"}, "")], Mode.JSON)
    assert not listener.ended

    listener.hear(chunk({}, "length"))
    listener.hear({"choices": [], "usage": {"total_tokens": 3, "prompt_tokens": 1, "completion_tokens": 2}})

    assert listener.ended
    assert reply("openai", listener).finish == "length"
    assert reply("openai", listener).usage.total_tokens == 3


@pytest.mark.parametrize(
    "shaped",
    [
        lambda event: event,
        lambda event: json.loads(json.dumps(event), object_hook=lambda fields: SimpleNamespace(**fields)),
        lambda event: SimpleNamespace(**{**event, "choices": [ChatCompletionChunk(**event).choices[0]]}),
        lambda event: ChatCompletionChunk(**event),
    ],
    ids=["dict", "namespace", "mixed", "model"],
)
def test_chunks_of_any_make(shaped):
    """Dicts, namespaces and the SDK's objects are the same chunks."""
    events = [chunk({"role": "assistant", "content": "h"}), chunk({"content": "i"}, "stop")]

    text, listener = listened(openai, [shaped(event) for event in events], Mode.MD_JSON)

    expected = listened(openai, events, Mode.MD_JSON)[1]
    assert text == "hi"
    assert expected.data()["choices"] == listener.data()["choices"]
    assert reply("openai", expected) == reply("openai", listener)


def test_fields_of_imitators():
    """Unknown texts grow, known constants do not; log probabilities are put end to end."""
    first, second = ({"content": [{"token": each, "logprob": 0.0, "bytes": None, "top_logprobs": []}]} for each in "ab")
    one = chunk({"role": "assistant", "reasoning_content": "We ", "channel": "analysis", "content": None})
    two = chunk({"role": "assistant", "reasoning_content": "think", "channel": "analysis", "content": "a"}, "stop")
    one["choices"][0]["logprobs"], two["choices"][0]["logprobs"] = first, second

    data = listened(openai, [one, two], Mode.JSON)[1].data()

    choice = data["choices"][0]
    assert {
        "role": "assistant",
        "reasoning_content": "We think",
        "channel": "analysis",
        "content": "a",
    }.items() <= choice["message"].items()
    assert ["a", "b"] == [each["token"] for each in choice["logprobs"]["content"]]
    assert "stop" == choice["finish_reason"]
    assert "chat.completion" == data["object"]


def test_text_in_parts_among_text():
    """A model that reasons in parts and answers in text is read to the end, its reasoning kept."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}

    text, listener = listened(openai, [chunk({"content": [thought]}), chunk({"content": "hi"}, "stop")], Mode.JSON)

    assert text == "hi"
    assert [thought, {"type": "text", "text": "hi"}] == _message(listener)["content"]
    assert reply("openai", listener).text == "hi"


def test_other_choices_are_kept_and_not_heard():
    """Of several choices the first is the answer."""
    other = {**chunk({"content": "no"}, "stop")["choices"][0], "index": 1}
    both = chunk({"content": "yes"})
    both["choices"].append(other)

    text, listener = listened(openai, [both], Mode.JSON)

    assert text == "yes"
    assert not listener.ended
    assert ["yes", "no"] == [each["message"]["content"] for each in listener.data()["choices"]]


# Anthropic


def message(*blocks: list[dict[str, Any]], stop: str | None = "end_turn") -> list[dict[str, Any]]:
    """The events of a message: each block is its start and its deltas."""
    start = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None}
    usage = {"input_tokens": 3, "output_tokens": 1}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**start, "stop_sequence": None, "usage": usage}}
    ]
    for index, (begin, *deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": begin})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    if stop:
        delta = {"stop_reason": stop, "stop_sequence": None}
        events += [{"type": "message_delta", "delta": delta, "usage": {"output_tokens": 9}}, {"type": "message_stop"}]
    return events


def used(*said: str, given: Any = None, **more: Any) -> list[dict[str, Any]]:
    """A tool that is used, its input in pieces."""
    begin = {"type": "tool_use", "id": "t", "name": "f", "input": given or {}, **more}
    return [begin, *({"type": "input_json_delta", "partial_json": each} for each in said)]


@pytest.mark.parametrize(
    ("block", "given"),
    [
        (used(), {}),
        (used("", '{"a"', ": 1}"), {"a": 1}),
        (used(given={"a": 1}), {"a": 1}),
        (used("", given={"a": 1}), {"a": 1}),
    ],
)
def test_inputs(block, given):
    """An input comes in pieces, or whole with the beginning of its block, or not at all when it is empty."""
    text, listener = listened(anthropic, message(block, stop="tool_use"))

    assert given == json.loads(text) == listener.data()["content"][0]["input"]
    assert [Call("t", "f", json.dumps(given))] == list(reply("anthropic", listener).calls)
    assert listener.ended


def test_input_that_is_no_json():
    """It is read as it was said, so that no model takes it, and given back as the API takes it."""
    text, listener = listened(anthropic, message(used('{"a": 1', ", oops}"), stop="tool_use"))
    completion = restore(Kept("model", json.dumps(listener.data()).encode()), ROWS["anthropic"].completion)
    said = anthropic.read(completion)

    again = anthropic.reask({"messages": []}, completion, said, ValueError("no"), Mode.TOOLS)

    assert text == '{"a": 1, oops}' == said.calls[0].arguments
    assert {"INVALID_JSON": text} == again["messages"][0]["content"][0]["input"]


def test_thinking_is_kept_and_not_heard():
    """Thoughts and signatures are folded for the next turn; the text is the text, with its citations."""
    cited = {"type": "char_location", "cited_text": "x", "document_index": 0, "document_title": None}
    location = {**cited, "start_char_index": 0, "end_char_index": 1, "file_id": None}
    thinking = [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "h"},
        {"type": "thinking_delta", "thinking": "m"},
        {"type": "signature_delta", "signature": "s"},
    ]
    words = [
        {"type": "text", "text": ""},
        {"type": "text_delta", "text": "h"},
        {"type": "citations_delta", "citation": location},
        {"type": "citations_delta", "citation": location},
        {"type": "text_delta", "text": "i"},
    ]

    text, listener = listened(anthropic, message(thinking, words), Mode.JSON)

    blocks = listener.data()["content"]
    assert text == "hi" == reply("anthropic", listener).text
    assert {"type": "thinking", "thinking": "hm", "signature": "s"} == blocks[0]
    assert {"type": "text", "text": "hi", "citations": [location, location]} == blocks[1]


def test_only_the_first_tool_is_heard():
    """The provider's own tools are nobody's answer; of ours the first is."""
    search = used('{"q": 1}', type="server_tool_use", name="web_search")
    begun = message(search, used('{"a":', "1}"), used('{"b": 2}'), stop="tool_use")

    text, listener = listened(anthropic, begun)

    assert text == '{"a":1}'
    assert {"q": 1} == listener.data()["content"][0]["input"]


def test_usage_is_merged_and_what_is_unknown_passed_over():
    """What the message begins with stays, where its end says nothing else; pings and news say nothing."""
    events = message([{"type": "text", "text": "hi"}])

    text, listener = listened(anthropic, [*events[:2], {"type": "ping"}, {"type": "invented"}, *events[2:]], Mode.JSON)

    assert text == "hi"
    assert {"input_tokens": 3, "output_tokens": 9} == listener.data()["usage"]


# Google


def response(*parts: dict[str, Any], finish: str | None = None, **more: Any) -> GenerateContentResponse:
    """A response with some parts."""
    candidate = {"content": {"parts": list(parts), "role": "model"}, "finish_reason": finish, "index": 0}
    return GenerateContentResponse.model_validate({"candidates": [candidate], "response_id": "r", **more})


def test_parts_of_one_kind_are_one():
    """Adjacent texts are one text, thoughts another; what carries a signature stays by itself, as it must go back."""
    events = [
        response({"text": "h", "thought": True}),
        response({"text": "m", "thought": True}),
        response({"text": "h"}, {"text": "i"}),
        response({"text": "", "thought_signature": "c2ln"}),
        response({"text": ""}, finish="STOP"),
    ]

    events[2].parsed = 1  # the SDK reads what is JSON by itself

    text, listener = listened(google, events, Mode.JSON)

    assert "parsed" not in listener.data()
    parts = listener.data()["candidates"][0]["content"]["parts"]
    assert text == "hi" == reply("google", listener).text
    assert ["hm", "hi", ""] == [part["text"] for part in parts]
    assert listener.ended


def test_function_calls_come_whole():
    """Arguments are told once, when they are there; none are an empty object."""
    call, other = {"function_call": {"name": "f"}}, {"function_call": {"name": "f", "args": {"a": 1}}}

    text, listener = listened(google, [response(call), response(other), response({"text": ""}, finish="STOP")])

    assert text == "{}"
    assert ["{}", '{"a": 1}'] == [each.arguments for each in reply("google", listener).calls]


def test_function_calls_in_pieces_never_end():
    """Arguments that come with their JSON paths are not put together: such a stream is no answer of ours."""
    events = [
        response({"function_call": {"name": "f", "id": "1", "will_continue": True}}),
        response({"function_call": {"partial_args": [{"json_path": "$.city", "string_value": "Paris"}]}}),
        response({"function_call": {}}, finish="STOP"),
    ]

    assert not listened(google, events)[1].ended


def test_blocked_questions_have_ended():
    """A question that is blocked has no candidates, and its stream is over."""
    feedback = {"block_reason": "SAFETY", "block_reason_message": "as told"}

    _, listener = listened(google, [GenerateContentResponse.model_validate({"prompt_feedback": feedback})])

    assert listener.ended
    assert (reply("google", listener).finish, reply("google", listener).refusal) == ("refusal", "as told")


def test_other_candidates_are_kept_and_not_heard():
    """Of several candidates the first is the answer."""
    second = {"index": 1, "content": {"parts": [{"text": "no"}]}, "finish_reason": "STOP"}
    first = {"index": 0, "content": {"parts": [{"text": "yes"}]}}

    text, listener = listened(google, [{"candidates": [first, second]}], Mode.JSON)

    assert text == "yes"
    assert not listener.ended
    assert len(listener.data()["candidates"]) == 2


# All of them


def test_cohere_ends_with_its_error():
    """The last event says what went wrong, if something did."""
    listener = cohere.Listener(Mode.TOOLS)

    with pytest.raises(ProviderError, match="cohere: as told"):
        listener.hear({"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "as told"}})
    assert not listener.ended


@every_dialect
@pytest.mark.parametrize("error", [{"message": "as told", "code": 502}, "as told"])
def test_errors_in_mid_stream(name, error):
    """An event that is an error is raised, in the provider's words."""
    listener = DIALECTS[name].Listener(Mode.TOOLS)

    with pytest.raises(ProviderError, match=f"{name}: as told"):
        listener.hear({"type": "error", "error": error})

    assert not listener.ended


@every_dialect
def test_nothing_heard(name):
    """A stream without an event has said nothing, and has not ended."""
    text, listener = listened(DIALECTS[name], [])

    assert text == ""
    assert not listener.ended
    assert DIALECTS[name].read(listener.data()) == Reply()


@every_dialect
def test_questions_are_streamed(name):
    """The same question, and the one that was asked is not changed."""
    asked = {"model": "m"}

    assert {**asked, **({} if name == "google" else {"stream": True})} == ROWS[name].streamed(asked)
    assert asked == {"model": "m"}


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    """The text, cut; some pieces may be empty."""
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    return [text[begin:end] for begin, end in pairwise(places)]


def openai_events(text: str, calls: list[list[str]]) -> list[Any]:
    """The chunks of an answer."""
    begun = [
        calling(
            piece(
                each if number else None,
                None if number else f"f{index}",
                index=index,
                id=None if number else str(index),
            )
        )
        for index, said in enumerate(calls)
        for number, each in enumerate(["", *said])
    ]
    return [*(chunk({"content": each}) for each in text), *begun, chunk({}, "tool_calls" if calls else "stop")]


def anthropic_events(text: list[str], calls: list[list[str]]) -> list[Any]:
    """The events of an answer."""
    words = [{"type": "text", "text": ""}, *({"type": "text_delta", "text": each} for each in text)]
    blocks = [used(*said, id=str(index), name=f"f{index}") for index, said in enumerate(calls)]
    return message(words, *blocks, stop="tool_use" if calls else "end_turn")


def google_events(text: list[str], calls: list[list[str]]) -> list[Any]:
    """The responses of an answer, its calls whole."""
    made = [
        {"function_call": {"name": f"f{index}", "id": str(index), "args": json.loads("".join(said))}}
        for index, said in enumerate(calls)
    ]
    return [*(response({"text": each}) for each in text), *map(response, made), response(finish="STOP")]


EVENTS: dict[str, Any] = {"openai": openai_events, "anthropic": anthropic_events, "google": google_events}
CUTS = st.lists(st.integers(0, 200), max_size=12)
ARGUMENTS = st.dictionaries(st.text(max_size=5), st.integers() | st.text() | st.none(), max_size=4)


@every_dialect
@given(text=st.text(), arguments=st.lists(ARGUMENTS, max_size=3), cuts=CUTS)
def test_any_split_is_the_same(name, text, arguments, cuts):
    """However an answer is cut into events: what is heard is the payload, what is folded reads like the whole."""
    said = [json.dumps(each, ensure_ascii=False) for each in arguments]
    cut = EVENTS[name](pieces_of(text, cuts), [pieces_of(each, cuts) for each in said])
    whole = EVENTS[name]([text], [[each] for each in said])

    heard, listener = listened(DIALECTS[name], copy.deepcopy(cut))
    read, _ = listened(DIALECTS[name], cut, Mode.JSON_SCHEMA)
    silent, _ = listened(DIALECTS[name], cut, Mode.PARALLEL_TOOLS)

    answer = reply(name, listener)
    assert (said[0] if said else "", text, "") == (heard, read, silent)
    assert text == (answer.text or "")
    assert [(str(number), f"f{number}", each) for number, each in enumerate(map(json.loads, said))] == [
        (call.id, call.name, json.loads(call.arguments)) for call in answer.calls
    ]
    assert listened(DIALECTS[name], whole)[1].data() == listener.data()
    assert listener.ended


@every_dialect
@given(at=st.integers(0, 20))
def test_nothing_ends_before_its_end(name, at):
    """A stream that is cut before its last event has not ended; what was heard is a beginning."""
    events = EVENTS[name](["a", "b", "c"], [['{"a"', ": 1}"]])[:-1]

    text, listener = listened(DIALECTS[name], events[: at % (len(events) + 1)], Mode.JSON)

    assert "abc".startswith(text)
    assert not listener.ended
