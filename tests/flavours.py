"""One body for sync and async tests, and one for every provider."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Iterable
from typing import Any

import anthropic
import boto3
import cohere
import groq
import openai
import pytest
from botocore.config import Config
from fake_provider import FakeProvider
from google import genai
from mistralai.client import Mistral

import instructor
from instructor import Mode

Ask = Callable[..., Any]
LIBRARY = sys.modules[type(genai.Client(api_key="k")._api_client._httpx_client).__mro__[1].__module__.partition(".")[0]]
"""The HTTP library that Google's SDK is built on (other than aiohttp): httpx, or what came after it."""


def openai_client(provider: FakeProvider, *, use_async: bool = False, key: str = "k", **kwargs: Any) -> Any:
    """An OpenAI client that asks the fake provider."""
    sdk = openai.AsyncOpenAI if use_async else openai.OpenAI
    return instructor.from_openai(sdk(api_key=key, base_url=f"{provider.url}/v1", max_retries=0), model="m", **kwargs)


def responses_client(provider: FakeProvider, **kwargs: Any) -> Any:
    """An OpenAI client that asks the fake provider in the Responses API, which has one mode, whatever others have."""
    return openai_client(provider, **{**kwargs, "mode": Mode.RESPONSES_TOOLS})


def anthropic_client(provider: FakeProvider, *, use_async: bool = False, key: str = "k", **kwargs: Any) -> Any:
    """An Anthropic client that asks the fake provider."""
    sdk = anthropic.AsyncAnthropic if use_async else anthropic.Anthropic
    return instructor.from_anthropic(sdk(api_key=key, base_url=provider.url, max_retries=0), model="m", **kwargs)


def google_client(provider: FakeProvider, *, use_async: bool = False, key: str = "k", **kwargs: Any) -> Any:
    """A Google client that asks the fake provider."""
    over_it = {"transport": LIBRARY.AsyncHTTPTransport()}  # and not over aiohttp, if another SDK brought that along
    client = genai.Client(api_key=key, http_options={"base_url": provider.url, "async_client_args": over_it})
    return instructor.from_genai(client, use_async=use_async, model="m", **kwargs)


def groq_client(provider: FakeProvider, *, use_async: bool = False, key: str = "k", **kwargs: Any) -> Any:
    """A Groq client that asks the fake provider."""
    sdk = groq.AsyncGroq if use_async else groq.Groq
    return instructor.from_groq(sdk(api_key=key, base_url=provider.url, max_retries=0), model="m", **kwargs)


def bedrock_client(provider: FakeProvider, *, use_async: bool = False, key: str = "k", **kwargs: Any) -> Any:
    """A client of AWS Bedrock that asks the fake provider; asynchronous ones ask it in threads."""
    return instructor.from_bedrock(bedrock_sdk(provider.url, key), async_client=use_async, model="m", **kwargs)


def bedrock_sdk(url: str, key: str = "k") -> Any:
    """A client of boto3 that asks there, and once."""
    account = {"region_name": "r", "aws_access_key_id": key, "aws_secret_access_key": "s"}
    once = Config(retries={"total_max_attempts": 1})
    return boto3.client("bedrock-runtime", endpoint_url=url, config=once, **account)


def cohere_client(provider: FakeProvider, *, use_async: bool = False, key: str = "k", **kwargs: Any) -> Any:
    """A Cohere client that asks the fake provider."""
    sdk = cohere.AsyncClientV2 if use_async else cohere.ClientV2
    options = {"max_retries": 0, "log_warning_experimental_features": False}
    return instructor.from_cohere(sdk(api_key=key, base_url=provider.url, **options), model="m", **kwargs)


def mistral_client(provider: FakeProvider, *, use_async: bool = False, key: str = "k", **kwargs: Any) -> Any:
    """A Mistral client that asks the fake provider."""
    sdk = Mistral(api_key=key, server_url=f"{provider.url}/mistral")
    return instructor.from_mistral(sdk, use_async=use_async, model="m", **kwargs)


CLIENTS = {
    "openai": openai_client,
    "responses": responses_client,
    "anthropic": anthropic_client,
    "google": google_client,
    "groq": groq_client,
    "bedrock": bedrock_client,
    "cohere": cohere_client,
    "mistral": mistral_client,
}


def ways(modes: Iterable[Mode]) -> Any:
    """Parametrise with the clients of every flavour in these modes; the Responses API has a single one of its own."""
    own = {"responses": [Mode.RESPONSES_TOOLS]}
    found = [(name, make, mode) for name, make in CLIENTS.items() for mode in own.get(name, modes)]
    cases = [pytest.param(make, mode, id=f"{name}-{mode.name}") for name, make, mode in found]
    return pytest.mark.parametrize(("make", "mode"), cases)


def ask(client: Any, *args: Any, method: str = "create", **kwargs: Any) -> Any:
    """What the client answers, whichever of the two it is."""
    answer = getattr(client, method)(*args, **kwargs)
    return asyncio.run(_wait(answer)) if inspect.iscoroutine(answer) else answer


async def _wait(answer: Any) -> Any:
    return await answer
