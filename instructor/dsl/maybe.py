"""An answer that may say there is none."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, Field

T = TypeVar("T")


class MaybeBase(BaseModel, Generic[T]):
    """A result or a reason why there is none; true if there is a result."""

    result: T | None = Field(
        default=None, description="Correctly extracted result from the model, if any, otherwise None"
    )
    error: bool = False
    message: str | None = Field(
        default=None, description="Error message if no result was found, should be short and concise"
    )

    def __bool__(self) -> bool:
        return self.result is not None

    def __reduce__(self) -> tuple[Any, ...]:
        # Pydantic keeps the class of each `T` in a table; no module has it under a name that pickle could look up.
        return _blank, self.__pydantic_generic_metadata__["args"], self.__getstate__()

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """`MaybeUser`, as tools may be called, rather than `MaybeBase[User]`."""
        return f"Maybe{getattr(params[0], '__name__', params[0])}"


def Maybe(model: type[T]) -> type[MaybeBase[T]]:  # noqa: N802  it stands where classes stand
    """The model of an answer that holds a `model` as `result`, or `error=True` and a `message`."""
    return cast("type[MaybeBase[T]]", MaybeBase.__class_getitem__(model))


def _blank(model: Any) -> Any:
    kind = Maybe(model)
    return kind.__new__(kind)
