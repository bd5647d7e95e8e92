"""Clients end to end: the SDKs of four providers over HTTP on loopback, sync and async, in every mode."""

from __future__ import annotations

import asyncio
import copy
import enum
import functools
import json
import pickle
import warnings
from typing import Annotated, Any, Iterable, Literal, Optional, TypedDict, Union  # noqa: UP035  as users write them
from unittest.mock import Mock

import openai
import pydantic
import pytest
import tenacity
from fake_provider import FakeProvider, Say
from flavours import CLIENTS, ask, openai_client, ways
from google.genai import types as google_types
from pydantic import BaseModel, Field, ValidationInfo, field_validator
from test_stream import heard

import instructor
from instructor import Mode
from instructor.cache import AutoCache, stats
from instructor.dialects.base import dumped
from instructor.exceptions import (
    ConfigurationError,
    IncompleteOutputException,
    InstructorRetryException,
    RefusalError,
    TokenBudgetExceeded,
)
from instructor.hooks import Hooks
from instructor.usage import nothing

MODES = (Mode.TOOLS, Mode.TOOLS_STRICT, Mode.JSON, Mode.JSON_SCHEMA, Mode.MD_JSON)
QUESTION = [{"role": "user", "content": "Extract: John is 25"}]


class User(BaseModel):
    """Somebody."""

    name: str
    age: int = Field(description="in years")


class Company(BaseModel):
    """Some firm."""

    title: str


class Colour(enum.Enum):
    """A colour."""

    RED = "red"


class Point(TypedDict):
    """A place."""

    x: int
    y: int


every_client = pytest.mark.parametrize("make", CLIENTS.values(), ids=CLIENTS.keys())
sync_and_async = pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
every_way = ways(MODES)


@pytest.mark.fault("E3")
@every_way
@sync_and_async
def test_an_answer_is_an_instance_of_the_users_class_and_is_asked_for_once(
    provider: FakeProvider, make: Any, use_async: bool, mode: Mode
) -> None:
    """Whatever the provider, the flavour and the mode: same value, same type, same completion, one call."""
    client = make(provider, use_async=use_async, mode=mode, cache=AutoCache())
    if mode is Mode.MD_JSON:
        provider.say('Here you are:\n```json\n{"name": "John", "age": 25}\n```\nAnything else?')

    miss, completion = ask(client, method="create_with_completion", response_model=User, messages=QUESTION)
    hit, same = ask(client, method="create_with_completion", response_model=User, messages=QUESTION)

    assert User(name="John", age=25) == miss == hit
    assert type(hit) is User
    assert completion == same
    assert type(completion) is type(same)
    assert dumped(completion) == dumped(same) == dumped(hit._raw_response)
    assert provider.calls == 1


@pytest.mark.fault("E2")
@every_client
@sync_and_async
@pytest.mark.parametrize(
    ("response_model", "payload", "expected"),
    [
        (list[User], {"tasks": [{"name": "A", "age": 1}]}, [User(name="A", age=1)]),
        (Iterable[User | Company], {"tasks": [{"title": "X"}]}, [Company(title="X")]),
        (str, {"content": "hello"}, "hello"),
        (int, {"content": 7}, 7),
        (float, {"content": 7.5}, 7.5),
        (bool, {"content": True}, True),
        (Literal["yes", "no"], {"content": "yes"}, "yes"),
        (Colour, {"content": "red"}, Colour.RED),
        (Union[int, User], {"content": {"name": "A", "age": 1}}, User(name="A", age=1)),
        (int | str, {"content": "7"}, "7"),
        (Optional[User], {"content": None}, None),
        (Annotated[int, Field(ge=1)], {"content": 3}, 3),
        (list[int], {"content": [1, 2]}, [1, 2]),
    ],
    ids=str,
)
def test_every_shape_is_answered_and_remembered(
    provider: FakeProvider, make: Any, use_async: bool, response_model: Any, payload: Any, expected: Any
) -> None:
    """Lists, unions, enums and plain values come back bare, and are cached like any other."""
    client = make(provider, use_async=use_async, cache=AutoCache())
    provider.say(json.dumps(payload))

    answers = [ask(client, response_model=response_model, messages=QUESTION) for _ in range(2)]

    assert [expected, expected] == answers
    assert type(answers[0]) is type(answers[1])
    assert provider.calls == 1


