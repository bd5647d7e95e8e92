"""What calls cost, added up in the provider's own units."""

from __future__ import annotations

from typing import Any

import pydantic

from .dialects.base import get


def add(total: Any, usage: Any) -> Any:
    """The sum of two usages of one type, field by field, extra fields too; a new object."""
    if isinstance(usage, (pydantic.BaseModel, dict)):
        mine = dict(total or {})
        summed = mine | {name: add(mine.get(name), value) for name, value in dict(usage).items()}
        return summed if isinstance(usage, dict) else usage.model_copy(update=summed)
    if _is_number(usage):
        return usage + total if _is_number(total) else usage
    return total if usage is None else usage


def nothing(usage: Any) -> Any:
    """A usage of the same type that cost nothing: what an answer from the cache costs."""
    if isinstance(usage, pydantic.BaseModel):
        return usage.model_copy(update={name: nothing(value) for name, value in usage})
    if isinstance(usage, list):
        return [nothing(value) for value in usage]
    if isinstance(usage, dict):
        return {name: nothing(value) for name, value in usage.items()}
    return type(usage)(0) if _is_number(usage) else usage


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def tokens(usage: Any) -> int | None:
    """All tokens that a usage counts, or None when it does not say."""
    for names in (("total_tokens",), ("total_token_count",), ("input_tokens", "output_tokens")):
        counts = [get(usage, name) for name in names]
        if all(_is_number(count) for count in counts):
            return int(sum(counts))
    return None
