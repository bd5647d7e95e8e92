"""LiteLLM's own functions, which ask everybody and hold no client: their answers, their modes, and whose they are."""

from __future__ import annotations

import asyncio
import inspect
import json
from typing import Any

import pytest
from fake_provider import Say
from pydantic import BaseModel

import instructor
from instructor import Mode
from instructor.cache import AutoCache
from instructor.exceptions import InstructorRetryException
from instructor.lite import identity
from instructor.mode import CORE, DEPRECATED_TO_CORE
from instructor.providers import ROWS, Provider

HI = [{"role": "user", "content": "hi"}]
sync_and_async = pytest.mark.parametrize("awaits", [False, True], ids=["sync", "async"])


class User(BaseModel):
    """A person."""

    name: str
    age: int


JOHN = User(name="John", age=25)


@pytest.fixture
def litellm(monkeypatch):
    """The library, which asks the network for prices unless it is told not to."""
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    return pytest.importorskip("litellm", reason="litellm is not installed")


def client(litellm: Any, provider: Any, *, awaits: bool = False, **options: Any) -> Any:
    """A client that has litellm ask the fake provider."""
    how = {"model": "openai/gpt-4o", "api_base": f"{provider.url}/v1", "api_key": "k", "num_retries": 0}
    return instructor.from_litellm(litellm.acompletion if awaits else litellm.completion, **{**how, **options})


def given(answer: Any) -> Any:
    """What is there, once it was waited for."""
    return asyncio.run(_all(answer)) if inspect.isawaitable(answer) or inspect.isasyncgen(answer) else answer


async def _all(answer: Any) -> Any:
    answer = await answer if inspect.isawaitable(answer) else answer
    return [each async for each in answer] if hasattr(answer, "__aiter__") else answer


MODES = sorted({mode for mode in Mode if DEPRECATED_TO_CORE.get(mode, mode) in CORE} - {Mode.RESPONSES_TOOLS}, key=str)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", [m for m in MODES if DEPRECATED_TO_CORE.get(m) is not Mode.RESPONSES_TOOLS])
@sync_and_async
def test_every_mode_asks_and_is_remembered(litellm, provider, mode, awaits):
    """Those with a name of before too; what comes from the cache is litellm's own, and equal to what was paid for."""
    asker = client(litellm, provider, awaits=awaits, mode=mode, cache=AutoCache())
    several = DEPRECATED_TO_CORE.get(mode, mode) is Mode.PARALLEL_TOOLS
    model = list[User] if several else User

    answers = [given(asker.create_with_completion(response_model=model, messages=HI)) for _ in range(2)]

    assert [[JOHN] if several else JOHN] * 2 == [list(a) if several else a for a, _ in answers]
    assert answers[0][1] == answers[1][1]
    assert {litellm.ModelResponse} == {type(completion) for _, completion in answers}
    assert provider.calls == 1


@pytest.mark.filterwarnings("ignore")
@sync_and_async
def test_streams_are_heard_and_replayed(litellm, provider, awaits):
    """Snapshot by snapshot; and event by event, where there is nothing to validate."""
    asker = client(litellm, provider, awaits=awaits, mode=Mode.MISTRAL_TOOLS, cache=AutoCache())

    partial = [list(given(asker.create_partial(response_model=User, messages=HI))) for _ in range(2)]
    events = [list(given(asker.create(response_model=None, messages=HI, stream=True))) for _ in range(2)]

    assert JOHN == partial[0][-1]
    assert partial[0] == partial[1]
    assert [each.model_dump() for each in events[0]] == [each.model_dump() for each in events[1]]
    assert provider.calls == 2


@pytest.mark.filterwarnings("ignore")
@sync_and_async
def test_a_hit_knows_what_litellm_wrote_down(litellm, provider, awaits):
    """`_hidden_params` is where litellm says what a completion cost."""
    asker = client(litellm, provider, awaits=awaits, cache=AutoCache())

    costs = [given(asker.create(response_model=None, messages=HI))._hidden_params["response_cost"] for _ in range(2)]

    assert costs[0] == costs[1] > 0


@pytest.mark.filterwarnings("ignore")
@sync_and_async
def test_a_wrong_answer_is_asked_again(litellm, provider, awaits):
    """As everywhere; and an error has litellm's as its cause."""
    provider.say('{"name": "John"}', Say(), Say(status=500))
    asker = client(litellm, provider, awaits=awaits)

    answer = given(asker.create(response_model=User, messages=HI))

    assert (JOHN, 30) == (answer, answer._total_usage.total_tokens)
    assert "Field required" in json.dumps(provider.requests[1])
    with pytest.raises(InstructorRetryException) as caught:
        given(asker.create(response_model=User, messages=HI))
    assert isinstance(caught.value.__cause__, litellm.InternalServerError)


# Whose account it is.


def asks(**_: Any) -> Any:
    """A function that asks somebody, as litellm's do."""


def scope() -> str:
    """What such a function adds to a key."""
    return str(instructor.from_litellm(asks).endpoint.scope(None))


@pytest.mark.fault("D6")
@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "AZURE_API_BASE", "AWS_PROFILE", "HF_TOKEN", "VERTEX_PROJECT"])
def test_the_environment_is_an_account(variable, monkeypatch):
    """Litellm looks there for keys and addresses, at each call; what is there again is found again."""
    found = []
    for value in ("one", "two", "one"):
        monkeypatch.setenv(variable, value)
        found.append(scope())
    monkeypatch.setenv("TERM", "other")

    assert found[0] != found[1]
    assert found[0] == found[2] == scope()
    assert "one" not in found[0].rpartition(" ")[2]


@pytest.mark.fault("D6")
def test_a_client_notices_another_account(monkeypatch):
    """The very same one, from one call to the next; a namespace stands for any account."""
    endpoint = instructor.from_litellm(asks).endpoint
    before = endpoint.scope(None), endpoint.scope("n")
    monkeypatch.setenv("OPENAI_API_KEY", "another")

    assert endpoint.scope(None) != before[0]
    assert endpoint.scope("n") == before[1]


@pytest.mark.fault("D6")
def test_the_settings_of_litellm_are_an_account(litellm, monkeypatch):
    """`litellm.openai_key` and its like."""
    found = []
    for value in ("one", "two"):
        monkeypatch.setattr(litellm, "openai_key", value)
        found.append(scope())

    assert found[0] != found[1]
    assert identity(None)[1]["openai_key"] == "two"
    assert ROWS["litellm"].provider is Provider.LITELLM