@pytest.mark.fault("E2")
@every_client
@sync_and_async
def test_a_plain_completion_is_the_sdks_own_and_is_remembered(
    provider: FakeProvider, make: Any, use_async: bool
) -> None:
    """`response_model=None` gives what the SDK gives, from the cache too."""
    client = make(provider, use_async=use_async, cache=AutoCache())
    provider.say("hello")

    miss, hit = (ask(client, response_model=None, messages=QUESTION) for _ in range(2))

    assert miss == hit
    assert type(miss) is type(hit)
    assert "hello" in json.dumps(dumped(hit, mode="json"))
    assert provider.calls == 1


def test_a_typed_dict_is_answered_as_a_model(provider: FakeProvider) -> None:
    """As users know it: the keys of a TypedDict are attributes of the result."""
    provider.say('{"x": 1, "y": 2}')

    assert openai_client(provider).create(response_model=Point, messages=QUESTION).x == 1


@pytest.mark.fault("G6")
@every_way
@sync_and_async
def test_an_answer_that_does_not_fit_is_asked_for_again_with_the_error(
    provider: FakeProvider, make: Any, use_async: bool, mode: Mode
) -> None:
    """The next request says what was wrong (G6: and the answer is kept under the key of the first)."""
    client = make(provider, use_async=use_async, mode=mode, cache=AutoCache())
    provider.say('{"name": "John"}', '{"name": "John", "age": 25}')

    answers = [ask(client, response_model=User, messages=QUESTION) for _ in range(2)]

    assert [User(name="John", age=25)] * 2 == answers
    assert provider.calls == 2
    assert "Field required" in json.dumps(provider.requests[1])
    assert "Field required" not in json.dumps(provider.requests[0])
    assert len(QUESTION) == 1


@pytest.mark.fault("G1")
@every_way
@sync_and_async
def test_an_answer_that_was_cut_off_raises_and_is_not_kept(
    provider: FakeProvider, make: Any, use_async: bool, mode: Mode
) -> None:
    """Length is never retried, wrapped or stored."""
    cache = AutoCache()
    client = make(provider, use_async=use_async, mode=mode, cache=cache)
    provider.say(Say(finish="length"))

    with pytest.raises(IncompleteOutputException) as caught:
        ask(client, response_model=User, messages=QUESTION)

    assert caught.value.last_completion is not None
    assert (provider.calls, len(cache)) == (1, 0)


@pytest.mark.fault("G2")
@pytest.mark.fault("G3")
@every_client
@sync_and_async
@pytest.mark.parametrize("say", [Say(finish="content_filter"), Say(refusal="I would rather not")], ids=["G2", "G3"])
def test_a_refusal_raises_and_is_not_kept(provider: FakeProvider, make: Any, use_async: bool, say: Say) -> None:
    """Valid JSON beside a refusal or under a filter is no answer."""
    cache = AutoCache()
    client = make(provider, use_async=use_async, mode=Mode.JSON, cache=cache)
    provider.say(say)

    with pytest.raises(RefusalError):
        ask(client, response_model=User, messages=QUESTION)

    assert (provider.calls, len(cache)) == (1, 0)


@pytest.mark.fault("G5")
@every_client
@sync_and_async
@pytest.mark.parametrize(
    "say",
    [*(Say(status=status) for status in (400, 401, 429, 500, 503)), Say(cut=True)],
    ids=["400", "401", "429", "500", "503", "cut"],
)
def test_an_error_of_the_provider_is_the_cause_and_is_not_kept(
    provider: FakeProvider, make: Any, use_async: bool, say: Say
) -> None:
    """One call, however many retries for answers that do not fit; the SDK's exception is the cause."""
    cache = AutoCache()
    client = make(provider, use_async=use_async, cache=cache)
    provider.say(say)

    with pytest.raises(InstructorRetryException) as caught:
        ask(client, response_model=User, messages=QUESTION)

    calls = 4 if say.cut and make is CLIENTS["bedrock"] else 1  # boto3 gives what was cut off as an empty answer
    assert caught.value.__cause__ is not None
    assert caught.value.n_attempts == calls
    assert (provider.calls, len(cache)) == (calls, 0)


