"""The table of providers, row by row, and everything that is refused before it costs a request."""

from __future__ import annotations

import copy
import logging
import math
import operator
import os
import subprocess
import sys
import textwrap
import threading
import types
import warnings
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import anthropic
import cohere
import groq
import openai
import pytest
from cerebras.cloud.sdk import AsyncCerebras, Cerebras
from cerebras.cloud.sdk.types.chat.chat_completion import ChatCompletionResponse
from fake_provider import FakeProvider
from flavours import CLIENTS, LIBRARY, ask
from google import genai
from pydantic import BaseModel

import instructor
from instructor import AsyncInstructor, Instructor, Mode, Provider
from instructor.cache import AutoCache
from instructor.exceptions import ClientError, ConfigurationError, InstructorRetryException, ModeError
from instructor.mode import CORE, DEPRECATED_TO_CORE, reset_deprecated_mode_warnings
from instructor.patching import check_mode
from instructor.providers import ROWS

QUESTION = [{"role": "user", "content": "Extract: John is 25"}]


class User(BaseModel):
    """Somebody."""

    name: str
    age: int


class Expected(NamedTuple):
    """What `from_provider` makes of a row, and what its requests look like on the wire."""

    provider: Provider
    key_env: tuple[str, ...]
    path: str = "/chat/completions"
    headers: tuple[str, ...] = ("authorization",)


TABLE = {
    "openai": Expected(Provider.OPENAI, ("OPENAI_API_KEY",)),
    "azure_openai": Expected(
        Provider.AZURE_OPENAI,
        ("AZURE_OPENAI_API_KEY",),
        "/deployments/m/chat/completions?api-version=2024-02-01",
        headers=("api-key",),
    ),
    "anyscale": Expected(Provider.ANYSCALE, ("ANYSCALE_API_KEY",)),
    "together": Expected(Provider.TOGETHER, ("TOGETHER_API_KEY",)),
    "databricks": Expected(
        Provider.DATABRICKS, ("DATABRICKS_TOKEN", "DATABRICKS_API_KEY"), "/serving-endpoints/chat/completions"
    ),
    "deepseek": Expected(Provider.DEEPSEEK, ("DEEPSEEK_API_KEY",)),
    "openrouter": Expected(Provider.OPENROUTER, ("OPENROUTER_API_KEY",)),
    "perplexity": Expected(Provider.PERPLEXITY, ("PERPLEXITY_API_KEY",)),
    "fireworks": Expected(Provider.FIREWORKS, ("FIREWORKS_API_KEY",)),
    "cerebras": Expected(Provider.CEREBRAS, ("CEREBRAS_API_KEY",)),
    "ollama": Expected(Provider.OLLAMA, ()),
    "groq": Expected(Provider.GROQ, ("GROQ_API_KEY",), "/openai/v1/chat/completions"),
    "cohere": Expected(Provider.COHERE, ("CO_API_KEY",), "/v2/chat"),
    "mistral": Expected(Provider.MISTRAL, ("MISTRAL_API_KEY",)),
    "writer": Expected(Provider.WRITER, ("WRITER_API_KEY",), "/v1/chat"),
    # Anthropic's SDK has taken to the other header, Google's to another version of the path.
    "anthropic": Expected(
        Provider.ANTHROPIC, ("ANTHROPIC_API_KEY",), "/v1/messages", headers=("authorization", "x-api-key")
    ),
    "google": Expected(
        Provider.GENAI, ("GOOGLE_API_KEY", "GEMINI_API_KEY"), "/models/m:generateContent", headers=("x-goog-api-key",)
    ),
}
OWN_SDK = {"openai", "groq", "anthropic", "google", "cohere", "mistral", "writer"}
COPIES_OPENAI = [name for name in TABLE if name not in OWN_SDK]
NEEDS_KEY = [name for name in TABLE if TABLE[name].key_env]
SDKS = [name for name in TABLE if name in OWN_SDK]

