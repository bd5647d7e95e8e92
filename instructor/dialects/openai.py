"""OpenAI's chat completions, and every API that copies them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..messages import fold
from ..mode import Mode
from ..schema import OPENAI
from ..shape import Shape
from .base import CALLED, MODES, Call, Finish, Reply, as_json, call, first, get, items, together, tool
from .prompts import FENCE, follow, mend

name = "openai"
version = 1
modes = MODES


def ask(kwargs: Mapping[str, Any], shape: Shape | None, mode: Mode) -> dict[str, Any]:
    """Name the shape as a tool, as the response format, or in words."""
    if shape is None:
        return dict(kwargs)
    if mode in CALLED:
        offered = [tool(each, "parameters", OPENAI, mode) for each in shape.tools or (shape,)]
        forced = {"type": "function", "function": {"name": shape.name}}
        tools = [{"type": "function", "function": each} for each in offered]
        return {**kwargs, "tools": tools, "tool_choice": "auto" if shape.tools else forced}
    if mode is Mode.JSON_SCHEMA:
        described = {"name": shape.name, "schema": shape.schema}
        return {**kwargs, "response_format": {"type": "json_schema", "json_schema": described}}
    told = _tell(list(kwargs.get("messages") or ()), follow(shape.schema))
    if mode is Mode.JSON:
        return {**kwargs, "messages": told, "response_format": {"type": "json_object"}}
    return {**kwargs, "messages": fold([*told, {"role": "user", "content": FENCE}])}


def _tell(messages: list[Any], text: str) -> list[Any]:
    """The messages, with `text` added to the first system message, or as one."""
    for place, message in enumerate(messages):
        if isinstance(message, dict) and message.get("role") == "system":
            content = message.get("content") or ""
            told = f"{content}\n\n{text}" if isinstance(content, str) else [*content, {"type": "text", "text": text}]
            return [*messages[:place], {**message, "content": told}, *messages[place + 1 :]]
    return [{"role": "system", "content": text}, *messages]


# OpenRouter has errors, DeepSeek a lack of resources: what is there is not the whole answer.
_CUT: dict[str, Finish] = dict.fromkeys(("length", "error", "insufficient_system_resource"), "length")
_FINISH: dict[str, Finish] = {**_CUT, "content_filter": "refusal"}


def read(completion: Any) -> Reply:
    """The first choice; a provider that sends none, or one without a message, has said nothing."""
    choice = first(completion, "choices")
    message = get(choice, "message")
    refusal = together([get(message, "refusal") or None])
    return Reply(
        text=_text(message),
        calls=tuple(_calls(message)),
        finish="refusal" if refusal else _FINISH.get(str(get(choice, "finish_reason")), "stop"),
        refusal=refusal,
        usage=get(completion, "usage"),
    )


def _text(message: Any) -> str | None:
    """What is text, or was: some imitators send parts, and some the JSON decoded."""
    content = get(message, "content")
    if isinstance(content, dict):
        return as_json(content)
    return together([content, *(get(part, "text") for part in items(message, "content"))])


def _calls(message: Any) -> Iterator[Call]:
    legacy = {"function": get(message, "function_call")}
    for made in (*items(message, "tool_calls"), legacy):
        if get(made, "function") is not None:
            yield call(get(made, "id"), get(made, "function"), "arguments")


def reask(kwargs: Mapping[str, Any], _completion: Any, reply: Reply, problem: Exception, mode: Mode) -> dict[str, Any]:
    """Answer each tool call with the error; without one, correct the model as a user would."""
    said: dict[str, Any] = {"role": "assistant", "content": reply.text or ""}
    answers = [{"role": "user", "content": mend(problem, mode)}]
    if reply.calls:
        said["tool_calls"] = [_repeated(made) for made in reply.calls]
        answers = [{**answers[0], "role": "tool", "tool_call_id": made.id, "name": made.name} for made in reply.calls]
    return {**kwargs, "messages": [*kwargs["messages"], said, *answers]}


def _repeated(made: Call) -> dict[str, Any]:
    return {"id": made.id, "type": "function", "function": {"name": made.name, "arguments": made.arguments}}
