"""Anthropic's messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ..messages import split_system
from ..mode import Mode
from ..schema import ANTHROPIC, fit
from ..shape import Shape
from .base import CALLED, MODES, Ear, Finish, Reply, as_json, call, dumped, get, items, joined, listed, together, tool
from .pieces import fold, heard, overlaid, payload, renamed, without
from .prompts import in_words, mend

name = "anthropic"
version = 1
modes = MODES

MAX_TOKENS = 4096
"""The limit of an answer whose question names none: the API insists on one."""


def ask(kwargs: Mapping[str, Any], shape: Shape | None, mode: Mode) -> dict[str, Any]:
    """Name the shape as a tool, as the output's format, or in the system's words."""
    asked = _native(kwargs)
    if shape is None:
        return asked
    if mode in CALLED:
        return _called(asked, shape, mode)
    exact = fit(shape.schema, ANTHROPIC) if mode is Mode.JSON_SCHEMA else None
    if exact is None:
        return _tell(asked, in_words(shape.schema, mode))
    described = {"type": "json_schema", "schema": exact}
    return {**asked, "output_config": {**(asked.get("output_config") or {}), "format": described}}


_NAMES = {"max_completion_tokens": "max_tokens", "stop": "stop_sequences"}
# SDKs from 2.0 on take these in `extra_body` only, older ones in both places; the request's body is the same.
_SAMPLING = ("temperature", "top_p", "top_k")


def _native(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The question in Anthropic's own words, where the user put it in OpenAI's."""
    words, rest = split_system(kwargs.get("messages") or [])
    named = renamed(kwargs, _NAMES)
    sampling = {key: named.pop(key) for key in _SAMPLING if key in named}
    native = {"max_tokens": MAX_TOKENS, **named, "messages": rest}
    if "stop_sequences" in native:
        native["stop_sequences"] = listed(native["stop_sequences"])
    if sampling:
        native["extra_body"] = {**sampling, **(native.get("extra_body") or {})}
    return _tell(native, words)


def _tell(kwargs: dict[str, Any], words: Sequence[Any]) -> dict[str, Any]:
    """The question with `words` after those of its `system`."""
    if not any(words):
        return kwargs
    said = joined([kwargs.get("system"), *words])
    return {**kwargs, "system": said if isinstance(said, str) else [_block(part) for part in said]}


def _block(part: Any) -> Any:
    return {"type": "text", "text": part} if isinstance(part, str) else part


def _called(kwargs: dict[str, Any], shape: Shape, mode: Mode) -> dict[str, Any]:
    asked = {**kwargs, "tools": [tool(each, "input_schema", ANTHROPIC, mode) for each in shape.tools or (shape,)]}
    if shape.tools:
        return {**asked, "tool_choice": {"type": "auto"}}
    choice = {"type": "tool", "name": shape.name}
    if get(kwargs.get("thinking"), "type") not in {None, "", "disabled"}:  # no tool is forced on a model that thinks
        asked = _tell(asked, [f"Answer by calling the tool `{shape.name}` once, and with nothing else."])
        choice = {"type": "auto"}
    return {**asked, "tool_choice": {**choice, "disable_parallel_tool_use": True}}


# A turn that pauses was long, and interrupted: what is there is not the whole answer.
_CUT: dict[str, Finish] = dict.fromkeys(("max_tokens", "model_context_window_exceeded", "pause_turn"), "length")
_FINISH: dict[str, Finish] = {**_CUT, "refusal": "refusal"}


def read(completion: Any) -> Reply:
    """The text blocks as one text, and the tools used; thinking is nobody's answer."""
    blocks = items(completion, "content")
    text = together(get(block, "text") for block in blocks if get(block, "type") == "text")
    finish = _FINISH.get(str(get(completion, "stop_reason")), "stop")
    explained = together([get(get(completion, "stop_details"), "explanation")])
    return Reply(
        text=text,
        calls=tuple(call(get(block, "id"), block, "input") for block in blocks if get(block, "type") == "tool_use"),
        finish=finish,
        refusal=(explained or text or None) if finish == "refusal" else None,
        usage=get(completion, "usage"),
    )


def reask(kwargs: Mapping[str, Any], completion: Any, reply: Reply, problem: Exception, mode: Mode) -> dict[str, Any]:
    """Give the model its own blocks back, signed thoughts and all, and answer each tool use with the error."""
    blocks = [_repeated(block) for block in items(completion, "content") if not _is_blank(block)]
    said = [{"role": "assistant", "content": blocks}] if blocks else []
    error = mend(problem, mode)
    failed = {"type": "tool_result", "content": error, "is_error": True}
    answer = {"role": "user", "content": [{**failed, "tool_use_id": each.id} for each in reply.calls] or error}
    return {**kwargs, "messages": [*kwargs["messages"], *said, answer]}


def _repeated(block: Any) -> Any:
    """A block as the API takes it back: an input that was no JSON under the name that Anthropic gives such."""
    said, given = dumped(block, exclude_none=True), get(block, "input")
    return {**said, "input": {"INVALID_JSON": given}} if isinstance(given, str) else said


def _is_blank(block: Any) -> bool:
    """Whether it is a text without words, which the API sends but refuses to take back."""
    return get(block, "type") == "text" and not str(get(block, "text") or "").strip()


class Listener(Ear):
    """Hears events. Thinking is kept, and nobody's answer."""

    def hear(self, event: Any) -> str:
        """The text that an event adds."""
        said = heard(event, name)
        match said.get("type"):
            case "message_start":
                self.said = said["message"]
            case "message_delta":
                self.said = overlaid(self.said, {**without(said, "type", "delta"), **(said.get("delta") or {})})
            case "message_stop":
                self.ended = True
            case "content_block_start" | "content_block_delta" | "content_block_stop":
                return self._hear(said)
        return ""

    def _hear(self, said: dict[str, Any]) -> str:
        pieces = self.parts.setdefault(said.get("index"), [])
        piece = said.get("content_block") or without(said.get("delta") or {}, "type")
        pieces.append({"citations": [piece["citation"]]} if "citation" in piece else piece)
        if pieces[0].get("type") == "text":
            return payload(self.mode, "", piece.get("text") or "")
        if pieces is not next((each for each in self.parts.values() if each[0].get("type") == "tool_use"), None):
            return ""
        whole = said["type"] == "content_block_stop" and not any(each.get("partial_json") for each in pieces)
        arguments = as_json(pieces[0].get("input") or {}) if whole else piece.get("partial_json")
        return payload(self.mode, arguments or "", "")

    def data(self) -> dict[str, Any]:
        """A message."""
        return {**self.said, "content": [_whole(fold(pieces)) for pieces in self.parts.values()]}


def _whole(block: dict[str, Any]) -> dict[str, Any]:
    """A block with the input that it came to; what is no JSON stays text, which no model takes."""
    text, said = block.get("partial_json"), without(block, "partial_json")
    with suppress(ValueError, RecursionError):
        return {**said, "input": json.loads(text)} if text else said
    return {**said, "input": text}
