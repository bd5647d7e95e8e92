"""What a provider sends in pieces: understood one by one, kept as they came, joined once at the end."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping
from itertools import chain
from typing import Any

from ..exceptions import ProviderError
from ..mode import Mode
from .base import CALLED, dumped, get


def heard(event: Any, provider: str) -> dict[str, Any]:
    """An event as JSON data, whatever an SDK, an imitator or a user's function makes of it.

    Raises:
        ProviderError: the event is an error.
    """
    data: dict[str, Any] = event if isinstance(event, dict) else _data(event)
    if error := data.get("error"):
        raise ProviderError(provider, str(get(error, "message") or error))
    return data


def _data(thing: Any) -> Any:
    data = dumped(thing, mode="json", exclude_unset=True)
    return json.loads(json.dumps(vars(thing), default=_data)) if data is thing else data


def payload(mode: Mode, arguments: str, text: str) -> str:
    """What of an event counts in a mode: of several calls, no part before they are whole."""
    return "" if mode is Mode.PARALLEL_TOOLS else arguments if mode in CALLED else text


def present(data: Mapping[str, Any]) -> dict[str, Any]:
    """The fields in which something is said."""
    return {name: value for name, value in data.items() if value is not None and value != ""}


def overlaid(data: Mapping[str, Any], newer: Any) -> dict[str, Any]:
    """The fields of both; the newer where something is said in them, objects field by field."""
    said = present(newer) if isinstance(newer, dict) else {}
    mixed = {name: overlaid(data[name], value) for name, value in said.items() if isinstance(data.get(name), dict)}
    return {**data, **said, **mixed}


def without(data: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The other fields."""
    return {name: value for name, value in data.items() if name not in names}


def renamed(kwargs: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The arguments that are given, those that are called otherwise under their names here."""
    return {names.get(key, key): value for key, value in kwargs.items() if value is not None}


_WHOLE = {"type", "role", "id", "name", "format", "channel", "finish_reason", "native_finish_reason", "stop_reason"}
"""The texts that never come in pieces; some imitators repeat them with each event."""


def fold(pieces: Iterable[Any], field: str = "") -> Any:
    """The pieces of one thing: texts joined, lists put end to end, objects field by field; of anything else the last.

    >>> fold([{"a": "x", "n": 1}, {"a": "y", "n": 2}, {"a": None}])
    {'a': 'xy', 'n': 2}
    """
    said = [piece for piece in pieces if piece is not None]
    kinds = {type(piece) for piece in said}
    if len(said) > 1 and kinds == {dict}:
        return {name: fold((piece.get(name) for piece in said), name) for name in dict.fromkeys(chain(*said))}
    if len(said) > 1 and list in kinds:
        # A text among lists of parts is one of them: Mistral's comes as parts while it reasons, then as text.
        parts = (piece if isinstance(piece, list) else [{"type": "text", "text": piece}] for piece in said)
        return _indexed(chain(*parts))
    if kinds == {str} and field not in _WHOLE:
        return "".join(said)
    return next((piece for piece in reversed(said) if piece != ""), said[0] if said else None)


def _indexed(parts: Iterable[Any]) -> list[Any]:
    """The parts in the order in which they began, those with the same index folded into one."""
    groups: dict[Hashable, list[Any]] = {}
    for number, part in enumerate(parts):
        index = get(part, "index")
        groups.setdefault((number, "alone") if index is None else index, []).append(part)
    return [fold(group) for group in groups.values()]
