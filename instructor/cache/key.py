"""The key of a question: equal exactly when the questions are.

A question is written down as MessagePack with sorted maps, and hashed with SHA-256 (FIPS 180-4). Plain JSON
values are written as they are; every other type gets an extension code of its own, so that `1`, `True`, `1.0`,
`"1"`, `b"1"`, `(1,)` and `[1]` are six questions. What has no stable identity raises `TypeError`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import hashlib
import pathlib
import uuid
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import pydantic
from msgspec.msgpack import Encoder, Ext

from ..media import Media
from ..mode import Mode, core
from ..parallel import compile_parallel
from ..shape import Shape, compile_shape

FORMAT = 1
"""Bumped when the same question is written down in another way."""

_PLACED = frozenset({"messages", "model", "system"})  # these have places of their own in a question

IRRELEVANT = _PLACED | {
    *("timeout", "stream", "stream_options"),  # how long we wait, and how the same answer travels
    *("user", "safety_identifier", "metadata"),  # who asks, for the provider's own statistics
    *("prompt_cache_key", "prompt_cache_retention"),  # where the provider keeps its own prefix cache
    "idempotency_key",
    *("extra_headers", "request_options"),  # looked at one by one, below
}
"""Parameters that cannot change what the model says, and so are no part of the question."""

NAMELESS_HEADERS = {
    *("x-request-id", "x-correlation-id", "x-client-request-id", "idempotency-key"),
    *("traceparent", "tracestate", "user-agent"),
}
"""Headers that name one request rather than shape its answer."""

REAL = frozenset({"temperature", "top_p", "min_p", "frequency_penalty", "presence_penalty", "repetition_penalty"})
"""Parameters that the APIs define as real numbers: 0 and 0.0 are the same setting."""

_encode = Encoder(order="deterministic").encode


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
    sample: int | None = None,
) -> str:
    """The key under which the answer to this question is kept: 64 hexadecimal digits.

    This is the function that clients use: `endpoint` is what their provider and account add to the question.
    Equal for equal questions whatever the order of mappings, the process or the machine; `request_kwargs` that
    cannot change the answer (`IRRELEVANT`) are left out. `sample` tells apart the answers to a question asked several
    times.

    Raises:
        TypeError: something in the question has no stable identity, such as an open file or a function.
    """
    spelled = _SPELLED.get(mode, mode)
    shape = response_model
    if type(shape) is not Shape:
        shape = (compile_parallel if spelled == Mode.PARALLEL_TOOLS.value else compile_shape)(shape)
    settled = settings(request_kwargs) if request_kwargs else None
    seen = context if shape is not None and shape.uses_context else None
    digest = None if shape is None else shape.digest
    ours = [FORMAT, endpoint, provider, namespace, spelled, digest, strict]
    if sample is not None:
        ours.append(sample)
    return hashlib.sha256(_encode(ours) + canonical([model, messages, system, settled, seen])).hexdigest()


_SPELLED: dict[Any, str] = {spelling: core(mode).value for mode in Mode for spelling in (mode.value, mode.name, mode)}
"""A mode under each of its names: the name of what it means today."""


def settings(kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
    """The parameters of a request that can change its answer; None when there are none."""
    if _PLACED.issuperset(kwargs):
        return None
    kept = {name: value for name, value in kwargs.items() if name not in IRRELEVANT and not _is_absent(value)}
    kept |= {name: float(kept[name]) for name in REAL & kept.keys() if type(kept[name]) is int}
    headers = {str(k).lower(): v for k, v in dict(kwargs.get("extra_headers") or {}).items() if not _is_absent(v)}
    shaping = {k: v for k, v in headers.items() if k not in NAMELESS_HEADERS}
    if "request_options" in kwargs:  # Cohere's: how to send it, and what more
        told = dict(kwargs["request_options"] or {}).items()
        kept |= {name: value for name, value in told if name.startswith("additional_")}
    return ({**kept, "extra_headers": shaping} if shaping else kept) or None


def _is_absent(value: object) -> bool:
    """Whether `value` is one of the SDKs' sentinels for "not given"."""
    return type(value).__name__ in {"NotGiven", "Omit"}


