"""What is accepted as a size, as a name, as a time to live."""

from __future__ import annotations

import math
from datetime import timedelta


def whole(name: str, value: object) -> int:
    """`value`, which must be a whole number above zero."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value <= 0:
        raise ValueError(f"{name} must be > 0, got {value!r}")
    return value


def named(name: str, value: object) -> str:
    """`value`, which must be a string with something in it."""
    if isinstance(value, str) and value:
        return value
    raise ValueError(f"{name} must be a non-empty string, not {value!r}.")


def lifetime(name: str, ttl: object) -> float | None:
    """The seconds that `ttl` means: None is for ever, zero or less is not at all."""
    if ttl is None:
        return None
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not math.isfinite(seconds):
        raise ValueError(f"{name} must be a finite number of seconds, a timedelta or None, got {ttl!r}")
    return seconds
