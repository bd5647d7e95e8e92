"""The table of providers: one row each, no code."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from .mode import Mode


class Provider(enum.Enum):
    """The names that clients carry as `client.provider`."""

    OPENAI = "openai"
    AZURE_OPENAI = "azure_openai"
    VERTEXAI = "vertexai"
    ANTHROPIC = "anthropic"
    ANYSCALE = "anyscale"
    TOGETHER = "together"
    GROQ = "groq"
    MISTRAL = "mistral"
    COHERE = "cohere"
    GEMINI = "gemini"
    GENAI = "genai"
    DATABRICKS = "databricks"
    CEREBRAS = "cerebras"
    DEEPSEEK = "deepseek"
    FIREWORKS = "fireworks"
    WRITER = "writer"
    XAI = "xai"
    OLLAMA = "ollama"
    LITELLM = "litellm"
    GOOGLE = "google"
    GENERATIVE_AI = "generative-ai"
    LOCAL = "local"
    UNKNOWN = "unknown"
    BEDROCK = "bedrock"
    PERPLEXITY = "perplexity"
    OPENROUTER = "openrouter"


_CLIENT = ("_base_url", "api_key", "_client._auth", "_client._params")
"""Where the clients that are made by one generator (OpenAI's, Anthropic's, Groq's) keep address and account."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to know about a provider. What there is a pair of is sync and async.

    `clients` are classes of the module `sdk`, `calls` is where they keep the function that asks, `completion` what
    it returns; `event` is what an answer in events is made of, `streams` where it is another function that gives
    one. `identity` is where a client says what its address is (first) and whose account it uses, `loose` where it
    keeps what may be changed in place. A place with a colon in it is a function of ours that takes the client; `bare`
    is the one that knows these of a function without a client.
    `extra` is ours that brings the SDK, where the two have different names. `key_env` are the variables that may
    hold a key, read unless there is a `fallback_key` because none is needed; `lacks` are modes of the dialect that
    the provider does not know. `responses` says that OpenAI's Responses API is there too.
    """

    provider: Provider
    dialect: str = "openai"
    sdk: str = "openai"
    extra: str = ""
    clients: tuple[str, str] = ("OpenAI", "AsyncOpenAI")
    calls: tuple[str, str] = ("chat.completions.create", "chat.completions.create")
    completion: str = "openai.types.chat:ChatCompletion"
    streams: tuple[str, str] | None = None
    event: str = "openai.types.chat:ChatCompletionChunk"
    identity: tuple[str, ...] = (*_CLIENT, "organization", "project", "_api_key_provider")
    loose: tuple[str, ...] = ("_custom_headers", "_custom_query", "_client._headers._list")
    bare: str = "instructor.endpoint:nobodys"
    key_env: tuple[str, ...] = ()
    fallback_key: str | None = None
    base_url: str | None = None
    mode: Mode = Mode.TOOLS
    lacks: frozenset[Mode] = frozenset()
    responses: bool = False

    def streamed(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The SDK's arguments for the same question, answered as a stream."""
        return {**kwargs, **({} if self.streams else {"stream": True})}


def _row(provider: Provider, base_url: str | None = None, client: str = "OpenAI", **facts: object) -> Row:
    """A provider that copies OpenAI's API, its key in the variable of its name, but for other facts."""
    clients, key_env = (client, f"Async{client}"), (f"{provider.name}_API_KEY",)
    return replace(Row(provider=provider, base_url=base_url, clients=clients, key_env=key_env), **facts)


_ANTHROPIC = _row(
    Provider.ANTHROPIC,
    dialect="anthropic",
    sdk="anthropic",
    client="Anthropic",
    calls=("messages.create", "messages.create"),
    completion="anthropic.types:Message",
    event="anthropic.types:RawMessageStreamEvent",
    identity=(*_CLIENT, "auth_token", "credentials"),
)
BETA = replace(
    _ANTHROPIC,
    calls=("beta.messages.create", "beta.messages.create"),
    completion="anthropic.types.beta:BetaMessage",
    event="anthropic.types.beta:BetaRawMessageStreamEvent",
)
"""Anthropic's beta endpoint, which returns another type."""

_ON_AWS = ("_base_url", "api_key", "aws_region", "instructor.aws:of_anthropic")


def _types(module: str, completion: str = "ChatCompletion", event: str = "ChatCompletionChunk") -> dict[str, Any]:
    return {"completion": f"{module}:{completion}", "event": f"{module}:{event}"}


_KIN = {
    "openai.AzureOpenAI": (*_CLIENT, "_azure_ad_token", "_azure_ad_token_provider", "_api_version"),
    "openai.BedrockOpenAI": (*_CLIENT, "instructor.aws:of_openai"),
    "anthropic.AnthropicBedrock": _ON_AWS,
    "anthropic.AnthropicBedrockMantle": _ON_AWS,
    "anthropic.AnthropicAWS": (*_ON_AWS, "workspace_id", "auth_token"),
    "anthropic.AnthropicVertex": ("_base_url", "project_id", "region"),
    "anthropic.AnthropicGoogleCloud": ("_base_url", "_project", "workspace_id"),
    "anthropic.AnthropicFoundry": ("_base_url", "api_key", "_azure_ad_token_provider"),
}
"""The clients that keep their account elsewhere than others of their SDK do, and where."""

_CEREBRAS = _types("cerebras.cloud.sdk.types.chat.chat_completion", "ChatCompletionResponse", "ChatChunkResponse")
_FIREWORKS = _types("fireworks.types.chat", "CompletionCreateResponse")
_OLDER_MISTRAL = _types("mistralai.models", "ChatCompletionResponse", "CompletionEvent")
_OTHER_SDKS: dict[tuple[Provider, str], dict[str, Any]] = {
    (Provider.CEREBRAS, "cerebras.cloud.sdk"): {
        **_CEREBRAS,
        "clients": ("Cerebras", "AsyncCerebras"),
        "identity": _CLIENT,
    },
    (Provider.FIREWORKS, "fireworks"): {
        **_FIREWORKS,
        "clients": ("Fireworks", "AsyncFireworks"),
        "identity": (*_CLIENT, "account_id"),
    },
    (Provider.MISTRAL, "mistralai.sdk"): {**_OLDER_MISTRAL, "sdk": "mistralai"},
}
"""What is true of clients from a module of another SDK than their provider's row names, or of an older one."""


def row_for(client: object, row: Row) -> Row:
    """The row, as it is for such a client."""
    for cls in type(client).__mro__:
        name = cls.__name__.removeprefix("Async")
        if identity := _KIN.get(f"{row.sdk}.{name}"):
            return replace(row, clients=(name, f"Async{name}"), identity=identity)
        if facts := _OTHER_SDKS.get((row.provider, cls.__module__)):
            return replace(row, **{"sdk": cls.__module__, **facts})
    return row


def row_in(row: Row, mode: Mode) -> Row:
    """The row as it is asked in a mode: the Responses API is another dialect, spoken elsewhere."""
    if mode is not Mode.RESPONSES_TOOLS or not row.responses:
        return row
    calls = ("responses.create", "responses.create")
    kinds = _types("openai.types.responses", "Response", "ResponseStreamEvent")
    return replace(row, dialect="responses", calls=calls, **kinds)


_GOOGLE_ACCOUNT = ("_http_options.base_url", "_http_options.api_version", "api_key", "vertexai", "project", "location")
_GOOGLE = Row(
    provider=Provider.GENAI,
    dialect="google",
    sdk="google.genai",
    clients=("Client", "Client"),
    calls=("models.generate_content", "aio.models.generate_content"),
    completion="google.genai.types:GenerateContentResponse",
    streams=("models.generate_content_stream", "aio.models.generate_content_stream"),
    event="google.genai.types:GenerateContentResponse",
    identity=tuple(f"_api_client.{name}" for name in _GOOGLE_ACCOUNT),
    loose=("_api_client._http_options.headers", "_api_client._http_options.extra_body"),
    key_env=("GOOGLE_API_KEY", "GEMINI_API_KEY"),
)
_PARALLEL = frozenset({Mode.PARALLEL_TOOLS})
_GROQ = _row(Provider.GROQ, sdk="groq", client="Groq", identity=_CLIENT, lacks=_PARALLEL, **_types("groq.types.chat"))
_WRITER = _row(
    Provider.WRITER,
    dialect="writer",
    sdk="writerai",
    client="Writer",
    calls=("chat.chat", "chat.chat"),
    identity=_CLIENT,
    extra="writer",
    **_types("writerai.types"),
)
_COHERE_HTTP = "_client_wrapper.httpx_client.httpx_client"
_COHERE = Row(
    provider=Provider.COHERE,
    dialect="cohere",
    sdk="cohere",
    clients=("ClientV2", "AsyncClientV2"),
    calls=("chat", "chat"),
    streams=("chat_stream", "chat_stream"),
    identity=(
        "_client_wrapper._base_url",
        "_client_wrapper._token",
        f"{_COHERE_HTTP}._auth",
        f"{_COHERE_HTTP}._params",
    ),
    loose=("_client_wrapper._headers", f"{_COHERE_HTTP}._headers._list"),
    key_env=("CO_API_KEY",),
    **_types("cohere", "V2ChatResponse", "V2ChatStreamResponse"),
)
# The key may be a function instead, which has none in it; and it may be changed in place.
_MISTRAL_ACCOUNT = ("server_url", "server", "security", "security.api_key")
_MISTRAL_HTTP = ("client._auth", "client._params", "async_client._auth", "async_client._params")
_MISTRAL = Row(
    provider=Provider.MISTRAL,
    dialect="mistral",
    sdk="mistralai.client",
    clients=("Mistral", "Mistral"),
    calls=("chat.complete", "chat.complete_async"),
    streams=("chat.stream", "chat.stream_async"),
    identity=tuple(f"sdk_configuration.{name}" for name in (*_MISTRAL_ACCOUNT, *_MISTRAL_HTTP)),
    loose=("sdk_configuration.client._headers._list", "sdk_configuration.async_client._headers._list"),
    key_env=("MISTRAL_API_KEY",),
    extra="mistral",
    **_types("mistralai.client.models", "ChatCompletionResponse", "CompletionEvent"),
)
_LITELLM = Row(
    provider=Provider.LITELLM,
    sdk="litellm",
    calls=("completion", "acompletion"),
    completion="litellm:ModelResponse",
    event="litellm:ModelResponseStream",
    bare="instructor.lite:identity",
)
_VERTEXAI = replace(_GOOGLE, provider=Provider.VERTEXAI, key_env=())
_GEMINI = replace(_GOOGLE, provider=Provider.GEMINI, mode=Mode.MD_JSON)
_ON_BEDROCK, _OF_XAI = "instructor.dialects.bedrock:", "instructor.dialects.xai:"
_BEDROCK = Row(
    provider=Provider.BEDROCK,
    dialect="bedrock",
    sdk="boto3",
    extra="bedrock",
    clients=("client", "client"),
    calls=("converse", f"{_ON_BEDROCK}converse"),
    completion="builtins:dict",
    streams=(f"{_ON_BEDROCK}events", f"{_ON_BEDROCK}events_async"),
    event="builtins:dict",
    identity=("meta.endpoint_url", "meta.region_name", "instructor.aws:of_boto"),
    loose=(),
)
_XAI = _row(
    Provider.XAI,
    dialect="xai",
    sdk="xai_sdk",
    client="Client",
    extra="xai",
    calls=(f"{_OF_XAI}sample", f"{_OF_XAI}sample"),
    completion="xai_sdk.chat:Response",
    streams=(f"{_OF_XAI}chunks", f"{_OF_XAI}chunks_async"),
    event="xai_sdk.chat:Chunk",
    identity=(f"{_OF_XAI}place", f"{_OF_XAI}account"),
    loose=(),
)
_NAMED_ALIKE = (
    _row(Provider.OPENAI, responses=True),
    _row(Provider.AZURE_OPENAI, client="AzureOpenAI", responses=True),
    _row(Provider.ANYSCALE, "https://api.endpoints.anyscale.com/v1"),
    _row(Provider.TOGETHER, "https://api.together.xyz/v1"),
    _row(Provider.DATABRICKS, key_env=("DATABRICKS_TOKEN", "DATABRICKS_API_KEY")),
    _row(Provider.DEEPSEEK, "https://api.deepseek.com"),
    _row(Provider.OPENROUTER, "https://openrouter.ai/api/v1"),
    _row(Provider.PERPLEXITY, "https://api.perplexity.ai", mode=Mode.MD_JSON, lacks=_PARALLEL),
    _row(Provider.FIREWORKS, "https://api.fireworks.ai/inference/v1", lacks=_PARALLEL),
    _row(Provider.CEREBRAS, "https://api.cerebras.ai/v1"),
    _row(Provider.OLLAMA, "http://localhost:11434/v1", fallback_key="ollama"),
    _row(Provider.LOCAL, "http://127.0.0.1/v1", fallback_key="local", mode=Mode.JSON_SCHEMA),
    _LITELLM,
    _GROQ,
    _ANTHROPIC,
    _BEDROCK,
    _XAI,
    _VERTEXAI,
    _GEMINI,
    _COHERE,
    _MISTRAL,
    _WRITER,
)

ROWS = {row.provider.value: row for row in _NAMED_ALIKE} | {"google": _GOOGLE, "generative-ai": _GOOGLE}
"""Every provider that `from_provider` knows, by the name before the slash."""


_MARKS = {
    "azure": Provider.AZURE_OPENAI,
    "googleapis": Provider.GOOGLE,
    ":11434": Provider.OLLAMA,
    "amazonaws": Provider.BEDROCK,
    "x.ai": Provider.XAI,
    **{known.value: known for known in Provider if known not in {Provider.LOCAL, Provider.OPENAI, Provider.UNKNOWN}},
    "openai": Provider.OPENAI,  # the last one: copies of OpenAI's API like to have "/openai" in their addresses
}


def get_provider(base_url: str) -> Provider:
    """The provider that an address belongs to, by the first mark in it; `Provider.UNKNOWN` when it has none."""
    return next((known for mark, known in _MARKS.items() if mark in base_url.lower()), Provider.UNKNOWN)
