"""Streams, end to end: what is shown and when, what goes wrong on the way, and every stream again from the cache."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, get_args

import openai
import pytest
import tenacity
from fake_provider import FakeProvider, Say, wire
from fake_streams import streamed
from flavours import CLIENTS, ask, openai_client, responses_client, ways
from openai.types import responses
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel, ValidationError, field_validator

import instructor
from instructor import Mode
from instructor.cache import AutoCache, BaseCache, DiskCache
from instructor.cache.shelf import shelf_of, stats
from instructor.dsl.iterable import IterableModel
from instructor.dsl.partial import Partial
from instructor.exceptions import (
    ConfigurationError,
    IncompleteOutputException,
    InstructorRetryException,
    RefusalError,
)

QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": "Extract: John is 25, Ann is 31"}]}
TOOLS = [{"type": "function", "function": {"name": "User", "parameters": {}}}]
MODES = [Mode.TOOLS, Mode.JSON, Mode.JSON_SCHEMA, Mode.MD_JSON]
every_way = ways(MODES)


class User(BaseModel):
    """Somebody."""

    name: str
    age: int


JOHN, ANN = User(name="John", age=25), User(name="Ann", age=31)
BOTH = '{"tasks": [{"name": "John", "age": 25}, {"name": "Ann", "age": 31}]}'


def heard(stream: Any) -> list[Any]:
    """Everything that a stream gives, of either kind."""
    return asyncio.run(_heard(stream)) if hasattr(stream, "__aiter__") else list(stream)


async def _heard(stream: Any) -> list[Any]:
    return [item async for item in stream]


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def use_async(request: pytest.FixtureRequest) -> bool:
    """Both clients."""
    return bool(request.param)


@pytest.fixture(params=CLIENTS)
def make(request: pytest.FixtureRequest) -> Any:
    """A client of every flavour."""
    return CLIENTS[request.param]


both_apis = pytest.mark.parametrize("make", ["openai", "responses"], indirect=True)


@every_way
def test_partials_grow_into_the_answer(provider: FakeProvider, make: Any, mode: Mode, use_async: bool) -> None:
    """Every flavour and mode: snapshots of the user's class, the last of which is the answer itself."""
    client = make(provider, mode=mode, use_async=use_async)

    shown = heard(client.create_partial(response_model=User, **QUESTION))

    assert shown[-1] == JOHN
    assert type(shown[-1]) is User
    assert all(isinstance(snapshot, User) for snapshot in shown)
    assert provider.requests[0].get("stream", True) is True


@every_way
def test_items_come_one_by_one(provider: FakeProvider, make: Any, mode: Mode, use_async: bool) -> None:
    """Every flavour and mode: the items of a list, as objects of the user's class."""
    provider.say(BOTH)
    client = make(provider, mode=mode, use_async=use_async)

    assert heard(client.create_iterable(response_model=User, **QUESTION)) == [JOHN, ANN]


@both_apis
@pytest.mark.parametrize("response_model", [Iterable[User], list[User]])
def test_create_streams_when_told_to(provider: FakeProvider, make: Any, response_model: Any, use_async: bool) -> None:
    """`create(stream=True)` is `create_iterable` for lists, and `create_partial` for partials."""
    provider.say(BOTH, '{"name": "John", "age": 25}')
    client = make(provider, use_async=use_async)

    items = heard(ask(client, response_model=response_model, stream=True, **QUESTION))
    snapshots = heard(ask(client, response_model=Partial[User], stream=True, **QUESTION))

    assert items == [JOHN, ANN]
    assert snapshots[-1] == JOHN


def test_a_model_of_tasks_streams_its_tasks(provider: FakeProvider, use_async: bool) -> None:
    """`IterableModel` is a list, too: streamed, replayed, and whole."""
    provider.say(BOTH)
    client, model = openai_client(provider, use_async=use_async, cache=AutoCache()), IterableModel(User)

    shown = [heard(ask(client, response_model=model, stream=True, **QUESTION)) for _ in range(2)]
    shown.append(heard(client.create_iterable(response_model=model, **QUESTION)))

    assert shown == [[JOHN, ANN]] * 3
    assert ask(client, response_model=model, **QUESTION).tasks == [JOHN, ANN]
    assert provider.calls == 1


