"""What a hit saved, in dollars: computed by genai-prices, from the usage that was stored."""

from __future__ import annotations

import copy
import pickle
import socket
import sys
from decimal import Decimal
from types import ModuleType
from typing import Any

import pytest
from fake_provider import FakeProvider, Say
from flavours import CLIENTS, anthropic_client, ask, google_client, groq_client, openai_client, responses_client
from pydantic import BaseModel

from instructor.cache import AutoCache, Info, info
from instructor.dialects import xai
from instructor.dialects.base import model_of
from instructor.providers import ROWS
from instructor.usage import price, sides

prices = pytest.importorskip("genai_prices", reason="genai-prices is not installed")

QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": "Extract: John is 25"}]}


class User(BaseModel):
    """Somebody."""

    name: str
    age: int


CHAT = {
    "prompt_tokens": 2006,
    "completion_tokens": 300,
    "total_tokens": 2306,
    "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 128, "audio_tokens": 0},
}
RESPONSES = {
    "input_tokens": 2006,
    "input_tokens_details": {"cached_tokens": 1920},
    "output_tokens": 300,
    "output_tokens_details": {"reasoning_tokens": 128},
    "total_tokens": 2306,
}
ANTHROPIC = {
    "input_tokens": 86,
    "cache_creation_input_tokens": 1000,
    "cache_read_input_tokens": 1920,
    "cache_creation": {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 300,
    "service_tier": "standard",
}
GOOGLE = {
    "promptTokenCount": 2006,
    "cachedContentTokenCount": 1920,
    "candidatesTokenCount": 172,
    "thoughtsTokenCount": 128,
    "totalTokenCount": 2306,
}
GROQ = {"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306, "queue_time": 0.03}
MISTRAL = {"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306}
COHERE = {key: {"input_tokens": 2006, "output_tokens": 300} for key in ("billed_units", "tokens")}
BEDROCK = {
    "inputTokens": 86,
    "cacheReadInputTokens": 1920,
    "cacheWriteInputTokens": 1000,
    "outputTokens": 300,
    "totalTokens": 3306,
}
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"

COUNTED = [
    pytest.param(openai_client, "gpt-4o-mini-2024-07-18", "openai", CHAT, (86, 1920, 0, 300), id="openai"),
    pytest.param(responses_client, "gpt-5", "openai", RESPONSES, (86, 1920, 0, 300), id="responses"),
    pytest.param(anthropic_client, "claude-haiku-4-5", "anthropic", ANTHROPIC, (86, 1920, 1000, 300), id="anthropic"),
    pytest.param(google_client, "gemini-2.5-flash", "google", GOOGLE, (86, 1920, 0, 300), id="google"),
    pytest.param(groq_client, "llama-3.3-70b-versatile", "groq", GROQ, (2006, 0, 0, 300), id="groq"),
    pytest.param(CLIENTS["mistral"], "mistral-large-latest", "mistral", MISTRAL, (2006, 0, 0, 300), id="mistral"),
    pytest.param(CLIENTS["cohere"], "command-a-03-2025", "cohere", COHERE, (2006, 0, 0, 300), id="cohere"),
    pytest.param(CLIENTS["bedrock"], CLAUDE, "aws", BEDROCK, (86, 1920, 1000, 300), id="bedrock"),
]
"""Who is asked, for what; how it is sold; the usage, and its tokens: fresh, read from a cache, written to one, said."""


def asked(client: Any, **how: Any) -> Any:
    """Who it is."""
    return ask(client, **{"response_model": User, **QUESTION, **how})


def saved(client: Any, **how: Any) -> Decimal | None:
    """What the second time saved."""
    _, told = info(asked(client, **how)), info(asked(client, **how))
    assert told is not None
    assert told.hit
    return told.saved_cost


def by_hand(model: str, seller: str, tokens: tuple[int, ...]) -> Decimal:
    """So many tokens, each kind by its own price for a million."""
    published = prices.calc_price(prices.Usage(input_tokens=1), model, provider_id=seller).model_price
    kinds = ("input_mtok", "cache_read_mtok", "cache_write_mtok", "output_mtok")
    each = [getattr(published, kind) if count else 0 for kind, count in zip(kinds, tokens, strict=True)]
    return sum((count * price for count, price in zip(tokens, each, strict=True)), Decimal()) / 1_000_000


@pytest.mark.parametrize(("make", "model", "seller", "usage", "tokens"), COUNTED)
def test_a_hit_saved_what_its_tokens_cost(
    provider: FakeProvider, make: Any, model: str, seller: str, usage: Any, tokens: Any
) -> None:
    """Cached tokens cost what cached ones do, and thoughts what is said costs, in every provider's way to count."""
    provider.say(Say(usage=usage))
    client = make(provider, cache=AutoCache())

    expected = by_hand(model, seller, tokens)

    assert expected > 0
    assert saved(client, model=model) == expected


@pytest.mark.parametrize(("make", "model", "seller", "usage", "tokens"), COUNTED)
def test_a_usage_has_two_sides(
    provider: FakeProvider, make: Any, model: str, seller: str, usage: Any, tokens: Any
) -> None:
    """What was asked, cached or not, and what was answered, thoughts among it."""
    provider.say(Say(usage=usage))
    client = make(provider)
    completion = asked(client, model=model, response_model=None)

    counted = sides(client.endpoint.dialect.read(completion).usage)

    assert counted == {"input": sum(tokens[:3]), "output": tokens[3]}


def test_what_is_no_usage_has_no_sides() -> None:
    """Where nothing is told, nothing is counted; who tells it twice is believed once."""
    assert [sides(None), sides({}), sides({"prompt_tokens": None})] == [{}] * 3
    assert sides({"prompt_tokens": 3, "input_tokens": 3, "completion_tokens": 0}) == {"input": 3, "output": 0}


def test_thoughts_may_be_counted_in_the_total_alone() -> None:
    """As xAI and Google, imitating OpenAI, count them; Cohere bills other tokens than it counts."""
    thought = {"prompt_tokens": 10, "completion_tokens": 5, "reasoning_tokens": 7, "total_tokens": 22}
    billed = {"billed_units": {"input_tokens": 1.0}, "tokens": {"input_tokens": 9.0, "output_tokens": 2.0}}

    assert sides(thought) == {"input": 10, "output": 12}
    assert sides({**thought, "total_tokens": 3}) == {"input": 10, "output": 5}
    assert sides(billed) == {"input": 9, "output": 2}


def test_xai_counts_in_a_message() -> None:
    """Its completions are no pydantic models, and have a price all the same."""
    chat = pytest.importorskip("xai_sdk.chat", reason="xai-sdk is not installed")
    usage = {
        "prompt_tokens": 2006,
        "cached_prompt_text_tokens": 1920,
        "completion_tokens": 172,
        "reasoning_tokens": 128,
    }
    answer = chat.chat_pb2.GetChatCompletionResponse(model="grok-4-0709", usage={**usage, "total_tokens": 2306})
    completion = chat.Response(answer, None)

    assert model_of(completion) == "grok-4-0709"
    assert price(completion, ROWS["xai"], None) == by_hand("grok-4-0709", "x-ai", (86, 1920, 0, 300))
    assert sides(xai.read(completion).usage) == {"input": 2006, "output": 300}


def test_all_attempts_were_saved(provider: FakeProvider) -> None:
    """An answer that took two attempts saves both."""
    provider.say(Say('{"name": "John"}', usage=CHAT), Say(usage=CHAT))
    client = openai_client(provider, cache=AutoCache())

    twice = by_hand("gpt-4o", "openai", (86, 1920, 0, 300)) * 2

    assert saved(client, model="gpt-4o") == twice
    assert provider.calls == 2


def test_a_stream_saves_too(provider: FakeProvider) -> None:
    """The last snapshot knows."""
    provider.say(Say(usage=CHAT))
    client = openai_client(provider, cache=AutoCache())

    _, last = [list(client.create_partial(User, **QUESTION, model="gpt-4o"))[-1] for _ in range(2)]

    told = info(last)
    assert told is not None
    assert told.saved_cost == by_hand("gpt-4o", "openai", (86, 1920, 0, 300))


def test_nobody_knows_every_price(provider: FakeProvider) -> None:
    """A model that nobody sells, and a model at a provider that does not sell it, have no price."""
    client = openai_client(provider, cache=AutoCache())

    assert [saved(client, model=model) for model in ("m", "claude-haiku-4-5")] == [None, None]


def test_without_the_library_there_is_no_price(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """And everything else is told."""
    monkeypatch.setitem(sys.modules, "genai_prices", None)

    client = openai_client(provider, cache=AutoCache())
    _, told = asked(client), info(asked(client))

    assert told is not None
    assert (told.hit, told.saved_tokens, told.saved_cost) == (True, 15, None)


def test_no_price_is_worth_an_error(provider: FakeProvider) -> None:
    """Whatever a usage looks like."""
    provider.say(Say(usage={"prompt_tokens": -1, "completion_tokens": 1, "total_tokens": 0}))

    assert saved(openai_client(provider, cache=AutoCache()), model="gpt-4o") is None


def test_a_price_needs_no_network(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in what was installed."""
    client = openai_client(provider, cache=AutoCache())
    asked(client, model="gpt-4o")
    tried: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: tried.append(address))

    told = info(asked(client, model="gpt-4o"))

    assert told is not None
    assert (told.saved_cost == by_hand("gpt-4o", "openai", (10, 0, 0, 5)), tried) == (True, [])


def test_a_hit_asks_for_no_price(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only who asks `info` does."""
    looked: list[str] = []

    class Watched(ModuleType):
        def __getattr__(self, name: str) -> Any:
            looked.append(name)
            return getattr(prices, name)

    monkeypatch.setitem(sys.modules, "genai_prices", Watched("genai_prices"))
    client = openai_client(provider, cache=AutoCache())
    _, hit = asked(client), asked(client)
    before = list(looked)

    info(hit)

    assert (before, looked != []) == ([], True)


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
def test_a_plain_completion_from_the_cache_says_so(provider: FakeProvider, use_async: bool) -> None:
    """It equals the one that was paid for, in every respect that anybody may look at; that one cannot tell."""
    client = openai_client(provider, use_async=use_async, cache=AutoCache())

    paid, found = (asked(client, response_model=None, model="gpt-4o") for _ in range(2))

    told = info(found)
    assert told is not None
    assert (info(paid), told.hit, told.saved_tokens, len(told.key or "")) == (None, True, 15, 64)
    assert told.saved_cost == by_hand("gpt-4o", "openai", (10, 0, 0, 5))
    assert paid == found
    assert repr(paid) == repr(found)
    assert paid.model_dump_json() == found.model_dump_json()
    assert [paid] * 3 == [pickle.loads(pickle.dumps(found)), copy.deepcopy(found), copy.copy(found)]  # noqa: S301


def test_the_completion_of_a_hit_knows_what_the_hit_knows(provider: FakeProvider) -> None:
    """Whichever of the two is asked."""
    client = openai_client(provider, cache=AutoCache())

    told = [[info(each) for each in ask(client, method="create_with_completion", **wanted)] for wanted in [WANTED] * 2]

    assert told[0] == [Info(hit=False), None]
    assert [(each and each.hit, each and each.saved_tokens) for each in told[1]] == [(True, 15)] * 2


WANTED: dict[str, Any] = {"response_model": User, **QUESTION}
