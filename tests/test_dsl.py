"""The shapes that users name: several models at once, maybes, citations, plain values."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Union

import pytest
from fake_provider import FakeProvider, Say
from flavours import CLIENTS, ask
from pydantic import BaseModel, RootModel, ValidationInfo, field_validator
from typing_extensions import TypedDict

import instructor
from instructor import Mode
from instructor.cache import AutoCache, make_cache_key
from instructor.dsl.response_list import ListResponse
from instructor.exceptions import ConfigurationError, InstructorRetryException

ASK: list[dict[str, Any]] = [{"role": "user", "content": "Weather in Łódź and Paris, and the news."}]
DIALECTS = ("openai", "anthropic", "google")
every_dialect = pytest.mark.parametrize("name", DIALECTS)
sync_and_async = pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])


class Weather(BaseModel):
    """The weather in a city."""

    city: str


class News(BaseModel):
    """What is new."""

    topic: str
    limit: int = 3


class Shout(BaseModel):
    """A word, as the context would have it."""

    word: str

    @field_validator("word")
    @classmethod
    def _as_told(cls, word: str, info: ValidationInfo) -> str:
        return word + (info.context or {}).get("ending", "")


class Place(TypedDict):
    """Somewhere."""

    city: str


class Numbers(RootModel[list[int]]):
    """Some numbers."""


Both = Iterable[Union[Weather, News]]
LODZ, PARIS = ("Weather", '{"city": "Łódź"}'), ("Weather", '{"city": "Paris"}')
NEWS, WRONG, ELSE = ("News", '{"topic": "Ada"}'), ("News", '{"topic": 3}'), ("Horoscope", '{"sign": "?"}')
EXPECTED = [Weather(city="Łódź"), News(topic="Ada"), Weather(city="Paris")]


def parallel(name: str, provider: FakeProvider, *, use_async: bool = False, **kwargs: Any) -> Any:
    """A client that asks for several models."""
    return CLIENTS[name](provider, use_async=use_async, mode=Mode.PARALLEL_TOOLS, **kwargs)


def say(provider: FakeProvider, *answers: list[tuple[str, str]]) -> None:
    """Have the provider call these tools; no tools are a word of text."""
    provider.say(*(Say(called=calls, prose=not calls) for calls in answers))


@sync_and_async
@every_dialect
def test_several_calls_are_several_models(name, use_async, provider):
    """Each call is an instance of the user's own class, in order; the list knows its completion."""
    say(provider, [LODZ, NEWS, PARIS])
    client = parallel(name, provider, use_async=use_async)

    made, completion = ask(client, method="create_with_completion", response_model=Both, messages=ASK)

    assert made == EXPECTED
    assert [type(each) for each in made] == [Weather, News, Weather]
    assert type(made) is ListResponse
    assert made.get_raw_response() is completion
    assert made.get_total_usage() is not None


@every_dialect
def test_what_is_offered(name, provider):
    """There is one tool for each model, and the model is free to call them."""
    say(provider, [])

    ask(parallel(name, provider), response_model=Both, messages=ASK)
    (sent,) = provider.requests

    names = {
        "openai": lambda: [each["function"]["name"] for each in sent["tools"]],
        "anthropic": lambda: [each["name"] for each in sent["tools"]],
        "google": lambda: [each["name"] for each in sent["tools"][0]["functionDeclarations"]],
    }
    choices = {
        "openai": lambda: sent["tool_choice"],
        "anthropic": lambda: sent["tool_choice"],
        "google": lambda: sent["toolConfig"]["functionCallingConfig"],
    }
    assert names[name]() == ["Weather", "News"]
    assert choices[name]() == {"openai": "auto", "anthropic": {"type": "auto"}, "google": {"mode": "AUTO"}}[name]


