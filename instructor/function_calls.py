"""Models that describe themselves as tools, and read themselves out of completions."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, create_model
from typing_extensions import Self

from .answer import judge
from .endpoint import dialect_of
from .mode import Mode, core
from .patching import row_of
from .providers import Provider, row_in
from .schema import GOOGLE, fit
from .shape import Shape, compile_shape
from .snapshots import ModelClass

M = TypeVar("M", bound=BaseModel)
R = TypeVar("R")


@lru_cache(maxsize=256)
def generate_openai_schema(model: type[BaseModel]) -> dict[str, Any]:
    """A model as a function of OpenAI's: name, description and parameters; the same dict each time."""
    return _described(model, "parameters", "parameters")


@lru_cache(maxsize=256)
def generate_anthropic_schema(model: type[BaseModel]) -> dict[str, Any]:
    """A model as a tool of Anthropic's: name, description and input_schema; the same dict each time."""
    return _described(model, "input_schema", "schema")


def generate_gemini_schema(model: type[BaseModel]) -> dict[str, Any]:
    """A model as a function declaration of Google's."""
    warnings.warn("generate_gemini_schema is deprecated; pass the model itself.", DeprecationWarning, stacklevel=2)
    declared = _described(model, "parameters", "parameters")
    return {**declared, "parameters": fit(declared["parameters"], GOOGLE)}


def _described(model: type[BaseModel], place: str, part: str) -> dict[str, Any]:
    shape: Any = compile_shape(model)  # whose own schema nobody may change
    return {"name": shape.name, "description": shape.description, place: copy.deepcopy(getattr(shape, part))}


def loaded(shape: Shape, completion: Any, mode: Mode, provider: Provider, **how: Any) -> Any:
    """What a completion says, in the shape; the name of a legacy mode says whose completion it is."""
    maker = mode.name.partition("_")[0].lower()
    provider = next((known for known in Provider if known.value == maker), provider)
    reply = dialect_of(row_in(row_of(provider), core(mode))).read(completion)
    return shape.load(judge(core(mode), shape.name, reply, completion), **how)


class classproperty(Generic[R]):  # noqa: N801  it stands where `property` stands
    """A property of the class itself."""

    def __init__(self, getter: Callable[[Any], R]) -> None:
        self.getter = getter

    def __get__(self, _instance: object, owner: type) -> R:
        return self.getter(owner)


class ResponseSchema(BaseModel):
    """A model with its descriptions as class properties, that can be read from a completion."""

    model_config = ConfigDict(ignored_types=(classproperty,))

    openai_schema = classproperty(generate_openai_schema)
    anthropic_schema = classproperty(generate_anthropic_schema)
    gemini_schema = classproperty(generate_gemini_schema)

    @classmethod
    def from_response(
        cls,
        completion: Any,
        validation_context: Mapping[str, Any] | None = None,
        strict: bool | None = None,
        mode: Mode = Mode.TOOLS,
        provider: Provider = Provider.OPENAI,
    ) -> Self:
        """The instance that a completion holds, asked for in `mode`.

        Raises:
            pydantic.ValidationError: what it holds does not fit.
            IncompleteOutputException, RefusalError, ResponseParsingError: it holds nothing whole.
        """
        shape: Any = compile_shape(cls)
        return loaded(shape, completion, mode, provider, context=validation_context, strict=strict)  # type: ignore[no-any-return]


OpenAISchema = ResponseSchema


def _parser(mode: Mode) -> Any:
    """The older `parse_tools` and its kin: `from_response` in one mode."""

    def parse(cls: Any, completion: Any, validation_context: Any = None, strict: bool | None = None) -> Any:
        text = f"parse_{mode.name.lower()} is deprecated; use from_response(..., mode=Mode.{mode.name})."
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        return cls.from_response(completion, validation_context, strict, mode)

    return classmethod(parse)


for _mode in Mode:
    setattr(ResponseSchema, f"parse_{_mode.name.lower()}", _parser(_mode))


def response_schema(cls: type[M]) -> type[M]:
    """The same model, as a `ResponseSchema`.

    Raises:
        TypeError: `cls` is no model.
    """
    if not isinstance(cls, ModelClass):
        got = getattr(cls, "__name__", type(cls).__name__)
        raise TypeError(f"response_model must be a subclass of pydantic.BaseModel, got {got}")
    if issubclass(cls, ResponseSchema):
        return cls
    naming: dict[str, Any] = {"__base__": (cls, ResponseSchema), "__module__": cls.__module__, "__doc__": cls.__doc__}
    made: type[M] = create_model(cls.__name__, **naming)
    made.__qualname__ = cls.__qualname__  # so that it is pickled as what stands under the name
    return made


openai_schema = response_schema