@pytest.mark.fault("G7")
def test_a_plain_completion_that_was_cut_off_is_given_but_not_kept(provider: FakeProvider) -> None:
    """The user asked for whatever comes; the next asker may get a whole one."""
    cache = AutoCache()
    client = openai_client(provider, cache=cache)
    provider.say(Say(payload="hel", finish="length"))

    assert client.create(messages=QUESTION).choices[0].message.content == "hel"
    assert len(cache) == 0


def test_every_attempt_is_in_the_error(provider: FakeProvider) -> None:
    """After the last attempt: how many there were, what they cost, what each of them said."""
    client = openai_client(provider)
    provider.say("{}")

    with pytest.raises(InstructorRetryException) as caught:
        client.create(response_model=User, messages=QUESTION, max_retries=2)

    error = caught.value
    assert (error.n_attempts, provider.calls, error.total_usage.total_tokens) == (3, 3, 45)
    assert [attempt.attempt_number for attempt in error.failed_attempts or ()] == [1, 2, 3]
    assert isinstance(error.__cause__, pydantic.ValidationError)
    assert "<failed_attempts>" in str(error)


@sync_and_async
def test_a_tenacity_controller_is_used_as_given(provider: FakeProvider, use_async: bool) -> None:
    """Its own policy decides, API errors included, and its own sleep is used."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    kind = tenacity.AsyncRetrying if use_async else tenacity.Retrying
    retrying = kind(
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_fixed(5),
        sleep=sleep if use_async else pauses.append,  # type: ignore[arg-type]
    )
    provider.say(Say(status=500), Say(status=500), Say())

    answer = ask(
        openai_client(provider, use_async=use_async), response_model=User, messages=QUESTION, max_retries=retrying
    )

    assert User(name="John", age=25) == answer
    assert (pauses, provider.calls) == ([5.0, 5.0], 3)


@pytest.mark.parametrize("bad", [True, "3", None, 1.5, tenacity.AsyncRetrying()], ids=lambda bad: type(bad).__name__)
def test_a_max_retries_that_cannot_work_costs_nothing(provider: FakeProvider, bad: Any) -> None:
    """Neither a bool nor text counts attempts, and a sync client cannot await."""
    with pytest.raises(TypeError, match="max_retries"):
        openai_client(provider).create(response_model=User, messages=QUESTION, max_retries=bad)

    assert provider.calls == 0


@sync_and_async
@pytest.mark.parametrize("cache", [None, AutoCache()], ids=["no cache", "cache"])
@pytest.mark.parametrize("given", [None, User(name="nobody", age=0)], ids=["None", "a user"])
def test_what_a_controller_gives_in_place_of_an_answer_is_given(
    provider: FakeProvider, use_async: bool, cache: AutoCache | None, given: User | None
) -> None:
    """`retry_error_callback` has the last word, as in tenacity; it is no answer, and nobody else's."""
    kind = tenacity.AsyncRetrying if use_async else tenacity.Retrying
    retrying = kind(stop=tenacity.stop_after_attempt(2), retry_error_callback=lambda _: given)
    client = openai_client(provider, use_async=use_async, cache=cache)
    provider.say("{}", "{}", Say())

    assert given is ask(client, response_model=User, messages=QUESTION, max_retries=retrying)
    assert provider.calls == 2
    if cache is not None:
        assert (len(cache), stats(cache).stores) == (0, 0)


PLAIN = {"response_model": None, "messages": QUESTION}