def test_a_single_answer_is_no_stream(provider: FakeProvider) -> None:
    """`stream=True` with a plain model says what to write instead, before anything is asked."""
    client = openai_client(provider)

    with pytest.raises(ConfigurationError, match=r"create_partial"):
        client.create(response_model=User, stream=True, **QUESTION)

    assert provider.calls == 0


@both_apis
@pytest.mark.parametrize("cached", [False, True], ids=["uncached", "cached"])
def test_the_first_item_is_there_before_the_last_is_said(provider: FakeProvider, make: Any, cached: bool) -> None:
    """The sync client really streams: the model waits until we have seen its first item."""
    provider.say(BOTH)
    provider.pace = threading.Semaphore(0)
    stream = make(provider, cache=AutoCache() if cached else None).create_iterable(response_model=User, **QUESTION)
    provider.pace.release(10)  # two or three that say nothing, and 49 characters: all of John

    first, sent = next(stream), provider.sent
    provider.pace.release(100)

    assert (first, list(stream)) == (JOHN, [ANN])
    assert sent < 12


@both_apis
@pytest.mark.parametrize("cached", [False, True], ids=["uncached", "cached"])
def test_tasks_too_have_the_first_item_before_the_last_is_said(provider: FakeProvider, make: Any, cached: bool) -> None:
    """The async client, too."""
    provider.say(BOTH)
    pace = provider.pace = threading.Semaphore(0)
    cache = AutoCache() if cached else None

    async def main() -> tuple[Any, list[Any], int]:
        stream = make(provider, use_async=True, cache=cache).create_iterable(response_model=User, **QUESTION)
        pace.release(10)
        first, sent = await anext(stream), provider.sent
        pace.release(100)
        return first, [item async for item in stream], sent

    first, rest, sent = asyncio.run(main())
    assert (first, rest) == (JOHN, [ANN])
    assert sent < 12


# The cache.


@every_way
def test_a_stream_is_replayed(provider: FakeProvider, make: Any, mode: Mode, use_async: bool) -> None:
    """Asked again, the same items in the same order, without a call; and `create` has the answer too."""
    provider.say(BOTH)
    client = make(provider, mode=mode, use_async=use_async, cache=AutoCache())

    first = heard(client.create_iterable(response_model=User, **QUESTION))
    again = heard(client.create_iterable(response_model=User, **QUESTION))
    whole = ask(client, response_model=list[User], **QUESTION)

    assert first == again == whole == [JOHN, ANN]
    assert provider.calls == 1


@every_way
def test_partials_are_replayed(provider: FakeProvider, make: Any, mode: Mode, use_async: bool) -> None:
    """Every snapshot comes again; `create` has the answer, with the completion of the SDK's own type."""
    client = make(provider, mode=mode, use_async=use_async, cache=AutoCache())

    first = heard(client.create_partial(response_model=User, **QUESTION))
    again = heard(client.create_partial(response_model=User, **QUESTION))
    user, completion = ask(client, method="create_with_completion", response_model=User, **QUESTION)

    assert (first, first[-1]) == (again, JOHN)
    assert [type(each) for each in first] == [type(each) for each in again]
    assert user == JOHN
    assert type(completion).__name__ == client.endpoint.row.completion.rpartition(":")[2]
    assert first[-1]._raw_response == again[-1]._raw_response == completion
    assert provider.calls == 1


class Nothing(BaseModel):
    """There is nothing to say."""


@every_way
def test_an_empty_object_is_replayed(provider: FakeProvider, make: Any, mode: Mode, use_async: bool) -> None:
    """What is only found at the end is shown as it is replayed."""
    provider.say("{}")
    client = make(provider, mode=mode, use_async=use_async, cache=AutoCache())

    first, again = (heard(client.create_partial(response_model=Nothing, **QUESTION)) for _ in range(2))

    assert first == again
    assert [type(each) for each in first] == [type(each) for each in again]
    assert (first[-1], provider.calls) == (Nothing(), 1)


