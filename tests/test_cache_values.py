"""A hit is a miss that was not paid for: the same value, of the same type, with the same completion."""

import base64
import copy
import dataclasses
import datetime as dt
import decimal
import enum
import ipaddress
import json
import logging
import math
import pickle
import threading
import uuid
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Generic, List, Literal, NamedTuple, Optional, TypedDict, TypeVar, Union  # noqa: UP035

import msgspec
import openai
import pytest
from fake_provider import JOHN, Say, fake_provider
from openai.types.chat import ChatCompletion
from pydantic import (
    AliasChoices,
    AnyUrl,
    AwareDatetime,
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    PrivateAttr,
    RootModel,
    SecretStr,
    TypeAdapter,
    computed_field,
    field_validator,
    model_serializer,
    model_validator,
)
from typing_extensions import NotRequired, Self

import instructor
from instructor import Mode
from instructor.cache import AutoCache, BaseCache, CacheWarning, stats
from instructor.cache.completion import Kept, keep, restore
from instructor.cache.entry import Entry, seal, unseal
from instructor.exceptions import InstructorRetryException

HELLO = [{"role": "user", "content": "hello"}]
T = TypeVar("T")


class User(BaseModel):
    name: str
    age: int


class Aliased(BaseModel):
    name: str = Field(alias="Full Name")
    age: int = Field(validation_alias=AliasChoices("Age", "years"), serialization_alias="AGE")


class Excluding(BaseModel):
    name: str
    age: int = Field(exclude=True)


class Computing(BaseModel, extra="forbid"):
    width: int

    @computed_field
    @property
    def area(self) -> int:
        return self.width**2


class Endless(BaseModel):
    high: float
    low: float
    none: float


class Shouting(BaseModel):
    name: str

    @field_validator("name")
    @classmethod
    def louder(cls, name: str) -> str:
        return name + "!"


class Counting(BaseModel):
    items: list[str]
    _seen: int = PrivateAttr(default=0)

    def model_post_init(self, _context: Any) -> None:
        self._seen = len(self.items)


class Binary(BaseModel, val_json_bytes="base64", ser_json_bytes="utf8"):
    data: bytes


class Encoded(BaseModel):
    data: Base64Bytes


class Collections(BaseModel):
    tags: set[str]
    frozen: frozenset[int]
    pair: tuple[int, str]
    table: dict[int, list[float]]


class Exact(BaseModel):
    price: decimal.Decimal
    day: dt.date
    moment: AwareDatetime
    span: dt.timedelta
    id: uuid.UUID
    url: AnyUrl
    address: ipaddress.IPv4Address
    path: Path


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    bark: str


class Home(BaseModel):
    pet: Cat | Dog = Field(discriminator="kind")


class Numbers(RootModel[list[int]]):
    pass


class Named(RootModel[dict[str, User]]):
    pass


class Box(BaseModel, Generic[T]):
    item: T
    more: list[T] = []


class Tree(BaseModel):
    name: str
    children: list["Tree"] = []
    later: Optional["Later"] = None


class Later(BaseModel):
    when: str


class Secretive(BaseModel):
    password: SecretStr


class Frozen(BaseModel, frozen=True):
    name: str
    age: int


class Open(BaseModel, extra="allow"):
    name: str


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    ONE = 1


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Spot(NamedTuple):
    x: int
    y: int


class Holding(BaseModel):
    point: Point
    spot: Spot
    colour: Colour
    size: Size


class Own(BaseModel):
    name: str
    loaded: str = "not"

    @classmethod
    def model_validate_json(cls, json_data: Any, **_: Any) -> Self:
        return cls(name=json.loads(json_data)["name"], loaded="by hand")


class Rewriting(BaseModel):
    low: int
    high: int

    @model_validator(mode="before")
    @classmethod
    def split(cls, data: Any) -> Any:
        return {"low": data["range"][0], "high": data["range"][1]} if "range" in data else data

    @model_serializer
    def joined(self) -> str:
        return f"{self.low}-{self.high}"


class Nested(BaseModel):
    payload: Json[list[int]]
    users: list[User]
    either: int | str | None


class Validating(BaseModel, validate_assignment=True, revalidate_instances="always", use_enum_values=True):
    colour: Colour
    age: int = Field(gt=0, default=3, validate_default=True)


class Slotted(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True, str_strip_whitespace=True)
    name: str
    _cache: dict[str, int] = PrivateAttr(default_factory=dict)


