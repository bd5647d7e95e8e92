"""Anthropic's messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..messages import split_system
from ..mode import Mode
from ..shape import Shape
from .base import Call, Finish, Reply
from .openai import get
from .prompts import FENCE, follow, mend_call, mend_json

name = "anthropic"
version = 1
modes = frozenset({Mode.TOOLS, Mode.TOOLS_STRICT, Mode.JSON, Mode.JSON_SCHEMA, Mode.MD_JSON})

MAX_TOKENS = 4096
"""The limit of an answer whose question names none: the API insists on one."""


def ask(kwargs: Mapping[str, Any], shape: Shape | None, mode: Mode) -> dict[str, Any]:
    """Name the shape as a tool, as the output's format, or in the system's words."""
    asked = _native(kwargs)
    if shape is None:
        return asked
    match mode:
        case Mode.TOOLS | Mode.TOOLS_STRICT:
            return _called(asked, shape, exact=mode is Mode.TOOLS_STRICT)
        case Mode.JSON_SCHEMA:
            described = {"type": "json_schema", "schema": closed(shape.schema)}
            return {**asked, "output_config": {**(asked.get("output_config") or {}), "format": described}}
        case Mode.JSON:
            return _tell(asked, [follow(shape.schema)])
        case _:
            return _tell(asked, [follow(shape.schema), FENCE])


_NAMES = {"max_completion_tokens": "max_tokens", "stop": "stop_sequences"}
# SDKs from 2.0 on take these in `extra_body` only, older ones in both places; the request's body is the same.
_SAMPLING = ("temperature", "top_p", "top_k")


def _native(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The question in Anthropic's own words, where the user put it in OpenAI's."""
    words, rest = split_system(kwargs.get("messages") or [])
    named = {_NAMES.get(key, key): value for key, value in kwargs.items() if value is not None or key not in _NAMES}
    native = {key: value for key, value in named.items() if key not in _SAMPLING}
    native = {**native, "max_tokens": native.get("max_tokens") or MAX_TOKENS, "messages": [_said(m) for m in rest]}
    if isinstance(native.get("stop_sequences"), str):
        native["stop_sequences"] = [native["stop_sequences"]]
    sampling = {key: kwargs[key] for key in _SAMPLING if kwargs.get(key) is not None}
    if sampling:
        native["extra_body"] = {**sampling, **(kwargs.get("extra_body") or {})}
    return _tell(native, words)


def _tell(kwargs: dict[str, Any], words: Sequence[Any]) -> dict[str, Any]:
    """The question with `words` after those of its `system`: text while all of them are text, blocks otherwise."""
    said = [part for content in (kwargs.get("system"), *words) for part in listed(content) if part]
    if not any(words):
        return kwargs
    if all(isinstance(part, str) for part in said):
        return {**kwargs, "system": "\n\n".join(said)}
    return {**kwargs, "system": [_block(part) for part in said]}


def listed(thing: Any) -> list[Any]:
    """`thing` as a list: itself, none, or alone."""
    return [] if thing is None else list(thing) if isinstance(thing, (list, tuple)) else [thing]


def _said(message: Any) -> Any:
    """A message as Anthropic takes it; tool calls and their results are where OpenAI's are different."""
    if not isinstance(message, dict):
        return message
    if message.get("role") == "tool":
        content = message.get("content") or ""
        result = {"type": "tool_result", "tool_use_id": message.get("tool_call_id"), "content": content}
        return {"role": "user", "content": [result]}
    if message.get("tool_calls"):
        blocks = [_block(part) for part in listed(message.get("content")) if part]
        return {"role": "assistant", "content": [*blocks, *map(_use, message["tool_calls"])]}
    return message


def _block(part: Any) -> Any:
    return {"type": "text", "text": part} if isinstance(part, str) else part


def _use(call: Any) -> dict[str, Any]:
    function = get(call, "function")
    return {"type": "tool_use", "id": get(call, "id"), "name": get(function, "name"), "input": data_of(function)}


def data_of(function: Any) -> Any:
    """The arguments of an OpenAI function call, as data."""
    text = get(function, "arguments") or "{}"
    try:
        return json.loads(text)
    except ValueError:  # a model wrote it, and the conversation may be about that
        return {"arguments": text}


