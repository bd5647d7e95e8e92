"""Google's generateContent, as the google-genai SDK speaks it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..messages import split_system
from ..mode import Mode
from ..shape import Shape
from .anthropic import data_of, listed
from .base import Call, Finish, Reply
from .openai import get
from .prompts import FENCE, follow, mend_call, mend_json

name = "google"
version = 1
modes = frozenset({Mode.TOOLS, Mode.TOOLS_STRICT, Mode.JSON, Mode.JSON_SCHEMA, Mode.MD_JSON})


def ask(kwargs: Mapping[str, Any], shape: Shape | None, mode: Mode) -> dict[str, Any]:
    """Name the shape as a function, as the response's schema, or in the system's words."""
    words, rest = split_system(kwargs.get("messages") or [])
    config = _tell(_config(kwargs), [kwargs.get("system"), *words])
    asked = {key: value for key, value in kwargs.items() if key not in _MOVED}
    asked["contents"] = _contents(kwargs.get("contents"), rest)
    if shape is not None:
        config = {**_shaped(config, shape, mode), "safety_settings": _safety(config.get("safety_settings"))}
    return {**asked, "config": config} if config else asked


def _shaped(config: dict[str, Any], shape: Shape, mode: Mode) -> dict[str, Any]:
    match mode:
        case Mode.TOOLS | Mode.TOOLS_STRICT:  # a forced function always fits its schema: there is nothing stricter
            return {**config, **_tool(config, shape)}
        case Mode.JSON | Mode.JSON_SCHEMA:
            free = {key: value for key, value in config.items() if key != "response_schema"}  # the API takes one
            return {**free, "response_mime_type": "application/json", "response_json_schema": lone(shape.schema)}
        case _:
            return _tell(config, [follow(shape.schema), FENCE])


def _tool(config: dict[str, Any], shape: Shape) -> dict[str, Any]:
    parameters = lone(shape.parameters)
    function = {"name": shape.name, "description": shape.description, "parameters_json_schema": parameters}
    calling = {"mode": "ANY", "allowed_function_names": [shape.name]}
    return {
        "tools": [*listed(config.get("tools")), {"function_declarations": [function]}],
        "tool_config": {**_fields(config.get("tool_config")), "function_calling_config": calling},
    }


_NAMES = {
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "n": "candidate_count",
    "stop": "stop_sequences",
}
_CONFIG = {
    *("temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty", "max_output_tokens"),
    *("candidate_count", "stop_sequences", "system_instruction", "safety_settings", "thinking_config", "tools"),
    *("tool_config", "automatic_function_calling", "cached_content", "labels", "media_resolution", "http_options"),
}
_HTTP = {"extra_headers": "headers", "extra_body": "extra_body"}
_MOVED = {"messages", "contents", "config", "system", "timeout", "stream", *_NAMES, *_CONFIG, *_HTTP}


def _config(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a question, OpenAI's names translated; where `config` says otherwise, it knows better."""
    named = {_NAMES.get(key, key): value for key, value in kwargs.items() if key in _NAMES or key in _CONFIG}
    config = {key: value for key, value in named.items() if value is not None} | _fields(kwargs.get("config"))
    if isinstance(config.get("stop_sequences"), str):
        config["stop_sequences"] = [config["stop_sequences"]]
    http = _http(kwargs)
    return {**config, "http_options": http | _fields(config.get("http_options"))} if http else config


def _fields(thing: Any) -> dict[str, Any]:
    """What is set in an SDK's object, or in the dict that stands for it, in snake case; values stay as they are."""
    pairs = thing.items() if isinstance(thing, Mapping) else thing or ()
    return {_snake(key): value for key, value in pairs if value is not None}


def _snake(key: str) -> str:
    return re.sub(r"(?<=[a-z])[A-Z]", lambda match: f"_{match.group().lower()}", key)


