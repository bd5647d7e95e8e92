"""An SDK's completion as text, and the same completion again."""

from __future__ import annotations

import base64
import copy
import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache, partial
from pkgutil import resolve_name
from types import SimpleNamespace
from typing import Any, Literal, get_args

import msgspec
import pydantic
from pydantic_core import SchemaValidator, to_jsonable_python


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """A completion as JSON, and `how` it becomes an object again; text that names another way is no entry.

    `plain` are the fields that an SDK fills with plain JSON although their type says otherwise; `member` is the name of
    one class out of several; `notes` is what an SDK wrote down in private besides.
    """

    how: Literal["dict", "namespace", "proto", "first", "model", "lenient"]
    data: msgspec.Raw
    request_id: str | None = None
    plain: tuple[str, ...] = ()
    member: str = ""
    notes: dict[str, Any] | None = None


def keep(completion: Any, kind: str) -> Kept | None:
    """`completion` as text, or None when no reading of that text gives an equal object.

    `kind` names the SDK's class, as `"openai.types.chat:ChatCompletion"`, or its union of classes; a provider's row
    says so, never stored data.
    """
    with suppress(Exception):  # how an SDK's object is written down is a stranger's code, and it is paid for
        for kept in _ways(completion, kind):
            with suppress(ValueError, TypeError):
                if _inside(restore(kept, kind)) == _inside(completion):
                    return kept
    return None


def _inside(completion: Any) -> Any:
    """What a completion is compared by: xAI's are coats around a protobuf message, and never equal themselves.

    Nor are two of litellm's, which keep notes of how they came about.
    """
    if getattr(completion, "__pydantic_private__", None):
        completion = completion.model_copy()
        completion.__pydantic_private__ = None
    return completion.proto if _is_coat(completion) else completion


def _notes(completion: pydantic.BaseModel) -> dict[str, Any] | None:
    """What of an object's private attributes JSON can say."""
    return to_jsonable_python(completion.__pydantic_private__, fallback=str) or None


def _is_coat(thing: Any) -> bool:
    return hasattr(getattr(thing, "proto", None), "SerializeToString")


def written(coat: Any) -> dict[str, Any]:
    """An SDK's object around a protobuf message: the message, and which of its outputs is shown."""
    return {"proto": base64.b64encode(coat.proto.SerializeToString()).decode(), "index": coat._index}  # noqa: SLF001


def _coat(cls: Any, data: bytes) -> Any:
    said, message = json.loads(data), next(iter(inspect.signature(cls).parameters.values())).annotation
    return cls(message.FromString(base64.b64decode(said["proto"])), said["index"])


def _ways(completion: Any, kind: str) -> Iterator[Kept]:
    """Every text that may come back equal, the cheapest to read first."""
    if type(completion) is dict:
        yield Kept("dict", msgspec.Raw(json.dumps(completion, default=_armoured)))
    elif type(completion) is SimpleNamespace:
        yield Kept("namespace", msgspec.Raw(json.dumps(completion, default=vars)))
    elif _is_coat(completion):
        yield Kept("proto", msgspec.Raw(json.dumps(written(completion))))
    elif isinstance(completion, pydantic.BaseModel):
        member = "" if type(completion) is _class(kind) else type(completion).__name__
        given = getattr(completion, "_request_id", None)
        request_id = given if isinstance(given, str) else None
        plain = tuple(name for name in completion.model_fields_set if type(getattr(completion, name)) is dict)
        notes = _notes(completion)
        for by_alias in (False, True):  # OpenAI's `schema` is read under that name, and written as `schema_`
            data = msgspec.Raw(completion.model_dump_json(exclude_unset=True, by_alias=by_alias, warnings=False))
            yield Kept("first", data, request_id, (), member, notes)
            yield Kept("model", data, request_id, (), member, notes)
            yield Kept("model", data, request_id, plain, member, notes)
            yield Kept("lenient", data, request_id, (), member, notes)


