"""Render, split and fold chat messages, without changing those that were given.

A message that the program writes is a template when there is a context; what people and models say never is:

* values from the context are inserted as they are, and not rendered again;
* messages of the assistant and of tools are left alone;
* text wrapped in `Verbatim` is left alone, wherever it stands.

>>> render([{"role": "user", "content": "Extract from: {{ text }}"}], {"text": "Ann is {{ 30 }}."})
[{'role': 'user', 'content': 'Extract from: Ann is {{ 30 }}.'}]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from textwrap import dedent
from typing import Any, TypeVar, cast

T = TypeVar("T")

_NEVER_TEMPLATES = frozenset({"assistant", "model", "chatbot", "tool", "function"})
_SYSTEM = frozenset({"system", "developer"})
_TEXT_KEYS = ("content", "parts", "message", "text")
_TEXT_TYPES = frozenset({"message", "text", "input_text"})
_MARKS = ("{{", "{%", "{#")


class Verbatim(str):
    """Text that is data and never a template: `{"role": "user", "content": Verbatim(whatever_somebody_typed)}`."""

    __slots__ = ()


def render(messages: T, context: Mapping[str, Any] | None) -> T:
    """`messages` with their templates rendered and dedented; without a context, the very same object.

    Understands the messages of OpenAI, Anthropic, Google and Cohere, and bare text; objects of an SDK are left alone.
    A template that is wrong or unsafe or does too much raises a jinja2.TemplateError (for the last two, its
    SecurityError) which names the message.
    """
    if not context:
        return messages
    if isinstance(messages, (str, dict)):  # a prompt, or one message of Google's
        return cast("T", _body(messages, context, "messages"))
    given = enumerate(cast("Iterable[Any]", messages))
    return cast("T", [_body(message, context, f"messages[{index}]") for index, message in given])


def _body(body: Any, context: Mapping[str, Any], where: str) -> Any:
    """A message, its content or a part of that."""
    if isinstance(body, str):
        return _text(body, context, where)
    if isinstance(body, list):
        return [_body(part, context, where) for part in body]
    if isinstance(body, dict) and _may_hold_templates(body):
        return body | {key: _body(body[key], context, where) for key in _TEXT_KEYS if key in body}
    return body


def _may_hold_templates(body: dict[str, Any]) -> bool:
    return str(body.get("role")).lower() not in _NEVER_TEMPLATES and body.get("type", "text") in _TEXT_TYPES


def _text(text: str, context: Mapping[str, Any], where: str) -> str:
    if isinstance(text, Verbatim):
        return str(text)
    source = dedent(text)
    if not any(mark in source for mark in _MARKS):
        return source
    from instructor import templates  # noqa: PLC0415 - Jinja2 is loaded when the first template is met, not before

    return templates.render(source, context, where)


def split_system(messages: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """The contents of the system and developer messages, and all the other messages."""
    messages = list(messages)
    contents = [message.get("content") for message in messages if _role(message) in _SYSTEM]
    return contents, [message for message in messages if _role(message) not in _SYSTEM]


def without_developers(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The request with its developers called the system, for APIs that know only that."""
    messages = kwargs.get("messages") or ()
    told = [{**message, "role": "system"} if _role(message) in _SYSTEM else message for message in messages]
    return {**kwargs, "messages": told} if told else kwargs


def fold(messages: Iterable[Any]) -> list[Any]:
    """The messages with neighbours of one role made one; tool messages, and those that call tools, stay alone."""
    folded: list[Any] = []
    for message in messages:
        if folded and _foldable(message) and _foldable(folded[-1]) and _role(message) == _role(folded[-1]):
            folded[-1] = {**folded[-1], "content": _joined(folded[-1]["content"], message["content"])}
        else:
            folded.append(message)
    return folded


def _role(message: Any) -> Any:
    return message.get("role") if isinstance(message, dict) else None


def _foldable(message: Any) -> bool:
    """Whether it says who speaks and what, and nothing else that would be lost or get a wrong owner."""
    if not isinstance(message, dict) or message.get("role") == "tool":
        return False
    said = {key for key, value in message.items() if value is not None}
    return said == {"role", "content"} and isinstance(message["content"], (str, list))


def _joined(first: str | list[Any], second: str | list[Any]) -> str | list[Any]:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return [*_parts(first), *_parts(second)]


def _parts(content: str | list[Any]) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content
