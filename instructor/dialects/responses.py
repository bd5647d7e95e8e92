"""OpenAI's Responses API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..exceptions import ProviderError
from ..mode import Mode
from ..schema import OPENAI, fit
from ..shape import Shape
from .base import Ear, Finish, Reply, call, dumped, get, items, listed, together, tool
from .pieces import without
from .prompts import mend

name = "responses"
version = 1
modes = frozenset({Mode.RESPONSES_TOOLS})

_LIMITS = ("max_tokens", "max_completion_tokens")


def ask(kwargs: Mapping[str, Any], shape: Shape | None, _mode: Mode) -> dict[str, Any]:
    """Name the shape as the last of the tools, and as the format of the text: a model that is free may answer in both.

    Raises:
        TypeError: there is no question, or there are two.
    """
    limits = [{"max_output_tokens": kwargs[key]} for key in _LIMITS if kwargs.get(key) is not None]
    asked = {**(limits[-1] if limits else {}), **without(kwargs, "messages", *_LIMITS), "input": _input(kwargs)}
    if "tools" in asked:
        asked["tools"] = [_flat(each) for each in listed(asked["tools"])]
    return asked if shape is None else _shaped(asked, shape)


def _shaped(asked: dict[str, Any], shape: Shape) -> dict[str, Any]:
    """A function is strict here unless it says that it is not; the user's own tools must stay free to be called."""
    ours = {"type": "function", "strict": False, **tool(shape, "parameters", OPENAI, Mode.TOOLS_STRICT)}
    own = asked.get("tools") or []
    choice = (asked.get("tool_choice") or "auto") if own else {"type": "function", "name": shape.name}
    called = {**asked, "tools": [*own, ours], "tool_choice": choice}
    exact = fit(shape.schema, OPENAI)
    if exact is None:
        return called
    described = {"type": "json_schema", "name": shape.name, "schema": exact, "strict": True}
    return {**called, "text": {**(asked.get("text") or {}), "format": described}}


def _flat(given: Any) -> Any:
    """A tool, which may be written as the chat API has it."""
    return {"type": "function", **given["function"]} if get(given, "function") else given


def _input(kwargs: Mapping[str, Any]) -> list[Any]:
    messages, given = kwargs.get("messages"), kwargs.get("input")
    if (messages is None) is (given is None):
        problem = "neither is given" if given is None else "both are given"
        raise TypeError(f"A question is `messages` or `input`, but {problem}. Pass one of them.")
    said: Any = [{"role": "user", "content": given}] if isinstance(given, str) else messages if given is None else given
    return [item for message in said for item in _items(message)]


_CHATTY = {"name", "refusal", "annotations", "audio", "function_call", "tool_calls"}


def _items(message: Any) -> list[Any]:
    """A message of the chat API as the items that say the same; everything else as it is."""
    if not isinstance(message, dict) or "role" not in message or "type" in message:
        return [message]
    role, content, calls = message["role"], message.get("content"), message.get("tool_calls") or ()
    parts = [_part(part, role) for part in content] if isinstance(content, (list, tuple)) else content
    if role == "tool":
        return [_output(message.get("tool_call_id"), parts or "")]
    said = [{**without(message, *_CHATTY), "content": parts or ""}] if parts or not calls else []
    return [*said, *map(_called, calls)]


def _called(made: Any) -> dict[str, Any]:
    function = get(made, "function")
    called = {"name": get(function, "name"), "arguments": get(function, "arguments") or "{}"}
    return {"type": "function_call", "call_id": get(made, "id"), **called}


def _output(call_id: Any, output: Any) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def _part(part: Any, role: str) -> Any:
    """A part of a message's content under the name it has here."""
    match get(part, "type"):
        case "text":
            return {"type": "output_text" if role == "assistant" else "input_text", "text": get(part, "text")}
        case "image_url":
            image = get(part, "image_url")
            url = image if isinstance(image, str) else get(image, "url")
            return {"type": "input_image", "image_url": url, "detail": get(image, "detail") or "auto"}
        case "file":
            return {"type": "input_file", **get(part, "file")}
    return part