BLOB = b"\xff\xfe\x00bin"
B64 = base64.b64encode(BLOB).decode()
EXACT = {
    "price": "10.10",
    "day": "2024-02-29",
    "moment": "2024-01-01T00:00:00+02:00",
    "span": "P1DT2S",
    "id": str(uuid.UUID(int=7)),
    "url": "https://x.test/a?b=c",
    "address": "10.0.0.1",
    "path": "/a/b",
}
USERS = '{"tasks": [{"name": "Ann", "age": 1}, {"name": "Bob", "age": 2}]}'
CASES: dict[str, tuple[Any, Any]] = {
    "plain": (User, JOHN),
    "alias": (Aliased, {"Full Name": "Ann", "Age": 3}),
    "exclude": (Excluding, {"name": "Ann", "age": 3}),
    "computed_field": (Computing, {"width": 3}),
    "inf and nan": (Endless, '{"high": Infinity, "low": -Infinity, "none": NaN}'),
    "validator that is not idempotent": (Shouting, {"name": "Ann"}),
    "private attribute": (Counting, {"items": ["a", "b"]}),
    "bytes": (Binary, {"data": B64}),
    "Base64Bytes": (Encoded, {"data": B64}),
    "set, tuple, dict": (Collections, {"tags": ["b", "a"], "frozen": [2, 1], "pair": [1, "a"], "table": {"1": [0.1]}}),
    "Decimal, dates, UUID": (Exact, EXACT),
    "discriminated union": (Home, {"pet": {"kind": "dog", "bark": "wau"}}),
    "RootModel of a list": (Numbers, {"content": [1, 2]}),
    "RootModel of a mapping": (Named, {"a": {"name": "Ann", "age": 1}}),
    "generic": (Box[int], {"item": 1, "more": [2, 3]}),
    "generic of a model": (Box[User], {"item": {"name": "Ann", "age": 1}}),
    "forward reference": (Tree, {"name": "a", "children": [{"name": "b", "later": {"when": "soon"}}]}),
    "SecretStr": (Secretive, {"password": "hunter2"}),
    "frozen": (Frozen, JOHN),
    "extra=allow": (Open, {"name": "Ann", "age": 3, "deep": {"a": [1.5, None]}}),
    "TypedDict": (Movie, {"title": "Heat", "year": 1995}),
    "TypedDict without its optional key": (Movie, {"title": "Heat"}),
    "dataclass, namedtuple and enum fields": (Holding, {"point": {"x": 1}, "spot": [1, 2], "colour": "red", "size": 1}),
    "model_validate_json of its own": (Own, {"name": "Ann"}),
    "model validator and serializer": (Rewriting, {"range": [1, 5]}),
    "Json, nested, None": (Nested, {"payload": "[1, 2]", "users": [{"name": "A", "age": 1}], "either": None}),
    "configured": (Validating, {"colour": "blue"}),
    "private default factory": (Slotted, {"name": "  Ann "}),
    "list of models": (list[User], USERS),
    "List of models": (List[User], USERS),  # noqa: UP006
    "Iterable of models": (Iterable[User], USERS),
    "list of a union": (list[Cat | Dog], {"tasks": [{"kind": "cat", "lives": 9}, {"kind": "dog", "bark": "wau"}]}),
    "empty list": (list[User], {"tasks": []}),
    "Union of models": (Union[Cat, Dog], {"content": {"kind": "dog", "bark": "wau"}}),
    "A | B": (Cat | Dog, {"content": {"kind": "cat", "lives": 9}}),
    "Optional model": (Optional[User], {"content": json.loads(JOHN)}),
    "int": (int, {"content": 25}),
    "str": (str, {"content": "grüße\0 \U0001f600"}),
    "float": (float, {"content": 0.1}),
    "bool": (bool, {"content": True}),
    "list of int": (list[int], {"content": [1, 2]}),
    "Literal": (Literal["a", 1], {"content": "a"}),
    "Enum": (Colour, {"content": "red"}),
    "Union": (Union[int, str], {"content": "1"}),
    "Optional": (Optional[int], {"content": None}),
    "Annotated": (Annotated[int, Field(gt=3)], {"content": 4}),
    "dataclass": (Point, {"content": {"x": 1, "y": 2}}),
    "Maybe": (instructor.Maybe(User), {"result": json.loads(JOHN), "error": False, "message": None}),
    "Partial": (instructor.Partial[User], JOHN),
}


@pytest.fixture(scope="module")
def fake():
    """One provider for all of these rules."""
    with fake_provider() as fake:
        yield fake


@pytest.fixture(scope="module")
def raw(fake):
    """OpenAI's own client of it."""
    with openai.OpenAI(api_key="k", base_url=fake.url, max_retries=0) as client:
        yield client


@pytest.fixture
def ask(fake, raw):
    """A client with a cache of its own, against a provider that begins to count anew."""
    fake.requests.clear()
    fake.say(Say())
    return instructor.from_openai(raw, model="m", messages=HELLO, cache=AutoCache())


def text_of(payload):
    """A payload as the model would say it."""
    return payload if isinstance(payload, str) else json.dumps(payload)