def test_what_create_was_told_is_replayed_as_a_stream(provider: FakeProvider, make: Any, use_async: bool) -> None:
    """The other way round."""
    client = make(provider, use_async=use_async, cache=AutoCache())

    ask(client, response_model=User, **QUESTION)
    shown = heard(client.create_partial(response_model=User, **QUESTION))

    assert shown[-1] == JOHN
    assert provider.calls == 1


@both_apis
def test_another_process_replays_it(provider: FakeProvider, make: Any, tmp_path: Path, use_async: bool) -> None:
    """A new client with a reopened directory."""
    provider.say(BOTH)
    shown = []
    for _ in range(2):
        with DiskCache(tmp_path) as cache:
            client = make(provider, use_async=use_async, cache=cache)
            shown.append(heard(client.create_iterable(response_model=User, **QUESTION)))

    assert shown == [[JOHN, ANN]] * 2
    assert provider.calls == 1


def test_a_replay_that_todays_model_refuses_is_a_miss(provider: FakeProvider) -> None:
    """Nothing of an entry is shown before all of it is known to fit."""
    provider.say(BOTH)
    client = openai_client(provider, cache=AutoCache())
    refusing = False

    class Strict(BaseModel):
        """Somebody."""

        name: str

        @field_validator("name")
        @classmethod
        def _not_ann(cls, name: str) -> str:
            if refusing and name == "Ann":
                raise ValueError("not Ann")
            return name

    list(client.create_iterable(response_model=Strict, **QUESTION))
    refusing = True
    provider.say('{"tasks": [{"name": "Bob"}]}')

    assert [each.name for each in client.create_iterable(response_model=Strict, **QUESTION)] == ["Bob"]
    assert provider.calls == 2


# The SDK's own events.


def test_without_a_model_the_events_are_the_sdks(provider: FakeProvider, make: Any, use_async: bool) -> None:
    """Replayed as the SDK's own event types, equal and in order; and the completion is there as well."""
    client = make(provider, use_async=use_async, cache=AutoCache())

    first = heard(ask(client, response_model=None, stream=True, **QUESTION))
    again = heard(ask(client, response_model=None, stream=True, **QUESTION))
    whole = ask(client, response_model=None, **QUESTION)

    assert first == again
    assert [type(event) for event in first] == [type(event) for event in again]
    assert {type(event) for event in first} <= set(_kinds(client.endpoint.row.event))
    assert type(whole).__name__ == client.endpoint.row.completion.rpartition(":")[2]
    assert client.endpoint.dialect.read(whole).text == '{"name": "John", "age": 25}'
    assert provider.calls == 1


def _kinds(name: str) -> tuple[type, ...]:
    """The class of that name, or the members of the union."""
    kind = resolve_name(name)
    return (kind,) if isinstance(kind, type) else get_args(get_args(kind)[0])


def test_events_of_a_union_come_back_as_its_members(provider: FakeProvider, use_async: bool) -> None:
    """A call in the Responses API: each event of the class that the SDK has for it."""
    client = responses_client(provider, use_async=use_async, cache=AutoCache())
    question = {**QUESTION, "tools": [{"type": "function", "name": "User", "parameters": {}}]}

    first, again = (heard(ask(client, response_model=None, stream=True, **question)) for _ in range(2))

    kinds = [
        *(responses.ResponseCreatedEvent, responses.ResponseInProgressEvent, responses.ResponseOutputItemAddedEvent),
        *[responses.ResponseFunctionCallArgumentsDeltaEvent] * 4,
        *(responses.ResponseFunctionCallArgumentsDoneEvent, responses.ResponseOutputItemDoneEvent),
        responses.ResponseCompletedEvent,
    ]
    assert kinds == [type(event) for event in first] == [type(event) for event in again]
    assert (first, provider.calls) == (again, 1)


def test_without_a_model_and_a_cache_the_stream_is_the_sdks(provider: FakeProvider) -> None:
    """Its own object, with all that it can do."""
    stream = openai_client(provider).create(response_model=None, stream=True, **QUESTION)

    with stream:
        events = list(stream)

    assert type(stream) is openai.Stream
    assert {type(event) for event in events} == {ChatCompletionChunk}