@every_client
@sync_and_async
@pytest.mark.parametrize("cached", [False, True], ids=["no cache", "cache"])
def test_a_controller_asks_for_a_plain_completion_again_too(
    provider: FakeProvider, make: Any, use_async: bool, cached: bool
) -> None:
    """An API error is what there is to retry there; a number counts none. What is raised is the SDK's own."""
    kind = tenacity.AsyncRetrying if use_async else tenacity.Retrying
    client = make(provider, use_async=use_async, **({"cache": AutoCache()} if cached else {}))
    provider.say(Say(status=400), Say(status=400), "hello", Say(status=400))

    completion = ask(client, **PLAIN, max_retries=kind(stop=tenacity.stop_after_attempt(3)))

    assert "hello" in json.dumps(dumped(completion, mode="json"))
    assert provider.calls == 3
    for max_retries, calls in ((5, 1), (kind(stop=tenacity.stop_after_attempt(2)), 2)):
        with pytest.raises(Exception, match=r"as told|400") as caught:
            ask(client, **PLAIN, max_retries=max_retries, temperature=calls / 10)
        assert not isinstance(caught.value, (InstructorRetryException, tenacity.RetryError))
        provider.requests.clear()


@sync_and_async
@pytest.mark.parametrize("cached", [False, True], ids=["no cache", "cache"])
def test_a_controller_opens_a_plain_stream_again_too(provider: FakeProvider, use_async: bool, cached: bool) -> None:
    """Until there is one: nothing can be given in its place."""
    kind = tenacity.AsyncRetrying if use_async else tenacity.Retrying
    client = openai_client(provider, use_async=use_async, **({"cache": AutoCache()} if cached else {}))
    provider.say(Say(status=500), Say(), Say(status=500))

    def events(attempts: int) -> Any:
        retrying = kind(stop=tenacity.stop_after_attempt(attempts), retry_error_callback=lambda _: "no stream")
        return _events(client, use_async, {**PLAIN, "max_retries": retrying, "seed": attempts})

    assert events(2)[-1].object == "chat.completion.chunk"
    assert provider.calls == 2
    with pytest.raises(openai.InternalServerError):
        events(1)


def _events(client: Any, use_async: bool, asked: dict[str, Any]) -> list[Any]:
    """What a plain stream gives."""

    async def later() -> list[Any]:
        return [event async for event in await client.create(**asked, stream=True)]

    return asyncio.run(later()) if use_async else list(client.create(**asked, stream=True))


@sync_and_async
def test_a_controller_sees_what_the_user_will_get(provider: FakeProvider, use_async: bool) -> None:
    """`retry_if_result` is asked about the user's object, and may want another one."""
    seen: list[Any] = []

    def too_old(user: User) -> bool:
        seen.append(user)
        return user.age > 18

    kind = tenacity.AsyncRetrying if use_async else tenacity.Retrying
    retrying = kind(stop=tenacity.stop_after_attempt(3), retry=tenacity.retry_if_result(too_old))
    provider.say(Say(), '{"name": "John", "age": 12}')

    user = ask(
        openai_client(provider, use_async=use_async), response_model=User, messages=QUESTION, max_retries=retrying
    )

    assert User(name="John", age=12) == user
    assert [User(name="John", age=25), user] == seen
    assert provider.calls == 2


def test_usage_is_the_total_of_all_attempts(provider: FakeProvider) -> None:
    """What a re-ask cost is counted on the result, and on the completion."""
    provider.say("{}", Say())

    user = openai_client(provider).create(response_model=User, messages=QUESTION)

    assert user._total_usage.total_tokens == 30
    assert user._raw_response.usage.total_tokens == 30


def test_summing_usage_counts_what_was_paid(provider: FakeProvider) -> None:
    """One paid call and two hits add up to one call; the completion keeps what it once cost."""
    client = openai_client(provider, cache=AutoCache())

    users = [client.create(response_model=User, messages=QUESTION) for _ in range(3)]

    assert sum(user._total_usage.total_tokens for user in users) == 15
    assert [user._raw_response.usage.total_tokens for user in users] == [15, 15, 15]


def test_a_token_budget_stops_what_would_cost_too_much(provider: FakeProvider) -> None:
    """Checked after a failed attempt; a call that answers at once is never stopped."""
    client = openai_client(provider)
    assert client.create(response_model=User, messages=QUESTION, token_budget=1)

    provider.say("{}")
    with pytest.raises(TokenBudgetExceeded) as caught:
        client.create(response_model=User, messages=QUESTION, max_retries=9, token_budget=30)

    assert (caught.value.budget, caught.value.n_attempts) == (30, 2)


