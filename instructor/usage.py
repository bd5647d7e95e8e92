"""What calls cost, added up in the provider's own units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pydantic


def add(total: Any, usage: Any) -> Any:
    """The sum of two usages of one type, field by field, extra fields too; a new object."""
    if isinstance(usage, pydantic.BaseModel):
        mine = dict(total) if total is not None else {}
        summed = {name: add(mine.get(name), value) for name, value in usage}
        return usage.model_copy(update={**{k: v for k, v in mine.items() if k not in summed}, **summed})
    if isinstance(usage, dict):
        mine = total or {}
        return {**mine, **{name: add(mine.get(name), value) for name, value in usage.items()}}
    if _is_number(usage):
        return usage + total if _is_number(total) else usage
    return total if usage is None else usage


def nothing(usage: Any) -> Any:
    """A usage of the same type that cost nothing: what an answer from the cache costs."""
    return _each_number(usage, lambda number: type(number)(0))


def _each_number(usage: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(usage, pydantic.BaseModel):
        return usage.model_copy(update={name: _each_number(value, change) for name, value in usage})
    if isinstance(usage, list):
        return [_each_number(value, change) for value in usage]
    if isinstance(usage, dict):
        return {name: _each_number(value, change) for name, value in usage.items()}
    return change(usage) if _is_number(usage) else usage


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def tokens(usage: Any) -> int | None:
    """All tokens that a usage counts, or None when it does not say."""
    for names in (("total_tokens",), ("total_token_count",), ("input_tokens", "output_tokens")):
        counts = [_field(usage, name) for name in names]
        if all(_is_number(count) for count in counts):
            return int(sum(counts))
    return None


def _field(usage: Any, name: str) -> Any:
    return usage.get(name) if isinstance(usage, dict) else getattr(usage, name, None)