def test_a_stream_of_events_is_closed_as_the_sdks_is(provider: FakeProvider) -> None:
    """By `with`, and by `close`: the connection ends, and nothing is stored."""
    provider.pace = threading.Semaphore(3)
    cache = AutoCache()

    with openai_client(provider, cache=cache).create(response_model=None, stream=True, **QUESTION) as stream:
        assert type(next(stream)) is ChatCompletionChunk

    assert provider.gone.wait(10)
    assert list(stream) == []
    assert stats(cache).stores == 0


def test_a_stream_of_events_is_closed_as_the_sdks_asynchronous_one_is(provider: FakeProvider) -> None:
    """By `async with`."""
    provider.pace = threading.Semaphore(3)
    client = openai_client(provider, use_async=True, cache=AutoCache())

    async def main() -> Any:
        async with await client.create(response_model=None, stream=True, **QUESTION) as stream:
            return await anext(stream)

    assert type(asyncio.run(main())) is ChatCompletionChunk
    assert provider.gone.wait(10)


def test_a_plain_completion_is_no_stream(provider: FakeProvider) -> None:
    """Events cannot be made of a completion: the stream is asked for, and then answers both."""
    client = openai_client(provider, cache=AutoCache())

    client.create(response_model=None, **QUESTION)
    list(client.create(response_model=None, stream=True, **QUESTION))
    list(client.create(response_model=None, stream=True, **QUESTION))
    whole = client.create(response_model=None, **QUESTION)

    assert type(whole) is ChatCompletion
    assert provider.calls == 2


def test_who_changes_an_event_changes_no_other(provider: FakeProvider) -> None:
    """What is stored is what came, whatever was done to it."""
    client = openai_client(provider, cache=AutoCache())

    for event in client.create(response_model=None, stream=True, **QUESTION):
        event.id = "changed"

    assert {event.id for event in client.create(response_model=None, stream=True, **QUESTION)} == {"chatcmpl-1"}


# What goes wrong.

BROKEN = {
    "cut": (Say(BOTH, events=10), IncompleteOutputException),
    "out of tokens": (Say(BOTH[:-9], finish="length"), IncompleteOutputException),
    "refused": (Say(BOTH, refusal="I had rather not"), RefusalError),
    "filtered": (Say(BOTH, finish="content_filter"), RefusalError),
}


@pytest.mark.fault("G4")
@pytest.mark.parametrize("wrong", BROKEN)
@both_apis
def test_a_stream_that_breaks_off_raises(provider: FakeProvider, make: Any, wrong: str, use_async: bool) -> None:
    """What was shown stands, the rest raises, and nothing is stored."""
    say, error = BROKEN[wrong]
    provider.say(say)
    cache, shown = AutoCache(), []
    client = make(provider, use_async=use_async, cache=cache)

    with pytest.raises(error):
        _show(client.create_iterable(response_model=User, **QUESTION), shown)

    assert shown[:1] == ([] if make is responses_client and say.refusal else [JOHN])  # it refuses or calls, not both
    assert (stats(cache).stores, provider.calls, len(shelf_of(cache).flights)) == (0, 1, 0)


def _show(stream: Any, shown: list[Any]) -> None:
    async def show() -> None:
        async for item in stream:
            shown.append(item)  # noqa: PERF401  what came before an error counts

    if hasattr(stream, "__aiter__"):
        asyncio.run(show())
    else:
        for item in stream:
            shown.append(item)  # noqa: PERF402  the same


@pytest.mark.fault("G4")
@pytest.mark.parametrize("wrong", BROKEN)
def test_events_of_a_stream_that_breaks_off_are_not_stored(provider: FakeProvider, make: Any, wrong: str) -> None:
    """They are given as they came, and the next one asks anew."""
    provider.say(BROKEN[wrong][0], BOTH)
    client = make(provider, cache=AutoCache())

    for _ in range(3):
        assert heard(client.create(response_model=None, stream=True, **QUESTION)) != []

    assert provider.calls == 2


