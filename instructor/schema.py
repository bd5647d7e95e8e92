"""The JSON Schema of a response model, and the rewrites that dialects need of it."""

from __future__ import annotations

from typing import Any

import docstring_parser
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
    for name, text in _documented(model).items():
        if name in properties and "description" not in properties[name]:
            properties[name]["description"] = text
    return schema


def _documented(model: type[BaseModel]) -> dict[str, str]:
    """What the docstring of `model` says of its parameters."""
    params = docstring_parser.parse(model.__doc__ or "").params
    return {param.arg_name: param.description or "" for param in params if param.description}


def describe(schema: dict[str, Any], name: str) -> str:
    """What to tell a model about a schema: its own description, or that it must be filled in correctly."""
    default = f"Correctly extracted `{name}` with all the required parameters with correct types"
    return str(schema.get("description") or default)


def parameters(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as the parameters of a function, whose name and description stand beside it."""
    return {key: value for key, value in {"required": [], **schema}.items() if key not in {"title", "description"}}


def strict(schema: Any) -> Any:
    """The schema in OpenAI's strict subset: closed objects, every property required, no defaults.

    Source: OpenAI, "Structured outputs: supported schemas".
    """
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    if len(schema.get("allOf", ())) == 1:
        return strict({**{k: v for k, v in schema.items() if k != "allOf"}, **schema["allOf"][0]})
    return _closed(
        {("anyOf" if key == "oneOf" else key): value for key, value in schema.items() if key not in _NOT_STRICT}
    )


_NOT_STRICT = frozenset({"default", "discriminator"})
_NAMED = ("properties", "$defs")
_LITERAL = frozenset({"enum", "const", "required", "examples"})


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    made = {key: value if key in _LITERAL else strict(value) for key, value in schema.items() if key not in _NAMED}
    named = {key: {name: strict(part) for name, part in schema[key].items()} for key in _NAMED if key in schema}
    if schema.get("type") != "object":
        return {**made, **named}
    # A free-form mapping has no strict form; the API says so better than we could.
    closing = {} if "additionalProperties" in schema else {"additionalProperties": False}
    return {**made, **named, **closing, "required": list(schema.get("properties", ()))}
