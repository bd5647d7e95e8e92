"""Typed, validated answers from language models, never paid for twice."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from ._doors import DOORMAN

if TYPE_CHECKING:
    from . import exceptions as exceptions
    from . import hooks as hooks
    from .client import AsyncInstructor as AsyncInstructor
    from .client import Instructor as Instructor
    from .factories import from_anthropic as from_anthropic
    from .factories import from_anyscale as from_anyscale
    from .factories import from_cerebras as from_cerebras
    from .factories import from_databricks as from_databricks
    from .factories import from_deepseek as from_deepseek
    from .factories import from_fireworks as from_fireworks
    from .factories import from_genai as from_genai
    from .factories import from_groq as from_groq
    from .factories import from_litellm as from_litellm
    from .factories import from_openai as from_openai
    from .factories import from_openrouter as from_openrouter
    from .factories import from_perplexity as from_perplexity
    from .factories import from_provider as from_provider
    from .factories import from_together as from_together
    from .mode import Mode as Mode
    from .patching import apatch as apatch
    from .patching import patch as patch
    from .providers import Provider as Provider

__version__ = "1.18.0"

if DOORMAN not in sys.meta_path:  # it is, where this module is reloaded
    sys.meta_path.append(DOORMAN)

_ROOMS = {
    "AsyncInstructor": "client",
    "Instructor": "client",
    "Mode": "mode",
    "Provider": "providers",
    "apatch": "patching",
    "from_anthropic": "factories",
    "from_anyscale": "factories",
    "from_cerebras": "factories",
    "from_databricks": "factories",
    "from_deepseek": "factories",
    "from_fireworks": "factories",
    "from_genai": "factories",
    "from_groq": "factories",
    "from_litellm": "factories",
    "from_openai": "factories",
    "from_openrouter": "factories",
    "from_perplexity": "factories",
    "from_provider": "factories",
    "from_together": "factories",
    "patch": "patching",
}
"""Where each public name lives; its room is entered when somebody asks for it."""

_MODULES = frozenset({"exceptions", "hooks"})

__all__ = [*sorted([*_ROOMS, *_MODULES])]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_ROOMS[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
