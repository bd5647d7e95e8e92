"""An SDK's completion as text, and the same completion again."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import msgspec
import pydantic


class Kept(msgspec.Struct, frozen=True):
    """A completion as JSON, and `how` it becomes an object again."""

    how: str
    data: msgspec.Raw
    request_id: str | None = None


@lru_cache(maxsize=64)
def resolve(kind: str) -> Any:
    """The class at `kind`, such as `"openai.types.chat:ChatCompletion"`; always a provider's row, never stored data."""
    return pkgutil.resolve_name(kind)


def keep(completion: Any, kind: str) -> Kept | None:
    """`completion` as text, or None when no reading of that text gives an equal object."""
    if isinstance(completion, dict):
        return _if_equal(completion, "dict", json.dumps(completion), kind)
    if isinstance(completion, SimpleNamespace):
        return _if_equal(completion, "namespace", json.dumps(completion, default=vars), kind)
    if not isinstance(completion, pydantic.BaseModel) or type(completion) is not resolve(kind):
        return None
    data = completion.model_dump_json(exclude_unset=True, warnings=False)
    return _if_equal(completion, "model", data, kind) or _if_equal(completion, "lenient", data, kind)


def _if_equal(completion: Any, how: str, data: str, kind: str) -> Kept | None:
    """Text that has been seen to come back equal: what is kept is what will be restored."""
    request_id = getattr(completion, "_request_id", None)
    kept = Kept(how, msgspec.Raw(data.encode()), request_id if isinstance(request_id, str) else None)
    try:
        return kept if restore(kept, kind) == completion else None
    except (ValueError, TypeError):
        return None


def restore(kept: Kept, kind: str) -> Any:
    """The completion that was kept, of the SDK's own type.

    Raises:
        ValueError: the text is not what the SDK's class takes, or `how` names no way that we know.
    """
    ways: dict[str, Callable[[bytes], Any]] = {
        "dict": json.loads,
        "namespace": lambda data: json.loads(data, object_hook=lambda fields: SimpleNamespace(**fields)),
        "model": lambda data: resolve(kind).model_validate_json(data),
        "lenient": lambda data: resolve(kind).construct(**json.loads(data)),
    }
    if kept.how not in ways:
        raise ValueError(f"A completion kept {kept.how!r} was written by another version")
    completion = ways[kept.how](bytes(kept.data))
    if kept.request_id is not None:
        object.__setattr__(completion, "_request_id", kept.request_id)
    return completion
