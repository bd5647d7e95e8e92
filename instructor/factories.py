"""Clients out of SDK clients, and out of a name such as `"openai/gpt-4o"`."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, overload

from . import local
from .cache.shelf import check_cache
from .client import AsyncInstructor, Instructor
from .connect import connect, logger, sdk
from .endpoint import Endpoint
from .exceptions import ClientError, ConfigurationError
from .legacy import successor
from .mode import Mode
from .patching import check_mode, is_async, patched
from .providers import BETA, ROWS, Provider, Row, row_for, row_in

supported_providers = [*ROWS]


@overload
def from_provider(
    model: str, async_client: Literal[False] = ..., cache: Any = ..., mode: Mode | None = ..., **kwargs: Any
) -> Instructor: ...
@overload
def from_provider(
    model: str, async_client: Literal[True], cache: Any = ..., mode: Mode | None = ..., **kwargs: Any
) -> AsyncInstructor: ...
@overload
def from_provider(
    model: str, async_client: bool, cache: Any = ..., mode: Mode | None = ..., **kwargs: Any
) -> Instructor | AsyncInstructor: ...
def from_provider(
    model: str, async_client: bool = False, cache: Any = None, mode: Mode | None = None, **kwargs: Any
) -> Instructor | AsyncInstructor:
    """A client for `model`, such as `"openai/gpt-4o"` or `"anthropic/claude-sonnet-4-5"`.

    What the SDK's client takes (`api_key`, `base_url`, `timeout`, `max_retries` …) goes to the SDK's client; every
    other keyword, such as `temperature` or `cache_ttl`, is a default for each call.

    Raises:
        ConfigurationError: the name is malformed, the provider unknown, its SDK not installed or its key not found.
        ModeError: the provider does not know the mode.
        TypeError: `cache` is no cache.
    """
    row, name = _parse(model)
    if cache is not None:
        kwargs["cache"] = check_cache(cache)
    if newer := _RENAMED.get(model.partition("/")[0]):
        warnings.warn(newer, DeprecationWarning, stacklevel=2)
    mode = check_mode(mode or _default_mode(row, name), row)
    row = row_in(row, mode)
    logger.info("Initializing %s provider with model %s", row.provider.value, name)
    wants_async = kwargs.pop("use_async", False) or async_client
    call = getattr(sdk(row), row.calls[wants_async]) if row.provider is Provider.LITELLM else None
    client = None if call else connect(row, kwargs, wants_async=wants_async)
    endpoint = Endpoint(row, client, call, is_async=wants_async)
    if row.provider is Provider.LOCAL:
        endpoint.place, endpoint.start = local.identity(name), partial(_serve, client, name)
    logger.info("Client initialized")
    return _client(endpoint, mode, name, kwargs)


_RENAMED = {
    "generative-ai": "The provider 'generative-ai' is called 'google' now.",
    "vertexai": "The provider 'vertexai' is 'google' now, with vertexai=True.",
    "gemini": "The provider 'gemini' is 'google' now: its own SDK has ended.",
}


def _parse(model: str) -> tuple[Row, str]:
    provider, _, name = str(model).partition("/")
    if not (provider and name):
        raise ConfigurationError(f'Model string must be in format "provider/model", as "openai/gpt-4o"; got {model!r}.')
    if provider not in ROWS:
        raise ConfigurationError(f"Unsupported provider: {provider!r}. Supported providers are: {supported_providers}")
    return ROWS[provider], name


_TOOLED = {
    Provider.OLLAMA: r"(?i)llama3\.[12]|llama4|mistral-nemo|firefunction-v2|command-[ar]|qwen2\.5|qwen3|devstral",
    Provider.BEDROCK: r"(?i)anthropic|claude",
}
_UNTOOLED = {Provider.OLLAMA: Mode.JSON, Provider.BEDROCK: Mode.MD_JSON}
"""Which models of some providers take tools, and the mode of the others."""


def _default_mode(row: Row, name: str) -> Mode:
    return row.mode if re.search(_TOOLED.get(row.provider, ""), name) else _UNTOOLED[row.provider]


def _serve(client: Any, name: str) -> None:
    client.base_url = local.serve(name)


def _client(endpoint: Endpoint, mode: Mode, model: str | None, kwargs: dict[str, Any]) -> Instructor | AsyncInstructor:
    """The client of an endpoint; `model` is what it asks unless a call says otherwise."""
    kind = AsyncInstructor if endpoint.is_async else Instructor
    defaults = {"model": model, **kwargs} if model is not None else kwargs
    return kind(endpoint.client, patched(endpoint, mode), mode, endpoint.row.provider, **defaults)


def _wrap(
    row: Row, client: Any, mode: Mode, model: str | None, kwargs: dict[str, Any], *, use_async: bool | None = None
) -> Instructor | AsyncInstructor:
    """A client around one that the user made.

    Raises:
        ClientError: it was made by another SDK.
        ConfigurationError: the SDK is not installed.
    """
    mode = check_mode(mode, row)
    row = row_for(client, row_in(row, mode))
    kinds = [getattr(sdk(row), name, ()) for name in row.clients]  # as far as the SDK has them
    awaits = isinstance(client, kinds[True]) if use_async is None else use_async
    if not isinstance(client, kinds[awaits]):
        names = ", ".join(row.clients)
        raise ClientError(f"Client must be an instance of one of: {names}. Got: {type(client).__name__}")
    return _client(Endpoint(row, client, is_async=awaits), mode, model, kwargs)


def from_openai(client: Any, mode: Mode = Mode.TOOLS, model: str | None = None, **kwargs: Any) -> Any:
    """A client around `openai.OpenAI`, `AsyncOpenAI` or their Azure kin."""
    return _wrap(ROWS["openai"], client, mode, model, kwargs)


def from_anthropic(
    client: Any, mode: Mode = Mode.TOOLS, beta: bool = False, model: str | None = None, **kwargs: Any
) -> Any:
    """A client around `anthropic.Anthropic` or its kin; `beta` asks through `client.beta.messages`."""
    return _wrap(BETA if beta else ROWS["anthropic"], client, mode, model, kwargs)


def from_genai(
    client: Any, mode: Mode = Mode.TOOLS, *, use_async: bool = False, model: str | None = None, **kwargs: Any
) -> Any:
    """A client around `google.genai.Client`, asked through its `aio` side with `use_async`."""
    return _wrap(ROWS["google"], client, mode, model, kwargs, use_async=use_async)


def from_vertexai(
    client: Any, mode: Mode = Mode.TOOLS, use_async: bool = False, model: str | None = None, **kwargs: Any
) -> Any:
    """A client around `google.genai.Client(vertexai=True)`, or around a `GenerativeModel` of the SDK of before."""
    return _google("vertexai", client, mode, model, kwargs, use_async=use_async)


def from_gemini(
    client: Any, mode: Mode = Mode.MD_JSON, use_async: bool = False, model: str | None = None, **kwargs: Any
) -> Any:
    """A client around `google.genai.Client`, or around a `GenerativeModel` of google-generativeai, which has ended."""
    return _google("gemini", client, mode, model, kwargs, use_async=use_async)


def _google(name: str, client: Any, mode: Mode, model: str | None, kwargs: dict[str, Any], *, use_async: bool) -> Any:
    row = ROWS[name]
    sdk(row)  # or say what to install
    made, named = successor(client)
    return _wrap(row, made, mode, model or named, kwargs, use_async=use_async)


def from_groq(client: Any, mode: Mode = Mode.TOOLS, model: str | None = None, **kwargs: Any) -> Any:
    """A client around `groq.Groq` or `AsyncGroq`."""
    return _wrap(ROWS["groq"], client, mode, model, kwargs)


def from_bedrock(
    client: Any, mode: Mode = Mode.TOOLS, async_client: bool = False, model: str | None = None, **kwargs: Any
) -> Any:
    """A client around `boto3.client("bedrock-runtime")`; with `async_client` its calls run in threads.

    Raises:
        ClientError: that client does not converse.
    """
    row = ROWS["bedrock"]
    if not hasattr(client, "converse"):  # boto3 makes its classes as they are needed: there is none to name
        raise ClientError(f'Pass boto3.client("bedrock-runtime"), not a {type(client).__name__}.')
    return _client(Endpoint(row, client, is_async=async_client), check_mode(mode, row), model, kwargs)


def from_xai(client: Any, mode: Mode = Mode.TOOLS, model: str | None = None, **kwargs: Any) -> Any:
    """A client around `xai_sdk.Client` or `AsyncClient`.

    Their key cannot be read: what such a client was answered is found again through that very client only, unless
    `cache_namespace` names the account; a client of `from_provider("xai/…")` knows its account.
    """
    return _wrap(ROWS["xai"], client, mode, model, kwargs)


def from_writer(client: Any, mode: Mode = Mode.TOOLS, model: str | None = None, **kwargs: Any) -> Any:
    """A client around `writerai.Writer` or `AsyncWriter`."""
    return _wrap(ROWS["writer"], client, mode, model, kwargs)


def from_cohere(client: Any, mode: Mode = Mode.TOOLS, model: str | None = None, **kwargs: Any) -> Any:
    """A client around `cohere.ClientV2` or `AsyncClientV2`."""
    return _wrap(ROWS["cohere"], client, mode, model, kwargs)


def from_mistral(
    client: Any, mode: Mode = Mode.TOOLS, use_async: bool = False, model: str | None = None, **kwargs: Any
) -> Any:
    """A client around `mistralai.client.Mistral`, asked through its `_async` functions with `use_async`."""
    return _wrap(ROWS["mistral"], client, mode, model, kwargs, use_async=use_async)


def from_litellm(
    completion: Callable[..., Any], mode: Mode = Mode.TOOLS, *, async_client: bool | None = None, **kwargs: Any
) -> Any:
    """A client around `litellm.completion` or `litellm.acompletion`.

    Raises:
        ClientError: that is no function.
    """
    row = ROWS["litellm"]
    if not callable(completion):
        raise ClientError(f"Pass litellm.completion or litellm.acompletion, not a {type(completion).__name__}.")
    awaits = is_async(completion) if async_client is None else async_client
    return _client(Endpoint(row, None, completion, is_async=awaits), check_mode(mode, row), None, kwargs)


def _compatible(name: str) -> Callable[..., Any]:
    """A factory for a provider that copies OpenAI's API: takes a client of that SDK or its own, or a model's name."""
    row = ROWS[name]

    def factory(
        client: Any, mode: Mode = row.mode, model: str | None = None, async_client: bool = False, **kwargs: Any
    ) -> Any:
        if isinstance(client, str):
            return from_provider(f"{name}/{client}", async_client, mode=mode, **kwargs)
        return _wrap(row, client, mode, model, kwargs)

    factory.__name__ = factory.__qualname__ = f"from_{name}"
    factory.__doc__ = f"A client for {name} around `openai.OpenAI` or `AsyncOpenAI`, or for a model's name."
    return factory


from_anyscale = _compatible("anyscale")
from_together = _compatible("together")
from_databricks = _compatible("databricks")
from_deepseek = _compatible("deepseek")
from_openrouter = _compatible("openrouter")
from_perplexity = _compatible("perplexity")
from_fireworks = _compatible("fireworks")
from_cerebras = _compatible("cerebras")
