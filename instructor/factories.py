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
    if model.startswith("generative-ai/"):
        warnings.warn("The provider 'generative-ai' is called 'google' now.", DeprecationWarning, stacklevel=2)
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


def _parse(model: str) -> tuple[Row, str]:
    provider, _, name = str(model).partition("/")
    if not (provider and name):
        raise ConfigurationError(f'Model string must be in format "provider/model", as "openai/gpt-4o"; got {model!r}.')
    if provider not in ROWS:
        raise ConfigurationError(f"Unsupported provider: {provider!r}. Supported providers are: {supported_providers}")
    return ROWS[provider], name


# Model families that Ollama serves with tools; the others answer in JSON.
_FAMILIES = re.compile(r"(?i)llama3\.[12]|llama4|mistral-nemo|firefunction-v2|command-[ar]|qwen2\.5|qwen3|devstral")


def _default_mode(row: Row, name: str) -> Mode:
    return Mode.JSON if row.provider is Provider.OLLAMA and not _FAMILIES.search(name) else row.mode


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
    row, module = row_for(client, row_in(row, mode)), sdk(row)
    kinds = [getattr(module, name, ()) for name in row.clients]  # as far as the SDK has them
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


def from_groq(client: Any, mode: Mode = Mode.TOOLS, model: str | None = None, **kwargs: Any) -> Any:
    """A client around `groq.Groq` or `AsyncGroq`."""
    return _wrap(ROWS["groq"], client, mode, model, kwargs)


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
    """A factory for a provider that copies OpenAI's API: takes a client of OpenAI's SDK, or a model's name."""
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