def restore(kept: Kept, kind: str) -> Any:
    """The completion that was kept, of the SDK's own type.

    Raises:
        ValueError: the text is not what the SDK's class takes.
    """
    data = bytes(kept.data)
    if kept.member:
        kind = f"{kind}|{kept.member}"
    try:
        completion = _reader(kept.how, kind)(data)
    except pydantic.ValidationError:  # raised for what another version of the SDK kept
        completion = _reader("lenient", kind)(data)
    if kept.plain:
        fields = json.loads(data)
        vars(completion).update({name: fields[name] for name in kept.plain})
    if kept.request_id is not None:
        vars(completion)["_request_id"] = kept.request_id
    if kept.notes is not None:
        own = completion.__pydantic_private__ or {}  # it may have others by now
        completion.__pydantic_private__ = {**own, **copy.deepcopy(kept.notes)}
    return completion


def revived(fields: dict[str, Any], kind: str) -> Any:
    """The completion with these fields, of the SDK's own type."""
    cls = _class(kind)
    how: Any = "dict" if cls is dict else "model" if issubclass(cls, pydantic.BaseModel) else "proto"
    return restore(Kept(how, msgspec.Raw(json.dumps(fields, default=_armoured).encode())), kind)


def _armoured(data: bytes) -> dict[str, str]:
    """Bytes, such as AWS has among its JSON, as JSON."""
    return {_BYTES: base64.b64encode(data).decode()}


def _bared(fields: dict[str, Any]) -> Any:
    return base64.b64decode(fields[_BYTES]) if fields.keys() == {_BYTES} else fields


_BYTES = "$bytes"


@lru_cache(maxsize=256)
def _class(kind: str) -> Any:
    """The class of that name; of a union, its member after the bar."""
    address, _, member = kind.partition("|")
    named = resolve_name(address)
    return {each.__name__: each for each in _members(named)}[member] if member else named


def _members(form: Any) -> list[type[Any]]:
    return [form] if isinstance(form, type) else [each for part in get_args(form) for each in _members(part)]


@lru_cache(maxsize=256)
def _reader(how: str, kind: str) -> Callable[[bytes], Any]:
    """What makes text an object, looked up once: on a hit that gives its completion even that is felt."""
    return _READERS[how](kind)


_READERS: dict[str, Callable[[str], Callable[[bytes], Any]]] = {
    "dict": lambda _: partial(json.loads, object_hook=_bared),
    "namespace": lambda _: partial(json.loads, object_hook=lambda fields: SimpleNamespace(**fields)),
    "proto": lambda kind: partial(_coat, _class(kind)),
    "first": lambda kind: _first_fit(_class(kind)),
    "model": lambda kind: _class(kind).__pydantic_validator__.validate_json,
    "lenient": lambda kind: lambda data: _class(kind).construct(**json.loads(data)),
}


def _first_fit(cls: type[pydantic.BaseModel]) -> Callable[[bytes], Any]:
    """The validator of `cls`, but one that takes the first model of a union that fits, without trying the others.

    Trying them all is more than half of what reading Anthropic's messages costs, and a quarter of OpenAI's.
    """
    cls.model_rebuild()  # the SDKs put that off until a class is used
    # The classes inside have validators of their own, which a pydantic that knows this option would take for theirs.
    afresh: dict[str, Any] = {"_use_prebuilt": False} if "_use_prebuilt" in _SIGNATURE else {}
    return SchemaValidator(_eager(cls.__pydantic_core_schema__), **afresh).validate_json


_SIGNATURE = str(SchemaValidator.__text_signature__)


def _eager(node: Any) -> Any:
    if isinstance(node, list):
        return list(map(_eager, node))
    if not isinstance(node, dict):
        return node
    choices = node["choices"] if node.get("type") == "union" else [None]
    # Not of scalars: `keep` could not tell 1 from 1.0 or True, while models say what they are.
    models = all(isinstance(choice, dict) and choice["type"] == "model" for choice in choices)
    return {name: _eager(part) for name, part in node.items()} | ({"mode": "left_to_right"} if models else {})
