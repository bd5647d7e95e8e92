"""Whose answer it is: two accounts never share one by accident, and one account finds its own again."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anthropic
import cohere
import groq
import httpx
import httpx2
import openai
import pytest
import writerai
from cerebras.cloud import sdk as cerebras
from fake_provider import FakeProvider, Say, fake_provider
from flavours import bedrock_sdk
from google import genai
from mistralai.client import Mistral
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

import instructor
from instructor import Mode
from instructor.cache import AutoCache, CacheWarning, DiskCache
from instructor.providers import Provider

QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": "Extract: John is 25"}], "model": "m"}
ANN, BOB = '{"name": "Ann", "age": 1}', '{"name": "Bob", "age": 2}'


class User(BaseModel):
    """Somebody."""

    name: str
    age: int


def openai_sdk(provider: FakeProvider, **kwargs: Any) -> openai.OpenAI:
    """OpenAI's own client of the fake provider."""
    return openai.OpenAI(**{"api_key": "k", "base_url": f"{provider.url}/v1", "max_retries": 0, **kwargs})


def anthropic_sdk(provider: FakeProvider, **kwargs: Any) -> anthropic.Anthropic:
    """Anthropic's own client of the fake provider."""
    return anthropic.Anthropic(**{"api_key": "k", "base_url": provider.url, "max_retries": 0, **kwargs})


def groq_sdk(provider: FakeProvider, **kwargs: Any) -> groq.Groq:
    """Groq's own client of the fake provider."""
    return groq.Groq(**{"api_key": "k", "base_url": provider.url, "max_retries": 0, **kwargs})


def google_sdk(provider: FakeProvider, *, api_key: str = "k", **options: Any) -> genai.Client:
    """Google's own client of the fake provider."""
    return genai.Client(api_key=api_key, http_options={"base_url": provider.url, **options})


def writer_sdk(provider: FakeProvider, **kwargs: Any) -> writerai.Writer:
    """Writer's own client of the fake provider."""
    return writerai.Writer(**{"api_key": "k", "base_url": provider.url, "max_retries": 0, **kwargs})


def cerebras_sdk(provider: FakeProvider, **kwargs: Any) -> cerebras.Cerebras:
    """Cerebras's own client of the fake provider."""
    options = {"api_key": "k", "base_url": provider.url, "max_retries": 0, "warm_tcp_connection": False}
    return cerebras.Cerebras(**{**options, **kwargs})


def cohere_sdk(provider: FakeProvider, *, api_key: Any = "k", http_client: Any = None) -> cohere.ClientV2:
    """Cohere's own client of the fake provider."""
    return cohere.ClientV2(api_key, base_url=provider.url, httpx_client=http_client, max_retries=0)


def mistral_sdk(provider: FakeProvider, *, api_key: Any = "k", http_client: Any = None) -> Mistral:
    """Mistral's own client of the fake provider."""
    return Mistral(api_key, server_url=f"{provider.url}/mistral", client=http_client)


GENERATED = {
    "openai": (openai_sdk, instructor.from_openai, openai.DefaultHttpxClient),
    "anthropic": (anthropic_sdk, instructor.from_anthropic, anthropic.DefaultHttpxClient),
    "groq": (groq_sdk, instructor.from_groq, groq.DefaultHttpxClient),
    "writer": (writer_sdk, instructor.from_writer, writerai.DefaultHttpxClient),
    "cerebras": (cerebras_sdk, instructor.from_cerebras, cerebras.DefaultHttpxClient),
}
"""The SDKs that are made by one generator: their client, our factory, and the HTTP client that they take."""

OTHERS = {
    "cohere": (cohere_sdk, instructor.from_cohere, httpx.Client),
    "mistral": (mistral_sdk, instructor.from_mistral, httpx2.Client),
}
"""The SDKs that take such a client, too, but no headers of their own."""

every_generated = pytest.mark.parametrize(("sdk", "factory", "transport"), GENERATED.values(), ids=GENERATED.keys())
EVERY = {**GENERATED, **OTHERS}
every_transport = pytest.mark.parametrize(("sdk", "factory", "transport"), EVERY.values(), ids=EVERY.keys())


# --- what is changed in place -------------------------------------------------------------------------------------


