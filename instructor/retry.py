"""When to ask again: `max_retries` as a tenacity controller."""

from __future__ import annotations

import json
from typing import Any

import pydantic
import tenacity

from .exceptions import AsyncValidationError, ResponseParsingError

RETRYABLE = (pydantic.ValidationError, json.JSONDecodeError, AsyncValidationError, ResponseParsingError)
"""What is worth telling the model and asking again; everything else stops at once."""


class Retries(tenacity.Retrying):
    """The controller made of a number: that many attempts after the first, without a pause."""

    attempts: int


def controller(max_retries: Any, timeout: float | None, *, is_async: bool) -> tenacity.BaseRetrying:
    """A controller of its own for one call: tenacity's keep state.

    Raises:
        TypeError: `max_retries` is neither a whole number nor a controller this client can use.
    """
    if isinstance(max_retries, int) and not isinstance(max_retries, bool):
        return _counted(max(max_retries, 0) + 1, timeout)
    if isinstance(max_retries, tenacity.AsyncRetrying) and not is_async:
        raise TypeError("max_retries is an AsyncRetrying, which a sync client cannot wait for; pass a Retrying.")
    if isinstance(max_retries, tenacity.BaseRetrying):
        return max_retries.copy()
    raise TypeError(f"max_retries must be a whole number or a tenacity Retrying, not {max_retries!r}.")


def _counted(attempts: int, timeout: float | None) -> Retries:
    stop: Any = tenacity.stop_after_attempt(attempts)
    if timeout is not None:
        stop = stop | tenacity.stop_after_delay(timeout)
    made = Retries(stop=stop, retry=tenacity.retry_if_exception_type(RETRYABLE), reraise=True)
    made.attempts = attempts
    return made


def seconds(timeout: Any) -> float | None:
    """A `timeout=` argument as seconds; None when it is not a number."""
    return float(timeout) if isinstance(timeout, (int, float)) and not isinstance(timeout, bool) else None


def milliseconds(timeout: Any) -> int | None:
    """As `seconds`, in the unit of Google's and of Mistral's clients."""
    wait = seconds(timeout)
    return None if wait is None else int(wait * 1000)
