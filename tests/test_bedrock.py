"""What is special about AWS: whose account it is, an event loop that stays free of boto3, and bytes among the JSON."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import threading
from contextvars import ContextVar
from typing import Any

import anthropic
import boto3
import openai
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.credentials import DeferredRefreshableCredentials
from flavours import bedrock_client
from pydantic import BaseModel

import instructor
from instructor import AsyncInstructor, Mode
from instructor.aws import named
from instructor.cache import AutoCache
from instructor.cache.completion import keep, restore
from instructor.dialects import bedrock
from instructor.exceptions import ConfigurationError
from instructor.threads import in_thread

HI = [{"role": "user", "content": "hi"}]


class User(BaseModel):
    """A person."""

    name: str
    age: int


@pytest.fixture(autouse=True)
def _no_account(monkeypatch, tmp_path):
    """Nobody's account: no profile, no key, no machine that could be asked for one."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name))


def sdk(**options: Any) -> Any:
    """A client of boto3's."""
    account = {"aws_access_key_id": "AK", "aws_secret_access_key": "s", "region_name": "us-east-1"}
    return boto3.client("bedrock-runtime", **{**account, **options})


def scope(client: Any, factory: Any = instructor.from_bedrock) -> str:
    """What the client adds to a key."""
    return str(factory(client).endpoint.scope(None))


# The event loop.


async def ticking(work: Any) -> tuple[Any, int]:
    """What the work gives, and how often the loop came round meanwhile."""
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    ticker = asyncio.create_task(tick())
    try:
        return await work, ticks
    finally:
        ticker.cancel()


def test_the_loop_goes_round_while_boto3_waits(provider):
    """A call waits in a thread: the loop ticks on until the provider, held back by a ticker's tick, answers."""
    provider.gate = threading.Event()
    client = bedrock_client(provider, use_async=True)

    async def main():
        asked = asyncio.create_task(client.create(response_model=User, messages=HI))
        await asyncio.to_thread(provider.arrived.acquire)
        asyncio.get_running_loop().call_later(0.05, provider.gate.set)  # only a loop that is free gets there
        return await ticking(asked)

    answer, ticks = asyncio.run(main())

    assert User(name="John", age=25) == answer
    assert ticks > 5


def test_many_may_wait_for_boto3(provider):
    """More than an event loop has threads of its own, which stay free for others, such as a cache on a disk."""
    provider.gate = threading.Event()
    client = bedrock_client(provider, use_async=True)

    async def main():
        asked = [asyncio.create_task(client.create(response_model=User, messages=HI)) for _ in range(40)]
        arrived = await asyncio.to_thread(lambda: all(provider.arrived.acquire(timeout=5) for _ in asked))
        provider.gate.set()
        return arrived, await asyncio.gather(*asked)

    arrived, answers = asyncio.run(main())

    assert arrived
    assert [User(name="John", age=25)] * 40 == answers


def test_a_span_reaches_into_the_thread():
    """What is current in a task is current there: tracers of HTTP look for it."""
    current: ContextVar[str] = ContextVar("current")

    async def main():
        current.set("ours")
        return await in_thread(lambda: current.get("nobody's"))()

    assert asyncio.run(main()) == "ours"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.fault("B2")
def test_a_forked_child_has_threads_of_its_own():
    """Those of its parent stayed there."""

    async def main():
        return await asyncio.wait_for(in_thread(os.getpid)(), 5)

    assert os.getpid() == asyncio.run(main())
    child = os.fork()
    if child == 0:  # pragma: no cover  another process
        os._exit(asyncio.run(main()) != os.getpid())

    assert os.waitpid(child, 0)[1] == 0


