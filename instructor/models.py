"""Names of models that an editor may suggest for `from_provider`; every other name works as well."""

from __future__ import annotations

from typing import Literal, TypeAlias

# Each provider's names that do not end in a date: those go on working when the provider has a newer model.
KnownModelName: TypeAlias = Literal[
    "anthropic/claude-3-5-haiku-latest",
    "anthropic/claude-3-5-sonnet-latest",
    "anthropic/claude-3-7-sonnet-latest",
    "anthropic/claude-haiku-4-5",
    "anthropic/claude-sonnet-4-5",
    "anthropic/claude-sonnet-4-6",
    "cerebras/llama-3.3-70b",
    "cerebras/llama3.1-8b",
    "deepseek/deepseek-chat",
    "deepseek/deepseek-reasoner",
    "google/gemini-2.0-flash",
    "google/gemini-2.5-flash",
    "google/gemini-2.5-pro",
    "groq/llama-3.1-8b-instant",
    "groq/llama-3.3-70b-versatile",
    "local/smollm2",
    "openai/gpt-3.5-turbo",
    "openai/gpt-4",
    "openai/gpt-4-turbo",
    "openai/gpt-4.1",
    "openai/gpt-4.1-mini",
    "openai/gpt-4.1-nano",
    "openai/gpt-4o",
    "openai/gpt-4o-mini",
    "openai/o1",
    "openai/o3",
    "openai/o3-mini",
    "openai/o4-mini",
    "perplexity/sonar",
    "perplexity/sonar-pro",
    "perplexity/sonar-reasoning-pro",
]