def equal(one, other):
    """Equality in which NaN is NaN."""
    return one == other or (repr(one) == repr(other) and "nan" in repr(one))


def dumped(value):
    """A value with every model in it dumped."""
    if isinstance(value, list):
        return [dumped(item) for item in value]
    return value.model_dump() if isinstance(value, BaseModel) else value


@pytest.mark.fault("E1")
@pytest.mark.fault("E2")
@pytest.mark.parametrize("mode", [Mode.TOOLS, Mode.JSON], ids=["TOOLS", "JSON"])
@pytest.mark.parametrize("name", CASES)
def test_a_hit_equals_its_miss(ask, fake, name, mode):
    """Value, type, dump, private state, completion: on the hit as on the miss, of one call."""
    wanted, payload = CASES[name]
    fake.say(text_of(payload))
    ask.mode = mode
    (miss, paid), (hit, kept) = (
        ask.create_with_completion(response_model=wanted),
        ask.create_with_completion(response_model=wanted),
    )

    assert (fake.calls, stats(ask.kwargs["cache"]).hits) == (1, 1)
    assert type(hit) is type(miss)
    assert equal(hit, miss)
    assert equal(dumped(hit), dumped(miss))
    assert getattr(hit, "__pydantic_private__", None) == getattr(miss, "__pydantic_private__", None)
    assert getattr(hit, "model_fields_set", None) == getattr(miss, "model_fields_set", None)
    assert (type(kept), kept, kept.model_dump(), kept._request_id) == (ChatCompletion, paid, paid.model_dump(), "req_1")
    assert kept.model_dump_json() == paid.model_dump_json()


@pytest.mark.fault("E1")
@pytest.mark.parametrize("name", CASES)
def test_a_hit_travels_like_its_miss(ask, fake, name):
    """Pickled or copied, at any depth, a hit is what its miss would be, with the completion it was read from."""
    wanted, payload = CASES[name]
    fake.say(text_of(payload))
    miss = ask.create(wanted)

    for travel in (copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))):  # noqa: S301
        there, here = travel(ask.create(wanted)), travel(miss)

        assert (type(there), equal(there, here)) == (type(miss), True)
        if hasattr(miss, "_raw_response"):
            assert there._raw_response == here._raw_response == miss._raw_response
            assert type(there._raw_response) is ChatCompletion
            assert there._raw_response._request_id == "req_1"
    assert fake.calls == 1


def test_values_are_what_they_should_be(ask, fake):
    """What the cases above compare is not empty: special values come out as they went in."""
    found = {}
    for name in (
        "inf and nan",
        "validator that is not idempotent",
        "bytes",
        "SecretStr",
        "private attribute",
        "exclude",
    ):
        fake.say(text_of(CASES[name][1]))
        found[name] = [ask.create(CASES[name][0]), ask.create(CASES[name][0])][1]

    assert (found["inf and nan"].high, math.isnan(found["inf and nan"].none)) == (math.inf, True)
    assert found["validator that is not idempotent"].name == "Ann!"
    assert found["bytes"].data == BLOB
    assert found["SecretStr"].password.get_secret_value() == "hunter2"
    assert (found["private attribute"]._seen, found["exclude"].age) == (2, 3)


@pytest.mark.fault("E1")
@pytest.mark.fault("G7")
def test_a_plain_completion_is_remembered(ask, fake):
    """Without a response model the completion itself is the answer, of the SDK's own type both times."""
    fake.say("hello yourself")
    miss, hit = ask.create(), ask.create()

    assert (fake.calls, type(hit), hit, hit._request_id) == (1, ChatCompletion, miss, "req_1")
    assert hit is not miss


@pytest.mark.fault("G7")
def test_a_plain_completion_that_calls_a_tool_is_remembered(ask, fake):
    """A tool call without content says something too."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    miss, hit = ask.create(tools=tools), ask.create(tools=tools)

    assert (fake.calls, hit) == (1, miss)
    assert hit.choices[0].message.tool_calls[0].function.arguments == JOHN


@pytest.mark.fault("G7")
def test_an_empty_completion_is_not_remembered(ask, fake):
    """A completion that says nothing is not worth keeping."""
    fake.say("")
    ask.create()
    ask.create()

    assert fake.calls == 2


def test_frozen_answers_are_one_in_a_set(ask):
    """Two answers of a frozen model hash alike."""
    assert len({ask.create(Frozen), ask.create(Frozen), Frozen(name="John", age=25)}) == 1


def test_a_hit_costs_nothing(ask):
    """Usage on a hit is zero, in the provider's own units; the completion says what was paid once."""
    miss, hit = ask.create(User), ask.create(User)

    assert (miss._total_usage.total_tokens, hit._total_usage.total_tokens) == (15, 0)
    assert hit._raw_response.usage.total_tokens == 15