FAILURE = {"code": "server_error", "message": "as told", "param": None}
FAILURES = {
    "failed": {"type": "response.failed", "response": {"id": "r", "object": "response", "status": "failed"}},
    "error": {"type": "error", **FAILURE},
}
FAILURES["failed"]["response"] |= {"error": FAILURE, "output": []}


@pytest.mark.fault("G4")
@pytest.mark.parametrize("wrong", FAILURES)
def test_a_response_that_fails_raises(provider: FakeProvider, wrong: str, use_async: bool) -> None:
    """In the middle of it, in the provider's words; what was shown stands."""
    begun = [*streamed("/responses", {}, wire("/responses", {"model": "m"}, Say(BOTH)))][:-4]
    provider.say(Say(body=b"".join(begun) + f"event: {wrong}\ndata: {json.dumps(FAILURES[wrong])}\n\n".encode()))
    cache, shown = AutoCache(), []
    client = responses_client(provider, use_async=use_async, cache=cache)

    with pytest.raises(InstructorRetryException, match="as told"):
        _show(client.create_iterable(response_model=User, **QUESTION), shown)

    assert shown == [JOHN, ANN]
    assert (stats(cache).stores, provider.calls, len(shelf_of(cache).flights)) == (0, 1, 0)


@pytest.mark.fault("G4")
def test_an_error_in_mid_stream_raises(provider: FakeProvider, make: Any, use_async: bool) -> None:
    """A server's error event, after some of the answer."""
    whole = b'data: {"choices": [{"index": 0, "delta": {"content": "{"}}]}\n\n'
    provider.say(Say(body=whole + b'event: error\ndata: {"error": {"message": "overloaded", "code": 503}}\n\n'))
    cache = AutoCache()
    client = make(provider, mode=Mode.JSON, use_async=use_async, cache=cache)

    with pytest.raises((InstructorRetryException, IncompleteOutputException)):
        heard(client.create_partial(response_model=User, **QUESTION))

    assert (stats(cache).stores, provider.calls, len(shelf_of(cache).flights)) == (0, 1, 0)


@both_apis
def test_what_does_not_fit_is_asked_again_if_nothing_was_shown(
    provider: FakeProvider, make: Any, use_async: bool
) -> None:
    """The first item is wrong: the model is told, and its second answer streams."""
    provider.say('{"tasks": [{"name": "John"}]}', BOTH)
    cache = AutoCache()
    client = make(provider, use_async=use_async, cache=cache)

    first = heard(client.create_iterable(response_model=User, **QUESTION))
    again = heard(client.create_iterable(response_model=User, **QUESTION))

    assert first == again == [JOHN, ANN]
    assert provider.calls == 2
    assert "age" in json.dumps(provider.requests[1].get("messages", provider.requests[1].get("input"))[-1])


@both_apis
def test_what_does_not_fit_raises_if_something_was_shown(provider: FakeProvider, make: Any, use_async: bool) -> None:
    """The second item is wrong: John stays shown, and there is no other attempt."""
    provider.say('{"tasks": [{"name": "John", "age": 25}, {"name": "Ann"}]}', BOTH)
    cache, errors = AutoCache(), []
    client = make(provider, use_async=use_async, cache=cache)
    client.on("parse:error", lambda error, **_: errors.append(error))

    with pytest.raises(InstructorRetryException) as raised:
        heard(client.create_iterable(response_model=User, **QUESTION))

    assert isinstance(raised.value.__cause__, ValidationError)
    assert len(errors) == 1
    assert (stats(cache).stores, provider.calls) == (0, 1)


def test_attempts_that_never_fit_raise(provider: FakeProvider) -> None:
    """As in `create`, after as many attempts."""
    provider.say('{"tasks": [{"name": "John"}]}')

    with pytest.raises(InstructorRetryException) as raised:
        list(openai_client(provider).create_iterable(response_model=User, max_retries=2, **QUESTION))

    assert (raised.value.n_attempts, provider.calls) == (3, 3)


