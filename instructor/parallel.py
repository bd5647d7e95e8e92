"""Many calls of many tools: `Iterable[A | B]` as one tool for each model, a reply's calls as one payload."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache, partial
from typing import Any

from msgspec.structs import replace

from .dialects.base import Call
from .dsl.response_list import ListResponse
from .shape import Shape, compile_shape, models_in


def compile_parallel(wanted: Any) -> Shape | None:
    """The shape of a list of models, each of which is a tool that may be called any number of times.

    Raises:
        TypeError: `wanted` is no list of models, or two of them would be one tool.
    """
    shape = compile_shape(wanted)
    return None if shape is None else _parallel(shape)


@lru_cache(maxsize=512)
def _parallel(shape: Shape) -> Shape:
    models = models_in(shape.wanted)
    shapes = [made for made in map(compile_shape, models) if made is not None]
    tools = {made.name: made for made in shapes}
    if not models:
        raise TypeError(f"Mode.PARALLEL_TOOLS takes an Iterable[...] of models, not {shape.wanted!r}.")
    if len(tools) < len(shapes):
        raise TypeError(f"Two models in {shape.wanted!r} would be tools of the same name; rename one of {[*tools]}.")
    digest = hashlib.sha256("".join(made.digest for made in shapes).encode()).hexdigest()
    return replace(shape, tools=tuple(shapes), digest=digest, _validate=partial(_load, tools), _unwrap=None)


def _load(tools: Mapping[str, Shape], text: str, *, context: Any, strict: bool | None) -> ListResponse[Any]:
    """Each call as its model, in their order; of tools that nobody offered nothing."""
    calls = [(tools[made["name"]], made["arguments"]) for made in json.loads(text) if made["name"] in tools]
    return ListResponse([tool.load(arguments, context, strict=strict) for tool, arguments in calls])


def payload(calls: Iterable[Call]) -> str:
    """The calls as one JSON document; their arguments as the text they came in, JSON or not, for the models to read."""
    return json.dumps([{"name": made.name, "arguments": made.arguments} for made in calls])
