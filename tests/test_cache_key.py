"""The key is the question: equal exactly when two questions are, whoever asks, wherever and whenever."""

import datetime as dt
import decimal
import enum
import json
import os
import struct
import subprocess
import sys
import time
import unicodedata
import uuid
import warnings
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any, Literal, NamedTuple, Union

import httpx
import openai
import pytest
from fake_provider import fake_provider
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion
from pydantic import BaseModel, Field, RootModel, ValidationInfo, create_model, field_validator

import instructor
from instructor import Mode
from instructor.cache import AutoCache, CacheWarning, make_cache_key, stats
from instructor.messages import Verbatim

URL = "http://127.0.0.1:9/v1"
SHALOM = "\u05e9\u05dc\u05d5\u05dd"
HELLO = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Who?"}, {"type": "text", "text": "How old?"}]},
    {"role": "assistant", "content": None, "name": "ann", "tool_calls": [{"id": "1", "function": {"name": "f"}}]},
    {"role": "tool", "tool_call_id": "1", "content": "25"},
]


class User(BaseModel):
    name: str
    age: int


class Colour(enum.Enum):
    ONE = 1
    A = "a"


class Word(str, enum.Enum):
    A = "a"


class Size(enum.IntEnum):
    ONE = 1


class Pair(NamedTuple):
    left: Any
    right: Any


# --- the key of a value: equal if and only if typed-equal ---------------------------------------------------------


def same(a, b):  # noqa: PLR0911  one return for each kind of value
    """Typed equality, decided without looking at keys: the same types all the way down, and equal leaves."""
    if type(a) is not type(b):
        return False
    match a:
        case dict():
            return same_bag(list(a.items()), list(b.items()))
        case set() | frozenset():
            return same_bag(list(a), list(b))
        case list() | tuple():
            return len(a) == len(b) and all(map(same, a, b))
        case float():
            return bits(a) == bits(b)  # NaN is itself; 0.0 is not -0.0, as a model is shown them
        case decimal.Decimal():
            return a.as_tuple() == b.as_tuple()  # 1.0 and 1.00 are equal numbers and two texts
        case dt.datetime():
            return (a.replace(tzinfo=None), a.utcoffset(), a.fold) == (b.replace(tzinfo=None), b.utcoffset(), b.fold)
        case _:
            return a == b


def bits(number):
    """A float as the machine has it."""
    return struct.pack("d", number)


def same_bag(left, right):
    """Whether every item of one has a partner in the other."""
    rest = list(right)
    for item in left:
        partner = next((i for i, other in enumerate(rest) if same(item, other)), None)
        if partner is None:
            return False
        del rest[partner]
    return not rest


FEW = [*("", "1", "a", "é", "e\u0301", "\ud800", "1.0", "True", "None"), *(b"", b"1", b"a"), *(0, 1, -1, 2**63, 2**64)]
MORE = [*(True, False, None), *(0.0, -0.0, 1.0, float("inf"), float("nan")), *(Colour.ONE, Colour.A, Word.A, Size.ONE)]
DATED = [dt.date(2024, 1, 1), dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)]  # noqa: DTZ001
SMALL = [
    *FEW,
    *MORE,
    *DATED,
    decimal.Decimal(1),
    decimal.Decimal("1.0"),
    uuid.UUID(int=1),
    "2024-01-01",
    str(uuid.UUID(int=1)),
]

atoms = st.one_of(
    st.sampled_from(SMALL),
    st.sampled_from(SMALL),  # twice: what is easily confused should meet often
    st.text(max_size=4),
    st.binary(max_size=3),
    st.integers(),
    st.floats(allow_nan=False),
    st.decimals(allow_nan=False, places=2),
    st.dates(),
    st.datetimes(timezones=st.none() | st.just(dt.timezone.utc)),
    st.uuids(),
)
hashables = st.recursive(
    atoms.filter(lambda atom: atom == atom),  # noqa: PLR0124  a set may hold NaN more than once
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=3,
)
values = st.recursive(
    atoms | hashables,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.sets(hashables, max_size=3),
        st.frozensets(hashables, max_size=3),
        st.dictionaries(hashables, inner, max_size=3),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
    ),
    max_leaves=8,
)


def again(value):
    """An equal value, built anew: mappings and sets the other way round."""
    match value:
        case dict():
            return {again(name): again(item) for name, item in reversed(value.items())}
        case set() | frozenset() | list():
            return type(value)([again(item) for item in (value if isinstance(value, list) else reversed(list(value)))])
        case tuple():
            return tuple(again(item) for item in value)
        case _:
            return value


