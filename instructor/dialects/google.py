"""Google's generateContent, as the google-genai SDK speaks it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import Any

from msgspec import field

from ..messages import split_system
from ..mode import Mode
from ..retry import milliseconds
from ..schema import GOOGLE, fit
from ..shape import Shape
from .base import CALLED, MODES, Ear, Finish, Reply, as_json, call, dumped, first, get, items, joined, listed, together
from .pieces import fold, heard, overlaid, payload, present, without
from .prompts import in_words, mend

name = "google"
version = 1
modes = MODES


def ask(kwargs: Mapping[str, Any], shape: Shape | None, mode: Mode) -> dict[str, Any]:
    """Name the shape as a function, as the response's schema, or in the system's words."""
    words, rest = split_system(kwargs.get("messages") or [])
    config = _tell(_config(kwargs), [kwargs.get("system"), *words])
    asked = {key: value for key, value in kwargs.items() if key not in _MOVED}
    given = kwargs.get("contents")  # alone, they pass as they are
    asked["contents"] = given if given is not None and not rest else [*map(_content, rest), *listed(given)]
    if shape is not None:
        config = {**_shaped(config, shape, mode), "safety_settings": _safety(config.get("safety_settings"))}
    return {**asked, "config": config} if config else asked


def _shaped(config: dict[str, Any], shape: Shape, mode: Mode) -> dict[str, Any]:
    if mode in CALLED:  # a forced function always fits its schema: there is nothing stricter
        return _called(config, shape)
    if mode is Mode.MD_JSON:
        return _tell(config, in_words(shape.schema, mode))
    free = {key: value for key, value in config.items() if key != "response_schema"}  # the API takes one
    return {**free, "response_mime_type": "application/json", "response_json_schema": fit(shape.schema, GOOGLE)}


def _called(config: dict[str, Any], shape: Shape) -> dict[str, Any]:
    functions = [_function(each) for each in shape.tools or (shape,)]
    tools = [*listed(config.get("tools")), {"function_declarations": functions}]
    calling = {"mode": "AUTO"} if shape.tools else {"mode": "ANY", "allowed_function_names": [shape.name]}
    tool_config = {**_fields(config.get("tool_config")), "function_calling_config": calling}
    return {**config, "tools": tools, "tool_config": tool_config}


def _function(shape: Shape) -> dict[str, Any]:
    schema = fit(shape.parameters, GOOGLE)
    return {"name": shape.name, "description": shape.description, "parameters_json_schema": schema}


_SETTINGS = (
    *("temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty", "max_output_tokens"),
    *("candidate_count", "stop_sequences", "system_instruction", "safety_settings", "thinking_config", "tools"),
    *("tool_config", "automatic_function_calling", "cached_content", "labels", "media_resolution", "http_options"),
)
_LIMITS = dict.fromkeys(("max_tokens", "max_completion_tokens"), "max_output_tokens")
_CONFIG = {**{each: each for each in _SETTINGS}, **_LIMITS, "n": "candidate_count", "stop": "stop_sequences"}
_HTTP = {"extra_headers": "headers", "extra_body": "extra_body", "timeout": "timeout"}
_MOVED = {"messages", "contents", "config", "system", "stream", *_CONFIG, *_HTTP}


def _config(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a question, OpenAI's names translated; where `config` says otherwise, it knows better."""
    config = {**_renamed(kwargs, _CONFIG), **_fields(kwargs.get("config"))}
    if "stop_sequences" in config:
        config["stop_sequences"] = listed(config["stop_sequences"])
    http = _renamed({**kwargs, "timeout": milliseconds(kwargs.get("timeout"))}, _HTTP)
    return {**config, "http_options": {**http, **_fields(config.get("http_options"))}} if http else config


def _renamed(kwargs: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names[key]: value for key, value in kwargs.items() if key in names and value is not None}


def _fields(thing: Any) -> dict[str, Any]:
    """What is set in an SDK's object, or in the dict that stands for it; values stay as they are."""
    return {key: value for key, value in dict(thing or {}).items() if value is not None}


def _tell(config: dict[str, Any], words: list[Any]) -> dict[str, Any]:
    """The settings with `words` after those of the system instruction."""
    if not any(words):
        return config
    given = config.get("system_instruction")
    said = joined(_text(part) for content in (get(given, "parts") or given, *words) for part in listed(content))
    return {**config, "system_instruction": said}


_TEXTUAL = ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT", "CIVIC_INTEGRITY")


def _safety(given: Any) -> list[Any]:
    """The settings given, and no filter for the other categories of text: extraction repeats what it is shown."""
    if isinstance(given, Mapping):
        given = [{"category": _word(category), "threshold": threshold} for category, threshold in given.items()]
    named = {_word(get(setting, "category")) for setting in listed(given)}
    textual = (f"HARM_CATEGORY_{each}" for each in _TEXTUAL)
    return [*listed(given), *({"category": each, "threshold": "OFF"} for each in textual if each not in named)]


def _word(member: Any) -> str:
    """An enum's member as the word that it is on the wire."""
    return str(getattr(member, "value", member) or "")