def test_a_server_that_fails_raises(provider: FakeProvider, make: Any, use_async: bool) -> None:
    """The SDK's error is the cause."""
    provider.say(Say(status=500))
    cache = AutoCache()
    client = make(provider, use_async=use_async, cache=cache)

    with pytest.raises(InstructorRetryException):
        heard(client.create_partial(response_model=User, **QUESTION))

    assert (stats(cache).stores, len(shelf_of(cache).flights)) == (0, 0)


@both_apis
def test_an_abandoned_loop_closes_the_connection(provider: FakeProvider, make: Any) -> None:
    """And stores nothing."""
    provider.say(BOTH)
    provider.pace = threading.Semaphore(10)
    cache = AutoCache()

    for user in make(provider, cache=cache).create_iterable(response_model=User, **QUESTION):
        assert user == JOHN
        break

    assert provider.gone.wait(10)
    assert (stats(cache).stores, len(shelf_of(cache).flights)) == (0, 0)


@both_apis
def test_an_abandoned_loop_of_a_task_closes_the_connection(provider: FakeProvider, make: Any) -> None:
    """And stores nothing; nothing is left of its task."""
    provider.say(BOTH)
    provider.pace = threading.Semaphore(10)
    cache = AutoCache()

    async def main() -> None:
        stream = make(provider, use_async=True, cache=cache).create_iterable(response_model=User, **QUESTION)
        async for user in stream:
            assert user == JOHN
            break
        await stream.aclose()

    asyncio.run(main())
    assert provider.gone.wait(10)
    assert (stats(cache).stores, len(shelf_of(cache).flights)) == (0, 0)


def test_hooks_hear_of_a_stream_once(provider: FakeProvider) -> None:
    """Its arguments, its folded completion, its usage; nothing on a hit."""
    client, heard_of = openai_client(provider, cache=AutoCache()), []
    for name in ("completion:kwargs", "completion:response", "completion:usage", "completion:error"):
        client.on(name, lambda *args, _name=name, **_: heard_of.append((_name, *(type(each) for each in args))))

    for _ in range(2):
        list(client.create_partial(response_model=User, **QUESTION))

    assert [name for name, *_ in heard_of] == ["completion:kwargs", "completion:response", "completion:usage"]
    assert heard_of[1][1] is ChatCompletion


class Failing(BaseCache):
    """A store that is down."""

    def get(self, key: str) -> Any:
        """Fail."""
        raise OSError(key)

    def set(self, key: str, value: Any, ttl: int | None = None) -> None:
        """Fail."""
        raise OSError(key, value, ttl)


@pytest.mark.filterwarnings("ignore::instructor.cache.CacheWarning")
def test_a_store_that_is_down_costs_nobody_the_stream(provider: FakeProvider, use_async: bool) -> None:
    """Each time is a miss."""
    provider.say(BOTH)
    client = openai_client(provider, use_async=use_async, cache=Failing())

    shown = [heard(client.create_iterable(response_model=User, **QUESTION)) for _ in range(2)]

    assert shown == [[JOHN, ANN]] * 2
    assert provider.calls == 2


@pytest.mark.parametrize("model", [User, Partial[User], Iterable[User], None], ids=str)
def test_create_with_completion_is_no_stream(provider: FakeProvider, model: Any, use_async: bool) -> None:
    """It says what to do instead, before anything is asked."""
    client = openai_client(provider, use_async=use_async, cache=AutoCache())

    with pytest.raises(ConfigurationError, match="stream=True"):
        ask(client, method="create_with_completion", response_model=model, stream=True, **QUESTION)

    assert provider.calls == 0


@pytest.mark.parametrize("method", ["create_partial", "create_iterable"])
def test_a_stream_keeps_no_budget(provider: FakeProvider, method: str) -> None:
    """It says so, before anything is asked."""
    with pytest.raises(ConfigurationError, match="token_budget"):
        getattr(openai_client(provider), method)(response_model=User, token_budget=5, **QUESTION)

    assert provider.calls == 0