def test_receipts_do_not_show(ask):
    """The completion that comes with a result is no part of its value."""
    hit = [ask.create(User), ask.create(User)][1]

    assert (hit, hit.model_dump(), repr(hit)) == (
        User(name="John", age=25),
        {"name": "John", "age": 25},
        "User(name='John', age=25)",
    )
    assert hit.model_copy(update={"age": 3})._raw_response == hit._raw_response


def test_a_model_may_have_a_raw_response_of_its_own(ask):
    """A model that declares a private attribute of that name finds the completion in it, on a hit too."""

    class Keeping(BaseModel, frozen=True):
        name: str
        _raw_response: ChatCompletion = PrivateAttr()

    for _ in range(2):
        value, completion = ask.create_with_completion(response_model=Keeping)

        assert (type(completion), value._raw_response) == (ChatCompletion, completion)
        assert (value.__pydantic_private__, vars(value)) == ({"_raw_response": completion}, {"name": "John"})


def test_a_model_may_have_a_property_of_that_name(ask):
    """What a class computes under that name stays what it is."""

    class Computing(BaseModel):
        name: str

        @property
        def _raw_response(self) -> str:
            return "mine"

    assert [ask.create(Computing)._raw_response, ask.create(Computing)._raw_response] == ["mine", "mine"]


class Assigning(BaseModel, extra="allow", validate_assignment=True):
    name: str


class Revalidating(BaseModel, extra="forbid", revalidate_instances="always"):
    name: str


class RevalidatingAll(BaseModel, extra="allow", revalidate_instances="always"):
    name: str


@pytest.mark.parametrize("kind", [Assigning, Revalidating, RevalidatingAll], ids=lambda kind: kind.__name__)
def test_receipts_are_never_taken_for_fields(ask, fake, kind):
    """A model that takes what lies in an instance for its fields shows no receipt, nor fails because of one."""
    fake.say('{"name": "John"}')
    for result in (ask.create(kind), ask.create(kind)):
        inside = TypeAdapter(list[kind]).validate_python([result])
        result.name = "Ann"

        assert {"name": "Ann"} == result.model_dump() == json.loads(result.model_dump_json())
        assert (dict(result), result) == ({"name": "Ann"}, kind(name="Ann"))
        assert inside[0].model_dump()["name"] in {"John", "Ann"}
        assert {"name"} == inside[0].model_dump().keys()

    assert fake.calls == 1


MEANWHILE = []
"""What happens while a class is looked at for the next time, as between any two steps of a thread."""


class Watched(type(BaseModel)):
    def __getattr__(cls, name):
        if name == "_raw_response" and MEANWHILE:
            MEANWHILE.pop()()
        return super().__getattr__(name)


def test_the_first_results_of_a_class_all_have_their_receipts(ask):
    """Two threads may find at once that a class has had no results yet."""

    class Fresh(BaseModel, metaclass=Watched):
        name: str

    results = []

    def question():
        results.append(ask.create(Fresh, cache=None))

    def elsewhere():
        thread = threading.Thread(target=question)
        thread.start()
        thread.join()

    MEANWHILE.append(elsewhere)
    question()

    assert [ChatCompletion] * 2 == [type(result._raw_response) for result in results]
    assert [15, 15] == [result._total_usage.total_tokens for result in results]


# --- E4, E5 -------------------------------------------------------------------------------------------------------


def aged(limit, **extra):
    """`User` as a program would have it whose validator allows ages up to `limit`."""

    class User(BaseModel):
        name: str
        age: int = Field(**extra)

        @field_validator("age")
        @classmethod
        def allowed(cls, age: int) -> int:
            if age > limit:
                raise ValueError("too old")
            return age

    return User


@pytest.mark.fault("E4")
def test_an_answer_that_todays_validator_refuses_is_asked_for_again(ask, fake):
    """The validator's code changed, and the schema did not: what it refuses is a miss, and is replaced."""
    fake.say(JOHN, '{"name": "John", "age": 12}')
    before = [ask.create(aged(99)).age, ask.create(aged(50)).age]
    after = [ask.create(aged(18)).age, ask.create(aged(18)).age, ask.create(aged(99)).age]

    assert (before, after, fake.calls) == ([25, 25], [12, 12, 12], 2)
    assert stats(ask.kwargs["cache"]).errors == 0


@pytest.mark.fault("E4")
def test_a_validator_that_raises_anything_is_a_miss(ask, fake):
    """A validator may fail in any way; on a hit that is a miss, and the call tells what the miss tells."""
    ask.create(User)

    class Hurt(BaseModel):
        name: str
        age: int

        @field_validator("age")
        @classmethod
        def fails(cls, _age: int) -> int:
            raise ZeroDivisionError

    Hurt.__name__ = Hurt.__qualname__ = "User"
    Hurt.model_rebuild(force=True)
    with pytest.raises(InstructorRetryException):
        ask.create(Hurt, max_retries=0)

    assert fake.calls == 2