ONE_TOOL = {"groq", "perplexity", "fireworks", "cohere", "mistral", "writer"}


def modes_of(name: str) -> set[Mode]:
    """The modes that a provider knows."""
    lacks = {Mode.PARALLEL_TOOLS} if name in ONE_TOOL else set()
    lacks |= {Mode.JSON} if name == "writer" else set()
    return CORE - lacks - (set() if name in {"openai", "azure_openai"} else {Mode.RESPONSES_TOOLS})


every_row = pytest.mark.parametrize("name", TABLE)
every_sdk = pytest.mark.parametrize("name", SDKS)
sync_and_async = pytest.mark.parametrize("async_client", [False, True], ids=["sync", "async"])


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch):
    """No key and no address of anybody, but those that a test sets."""
    prefixes = (*(name.upper() for name in ROWS), "AZURE", "CO_", "GEMINI", "GOOGLE")
    for variable in [variable for variable in os.environ if variable.startswith(prefixes)]:
        monkeypatch.delenv(variable)


def connect(name: str, fake: FakeProvider, **kwargs: Any) -> Any:
    """The client of a row, asking the fake provider."""
    # Google's SDK asks over aiohttp where another one brought that along, and that opens again what was closed.
    over_it = {"http_options": {"async_client_args": {"transport": LIBRARY.AsyncHTTPTransport()}}}
    retries = {"google": over_it, "mistral": {}}.get(name, {"max_retries": 0})
    return instructor.from_provider(f"{name}/m", base_url=fake.url, **retries, **{"api_key": "key-1", **kwargs})


@every_row
@sync_and_async
def test_a_row_reaches_its_provider(name, async_client, provider):
    """Every row asks at `base_url=`, with `api_key=` in the right header, for the model behind the slash."""
    row = TABLE[name]
    client = connect(name, provider, async_client=async_client)

    answer = ask(client, response_model=User, messages=QUESTION)

    assert User(name="John", age=25) == answer
    assert type(client) is (AsyncInstructor if async_client else Instructor)
    assert (row.provider, "m") == (client.provider, client.default_model)
    assert provider.paths[0].removeprefix("/v1beta").removeprefix("/v1") == row.path.removeprefix("/v1")
    assert key_sent(provider, row) == "key-1"
    assert provider.requests[0].get("model", "m") == "m"


def key_sent(fake: FakeProvider, row: Expected) -> str:
    """The key in the header where it belongs."""
    headers = fake.headers[0]
    return next(headers[name] for name in row.headers if name in headers).removeprefix("Bearer ")


@pytest.mark.parametrize(("name", "variable"), [(name, key) for name in NEEDS_KEY for key in TABLE[name].key_env])
def test_a_key_is_found_in_the_environment(name, variable, provider, monkeypatch):
    """Without `api_key=`, the provider's own variable has the key."""
    monkeypatch.setenv(variable, "key-2")

    ask(connect(name, provider, api_key=None), response_model=User, messages=QUESTION)

    assert key_sent(provider, TABLE[name]) == "key-2"


@pytest.mark.parametrize("name", NEEDS_KEY)
@sync_and_async
def test_a_missing_key_costs_nothing(name, async_client, provider, monkeypatch):
    """Without a key there is no client, and the error names the variable; OpenAI's key is nobody else's."""
    if name != "openai":
        monkeypatch.setenv("OPENAI_API_KEY", "sk-openai")

    with pytest.raises(ConfigurationError, match=TABLE[name].key_env[0]):
        connect(name, provider, api_key=None, async_client=async_client)

    assert provider.calls == 0


@pytest.mark.parametrize("name", [name for name in TABLE if name != "openai"])
@sync_and_async
def test_openais_account_is_never_sent_to_another(name, async_client, provider, monkeypatch):
    """OpenAI's key, organization, project and headers, though its SDK reads them from the environment, stay at home."""
    for variable in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(variable, "openais-own")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-mine: openais-own")

    ask(connect(name, provider, async_client=async_client), response_model=User, messages=QUESTION)

    assert "openais-own" not in str(provider.headers)


