"""A response model, compiled once: its name, its schema, and how to load an answer into it."""

from __future__ import annotations

import collections.abc
import hashlib
import json
import operator
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import lru_cache
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints

import msgspec
import pydantic
import typing_extensions
from pydantic import BaseModel, Field, create_model
from pydantic.errors import PydanticInvalidForJsonSchema

from .dsl.response_list import ListResponse
from .schema import describe, parameters, schema_of

MEMO = "__instructor_shape__"
_ModelClass = type(BaseModel)


class Shape(msgspec.Struct, frozen=True, eq=False):
    """What an answer must look like, and how to read one.

    `wanted` is what the user asked for, `model` the pydantic model that is described to the provider: the same
    class, or one that wraps it. `digest` identifies what the shape adds to a question.
    """

    wanted: Any
    model: type[BaseModel]
    name: str
    description: str
    schema: dict[str, Any]
    parameters: dict[str, Any]
    digest: str
    uses_context: bool
    validator: object
    _validate: Callable[..., Any]
    _unwrap: Callable[[Any], Any] | None = None

    def load(self, text: str, context: Mapping[str, Any] | None = None, *, strict: bool = True) -> Any:
        """The value that the JSON `text` stands for.

        Raises:
            pydantic.ValidationError: it is not JSON, or the user's model refuses it.
        """
        value = self._validate(text, strict=strict, context=context)
        return value if self._unwrap is None else self._unwrap(value)


def compile_shape(wanted: Any) -> Shape | None:
    """The shape of `wanted`, compiled on first use and remembered; None for None.

    Remembered on the class itself where it is a model: a table would keep every class ever asked for alive.

    Raises:
        TypeError: a model cannot be asked for this type.
        ValueError: `wanted` is `Iterable` without an item type.
    """
    if wanted is None:
        return None
    if not isinstance(wanted, _ModelClass):
        if not isinstance(wanted, Hashable):
            _refuse(wanted)
        return _compile_form(wanted, repr(wanted))  # Union[int, str] == Union[str, int], yet they are two questions
    memo: Shape | None = getattr(wanted, MEMO, None)  # a parent's, perhaps
    if memo is None or memo.wanted is not wanted or memo.validator is not wanted.__pydantic_validator__:
        memo = _compile_model(wanted)
        setattr(wanted, MEMO, memo)
    return memo


def _compile_model(wanted: type[BaseModel]) -> Shape:
    if wanted is BaseModel:
        raise TypeError("BaseModel itself has no fields to ask for; pass a subclass of it as response_model.")
    try:
        if not wanted.__pydantic_complete__:
            wanted.model_rebuild()
        wraps = schema_of(wanted).get("type") != "object"  # a RootModel of a list, a number or a union
    except (pydantic.PydanticUserError, PydanticInvalidForJsonSchema) as error:
        raise TypeError(f"{wanted!r} cannot be a response_model: {error}") from error
    return _content(wanted) if wraps else _shape(wanted, wanted)


@lru_cache(maxsize=512)
def _compile_form(wanted: Any, _spelling: str) -> Shape:
    _refuse(wanted)
    if typing_extensions.is_typeddict(wanted):
        return _shape(wanted, _from_typed_dict(wanted))
    if get_origin(wanted) in {list, collections.abc.Iterable} and get_args(wanted):
        (item,) = get_args(wanted)
        if all(_is_object(part) for part in _members(item)):
            return _tasks(wanted, item)
    return _content(wanted)


_UNASKABLE = (dict, tuple, set, frozenset)


def _refuse(wanted: Any) -> None:
    """Raise for what no model can be asked for, before anything is asked."""
    if wanted is collections.abc.Iterable or (get_origin(wanted) is collections.abc.Iterable and not get_args(wanted)):
        raise ValueError("Iterable says nothing of its items; pass Iterable[YourModel] as response_model.")
    askable = isinstance(wanted, type) or get_origin(wanted) is not None
    if not askable or wanted in (*_UNASKABLE, list, Any, object) or get_origin(wanted) in _UNASKABLE:
        raise TypeError(
            f"{wanted!r} cannot be a response_model. Pass a pydantic model, a TypedDict, a simple type such as int or "
            "Literal, a Union of those, or list[...] or Iterable[...] of them."
        )