@pytest.mark.parametrize("wanted", [Both, Iterable[Weather | News], list[Weather | News]], ids=str)
def test_every_spelling_of_a_list(wanted, provider):
    """`Iterable` and `list`, `Union` and `|` ask for the same."""
    say(provider, [LODZ, NEWS, PARIS])

    assert ask(parallel("openai", provider), response_model=wanted, messages=ASK) == EXPECTED


def test_one_model_may_be_called_often(provider):
    """A list of one model is one tool."""
    say(provider, [LODZ, PARIS])

    made = ask(parallel("openai", provider), response_model=Iterable[Weather], messages=ASK)

    assert made == [Weather(city="Łódź"), Weather(city="Paris")]


def test_other_forms_of_models(provider):
    """A TypedDict and a RootModel are tools like others."""
    say(provider, [("Place", '{"city": "Rome"}'), ("Response", '{"content": [1, 2]}')])

    made = ask(parallel("openai", provider), response_model=list[Place | Numbers], messages=ASK)

    assert [each.model_dump() for each in made] == [{"city": "Rome"}, [1, 2]]


@every_dialect
def test_tools_that_nobody_offered_are_skipped(name, provider):
    """A call of an unknown tool is not worth another attempt, whatever its arguments."""
    say(provider, [ELSE, LODZ])

    made = ask(parallel(name, provider), response_model=Both, messages=ASK, max_retries=0)

    assert made == [Weather(city="Łódź")]


@every_dialect
def test_no_call_is_an_empty_list(name, provider):
    """A model that had nothing to call has answered, in words or without."""
    say(provider, [])

    assert ask(parallel(name, provider), response_model=Both, messages=ASK, max_retries=0) == []
    assert provider.calls == 1


@sync_and_async
@every_dialect
def test_a_wrong_call_is_asked_for_again_with_all_the_others(name, use_async, provider):
    """One bad call makes one more request, which answers every call and asks for all of them."""
    say(provider, [LODZ, WRONG], [LODZ, NEWS, PARIS])
    client = parallel(name, provider, use_async=use_async)

    made = ask(client, response_model=Both, messages=ASK, max_retries=1)
    told = json.dumps(provider.requests[1])

    assert made == EXPECTED
    assert provider.calls == 2
    assert told.count("Make all your calls again") == 2
    answered = {"openai": '"tool_call_id": "call_', "anthropic": '"tool_use_id": "tu_', "google": "functionResponse"}
    assert told.count(answered[name]) == 2


@pytest.mark.parametrize("arguments", ['{"city": "Łó', "", "null", '["Łódź"]', '"Łódź"'])
def test_arguments_that_are_no_json_are_the_models_mistake(arguments, provider):
    """Whatever stands where the arguments should be, the model hears of it and may do better."""
    say(provider, [("Weather", arguments)], [LODZ])

    made = ask(parallel("openai", provider), response_model=Both, messages=ASK, max_retries=1)

    assert made == [Weather(city="Łódź")]
    assert "1 validation error for Weather" in json.dumps(provider.requests[1])


def test_numbers_are_read_as_in_other_modes(provider):
    """Arguments are JSON as pydantic reads it, with a strictness to choose."""
    say(provider, [("News", '{"topic": "Ada", "limit": "7"}')])
    client = parallel("openai", provider)

    made = ask(client, response_model=Both, messages=ASK, strict=False)

    assert made == [News(topic="Ada", limit=7)]
    with pytest.raises(InstructorRetryException):
        ask(client, response_model=Both, messages=ASK, max_retries=0)


def test_validators_see_the_context(provider):
    """The user's validators run with the user's context, on a hit as on a miss, and the context is in the key."""
    say(provider, [("Shout", '{"word": "hey"}')])
    client = parallel("openai", provider, cache=AutoCache())

    made = [ask(client, response_model=list[Shout], messages=ASK, context={"ending": end})[0].word for end in "!?!?"]

    assert made == ["hey!", "hey?", "hey!", "hey?"]
    assert provider.calls == 2


