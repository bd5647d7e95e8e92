"""What calls cost: added up in the provider's own units, and in dollars."""

from __future__ import annotations

import importlib
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pydantic

from .dialects.base import dumped, get, model_of
from .endpoint import dialect_of
from .providers import Row


def add(total: Any, usage: Any) -> Any:
    """The sum of two usages of one type, field by field, extra fields too; a new object."""
    if isinstance(usage, (pydantic.BaseModel, dict)):
        mine = dict(total or {})
        summed = mine | {name: add(mine.get(name), value) for name, value in dict(usage).items()}
        return summed if isinstance(usage, dict) else usage.model_copy(update=summed)
    if _is_number(usage):
        return usage + total if _is_number(total) else usage
    return total if usage is None else usage


def nothing(usage: Any) -> Any:
    """A usage of the same type that cost nothing: what an answer from the cache costs."""
    if isinstance(usage, pydantic.BaseModel):
        return usage.model_copy(update={name: nothing(value) for name, value in usage})
    if isinstance(usage, list):
        return [nothing(value) for value in usage]
    if isinstance(usage, dict):
        return {name: nothing(value) for name, value in usage.items()}
    return type(usage)(0) if _is_number(usage) else usage


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def tokens(usage: Any) -> int | None:
    """All tokens that a usage counts, or None when it does not say. Cohere says elsewhere which it bills."""
    usage = get(usage, "tokens") or usage
    for names in (("total_tokens",), ("total_token_count",), ("totalTokens",), ("input_tokens", "output_tokens")):
        counts = [get(usage, name) for name in names]
        if all(_is_number(count) for count in counts):
            return int(sum(counts))
    return None


_SIDES = {
    "input": (
        ("prompt_tokens",),
        ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
        ("prompt_token_count", "tool_use_prompt_token_count"),
        ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens"),
    ),
    "output": (
        ("completion_tokens",),
        ("output_tokens",),
        ("candidates_token_count", "thoughts_token_count"),
        ("outputTokens",),
    ),
}
"""The fields that add up to what was asked and what was answered: OpenAI's, Anthropic's, Google's, Amazon's."""


def sides(usage: Any) -> dict[str, int]:
    """The tokens of a usage by side, "input" and "output": all of them, cached and reasoning ones too.

    Who says how many there are in all, as xAI does, may count thoughts nowhere else.
    """
    usage = get(usage, "tokens") or usage
    counted = {side: _counts(usage, families) for side, families in _SIDES.items()}
    told = {side: int(sum(counts)) for side, counts in counted.items() if counts}
    total = get(usage, "total_tokens")
    return told | ({"output": max(told["output"], total - told["input"])} if len(told) > 1 and total else {})


def _counts(usage: Any, families: tuple[tuple[str, ...], ...]) -> list[Any]:
    """The numbers of the first family of fields that has any: some providers speak two languages."""
    told = ([get(usage, name) for name in names] for names in families)
    return next((counts for each in told if (counts := list(filter(_is_number, each)))), [])


_FLAVORS = {"openai": ("openai", "chat"), "responses": ("openai", "responses")}
_SELLERS = {"genai": "google", "azure_openai": "azure"}
"""What genai-prices calls a dialect's usage, and a provider, where it does not use our word."""


def price(completion: Any, row: Row, asked: str | None) -> Decimal | None:
    """US dollars that a completion costs today; None where genai-prices is not installed or knows no price.

    That is looked up for the model that answered, or else for the one that was `asked`, in what genai-prices brings
    along (https://github.com/pydantic/genai-prices), or was told by the program to fetch.
    """
    seller = _SELLERS.get(row.provider.value, row.provider.value)
    owner, flavor = _FLAVORS.get(row.dialect, (seller, "default"))
    with suppress(Exception):  # what it costs is nice to know, no more
        prices = importlib.import_module("genai_prices")
        data = dumped(completion, mode="json", by_alias=True)
        if data is completion and not isinstance(data, dict):  # xAI's is no pydantic model
            data = {"usage": dialect_of(row).read(completion).usage}
        data = data | {"model": None, "modelVersion": None}
        usage = prices.extract_usage(data, provider_id=owner, api_flavor=flavor).usage
        tier = data.get("service_tier")
        for model in filter(None, (model_of(completion), asked)):
            with suppress(LookupError):
                context = {"service_tier": tier} if tier else None
                return prices.calc_price(usage, model, provider_id=seller, price_context=context).total_price  # type: ignore[no-any-return]
    return None