def _members(form: Any) -> tuple[Any, ...]:
    return get_args(form) if _is_union(form) else (form,)


def _is_union(form: Any) -> bool:
    return get_origin(form) is Union or type(form).__name__ == "UnionType"


def _is_object(form: Any) -> bool:
    return isinstance(form, _ModelClass) or typing_extensions.is_typeddict(form)


def _from_typed_dict(wanted: Any) -> type[BaseModel]:
    """A model with the keys of a TypedDict; those that may be absent default to None without saying so."""
    hints = get_type_hints(wanted, include_extras=True)
    fields: dict[str, Any] = {
        key: (_bare(hint), ... if key in wanted.__required_keys__ else Field(default_factory=lambda: None))
        for key, hint in hints.items()
    }
    naming = {"__base__": _TypedDictModel, "__doc__": wanted.__doc__, "__module__": wanted.__module__}
    model: type[_TypedDictModel] = create_model(wanted.__name__, **naming, **fields)
    model.__wanted__ = wanted
    return model


class _TypedDictModel(BaseModel):
    __wanted__: ClassVar[Any]

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _unpickled, (self.__wanted__, self.__getstate__())  # under its own name there is the TypedDict


def _unpickled(wanted: Any, state: dict[Any, Any]) -> Any:
    model = _compile_form(wanted, repr(wanted)).model
    made = model.__new__(model)
    made.__setstate__(state)
    return made


def _bare(hint: Any) -> Any:
    """The type inside `Required[...]` or `NotRequired[...]`."""
    wrapped = get_origin(hint) in {typing_extensions.Required, typing_extensions.NotRequired}
    return get_args(hint)[0] if wrapped else hint


def _tasks(wanted: Any, item: Any) -> Shape:
    """A list of objects travels as an object with one list, because tools take objects."""
    name = "Or".join(part.__name__ for part in _members(item))
    tasks: Any = Field(default_factory=list, description=f"Correctly segmented list of `{name}` tasks")
    model = create_model(
        f"Iterable{name}", __doc__=f"Correct segmentation of `{name}` tasks", tasks=(list[item], tasks)
    )
    return _shape(wanted, model, lambda value: ListResponse(value.tasks))


def _content(wanted: Any) -> Shape:
    """A plain value travels as an object with one field."""
    doc = "Correctly Formatted and Extracted Response."
    try:
        model = create_model("Response", __doc__=doc, content=(wanted, ...))
        return _shape(wanted, model, operator.attrgetter("content"))
    except (pydantic.PydanticUserError, PydanticInvalidForJsonSchema) as error:
        raise TypeError(f"{wanted!r} cannot be a response_model: {error}") from error


def _shape(wanted: Any, model: type[BaseModel], unwrap: Callable[[Any], Any] | None = None) -> Shape:
    schema = schema_of(model)
    title = str(schema.get("title") or model.__name__)
    return Shape(
        wanted=wanted,
        model=model,
        name=re.sub(r"[^a-zA-Z0-9_-]", "_", title)[:64],  # what every API takes for the name of a tool
        description=describe(schema, title),
        schema=schema,
        parameters=parameters(schema),
        digest=hashlib.sha256(json.dumps([title, schema]).encode()).hexdigest(),
        uses_context=_uses_context(model.__pydantic_core_schema__),
        validator=getattr(wanted, "__pydantic_validator__", None),
        _validate=_loader(model),
        _unwrap=unwrap,
    )


def _loader(model: type[BaseModel]) -> Callable[..., Any]:
    """The compiled validator, unless the model has loading ways of its own."""
    own = model.model_validate_json.__func__ is not BaseModel.model_validate_json.__func__  # type: ignore[attr-defined]
    return model.model_validate_json if own else model.__pydantic_validator__.validate_json


def _uses_context(schema: Any) -> bool:
    """Whether a validator somewhere in a core schema is handed the validation context."""
    return any(node.get("type") == "with-info" for node in _nodes(schema))


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a core schema; it is a tree, whose cycles go through names."""
    todo = [schema]
    while todo:
        node = todo.pop()
        if isinstance(node, dict):
            yield node
            todo.extend(node.values())
        elif isinstance(node, (list, tuple)):
            todo.extend(node)
