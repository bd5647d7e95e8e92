"""Google's and Microsoft's clouds: how they are reached, and whose account it is."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest
from flavours import LIBRARY, ask
from google import genai
from google.oauth2.credentials import Credentials
from pydantic import BaseModel

import instructor
from instructor import Mode
from instructor.cache import AutoCache, CacheWarning
from instructor.exceptions import ClientError, ConfigurationError
from instructor.providers import Provider

HI = [{"role": "user", "content": "hi"}]
sync_and_async = pytest.mark.parametrize("awaits", [False, True], ids=["sync", "async"])
renamed = pytest.mark.filterwarnings("ignore:The provider .* is 'google' now:DeprecationWarning")


class User(BaseModel):
    """A person."""

    name: str
    age: int


JOHN = User(name="John", age=25)


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch):
    """No project, no place."""
    for name in ("GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION", "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


def vertexai(provider: Any, *, awaits: bool = False, **options: Any) -> Any:
    """A client of Vertex AI that asks the fake provider."""
    over_it = {"async_client_args": {"transport": LIBRARY.AsyncHTTPTransport()}}
    how = {"credentials": Credentials("t"), "base_url": provider.url, "http_options": over_it}
    return instructor.from_provider("vertexai/m", awaits, **how, **options)


# Vertex AI.


@renamed
@sync_and_async
def test_vertexai_is_reached_through_google_genai(provider, awaits, monkeypatch):
    """Its project and its place come from the environment, the latter by default from the middle of America."""
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p-1")
    clients = [vertexai(provider, awaits=awaits)]
    monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", "l-1")
    clients += [vertexai(provider, awaits=awaits), vertexai(provider, awaits=awaits, project="p-2", location="l-2")]

    assert [JOHN] * 3 == [ask(client, response_model=User, messages=HI) for client in clients]
    assert {Provider.VERTEXAI} == {client.provider for client in clients}
    assert ["p-1/locations/us-central1", "p-1/locations/l-1", "p-2/locations/l-2"] == [
        path.partition("projects/")[2].partition("/publishers")[0] for path in provider.paths
    ]
    assert "Bearer t" == provider.headers[0]["authorization"]


def test_old_names_are_told_what_they_are_called_now(provider):
    """A warning says so, and it works all the same; Gemini's old name keeps its mode."""
    with pytest.warns(DeprecationWarning, match="vertexai=True"):
        vertexai(provider, project="p")
    with pytest.warns(DeprecationWarning, match="its own SDK has ended"):
        client = instructor.from_provider("gemini/m", api_key="k", base_url=provider.url)

    assert (Provider.GEMINI, Mode.MD_JSON) == (client.provider, client.mode)
    assert JOHN == client.create(response_model=User, messages=HI)


@renamed
def test_vertexai_needs_a_project(provider):
    """Without one there is no account; with an API key there is."""
    with pytest.raises(ConfigurationError, match="GOOGLE_CLOUD_PROJECT"):
        vertexai(provider)

    assert instructor.from_provider("vertexai/m", api_key="k").client._api_client.vertexai


@pytest.mark.fault("D6")
@renamed
def test_projects_do_not_mix(provider):
    """Nor do places; Vertex AI's answers are not those of the Gemini API."""
    cache = AutoCache()
    clients = [vertexai(provider, **where) for where in ({"project": "a"}, {"project": "b"}, {"project": "a"})]
    clients += [vertexai(provider, project="a", location="l")]
    clients += [instructor.from_provider("google/m", api_key="k", base_url=provider.url)]

    for client in clients:
        client.create(response_model=User, messages=HI, cache=cache)

    assert provider.calls == 4


def test_factories_take_google_genais_client(provider):
    """`from_vertexai` and `from_gemini` are `from_genai` under the names of before."""
    sdk = genai.Client(api_key="k", http_options={"base_url": provider.url})
    clients = [instructor.from_vertexai(sdk, model="m"), instructor.from_gemini(sdk, model="m")]

    assert [(Provider.VERTEXAI, Mode.TOOLS), (Provider.GEMINI, Mode.MD_JSON)] == [(c.provider, c.mode) for c in clients]
    assert [JOHN, JOHN] == [client.create(response_model=User, messages=HI) for client in clients]