@pytest.mark.fault("D6")
@every_generated
def test_default_headers_changed_in_place_are_another_account(
    provider: FakeProvider, sdk: Any, factory: Any, transport: Any
) -> None:
    """The SDK keeps the user's own dictionary and sends what it holds now: a tenant's name may be switched in it."""
    headers = {"X-Tenant": "one"}
    client = factory(sdk(provider, default_headers=headers), cache=AutoCache())

    for tenant in ("one", "two", "two", "one"):
        headers["X-Tenant"] = tenant
        client.create(User, **QUESTION)

    assert ["one", "two"] == [sent["x-tenant"] for sent in provider.headers]


@pytest.mark.fault("D6")
@every_transport
def test_an_http_clients_headers_changed_in_place_are_another_account(
    provider: FakeProvider, sdk: Any, factory: Any, transport: Any
) -> None:
    """So may the headers of the HTTP client that the user gave to the SDK."""
    with transport(headers={"X-Tenant": "one"}) as http:
        client = factory(sdk(provider, http_client=http), cache=AutoCache())

        for tenant in ("one", "two", "two", "one"):
            http.headers["X-Tenant"] = tenant
            client.create(User, **QUESTION)

    assert ["one", "two"] == [sent["x-tenant"] for sent in provider.headers]


@pytest.mark.fault("D6")
def test_googles_headers_changed_in_place_are_another_account(provider: FakeProvider) -> None:
    """Google's SDK keeps a dictionary of its own, which its users reach through the client."""
    sdk = google_sdk(provider, headers={"X-Tenant": "one"})
    client = instructor.from_genai(sdk, cache=AutoCache())

    for tenant in ("one", "two", "two", "one"):
        sdk._api_client._http_options.headers["X-Tenant"] = tenant
        client.create(User, **QUESTION)

    assert ["one", "two"] == [sent["x-tenant"] for sent in provider.headers]


# --- what says whose account it is --------------------------------------------------------------------------------


def calls_of(provider: FakeProvider, *clients: Any) -> int:
    """How many calls it took for all `clients` to ask the same twice, in turn, over one cache."""
    cache, before = AutoCache(), provider.calls
    for _ in range(2):
        for client in clients:
            client.create(User, cache=cache, **QUESTION)
    return provider.calls - before


@pytest.mark.fault("D6")
@every_transport
def test_a_key_is_an_account(provider: FakeProvider, sdk: Any, factory: Any, transport: Any) -> None:
    """Clients with one key share their answers; those with another, or elsewhere, have their own."""
    with fake_provider() as elsewhere:
        places = [(provider, "one"), (provider, "two"), (provider, "two"), (elsewhere, "two")]
        clients = [factory(sdk(place, api_key=key)) for place, key in places]

        assert (calls_of(provider, *clients), elsewhere.calls) == (2, 1)
    assert ["Bearer one", "Bearer two"] == [_key_sent(sent) for sent in provider.headers]


def _key_sent(headers: dict[str, str]) -> str:
    return headers.get("authorization") or f"Bearer {headers['x-api-key']}"


@pytest.mark.fault("D6")
def test_mistrals_key_changed_in_place_is_another_account(provider: FakeProvider) -> None:
    """Its SDK keeps the key in an object, and sends what that holds now."""
    sdk = mistral_sdk(provider)
    client = instructor.from_mistral(sdk, cache=AutoCache())

    for key in ("one", "two", "two", "one"):
        sdk.sdk_configuration.security.api_key = key
        client.create(User, **QUESTION)

    assert ["Bearer one", "Bearer two"] == [sent["authorization"] for sent in provider.headers]


@pytest.mark.fault("D6")
@pytest.mark.parametrize(("sdk", "factory", "transport"), OTHERS.values(), ids=OTHERS.keys())
def test_a_key_that_is_made_anew_has_no_name(provider: FakeProvider, sdk: Any, factory: Any, transport: Any) -> None:
    """Nobody's answer is kept under a function that gives a key, unless a namespace says whose it is."""
    client = factory(sdk(provider, api_key=lambda: "k"), cache=AutoCache())

    with pytest.warns(CacheWarning, match="cache_namespace"):
        client.create(User, **QUESTION)
    for namespace in (None, "mine", "mine"):
        client.create(User, **({"cache_namespace": namespace} if namespace else {}), **QUESTION)

    assert provider.calls == 3