def test_the_loop_goes_round_between_events(provider):
    """So does each event of a stream; many streams wait at the same time."""
    provider.pace = threading.Semaphore(0)
    client = bedrock_client(provider, use_async=True)

    async def listen():
        return [each async for each in client.create_partial(response_model=User, messages=HI)]

    async def main():
        asked = asyncio.gather(*(listen() for _ in range(3)))
        await asyncio.to_thread(lambda: [provider.arrived.acquire() for _ in range(3)])
        asyncio.get_running_loop().call_later(0.05, provider.pace.release, 100)
        return await ticking(asked)

    streams, ticks = asyncio.run(main())

    assert [User(name="John", age=25)] * 3 == [stream[-1] for stream in streams]
    assert ticks > 5


@pytest.mark.parametrize("cached", [False, True])
def test_a_stream_that_nobody_listens_to_any_more_is_hung_up(provider, cached):
    """Who is cancelled while a thread waits for the next event leaves neither the thread nor the connection behind."""
    provider.pace = threading.Semaphore(3)
    client = bedrock_client(provider, use_async=True, **({"cache": AutoCache()} if cached else {}))

    async def main():
        stream = client.create_partial(response_model=User, messages=HI)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_all(stream), 0.2)
        assert await asyncio.to_thread(provider.gone.wait, 5)

    asyncio.run(main())


def test_a_stream_that_nobody_waits_for_is_hung_up(provider):
    """Who is cancelled before a stream has even begun leaves it to the thread that opens it to hang up."""
    provider.gate, provider.pace = threading.Event(), threading.Semaphore(0)
    client = bedrock_client(provider, use_async=True)

    async def main():
        asked = asyncio.create_task(_all(client.create_partial(response_model=User, messages=HI)))
        await asyncio.to_thread(provider.arrived.acquire)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        provider.gate.set()
        assert await asyncio.to_thread(provider.gone.wait, 5)

    asyncio.run(main())


async def _all(stream: Any) -> list[Any]:
    return [each async for each in stream]


# The account.