@pytest.mark.parametrize("fallback", [None, "none found", JOHN], ids=str)
def test_what_a_controller_falls_back_on_is_one_item(provider: FakeProvider, fallback: Any) -> None:
    """The user's own `retry_error_callback` gives what the stream gives instead."""
    provider.say('{"tasks": [{"name": "John"}]}')
    control = tenacity.Retrying(stop=tenacity.stop_after_attempt(2), retry_error_callback=lambda _: fallback)

    shown = list(openai_client(provider).create_iterable(response_model=User, max_retries=control, **QUESTION))

    assert shown == [fallback]
    assert provider.calls == 2


def test_a_provider_that_knows_no_streams_has_answered_all_the_same(provider: FakeProvider, use_async: bool) -> None:
    """It was paid for: the answer is shown when it is there, and remembered."""
    whole = ChatCompletion.model_validate(wire("/chat/completions", {"model": "m", "tools": TOOLS}, Say(BOTH)))
    calls = []

    def create(**kwargs: Any) -> Any:
        calls.append(kwargs)
        return whole

    async def create_async(**kwargs: Any) -> Any:
        return create(**kwargs)

    patched, cache = instructor.patch(create=create_async if use_async else create), AutoCache()
    shown = []
    for _ in range(2):
        answer = patched(model="m", response_model=list[User], stream=True, cache=cache, **QUESTION)
        shown.append(heard(asyncio.run(answer) if use_async else answer))

    assert shown == [[JOHN, ANN]] * 2
    assert len(calls) == 1


def test_a_users_function_may_stream_from_a_list(provider: FakeProvider, use_async: bool) -> None:
    """Whatever it gives, of whatever kind, is heard event by event."""
    events = list(openai_client(provider).create(response_model=None, stream=True, tools=TOOLS, **QUESTION))

    async def create(**_: Any) -> Any:
        return events

    async def create_each(**_: Any) -> Any:
        for event in events:
            yield event

    patched = instructor.patch(create=create_each if use_async else create)

    async def main() -> list[Any]:
        stream = await patched(model="m", response_model=Partial[User], stream=True, **QUESTION)
        return [item async for item in stream]

    assert asyncio.run(main())[-1] == JOHN


def test_a_question_that_changes_before_its_stream_begins_is_not_remembered(provider: FakeProvider) -> None:
    """It is asked as it is then."""
    cache, messages = AutoCache(), [{"role": "user", "content": "first"}]
    client = openai_client(provider, cache=cache)

    for model in (Partial[User], None):
        stream = client.create(response_model=model, stream=True, messages=messages)
        messages[0]["content"] += " and more"
        assert list(stream)

    assert stats(cache).stores == 0
    assert [sent["messages"][0]["content"] for sent in provider.requests] == [
        "first and more",
        "first and more and more",
    ]


def test_a_broken_stream_does_not_advise_more_tokens(provider: FakeProvider) -> None:
    """It broke off; who ran out of tokens is told something else."""
    provider.say(Say(BOTH, events=11), Say(BOTH, finish="length"))
    client = openai_client(provider)

    for words in ("broke off", "max_tokens"):
        with pytest.raises(IncompleteOutputException, match=words):
            list(client.create_iterable(response_model=User, **QUESTION))


def test_options_of_a_stream_are_part_of_what_its_events_are(provider: FakeProvider) -> None:
    """Who asks for usage gets it, and who does not is not given events that they do not expect."""
    client, how = openai_client(provider, cache=AutoCache()), {"stream_options": {"include_usage": True}}

    for options in ({}, how, {}, how):
        assert list(client.create(response_model=None, stream=True, **options, **QUESTION))

    assert [request.get("stream_options") for request in provider.requests] == [None, how["stream_options"]]


def test_a_list_needs_a_type(provider: FakeProvider, use_async: bool) -> None:
    """`create_iterable` without one says so, before anything is asked."""
    with pytest.raises(TypeError, match="needs a response_model"):
        openai_client(provider, use_async=use_async).create_iterable(**QUESTION)

    assert provider.calls == 0


def test_hooks_hear_that_it_is_a_stream(provider: FakeProvider) -> None:
    """The arguments are those of the request."""
    client, heard_of = openai_client(provider), []
    client.on("completion:kwargs", lambda **kwargs: heard_of.append(kwargs["stream"]))

    list(client.create_partial(response_model=User, **QUESTION))

    assert heard_of == [True]