def test_hooks_hear_every_attempt(provider: FakeProvider) -> None:
    """In order, the client's handlers before the call's."""
    heard: list[str] = []
    client = openai_client(provider)
    client.on("completion:kwargs", lambda **kwargs: heard.append(f"asks {kwargs['model']}"))
    client.on("parse:error", lambda error, attempt_number, **_: heard.append(f"parse {attempt_number}"))
    mine = Hooks()
    mine.on("completion:usage", lambda usage: heard.append(f"usage {usage.total_tokens}"))
    mine.on("completion:last_attempt", lambda error: heard.append("last"))
    provider.say("{}")

    with pytest.raises(InstructorRetryException):
        client.create(response_model=User, messages=QUESTION, max_retries=1, hooks=mine)

    assert heard == ["asks m", "usage 15", "parse 1", "asks m", "usage 30", "parse 2", "last"]


def test_context_feeds_templates_and_validators(provider: FakeProvider) -> None:
    """The same context; the messages given are not touched."""

    class Checked(User):
        @field_validator("name")
        @classmethod
        def known(cls, name: str, info: ValidationInfo) -> str:
            """Only names that the context knows."""
            assert name in (info.context or {})["known"]
            return name

    messages = [{"role": "user", "content": "Extract: {{ text }}"}]
    context = {"text": "John is 25 {{ known }}", "known": ["John"]}

    assert openai_client(provider).create(response_model=Checked, messages=messages, context=context)
    assert provider.requests[0]["messages"][0]["content"] == "Extract: John is 25 {{ known }}"
    assert messages[0]["content"] == "Extract: {{ text }}"


def test_strict_is_pydantics(provider: FakeProvider) -> None:
    """By default text is no number; with strict=False it may be one."""
    provider.say('{"name": "John", "age": "25"}')
    client = openai_client(provider)

    with pytest.raises(InstructorRetryException):
        client.create(response_model=User, messages=QUESTION, max_retries=0)
    assert client.create(response_model=User, messages=QUESTION, max_retries=0, strict=False).age == 25


def test_results_are_equal_hashable_picklable_and_copyable(provider: FakeProvider) -> None:
    """They are the user's own objects: 1.17.0's were not."""

    class Frozen(User, frozen=True):
        pass

    globals()["Frozen"] = Frozen
    Frozen.__qualname__ = "Frozen"
    client = openai_client(provider, cache=AutoCache())

    miss, hit = (client.create(response_model=Frozen, messages=QUESTION) for _ in range(2))

    assert {Frozen(name="John", age=25)} == {miss, hit}
    for user in (miss, hit):
        again = pickle.loads(pickle.dumps(user))  # noqa: S301  our own bytes
        assert (user, user._raw_response) == (again, again._raw_response)
        assert copy.deepcopy(user)._raw_response == user._raw_response
        assert {"name": "John", "age": 25} == user.model_dump() == dict(user)


def test_old_spellings_are_the_same_call(provider: FakeProvider) -> None:
    """`client.chat.completions.create` and `client.messages.create` are `client.create`."""
    client = openai_client(provider)

    for create in (client.create, client.chat.completions.create, client.messages.create):
        assert create(response_model=User, messages=QUESTION).name == "John"
    assert client.chat.completions.create_with_completion(response_model=User, messages=QUESTION)[1].id == "chatcmpl-1"


def test_calls_win_over_the_clients_defaults(provider: FakeProvider) -> None:
    """A default is what a call does not say."""
    client = openai_client(provider, temperature=0.5)

    client.create(response_model=User, messages=QUESTION)
    client.create(response_model=User, messages=QUESTION, temperature=0.1, model="other")

    assert [(r["model"], r["temperature"]) for r in provider.requests] == [("m", 0.5), ("other", 0.1)]