def read(completion: Any) -> Reply:
    """The texts of all messages as one, and the functions called; reasoning is nobody's answer.

    Raises:
        ProviderError: the API says that it failed.
    """
    if get(completion, "status") == "failed":
        raise _failed(get(completion, "error"))
    output = items(completion, "output")
    parts = [part for item in output if get(item, "type") == "message" for part in items(item, "content")]
    refusal = together(get(part, "refusal") for part in parts if get(part, "type") == "refusal")
    called = [item for item in output if get(item, "type") == "function_call"]
    return Reply(
        text=together(get(part, "text") for part in parts if get(part, "type") == "output_text"),
        calls=tuple(call(get(item, "call_id"), item, "arguments") for item in called),
        finish="refusal" if refusal else _finish(completion),
        refusal=refusal,
        usage=get(completion, "usage"),
    )


def _finish(completion: Any) -> Finish:
    """Whatever is not completed was cut off, by a filter or by something else."""
    if get(get(completion, "incomplete_details"), "reason") == "content_filter":
        return "refusal"
    return "stop" if get(completion, "status") in {None, "completed"} else "length"


def _failed(error: Any) -> ProviderError:
    words = [get(error, "code"), get(error, "message") or "the response failed, and does not say why"]
    return ProviderError("openai", ": ".join(str(word) for word in words if word))


def reask(kwargs: Mapping[str, Any], completion: Any, reply: Reply, problem: Exception, _mode: Mode) -> dict[str, Any]:
    """Give the model its own items back, thoughts and all, and answer each call with the error."""
    ours = kwargs["tools"][-1]["name"]
    words, other = {ours: mend(problem, Mode.TOOLS)}, f"This tool cannot be run here. Answer by calling `{ours}`."
    answers = [_output(made.id, words.get(made.name, other)) for made in reply.calls]
    answers = answers or [{"role": "user", "content": mend(problem, Mode.JSON_SCHEMA)}]
    if kwargs.get("conversation"):  # where the API itself adds what was asked and answered
        return {**kwargs, "input": answers}
    return {**kwargs, "input": [*kwargs["input"], *_returned(completion, kept=kwargs.get("store")), *answers]}


def _returned(completion: Any, *, kept: bool | None) -> list[Any]:
    """The items of an answer as a request takes them; unless they were `kept`, their ids mean nothing to the API.

    Nor does a thought that was neither kept nor encrypted.
    """
    output = [_wire(item, exclude_none=True) for item in items(completion, "output")]
    if kept is not False:
        return output
    known = [item for item in output if get(item, "type") != "reasoning" or get(item, "encrypted_content")]
    return [item if "encrypted_content" in item else without(item, "id") for item in known]


class Listener(Ear):
    """What the events of one response add up to.

    The payload is the arguments of our function, which is the last of the tools that the API repeats; until it is
    called, it may be the text.
    """

    call: Any = None

    def hear(self, event: Any) -> str:
        """The text that an event adds to the payload.

        Raises:
            ProviderError: the API reports an error in mid-stream.
        """
        match get(event, "type"):
            case "error":
                raise _failed(get(event, "error") or event)
            case "response.output_item.added" if self.call is None and self._is_ours(get(event, "item")):
                self.call = get(event, "output_index")
            case "response.output_item.done":
                self.parts.setdefault(get(event, "output_index"), []).append(get(event, "item"))
            case "response.function_call_arguments.delta" if get(event, "output_index") == self.call:
                return str(get(event, "delta"))
            case "response.output_text.delta" if self.call is None:
                return str(get(event, "delta"))
            case kind:
                self.said = get(event, "response") or self.said
                self.ended = self.ended or kind in {"response.completed", "response.incomplete", "response.failed"}
        return ""

    def _is_ours(self, item: Any) -> bool:
        told = items(self.said, "tools")
        return get(item, "type") == "function_call" and (not told or get(item, "name") == get(told[-1], "name"))

    def data(self) -> dict[str, Any]:
        """The response, as the last event tells it; the items that were done where it does not hold them itself."""
        data = _wire(self.said)
        return {**data, "output": data.get("output") or [_wire(item) for done in self.parts.values() for item in done]}


def _wire(thing: Any, **options: bool) -> Any:
    """An SDK's object under the names that it has on the wire."""
    return dumped(thing, mode="json", by_alias=True, exclude_unset=True, **options)