@sync_and_async
@every_dialect
def test_answers_are_kept(name, use_async, provider):
    """The second time nobody is asked, and everything is as the first time; so with an empty answer."""
    say(provider, [LODZ, ELSE, NEWS, PARIS], [])
    client = parallel(name, provider, use_async=use_async, cache=AutoCache())
    questions = [ASK, ASK, [{"role": "user", "content": "nothing"}], [{"role": "user", "content": "nothing"}]]

    made = [ask(client, method="create_with_completion", response_model=Both, messages=each) for each in questions]

    assert [value for value, _ in made] == [EXPECTED, EXPECTED, [], []]
    assert provider.calls == 2
    assert made[0][1] == made[1][1]
    assert made[1][0].get_raw_response() == made[0][1]
    assert made[1][0]._raw_response is made[1][1]


def test_another_mode_is_another_question(provider):
    """A list asked for as one tool is not answered with what several tools said."""
    cache = AutoCache()
    say(provider, [LODZ])
    ask(parallel("openai", provider, cache=cache), response_model=list[Weather], messages=ASK)
    provider.say('{"tasks": [{"city": "Rome"}]}')

    made = ask(CLIENTS["openai"](provider, cache=cache), response_model=list[Weather], messages=ASK)

    assert made == [Weather(city="Rome")]
    assert provider.calls == 2


def test_the_key_knows_every_tool():
    """Two lists have one key exactly when they are the same tools."""
    first, second = (type("Tool", (BaseModel,), {"__doc__": doc}) for doc in ("One.", "Another."))
    lists = [list[Weather], list[Weather | News], list[News | Weather], list[Weather | first], list[Weather | second]]

    keys = {make_cache_key(messages=ASK, model="m", response_model=each, mode=Mode.PARALLEL_TOOLS) for each in lists}

    assert len(keys) == len(lists)


@pytest.mark.parametrize("wanted", [Weather, int, list[int], Weather | News, Place, list[Weather | int]], ids=str)
def test_what_is_no_list_of_models_is_refused(wanted, provider):
    """In this mode only a list of models makes sense, which costs nothing to say."""
    with pytest.raises(TypeError, match=r"takes an Iterable\[...\] of models"):
        ask(parallel("openai", provider), response_model=wanted, messages=ASK)

    assert provider.calls == 0


def test_tools_have_names_of_their_own(provider):
    """Two classes of the same name would be one tool."""
    twin = type("Weather", (BaseModel,), {})

    with pytest.raises(TypeError, match=r"tools of the same name; rename one of \['Weather'\]"):
        ask(parallel("openai", provider), response_model=list[Weather | twin], messages=ASK)

    assert provider.calls == 0


@sync_and_async
def test_several_models_are_not_streamed(use_async, provider):
    """A stream of several tools is refused before anything is asked."""
    client = parallel("openai", provider, use_async=use_async)

    with pytest.raises(ConfigurationError, match="stream"):
        ask(client, response_model=Both, messages=ASK, stream=True)

    assert provider.calls == 0


def test_no_model_is_a_plain_completion(provider):
    """Without a response_model the mode has no say."""
    completion = ask(parallel("openai", provider), response_model=None, messages=ASK)

    assert completion.choices[0].message.content == '{"name": "John", "age": 25}'
    assert "tools" not in provider.requests[0]


@pytest.mark.parametrize("mode", [Mode.ANTHROPIC_PARALLEL_TOOLS, Mode.VERTEXAI_PARALLEL_TOOLS], ids=str)
def test_legacy_names_of_the_mode(mode, provider):
    """The older names mean the same."""
    instructor.mode.reset_deprecated_mode_warnings()
    say(provider, [LODZ])
    with pytest.warns(DeprecationWarning, match=r"use Mode\.PARALLEL_TOOLS"):
        client = CLIENTS["anthropic"](provider, mode=mode)

    assert client.mode is Mode.PARALLEL_TOOLS
    assert ask(client, response_model=Both, messages=ASK) == [Weather(city="Łódź")]
