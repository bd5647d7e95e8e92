"""OpenAI's chat completions, and every API that copies them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..messages import fold
from ..mode import Mode
from ..schema import strict
from ..shape import Shape
from .base import Call, Finish, Reply
from .prompts import FENCE, follow, mend_call, mend_json

name = "openai"
version = 1
modes = frozenset({Mode.TOOLS, Mode.TOOLS_STRICT, Mode.JSON, Mode.JSON_SCHEMA, Mode.MD_JSON})


def ask(kwargs: Mapping[str, Any], shape: Shape | None, mode: Mode) -> dict[str, Any]:
    """Name the shape as a tool, as the response format, or in words."""
    if shape is None:
        return dict(kwargs)
    messages = list(kwargs.get("messages") or ())
    match mode:
        case Mode.TOOLS | Mode.TOOLS_STRICT:
            return {**kwargs, **_tool(shape, exact=mode is Mode.TOOLS_STRICT)}
        case Mode.JSON_SCHEMA:
            described = {"name": shape.name, "schema": shape.schema}
            return {**kwargs, "response_format": {"type": "json_schema", "json_schema": described}}
        case Mode.JSON:
            told = tell(messages, follow(shape.schema))
            return {**kwargs, "messages": told, "response_format": {"type": "json_object"}}
        case _:
            told = tell(messages, follow(shape.schema))
            return {**kwargs, "messages": fold([*told, {"role": "user", "content": FENCE}])}


def _tool(shape: Shape, *, exact: bool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": shape.name, "description": shape.description, "parameters": shape.parameters}
    if exact:
        function = {**function, "parameters": strict(shape.parameters), "strict": True}
    return {
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": shape.name}},
    }


def tell(messages: list[Any], text: str) -> list[Any]:
    """The messages, with `text` added to the first system message, or as one."""
    for place, message in enumerate(messages):
        if isinstance(message, dict) and message.get("role") == "system":
            content = message.get("content") or ""
            told = f"{content}\n\n{text}" if isinstance(content, str) else [*content, {"type": "text", "text": text}]
            return [*messages[:place], {**message, "content": told}, *messages[place + 1 :]]
    return [{"role": "system", "content": text}, *messages]


_FINISH: dict[str | None, Finish] = {"length": "length", "content_filter": "refusal"}


def read(completion: Any) -> Reply:
    """The first choice; a provider that sends none, or one without a message, has said nothing."""
    choices = get(completion, "choices") or ()
    usage = get(completion, "usage")
    choice = next(iter(choices), None)
    message = get(choice, "message")
    finish = _FINISH.get(get(choice, "finish_reason"), "stop")
    if message is None:  # a filter may leave none, and still say why
        return Reply(finish=finish, usage=usage)
    refusal = get(message, "refusal") or None
    return Reply(
        text=_text(get(message, "content")),
        calls=_calls(message),
        finish="refusal" if isinstance(refusal, str) else finish,
        refusal=refusal if isinstance(refusal, str) else None,
        usage=usage,
    )


def _text(said: Any) -> str | None:
    """What is text, or was: some imitators decode the JSON that they send."""
    if isinstance(said, dict):
        return json.dumps(said)
    return said if isinstance(said, str) else None


def _calls(message: Any) -> tuple[Call, ...]:
    found = [(get(call, "id"), get(call, "function")) for call in get(message, "tool_calls") or ()]
    legacy = get(message, "function_call")
    made = [*found, (None, legacy)] if legacy is not None else found
    return tuple(
        Call(str(id_ or ""), str(get(function, "name") or ""), _text(get(function, "arguments")) or "")
        for id_, function in made
        if function is not None
    )


def get(thing: Any, field: str) -> Any:
    """A field of an SDK's object, or of the dict that some clients give in its place."""
    return thing.get(field) if isinstance(thing, dict) else getattr(thing, field, None)


def reask(kwargs: Mapping[str, Any], _completion: Any, reply: Reply, problem: Exception, mode: Mode) -> dict[str, Any]:
    """Answer each tool call with the error; without one, correct the model as a user would."""
    said: dict[str, Any] = {"role": "assistant", "content": reply.text or ""}
    if reply.calls:
        said["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in reply.calls
        ]
        answers = [
            {"role": "tool", "tool_call_id": call.id, "name": call.name, "content": mend_call(problem)}
            for call in reply.calls
        ]
    else:
        mend = mend_call if mode in {Mode.TOOLS, Mode.TOOLS_STRICT} else mend_json
        answers = [{"role": "user", "content": mend(problem)}]
    return {**kwargs, "messages": [*kwargs["messages"], said, *answers]}
