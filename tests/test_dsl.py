"""The shapes that users name: several models at once, maybes, citations, plain values."""

from __future__ import annotations

import asyncio
import json
import pickle
from collections.abc import Iterable
from typing import Any, Literal, Optional, Union

import pytest
from fake_provider import FakeProvider, Say
from flavours import CLIENTS, ask
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, RootModel, ValidationError, ValidationInfo, field_validator
from typing_extensions import TypedDict

import instructor
from instructor import Mode
from instructor.cache import AutoCache, make_cache_key
from instructor.dsl import citation
from instructor.dsl.parallel import ParallelModel, get_types_array, handle_parallel_model
from instructor.dsl.response_list import ListResponse
from instructor.dsl.simple_type import ModelAdapter, is_simple_type, prepare_response_model
from instructor.exceptions import ConfigurationError, InstructorRetryException
from instructor.shape import compile_shape

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
    say(provider, [LODZ])

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
def test_no_call_is_no_answer(name, provider):
    """A model that called nothing is asked again; nothing is kept of it."""
    say(provider, [], [LODZ])
    client = parallel(name, provider, cache=AutoCache())

    made = [ask(client, response_model=Both, messages=ASK) for _ in range(2)]

    assert made == [[Weather(city="Łódź")]] * 2
    assert provider.calls == 2


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
    """The second time nobody is asked, and everything is as the first time."""
    say(provider, [LODZ, ELSE, NEWS, PARIS])
    client = parallel(name, provider, use_async=use_async, cache=AutoCache())

    made = [ask(client, method="create_with_completion", response_model=Both, messages=ASK) for _ in range(2)]

    assert [value for value, _ in made] == [EXPECTED, EXPECTED]
    assert provider.calls == 1
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


# Maybe.


def test_a_maybe_is_one_class_for_each_model():
    """The class is named after the model, described as such, and the same each time."""
    maybe = instructor.Maybe(Weather)

    assert maybe is instructor.Maybe(Weather)
    assert maybe.__name__ == "MaybeWeather"
    assert list(maybe.model_json_schema()["properties"]) == ["result", "error", "message"]
    assert instructor.generate_openai_schema(maybe)["name"] == "MaybeWeather"


def test_a_maybe_is_true_when_there_is_a_result():
    """An answer without a result is false, whatever it says."""
    maybe = instructor.Maybe(Weather)

    assert maybe(result=Weather(city="Rome"))
    assert not maybe(error=True, message="No city is named.")
    assert not maybe()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('{"result": {"city": "Rome"}}', Weather(city="Rome")),
        ('{"result": null, "error": true, "message": "Which city?"}', None),
    ],
)
def test_maybes_are_asked_for_and_kept(said, expected, provider):
    """A maybe is a response_model like others; from the cache it comes back equal, and can be pickled."""
    provider.say(said)
    client = CLIENTS["openai"](provider, cache=AutoCache())

    made = [ask(client, response_model=instructor.Maybe(Weather), messages=ASK) for _ in range(2)]
    again = pickle.loads(pickle.dumps(made[1]))  # noqa: S301 - our own bytes

    assert provider.calls == 1
    assert made[0] == made[1] == again
    assert type(again) is instructor.Maybe(Weather)
    assert again.result == expected
    assert again._raw_response.id == "chatcmpl-1"


# Citations.

TEXT = "Jason Liu is 20 years old. He lives in Toronto, and likes a.b*c. Jason Liu is tall."


class Fact(instructor.CitationMixin):
    """Something that is known."""

    model_config = ConfigDict(frozen=True, validate_assignment=True)
    fact: str


@pytest.mark.parametrize(
    ("quote", "expected"),
    [
        ("Jason Liu is 20 years", ["Jason Liu is 20 years"]),
        ("Jason Liu", ["Jason Liu"]),
        ("likes a.b*c", ["likes a.b*c"]),
        ("Jason Lou is  20 yers", ["Jason Liu is 20 years"]),
        ("he livs in toronto", ["He lives in Toronto"]),
        ("is a tall person from Toronto", []),
        ("abc", []),
        ("", []),
    ],
)
def test_quotes_are_what_the_text_says(quote, expected):
    """A quote becomes the part of the text that it is nearest to, and is dropped when nothing is near."""
    fact = Fact.model_validate({"fact": "f", "substring_quotes": [quote]}, context={"context": TEXT})

    assert fact.substring_quotes == expected