@pytest.mark.parametrize("name", COPIES_OPENAI)
def test_what_the_user_says_of_the_account_is_sent(name, provider):
    """An organization, a project and headers given to a row go where they were sent."""
    given = {"organization": "org-1", "project": "proj-1", "default_headers": {"x-mine": "mine-1"}}

    ask(connect(name, provider, **given), response_model=User, messages=QUESTION)

    sent = provider.headers[0]
    assert (sent["openai-organization"], sent["openai-project"], sent["x-mine"]) == ("org-1", "proj-1", "mine-1")


PLAIN_MODES = [Mode.TOOLS, Mode.TOOLS_STRICT, Mode.JSON, Mode.JSON_SCHEMA, Mode.MD_JSON]


@pytest.mark.parametrize(
    ("name", "mode"), [(name, mode) for name in TABLE for mode in PLAIN_MODES if mode in modes_of(name)]
)
def test_the_mode_is_honoured(name, mode, provider):
    """`mode=` decides whether a request carries tools, for every row."""
    client = connect(name, provider, mode=mode)

    ask(client, response_model=User, messages=QUESTION)

    assert mode is client.mode
    assert (mode in {Mode.TOOLS, Mode.TOOLS_STRICT}) == ("tools" in provider.requests[0])


@pytest.mark.parametrize(
    ("model", "mode"),
    [(f"{name}/m", Mode.TOOLS) for name in TABLE if name not in {"ollama", "perplexity"}]
    + [("perplexity/sonar", Mode.MD_JSON), ("ollama/gemma", Mode.JSON), ("ollama/Llama3.2:1b", Mode.TOOLS)],
)
def test_the_mode_of_a_row(model, mode, provider):
    """Without `mode=`, a row asks in the way its models are best at."""
    client = instructor.from_provider(model, api_key="k", base_url=provider.url)

    assert mode is client.mode


TIMEOUTS = {
    "google": "_api_client._http_options.timeout",
    "cohere": "_client_wrapper._timeout",
    "mistral": "sdk_configuration.timeout_ms",
}


@every_row
def test_the_timeout_goes_to_the_sdk(name, provider):
    """`timeout=` is the SDK client's for every row, and no part of a request."""
    client = connect(name, provider, timeout=12.5)

    ask(client, response_model=User, messages=QUESTION)

    held = operator.attrgetter(TIMEOUTS.get(name, "timeout"))(client.client)
    assert (12500 if name in {"google", "mistral"} else 12.5) == held
    assert "timeout" not in client.kwargs
    assert "timeout" not in provider.requests[0]


@every_sdk
@sync_and_async
@pytest.mark.fault("G5")
def test_the_timeout_is_kept(name, async_client, provider):
    """A provider that does not answer in time is an error whose cause is the SDK's; nothing is kept."""
    provider.gate, cache = threading.Event(), AutoCache()
    client = connect(name, provider, async_client=async_client, timeout=0.5, cache=cache)

    with pytest.raises(InstructorRetryException) as caught:
        ask(client, response_model=User, messages=QUESTION)

    assert "Timeout" in type(caught.value.__cause__).__name__
    assert (provider.calls, len(cache)) == (1, 0)


@every_row
def test_defaults_of_every_call(name, provider):
    """What the SDK's client does not take is a default for each call."""
    client = connect(name, provider, temperature=0.5, cache_ttl=60)

    ask(client, response_model=User, messages=QUESTION)

    assert client.kwargs == {"model": "m", "temperature": 0.5, "cache_ttl": 60}
    assert "'temperature': 0.5" in str(provider.requests[0])


