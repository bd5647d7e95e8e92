"""Plain values, and the models they travel in."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import BaseModel
from typing_extensions import is_typeddict

from ..shape import compile_shape, content_model, models_in
from ..snapshots import ModelClass

T = TypeVar("T")


class AdapterBase(BaseModel):
    """What a plain value travels in: an object with the field `content`."""


class ModelAdapter(Generic[T]):
    """`ModelAdapter[int]` is a model whose `content` is an `int`."""

    def __class_getitem__(cls, wanted: Any) -> type[AdapterBase]:
        """The model around one plain value."""
        return content_model(wanted, AdapterBase)


def is_simple_type(wanted: Any) -> bool:
    """Whether a response_model asks for a plain value: a number, a text, a Literal, a union or a list of such."""
    if wanted is None or isinstance(wanted, ModelClass) or is_typeddict(wanted) or models_in(wanted):
        return False
    try:
        return compile_shape(wanted) is not None
    except (TypeError, ValueError):
        return False


def prepare_response_model(wanted: Any) -> type[BaseModel] | None:
    """The model that a provider is told of for a response_model."""
    shape = compile_shape(wanted)
    return None if shape is None else shape.model