def canonical(value: Any) -> bytes:
    """`value` as bytes: equal bytes for equal values of equal types, and only for them.

    Raises:
        TypeError: `value` holds something without a stable identity, or something that cannot be written down.
    """
    try:
        try:
            return _encode(value if _plain(value) else _tagged(value))
        except (UnicodeEncodeError, OverflowError):  # half a surrogate pair; an integer beyond 64 bits
            return _encode(_tagged(value))
    except TypeError:
        raise
    except Exception as problem:
        raise TypeError(f"{type(problem).__name__} while writing the question down; {_ADVICE}") from problem


_ADVICE = "pass plain data instead, or disable caching for this call (cache=None)."
_ATOMS = frozenset({int, float, bool, type(None), bytes})
LONG = 4096
"""Characters from which a text stands in a question as its digest."""
HUGE = 2**18
"""Characters from which that digest is not remembered, because the text would be kept alive with it."""


def _plain(value: Any) -> bool:
    """Whether the encoder alone tells `value` from everything else, and cheaply."""
    kind = type(value)
    if kind is dict:
        for name in value:
            if type(name) is not str:
                return False
        value = value.values()
    elif kind is not list:
        return kind in _ATOMS or (kind is str and len(value) < LONG)
    for item in value:  # not one call more than there are containers: this runs on every hit
        kind = type(item)
        if kind is str:
            if len(item) >= LONG:
                return False
        elif kind not in _ATOMS and not _plain(item):
            return False
    return True


def _tagged(value: Any) -> Any:
    """`value` rebuilt so that the encoder can tell its types apart."""
    kind = type(value)
    if kind is str and len(value) >= LONG:
        return Ext(125, (_long if len(value) < HUGE else _long.__wrapped__)(value))
    if kind in _ATOMS or kind is str:
        return _atom(value)
    if kind is list:
        return [_tagged(item) for item in value]
    if kind is dict or kind is MappingProxyType:
        return _mapping(value)
    for tag, (family, parts) in enumerate(_FAMILIES, start=2):
        if isinstance(value, family):
            return _ext(tag, [kind.__qualname__, parts(value)])
    return _ext(126, [kind.__qualname__, _members(value)])


def _members(value: Any) -> dict[str, Any]:
    """The fields of a dataclass; none of an SDK's "not given"."""
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if _is_absent(value):
        return {}
    # Its type and not its value, which may be a secret: this is logged.
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise TypeError(f"an object of type {kind} has no stable identity; {_ADVICE}")


@lru_cache(maxsize=32)
def _long(text: str) -> bytes:
    """The digest of a long text, remembered: finding it again costs a third of hashing it again."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _atom(atom: Any) -> Any:
    """`atom` itself, if the encoder takes it."""
    try:
        _encode(atom)
    except UnicodeEncodeError:
        return _ext(1, atom.encode("utf-8", "surrogatepass"))
    except OverflowError:
        return _ext(1, hex(atom))
    return atom


def _ext(tag: int, parts: Any) -> Ext:
    return Ext(tag, _encode(_tagged(parts)))


def _mapping(value: Mapping[Any, Any]) -> Any:
    if all(type(name) is str and _atom(name) is name for name in value):
        return {name: _tagged(item) for name, item in value.items()}
    return Ext(0, b"".join(sorted(_encode([_tagged(name), _tagged(item)]) for name, item in value.items())))


def _fields(model: pydantic.BaseModel) -> dict[str, Any]:
    # Not `iter(model)`, which root models give a meaning of their own; nor a dump, which drops what subclasses add.
    return {name: item for name, item in pydantic.BaseModel.__iter__(model) if item is not None}


def _digest(cls: type) -> str | None:
    shape = compile_shape(cls)
    return None if shape is None else shape.digest


# In this order: an enum may be a str, a datetime is a date, a namedtuple is a tuple.
_FAMILIES: tuple[tuple[type[Any] | tuple[type[Any], ...], Callable[[Any], Any]], ...] = (
    (enum.Enum, lambda member: member.value),
    (tuple, list),
    ((set, frozenset), lambda items: sorted(_encode(_tagged(item)) for item in items)),
    (Media, Media.identity),
    (pydantic.BaseModel, _fields),
    (type, _digest),
    (dt.datetime, lambda moment: [moment.isoformat(), moment.fold]),
    ((dt.date, dt.time), lambda moment: moment.isoformat()),
    ((dt.timedelta, decimal.Decimal, uuid.UUID, pathlib.PurePath), str),
    ((bytes, bytearray, memoryview), bytes),
    (str, str.__str__),
    *((kind, kind) for kind in (int, float, dict, list)),
)
