"""An SDK's completion as text, and the same completion again."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Callable
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Literal

import msgspec
import pydantic


class Kept(msgspec.Struct, frozen=True):
    """A completion as JSON, and `how` it becomes an object again; text that names another way is no entry.

    `plain` are the fields that an SDK fills with plain JSON although their type says otherwise.
    """

    how: Literal["dict", "namespace", "model", "lenient"]
    data: msgspec.Raw
    request_id: str | None = None
    plain: tuple[str, ...] = ()


@lru_cache(maxsize=64)
def resolve(kind: str) -> Any:
    """The class at `kind`, such as `"openai.types.chat:ChatCompletion"`; always a provider's row, never stored data."""
    return pkgutil.resolve_name(kind)


def keep(completion: Any, kind: str) -> Kept | None:
    """`completion` as text, or None when no reading of that text gives an equal object."""
    try:
        return _kept(completion, kind)
    except Exception:  # noqa: BLE001  how an SDK's object is written down is a stranger's code, and it is paid for
        return None


def _kept(completion: Any, kind: str) -> Kept | None:
    if type(completion) is dict:
        return _if_equal(completion, "dict", json.dumps(completion), kind)
    if type(completion) is SimpleNamespace:
        return _if_equal(completion, "namespace", json.dumps(completion, default=vars), kind)
    if not isinstance(completion, pydantic.BaseModel) or type(completion) is not resolve(kind):
        return None
    data = completion.model_dump_json(exclude_unset=True, warnings=False)
    plain = tuple(name for name in completion.model_fields_set if type(getattr(completion, name)) is dict)
    ways = (("model", ()), ("model", plain), ("lenient", ()))
    return next(filter(None, (_if_equal(completion, how, data, kind, fields) for how, fields in ways)), None)


def _if_equal(completion: Any, how: Any, data: str, kind: str, plain: tuple[str, ...] = ()) -> Kept | None:
    """Text that has been seen to come back equal: what is kept is what will be restored."""
    request_id = getattr(completion, "_request_id", None)
    kept = Kept(how, msgspec.Raw(data.encode()), request_id if isinstance(request_id, str) else None, plain)
    try:
        return kept if restore(kept, kind) == completion else None
    except (ValueError, TypeError):
        return None


def restore(kept: Kept, kind: str) -> Any:
    """The completion that was kept, of the SDK's own type.

    Raises:
        ValueError: the text is not what the SDK's class takes.
    """
    try:
        completion = _WAYS[kept.how](bytes(kept.data), kind)
    except pydantic.ValidationError:  # kept by another version of the SDK
        completion = _WAYS["lenient"](bytes(kept.data), kind)
    if kept.plain:
        fields = json.loads(bytes(kept.data))
        vars(completion).update({name: fields[name] for name in kept.plain})
    if kept.request_id is not None:
        object.__setattr__(completion, "_request_id", kept.request_id)
    return completion


_WAYS: dict[str, Callable[[bytes, str], Any]] = {
    "model": lambda data, kind: resolve(kind).__pydantic_validator__.validate_json(data),
    "lenient": lambda data, kind: resolve(kind).construct(**json.loads(data)),
    "dict": lambda data, _: json.loads(data),
    "namespace": lambda data, _: json.loads(data, object_hook=lambda fields: SimpleNamespace(**fields)),
}