def neighbours(value):  # noqa: C901  one case for each kind of value
    """Values that are nearly `value`: a type changed, an item more, less or elsewhere, at any depth."""
    yield from (f"{value}", repr(value), [value], (value,), {"": value}, None)
    match value:
        case dict():
            yield from (list(value.items()), {**value, "new": None}, {str(name): item for name, item in value.items()})
            for name, item in value.items():
                yield {k: v for k, v in value.items() if k is not name}
                yield from ({**value, name: other} for other in neighbours(item))
        case list() | tuple():
            yield from (list(value), tuple(value), value[::-1], value[1:], value + type(value)([None]))
            for place, item in enumerate(value):
                yield from (type(value)([*value[:place], other, *value[place + 1 :]]) for other in neighbours(item))
        case set() | frozenset():
            yield from (list(value), tuple(value), set(value), frozenset(value), value | {"new"}, dict.fromkeys(value))
        case bool() | int() | float():
            yield from (float(value) if abs(value) < 2**53 else 0, bool(value), not value, -value)
        case str() if not isinstance(value, enum.Enum):
            yield from (
                value.encode("utf-8", "surrogatepass"),
                value + "\0",
                unicodedata.normalize("NFD", value),
                value.upper(),
            )
        case bytes():
            yield from (value.decode("latin-1"), value + b"\0", list(value))
        case enum.Enum():
            yield from (value.value, value.name)
        case dt.datetime():
            yield from (value.date(), value.isoformat(), value.replace(tzinfo=None), value.replace(fold=1 - value.fold))
        case dt.date() | decimal.Decimal() | uuid.UUID():
            yield from (str(value), [str(value)])


def key_of(value):
    """The key of a question that differs from others in `value` only."""
    return make_cache_key(messages=value, model="m", response_model=None)


@pytest.mark.fault("D2")
def test_keys_are_equal_exactly_when_values_are(tried):
    """Over 20,000 pairs, near and far, two keys are equal if and only if the values and all their types are."""
    pairs = Counter()

    @settings(
        max_examples=1300,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(value=values, other=values, chance=st.randoms(use_true_random=False))
    def compare(value, other, chance):
        near = list(neighbours(value))
        key = key_of(value)
        for candidate in [other, again(value), *chance.sample(near, min(len(near), 28))]:
            equal = same(value, candidate)
            pairs[equal] += 1
            assert (key == key_of(candidate)) is equal, (value, candidate)

    compare()

    assert pairs.total() >= tried(20_000)
    assert min(pairs[True], pairs[False]) >= 900


def model_with(value):
    """An instance of a model that is made anew each time."""
    return create_model("Part", a=(int, value))(a=value)


@pytest.mark.fault("D2")
def test_what_looks_alike_is_kept_apart():
    """Values that JSON, `==` or `str` would confuse have keys of their own, every one."""
    alike = [
        *({1: "a"}, {"1": "a"}, {1.0: "a"}, {b"1": "a"}, {True: "a"}, {"true": "a"}, {"True": "a"}, {(1,): "a"}),
        *(
            {None: "a"},
            {"null": "a"},
            {"None": "a"},
            {"a"},
            frozenset({"a"}),
            ["a"],
            ("a",),
            "a",
            b"a",
            bytearray(b"a"),
        ),
        *(1, True, 1.0, "1", b"1", decimal.Decimal(1), decimal.Decimal("1.0"), Colour.ONE, Size.ONE),
        *(Word.A, Colour.A, Verbatim("a"), "Word.A", Path("a"), memoryview(b"a")),
        *(None, "null", "None", [], (), {}, set(), frozenset(), "", b"", [[]], [()], [{}], [None]),
        *(0, 0.0, False, float("nan"), "nan", float("inf"), "inf", -1, -1.0),
        *(dt.date(2024, 1, 1), "2024-01-01", dt.datetime(2024, 1, 1), "2024-01-01T00:00:00"),  # noqa: DTZ001
        *(dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc), dt.time(1), "01:00:00", dt.timedelta(hours=1), "1:00:00"),
        *(uuid.UUID(int=1), str(uuid.UUID(int=1)), Pair(1, 2), (1, 2), [1, 2], {"left": 1, "right": 2}),
        *(
            User(name="a", age=1),
            {"name": "a", "age": 1},
            User.model_construct(name="a", age="1"),
            model_with(1),
            {"a": 1},
        ),
        *(OrderedDict(a=2), {"a": 2}, [("a", 2)], [["a", 2]], User, "User", int, "int", Colour, Size, "NotGiven"),
        *(2**63, 2**64, hex(2**64), str(2**64), float(2**64), -(2**63), "\ud800", b"\xed\xa0\x80", "\ud801"),
        *(["a", "b"], ["ab"], ["a", ["b"]], [["a"], "b"], "a\0", "a\0\0", {"a": None}, {"a": {}}, {"a": []}),
    ]

    assert len({key_of(value) for value in alike}) == len(alike)


