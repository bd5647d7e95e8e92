"""Names of models that an editor may suggest for `from_provider`; every other name works as well."""

from __future__ import annotations

from typing import Literal, TypeAlias

# The names that providers keep pointing at their newest models, and the one that needs no provider.
KnownModelName: TypeAlias = Literal[
    "anthropic/claude-haiku-4-5",
    "anthropic/claude-sonnet-4-5",
    "cerebras/llama-3.3-70b",
    "cohere/command-a-03-2025",
    "deepseek/deepseek-chat",
    "google/gemini-2.5-flash",
    "google/gemini-2.5-pro",
    "groq/llama-3.3-70b-versatile",
    "local/smollm2",
    "mistral/mistral-large-latest",
    "mistral/mistral-small-latest",
    "openai/gpt-4.1",
    "openai/gpt-4.1-mini",
    "openai/gpt-4o",
    "openai/gpt-4o-mini",
    "openai/o3",
    "openai/o4-mini",
    "perplexity/sonar",
    "perplexity/sonar-pro",
    "writer/palmyra-x5",
]