@pytest.mark.parametrize("context", [None, {}, {"text": TEXT}, {"context": None}])
def test_without_a_text_quotes_stay(context):
    """There is nothing to compare them with."""
    fact = Fact.model_validate({"fact": "f", "substring_quotes": ["anything"]}, context=context)

    assert fact.substring_quotes == ["anything"]


def distance(one: str, other: str) -> int:
    """How many letters must be added, left out or replaced, found the slow way."""
    row = list(range(len(other) + 1))
    for letter in one:
        cells = [row[0] + 1]
        for place, its in enumerate(other):
            cells.append(min(row[place] + (letter != its), row[place + 1] + 1, cells[-1] + 1))
        row = cells
    return row[-1]


@settings(deadline=None)
@given(quote=st.text("ab ", min_size=1, max_size=14), text=st.text("ab ", max_size=14))
def test_no_part_of_the_text_is_nearer(quote, text):
    """What is found has the fewest errors of all parts of the text; nothing is found when those are too many."""
    places = range(len(text) + 1)
    fewest = min(distance(quote, text[start:end]) for start in places for end in places[start:])

    span = citation.find(quote, text)

    if span is None:
        assert fewest > min(citation.MAX_ERRORS, len(quote) // 2)
    else:
        assert distance(quote, text[slice(*span)]) == fewest <= citation.MAX_ERRORS


def test_looking_for_a_quote_ends():
    """A text and a quote made to be compared for hours are given up; there is work enough for what is reasonable."""
    assert citation.find("a" * 5000 + "b" * 7, "a" * 100_000, work=100_000) is None
    assert citation.find("the needl", "hay " * 20_000 + "the needle") == (80_000, 80_009)
    assert citation.find("the nedle", "hay " * 20_000 + "the needle") == (80_000, 80_010)


def test_citations_are_kept(provider):
    """The text is part of the question, and a hit looks for the quotes again."""
    provider.say('{"fact": "f", "substring_quotes": ["Jason Lou"]}')
    client = CLIENTS["openai"](provider, cache=AutoCache())
    texts = [TEXT, TEXT, "It was Jason Lou."]

    made = [ask(client, response_model=Fact, messages=ASK, context={"context": text}) for text in texts]

    assert [fact.substring_quotes for fact in made] == [["Jason Liu"], ["Jason Liu"], ["Jason Lou"]]
    assert provider.calls == 2


# Plain values and lists.


@pytest.mark.parametrize("form", [int, Literal["a"], list[int], Union[int, str], Union[Weather, News], Optional[int]])
def test_plain_values(form):
    """What is wrapped in a model to be asked for is a simple type."""
    assert is_simple_type(form)
    assert prepare_response_model(form).__name__ == "Response"


@pytest.mark.parametrize("form", [Weather, Place, list[Weather], Both, Numbers, dict, list, None, 3, Iterable])
def test_other_forms_are_not_plain(form):
    """Models, their lists, and what cannot be asked for are not."""
    assert not is_simple_type(form)


def test_the_model_around_a_plain_value():
    """`ModelAdapter[T]` is a model with the field `content`, and `None` is asked for without a model."""
    assert ModelAdapter[int].model_validate_json('{"content": 3}').content == 3
    assert prepare_response_model(None) is None


def test_a_part_of_a_list_knows_its_completion(provider):
    """Slices keep what came with the list."""
    say(provider, [LODZ, NEWS, PARIS])

    made = ask(parallel("openai", provider), response_model=Both, messages=ASK)[1:]

    assert type(made) is ListResponse
    assert made == EXPECTED[1:]
    assert made.get_raw_response().id == "chatcmpl-1"
    assert made.get_total_usage().total_tokens == 15


def test_a_list_may_be_iterated_over_in_either_way(provider):
    """`async for` over the list that was awaited gives its items."""
    provider.say('{"tasks": [{"city": "Rome"}, {"city": "Oslo"}]}')
    client = CLIENTS["openai"](provider, use_async=True)

    async def cities() -> list[str]:
        return [each.city async for each in await client.create(response_model=Iterable[Weather], messages=ASK)]

    assert asyncio.run(cities()) == ["Rome", "Oslo"]


# Models that describe and read themselves.


class Plain(BaseModel):
    """A city.

    Args:
        name: its name
    """

    name: str
    size: int = 0

    def loud(self) -> str:
        """The name, louder."""
        return self.name.upper()


@instructor.response_schema
class City(Plain):
    """A city, decorated."""


def test_the_descriptions_of_a_model():
    """Each API's description is made once a class, and changing it changes nobody's requests."""
    openai, anthropic = (instructor.generate_openai_schema(Plain), instructor.generate_anthropic_schema(Plain))
    with pytest.warns(DeprecationWarning, match="generate_gemini_schema is deprecated"):
        gemini = instructor.generate_gemini_schema(Plain)

    assert list(openai) == ["name", "description", "parameters"]
    assert openai["parameters"]["properties"]["name"]["description"] == "its name"
    assert list(anthropic) == ["name", "description", "input_schema"]
    assert anthropic["input_schema"]["properties"] == openai["parameters"]["properties"]
    assert gemini["parameters"]["required"] == ["name"]
    assert openai is instructor.generate_openai_schema(Plain)
    assert anthropic is instructor.generate_anthropic_schema(Plain)
    openai["parameters"].clear()
    assert compile_shape(Plain).parameters


def test_a_decorated_model_is_the_same_model(provider):
    """It has its name, module, methods and pickles, and results are instances of it."""
    provider.say('{"name": "Rome"}')

    made = ask(CLIENTS["openai"](provider), response_model=City, messages=ASK)

    assert type(made) is City
    assert made == City(name="Rome")
    assert made.loud() == "ROME"
    assert (City.__name__, City.__module__, City.__doc__) == ("City", __name__, "A city, decorated.")
    assert issubclass(City, instructor.ResponseSchema)
    assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301 - our own bytes
    assert instructor.openai_schema(City) is City
    assert City.openai_schema is made.openai_schema is instructor.generate_openai_schema(City)
    assert City.anthropic_schema["name"] == "City"
    with pytest.warns(DeprecationWarning, match="generate_gemini_schema"):
        assert City.gemini_schema["name"] == "City"


@pytest.mark.parametrize("thing", [3, int])
def test_only_models_are_decorated(thing):
    """Anything else is refused by its type."""
    with pytest.raises(TypeError, match=r"response_model must be a subclass of pydantic\.BaseModel, got int"):
        instructor.response_schema(thing)


@pytest.mark.parametrize("mode", [Mode.TOOLS, Mode.JSON, Mode.TOOLS_STRICT], ids=lambda mode: mode.name)
@every_dialect
def test_a_model_reads_itself_out_of_a_completion(name, mode, provider):
    """What the SDK returned is read as a client would read it; unless told, without strictness."""
    provider.say('{"name": "Rome", "size": "3"}')
    client = CLIENTS[name](provider, mode=mode)
    hooked = []
    client.on("completion:response", hooked.append)
    ask(client, response_model=Plain, messages=ASK, strict=False)

    made = City.from_response(hooked[0], mode=mode, provider=client.provider)

    assert made == City(name="Rome", size=3)
    with pytest.raises(ValidationError):
        City.from_response(hooked[0], strict=True, mode=mode, provider=client.provider)


@pytest.mark.parametrize(
    ("name", "mode", "parser"),
    [
        ("openai", Mode.TOOLS, "parse_tools"),
        ("openai", Mode.TOOLS, "parse_functions"),
        ("openai", Mode.JSON, "parse_json"),
        ("openai", Mode.RESPONSES_TOOLS, "parse_responses_tools"),
        ("anthropic", Mode.TOOLS, "parse_anthropic_tools"),
        ("anthropic", Mode.JSON, "parse_anthropic_json"),
        ("google", Mode.TOOLS, "parse_genai_tools"),
        ("google", Mode.JSON, "parse_genai_structured_outputs"),
    ],
)
def test_older_parsers(name, mode, parser, provider):
    """The parsers that were named after modes still read, and say what to use."""
    provider.say('{"name": "Rome"}')
    made = ask(CLIENTS[name](provider, mode=mode), response_model=City, messages=ASK)

    with pytest.warns(DeprecationWarning, match=rf"{parser} is deprecated; use from_response"):
        again = getattr(City, parser)(made._raw_response)

    assert again == made


def test_several_models_by_their_older_names(provider):
    """`ParallelModel` and its companions describe the models of a list, and read the calls of a completion."""
    say(provider, [LODZ, NEWS, PARIS])
    made = ask(parallel("anthropic", provider), response_model=Both, messages=ASK)
    older = ParallelModel(Both)

    assert get_types_array(Both) == older.models == (Weather, News)
    assert [each["function"]["name"] for each in handle_parallel_model(Both)] == ["Weather", "News"]
    assert list(older.from_response(made.get_raw_response(), Mode.ANTHROPIC_PARALLEL_TOOLS)) == EXPECTED
    with pytest.raises(TypeError, match="takes an Iterable"):
        get_types_array(Weather)