@pytest.mark.fault("D2")
def test_mappings_have_no_order():
    """The order of a mapping, a set or a subclass's fields never matters; that of a list always does."""
    assert key_of({"a": 1, "b": {"c": 2, "d": 3}}) == key_of({"b": {"d": 3, "c": 2}, "a": 1})
    assert key_of({1: 1, "b": 2}) == key_of({"b": 2, 1: 1})
    assert key_of({"x", 1, b"y"}) == key_of({b"y", "x", 1})
    assert key_of(["a", "b"]) != key_of(["b", "a"])


def test_a_model_is_its_fields():
    """A model in a message counts with everything that a subclass adds, and without what is None."""

    class Part(BaseModel):
        kind: str = "text"
        note: str | None = None

    class Text(Part):
        text: str

    class Message(BaseModel):
        parts: list[Part]

    class Many(RootModel[list[int]]):
        def __iter__(self):
            return iter(self.root)

    assert key_of(Part(note=None)) == key_of(Part())
    assert key_of(Part(note="n")) != key_of(Part())
    assert key_of(Message(parts=[Text(text="a")])) != key_of(Message(parts=[Text(text="b")]))
    assert key_of(Many([1, 2])) != key_of(Many([1, 3]))


# --- one input at a time, end to end ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def transport():
    """One pool of connections: making one costs more than all else here."""
    with httpx.Client() as client:
        yield client


@pytest.fixture(scope="module")
def ask(transport):
    """The key that a client gives a question: `sdk` for OpenAI's client, `own` for ours, the rest for the call."""

    def key(*, sdk=None, own=None, response_model=User, messages=HELLO, context=None, strict=True, **kwargs):
        raw = openai.OpenAI(**{"http_client": transport, "api_key": "k", "base_url": URL, **(sdk or {})})
        client = instructor.from_openai(raw, **{"model": "gpt-4o", "cache": AutoCache(), **(own or {})})
        return client._plan(response_model, messages, 3, context, strict, None, None, kwargs).slot.key

    return key


def said(place, **changes):
    """The messages, with one of them changed."""
    return {"messages": [{**message, **changes} if at == place else message for at, message in enumerate(HELLO)]}


def parts(*texts):
    """The messages, with other parts in the user's."""
    return said(1, content=[{"type": "text", "text": text} for text in texts])


def shape(**fields):
    """A response model that is `User` in name, with other fields."""
    return {"response_model": create_model("User", **fields)}


class Aged(BaseModel):
    age: int

    @field_validator("age")
    @classmethod
    def young(cls, age: int, info: ValidationInfo) -> int:
        if age > (info.context or {}).get("max", 200):
            raise ValueError("too old")
        return age