def _content(message: Any) -> Any:
    """A message as Google's content, which it may be already."""
    if not isinstance(message, dict) or "parts" in message:
        return message
    texts = map(_text, listed(message.get("content")))
    parts = [{"text": part} if isinstance(part, str) else part for part in texts]
    return {"role": "model" if message.get("role") in {"assistant", "model"} else "user", "parts": parts}


def _text(part: Any) -> Any:
    """The text of a part that OpenAI would call one."""
    return (part.get("text") or "") if isinstance(part, dict) and part.get("type") == "text" else part


_FINISH: dict[str, Finish] = {
    **dict.fromkeys(("", "STOP", "FINISH_REASON_UNSPECIFIED"), "stop"),
    # The model was done, and what it said would not do: worth asking again.
    **dict.fromkeys(("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"), "stop"),
    **dict.fromkeys(("MALFORMED_RESPONSE", "MISSING_THOUGHT_SIGNATURE"), "stop"),
    **dict.fromkeys(("MAX_TOKENS", "CONTINUATION"), "length"),
}


def read(completion: Any) -> Reply:
    """The first candidate: its text without its thoughts, and its function calls.

    Every reason to stop that is not known to be harmless is a filter's.
    """
    candidate, feedback = first(completion, "candidates"), get(completion, "prompt_feedback")
    parts = items(get(candidate, "content"), "parts")
    made = [get(part, "function_call") for part in parts]
    blocked, reason = _word(get(feedback, "block_reason")), _word(get(candidate, "finish_reason"))
    finish = "refusal" if blocked else _FINISH.get(reason, "refusal")
    words = get(feedback, "block_reason_message") or get(candidate, "finish_message") or blocked or reason
    return Reply(
        text=together(get(part, "text") for part in parts if not get(part, "thought")),
        calls=tuple(call(get(each, "id"), each, "args") for each in made if each is not None),
        finish=finish,
        refusal=str(words) if finish == "refusal" else None,
        usage=get(completion, "usage_metadata"),
    )


def reask(kwargs: Mapping[str, Any], completion: Any, reply: Reply, problem: Exception, mode: Mode) -> dict[str, Any]:
    """Give the model its own parts back, and answer each call with the error; without one, correct it as users do."""
    parts = items(get(first(completion, "candidates"), "content"), "parts")
    said = [{"role": "model", "parts": [dumped(part, exclude_none=True) for part in parts]}] if parts else []
    error = mend(problem, mode)
    answers = [{"name": each.name, "response": {"error": error}, "id": each.id or None} for each in reply.calls]
    told: list[Any] = [{"function_response": answer} for answer in answers] or [{"text": error}]
    return {**kwargs, "contents": [*listed(kwargs["contents"]), *said, {"role": "user", "parts": told}]}


class Listener(Ear):
    """Hears responses, each of them a piece. Of several candidates the first heard is the one that counts.

    Calls whose arguments come in pieces, which only those get who ask for them, are passed on, but never end.
    """

    candidates: dict[int, dict[str, Any]] = field(default_factory=dict)
    calls: list[Any] = field(default_factory=list)

    def hear(self, event: Any) -> str:
        """The text that a response adds; the first call's arguments, which come whole."""
        chunk = heard(event, name)
        self.said = overlaid(self.said, without(chunk, "candidates", "parsed"))  # what the SDK makes of one piece
        self.ended = self.ended or bool(get(chunk.get("prompt_feedback"), "block_reason"))
        return "".join(map(self._hear, items(chunk, "candidates")))

    def _hear(self, candidate: dict[str, Any]) -> str:
        index = candidate.get("index") or 0
        told = [part for part in items(candidate.get("content"), "parts") if present(part)]
        self.candidates[index] = overlaid(self.candidates.get(index, {}), candidate)
        self.parts.setdefault(index, []).extend(told)
        if index != next(iter(self.candidates)):
            return ""
        made = [part["function_call"] for part in told if part.get("function_call") is not None]
        arguments = as_json(made[0].get("args") or {}) if made and not self.calls else ""
        self.calls += made
        torn = any(each.get("will_continue") or each.get("partial_args") for each in self.calls)
        finished = candidate.get("finish_reason") not in {None, "", "FINISH_REASON_UNSPECIFIED"}
        self.ended = self.ended or (finished and not torn)
        text = together(get(part, "text") for part in told if not get(part, "thought"))
        return payload(self.mode, arguments, text or "")

    def data(self) -> dict[str, Any]:
        """A response."""
        candidates = [{**said, "content": self._content(index)} for index, said in self.candidates.items()]
        return {**self.said, **({"candidates": candidates} if candidates else {})}

    def _content(self, index: int) -> dict[str, Any]:
        parts = [fold(run) for _, run in groupby(self.parts[index], _kind)]
        return {"role": "model", **(self.candidates[index].get("content") or {}), "parts": parts}


def _kind(part: dict[str, Any]) -> Any:
    """What neighbours that are one text have in common, as nothing has that is more than text."""
    return bool(part.get("thought")) if part.keys() <= {"text", "thought"} else id(part)
