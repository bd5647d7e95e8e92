"""What we say to a model in words, where its API has no other way."""

from __future__ import annotations

import json
from typing import Any

from ..mode import Mode
from .base import CALLED

FENCE = "Answer with the JSON object in a ```json code block: the data, not its schema."


def follow(schema: dict[str, Any]) -> str:
    """Ask for JSON that fits a schema."""
    return (
        "Read what follows with care, and answer with one JSON object that holds what it says and fits this JSON "
        f"schema:\n\n{json.dumps(schema, indent=2, ensure_ascii=False)}\n\n"
        "Answer with an instance of the schema, never with the schema itself."
    )


def in_words(schema: dict[str, Any], mode: Mode) -> list[str]:
    """All that there is to say in a mode of words."""
    return [follow(schema), FENCE] if mode is Mode.MD_JSON else [follow(schema)]


def mend(problem: Exception, mode: Mode) -> str:
    """Ask for the tool calls, or for the JSON, again."""
    if mode is Mode.PARALLEL_TOOLS:  # what was right is needed again too: only the last answer counts
        return f"Validation Error found:\n{problem}\nMake all your calls again with these errors fixed."
    if mode in CALLED:
        return f"Validation Error found:\n{problem}\nCall the tool again with these errors fixed."
    return f"Correct your JSON. Answer with JSON only, with these errors fixed:\n{problem}"