NAME, AGE = (str, ...), (int, ...)
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
CHANGES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "model": {"model": "gpt-4o-mini"},
    "client's model": {"own": {"model": "o3"}},
    "system text": said(0, content="Be very brief."),
    "system role": said(0, role="developer"),
    "no system": {"messages": HELLO[1:]},
    "first part": parts("Who is it?", "How old?"),
    "second part": parts("Who?", "How tall?"),
    "part order": parts("How old?", "Who?"),
    "parts joined": parts("Who?How old?"),
    "one part": parts("Who?"),
    "part type": said(1, content=[{"type": "input_text", "text": "Who?"}, {"type": "text", "text": "How old?"}]),
    "an image": said(1, content=[{"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}]),
    "another image": said(1, content=[{"type": "image_url", "image_url": {"url": "https://x.test/b.png"}}]),
    "image detail": said(
        1, content=[{"type": "image_url", "image_url": {"url": "https://x.test/a.png", "detail": "low"}}]
    ),
    "whole text": said(1, content="Who? How old?"),
    "trailing space": said(1, content="Who? How old? "),
    "user role": said(1, role="assistant"),
    "message name": said(1, name="bob"),
    "assistant name": said(2, name="eve"),
    "tool call id": said(2, tool_calls=[{"id": "2", "function": {"name": "f"}}]),
    "tool call name": said(2, tool_calls=[{"id": "1", "function": {"name": "g"}}]),
    "tool answer": said(3, content="26"),
    "tool answer's id": said(3, tool_call_id="2"),
    "a message more": {"messages": [*HELLO, {"role": "user", "content": "So?"}]},
    "a message less": {"messages": HELLO[:-1]},
    "message order": {"messages": [HELLO[1], HELLO[0], *HELLO[2:]]},
    "system argument": {"system": "Be brief."},
    "tools": {"tools": [TOOL]},
    "tool description": {"tools": [{**TOOL, "function": {**TOOL["function"], "description": "d"}}]},
    "tool choice": {"tool_choice": "auto"},
    "parallel_tool_calls": {"parallel_tool_calls": False},
    "temperature": {"temperature": 0},
    "another temperature": {"temperature": 0.5},
    "client's temperature": {"own": {"temperature": 0.7}},
    "top_p": {"top_p": 0.5},
    "seed": {"seed": 1},
    "another seed": {"seed": 2},
    "max_tokens": {"max_tokens": 10},
    "max_completion_tokens": {"max_completion_tokens": 10},
    "n": {"n": 2},
    "stop": {"stop": ["."]},
    "logprobs": {"logprobs": True},
    "logit_bias": {"logit_bias": {"50256": -100}},
    "presence_penalty": {"presence_penalty": 1},
    "frequency_penalty": {"frequency_penalty": 1},
    "reasoning_effort": {"reasoning_effort": "low"},
    "service_tier": {"service_tier": "flex"},
    "extra_headers": {"extra_headers": {"X-Persona": "pirate"}},
    "another header": {"extra_headers": {"X-Persona": "poet"}},
    "authorization": {"extra_headers": {"Authorization": "Bearer other"}},
    "extra_body": {"extra_body": {"top_k": 5}},
    "extra_query": {"extra_query": {"route": "a"}},
    "base_url": {"sdk": {"base_url": "http://127.0.0.1:9/v2"}},
    "port": {"sdk": {"base_url": "http://127.0.0.1:10/v1"}},
    "scheme": {"sdk": {"base_url": "https://127.0.0.1:9/v1"}},
    "api_key": {"sdk": {"api_key": "other"}},
    "organization": {"sdk": {"organization": "org-1"}},
    "project": {"sdk": {"project": "proj-1"}},
    "default_headers": {"sdk": {"default_headers": {"X-Tenant": "a"}}},
    "another tenant": {"sdk": {"default_headers": {"X-Tenant": "b"}}},
    "default_query": {"sdk": {"default_query": {"api-version": "1"}}},
    "another version": {"sdk": {"default_query": {"api-version": "2"}}},
    "namespace": {"cache_namespace": "a"},
    "another namespace": {"cache_namespace": "b"},
    "namespace and base_url": {"cache_namespace": "a", "sdk": {"base_url": "http://127.0.0.1:9/v2"}},
    **{mode.name: {"own": {"mode": mode}} for mode in (Mode.JSON, Mode.JSON_SCHEMA, Mode.MD_JSON, Mode.TOOLS_STRICT)},
    "strict": {"strict": False},
    "a template's value": {**said(1, content="{{ q }}"), "context": {"q": "x"}},
    "another value": {**said(1, content="{{ q }}"), "context": {"q": "y"}},
    "a validator's model": {"response_model": Aged},
    "a validator's context": {"response_model": Aged, "context": {"max": 9}},
    "another context": {"response_model": Aged, "context": {"max": 10}},
    "no response model": {"response_model": None},
    "class name": {"response_model": create_model("Person", name=NAME, age=AGE)},
    "class docstring": {"response_model": create_model("User", __doc__="Somebody.", name=NAME, age=AGE)},
    "field name": shape(name=NAME, years=AGE),
    "field type": shape(name=NAME, age=(float, ...)),
    "field order": shape(age=AGE, name=NAME),
    "field less": shape(name=NAME),
    "field more": shape(name=NAME, age=AGE, mail=(str, ...)),
    "field optional": shape(name=NAME, age=(int | None, ...)),
    "field default": shape(name=NAME, age=(int, 1)),
    "another default": shape(name=NAME, age=(int, 2)),
    "field description": shape(name=NAME, age=(int, Field(description="In years"))),
    "another description": shape(name=NAME, age=(int, Field(description="In months"))),
    "field title": shape(name=NAME, age=(int, Field(title="Years"))),
    "field examples": shape(name=NAME, age=(int, Field(examples=[3]))),
    "field alias": shape(name=NAME, age=(int, Field(alias="Age"))),
    "constraint": shape(name=NAME, age=(int, Field(ge=0))),
    "another constraint": shape(name=NAME, age=(int, Field(ge=1))),
    "pattern": shape(name=(str, Field(pattern="^A")), age=AGE),
    "described by docstring": {
        "response_model": create_model("User", __doc__="Somebody.\n\nArgs:\n    age: in years", name=NAME, age=AGE)
    },
    "list": {"response_model": list[User]},
    "list of others": {"response_model": list[Aged]},
    "list of either": {"response_model": list[Union[User, Aged]]},
    "int": {"response_model": int},
    "str": {"response_model": str},
    "list of int": {"response_model": list[int]},
    "literal": {"response_model": Literal["a", "b"]},
    "literal order": {"response_model": Literal["b", "a"]},
    "literal more": {"response_model": Literal["a", "b", "c"]},
    "literal 1": {"response_model": Literal[1]},
    "literal '1'": {"response_model": Literal["1"]},
    "enum": {"response_model": Colour},
    "another enum": {"response_model": Size},
    "union": {"response_model": Union[int, str]},
    "union order": {"response_model": Union[str, int]},
    "models' union": {"response_model": Union[User, Aged]},
    "models' union order": {"response_model": Union[Aged, User]},
}


@pytest.mark.fault("D1")
def test_every_input_that_can_change_the_answer_changes_the_key(ask, tried):
    """One input changed at a time, over more than sixty inputs: no two of these questions share a key."""
    keys = {name: ask(**change) for name, change in CHANGES.items()}

    assert tried(len(keys)) >= 60
    assert [(name, other) for name in keys for other in keys if name < other and keys[name] == keys[other]] == []


UNCHANGED: dict[str, dict[str, Any]] = {
    "again": {},
    "timeout": {"timeout": 3},
    "timeout object": {"timeout": openai.Timeout(3, connect=1)},
    "client's timeout": {"sdk": {"timeout": 3, "max_retries": 7}},
    "user": {"user": "ann"},
    "safety_identifier": {"safety_identifier": "ann"},
    "metadata": {"metadata": {"run": "7"}},
    "store's ttl": {"cache_ttl": 5},
    "request id": {"extra_headers": {"x-request-id": "7", "Traceparent": "00-1"}},
    "another httpx": {"sdk": {"http_client": httpx.Client(headers={"user-agent": "python-httpx/99.0"})}},
    "no headers": {"extra_headers": {}},
    "not given": {"temperature": openai.NOT_GIVEN, "seed": openai.omit},
    "header not sent": {"extra_headers": {"X-Persona": openai.omit}},
    "prompt_cache_key": {"prompt_cache_key": "k"},
    "context that nobody reads": {"context": {"unused": object()}},
    "localhost": {"sdk": {"base_url": "http://localhost:9/v1"}},
    "trailing slash": {"sdk": {"base_url": URL + "/"}},
    "legacy mode": {"own": {"mode": Mode.FUNCTIONS}},
    "dict order": {"messages": [dict(reversed(message.items())) for message in HELLO]},
    "model by call": {"own": {"model": None}, "model": "gpt-4o"},
    "a class of the same name and fields": {"response_model": create_model("User", name=NAME, age=AGE)},
}


@pytest.mark.fault("D1")
@pytest.mark.fault("D3")
@pytest.mark.filterwarnings("ignore:Mode.FUNCTIONS is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", UNCHANGED)
def test_what_cannot_change_the_answer_leaves_the_key(ask, name):
    """Transport, bookkeeping and other spellings are no part of the question."""
    assert ask(**UNCHANGED[name]) == ask()


@pytest.mark.fault("D1")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"temperature": 0}, {"temperature": 0.0}),
        ({"top_p": 1, "seed": 3}, {"seed": 3, "top_p": 1.0}),
        ({"extra_headers": {"X-Persona": "pirate"}}, {"extra_headers": {"x-persona": "pirate", "x-request-id": "7"}}),
        ({"cache_namespace": "n"}, {"cache_namespace": "n", "sdk": {"api_key": "rotated", "organization": "o"}}),
        ({"extra_body": {"a": 1, "b": 2}}, {"extra_body": {"b": 2, "a": 1}}),
        (
            {"context": {"max": 9, "min": 1}, "response_model": Aged},
            {"context": {"min": 1, "max": 9}, "response_model": Aged},
        ),
        ({"own": {"seed": 1}}, {"seed": 1}),
        ({**said(1, content="{{ q }}"), "context": {"q": "x"}}, said(1, content="x")),
        ({"own": {"mode": Mode.JSON_O1}}, {"own": {"mode": Mode.JSON_SCHEMA}}),
    ],
)
@pytest.mark.filterwarnings("ignore:Mode.JSON_O1 is deprecated:DeprecationWarning")
def test_two_spellings_of_one_question_share_a_key(ask, one, other):
    """The same setting, said in another way, is the same question."""
    assert ask(**one) == ask(**other)