def test_azure_takes_its_address_from_the_environment(provider, monkeypatch):
    """`azure_endpoint=` and AZURE_OPENAI_ENDPOINT are the same; `base_url=` outdoes both."""
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "http://127.0.0.1:9/elsewhere")
    clients = [
        instructor.from_provider("azure_openai/m", api_key="k", azure_endpoint=provider.url, api_version="v9"),
        instructor.from_provider("azure_openai/m", api_key="k", base_url=provider.url),
    ]
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", provider.url)
    clients.append(instructor.from_provider("azure_openai/m", api_key="k"))

    for client in clients:
        ask(client, response_model=User, messages=QUESTION)

    paths = [f"{place}/deployments/m/chat/completions?api-version=" for place in ("/openai", "", "/openai")]
    assert [paths[0] + "v9", paths[1] + "2024-02-01", paths[2] + "2024-02-01"] == provider.paths


@pytest.mark.parametrize("variable", ["DATABRICKS_BASE_URL", "DATABRICKS_HOST", "DATABRICKS_WORKSPACE_URL"])
@pytest.mark.parametrize("ending", ["", "/", "/serving-endpoints", "/serving-endpoints/"])
def test_databricks_takes_its_address_from_the_environment(variable, ending, provider, monkeypatch):
    """Its path is appended once, however the address ends."""
    monkeypatch.setenv(variable, provider.url + ending)

    ask(instructor.from_provider("databricks/m", api_key="k"), response_model=User, messages=QUESTION)

    assert provider.paths == ["/serving-endpoints/chat/completions"]


@pytest.mark.parametrize("name", ["azure_openai", "databricks"])
def test_a_missing_address_costs_nothing(name):
    """Two providers have no address of their own; the error says how to give one."""
    with pytest.raises(ConfigurationError, match="No address"):
        instructor.from_provider(f"{name}/m", api_key="k")


def test_google_keeps_its_options(provider):
    """`http_options=` is completed with the address and the timeout, whether it is a dict or Google's own."""
    for options in ({"headers": {"x-mine": "1"}}, genai.types.HttpOptions(headers={"x-mine": "1"})):
        client = instructor.from_provider(
            "google/m", api_key="k", base_url=provider.url, timeout=7, http_options=options
        )
        ask(client, response_model=User, messages=QUESTION)

        assert provider.headers[-1]["x-mine"] == "1"
        assert client.client._api_client._http_options.timeout == 7000


def test_generative_ai_is_google_now(provider):
    """The old name works and says the new one."""
    with pytest.warns(DeprecationWarning, match="'google'"):
        client = instructor.from_provider("generative-ai/m", api_key="k", base_url=provider.url)

    assert User(name="John", age=25) == ask(client, response_model=User, messages=QUESTION)


@pytest.mark.parametrize("model", ["", "openai", "openai/", "/gpt", "/", "gpt-4o", None, 4])
def test_a_malformed_model_string_is_refused(model):
    """A model string is a provider, a slash and a name."""
    with pytest.raises(ConfigurationError, match="Model string must be in format"):
        instructor.from_provider(model)


def test_an_unknown_provider_is_refused():
    """The error shows it, and those that there are."""
    with pytest.raises(ConfigurationError, match=r"Unsupported provider: 'opnai'.*'openai'.*'anthropic'"):
        instructor.from_provider("opnai/gpt-4o")


def test_only_the_first_slash_counts(provider):
    """The name of a model may have slashes of its own."""
    client = instructor.from_provider("together/meta-llama/Llama-3-8b", api_key="k", base_url=provider.url)

    ask(client, response_model=User, messages=QUESTION)

    assert provider.requests[0]["model"] == "meta-llama/Llama-3-8b"


