"""Cohere's chat, version 2: messages as OpenAI has them, answers and settings of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..messages import without_developers
from ..mode import Mode
from ..schema import COHERE, fit
from ..shape import Shape
from . import openai
from .base import CALLED, MODES, Ear, Finish, Reply, call, dumped, get, items, listed, together
from .pieces import fold, heard, overlaid, payload, present, renamed, without
from .prompts import mend

name = "cohere"
version = 1
modes = MODES - {Mode.PARALLEL_TOOLS}


def ask(kwargs: Mapping[str, Any], shape: Shape | None, mode: Mode) -> dict[str, Any]:
    """Name the shape as the tool that must be called, as the response format, or in words."""
    asked = _native(kwargs)
    if shape is None:
        return asked
    if mode in CALLED:
        return {**asked, **_called(shape, mode)}
    if mode is Mode.JSON_SCHEMA:
        schema = fit(shape.schema, COHERE) or shape.schema
        return {**asked, "response_format": {"type": "json_object", "schema": schema}}
    return openai.ask(asked, shape, mode)


_NAMES = {"max_completion_tokens": "max_tokens", "stop": "stop_sequences", "top_p": "p", "top_k": "k"}
_OPTIONS = {
    "timeout": "timeout_in_seconds",
    "extra_headers": "additional_headers",
    "extra_query": "additional_query_parameters",
    "extra_body": "additional_body_parameters",
}


def _native(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The question in Cohere's own words, where the user put it in OpenAI's."""
    native = renamed(without(kwargs, *_OPTIONS), _NAMES)
    options = renamed({key: kwargs[key] for key in _OPTIONS if key in kwargs}, _OPTIONS)
    if options:
        native["request_options"] = {**options, **(native.get("request_options") or {})}
    if "stop_sequences" in native:
        native["stop_sequences"] = listed(native["stop_sequences"])
    return without_developers(native)


def _called(shape: Shape, mode: Mode) -> dict[str, Any]:
    exact = fit(shape.parameters, COHERE) if mode is Mode.TOOLS_STRICT else None
    function = {"name": shape.name, "description": shape.description, "parameters": exact or shape.parameters}
    strict = {} if exact is None else {"strict_tools": True}
    return {"tools": [{"type": "function", "function": function}], "tool_choice": "REQUIRED", **strict}


_FINISH: dict[str, Finish] = dict.fromkeys(("MAX_TOKENS", "ERROR", "TIMEOUT", "ERROR_LIMIT"), "length")
_FINISH["ERROR_TOXIC"] = "refusal"


def read(completion: Any) -> Reply:
    """The parts that are text as one text, and the calls; neither thinking nor the plan for the tools is the answer."""
    message = get(completion, "message")
    calls = items(message, "tool_calls")
    text = together(get(part, "text") for part in items(message, "content"))
    finish = _FINISH.get(str(get(completion, "finish_reason")), "stop")
    return Reply(
        text=text,
        calls=tuple(call(get(each, "id"), get(each, "function"), "arguments") for each in calls),
        finish=finish,
        refusal=text if finish == "refusal" else None,
        usage=get(completion, "usage"),
    )


def reask(kwargs: Mapping[str, Any], completion: Any, reply: Reply, problem: Exception, mode: Mode) -> dict[str, Any]:
    """Give the model its own message back, plan and all, and answer each call with the error."""
    message = present(dumped(get(completion, "message"), exclude_none=True) or {})
    said = [{**message, "role": "assistant"}] if reply.text or reply.calls else []
    error = mend(problem, mode)
    answers = [{"role": "tool", "tool_call_id": made.id, "content": error} for made in reply.calls]
    return {**kwargs, "messages": [*kwargs["messages"], *said, *(answers or [{"role": "user", "content": error}])]}


class Listener(Ear):
    """Hears events, each of which adds to one field of the message. Thinking is kept, and nobody's answer."""

    def hear(self, event: Any) -> str:
        """The text that an event adds."""
        said = heard(event, name)
        delta = heard(said.get("delta") or {}, name)
        if said.get("type") in {"message-start", "message-end"}:
            self.said = overlaid(self.said, {**without(said, "type", "delta"), **without(delta, "message")})
            self.ended = said["type"] == "message-end"
            return ""
        added, index = delta.get("message") or {}, said.get("index")
        for field, piece in added.items():
            self.parts.setdefault((field, index), []).append(piece)
        ours = next((place for field, place in self.parts if field == "tool_calls"), None)
        arguments = get(get(added.get("tool_calls"), "function"), "arguments") if index == ours else None
        return payload(self.mode, arguments or "", get(added.get("content"), "text") or "")

    def data(self) -> dict[str, Any]:
        """A response."""
        message: dict[str, Any] = {"role": "assistant"}
        for (field, _), pieces in self.parts.items():
            whole = fold(pieces)
            message[field] = whole if isinstance(whole, str) else [*message.get(field, ()), whole]
        return {**self.said, "message": message}