def test_positional_and_keyword_arguments_are_one_question():
    """How the arguments were passed is no part of the question."""
    cache = AutoCache()

    with fake_provider() as fake, openai.OpenAI(api_key="k", base_url=fake.url) as raw:
        client = instructor.from_openai(raw, cache=cache)
        client.create(User, HELLO, 3, None, True, model="m")
        client.create(strict=True, messages=HELLO, model="m", response_model=User)
        client.chat.completions.create(model="m", response_model=User, messages=HELLO)

    assert (fake.calls, stats(cache).hits) == (1, 2)


def test_sync_and_async_clients_share_keys():
    """What one kind of client asked, the other knows."""
    sync = instructor.from_openai(openai.OpenAI(api_key="k", base_url=URL), model="m", cache=AutoCache())
    other = instructor.from_openai(openai.AsyncOpenAI(api_key="k", base_url=URL), model="m", cache=AutoCache())
    call = {"context": None, "strict": True, "hooks": None, "token_budget": None, "kwargs": {}}
    keys = {client._plan(User, HELLO, 3, **call).slot.key for client in (sync, other)}

    assert len(keys) == 1


# --- make_cache_key -----------------------------------------------------------------------------------------------


def test_the_documented_example():
    """`make_cache_key` gives 64 hexadecimal digits; a mode may be given by its name."""
    question = {"messages": [{"role": "user", "content": "hello"}], "model": "gpt-3.5-turbo", "response_model": User}
    key = make_cache_key(**question, mode="TOOLS")

    assert (len(key), int(key, 16) > 0) == (64, True)
    assert key == make_cache_key(**question, mode=Mode.TOOLS) == make_cache_key(**question, mode="tool_call")
    assert key != make_cache_key(**question, mode="JSON")


