"""The key of a question: equal exactly when the questions are.

A question is written down as MessagePack with sorted maps, and hashed with SHA-256 (FIPS 180-4). Plain JSON
values are written as they are; every other type gets an extension code of its own, so that `1`, `True`, `1.0`,
`"1"`, `b"1"`, `(1,)` and `[1]` are six questions. What has no stable identity raises `TypeError`.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import hashlib
import pathlib
import uuid
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
import pydantic

from ..mode import Mode, core
from ..shape import Shape, compile_shape

FORMAT = 1
"""Bumped when the same question is written down in another way."""

IRRELEVANT = frozenset(
    {
        "timeout",  # how long we wait
        "stream",  # how the same answer travels
        "stream_options",
        "extra_headers",  # looked at one by one, below
        "user",  # who asks, for the provider's own statistics
        "safety_identifier",
        "metadata",
        "prompt_cache_key",  # where the provider keeps its own prefix cache
        "prompt_cache_retention",
        "idempotency_key",
        "request_options",
    }
)
"""Parameters that cannot change what the model says, and so are no part of the question."""

NAMELESS_HEADERS = frozenset(
    {"x-request-id", "x-correlation-id", "x-client-request-id", "idempotency-key", "traceparent", "tracestate", "user-agent"}
)
"""Headers that name one request rather than shape its answer."""

REAL = frozenset({"temperature", "top_p", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty"})
"""Parameters that the APIs define as real numbers: 0 and 0.0 are the same setting."""

_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def make_cache_key(
    *,
    messages: Any,
    model: str | None,
    response_model: Any,
    mode: Mode | str | None = None,
    system: Any = None,
    provider: str | None = None,
    namespace: str | None = None,
    request_kwargs: Mapping[str, Any] | None = None,
    endpoint: str | None = None,
    strict: bool = True,
    context: Any = None,
) -> str:
    """The key under which the answer to this question is kept: 64 hexadecimal digits.

    This is the function that clients use: `endpoint` is what their provider and account add to the question.
    Equal for equal questions whatever the order of mappings, the process or the machine; `request_kwargs` that
    cannot change the answer (`IRRELEVANT`) are left out.

    Raises:
        TypeError: something in the question has no stable identity, such as an open file or a function.
    """
    shape = response_model if type(response_model) is Shape else compile_shape(response_model)
    question = [
        FORMAT,
        endpoint,
        provider,
        namespace,
        None if mode is None else _mode(mode).value,
        model,
        messages,
        system,
        settings(request_kwargs) if request_kwargs else {},
        None if shape is None else shape.digest,
        strict,
        context if shape is not None and shape.uses_context else None,
    ]
    return hashlib.sha256(canonical(question)).hexdigest()


def _mode(mode: Mode | str) -> Mode:
    if isinstance(mode, Mode):
        return core(mode)
    found = Mode.__members__.get(mode)
    return core(found or Mode(mode))


def settings(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a request that can change its answer."""
    kept = {name: value for name, value in kwargs.items() if name not in IRRELEVANT and not _is_absent(value)}
    for name in REAL & kept.keys():
        if type(kept[name]) is int:
            kept[name] = float(kept[name])
    headers = {k.lower(): v for k, v in (kwargs.get("extra_headers") or {}).items() if not _is_absent(v)}
    shaping = {k: v for k, v in headers.items() if k not in NAMELESS_HEADERS}
    return {**kept, "extra_headers": shaping} if shaping else kept


def _is_absent(value: object) -> bool:
    """Whether `value` is one of the SDKs' sentinels for "not given"."""
    return type(value).__name__ in {"NotGiven", "Omit"}


def canonical(value: Any) -> bytes:
    """`value` as bytes: equal bytes for equal values of equal types, and only for them.

    Raises:
        TypeError: `value` holds something without a stable identity, or is nested beyond reason.
    """
    try:
        return _encode(value if _plain(value) else _tagged(value))
    except (UnicodeEncodeError, OverflowError):  # a lone surrogate; an integer beyond 64 bits
        return _encode(_tagged(value))
    except RecursionError:
        raise TypeError("A value nested this deeply has no cache key; shorten it or disable caching (cache=None).") from None