@pytest.mark.fault("D6")
@pytest.mark.parametrize(
    ("option", "one", "two"),
    [("headers", {"X-Tenant": "one"}, {"X-Tenant": "two"}), ("extra_body", {"labels": "one"}, {"labels": "two"})],
    ids=["headers", "extra_body"],
)
def test_googles_http_options_are_part_of_the_account(provider: FakeProvider, option: str, one: Any, two: Any) -> None:
    """What a Google client adds to every request may name a tenant, in a header or in the body."""
    clients = [instructor.from_genai(google_sdk(provider, **{option: value})) for value in (one, two, two)]

    assert calls_of(provider, *clients) == 2


@pytest.mark.fault("D6")
def test_an_azure_token_is_an_account(provider: FakeProvider) -> None:
    """`from_openai` takes Azure's clients, too, which may have a token where others have a key."""
    clients = [
        instructor.from_openai(
            openai.AzureOpenAI(azure_endpoint=provider.url, api_version="v", azure_ad_token=token, max_retries=0)
        )
        for token in ("one", "two", "two")
    ]

    assert calls_of(provider, *clients) == 2
    assert ["Bearer one", "Bearer two"] == [sent["authorization"] for sent in provider.headers]


def key_of(client: Any) -> str:
    """Under which key a client looks for the answer to the question."""
    plan = client._plan(User, None, 1, None, True, None, None, {**QUESTION, "cache": AutoCache()})
    return str(plan.slot.key)


@pytest.mark.fault("D6")
@every_transport
def test_an_http_clients_parameters_are_part_of_the_account(
    provider: FakeProvider, sdk: Any, factory: Any, transport: Any
) -> None:
    """`Client(params=...)` is sent with every request, and may name a tenant."""
    with transport(params={"tenant": "one"}) as one, transport(params={"tenant": "two"}) as two:
        first, second, again = (key_of(factory(sdk(provider, http_client=http))) for http in (one, two, one))

    assert first == again != second


def bedrock(*, key: str = "k", region: str = "r") -> Any:
    """A client of Anthropic's models on AWS."""
    cls = getattr(anthropic, "AnthropicBedrock", None) or pytest.skip("this SDK has no client for Bedrock")
    return instructor.from_anthropic(cls(aws_access_key=key, aws_secret_key="s", aws_region=region))


def vertex(*, project: str = "p", region: str = "r") -> Any:
    """A client of Anthropic's models on Google's cloud."""
    cls = getattr(anthropic, "AnthropicVertex", None) or pytest.skip("this SDK has no client for Vertex")
    return instructor.from_anthropic(cls(project_id=project, region=region, access_token="t"))


@pytest.mark.fault("D6")
@pytest.mark.parametrize(
    ("make", "other"),
    [(bedrock, {"key": "other"}), (bedrock, {"region": "other"}), (vertex, {"project": "other"})],
    ids=["aws_access_key", "aws_region", "project_id"],
)
def test_a_clouds_account_is_an_account(make: Callable[..., Any], other: dict[str, str]) -> None:
    """Clouds that serve Anthropic's models have no API key: their own credentials tell their users apart."""
    assert key_of(make()) == key_of(make())
    assert key_of(make()) != key_of(make(**other))


# --- bare functions -----------------------------------------------------------------------------------------------

METHODS: dict[str, Any] = {
    "openai": (openai_sdk, lambda sdk: sdk.chat.completions.create, Provider.OPENAI, {}),
    "anthropic": (anthropic_sdk, lambda sdk: sdk.messages.create, Provider.ANTHROPIC, {"max_tokens": 99}),
    "google": (google_sdk, lambda sdk: sdk.models.generate_content, Provider.GENAI, {}),
}
every_method = pytest.mark.parametrize(("sdk", "method", "name", "extra"), METHODS.values(), ids=METHODS.keys())


@pytest.mark.fault("D6")
@every_method
def test_the_methods_of_two_clients_never_mix_their_accounts(
    provider: FakeProvider, sdk: Any, method: Any, name: Provider, extra: dict[str, Any]
) -> None:
    """`patch(create=client.method)` asks on that client's account."""
    cache, clients = AutoCache(), [sdk(provider, api_key="one"), sdk(provider, api_key="two")]
    functions = [instructor.patch(create=method(client), provider=name) for client in clients]
    provider.say(ANN, BOB)

    answers = [create(User, cache=cache, **QUESTION, **extra).name for create in functions * 2]

    assert ["Ann", "Bob"] * 2 == answers