def test_it_is_the_pipelines_own_function(ask):
    """What the pipeline uses as a key is what `make_cache_key` gives for the same question."""
    raw = openai.OpenAI(api_key="k", base_url=URL)
    client = instructor.from_openai(raw, model="gpt-4o", cache=AutoCache())
    public = make_cache_key(
        messages=HELLO,
        model="gpt-4o",
        response_model=User,
        mode="TOOLS",
        provider=client.endpoint.speaker,
        endpoint=client.endpoint.scope(None),
        request_kwargs={"temperature": 0, "timeout": 3},
    )

    assert public == ask(temperature=0.0)


def test_settings_that_cannot_matter_are_as_none():
    """No settings, empty settings and settings that are no part of the question are all the same."""
    question = {"messages": [], "model": "m", "response_model": User}
    keys = {make_cache_key(**question, request_kwargs=given) for given in (None, {}, {"timeout": 3}, {"user": "u"})}

    assert keys == {make_cache_key(**question)}


def test_options_of_a_request_count_where_they_change_the_question():
    """How a request is sent is no part of the question; what Cohere's SDK adds to its body and its headers is."""
    question = {"messages": [], "model": "m", "response_model": User}
    given_ = [{}, {"timeout": 3}, {"additional_body_parameters": {"a": 1}}, {"additional_headers": {"x": "y"}}]
    keys = [make_cache_key(**question, request_kwargs={"request_options": options}) for options in given_]

    assert keys[0] == keys[1] == make_cache_key(**question)
    assert len(set(keys)) == 3


@pytest.mark.fault("D4")
def test_what_has_no_identity_is_a_type_error():
    """A public key for something without a stable identity: the error says how to go on, and not what it looked at."""

    class Secret:
        def __repr__(self):
            return "hunter2"

    cyclic = []
    cyclic.append(cyclic)
    for opaque in (Secret(), len, lambda: 0, cyclic, iter(()), [{"a": Secret()}], {Secret()}, dt.timezone.utc):
        with pytest.raises(TypeError, match="disable caching") as caught:
            key_of(opaque)

        assert "hunter2" not in str(caught.value)


@pytest.mark.fault("D4")
def test_a_value_whose_own_code_fails_is_a_type_error():
    """Time zones and the like run strangers' code: whatever it raises means that there is no key."""

    class Broken(dt.tzinfo):
        def utcoffset(self, _moment):
            raise RuntimeError("broken")

    with pytest.raises(TypeError, match="disable caching"):
        key_of(dt.datetime(2024, 1, 1, tzinfo=Broken()))


# --- D3: other processes ------------------------------------------------------------------------------------------