MISSING = """
    import sys

    class Block:
        def find_spec(self, name, path=None, target=None):
            if name == {module!r} or name.startswith({module!r} + "."):
                raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

    sys.meta_path.insert(0, Block())
    import instructor
    try:
        {call}
    except instructor.exceptions.ConfigurationError as error:
        print(error)
"""
NO_SDK = {
    "anthropic": ("anthropic", 'pip install "instructor[anthropic]"'),
    "groq": ("groq", 'pip install "instructor[groq]"'),
    "cohere": ("cohere", 'pip install "instructor[cohere]"'),
    "mistral": ("mistralai", 'pip install "instructor[mistral]"'),
    "writer": ("writerai", 'pip install "instructor[writer]"'),
    "google": ("google.genai", 'pip install "instructor[google-genai]"'),
    "litellm": ("litellm", 'pip install "instructor[litellm]"'),
    "openai": ("openai", "pip install openai"),
    "together": ("openai", "pip install openai"),
}


def _without(module: str, call: str) -> str:
    """What a process prints that cannot import `module`."""
    return _printed(textwrap.dedent(MISSING.format(module=module, call=call)))


def _printed(code: str, *places: Path) -> str:
    """What a process prints that finds its modules in these places first."""
    places = (*places, Path(instructor.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", NO_SDK)
def test_a_missing_sdk_is_named(name):
    """Where the SDK is not installed, the error says what to type."""
    module, command = NO_SDK[name]

    assert command in _without(module, f"instructor.from_provider('{name}/m', api_key='k')")


OLDER = """
    import instructor
    client = instructor.from_provider("mistral/m", api_key="k", base_url="http://127.0.0.1:9", timeout=2)
    print(vars(client.client), client.endpoint.row.completion)
"""
OLDER_SDK = {
    "__init__": "from .sdk import Mistral",
    "client": "",
    "sdk": """
class Mistral:
    def __init__(self, api_key=None, server_url=None, timeout_ms=None):
        self.told = [api_key, server_url, timeout_ms]

    class chat:
        def complete(**kwargs): ...
""",
}


def test_mistrals_older_sdk_has_its_client_elsewhere(tmp_path):
    """What of mistralai 1 lies in other places than in later versions is found there."""
    (tmp_path / "mistralai").mkdir()
    for name, text in OLDER_SDK.items():
        (tmp_path / "mistralai" / f"{name}.py").write_text(text)

    printed = _printed(textwrap.dedent(OLDER), tmp_path)

    expected = "{'told': ['k', 'http://127.0.0.1:9', 2000]} mistralai.models:ChatCompletionResponse"
    assert expected == printed.strip()


@pytest.mark.parametrize("name", ["anthropic", "groq", "google", "cohere", "mistral", "writer"])
def test_a_factory_without_its_sdk_says_so(name):
    """A factory that is given something while its SDK is not installed says what to type."""
    module, command = NO_SDK[name]
    factory = {"google": "genai"}.get(name, name)

    assert command in _without(module, f"instructor.from_{factory}(object())")


@pytest.mark.parametrize("name", sorted(ONE_TOOL))
def test_a_provider_may_lack_a_mode_of_its_dialect(name):
    """A provider that copies OpenAI's API, but not all of it, refuses the mode that it lacks."""
    with pytest.raises(ModeError, match=f"'PARALLEL_TOOLS' is not supported by '{name}'"):
        check_mode(Mode.PARALLEL_TOOLS, ROWS[name])


@every_sdk
@pytest.mark.parametrize("mode", ["tool_call", 3], ids=str)
def test_an_unsupported_mode_costs_nothing(name, mode, provider):
    """A mode that a provider does not know is refused with those that it does."""
    with pytest.raises(ModeError, match="TOOLS") as caught:
        connect(name, provider, mode=mode)

    assert caught.value.valid_modes == sorted(mode.name for mode in modes_of(name))
    assert provider.calls == 0


BAD_MODELS = [
    *(dict, dict[str, int], tuple[int, str], set[int], list, Any, Iterable, BaseModel, ...),
    *("User", 5, [User], {"name": str}, User(name="J", age=1), len),
]


@pytest.mark.parametrize("name", CLIENTS)
@sync_and_async
@pytest.mark.parametrize("bad", BAD_MODELS, ids=repr)
def test_an_unusable_response_model_costs_nothing(name, async_client, bad, provider):
    """What no model can be asked for is refused before it is asked."""
    client = CLIENTS[name](provider, use_async=async_client, cache=AutoCache())

    with pytest.raises((TypeError, ValueError)):
        ask(client, response_model=bad, messages=QUESTION)

    assert provider.calls == 0


BAD_DEFAULTS = [
    *(("cache", bad, TypeError) for bad in (..., {}, "redis://", True, AutoCache)),
    *(("cache_ttl", bad, ValueError) for bad in (True, "60", math.nan, math.inf, -math.inf, [], 1j)),
    *(("cache_namespace", bad, ValueError) for bad in ("", 5, b"n", ["n"], True)),
]


@every_sdk
@sync_and_async
@pytest.mark.parametrize(("option", "bad", "error"), BAD_DEFAULTS, ids=repr)
def test_bad_cache_options_cost_nothing(name, async_client, option, bad, error, provider):
    """A bad cache, TTL or namespace is refused by the client that is made with it, and by the call."""
    with pytest.raises(error, match=option):
        connect(name, provider, async_client=async_client, **{option: bad})
    with pytest.raises(error, match=option):
        ask(connect(name, provider, async_client=async_client), response_model=User, messages=QUESTION, **{option: bad})

    assert provider.calls == 0


@pytest.mark.parametrize("ttl", [1, 0.5, timedelta(minutes=1), 0, -1, None])
def test_good_ttls_are_taken(ttl, provider):
    """Whole and broken seconds, timedeltas, and nothing; zero and less mean not to store."""
    ask(connect("openai", provider, cache_ttl=ttl), response_model=User, messages=QUESTION)

    assert provider.calls == 1


WRONG_CLIENTS = [
    (instructor.from_openai, anthropic.Anthropic(api_key="k")),
    (instructor.from_openai, groq.Groq(api_key="k")),
    (instructor.from_openai, "gpt-4o"),
    (instructor.from_openai, openai.OpenAI),
    (instructor.from_openai, None),
    (instructor.from_anthropic, openai.OpenAI(api_key="k")),
    (instructor.from_groq, openai.AsyncOpenAI(api_key="k")),
    (instructor.from_genai, openai.OpenAI(api_key="k")),
    (instructor.from_genai, genai.Client(api_key="k").aio),
    (instructor.from_together, anthropic.AsyncAnthropic(api_key="k")),
    (instructor.from_openrouter, object()),
    (instructor.from_bedrock, openai.OpenAI(api_key="k")),
    (instructor.from_vertexai, openai.OpenAI(api_key="k")),
    (instructor.from_xai, openai.OpenAI(api_key="k")),
    (instructor.from_cohere, cohere.Client(api_key="k")),
    (instructor.from_mistral, openai.OpenAI(api_key="k")),
    (instructor.from_writer, openai.OpenAI(api_key="k")),
    (instructor.from_cerebras, groq.Groq(api_key="k")),
    (instructor.from_openai, Cerebras(api_key="k", warm_tcp_connection=False)),
    (instructor.from_litellm, object()),
    (instructor.from_litellm, None),
]


@pytest.mark.parametrize(("factory", "client"), WRONG_CLIENTS)
def test_a_client_of_another_sdk_is_refused(factory, client):
    """A factory takes its own SDK's clients only, and says which."""
    with pytest.raises(ClientError, match=type(client).__name__):
        factory(client)


COMPATIBLE = ["anyscale", "together", "databricks", "deepseek", "openrouter", "perplexity", "fireworks", "cerebras"]


@pytest.mark.parametrize("name", COMPATIBLE)
@sync_and_async
def test_factories_for_the_providers_that_copy_openai(name, async_client, provider):
    """Each takes a client of OpenAI's SDK, or the name of a model."""
    factory = getattr(instructor, f"from_{name}")
    sdk = (openai.AsyncOpenAI if async_client else openai.OpenAI)(api_key="k", base_url=provider.url)
    clients = [factory(sdk, model="m"), factory("m", async_client=async_client, api_key="k", base_url=provider.url)]

    answers = [ask(client, response_model=User, messages=QUESTION) for client in clients]

    assert [User(name="John", age=25)] * 2 == answers
    assert {type(client) for client in clients} == {AsyncInstructor if async_client else Instructor}
    assert {client.provider for client in clients} == {TABLE[name].provider}
    assert {client.mode for client in clients} == {ROWS[name].mode}
    assert [request["model"] for request in provider.requests] == ["m", "m"]


@sync_and_async
def test_a_provider_may_have_an_sdk_of_its_own_besides(async_client, provider):
    """Cerebras is asked through the client that is given, its own SDK's or OpenAI's; the completion is that SDK's."""
    sdk = (AsyncCerebras if async_client else Cerebras)(api_key="k", base_url=provider.url, warm_tcp_connection=False)
    client, cache = instructor.from_cerebras(sdk, model="m"), AutoCache()

    answers = [ask(client, response_model=User, messages=QUESTION, cache=cache) for _ in range(2)]

    assert [User(name="John", age=25)] * 2 == answers
    assert {ChatCompletionResponse} == {type(answer._raw_response) for answer in answers}
    assert (provider.calls, client.provider) == (1, Provider.CEREBRAS)


@sync_and_async
def test_litellm_is_a_function(async_client, provider):
    """`from_litellm` takes a function that asks, and knows by itself whether it is to be awaited."""
    with openai.OpenAI(api_key="k", base_url=provider.url) as sdk:
        client = instructor.from_litellm(_awaited(sdk) if async_client else sdk.chat.completions.create)

        assert User(name="John", age=25) == ask(client, response_model=User, messages=QUESTION, model="m")
    assert type(client) is (AsyncInstructor if async_client else Instructor)


def _awaited(sdk: openai.OpenAI) -> Any:
    async def acompletion(**kwargs):
        return sdk.chat.completions.create(**kwargs)

    return acompletion


@every_row
def test_with_closes_the_client(name, provider):
    """After `with client:` the SDK's connections are closed, and a call says so instead of asking."""
    with connect(name, provider) as client:
        ask(client, response_model=User, messages=QUESTION)

    with pytest.raises(InstructorRetryException):
        ask(client, response_model=User, messages=QUESTION, max_retries=0)
    assert provider.calls == 1


@every_row
def test_async_with_closes_the_client(name, provider):
    """After `async with client:` likewise."""
    client = connect(name, provider, async_client=True)

    async def main():
        async with client as entered:
            assert entered is client
            await client.create(response_model=User, messages=QUESTION)
        with pytest.raises(InstructorRetryException):
            await client.create(response_model=User, messages=QUESTION, max_retries=0)

    _run(main())
    assert provider.calls == 1


def _run(work: Any) -> None:
    ask(types.SimpleNamespace(create=lambda: work))


@every_row
@sync_and_async
def test_a_copy_works(name, async_client, provider):
    """`copy.copy(client)` asks as the client does."""
    client = copy.copy(connect(name, provider, async_client=async_client))

    assert User(name="John", age=25) == ask(client, response_model=User, messages=QUESTION)


@every_row
@sync_and_async
def test_old_spellings(name, async_client, provider):
    """`client.chat.completions.create` and `client.messages.create` are `client.create`, for every row."""
    client = connect(name, provider, async_client=async_client)

    answers = [
        ask(spelling, response_model=User, messages=QUESTION) for spelling in (client.chat.completions, client.messages)
    ]

    assert [User(name="John", age=25)] * 2 == answers


LEGACY = sorted(DEPRECATED_TO_CORE, key=lambda mode: mode.name)


@every_sdk
@pytest.mark.parametrize("mode", LEGACY, ids=lambda mode: mode.name)
def test_a_legacy_mode_warns_once_and_means_its_successor(name, mode, provider):
    """An old name is warned of once a process, and the client's mode is the new one; where there is one."""
    successor = DEPRECATED_TO_CORE[mode]
    supported = successor in modes_of(name)
    reset_deprecated_mode_warnings()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = [_mode_of(name, mode, provider) for _ in range(2)]

    assert [successor if supported else ModeError] * 2 == made
    assert [f"Mode.{mode.name} is deprecated; use Mode.{successor.name}"] == [str(w.message) for w in caught]


def _mode_of(name: str, mode: Mode, provider: FakeProvider) -> Any:
    try:
        return connect(name, provider, mode=mode).mode
    except ModeError:
        return ModeError


def test_patch_changes_the_client_in_place(provider):
    """`patch(client)` gives back the same client, whose create takes a response model; and None as before."""
    sdk = openai.OpenAI(api_key="k", base_url=provider.url)

    client = instructor.patch(sdk)

    assert client is sdk
    assert User(name="John", age=25) == client.chat.completions.create(
        model="m", messages=QUESTION, response_model=User
    )
    assert client.chat.completions.create(model="m", messages=QUESTION).choices[0].message.content


def test_patch_takes_asynchronous_clients_and_functions(provider):
    """What was to be awaited still is."""
    sdk = openai.AsyncOpenAI(api_key="k", base_url=provider.url)
    function = instructor.patch(create=openai.AsyncOpenAI(api_key="k", base_url=provider.url).chat.completions.create)
    instructor.patch(sdk)

    answers = [
        ask(types.SimpleNamespace(create=create), model="m", messages=QUESTION, response_model=User)
        for create in (function, sdk.chat.completions.create)
    ]

    assert [User(name="John", age=25)] * 2 == answers


def test_patch_takes_anything_that_looks_like_a_client(provider):
    """Any object with `chat.completions.create` can be patched."""
    sdk = openai.OpenAI(api_key="k", base_url=provider.url)
    completions = types.SimpleNamespace(create=sdk.chat.completions.create)
    client = instructor.patch(
        types.SimpleNamespace(chat=types.SimpleNamespace(completions=completions)), mode=Mode.JSON
    )

    answer = client.chat.completions.create(
        model="m", messages=QUESTION, response_model=User, cache=AutoCache(), cache_namespace="mine"
    )

    assert User(name="John", age=25) == answer
    assert provider.requests[0]["response_format"] == {"type": "json_object"}


def test_patch_needs_something_to_patch():
    """Neither a client nor a function is an error, as is a mode that the provider does not know."""
    with pytest.raises(ValueError, match="patch"):
        instructor.patch()
    with pytest.raises(ModeError):
        instructor.patch(openai.OpenAI(api_key="k"), mode=Mode.PARALLEL_TOOLS, provider=Provider.GROQ)


def test_apatch_is_patch_with_a_warning(provider):
    """The old name works and says the new one."""
    with pytest.warns(DeprecationWarning, match="apatch is deprecated, use patch instead"):
        client = instructor.apatch(openai.AsyncOpenAI(api_key="k", base_url=provider.url))

    answer = ask(client.chat.completions, model="m", messages=QUESTION, response_model=User)

    assert User(name="John", age=25) == answer


def test_the_log_holds_no_key(provider, caplog):
    """Making a client is logged, and what its key is never is."""
    with caplog.at_level(logging.DEBUG, logger="instructor.auto_client"):
        connect("openai", provider, api_key="very-secret")

    assert caplog.messages == ["Initializing openai provider with model m", "Client initialized"]
    assert "very-secret" not in caplog.text