def test_streaming_a_whole_answer_is_refused_before_it_costs_anything(provider: FakeProvider) -> None:
    """1.17.0 made four calls and failed."""
    with pytest.raises(ConfigurationError, match="stream"):
        openai_client(provider).create(response_model=User, messages=QUESTION, stream=True)

    assert provider.calls == 0


PIECES = ["Hel", "lo"]


def event(piece: str) -> str:
    """A piece of a plain completion, as a server sends it."""
    choice = {"index": 0, "delta": {"role": "assistant", "content": piece}, "finish_reason": None}
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n"


STREAM = Say(body="".join([*map(event, PIECES), "data: [DONE]\n\n"]).encode())


def test_a_plain_stream_is_the_sdks_own(provider: FakeProvider) -> None:
    """A stream can be read once: without a cache each call has its own, of its own request."""
    client = openai_client(provider)
    provider.say(STREAM)

    for _ in range(2):
        with client.create(messages=QUESTION, stream=True) as stream:
            assert type(stream) is openai.Stream
            assert [chunk.choices[0].delta.content for chunk in stream] == PIECES

    assert provider.calls == 2


def test_a_plain_stream_may_be_asynchronous(provider: FakeProvider) -> None:
    """The same of an asynchronous client."""
    client = openai_client(provider, use_async=True)
    provider.say(STREAM)

    async def main() -> list[str | None]:
        async with await client.create(messages=QUESTION, stream=True) as stream:
            assert type(stream) is openai.AsyncStream
            return [chunk.choices[0].delta.content async for chunk in stream]

    assert [asyncio.run(main()), asyncio.run(main())] == [PIECES, PIECES]
    assert provider.calls == 2


def test_a_patched_client_streams_too(provider: FakeProvider) -> None:
    """`patch` leaves a program that streams what it had."""
    client = instructor.patch(openai.OpenAI(api_key="k", base_url=f"{provider.url}/v1", max_retries=0))
    provider.say(STREAM)

    with client.chat.completions.create(model="m", messages=QUESTION, stream=True) as stream:
        assert [chunk.choices[0].delta.content for chunk in stream] == PIECES


def test_a_patched_function_takes_a_response_model(provider: FakeProvider) -> None:
    """`patch` on a client and on a function, and the cache with them; one retry by default."""
    raw = openai.OpenAI(api_key="k", base_url=f"{provider.url}/v1")
    function = instructor.patch(create=raw.chat.completions.create)
    client = instructor.patch(openai.OpenAI(api_key="k", base_url=f"{provider.url}/v1"))
    cache = AutoCache()

    for create in (function, client.chat.completions.create):
        assert User(name="John", age=25) == create(model="m", messages=QUESTION, response_model=User, cache=cache)
    provider.say("{}")
    with pytest.raises(InstructorRetryException) as caught:
        function(model="m", messages=QUESTION, response_model=User)
    assert caught.value.n_attempts == 2


def test_instructor_can_be_made_of_a_patched_function(provider: FakeProvider) -> None:
    """The constructor that users know."""
    raw = openai.OpenAI(api_key="k", base_url=f"{provider.url}/v1")
    client = instructor.Instructor(client=raw, create=instructor.patch(create=raw.chat.completions.create), model="m")

    assert client.create(response_model=User, messages=QUESTION).age == 25
    assert client.models is raw.models


@pytest.mark.parametrize("cache", [None, AutoCache()], ids=["no cache", "cache"])
def test_a_wrapper_around_a_patched_function_is_called(provider: FakeProvider, cache: AutoCache | None) -> None:
    """`functools.wraps` makes a rate limiter look like what it wraps; it is still the limiter that is asked."""
    raw = openai.OpenAI(api_key="k", base_url=f"{provider.url}/v1", max_retries=0)
    patched = instructor.patch(create=raw.chat.completions.create)
    passed: list[str] = []

    @functools.wraps(patched)
    def limited(*args: Any, **kwargs: Any) -> Any:
        passed.append(kwargs["model"])
        return patched(*args, **kwargs)

    client = instructor.Instructor(client=None, create=limited, model="m", cache=cache)

    assert client.create(response_model=User, messages=QUESTION).age == 25
    assert (passed, provider.calls) == (["m"], 1)


