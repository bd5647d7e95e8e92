"""Mistral's chat completions: OpenAI's, but for some words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..messages import without_developers
from ..mode import Mode
from ..retry import milliseconds
from ..schema import MISTRAL, fit
from ..shape import Shape
from . import openai
from .base import CALLED, MODES, get
from .pieces import renamed, without

name = "mistral"
version = 1
modes = MODES - {Mode.PARALLEL_TOOLS}
read, reask = openai.read, openai.reask

_NAMES = {"seed": "random_seed", "max_completion_tokens": "max_tokens", "extra_headers": "http_headers"}


def ask(kwargs: Mapping[str, Any], shape: Shape | None, mode: Mode) -> dict[str, Any]:
    """As OpenAI is asked; any tool is the one there is, and a schema is exact where it can be."""
    asked = openai.ask(_native(kwargs), shape, mode)
    if shape is None:
        return asked
    if mode in CALLED:
        return {**asked, "tool_choice": "any"}
    exact = fit(shape.schema, MISTRAL) if mode is Mode.JSON_SCHEMA else None
    if exact is None:
        return asked
    described = {"name": shape.name, "schema": exact, "strict": True}
    return {**asked, "response_format": {"type": "json_schema", "json_schema": described}}


def _native(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    timed = {"timeout_ms": milliseconds(kwargs.get("timeout")), **without(kwargs, "timeout")}
    return without_developers(renamed(timed, _NAMES))


class Listener(openai.Listener):
    """Hears chunks, each in an event of its own."""

    def hear(self, event: Any) -> str:
        """The text that a chunk adds."""
        return openai.Listener.hear(self, get(event, "data") or event)

    def data(self) -> dict[str, Any]:
        """A chat completion, which here always says what it costs."""
        data = openai.Listener.data(self)
        return {**data, "usage": data["usage"] or {}}