@pytest.mark.fault("D6")
@pytest.mark.parametrize(
    "other",
    [
        {"aws_access_key_id": "AK2"},
        {"aws_account_id": "222"},
        {"region_name": "eu-west-1"},
        {"endpoint_url": "https://elsewhere"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_accounts_do_not_mix(other):
    """A key, an account, a region and an address are told apart, and each is itself again."""
    assert scope(sdk()) == scope(sdk())
    assert scope(sdk(**other)) == scope(sdk(**other))
    assert scope(sdk()) != scope(sdk(**other))


@pytest.mark.fault("D6")
def test_api_keys_are_accounts(monkeypatch):
    """An API key of Bedrock comes before every other credential."""
    found = []
    for token in ("one", "two"):
        monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", token)
        found.append(scope(sdk()))

    assert found[0] != found[1]


def temporary(*keys: str, account: str | None) -> DeferredRefreshableCredentials:
    """Credentials of a role, which are renewed when they are looked at late, and fetched first when they are needed."""
    given = iter(keys)
    now = dt.datetime.now(dt.timezone.utc)

    def fetch():
        until = (now + dt.timedelta(hours=1)).isoformat()
        return {"access_key": next(given), "secret_key": "s", "token": "t", "expiry_time": until, "account_id": account}

    return DeferredRefreshableCredentials(fetch, "assume-role", time_fetcher=lambda: now)


@pytest.mark.fault("D6")
def test_an_account_outlives_its_temporary_keys():
    """Where the account is known, what is renewed every hour is the same; its keys are fetched once for that."""
    one, two = temporary("ASIA1", account="111"), temporary("ASIA2", account="111")

    assert named(one) == named(two) == named(one) == "111"


@pytest.mark.fault("D6")
def test_temporary_keys_without_an_account_are_accounts():
    """Where it is not known, nobody can say that two keys are one account's."""
    one, other = temporary("ASIA1", account=None), temporary("ASIA2", account=None)

    assert (named(one), named(other)) == ("ASIA1", "ASIA2")
    assert named(None) is None


KIN = [anthropic.AnthropicBedrock, anthropic.AnthropicBedrockMantle]


@pytest.mark.fault("D6")
@pytest.mark.parametrize("kind", KIN)
def test_what_boto3_finds_is_the_account_of_anthropics_clients(kind, monkeypatch):
    """A client that was given no key asks on the account of the environment, which is another one elsewhere."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    found = []
    for key in ("AK1", "AK2", "AK2"):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        found.append(scope(kind(aws_region="r"), instructor.from_anthropic))

    assert found[0] != found[1] == found[2]


@pytest.mark.fault("D6")
def test_clients_of_openais_on_aws_need_a_name(provider):
    """What cannot be read out of a client has to be said; a key can be read."""
    region = {"aws_region": "us-east-1"}
    made = [openai.BedrockOpenAI(aws_access_key_id=key, aws_secret_access_key="s", **region) for key in "ab"]
    keyed = [openai.BedrockOpenAI(api_key=key, **region) for key in "ab"]

    for client in made:
        with pytest.raises(TypeError, match="cache_namespace"):
            scope(client, instructor.from_openai)
    assert len({scope(client, instructor.from_openai) for client in keyed}) == 2


@pytest.mark.fault("D6")
def test_other_clients_of_anthropics_have_accounts():
    """Those of AWS's platform, of Azure and of Google's cloud say whose they are in places of their own."""
    aws = [anthropic.AnthropicAWS(aws_region="r", aws_access_key=k, aws_secret_key="s", workspace_id="w") for k in "ab"]
    azure = [anthropic.AnthropicFoundry(resource="r", api_key=key) for key in "ab"]
    google = [
        anthropic.AnthropicGoogleCloud(project=p, location="l", token_provider=str, workspace_id="w") for p in "ab"
    ]

    for clients in (aws, azure, google):
        assert len({scope(client, instructor.from_anthropic) for client in clients}) == 2
    with pytest.raises(TypeError, match="cache_namespace"):
        scope(anthropic.AnthropicFoundry(resource="r", azure_ad_token_provider=lambda: "t"), instructor.from_anthropic)


# Connecting.


@pytest.mark.parametrize(
    ("name", "mode"), [("us.anthropic.claude-x", Mode.TOOLS), ("claude", Mode.TOOLS), ("amazon.nova", Mode.MD_JSON)]
)
def test_the_default_mode_is_that_of_the_model(name, mode):
    """Claude takes tools; what others take is not known."""
    assert mode is instructor.from_provider(f"bedrock/{name}", aws_access_key_id="k", aws_secret_access_key="s").mode


def test_from_provider_finds_the_region(monkeypatch):
    """What is said, what AWS's variable says, or the first of them all."""
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "t")
    made = [instructor.from_provider("bedrock/m", region="r-1"), instructor.from_provider("bedrock/m")]
    monkeypatch.setenv("AWS_DEFAULT_REGION", "r-2")
    made.append(instructor.from_provider("bedrock/m"))

    assert ["r-1", "us-east-1", "r-2"] == [client.client.meta.region_name for client in made]


def test_from_provider_asks(provider):
    """With keys and at an address, sync and async; what boto3 does not take is a default of every call."""
    account = {"aws_access_key_id": "k", "aws_secret_access_key": "s", "base_url": provider.url}
    client = instructor.from_provider("bedrock/m:0", max_tokens=7, **account)
    later = instructor.from_provider("bedrock/m:0", async_client=True, mode=Mode.TOOLS, **account)

    assert client.create(response_model=User, messages=HI) == asyncio.run(
        later.create(response_model=User, messages=HI)
    )
    assert type(later) is AsyncInstructor
    assert ["/model/m%3A0/converse"] * 2 == provider.paths
    assert {"maxTokens": 7} == provider.requests[0]["inferenceConfig"]
    assert "toolConfig" in provider.requests[1]


def test_what_boto3_takes_elsewhere_is_honoured_or_refused():
    """A timeout is part of its configuration, where one that is given knows better; a key stands in a variable."""
    made = [
        instructor.from_provider(
            "bedrock/m", timeout=7, aws_access_key_id="k", aws_secret_access_key="s", **more
        ).client.meta.config
        for more in ({}, {"config": Config(read_timeout=9)})
    ]

    assert [(7, 7), (7, 9)] == [(each.connect_timeout, each.read_timeout) for each in made]
    with pytest.raises(ConfigurationError, match="AWS_BEARER_TOKEN_BEDROCK"):
        instructor.from_provider("bedrock/m", api_key="k")


@pytest.mark.parametrize("awaits", [False, True], ids=["sync", "async"])
def test_missing_credentials_cost_nothing(awaits):
    """What boto3 finds nowhere when a client is made it will not find later; who need not sign needs none."""
    with pytest.raises(ConfigurationError, match="AWS_ACCESS_KEY_ID"):
        instructor.from_provider("bedrock/m", awaits)

    assert instructor.from_provider("bedrock/m", awaits, config=Config(signature_version=UNSIGNED))


# Listening.


def heard(*events: dict[str, Any], mode: Mode = Mode.TOOLS) -> tuple[list[str], dict[str, Any]]:
    """What each event adds, and the completion."""
    listener = bedrock.Listener(mode)
    return [listener.hear(event) for event in events], listener.data()


def block(index: int, *deltas: dict[str, Any], **start: Any) -> list[dict[str, Any]]:
    """The events of a block."""
    begun = [{"contentBlockStart": {"contentBlockIndex": index, "start": start}}] if start else []
    said = [{"contentBlockDelta": {"contentBlockIndex": index, "delta": delta}} for delta in deltas]
    return [*begun, *said, {"contentBlockStop": {"contentBlockIndex": index}}]


def test_reasoning_is_kept_and_nobodys_answer():
    """Thoughts become what they are in a completion that came whole: a text with its signature, or bytes."""
    thoughts = [{"text": "so "}, {"text": "what"}, {"signature": "s"}]
    said, data = heard(
        *block(0, *({"reasoningContent": each} for each in thoughts)),
        *block(1, {"reasoningContent": {"redactedContent": b"\xff"}}),
        *block(2, {"text": "yes"}),
        mode=Mode.JSON,
    )

    assert "yes" == "".join(said)
    assert [
        {"reasoningContent": {"reasoningText": {"text": "so what", "signature": "s"}}},
        {"reasoningContent": {"redactedContent": b"\xff"}},
        {"text": "yes"},
    ] == data["output"]["message"]["content"]


def test_only_the_first_call_of_ours_is_heard():
    """Not one of a tool that AWS runs, nor a second one; a call without arguments is an empty object."""
    theirs = {"toolUseId": "t0", "name": "run", "type": "server_tool_use"}
    said, data = heard(
        *block(0, {"toolUse": {"input": '{"a": 1}'}}, toolUse=theirs),
        *block(1, toolUse={"toolUseId": "t1", "name": "User"}),
        *block(2, {"toolUse": {"input": '{"torn'}}, toolUse={"toolUseId": "t2", "name": "User"}),
    )
    uses = [each["toolUse"] for each in data["output"]["message"]["content"]]

    assert "{}" == "".join(said)
    assert [{"a": 1}, {}, '{"torn'] == [use["input"] for use in uses]
    assert ["t1", "t2"] == [call.id for call in bedrock.read(data).calls]


# Keeping.


def test_bytes_are_kept():
    """A redacted thought is bytes among JSON; it comes back as it was, and so does what looks like one."""
    completion = {"content": [{"reasoningContent": {"redactedContent": b"\xff\x00"}}]}
    kept = keep(completion, "builtins:dict")

    assert kept is not None
    assert completion == restore(kept, "builtins:dict")
    assert keep({"$bytes": "AAAA"}, "builtins:dict") is None
