"""Typed, validated answers from language models, never paid for twice.

PYTEST_DONT_REWRITE: nothing is asserted here, and a program may have loaded this before it runs pytest.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ._doors import DOORMAN, PUBLIC, enter

if TYPE_CHECKING:
    from . import exceptions, hooks
    from .client import AsyncInstructor, Instructor
    from .dsl.citation import CitationMixin
    from .dsl.iterable import IterableModel
    from .dsl.maybe import Maybe
    from .dsl.partial import Partial
    from .factories import (
        from_anthropic,
        from_anyscale,
        from_bedrock,
        from_cerebras,
        from_cohere,
        from_databricks,
        from_deepseek,
        from_fireworks,
        from_gemini,
        from_genai,
        from_groq,
        from_litellm,
        from_mistral,
        from_openai,
        from_openrouter,
        from_perplexity,
        from_provider,
        from_together,
        from_vertexai,
        from_writer,
        from_xai,
    )
    from .function_calls import (
        OpenAISchema,
        ResponseSchema,
        generate_anthropic_schema,
        generate_gemini_schema,
        generate_openai_schema,
        openai_schema,
        response_schema,
    )
    from .mode import Mode
    from .multimodal import Audio, Image
    from .patching import apatch, patch
    from .providers import Provider
    from .validators import llm_validator, openai_moderation

__version__ = "1.18.0"
__all__ = ["AsyncInstructor", "Audio", "CitationMixin", "Image", "Instructor", "IterableModel", "Maybe", "Mode"]
__all__ += ["OpenAISchema", "Partial", "Provider", "ResponseSchema", "apatch", "exceptions", "from_anthropic"]
__all__ += ["from_anyscale", "from_bedrock", "from_cerebras", "from_cohere", "from_databricks", "from_deepseek"]
__all__ += ["from_fireworks", "from_gemini", "from_genai", "from_groq", "from_litellm", "from_mistral", "from_openai"]
__all__ += ["from_openrouter", "from_perplexity", "from_provider", "from_together", "from_vertexai", "from_writer"]
__all__ += ["from_xai", "generate_anthropic_schema", "generate_gemini_schema", "generate_openai_schema", "hooks"]
__all__ += ["llm_validator", "openai_moderation", "openai_schema", "patch", "response_schema"]

if DOORMAN not in sys.meta_path:  # it is, where this module is reloaded
    sys.meta_path.append(DOORMAN)


def __getattr__(name: str) -> Any:
    value = globals()[name] = enter(__name__, PUBLIC, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
