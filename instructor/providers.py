"""The table of providers: one row each, no code."""

from __future__ import annotations

import enum

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
    """What there is to know about a provider.

    `clients` and `async_clients` are the SDK's classes, the first of which is made by `from_provider`; `call` is
    where they keep the function that asks, `completion` what it returns. `identity` is where a client says what its
    address is (first) and whose account it uses, `loose` where it keeps what may be changed in place. `variants` are
    rows for clients of the SDK that keep their account elsewhere. `key_env` are the variables that may hold a key;
    `direct` are the HTTP clients, sync and async, for what runs on this machine and no proxy stands before.
    """

    provider: Provider
    dialect: str = "openai"
    package: str = "openai"
    extra: str | None = None
    clients: tuple[str, ...] = ("openai:OpenAI",)
    async_clients: tuple[str, ...] = ("openai:AsyncOpenAI",)
    call: str = "chat.completions.create"
    async_call: str = "chat.completions.create"
    completion: str = "openai.types.chat:ChatCompletion"
    identity: tuple[str, ...] = (*_CLIENT, "organization", "project", "_api_key_provider")
    loose: tuple[str, ...] = ("_custom_headers", "_custom_query", "_client.headers._list")
    variants: tuple[Row, ...] = ()
    key_env: tuple[str, ...] = ()
    fallback_key: str | None = None
    base_url: str | None = None
    mode: Mode = Mode.TOOLS
    direct: tuple[str, str] | None = None

    @property
    def install(self) -> str:
        """The command that brings this provider's SDK."""
        return f'pip install "instructor[{self.extra}]"' if self.extra else f"pip install {self.package}"


def _copies_openai(provider: Provider, base_url: str | None, *key_env: str, **quirks: object) -> Row:
    """A provider that copies OpenAI's API is its address and the name of its key."""
    return replace(Row(provider=provider, base_url=base_url, key_env=key_env), **quirks)


_AZURE = Row(
    provider=Provider.AZURE_OPENAI,
    clients=("openai:AzureOpenAI",),
    async_clients=("openai:AsyncAzureOpenAI",),
    identity=(*_CLIENT, "_azure_ad_token", "_azure_ad_token_provider", "_api_version"),
    key_env=("AZURE_OPENAI_API_KEY",),
)
_ANTHROPIC = Row(
    provider=Provider.ANTHROPIC,
    dialect="anthropic",
    package="anthropic",
    extra="anthropic",
    clients=("anthropic:Anthropic",),
    async_clients=("anthropic:AsyncAnthropic",),
    call="messages.create",
    async_call="messages.create",
    completion="anthropic.types:Message",
    identity=(*_CLIENT, "auth_token", "credentials"),
    key_env=("ANTHROPIC_API_KEY",),
)
_BEDROCK = replace(
    _ANTHROPIC,
    clients=("anthropic:AnthropicBedrock",),
    async_clients=("anthropic:AsyncAnthropicBedrock",),
    identity=("_base_url", "aws_access_key", "aws_profile", "aws_region"),
)
_VERTEX = replace(
    _ANTHROPIC,
    clients=("anthropic:AnthropicVertex",),
    async_clients=("anthropic:AsyncAnthropicVertex",),
    identity=("_base_url", "project_id", "region"),
)

ROWS: dict[str, Row] = {
    "openai": Row(provider=Provider.OPENAI, key_env=("OPENAI_API_KEY",), variants=(_AZURE,)),
    "azure_openai": _AZURE,
    "anyscale": _copies_openai(Provider.ANYSCALE, "https://api.endpoints.anyscale.com/v1", "ANYSCALE_API_KEY"),
    "together": _copies_openai(Provider.TOGETHER, "https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    "databricks": _copies_openai(Provider.DATABRICKS, None, "DATABRICKS_TOKEN", "DATABRICKS_API_KEY"),
    "deepseek": _copies_openai(Provider.DEEPSEEK, "https://api.deepseek.com", "DEEPSEEK_API_KEY"),
    "openrouter": _copies_openai(Provider.OPENROUTER, "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "perplexity": _copies_openai(
        Provider.PERPLEXITY, "https://api.perplexity.ai", "PERPLEXITY_API_KEY", mode=Mode.MD_JSON
    ),
    "fireworks": _copies_openai(Provider.FIREWORKS, "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "cerebras": _copies_openai(Provider.CEREBRAS, "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    "ollama": _copies_openai(Provider.OLLAMA, "http://localhost:11434/v1", fallback_key="ollama"),
    "local": _copies_openai(
        Provider.LOCAL,
        "http://127.0.0.1/v1",
        fallback_key="local",
        mode=Mode.JSON_SCHEMA,
        direct=("openai:DefaultHttpxClient", "openai:DefaultAsyncHttpxClient"),
    ),
    "litellm": Row(
        provider=Provider.LITELLM,
        package="litellm",
        extra="litellm",
        clients=(),
        async_clients=(),
        call="completion",
        async_call="acompletion",
        completion="litellm:ModelResponse",
        identity=("api_base", "api_key", "organization"),
    ),
    "groq": Row(
        provider=Provider.GROQ,
        package="groq",
        extra="groq",
        clients=("groq:Groq",),
        async_clients=("groq:AsyncGroq",),
        completion="groq.types.chat:ChatCompletion",
        identity=_CLIENT,
        key_env=("GROQ_API_KEY",),
    ),
    "anthropic": replace(_ANTHROPIC, variants=(_BEDROCK, _VERTEX)),
    "google": Row(
        provider=Provider.GENAI,
        dialect="google",
        package="google-genai",
        extra="google-genai",
        clients=("google.genai:Client",),
        async_clients=("google.genai:Client",),
        call="models.generate_content",
        async_call="aio.models.generate_content",
        completion="google.genai.types:GenerateContentResponse",
        identity=tuple(
            f"_api_client.{name}"
            for name in (
                "_http_options.base_url",
                "_http_options.api_version",
                "api_key",
                "vertexai",
                "project",
                "location",
            )
        ),
        loose=("_api_client._http_options.headers", "_api_client._http_options.extra_body"),
        key_env=("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    ),
}
"""Every provider that `from_provider` knows, by the name before the slash."""

ROWS["generative-ai"] = ROWS["google"]

BETA = replace(
    _ANTHROPIC,
    call="beta.messages.create",
    async_call="beta.messages.create",
    completion="anthropic.types.beta:BetaMessage",
)
"""Anthropic's beta endpoint, which returns another type."""


_MARKS = {
    "azure": Provider.AZURE_OPENAI,
    "googleapis": Provider.GOOGLE,
    "localhost:11434": Provider.OLLAMA,
    "127.0.0.1:11434": Provider.OLLAMA,
    "amazonaws": Provider.BEDROCK,
    "x.ai": Provider.XAI,
    **{known.value: known for known in Provider if known not in {Provider.LOCAL, Provider.OPENAI, Provider.UNKNOWN}},
    "openai": Provider.OPENAI,  # the last one: copies of OpenAI's API like to have "/openai" in their addresses
}


def get_provider(base_url: str) -> Provider:
    """The provider that an address belongs to, by the first mark in it; `Provider.UNKNOWN` when it has none."""
    return next((known for mark, known in _MARKS.items() if mark in base_url.lower()), Provider.UNKNOWN)
