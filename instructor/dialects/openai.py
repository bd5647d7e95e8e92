"""OpenAI's chat completions, and every API that copies them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import field

from ..messages import fold as fold_messages
from ..mode import Mode
from ..schema import OPENAI
from ..shape import Shape
from .base import CALLED, MODES, Call, Ear, Finish, Reply, as_json, call, first, get, items, together, tool
from .pieces import fold, heard, overlaid, payload, present, without
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
    return {**kwargs, "messages": fold_messages([*told, {"role": "user", "content": FENCE}])}


def _tell(messages: list[Any], text: str) -> list[Any]:
    """The messages, with `text` added to the first system message, or as one."""
    for place, message in enumerate(messages):
        if isinstance(message, dict) and message.get("role") == "system":
            content = message.get("content") or ""
            told = f"{content}\n\n{text}" if isinstance(content, str) else [*content, {"type": "text", "text": text}]
            return [*messages[:place], {**message, "content": told}, *messages[place + 1 :]]
    return [{"role": "system", "content": text}, *messages]


# OpenRouter has errors, DeepSeek a lack of resources, Mistral the model's own length: there is more to say.
_CUT: dict[str, Finish] = dict.fromkeys(("length", "error", "insufficient_system_resource", "model_length"), "length")
_FINISH: dict[str, Finish] = {**_CUT, "content_filter": "refusal"}


def read(completion: Any) -> Reply:
    """The first choice; a provider that sends none, or one without a message, has said nothing."""
    choice = first(completion, "choices")
    message = get(choice, "message")
    refusal = together([get(message, "refusal") or None])
    legacy = {"function": get(message, "function_call")}
    made = [each for each in (*items(message, "tool_calls"), legacy) if get(each, "function") is not None]
    return Reply(
        text=_text(message),
        calls=tuple(call(get(each, "id"), get(each, "function"), "arguments") for each in made),
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


class Listener(Ear):
    """Hears chunks. Of several choices the first heard is the one that counts."""

    calls: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    def hear(self, event: Any) -> str:
        """The text that a chunk adds."""
        chunk = heard(event, name)
        self.said = overlaid(self.said, without(chunk, "choices"))
        return "".join(map(self._hear, items(chunk, "choices")))

    def _hear(self, choice: dict[str, Any]) -> str:
        index, delta = choice.get("index") or 0, choice.get("delta") or {}
        begun = self.calls.setdefault(index, [])
        made = [{**each, "index": _place(begun, each)} for each in items(delta, "tool_calls")]
        delta = {**delta, "tool_calls": made or None}
        self.parts.setdefault(index, []).append({**without(choice, "message"), "index": index, "delta": delta})
        if index != next(iter(self.parts)):
            return ""
        self.ended = self.ended or bool(choice.get("finish_reason"))
        functions = (get(each, "function") for each in made if each["index"] == 0)
        said = [get(each, "arguments") for each in (functions if begun else [delta.get("function_call")])]
        arguments = "".join(as_json(each) for each in said if each is not None)
        return payload(self.mode, arguments, _text(delta) or "")

    def data(self) -> dict[str, Any]:
        """A chat completion. Groq has a place of its own for what it costs; `obfuscation` is noise, and says so."""
        usage = self.said.get("usage") or get(self.said.get("x_groq"), "usage")
        choices = [_whole(fold(pieces)) for pieces in self.parts.values()]
        return {**without(self.said, "obfuscation"), "object": "chat.completion", "choices": choices, "usage": usage}


def _place(begun: list[dict[str, Any]], made: Any) -> int:
    """The place of the call that a piece is of: the one of its index or its id, without either the last one.

    A name begins another call, where it comes with another id or with neither: not every imitator counts.
    """
    called = get(get(made, "function"), "name")
    piece = present({"index": get(made, "index"), "id": get(made, "id"), "name": called})
    key = next((key for key in ("index", "id") if key in piece), "")
    place = max((n for n, call in enumerate(begun) if call.get(key) == piece.get(key)), default=len(begun))
    known = begun[place] if place < len(begun) else {}
    if called and known.get("name") and (piece["id"] != known.get("id") if "id" in piece else not key):
        place, known = len(begun), {}
    begun[place : place + 1] = [{**known, **piece}]
    return place


def _whole(choice: dict[str, Any]) -> dict[str, Any]:
    """A choice whose delta is all that was said."""
    delta = choice["delta"]
    calls = [{"type": "function", **without(made, "index")} for made in items(delta, "tool_calls")]
    message = {"role": "assistant", "content": None, **present(delta), "tool_calls": calls or None}
    return {**without(choice, "delta"), "message": message}