@pytest.mark.filterwarnings("ignore")
def test_models_of_googles_old_sdks_have_a_successor(provider, monkeypatch):
    """Where these are installed still: the account is what they were configured with; settings of a model are not."""
    old = pytest.importorskip("google.generativeai", reason="google-generativeai is not installed")
    older = pytest.importorskip("vertexai.generative_models", reason="google-cloud-aiplatform is not installed")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", provider.url)
    monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", provider.url)
    old.configure(api_key="k-1")
    __import__("vertexai").init(project="p", location="l", credentials=Credentials("t"))

    for client in (
        instructor.from_gemini(old.GenerativeModel("m-1")),
        instructor.from_vertexai(older.GenerativeModel("m-2")),
    ):
        assert JOHN == client.create(response_model=User, messages=HI)
    assert "k-1" == provider.headers[0]["x-goog-api-key"]
    assert "/v1beta/models/m-1:generateContent" == provider.paths[0]
    assert provider.paths[1].endswith("/projects/p/locations/l/publishers/google/models/m-2:generateContent")
    with pytest.raises(ClientError, match="system_instruction"):
        instructor.from_gemini(old.GenerativeModel("m", system_instruction="be kind"))


# Azure.


def azure(provider: Any, *, awaits: bool = False, **account: Any) -> Any:
    """A client of Azure's that asks the fake provider."""
    return instructor.from_provider("azure_openai/m", awaits, azure_endpoint=provider.url, max_retries=0, **account)


def token_of(tenant: str, *, awaits: bool) -> Any:
    """A function that gives a tenant's token, which is made anew for each call."""

    async def later() -> str:
        return tenant

    return later if awaits else lambda: tenant


@pytest.mark.fault("D6")
@sync_and_async
def test_azures_tenants_do_not_mix(provider, awaits):
    """Keys and tokens name the tenant; each is sent as it should be."""
    cache = AutoCache()
    accounts = [{"api_key": "a"}, {"api_key": "b"}, {"azure_ad_token": "a"}, {"azure_ad_token": "b"}]

    for account in accounts * 2:
        client = azure(provider, awaits=awaits, **account)
        assert JOHN == ask(client, response_model=User, messages=HI, cache=cache)

    assert ["a", "b", "Bearer a", "Bearer b"] == [
        sent.get("api-key") or sent["authorization"] for sent in provider.headers
    ]


@pytest.mark.fault("D6")
@sync_and_async
def test_azures_token_providers_need_a_name(provider, awaits):
    """A function says nothing of whose token it gives: nothing is remembered, unless a namespace names the tenant."""
    cache, tenants = AutoCache(), ("a", "b")
    clients = [
        azure(provider, awaits=awaits, azure_ad_token_provider=token_of(each, awaits=awaits)) for each in tenants
    ]

    def ask_all() -> None:
        for client in clients * 2:
            ask(client, response_model=User, messages=HI, cache=cache)

    with pytest.warns(CacheWarning, match="cache_namespace"):
        ask_all()
    for client, tenant in [*zip(clients, tenants, strict=True)] * 2:
        ask(client, response_model=User, messages=HI, cache=cache, cache_namespace=tenant)

    assert ["Bearer a", "Bearer b"] * 3 == [sent["authorization"] for sent in provider.headers]


@pytest.mark.fault("D6")
def test_clients_of_azures_own_making_are_known_too(provider):
    """`from_openai` takes them, sync and async, and tells their tenants apart."""
    cache, place = AutoCache(), {"azure_endpoint": provider.url, "api_version": "v", "max_retries": 0}
    sync = [instructor.from_openai(openai.AzureOpenAI(api_key=key, **place), model="m") for key in "aba"]
    later = [instructor.from_openai(openai.AsyncAzureOpenAI(api_key=key, **place), model="m") for key in "bac"]

    for client in sync:
        client.create(response_model=User, messages=HI, cache=cache)
    for client in later:
        asyncio.run(client.create(response_model=User, messages=HI, cache=cache))

    assert ["a", "b", "c"] == [sent["api-key"] for sent in provider.headers]