@pytest.mark.fault("D6")
@every_method
def test_the_methods_of_two_clients_never_mix_their_addresses(
    provider: FakeProvider, sdk: Any, method: Any, name: Provider, extra: dict[str, Any]
) -> None:
    """Nor what one server says with what another one does."""
    cache = AutoCache()
    with fake_provider() as second:
        provider.say(ANN)
        second.say(BOB)
        clients = [sdk(provider), sdk(second)]
        functions = [instructor.patch(create=method(client), provider=name) for client in clients]

        answers = [create(User, cache=cache, **QUESTION, **extra).name for create in functions * 2]

    assert ["Ann", "Bob"] * 2 == answers
    assert (provider.calls, second.calls) == (1, 1)


@pytest.mark.parametrize("sdk", [openai_sdk, anthropic_sdk], ids=["openai", "anthropic"])
def test_a_method_patched_anew_finds_its_answers_again(provider: FakeProvider, sdk: Any) -> None:
    """The client says whose method it is: another object for the same client is the same account."""
    _, method, name, extra = METHODS[sdk.__name__.removesuffix("_sdk")]
    cache = AutoCache()

    for client in (sdk(provider), sdk(provider)):
        instructor.patch(create=method(client), provider=name)(User, cache=cache, **QUESTION, **extra)

    assert provider.calls == 1