@pytest.mark.fault("E4")
def test_a_refused_entry_is_validated_once(ask, fake):
    """A validator may cost something, and count: what it refused a moment ago is not shown to it again."""
    fake.say(JOHN, '{"name": "John", "age": 12}')
    ask.create(aged(99))
    shown = []

    class User(BaseModel):
        name: str
        age: int

        @field_validator("age")
        @classmethod
        def young(cls, age: int) -> int:
            shown.append(age)
            if age > 18:
                raise ValueError("too old")
            return age

    assert (ask.create(User).age, shown, fake.calls) == (12, [25, 12], 2)


@pytest.mark.fault("E4")
def test_a_schema_edit_is_another_question(ask, fake):
    """A description more, and the answer is asked for anew; the old program still has the old one."""
    ask.create(aged(99))
    ask.create(aged(99, description="in years"))
    ask.create(aged(99))

    assert fake.calls == 2


@pytest.mark.fault("E5")
@pytest.mark.parametrize(
    "name", ["set, tuple, dict", "forward reference", "list of models", "extra=allow", "list of int"]
)
def test_what_a_caller_does_to_an_answer_stays_with_that_caller(ask, fake, name):
    """Answers share nothing: neither the miss nor a hit, changed, shows in the next hit."""
    wanted, payload = CASES[name]
    fake.say(text_of(payload))
    first = ask.create(wanted)
    pristine = copy.deepcopy(first)

    for answer in (first, ask.create(wanted), ask.create(wanted)):
        spoil(answer)

        assert equal(ask.create(wanted), pristine)
        assert getattr(ask.create(wanted), "_raw_response", None) == getattr(pristine, "_raw_response", None)
    assert fake.calls == 1


def spoil(value):
    """Change everything in a value that can be."""
    completion = getattr(value, "_raw_response", None)
    if completion is not None:
        completion.choices.clear()
    if isinstance(value, BaseModel):
        for container in vars(value).values():
            if isinstance(container, (list, set, dict)):
                container.clear()
        value.__dict__["name"] = "spoiled"
    if isinstance(value, list):
        value.clear()


# --- A5, F4, H2: what else may stand in a store -------------------------------------------------------------------


class Shelf(BaseCache):
    """A user's store, into which anything can be put."""

    blocking = "never"

    def __init__(self):
        self.held = {}

    def get(self, key):
        return self.held.get(key)

    def set(self, key, value, ttl=None):
        self.held[key] = value


def local_client(cache, arguments='{"name":"Ann","age":3}'):
    """A client whose provider is a function: no HTTP where thousands of calls are made; and those calls."""
    calls = []

    def create(**_):
        calls.append(1)
        message = {"role": "assistant", "content": arguments}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return ChatCompletion(id="1", object="chat.completion", created=1, model="m", choices=[choice])

    return instructor.Instructor(None, create, mode=Mode.JSON, model="m", messages=HELLO, cache=cache), calls


ANN = User(name="Ann", age=3)


@pytest.fixture
def planted():
    """A function that puts a thing under the key of a question, and asks that question twice."""
    store = Shelf()
    client, calls = local_client(store)
    client.create(User)
    (key,) = store.held

    def plant(thing):
        store.held[key] = thing
        calls.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CacheWarning)
            first, paid = client.create(User), len(calls)
            second = client.create(User)
        return first, second, paid, len(calls)

    plant.key, plant.entry, plant.store, plant.client = key, store.held[key], store, client
    return plant


HEALED = (ANN, ANN, 1, 1)
UNHARMED = (ANN, ANN, 0, 0)


