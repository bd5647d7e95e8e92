"""Where an answer came from."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from ..receipt import Later


class Info(msgspec.Struct, frozen=True):
    """Whether a result is a `hit`; of one that is, `key`, `age` in seconds, what it saved, and if it is `stale`.

    `saved_cost` is in US dollars, by the prices in the package genai-prices (extra `prices`); None where that is not
    installed, or knows no price of the model.
    """

    hit: bool
    key: str | None = None
    age: float = 0
    saved_tokens: int | None = None
    saved_cost: Decimal | None = None
    stale: bool = False


def info(result: Any) -> Info | None:
    """Where `result` came from; None where nothing can be told.

    That is so of what carries no receipt: numbers, texts, the single items of a stream, and plain completions, unless
    they are from the cache.
    """
    raw = getattr(result, "__dict__", {}).get("_raw_response")
    if isinstance(raw, Later):
        return Info(hit=True, **raw.facts())
    return None if raw is None else Info(hit=False)