ELSEWHERE = """
import datetime, enum, json, uuid
from typing import Literal, Union
from pydantic import BaseModel
from instructor.cache import make_cache_key

class Tag(enum.Enum):
    RED = "red"
    BLUE = "blue"

class Tagged(BaseModel):
    tags: set[str] = {"x", "y", "z", "longer", "words"}
    frozen: frozenset[Tag] = frozenset(Tag)
    tag: Tag = Tag.RED
    either: Union[int, str, None] = None

texts = {"alpha", "beta", "gamma", "delta"}
question = [texts, frozenset(texts), Tag.BLUE, {"at": datetime.date(2024, 1, 1), 1: uuid.UUID(int=1)}, Tagged, Tagged()]
models = [Tagged, list[Tagged], Literal["a", "b"], Tag, Union[Tag, int], list[Tag], None]
print(json.dumps([make_cache_key(messages=question, model="m", response_model=model) for model in models]))
"""


@pytest.mark.fault("D3")
def test_keys_are_the_same_in_every_process():
    """Python's hash seed, and so the order of its sets, is no part of a key; neither is the process."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ELSEWHERE],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
        )
        for seed in ("0", "1", "42")
    ]
    keys = [tuple(json.loads(process.communicate()[0])) for process in processes]

    assert len(set(keys)) == 1
    assert len(set(keys[0])) == len(keys[0])


THE_CLIENT = """
import openai, instructor
from instructor.cache import AutoCache
from pydantic import BaseModel

class User(BaseModel):
    name: str
    age: int