def _http(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """How to send it; the SDK counts its patience in milliseconds."""
    http = {_HTTP[key]: kwargs[key] for key in _HTTP if kwargs.get(key) is not None}
    timeout = getattr(kwargs.get("timeout"), "read", kwargs.get("timeout"))
    return {**http, "timeout": int(timeout * 1000)} if isinstance(timeout, (int, float)) else http


def _tell(config: dict[str, Any], words: list[Any]) -> dict[str, Any]:
    """The settings with `words` after those of the system instruction: text while all of them are text."""
    given = config.get("system_instruction")
    said = [_part(part) for content in (get(given, "parts") or given, *words) for part in listed(content) if part]
    if not any(words):
        return config
    texts = [part["text"] for part in said if isinstance(part, dict) and set(part) == {"text"}]
    return {**config, "system_instruction": "\n\n".join(texts) if len(texts) == len(said) else said}


_TEXTUAL = ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT", "CIVIC_INTEGRITY")


def _safety(given: Any) -> list[Any]:
    """The settings given, and no filter for the other categories of text: extraction repeats what it is shown."""
    if isinstance(given, Mapping):
        given = [{"category": _word(category), "threshold": threshold} for category, threshold in given.items()]
    named = {_word(get(setting, "category")) for setting in listed(given)}
    textual = [f"HARM_CATEGORY_{category}" for category in _TEXTUAL]
    off = [{"category": category, "threshold": "OFF"} for category in textual if category not in named]
    return [*listed(given), *off]


def _word(member: Any) -> str:
    """An enum's member as the word that it is on the wire."""
    return str(getattr(member, "value", member) or "")


def _contents(given: Any, messages: list[Any]) -> Any:
    """The messages as contents, before those that are already."""
    if given is not None and not messages:
        return given
    callees = {get(call, "id"): get(get(call, "function"), "name") for m in messages for call in _calls_in(m)}
    return [*(_content(message, callees) for message in messages), *listed(given)]


def _calls_in(message: Any) -> list[Any]:
    return listed(message.get("tool_calls")) if isinstance(message, dict) else []


def _content(message: Any, callees: Mapping[Any, Any]) -> Any:
    if not isinstance(message, dict) or "parts" in message:
        return message
    parts = [_part(part) for part in listed(message.get("content"))]
    if message.get("role") == "tool":
        callee = message.get("name") or callees.get(message.get("tool_call_id"))
        result = {"name": callee, "response": {"output": message.get("content")}}
        return {"role": "user", "parts": [{"function_response": result}]}
    made = [{"function_call": _made(get(call, "function"))} for call in _calls_in(message)]
    return {"role": "model" if message.get("role") in {"assistant", "model"} else "user", "parts": [*parts, *made]}


def _part(part: Any) -> Any:
    if isinstance(part, str):
        return {"text": part}
    return {"text": part.get("text")} if isinstance(part, dict) and part.get("type") == "text" else part


def _made(function: Any) -> dict[str, Any]:
    return {"name": get(function, "name"), "args": data_of(function)}


def lone(schema: Any) -> Any:
    """The schema with its references standing alone and its constants as enums of one.

    Source: Gemini API reference, GenerationConfig.responseJsonSchema.
    """
    if isinstance(schema, list):
        return [lone(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema and len(schema) > 1:
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return {"anyOf": [{"$ref": schema["$ref"]}], **lone(beside)}
    made = {key: _inside(key, value) for key, value in schema.items()}
    if type(schema.get("const")) in _LISTABLE:
        made["enum"] = [made.pop("const")]
    return made


_NAMED = frozenset({"properties", "$defs"})
_LITERAL = frozenset({"const", "enum", "default", "examples"})
_LISTABLE = (str, int, float)  # what the API takes in an enum


def _inside(key: str, value: Any) -> Any:
    if key in _NAMED:
        return {name: lone(part) for name, part in value.items()}
    return value if key in _LITERAL else lone(value)


# The model was done, and what it said would not do: worth asking again.
_SAID_BADLY = (
    *("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MALFORMED_RESPONSE"),
    "MISSING_THOUGHT_SIGNATURE",
)
_FINISH: dict[str, Finish] = {
    **dict.fromkeys(("", "STOP", "FINISH_REASON_UNSPECIFIED", *_SAID_BADLY), "stop"),
    **dict.fromkeys(("MAX_TOKENS", "CONTINUATION"), "length"),
}


def read(completion: Any) -> Reply:
    """The first candidate: its text without its thoughts, and its function calls.

    Every reason to stop that is not known to be harmless is a filter's.
    """
    candidate = next(iter(listed(get(completion, "candidates"))), None)
    parts = _parts(candidate)
    texts = [get(part, "text") for part in parts if not get(part, "thought") and isinstance(get(part, "text"), str)]
    calls = [_call(get(part, "function_call")) for part in parts if get(part, "function_call") is not None]
    feedback = get(completion, "prompt_feedback")
    blocked = _word(get(feedback, "block_reason"))
    reason = _word(get(candidate, "finish_reason"))
    finish = "refusal" if blocked else _FINISH.get(reason, "refusal")
    words = get(feedback, "block_reason_message") or get(candidate, "finish_message") or blocked or reason
    return Reply(
        text="".join(texts) if texts else None,
        calls=tuple(calls),
        finish=finish,
        refusal=str(words) if finish == "refusal" else None,
        usage=get(completion, "usage_metadata"),
    )


def _parts(candidate: Any) -> list[Any]:
    return listed(get(get(candidate, "content"), "parts"))


def _call(call: Any) -> Call:
    arguments = json.dumps(get(call, "args") or {}, ensure_ascii=False)
    return Call(id=str(get(call, "id") or ""), name=str(get(call, "name") or ""), arguments=arguments)


def reask(kwargs: Mapping[str, Any], completion: Any, reply: Reply, problem: Exception, mode: Mode) -> dict[str, Any]:
    """Give the model its own parts back, and answer each call with the error; without one, correct it as users do."""
    candidate = next(iter(listed(get(completion, "candidates"))), None)
    said = [_given_back(get(candidate, "content"))] if _parts(candidate) else []
    mend = mend_call if mode in {Mode.TOOLS, Mode.TOOLS_STRICT} else mend_json
    answers: list[dict[str, Any]] = [{"function_response": _refused(call, problem)} for call in reply.calls]
    parts = answers or [{"text": mend(problem)}]
    return {**kwargs, "contents": [*listed(kwargs["contents"]), *said, {"role": "user", "parts": parts}]}


def _given_back(content: Any) -> Any:
    dump = getattr(content, "model_dump", None)
    return {"role": "model", **dump(exclude_none=True, warnings=False)} if dump else content


def _refused(call: Call, problem: Exception) -> dict[str, Any]:
    identity = {"id": call.id} if call.id else {}
    return {**identity, "name": call.name, "response": {"error": mend_call(problem)}}