@pytest.mark.fault("A5")
def test_an_entry_with_any_bit_flipped_is_a_miss(planted, tried):
    """Every single bit of an entry counts; the damaged entry is replaced, and the next call is a hit."""
    entry = bytearray(planted.entry.encode())
    outcomes = set()
    for bit in range(len(entry) * 8):
        entry[bit // 8] ^= 1 << bit % 8
        outcomes.add(repr(planted(bytes(entry))))
        entry[bit // 8] ^= 1 << bit % 8

    assert len(entry) >= tried(300 * 8) // 8  # how long it is depends on the time of day
    assert outcomes == {repr(HEALED)}
    assert planted(bytes(entry)) == UNHARMED


@pytest.mark.fault("A5")
def test_a_small_entry_with_any_bit_flipped_is_none(tried):
    """The envelope alone, around some 300 bytes: no bit may change, as bytes or as text."""
    key = "0" * 64
    kept = Kept("dict", msgspec.Raw(b'{"choices": ["' + b"x" * 100 + b'"]}'))
    entry = Entry(("{}",), kept, "m", 1.0)
    sealed = seal(entry, key).encode()
    flipped = [
        sealed[:i] + bytes([sealed[i] ^ 1 << bit]) + sealed[i + 1 :] for i in range(len(sealed)) for bit in range(8)
    ]

    assert 2000 <= tried(len(flipped)) <= 2800
    assert {unseal(text, key) for text in flipped} == {None}
    assert {unseal(text.decode("latin-1"), key) for text in flipped} == {None}
    assert {unseal(sealed[:cut], key) for cut in range(len(sealed))} == {None}
    assert {unseal(sealed + bytes([more]), key) for more in range(256)} == {None}
    assert unseal(sealed.decode(), key[:-1] + "1") is None
    assert unseal(sealed, key) is not None


@pytest.mark.fault("A5")
def test_an_entry_cut_short_is_a_miss(planted, tried):
    """Wherever an entry ends too early, it is no entry, and is replaced."""
    entry = planted.entry

    assert len(entry) >= tried(300)
    assert {repr(planted(entry[:cut])) for cut in range(len(entry))} == {repr(HEALED)}


FOREIGN: dict[str, Any] = {
    "empty": "",
    "empty bytes": b"",
    "null": "null",
    "list": "[]",
    "a list": [],
    "zero": 0,
    "int": 7,
    "true": True,
    "float": 1.5,
    "a dict": {"name": "Eve", "age": 6},
    "an object": object(),
    "memoryview": memoryview(b"instructor/1 "),
    "not UTF-8": b"\xff\xfe\xfd",
    "half a surrogate pair": "\ud800",
    "JSON of the model": '{"name": "Eve", "age": 6}',
    "old format": '{"model": "{\\"name\\": \\"Eve\\", \\"age\\": 6}", "raw": null}',
    "JSON text": '"Eve"',
    "NUL": "\0" * 400,
    "header alone": "instructor/1 ",
    "another version": "instructor/2 " + "0" * 64 + " {}",
    "wrong checksum": "instructor/1 " + "0" * 64 + ' {"tape":["{}"]}',
    "deep": "[" * 100_000,
    "long": "instructor/1 " * 100_000,
}


@pytest.mark.fault("A5")
@pytest.mark.fault("F4")
@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_an_entry_is_a_miss(planted, name):
    """Whatever a store gives back, what we did not write is a miss, and is replaced."""
    assert planted(FOREIGN[name]) == HEALED


@pytest.mark.fault("F4")
def test_bytes_are_as_good_as_text(planted):
    """A store that gives back bytes for text hits."""
    assert planted(planted.entry.encode()) == UNHARMED
    assert planted(bytearray(planted.entry.encode())) == UNHARMED


@pytest.mark.fault("F4")
def test_none_is_a_miss_without_a_word(ask, fake):
    """None is what an empty store says: no warning, no error."""
    cache = Shelf()
    assert ask.create(User, cache=cache) == ask.create(User, cache=cache)

    assert (fake.calls, stats(cache).errors, stats(cache).misses, stats(cache).stores) == (1, 0, 1, 1)


@pytest.mark.fault("A5")
def test_a_bad_entry_is_counted_and_warned_of_once(planted):
    """Damage is counted each time, and complained of once a minute."""
    client = planted.client
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            planted.store.held[planted.key] = "damage"
            client.create(User)

    assert [(warning.category, "damaged" in str(warning.message)) for warning in caught] == [(CacheWarning, True)]
    assert stats(planted.store).errors >= 3


@pytest.mark.fault("H2")
@pytest.mark.parametrize("kind", ["pickle", "pickle text", "reduce", "class", "langchain", "yaml"])
def test_nothing_planted_is_ever_executed(planted, kind, tmp_path):
    """Serialised objects, class names and constructors in a store are text that is not ours."""
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (canary,))

    bomb = pickle.dumps(Bomb())
    thing = {
        "pickle": bomb,
        "pickle text": bomb.decode("latin-1"),
        "reduce": json.dumps({"py/reduce": [{"py/function": "pathlib.Path.touch"}, {"py/tuple": [str(canary)]}]}),
        "class": json.dumps({"__class__": "pathlib.Path", "__args__": [str(canary)], "model": "instructor:Mode"}),
        "langchain": json.dumps(
            {"lc": 1, "type": "constructor", "id": ["pathlib", "Path"], "kwargs": {"args": str(canary)}}
        ),
        "yaml": f"!!python/object/apply:os.system ['touch {canary}']",
    }[kind]

    assert (planted(thing), canary.exists()) == (HEALED, False)
    assert (planted(sealed_by_hand(planted.key, how=thing)), canary.exists()) == (HEALED, False)


EVE = json.dumps(['{"name": "Eve", "age": 6}'])


def sealed_by_hand(key, how="dict", data="{}", tape=EVE):
    """An entry whose checksum is right and whose content is what somebody made up."""
    how = how if isinstance(how, str) else how.decode("latin-1")
    entry = Entry(("@tape@",), Kept("@how@", msgspec.Raw(b'"@data@"')), "m", 1.0)
    body = seal(entry, key).partition("{")[2]
    made = "{" + body.replace('["@tape@"]', tape).replace('"@how@"', json.dumps(how)).replace('"@data@"', data)
    return resealed(made, key)


def resealed(body, key):
    """Any text under a right checksum."""
    from instructor.cache import entry

    return entry._head(body.encode(), key, b"1").decode() + body


@pytest.mark.fault("H2")
@pytest.mark.parametrize(
    "forged",
    [
        {"how": "pickle"},
        {"how": "openai.types.chat:ChatCompletion"},
        {"data": "[" * 100_000 + "]" * 100_000},
        {"tape": "[1]"},
        {"tape": '["not JSON"]'},
        {"tape": '["[' + "[" * 50_000 + '"]'},
        {"tape": '["{\\"name\\": \\"Eve\\"}"]'},
    ],
    ids=["unknown way", "a class's name", "bomb", "tape of numbers", "tape of prose", "deep tape", "unfit tape"],
)
def test_a_forged_entry_that_makes_no_sense_is_a_miss(planted, forged):
    """A right checksum under nonsense is still nonsense: a miss, replaced."""
    assert planted(sealed_by_hand(planted.key, **forged)) == HEALED


def test_a_completion_of_another_sdk_version_is_restored_all_the_same(planted):
    """What the SDK of yesterday wrote may lack a field that today's wants: the answer was validated, and is given."""
    entry = unseal(planted.entry, planted.key)
    fields = json.loads(bytes(entry.completion.data))
    del fields["created"]
    kept = msgspec.structs.replace(entry.completion, data=msgspec.Raw(json.dumps(fields).encode()))
    with pytest.raises(ValueError, match="created"):
        ChatCompletion.model_validate(fields)

    assert planted(seal(msgspec.structs.replace(entry, completion=kept), planted.key)) == UNHARMED
    value, completion = planted.client.create_with_completion(response_model=User)

    assert (value, type(completion), completion) == (ANN, ChatCompletion, value._raw_response)
    assert (completion.id, completion.choices[0].message.content) == ("1", '{"name":"Ann","age":3}')
    assert "created" not in completion.model_fields_set


@pytest.mark.fault("H2")
def test_an_entry_under_another_key_is_a_miss(planted):
    """Entries cannot be swapped: each is bound to its question."""
    client, _ = local_client(planted.store, '{"name":"Eve","age":6}')
    client.create(User, seed=7)
    other = next(text for key, text in planted.store.held.items() if key != planted.key)

    assert planted(other) == HEALED


# --- completions as text ------------------------------------------------------------------------------------------

KIND = "openai.types.chat:ChatCompletion"


@pytest.mark.parametrize(
    "completion",
    [
        {"choices": [{"message": {"content": "a"}}], "usage": None, "n": 1.0, "é": "\ud800"},
        SimpleNamespace(id="1", choices=[SimpleNamespace(text="a")]),
        ChatCompletion.model_construct(id="1", choices=[], created=None, surprise={"a": [1]}),
    ],
    ids=["dict", "namespace", "a model with holes"],
)
def test_a_completion_that_comes_back_equal_is_kept(completion):
    """What is kept has been seen to come back: equal, and of the same type."""
    kept = keep(completion, KIND)
    back = restore(kept, KIND)

    assert (type(back), back) == (type(completion), completion)


class Loose(BaseModel, extra="allow"):
    name: str | None = None


class Dot(BaseModel):
    x: int


class Drawing(BaseModel):
    parts: list[Loose | Dot]
    number: float | bool | int = 0


@pytest.mark.parametrize(
    ("drawing", "how"),
    [
        (Drawing(parts=[Loose(name="a")]), "first"),
        (Drawing(parts=[Dot(x=1)]), "model"),
        *((Drawing(parts=[], number=number), "first") for number in (1, 1.0, True)),
    ],
    ids=repr,
)
def test_a_union_comes_back_as_the_member_that_it_was(drawing, how):
    """The first model of a union that fits is taken only where it was that one; of numbers always the one that fits."""
    kept = keep(drawing, f"{__name__}:Drawing")
    back = restore(kept, f"{__name__}:Drawing")

    assert (how, repr(drawing), drawing) == (kept.how, repr(back), back)


class Noted(BaseModel):
    """As litellm's completions are: with notes of how they came about, which are no part of what was said."""

    text: str
    _notes: dict[str, Any] = PrivateAttr(default_factory=dict)
    _newer: list[str] = PrivateAttr(default_factory=list)


def test_notes_come_back_as_far_as_json_knows_them():
    """They hinder nothing; two restored ones share nothing, and have what a newer version writes down."""
    paid = Noted(text="hi")
    paid._notes = {"cost": 0.5, "usage": Loose(name="a")}
    kept = keep(paid, f"{__name__}:Noted")
    kept.notes.pop("_newer")

    found, other = (restore(kept, f"{__name__}:Noted") for _ in range(2))
    other._notes["cost"] = 9

    assert (found.text, found._notes, found._newer) == ("hi", {"cost": 0.5, "usage": {"name": "a"}}, [])


class Attributes(dict[str, Any]):
    pass


class Other(BaseModel):
    id: str


@pytest.mark.parametrize(
    "completion",
    [
        *({"at": dt.date(2024, 1, 1)}, {"parts": (1, 2)}, {1: "a"}, {"a": object()}, {"a": math.nan}),
        *(SimpleNamespace(a=object()), SimpleNamespace(a={"b": 1}), Attributes(a=1), Other(id="1")),
        *("text", 7, None, object(), ChatCompletion.model_construct(id=object())),
    ],
)
def test_a_completion_that_would_come_back_changed_is_not_kept(completion):
    """Whatever no text brings back as it was is not kept, and raises nothing."""
    assert keep(completion, KIND) is None


def test_a_completion_that_cannot_be_kept_costs_only_the_cache():
    """The answer is paid for and given; a warning says why it is not remembered."""
    calls = []

    def create(**_):
        calls.append(1)
        message = {"content": JOHN}
        return {"choices": [{"message": message, "finish_reason": "stop"}], "at": dt.date(2024, 1, 1)}

    cache = AutoCache()
    client = instructor.Instructor(None, create, mode=Mode.JSON, model="m", messages=HELLO, cache=cache)
    with pytest.warns(CacheWarning, match="cannot be kept") as caught:
        answers = [client.create(User), client.create(User)]

    assert answers == [User(name="John", age=25)] * 2
    assert (len(calls), len(caught), stats(cache).bypassed) == (2, 1, {"completion": 2})


# --- H4 -----------------------------------------------------------------------------------------------------------

CANARIES = {
    name: f"canary-{name}-5ecret"
    for name in ("key", "bearer", "x-api-key", "tenant", "context", "prompt", "system", "opaque")
}


class Opaque:
    def __repr__(self):
        return CANARIES["opaque"]


class Checked(BaseModel):
    name: str

    @model_validator(mode="after")
    def look(self, info: Any) -> Self:
        return self


def errors_of(client, model, **kwargs):
    """What asking twice tells of its failure."""
    try:
        client.create(model, **kwargs)
        client.create(model, **kwargs)
    except instructor.exceptions.InstructorError as error:
        return [str(error), repr(error)]
    return []


@pytest.mark.fault("H4")
def test_no_secret_leaves_the_call(fake, caplog, tried):
    """Eight secrets go in: none is in a log record, a warning, a key, a stored entry, or an error's text."""
    caplog.set_level(logging.DEBUG, logger="instructor")
    store = Shelf()
    headers = {
        "Authorization": f"Bearer {CANARIES['bearer']}",
        "X-Api-Key": CANARIES["x-api-key"],
        "X-Tenant-Token": CANARIES["tenant"],
    }
    messages = [
        {"role": "system", "content": CANARIES["system"]},
        {"role": "user", "content": CANARIES["prompt"] + " {{ secret }}"},
    ]
    told = []
    with (
        openai.OpenAI(api_key=CANARIES["key"], base_url=fake.url, max_retries=0) as raw,
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        client = instructor.from_openai(raw, model="m", messages=messages, cache=store, extra_headers=headers)
        context = {"secret": CANARIES["context"]}
        for answer in (Say('{"name": "Ann"}'), Say(status=500), Say(status=401), Say("no JSON"), Say(finish="length")):
            fake.say(answer)
            for model, extra in ((Checked, {}), (Checked, {"opaque": Opaque()}), (User, {})):
                told += errors_of(client, model, context={**context, **extra}, max_retries=1, seed=fake.calls)
        store.held = dict.fromkeys(store.held, "damaged")
        fake.say('{"name": "Ann"}')
        client.create(Checked, context=context)

    records = [record for record in caplog.records if record.name.startswith("instructor")]
    told += [record.getMessage() + repr(record.args) + str(record.exc_text) for record in records]
    told += [str(warning.message) for warning in caught]
    told += [*store.held, *store.held.values(), repr(stats(store)), repr(client), repr(store)]

    tried(len(CANARIES))
    assert [(name, text) for name, canary in CANARIES.items() for text in told if canary in text] == []
    assert (len(caught) > 0, stats(store).bypassed["no stable identity"] > 0) == (True, True)
    assert any("<failed_attempts>" in text for text in told)
    assert (len(store.held) > 0, len(records) > 0, any("Traceback" in text for text in told)) == (True, True, False)
