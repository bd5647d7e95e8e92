"""The JSON Schema of a response model, and what of it an API takes."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, cast

import docstring_parser
import msgspec
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

DEFINITIONS = "#/$defs/"


class _Stable(GenerateJsonSchema):
    """Writes a set's members in one order, whatever Python's hash seed."""

    def encode_default(self, dft: Any) -> Any:
        return super().encode_default(sorted(dft, key=repr) if isinstance(dft, (set, frozenset)) else dft)


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of `model`: an object at its root, parameters described by the docstring where the model is silent."""
    schema = model.model_json_schema(schema_generator=_Stable)
    root = schema.pop("$ref", None)
    if root is not None:  # a recursive model is nothing but a reference to its definition
        schema = {**schema["$defs"][root.removeprefix(DEFINITIONS)], **schema}
    properties = schema.get("properties", {})
    for param in docstring_parser.parse(model.__doc__ or "").params:
        if param.description and param.arg_name in properties:
            properties[param.arg_name].setdefault("description", param.description)
    return schema


def describe(schema: dict[str, Any], name: str) -> str:
    """What to tell a model about a schema: its own description, or that it must be filled in correctly."""
    told = schema.get("description")
    return str(told or f"Correctly extracted `{name}` with all the required parameters with correct types")


def parameters(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as the parameters of a function, whose name and description stand beside it."""
    return {key: value for key, value in {"required": [], **schema}.items() if key not in {"title", "description"}}


class Subset(msgspec.Struct, frozen=True):
    """What an API takes of JSON Schema: these keywords, some of them with these values only.

    One that is `exact` holds the answer to the schema, and refuses schemas that leave anything open.
    """

    keywords: frozenset[str]
    values: Mapping[str, Container[Any]]
    exact: bool = True
    all_required: bool = False
    recursive: bool = True


_COMMON = frozenset({"type", "title", "description", "enum", "properties", "required", "items", "anyOf", "$defs"})
_CLOSED = _COMMON | {"const", "additionalProperties", "format"}
_BOUNDS = frozenset({"minimum", "maximum", "minItems", "maxItems"})
_NUMBERS = frozenset({"multipleOf", "exclusiveMinimum", "exclusiveMaximum"})
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})

# Source: OpenAI, "Structured outputs: supported schemas". Not `pattern`: it knows no lookaround.
OPENAI = Subset(_CLOSED | _BOUNDS | _NUMBERS, {"format": _FORMATS}, all_required=True)
# What is left open may be left out here: Mistral's own helper for a model closes its objects, and changes nothing more.
MISTRAL = msgspec.structs.replace(OPENAI, all_required=False)
# Source: Cohere, "Structured outputs: parameter types support".
COHERE = Subset(_CLOSED, {"format": {"date-time", "uuid", "date", "time"}})
# Source: Anthropic, "Structured outputs: JSON Schema limitations".
ANTHROPIC = Subset(_CLOSED | {"minItems"}, {"format": _FORMATS | {"uri"}, "minItems": (0, 1)}, recursive=False)
# Source: Gemini API reference, GenerationConfig.responseJsonSchema.
GOOGLE = Subset(_COMMON | _BOUNDS | {"format", "prefixItems", "additionalProperties"}, {}, exact=False)


def fit(schema: dict[str, Any], subset: Subset) -> dict[str, Any] | None:
    """The schema in the words of `subset`, its descriptions saying the rest; None where it has no exact form."""
    uses = {name: _REFERENCE.findall(json.dumps(part)) for name, part in schema.get("$defs", {}).items()}
    try:
        if not subset.recursive:
            TopologicalSorter(uses).prepare()
        return cast("dict[str, Any]", _fitted(schema, subset))
    except (_OpenError, CycleError):
        return None


class _OpenError(Exception):
    """A part of a schema lets anything in."""


_REFERENCE = re.compile(rf'"\$ref": "{re.escape(DEFINITIONS)}([^"]+)"')


def _fitted(schema: Any, subset: Subset) -> Any:
    if subset.exact and _is_open(schema):
        raise _OpenError
    if not isinstance(schema, dict) or schema.keys() == {"$ref"}:
        return schema
    said = _reworded(schema, subset)
    taken = [key for key in said.keys() & subset.keywords if said[key] in subset.values.get(key, [said[key]])]
    made = {key: _inside(key, value, subset) for key, value in said.items() if key in taken}
    told = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in said.items() if key not in taken]
    if told:
        made["description"] = "\n\n".join(filter(None, [said.get("description"), f"{{{', '.join(told)}}}"]))
    if subset.exact and said.get("type") == "object":
        if subset.all_required:
            made["required"] = list(said.get("properties", ()))
        made["additionalProperties"] = False
    return made


def _is_open(schema: Any) -> bool:
    """Whether it lets in any value, any key or any item: no API holds an answer to that."""
    if not isinstance(schema, dict):
        return schema is not False
    more = schema.get("additionalProperties", False) is not False
    return more or bool(schema.keys() & _LOOSE) or not schema.keys() & _FIRM


_LOOSE = {"patternProperties", "prefixItems"}
_FIRM = {"type", "anyOf", "oneOf", "allOf", "enum", "const", "$ref"}


def _reworded(schema: dict[str, Any], subset: Subset) -> dict[str, Any]:
    """The schema with references alone, unions in one word, and constants as enums where there are no constants."""
    said = {_UNIONS.get(key, key): value for key, value in schema.items() if key != "discriminator"}
    if "$ref" in said:  # nothing may stand beside a reference: words about it stand around it
        said["anyOf"] = [{"$ref": said.pop("$ref")}]
    if type(said.get("const")) in {str, int, float} and "const" not in subset.keywords:
        said["enum"] = [said.pop("const")]  # every API takes these in an enum
    return said


_UNIONS = {"oneOf": "anyOf", "allOf": "anyOf"}  # pydantic writes an `allOf` only around one reference


def _inside(key: str, value: Any, subset: Subset) -> Any:
    """The value of a keyword, with the schemas in it fitted."""
    if key in {"properties", "$defs"}:
        return {name: _fitted(part, subset) for name, part in value.items()}
    if key in {"anyOf", "prefixItems"}:
        return [_fitted(part, subset) for part in value]
    return _fitted(value, subset) if key in {"items", "additionalProperties"} else value