_ATOMS = frozenset({str, int, float, bool, type(None), bytes})


def _plain(value: Any) -> bool:
    """Whether the encoder alone tells `value` from everything else."""
    kind = type(value)
    if kind in _ATOMS:
        return True
    if kind is dict:
        for name, item in value.items():
            if type(name) is not str or (type(item) not in _ATOMS and not _plain(item)):
                return False
        return True
    if kind is list:
        for item in value:
            if type(item) not in _ATOMS and not _plain(item):
                return False
        return True
    return False


def _tagged(value: Any) -> Any:
    """`value` rebuilt so that the encoder can tell its types apart."""
    kind = type(value)
    if kind is str:
        return value if _encodable(value) else _ext(1, value.encode("utf-8", "surrogatepass"))
    if kind is int:
        return value if -(2**63) <= value < 2**63 else _ext(2, str(value))
    if kind in _ATOMS:
        return value
    if kind is list:
        return [_tagged(item) for item in value]
    if kind is dict or kind is MappingProxyType:
        return _mapping(value)
    for tag, (family, parts) in enumerate(_FAMILIES, start=3):
        if isinstance(value, family):
            return _ext(tag, parts(value))
    if dataclasses.is_dataclass(value):
        return _ext(127, [_name(value), {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}])
    raise TypeError(
        f"{value!r:.200} ({kind.__module__}.{kind.__qualname__}) has no stable identity, so there is no cache key for it. "
        "Pass plain data instead, or disable caching for this call (cache=None)."
    )


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _ext(tag: int, parts: Any) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(tag, _encode(_tagged(parts)))


def _mapping(value: Mapping[Any, Any]) -> Any:
    if all(type(name) is str and _encodable(name) for name in value):
        return {name: _tagged(item) for name, item in value.items()}
    pairs = sorted(_encode([_tagged(name), _tagged(item)]) for name, item in value.items())
    return msgspec.msgpack.Ext(0, b"".join(pairs))


def _name(value: object) -> str:
    return type(value).__qualname__


# In this order: an enum may be a str, a datetime is a date, a namedtuple is a tuple.
_FAMILIES: tuple[tuple[type[Any] | tuple[type[Any], ...], Callable[[Any], Any]], ...] = (
    (enum.Enum, lambda member: [_name(member), member.value]),
    (tuple, lambda items: [_name(items), list(items)]),
    ((set, frozenset), lambda items: sorted(_encode(_tagged(item)) for item in items)),
    (pydantic.BaseModel, lambda model: [_name(model), model.model_dump(exclude_none=True, warnings=False)]),
    (type, lambda cls: _class(cls)),
    (datetime.datetime, lambda moment: [moment.isoformat(), moment.fold]),
    ((datetime.date, datetime.time), lambda moment: [_name(moment), moment.isoformat()]),
    (datetime.timedelta, lambda span: [span.days, span.seconds, span.microseconds]),
    (decimal.Decimal, str),
    (uuid.UUID, str),
    (pathlib.PurePath, str),
    ((bytearray, memoryview), lambda data: [_name(data), bytes(data)]),
    (str, lambda text: [_name(text), str.__str__(text)]),
    (int, lambda number: [_name(number), int(number)]),
    (float, lambda number: [_name(number), float(number)]),
    (bytes, lambda data: [_name(data), bytes(data)]),
    (dict, lambda mapping: [_name(mapping), dict(mapping)]),
    (list, lambda items: [_name(items), list(items)]),
)


def _class(cls: type) -> Any:
    if issubclass(cls, pydantic.BaseModel):
        return [cls.__qualname__, cls.model_json_schema()]
    if cls in _ATOMS or issubclass(cls, enum.Enum):
        return [cls.__qualname__, [member.value for member in cls] if issubclass(cls, enum.Enum) else None]
    raise TypeError(f"The class {cls!r} has no stable identity; disable caching for this call (cache=None).")
