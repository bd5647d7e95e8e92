"""Writer's chat: OpenAI's, but for how a tool is forced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..mode import Mode
from ..shape import Shape
from . import openai
from .base import CALLED, MODES

name = "writer"
version = 1
modes = MODES - {Mode.PARALLEL_TOOLS, Mode.JSON}
read, reask, Listener = openai.read, openai.reask, openai.Listener


def ask(kwargs: Mapping[str, Any], shape: Shape | None, mode: Mode) -> dict[str, Any]:
    """As OpenAI is asked; no tool is strict here."""
    if shape is None or mode not in CALLED:
        return openai.ask(kwargs, shape, mode)
    return {**openai.ask(kwargs, shape, Mode.TOOLS), "tool_choice": {"value": "required"}}
