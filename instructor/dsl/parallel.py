"""Several models at once, by the names that older code has for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Union

from ..function_calls import generate_openai_schema, loaded
from ..mode import Mode
from ..parallel import compile_parallel
from ..providers import Provider
from ..shape import models_in


class ParallelBase:
    """Reads completions that call `models`."""

    def __init__(self, *models: Any) -> None:
        self.models = models

    def from_response(
        self, response: Any, mode: Mode, validation_context: Any = None, strict: bool | None = None
    ) -> Iterator[Any]:
        """Each call as its model."""
        shape: Any = compile_parallel(list[Union[self.models]])  # type: ignore[name-defined]  # noqa: UP007
        return iter(loaded(shape, response, mode, Provider.OPENAI, context=validation_context, strict=strict))


def ParallelModel(typehint: Any) -> ParallelBase:  # noqa: N802  it stands where classes stand
    """What reads the calls that `Iterable[A | B]` asks for."""
    return ParallelBase(*get_types_array(typehint))


def get_types_array(typehint: Any) -> tuple[Any, ...]:
    """The models in `Iterable[A | B]`.

    Raises:
        TypeError: it is no list of models.
    """
    compile_parallel(typehint)
    return models_in(typehint)


def handle_parallel_model(typehint: Any) -> list[dict[str, Any]]:
    """The models in `Iterable[A | B]` as tools of OpenAI's."""
    return [{"type": "function", "function": generate_openai_schema(model)} for model in get_types_array(typehint)]
