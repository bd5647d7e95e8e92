"""xAI's chat, as its gRPC SDK speaks it: asked in OpenAI's words, which become protobuf messages at the edge."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from msgspec import field

from ..cache.completion import written
from ..mode import Mode
from ..shape import Shape
from . import openai
from .base import MODES, Call, Ear, Finish, Reply, get, listed
from .openai import reask
from .pieces import payload

__all__ = ["ask", "modes", "name", "read", "reask", "version"]

name = "xai"
version = 1
modes = MODES


def ask(kwargs: Mapping[str, Any], shape: Shape | None, mode: Mode) -> dict[str, Any]:
    """As OpenAI is asked, but for what the SDK has no word for: a timeout is the client's."""
    named = {_NAMES.get(key, key): value for key, value in kwargs.items() if value is not None and key != "timeout"}
    return openai.ask({**named, "stop": listed(named["stop"])} if "stop" in named else named, shape, mode)


_NAMES = {"max_completion_tokens": "max_tokens"}
_FINISH: dict[int, Finish] = dict.fromkeys((1, 2, 5), "length")
"""Source: xAI's `sample.proto`: REASON_MAX_LEN, REASON_MAX_CONTEXT, REASON_TIME_LIMIT."""
_OURS = {0, 1}
"""Source: xAI's `chat.proto`: what is no TOOL_CALL_TYPE_CLIENT_SIDE_TOOL, or of no type, xAI itself has called."""


def read(completion: Any) -> Reply:
    """The last output's text, and the calls of tools that are not xAI's own; before the last it was at work itself."""
    said = get(completion, "proto")
    outputs = list(get(said, "outputs") or ())
    made = [each for output in outputs for each in output.message.tool_calls if each.type in _OURS]
    return Reply(
        text=(outputs[-1].message.content or None) if outputs else None,
        calls=tuple(Call(each.id, each.function.name, each.function.arguments or "{}") for each in made),
        finish=_FINISH.get(outputs[-1].finish_reason, "stop") if outputs else "stop",
        usage=_counts(get(said, "usage")),
    )


def _counts(usage: Any) -> dict[str, int] | None:
    """A usage that can be added to another one."""
    fields = usage.ListFields() if hasattr(usage, "ListFields") else ()
    return {field.name: value for field, value in fields if isinstance(value, int)} or None


class Listener(Ear):
    """Hears chunks, and has the SDK put them together."""

    whole: Any = None
    calls: list[str] = field(default_factory=list)

    def hear(self, event: Any) -> str:
        """The text that a chunk adds; the first call's arguments, which come whole."""
        if self.whole is None:
            self.whole = _response()
        self.whole.process_chunk(event.proto)
        return "".join(map(self._hear, event.proto.outputs))

    def _hear(self, output: Any) -> str:
        made = [each.function.arguments or "{}" for each in output.delta.tool_calls if each.type in _OURS]
        arguments = made[0] if made and not self.calls else ""
        self.calls += made
        self.ended = self.ended or output.finish_reason != 0
        return payload(self.mode, arguments, output.delta.content)

    def data(self) -> dict[str, Any]:
        """A response, written down."""
        return written(_response() if self.whole is None else self.whole)


def _response() -> Any:
    from xai_sdk.chat import Response, chat_pb2  # noqa: PLC0415  an SDK

    return Response(chat_pb2.GetChatCompletionResponse(), None)


# How the SDK's client is asked, and what is known of it.


def sample(client: Any) -> Callable[..., Any]:
    """The function that asks, for either client."""
    return lambda **kwargs: _chat(client, kwargs).sample()


def chunks(client: Any) -> Callable[..., Any]:
    """The function that gives a stream of chunks, without what they have come to so far, which comes with each."""
    return lambda **kwargs: (chunk for _, chunk in _chat(client, kwargs).stream())


def chunks_async(client: Any) -> Callable[..., Any]:
    """The same, from an event loop."""
    return lambda **kwargs: (chunk async for _, chunk in _chat(client, kwargs).stream())


def _chat(client: Any, kwargs: dict[str, Any]) -> Any:
    """The question in protobuf messages, which it may hold already."""
    from xai_sdk.chat import chat_pb2  # noqa: PLC0415  an SDK

    given = {
        "messages": [_parsed(each, _message, chat_pb2.Message()) for each in kwargs.get("messages") or ()],
        "tools": [_parsed(each, _tool, chat_pb2.Tool()) for each in kwargs.get("tools") or ()],
        "tool_choice": _parsed(kwargs.get("tool_choice"), _choice, chat_pb2.ToolChoice()),
        "response_format": _parsed(kwargs.get("response_format"), _format, chat_pb2.ResponseFormat()),
    }
    return client.chat.create(**{**kwargs, **{key: value for key, value in given.items() if key in kwargs}})


def _parsed(given: Any, word: Callable[[dict[str, Any]], Any], message: Any) -> Any:
    """The message that a dict of OpenAI's stands for; a word of the SDK's, or a message of its own, as it is."""
    from google.protobuf.json_format import ParseDict  # noqa: PLC0415  comes with an SDK

    said = word(given) if isinstance(given, dict) else given
    return ParseDict(said, message) if isinstance(said, dict) else said


def _message(message: dict[str, Any]) -> dict[str, Any]:
    made = [{**each, "type": "TOOL_CALL_TYPE_CLIENT_SIDE_TOOL"} for each in message.get("tool_calls") or ()]
    content = [_content(part) for part in listed(message.get("content"))]
    return {**message, "role": f"ROLE_{str(message.get('role')).upper()}", "content": content, "tool_calls": made}


def _content(part: Any) -> Any:
    return {"text": part} if isinstance(part, str) else {key: part[key] for key in part if key != "type"}


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool["function"]
    return {"function": {**function, "parameters": json.dumps(function["parameters"], ensure_ascii=False)}}


def _choice(forced: dict[str, Any]) -> dict[str, Any]:
    return {"function_name": forced["function"]["name"]}


def _format(wanted: dict[str, Any]) -> Any:
    if wanted["type"] != "json_schema":
        return wanted["type"]
    schema = json.dumps(wanted["json_schema"]["schema"], ensure_ascii=False)
    return {"format_type": "FORMAT_TYPE_JSON_SCHEMA", "schema": schema}


class Late:
    """An asynchronous client of gRPC's: it belongs to the event loop in which it was made, so each loop has its own."""

    def __init__(self, make: Callable[..., Any], **options: Any) -> None:
        self._make, self._options = make, options
        self._made: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    def __getattr__(self, name: str) -> Any:
        loop = asyncio.get_running_loop()
        if loop not in self._made:
            self._made[loop] = self._make(**self._options)
        return getattr(self._made[loop], name)


def place(client: Any) -> Any:
    """Where a client that we made asks."""
    return vars(client).get("_place")


def account(client: Any) -> str:
    """Whose account a client that we made uses. The SDK hides the key of any other: that is an account of its own."""
    return vars(client).setdefault("_account", uuid.uuid4().hex)  # type: ignore[no-any-return]
