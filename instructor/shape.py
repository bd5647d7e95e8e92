"""A response model, compiled once: its name, its schema, and how to load an answer into it."""

from __future__ import annotations

import collections.abc
import functools
import hashlib
import json
import operator
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, ClassVar, cast, get_args, get_origin, get_type_hints

import msgspec
import pydantic
from pydantic import BaseModel, Field, create_model
from pydantic.errors import PydanticInvalidForJsonSchema
from typing_extensions import NotRequired, Required, is_typeddict

from .dsl.iterable import Items, IterableBase, tasks_model, tasks_of
from .dsl.partial import PartialBase, snapshots
from .dsl.response_list import ListResponse
from .reader import Reader
from .schema import describe, parameters, schema_of
from .snapshots import LISTS, ModelClass, members

MEMO = "__instructor_shape__"


class Shape(msgspec.Struct, frozen=True, eq=False):
    """What an answer must look like, and how to read one.

    `wanted` is what the user asked for, `model` the pydantic model that is described to the provider: the same
    class, or one that wraps it. `digest` identifies what the shape adds to a question, `tools` are the shapes of the
    tools that stand for it where there may be several.
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
    tools: tuple[Shape, ...] = ()
    _field: str | None = None  # where a wrapped value stands

    def load(self, text: str, context: Mapping[str, Any] | None = None, *, strict: bool | None = True) -> Any:
        """The value that the JSON `text` stands for.

        Raises:
            pydantic.ValidationError: it is not JSON, or the user's model refuses it.
        """
        value = self._validate(text, strict=strict, context=context)
        return value if self._unwrap is None else self._unwrap(value)

    def reader(self, context: Mapping[str, Any] | None = None, *, strict: bool = True, partial: bool = False) -> Reader:
        """A reader of the items of a list, or of `partial` values, for text that is still arriving.

        Raises:
            TypeError: items are wanted of what is no list.
        """
        how: dict[str, Any] = {"context": context, "strict": strict}
        load = functools.partial(self.load, **how)
        if partial:
            shown = self.model if self._field is None else self.model.model_fields[self._field].annotation
            return snapshots(shown, load, self._field, **how)
        if IterableBase in getattr(self.wanted, "__mro__", ()):
            return tasks_of(self.wanted, load, **how)
        if self._field is None or get_origin(self.wanted) not in LISTS:
            raise TypeError(f"{self.wanted!r} has no items to stream; ask for Iterable[...] of it, or for partials.")
        return Items(get_args(self.wanted)[0], self._field, load, **how)


def compile_shape(wanted: Any) -> Shape | None:
    """The shape of `wanted`, compiled on first use and remembered; None for None.

    Remembered on the class itself where it is a model: a table would keep every class ever asked for alive.

    Raises:
        TypeError: a model cannot be asked for this type.
        ValueError: `wanted` is `Iterable` without an item type.
    """
    if wanted is None:
        return None
    memo: Shape | None = getattr(wanted, MEMO, None)  # a parent's, perhaps
    if memo is not None and memo.wanted is wanted and memo.validator is wanted.__pydantic_validator__:
        return memo
    is_model = isinstance(wanted, ModelClass)
    if not is_model and not isinstance(wanted, Hashable):
        _refuse(wanted)
    try:
        if is_model:
            return _compile_model(wanted)
        return _compile_form(wanted, repr(wanted))  # Union[int, str] == Union[str, int], yet they are two questions
    except (pydantic.PydanticUserError, PydanticInvalidForJsonSchema) as error:
        raise TypeError(f"{wanted!r} cannot be a response_model: {error.message}") from error


def _compile_model(wanted: type[BaseModel]) -> Shape:
    if issubclass(wanted, PartialBase):  # the same question
        return cast("Shape", compile_shape(wanted.__wanted__))
    if wanted is BaseModel:
        raise TypeError("BaseModel itself has no fields to ask for; pass a subclass of it as response_model.")
    if not wanted.__pydantic_complete__:
        wanted.model_rebuild()
    wraps = schema_of(wanted).get("type") != "object"  # a RootModel of a list, a number or a union
    made = _content(wanted) if wraps else _shape(wanted, wanted)
    setattr(wanted, MEMO, made)
    return made


@functools.lru_cache(maxsize=512)
def _compile_form(wanted: Any, _spelling: str) -> Shape:
    _refuse(wanted)
    if is_typeddict(wanted):
        return _shape(wanted, _from_typed_dict(wanted))
    if not models_in(wanted):
        return _content(wanted)
    model = tasks_model(*get_args(wanted))  # whose list is required: nothing is no list
    return _shape(wanted, model, lambda value: ListResponse(value.tasks), "tasks")


def models_in(wanted: Any) -> tuple[Any, ...]:
    """The models of which `wanted` is a list, as in `Iterable[A | B]`; none where it is something else."""
    if get_origin(wanted) not in LISTS or not get_args(wanted):
        return ()
    parts = members(*get_args(wanted)) or get_args(wanted)
    return parts if all(isinstance(part, ModelClass) or is_typeddict(part) for part in parts) else ()


def _refuse(wanted: Any) -> None:
    """Raise for what no model can be asked for, before anything is asked."""
    form = get_origin(wanted) or wanted
    if form is collections.abc.Iterable and not get_args(wanted):
        raise ValueError("Iterable says nothing of its items; pass Iterable[YourModel] as response_model.")
    askable = isinstance(wanted, type) or form is not wanted
    if not askable or wanted is list or form in (dict, tuple, set, frozenset, Any, object):
        raise TypeError(
            f"{wanted!r} cannot be a response_model. Pass a pydantic model, a TypedDict, a simple type such as int or "
            "Literal, a Union of those, or list[...] or Iterable[...] of them."
        )


def _from_typed_dict(wanted: Any) -> type[BaseModel]:
    """A model with the keys of a TypedDict; those that may be absent default to None without saying so."""
    hints = get_type_hints(wanted, include_extras=True)
    absent = {key for key, hint in hints.items() if get_origin(hint) is NotRequired}  # Python 3.10 does not tell
    fields: dict[str, Any] = {
        key: (_bare(hint), ... if key in wanted.__required_keys__ - absent else Field(default_factory=lambda: None))
        for key, hint in hints.items()
    }
    naming = {"__base__": _TypedDictModel, "__doc__": wanted.__doc__, "__module__": wanted.__module__}
    model: type[_TypedDictModel] = create_model(wanted.__name__, **naming, **fields)
    model.__wanted__ = wanted
    return model


class _TypedDictModel(BaseModel):
    __wanted__: ClassVar[Any]

    def __reduce__(self) -> tuple[Any, ...]:
        return _blank, (self.__wanted__,), self.__getstate__()  # under its own name there is the TypedDict


def _blank(wanted: Any) -> Any:
    model = _compile_form(wanted, repr(wanted)).model
    return model.__new__(model)


def _bare(hint: Any) -> Any:
    """The type inside `Required[...]` or `NotRequired[...]`."""
    return get_args(hint)[0] if get_origin(hint) in {Required, NotRequired} else hint


def _content(wanted: Any) -> Shape:
    item: Any = get_args(wanted)  # a field of type Iterable would be validated while somebody iterates
    model = content_model(list[item] if get_origin(wanted) in LISTS else wanted)
    return _shape(wanted, model, operator.attrgetter("content"), "content")


def content_model(wanted: Any, base: Any = None) -> type[Any]:
    """A plain value travels as an object with one field."""
    doc = "Correctly Formatted and Extracted Response."
    made: type[Any] = create_model("Response", __base__=base, __doc__=doc, content=(wanted, ...))
    return made


def _shape(
    wanted: Any, model: type[BaseModel], unwrap: Callable[[Any], Any] | None = None, field: str | None = None
) -> Shape:
    schema = schema_of(model)
    title = str(schema.get("title") or model.__name__)
    nodes = [*_nodes(model.__pydantic_core_schema__)]
    for cls in {node["cls"] for node in nodes if node.get("type") == "model"}:
        for function in waiting(cls):
            raise ValueError(f"{cls.__name__}.{function.__name__}: {_NOT_AWAITED}")
    return Shape(
        wanted=wanted,
        model=model,
        name=re.sub(r"[^a-zA-Z0-9_-]", "_", title)[:64],  # what every API takes for the name of a tool
        description=describe(schema, title),
        schema=schema,
        parameters=parameters(schema),
        digest=hashlib.sha256(json.dumps([title, schema]).encode()).hexdigest(),
        uses_context=any(node.get("type") == "with-info" for node in nodes),
        validator=getattr(wanted, "__pydantic_validator__", None),
        _validate=_loader(model),
        _unwrap=unwrap,
        _field=field,
    )


def _loader(model: type[BaseModel]) -> Callable[..., Any]:
    """The compiled validator, unless the model has loading ways of its own."""
    own = model.model_validate_json.__func__ is not BaseModel.model_validate_json.__func__  # type: ignore[attr-defined]
    return model.model_validate_json if own else model.__pydantic_validator__.validate_json


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every node of a core schema, a tree whose cycles go through names."""
    if isinstance(tree, dict):
        yield tree
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (list, tuple)) else ():
        yield from _nodes(part)


ASYNC_MARK = "__async_validator__"
_NOT_AWAITED = (
    "async validators are not supported in a response_model. Use pydantic's own, or call run_async_validators() with "
    "the result."
)


def waiting(cls: type) -> list[Callable[..., Any]]:
    """The async validators of a class."""
    # Copies, made in one step: another thread may just be noting something on the class.
    members = {name: member for base in reversed(cls.__mro__) for name, member in vars(base).copy().items()}
    return [member for member in members.values() if ASYNC_MARK in getattr(member, "__dict__", ())]
