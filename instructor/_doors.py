"""Old addresses: where the modules went that this package used to have, and the doorman who shows the way."""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, cast


def _in(room: str, *names: str) -> dict[str, str]:
    return {name: f"{room}:{name}" for name in names}


_ERRORS = _in(
    "exceptions",
    *("AsyncValidationError", "ClientError", "ConfigurationError", "FailedAttempt", "IncompleteOutputException"),
    *("InstructorError", "InstructorRetryException", "ModeError", "MultimodalError", "ProviderError"),
    *("ResponseParsingError", "TokenBudgetError", "TokenBudgetExceeded", "TokenUsageUnavailableError"),
    "ValidationError",
)
_SDKS = (
    *("anthropic", "bedrock", "cerebras", "cohere", "fireworks", "gemini", "genai", "groq", "litellm", "mistral"),
    *("openai", "openrouter", "perplexity", "vertexai", "writer", "xai"),
)
_COPIES = ("anyscale", "databricks", "deepseek", "together")
_MAKERS = _in("factories", *(f"from_{name}" for name in _SDKS + _COPIES))
_CORE = _in("client", "AsyncInstructor", "Instructor") | _in("hooks", "HookName", "Hooks")
_IS_ASYNC = _in("patching", "is_async")
_JSON = _in("jsontext", "extract_json_from_stream", "extract_json_from_stream_async")
_JSON |= {"extract_json_from_codeblock": "jsontext:find"}
DSL = _in("dsl.citation", "CitationMixin") | _in("dsl.iterable", "IterableModel") | _in("dsl.maybe", "Maybe")
DSL |= _in("dsl.partial", "Partial") | _in("dsl.response_list", "ListResponse", "ResponseList")
DSL |= _in("dsl.simple_type", "ModelAdapter", "is_simple_type")
_SCHEMAS = _in("function_calls", *(f"generate_{api}_schema" for api in ("anthropic", "gemini", "openai")))
_TYPES = _in("dsl.simple_type", "is_simple_type", "prepare_response_model") | {"is_typed_dict": "shape:is_typeddict"}
_TYPES |= _in("function_calls", "classproperty")
_VALIDATORS = _in("validators", "Validator", "llm_validator", "openai_moderation")
_WAITING = _in("validators", "AsyncValidationContext", "async_field_validator", "async_model_validator")
_WAITING |= _in("validators", "run_async_validators") | _in("exceptions", "AsyncValidationError")
_NOUNS = _in("mode", "Mode") | _in("providers", "Provider")
_PATCHES = _in("patching", "apatch", "patch") | _in("factories", "from_litellm", "from_openai")

PUBLIC = _CORE | _MAKERS | _NOUNS | _PATCHES | _SCHEMAS | _VALIDATORS | DSL | _in("multimodal", "Audio", "Image")
PUBLIC |= _in("factories", "from_provider") | {"exceptions": "exceptions", "hooks": "hooks"}
PUBLIC |= _in("function_calls", "OpenAISchema", "ResponseSchema", "openai_schema", "response_schema")
"""What `instructor` itself has by name, and more than it tells."""

DOORS: dict[str, str | dict[str, str]] = {
    "instructor.auto_client": "factories",
    "instructor.core": _CORE | _ERRORS | _PATCHES,
    "instructor.processing": _SCHEMAS,
    "instructor.processing.function_calls": "function_calls",
    "instructor.processing.multimodal": "multimodal",
    "instructor.processing.schema": _SCHEMAS,
    "instructor.processing.validators": _in("validators", "Validator"),
    "instructor.utils": _JSON | _IS_ASYNC | _TYPES | _in("providers", "Provider", "get_provider"),
    "instructor.utils.core": _JSON | _IS_ASYNC | _TYPES,
    "instructor.utils.providers": "providers",
    "instructor.v2": _NOUNS | _MAKERS,
    "instructor.v2.auto_client": "factories",
    "instructor.v2.core": _NOUNS,
    "instructor.v2.core.errors": "exceptions",
    "instructor.v2.core.json": _JSON,
    "instructor.v2.core.schema": _SCHEMAS,
    "instructor.v2.core.utils": _IS_ASYNC,
    "instructor.v2.dsl": DSL,
    "instructor.v2.providers": _MAKERS,
}
_ROOMS = {"client": "client", "exceptions": "exceptions", "hooks": "hooks", "patch": "patching", "retry": "exceptions"}
for _old in ("instructor.validation", "instructor.v2.validation"):
    DOORS |= {_old: _VALIDATORS | _WAITING, f"{_old}.llm_validators": _VALIDATORS, f"{_old}.async_validators": _WAITING}
for _core in ("instructor.core", "instructor.v2.core"):
    DOORS |= {f"{_core}.{name}": room for name, room in _ROOMS.items()}
for _name in ("function_calls", "mode", "multimodal", "providers", "templating"):
    DOORS[f"instructor.v2.core.{_name}"] = _name
for _name in ("citation", "iterable", "maybe", "parallel", "partial", "response_list", "simple_type"):
    DOORS[f"instructor.v2.dsl.{_name}"] = f"dsl.{_name}"
for _name in _SDKS:
    DOORS |= {f"instructor.v2.providers.{_name}": _MAKERS, f"instructor.v2.providers.{_name}.client": "factories"}
"""By its old path: the room that a module is now, or for each of its names `"room:name"`."""


def enter(module: str, places: dict[str, str], name: str) -> Any:
    """What a name of `module` stands for; its room is entered now, if nobody was there before."""
    if name not in places:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    room, _, inside = places[name].partition(":")
    found = importlib.import_module(f".{room}", __package__)
    return getattr(found, inside) if inside else found


class Hall(ModuleType):
    """Stands for a module whose names went to several rooms; a room is entered when one of its names is asked for."""

    def __init__(self, name: str, places: dict[str, str]) -> None:
        super().__init__(name, "An old address: its names live in other modules now.")
        vars(self).update(__all__=sorted(places), _places=places)

    def __getattr__(self, name: str) -> Any:
        return enter(self.__name__, self._places, name)

    def __setattr__(self, name: str, value: object) -> None:
        # `import instructor.core.patch` must not hide the function of that name, which is the older guest.
        if not (isinstance(value, ModuleType) and name in self._places):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._places})


class Doorman:
    """Finds what moved, when nobody else finds it: a finder and its loader in one.

    It has no base class because loading `importlib.abc` takes longer than loading this package.
    """

    def find_spec(self, name: str, _path: object, _target: object = None) -> ModuleSpec | None:
        """The module at an old address."""
        if name not in DOORS:
            return None
        return ModuleSpec(name, cast("Any", self), is_package=isinstance(DOORS[name], dict))

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """A hall; for a room nothing yet, since it may be there already."""
        door = DOORS[spec.name]
        return Hall(spec.name, door) if isinstance(door, dict) else None

    def exec_module(self, module: ModuleType) -> None:
        """Put the room itself in the place of what was made for it."""
        door = DOORS[module.__name__]
        if isinstance(door, str):
            sys.modules[module.__name__] = importlib.import_module(f".{door}", __package__)


DOORMAN = Doorman()
