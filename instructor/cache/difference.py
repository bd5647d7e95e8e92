"""Why two requests have one key or two: what of their arguments counts, and where that differs first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import zip_longest
from typing import Any

from .key import _SPELLED, canonical, settings

_OURS = {"response_model", "model", "messages", "system", "mode", "strict", "context", "cache_namespace"}
"""Arguments that have places of their own in a question."""
_UNASKED = {"max_retries", "hooks", "token_budget", "cache", "cache_ttl", "cache_mode", "cache_tags"}
_UNASKED |= {"stale_if_error", "stale_while_revalidate"}
"""Arguments that say what is done with an answer, not what is asked."""

ABSENT = type("Absent", (), {"__repr__": lambda _: "(absent)"})()
"""Stands where one of two requests has nothing."""


def first_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The path to what makes two requests two questions, and what stands there in each; None for one question."""
    return next(_differences(_counted(one), _counted(other), ""), None)


def _counted(request: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that make the key, each spelled in one way."""
    given = {"strict": True, **{name: value for name, value in request.items() if value is not None}}
    ours = {name: given[name] for name in given.keys() & _OURS}
    if isinstance(mode := ours.get("mode"), str):
        ours["mode"] = _SPELLED.get(mode, mode)
    rest = {name: value for name, value in request.items() if name not in _OURS | _UNASKED}
    context = {"context": ours.pop("context")} if "context" in ours else {}  # counts where a model looks at it
    return {**{name: ours[name] for name in sorted(ours)}, **(settings(rest) or {}), **context}


def _differences(one: Any, other: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if type(one) is type(other) is dict:
        for name in dict.fromkeys((*one, *other)):
            inside = f"{path}.{name}" if path else name
            yield from _differences(one.get(name, ABSENT), other.get(name, ABSENT), inside)
    elif type(one) is type(other) is list:
        for place, pair in enumerate(zip_longest(one, other, fillvalue=ABSENT)):
            yield from _differences(*pair, f"{path}[{place}]")
    elif one is ABSENT or other is ABSENT or canonical(one) != canonical(other):
        yield path, one, other