def _called(kwargs: dict[str, Any], shape: Shape, *, exact: bool) -> dict[str, Any]:
    tool: dict[str, Any] = {"name": shape.name, "description": shape.description, "input_schema": shape.parameters}
    if exact:
        tool = {**tool, "input_schema": closed(shape.parameters), "strict": True}
    if _thinks(kwargs.get("thinking")):  # the API refuses to force a tool on a model that thinks: ask it nicely
        told = _tell(kwargs, [f"Answer by calling the tool `{shape.name}` once, and with nothing else."])
        return {**told, "tools": [tool], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}
    choice = {"type": "tool", "name": shape.name, "disable_parallel_tool_use": True}
    return {**kwargs, "tools": [tool], "tool_choice": choice}


def _thinks(thinking: Any) -> bool:
    return isinstance(thinking, Mapping) and thinking.get("type") != "disabled"


def closed(schema: Any) -> Any:
    """The schema in the subset that Anthropic enforces: closed objects; bounds are told in the description.

    Source: Anthropic, "Structured outputs: JSON Schema limitations".
    """
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:  # nothing may stand beside a reference: words about it stand around it
        alone, words = {"$ref": schema["$ref"]}, schema.get("description")
        return {"anyOf": [alone], "description": words} if words else alone
    if len(schema.get("allOf", ())) == 1:
        return closed({**{k: v for k, v in schema.items() if k != "allOf"}, **schema["allOf"][0]})
    made = {_PARTS.get(key, key): _part(key, value) for key, value in schema.items() if _is_enforced(key, value)}
    told = [f"{key}: {json.dumps(value)}" for key, value in schema.items() if _is_told(key, value)]
    if told:
        made["description"] = "\n\n".join(filter(None, [schema.get("description"), "{" + ", ".join(told) + "}"]))
    # A free-form mapping has no enforced form; the API says so better than we could.
    return {"additionalProperties": False, **made} if schema.get("type") == "object" else made


_KEPT = frozenset({"type", "title", "description", "enum", "const", "required", "additionalProperties"})
_NAMED = ("properties", "$defs")
_PARTS = {"items": "items", "anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"})
_FEW = (0, 1)


def _is_enforced(key: str, value: Any) -> bool:
    if key == "format":
        return value in _FORMATS
    return key in _KEPT or key in _NAMED or key in _PARTS or (key == "minItems" and value in _FEW)


def _is_told(key: str, value: Any) -> bool:
    return key != "discriminator" and not _is_enforced(key, value)


def _part(key: str, value: Any) -> Any:
    if key in _NAMED:
        return {name: closed(part) for name, part in value.items()}
    return closed(value) if key in _PARTS else value


_FINISH: dict[str, Finish] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",  # a long turn, interrupted: what is there is not the whole answer
    "refusal": "refusal",
}


def read(completion: Any) -> Reply:
    """The text blocks as one text, and the tools used; thinking is nobody's answer."""
    blocks = _blocks(completion)
    texts = [get(block, "text") for block in blocks if get(block, "type") == "text"]
    calls = [
        Call(id=str(get(block, "id") or ""), name=str(get(block, "name") or ""), arguments=_json(get(block, "input")))
        for block in blocks
        if get(block, "type") == "tool_use"
    ]
    finish = _FINISH.get(str(get(completion, "stop_reason")), "stop")
    text = "".join(text for text in texts if isinstance(text, str)) if texts else None
    return Reply(
        text=text,
        calls=tuple(calls),
        finish=finish,
        refusal=_refusal(completion, text) if finish == "refusal" else None,
        usage=get(completion, "usage"),
    )


def _blocks(completion: Any) -> list[Any]:
    content = get(completion, "content")
    return content if isinstance(content, list) else []


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _refusal(completion: Any, text: str | None) -> str | None:
    explanation = get(get(completion, "stop_details"), "explanation")
    return explanation if isinstance(explanation, str) and explanation else text or None


def reask(kwargs: Mapping[str, Any], completion: Any, reply: Reply, problem: Exception, mode: Mode) -> dict[str, Any]:
    """Give the model its own blocks back, signed thoughts and all, and answer each tool use with the error."""
    blocks = [_given_back(block) for block in _blocks(completion) if get(block, "text") != ""]  # refused when empty
    said = [{"role": "assistant", "content": blocks}] if blocks else []
    answer: Any = (mend_call if mode in {Mode.TOOLS, Mode.TOOLS_STRICT} else mend_json)(problem)
    if reply.calls:
        answer = [
            {"type": "tool_result", "tool_use_id": call.id, "content": mend_call(problem), "is_error": True}
            for call in reply.calls
        ]
    return {**kwargs, "messages": [*kwargs["messages"], *said, {"role": "user", "content": answer}]}


def _given_back(block: Any) -> Any:
    dump = getattr(block, "model_dump", None)
    return dump(exclude_none=True, warnings=False) if dump else block
