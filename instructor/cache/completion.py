"""An SDK's completion as text, and the same completion again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from pkgutil import resolve_name
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


def keep(completion: Any, kind: str) -> Kept | None:
    """`completion` as text, or None when no reading of that text gives an equal object.

    `kind` names the SDK's class, as `"openai.types.chat:ChatCompletion"`; a provider's row says so, never stored data.
    """
    with suppress(Exception):  # how an SDK's object is written down is a stranger's code, and it is paid for
        for kept in _ways(completion, kind):
            with suppress(ValueError, TypeError):
                if restore(kept, kind) == completion:
                    return kept
    return None


def _ways(completion: Any, kind: str) -> Iterator[Kept]:
    """Every text that may come back equal, the cheapest to read first."""
    if type(completion) is dict:
        yield Kept("dict", msgspec.Raw(json.dumps(completion)))
    elif type(completion) is SimpleNamespace:
        yield Kept("namespace", msgspec.Raw(json.dumps(completion, default=vars)))
    elif isinstance(completion, pydantic.BaseModel) and type(completion) is _class(kind):
        given = getattr(completion, "_request_id", None)
        request_id = given if isinstance(given, str) else None
        plain = tuple(name for name in completion.model_fields_set if type(getattr(completion, name)) is dict)
        for by_alias in (False, True):  # OpenAI's `schema` is read under that name, and written as `schema_`
            data = msgspec.Raw(completion.model_dump_json(exclude_unset=True, by_alias=by_alias, warnings=False))
            yield Kept("model", data, request_id)
            yield Kept("model", data, request_id, plain)
            yield Kept("lenient", data, request_id)


def restore(kept: Kept, kind: str) -> Any:
    """The completion that was kept, of the SDK's own type.

    Raises:
        ValueError: the text is not what the SDK's class takes.
    """
    completion = _READ[kept.how](bytes(kept.data), kind)
    if kept.plain:
        fields = json.loads(bytes(kept.data))
        vars(completion).update({name: fields[name] for name in kept.plain})
    if kept.request_id is not None:
        object.__setattr__(completion, "_request_id", kept.request_id)
    return completion


def _validated(data: bytes, kind: str) -> Any:
    try:
        return _class(kind).__pydantic_validator__.validate_json(data)
    except pydantic.ValidationError:  # raised for what another version of the SDK kept
        return _lenient(data, kind)


def _lenient(data: bytes, kind: str) -> Any:
    return _class(kind).construct(**json.loads(data))


_READ: dict[str, Callable[[bytes, str], Any]] = {
    "dict": lambda data, _: json.loads(data),
    "namespace": lambda data, _: json.loads(data, object_hook=lambda fields: SimpleNamespace(**fields)),
    "model": _validated,
    "lenient": _lenient,
}
_class = lru_cache(maxsize=64)(resolve_name)