def said(payload: str) -> ChatCompletion:
    """What a provider says in JSON mode."""
    choice = {"index": 0, "message": {"role": "assistant", "content": payload}, "finish_reason": "stop"}
    return ChatCompletion.model_validate(
        {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    )


def asked_of(payload: str, calls: list[str]) -> Callable[..., ChatCompletion]:
    """A function that asks somebody who always says `payload`."""

    def create(**_: Any) -> ChatCompletion:
        return ask_anybody(payload, calls)

    return create


def ask_anybody(payload: str, calls: list[str], **_: Any) -> ChatCompletion:
    """What somebody who always says `payload` says."""
    calls.append(payload)
    return said(payload)


@pytest.mark.fault("D6")
@pytest.mark.parametrize(
    "make", [asked_of, functools.partial(functools.partial, ask_anybody)], ids=["closures", "partials"]
)
def test_functions_that_only_look_alike_never_mix(make: Callable[[str, list[str]], Any]) -> None:
    """What a closure or a partial asks cannot be seen from outside: each is an endpoint of its own, and keeps it."""
    calls: list[str] = []
    cache = AutoCache()
    functions = [instructor.patch(create=make(payload, calls), mode=Mode.JSON) for payload in (ANN, BOB)]

    answers = [create(User, cache=cache, **QUESTION).name for create in functions * 2]

    assert ["Ann", "Bob"] * 2 == answers
    assert [ANN, BOB] == calls


SAID: list[str] = []


def ask_ann(**_: Any) -> ChatCompletion:
    """A function that everybody can name."""
    return ask_anybody(ANN, SAID)


def test_a_function_with_a_name_finds_its_answers_again() -> None:
    """One that can be imported is the same function when it is patched anew, as after a restart."""
    cache, before = AutoCache(), len(SAID)

    answers = [
        instructor.patch(create=ask_ann, mode=Mode.JSON)(User, cache=cache, **QUESTION),
        instructor.patch(create=ask_ann, mode=Mode.JSON)(User, cache=cache, **QUESTION),
        instructor.Instructor(None, ask_ann, mode=Mode.JSON).create(User, cache=cache, **QUESTION),
    ]

    assert [User(name="Ann", age=1)] * 3 == answers
    assert len(SAID) - before == 1


# --- one client, several threads ----------------------------------------------------------------------------------


class Key(str):
    """A key during whose next comparison something else happens, as between any two steps of a thread."""

    __slots__ = ()
    meanwhile: list[Callable[[], Any]] = []  # noqa: RUF012  one list for all keys: they are made anew when looked at

    def __eq__(self, other: object) -> bool:
        if Key.meanwhile:
            Key.meanwhile.pop()()
        return str.__eq__(self, other)

    __hash__ = str.__hash__


class Shared(openai.OpenAI):
    """A client on which each thread asks with the key of its own tenant."""

    tenant = threading.local()

    @property
    def api_key(self) -> Key:
        """The key of this thread's tenant."""
        return Key(getattr(self.tenant, "key", "nobody's"))

    @api_key.setter
    def api_key(self, _: str) -> None:
        """The one given at construction is nobody's."""


@pytest.mark.fault("D6")
def test_threads_that_switch_the_account_of_one_client_never_mix(provider: FakeProvider) -> None:
    """Whatever another thread asks while this one looks whether the account is still the same, the answer is ours."""
    sdk = Shared(api_key="nobody's", base_url=f"{provider.url}/v1", max_retries=0)
    client = instructor.from_openai(sdk, cache=AutoCache())
    provider.say(Say(ANN), Say(BOB))
    answers: list[tuple[str, str]] = []

    def ask(tenant: str) -> None:
        Shared.tenant.key = tenant
        answers.append((tenant, client.create(User, **QUESTION).name))

    def elsewhere() -> None:
        thread = threading.Thread(target=ask, args=("bob's",))
        thread.start()
        thread.join()

    ask("ann's")
    elsewhere()
    ask("ann's")
    Key.meanwhile.append(elsewhere)
    ask("ann's")
    elsewhere()

    assert [("ann's", "Ann"), ("bob's", "Bob")] == sorted(set(answers))
    assert (len(answers), provider.calls) == (6, 2)


# --- D7: what a key tells of a credential ---------------------------------------------------------------------------


@pytest.mark.fault("D7")
def test_a_credential_is_nowhere_to_be_read(provider: FakeProvider, tmp_path: Path, caplog: Any) -> None:
    """Neither it nor a plain digest of it is in a key, in a file or in the log."""
    caplog.set_level(logging.DEBUG)
    secret = "sk-tiny-7391"
    cache = DiskCache(tmp_path / "cache")
    with openai_sdk(provider, api_key=secret) as sdk:
        client = instructor.from_openai(sdk, cache=cache)
        for _ in range(2):
            client.create(response_model=User, **QUESTION)
    kept = b"".join(path.read_bytes() for path in (tmp_path / "cache").iterdir())
    told = kept + "".join([*cache, *(record.getMessage() for record in caplog.records), repr(cache)]).encode()
    cache.close()
    spelled = [text.encode() for text in (secret, f"Bearer {secret}")]
    digests = [hashlib.new(name, text).digest() for name in ("md5", "sha1", "sha256", "blake2b") for text in spelled]
    forms = [form for digest in digests for form in (digest, digest.hex().encode(), base64.b64encode(digest))]

    assert len(list(cache)) == 1
    assert [form for form in [*spelled, *forms] if form in told] == []


@pytest.mark.fault("D7")
def test_a_credential_that_is_short_is_dear_to_guess(provider: FakeProvider) -> None:
    """Who has a key and knows all else of the question works a millisecond or more for each guess."""
    endpoints = []
    for number in range(20):
        with openai_sdk(provider, api_key=f"{number:04}") as sdk:
            endpoints.append(instructor.from_openai(sdk).endpoint)

    start = time.thread_time()
    scopes = {endpoint.scope(None) for endpoint in endpoints}
    took = time.thread_time() - start

    assert (len(scopes), took / 20 > 0.001) == (20, True)


@dataclasses.dataclass
class Coat:
    """An object around a client, as rate limiters make them: it asks, and says nothing of whose account it is."""

    inner: Any
    meta: Any = None

    def converse(self, **question: Any) -> Any:
        return self.inner.converse(**question)

    @property
    def chat(self) -> Any:
        return SimpleNamespace(completions=SimpleNamespace(create=self.inner.chat.completions.create))


def of_bedrock(url: str, key: str) -> Any:
    """A client around a coat around boto3's."""
    sdk = bedrock_sdk(url, key)
    return instructor.from_bedrock(Coat(sdk, sdk.meta))


def of_openai(url: str, key: str) -> Any:
    """The same around OpenAI's."""
    coat = Coat(openai.OpenAI(api_key=key, base_url=url))
    return instructor.Instructor(coat, coat.chat.completions.create)


@pytest.mark.fault("D6")
@pytest.mark.parametrize("make", [of_bedrock, of_openai])
def test_a_client_that_does_not_say_whose_it_is_is_an_account(provider: FakeProvider, make: Any) -> None:
    """Its answers are found again through it alone, unless a namespace says whose they are."""
    cache = AutoCache()
    clients = [make(provider.url, key) for key in ("a", "b")]
    asked: dict[str, Any] = {**QUESTION, "response_model": User, "cache": cache, "max_retries": 0}

    for client in clients * 2:
        client.create(**asked)
    assert provider.calls == 2
    for client in clients:
        client.create(**asked, cache_namespace="ours")
    assert provider.calls == 3