raw = openai.OpenAI(api_key="k", base_url="http://127.0.0.1:9/v1")
client = instructor.from_openai(raw, model="m", cache=AutoCache())
print(client._plan(User, [{"role": "user", "content": "hi"}], 3, None, True, None, None, {"seed": 1}).slot.key)
"""


@pytest.mark.fault("D3")
def test_a_clients_key_is_the_same_in_a_fresh_process(ask):
    """A new process, a new client object and a class of another module ask the same question."""
    env = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    key = subprocess.run([sys.executable, "-c", THE_CLIENT], env=env, capture_output=True, text=True, check=True).stdout

    assert key.strip() == ask(own={"model": "m"}, messages=[{"role": "user", "content": "hi"}], seed=1)


def test_keys_stand_still():
    """The key of this question was this one yesterday: whoever changes how it is written down bumps `FORMAT`."""
    key = make_cache_key(messages=[{"role": "user", "content": "hi"}], model="m", response_model=None, mode="TOOLS")

    assert key == "13c5404a741bf894fbe06415932cd4b228f9572e67f5f6e743cba737d004d37d"


# --- D4: arguments without an identity ----------------------------------------------------------------------------


def completion(**_):
    """What an SDK's function would return."""
    message = {"role": "assistant", "content": '{"name": "Ann", "age": 3}'}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return ChatCompletion.model_validate(
        {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    )


@pytest.fixture
def local():
    """A client whose provider is a function, so that any argument reaches it, and the calls that came."""
    calls = []

    def create(**kwargs):
        calls.append(kwargs)
        return completion()

    client = instructor.Instructor(None, create, mode=Mode.JSON, model="m", messages=HELLO, cache=AutoCache())
    return client, calls


@pytest.mark.fault("D4")
@pytest.mark.parametrize(
    "known",
    [
        {1, "a"},
        frozenset({1}),
        dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc),
        decimal.Decimal("1.5"),
        b"\xff",
        (1, 2),
        Colour.A,
        uuid.UUID(int=1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_known_types_are_written_down(local, known):
    """Values of the standard library's types have keys: the second call is a hit."""
    client, calls = local
    client.create(User, setting=known)
    client.create(User, setting=known)

    assert (len(calls), stats(client.kwargs["cache"]).bypassed) == (1, {})


@pytest.mark.fault("D4")
@pytest.mark.parametrize("kind", ["object", "function", "file", "cycle", "bomb"])
def test_an_argument_without_identity_goes_uncached(local, kind, tmp_path):
    """The calls succeed, all of them; one warning says why nothing is kept; the others are counted."""
    client, calls = local
    cycle: list[Any] = []
    cycle.append(cycle)
    with (tmp_path / "file").open("w") as file:
        opaque = {"object": object(), "function": len, "file": file, "cycle": cycle, "bomb": nested(50_000)}[kind]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            answers = [client.create(User, setting=opaque) for _ in range(3)]

    assert answers == [User(name="Ann", age=3)] * 3
    assert [warning.category for warning in caught] == [CacheWarning]
    assert (len(calls), stats(client.kwargs["cache"]).bypassed) == (3, {"no stable identity": 3})


def nested(depth):
    """A list in a list in a list ..."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.fault("D4")
def test_a_key_that_is_made_anew_goes_uncached():
    """A credential that is a function names no account: not cached, unless a namespace names it."""
    cache = AutoCache()

    with fake_provider() as fake, openai.OpenAI(api_key=lambda: "made anew", base_url=fake.url) as raw:
        client = instructor.from_openai(raw, model="m", messages=HELLO, cache=cache)
        with pytest.warns(CacheWarning, match="cache_namespace") as caught:
            answers = [client.create(User), client.create(User)]
        assert (answers[0] == answers[1], len(caught), fake.calls, stats(cache).bypassed.total()) == (True, 1, 2, 2)

        named = [client.create(User, cache_namespace="team"), client.create(User, cache_namespace="team")]

    assert (named[0] == named[1], fake.calls) == (True, 3)


@pytest.mark.fault("D4")
def test_an_opaque_context_matters_only_where_it_is_read(local):
    """An object in the context costs the cache only if a validator may look at it."""
    client, calls = local
    context = {"pool": object()}
    client.create(User, context=context)
    client.create(User, context=context)

    assert len(calls) == 1
    with pytest.warns(CacheWarning, match="no stable identity"):
        client.create(Aged, context=context)


# --- D5: text -----------------------------------------------------------------------------------------------------


@pytest.mark.fault("D5")
def test_every_text_has_a_key_of_its_own():
    """Half surrogates, NUL, right-to-left, ten megabytes: no crash, and nothing is normalised away."""
    big = "é" * 5_000_000
    texts = [
        *("\ud800", "\udfff", "\ud83d", "\ud83d\ude00", "\U0001f600", "\ufffd", "?", "\\ud800"),
        *(
            "\0",
            "\0\0",
            "",
            "\\0",
            SHALOM,
            f"\u202e{SHALOM}",
            f"{SHALOM}\u202c",
            "é",
            "e\u0301",
            "\ufb01",
            "fi",
            "\u200b",
            "\ufeff",
        ),
        *(big, big[:-1], big[:-1] + "\ud800", big[:-1] + "e\u0301"),
    ]

    assert len({key_of(text) for text in texts}) == len(texts)
    assert len({key_of([{"role": "user", "content": text}]) for text in texts}) == len(texts)
    assert len({key_of({text: 1}) for text in texts}) == len(texts)


@pytest.mark.fault("D5")
@pytest.mark.parametrize(
    "text", ["x" * 10_000_000, "é" * 5_000_000, "\ud800" * 3_300_000], ids=["ASCII", "é", "halves"]
)
def test_the_key_of_a_long_text_is_made_quickly(text):
    """At most 30 ms of work for each of ten megabytes."""

    def work():
        start = time.thread_time()
        key_of([{"role": "user", "content": text}])
        return time.thread_time() - start

    assert min(work() for _ in range(3)) <= 0.3


@pytest.mark.fault("D5")
def test_odd_text_is_cached_like_any_other(local):
    """A prompt of half a surrogate pair, NUL and ten megabytes is asked once."""
    client, calls = local
    odd = [{"role": "user", "content": "\ud800\0" + SHALOM + "x" * 10_000_000}]
    first, second = client.create(User, odd), client.create(User, odd)

    assert (first, len(calls)) == (second, 1)


# --- D6: tenants --------------------------------------------------------------------------------------------------

TENANTS = {
    "api_key": ({"api_key": "one"}, {"api_key": "two"}),
    "organization": ({"organization": "one"}, {"organization": "two"}),
    "project": ({"project": "one"}, {"project": "two"}),
    "header": ({"default_headers": {"X-Tenant": "one"}}, {"default_headers": {"X-Tenant": "two"}}),
    "base_url": ({"path": "/one"}, {"path": "/two"}),
}


def calls_of(tenants, **own):
    """How many calls the provider saw from each tenant asking twice, in turn, over one shared cache."""
    cache = AutoCache()
    with fake_provider() as fake, httpx.Client() as transport:
        for _ in range(2):
            for tenant in tenants:
                options = {"api_key": "k", "http_client": transport, **tenant}
                raw = openai.OpenAI(base_url=fake.url + options.pop("path", ""), **options)
                instructor.from_openai(raw, model="m", cache=cache, **own).create(User, HELLO)
        return fake.calls


@pytest.mark.fault("D6")
@pytest.mark.parametrize("difference", TENANTS)
def test_tenants_never_share_by_accident(difference):
    """Two accounts or two addresses on one cache: each pays for its own first call, and for no other."""
    assert calls_of(TENANTS[difference]) == 2


@pytest.mark.fault("D6")
@pytest.mark.parametrize(("difference", "expected"), [("api_key", 1), ("organization", 1), ("base_url", 2)])
def test_a_namespace_shares_accounts_and_never_addresses(difference, expected):
    """`cache_namespace` stands for the account, on purpose; two endpoints stay two."""
    assert calls_of(TENANTS[difference], cache_namespace="team") == expected