@every_client
@pytest.mark.parametrize(
    "option", [{"max_retries": 0}, {"strict": False}, {"context": {}}, {"token_budget": 9}], ids=lambda o: next(iter(o))
)
def test_what_belongs_to_a_call_is_refused_as_a_default(
    provider: FakeProvider, make: Any, option: dict[str, Any]
) -> None:
    """It would be sent to the provider, or be passed over in silence."""
    with pytest.raises(ConfigurationError, match=f"{next(iter(option))}.*create"):
        make(provider, **option)

    assert provider.calls == 0


class Unreadable:
    """What some provider says, and nobody understands."""

    @property
    def choices(self) -> Any:
        """Nothing to choose from."""
        raise RuntimeError


@pytest.mark.parametrize("said", [Mock(), Unreadable(), None], ids=lambda said: type(said).__name__)
@pytest.mark.parametrize("cached", [False, True], ids=["no cache", "cache"])
def test_a_plain_completion_that_cannot_be_read_is_given_as_it_came(said: Any, cached: bool) -> None:
    """It has been paid for, whatever it is; and it is not remembered."""
    sdk, cache = Mock(), AutoCache() if cached else None
    sdk.chat.completions.create = asked = Mock(return_value=said)
    client = instructor.patch(sdk)

    for _ in range(2):
        assert said is client.chat.completions.create(model="m", messages=QUESTION, cache=cache)

    assert asked.call_count == 2
    if cache is not None:
        assert (len(cache), stats(cache).misses, stats(cache).errors) == (0, 2, 0)


def test_what_costs_nothing_costs_nothing_in_every_detail() -> None:
    """Google counts tokens by modality, in a list: nothing is left of them either."""
    usage = google_types.GenerateContentResponseUsageMetadata(
        prompt_token_count=5,
        prompt_tokens_details=[google_types.ModalityTokenCount(modality="TEXT", token_count=5)],
    )

    free = nothing(usage)

    assert (free.prompt_token_count, free.prompt_tokens_details[0].token_count) == (0, 0)
    assert free.prompt_tokens_details[0].modality is google_types.MediaModality.TEXT
    assert usage.prompt_tokens_details[0].token_count == 5


def test_a_deprecated_mode_means_its_successor(provider: FakeProvider) -> None:
    """With one warning a process."""
    instructor.mode.reset_deprecated_mode_warnings()
    with pytest.warns(DeprecationWarning, match="Mode.FUNCTIONS is deprecated"):
        client = openai_client(provider, mode=Mode.FUNCTIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        openai_client(provider, mode=Mode.FUNCTIONS)

    assert Mode.TOOLS is client.mode


def test_a_client_says_what_it_asks(provider: FakeProvider) -> None:
    """Its provider, its model and its mode, and nothing secret."""
    assert "<Instructor of openai, model='m', mode=TOOLS>" == repr(openai_client(provider))


@pytest.mark.parametrize("use_async", [False, True])
@pytest.mark.parametrize("how", [{}, {"response_model": None}, {"stream": True, "response_model": list[User]}], ids=str)
@pytest.mark.parametrize(
    ("wrong", "right"), [("cache_tll", "cache_ttl"), ("chace", "cache"), ("max_retry", "max_retries")]
)
def test_a_misspelt_argument_is_said_to_be_one(
    provider: FakeProvider, use_async: bool, how: dict[str, Any], wrong: str, right: str
) -> None:
    """Where the SDK does not know it either; what is like none of ours is the SDK's own error, as ever."""
    client = openai_client(provider, use_async=use_async, cache=AutoCache())
    asking = {"response_model": User, "messages": QUESTION, **how}

    with pytest.raises(ConfigurationError, match=f"'{wrong}'. Did you mean '{right}'") as caught:
        heard(ask(client, **asking, **{wrong: 1}))
    with pytest.raises((TypeError, InstructorRetryException), match="unexpected keyword argument 'weight'"):
        heard(ask(client, **asking, weight=1))

    assert caught.value.__cause__ is not None
    assert provider.calls == 0
