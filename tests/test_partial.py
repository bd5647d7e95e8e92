"""Rules of showing a model while its fields are still arriving."""

import asyncio
import copy
import dataclasses
import datetime as dt
import enum
import gc
import json
import pickle
import threading
import weakref
from decimal import Decimal
from itertools import pairwise
from typing import Annotated, Any, Generic, Literal, Optional, TypeVar, Union
from uuid import UUID, uuid4

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, PrivateAttr, RootModel
from typing_extensions import TypedDict

import instructor.dialects.openai
from instructor.dsl.partial import Partial, PartialBase, PartialLiteralMixin, Snapshots
from instructor.mode import Mode
from instructor.shape import compile_shape
from instructor.snapshots import LARGE

T = TypeVar("T")


class Color(enum.Enum):
    RED = "red"
    BLUE = 2


class Address(BaseModel):
    street: str
    zip: int


class Cat(BaseModel):
    kind: Literal["cat"]
    name: str
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class Point(TypedDict):
    x: int
    y: int


@dataclasses.dataclass
class Size:
    width: int


class Numbers(RootModel[list[int]]):
    pass


class Box(BaseModel, Generic[T]):
    content: T


class Early(BaseModel):
    late: "Late"


class Late(BaseModel):
    value: int


class Thing:
    pass


class Everything(BaseModel):
    """A bit of everything."""

    name: str
    age: int
    ratio: float = 0.5
    address: Address
    home: Optional[Address] = None
    tags: list[str] = Field(default_factory=list)
    history: list[Address] = Field(default_factory=list)
    rooms: dict[str, Address] = Field(default_factory=dict)
    pet: Union[Cat, Dog, None] = None
    pets: list[Annotated[Union[Cat, Dog], Field(discriminator="kind")]] = Field(default_factory=list)
    either: Union[int, str, list[int]] = 3
    color: Color = Color.RED
    mood: Literal["good", "bad"] = "good"
    born: Optional[dt.date] = None
    price: Decimal = Decimal(1)
    id: Optional[UUID] = None
    raw: Any = None
    point: Optional[Point] = None
    size: Optional[Size] = None
    numbers: Optional[Numbers] = None
    box: Optional[Box[str]] = None
    friends: list["Everything"] = Field(default_factory=list)
    surname: str = Field(default="", alias="lastName")
    nick: str = Field(default="", validation_alias=AliasChoices("nick", "nickName", AliasPath("names", 0)))
    unseen: str = Field(default="?", validation_alias=AliasPath("deep", "down"))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ADDRESS = st.fixed_dictionaries({"street": TEXT, "zip": st.integers(-99, 99)})
PET = st.fixed_dictionaries({"kind": st.just("cat"), "name": TEXT}, optional={"lives": st.integers(0, 9)}) | (
    st.fixed_dictionaries({"name": TEXT, "kind": st.just("dog")})
)
RAW = st.recursive(st.none() | st.booleans() | st.integers(-99, 99) | TEXT, lambda part: st.lists(part, max_size=2))
REQUIRED = {"name": TEXT, "age": st.integers(), "address": ADDRESS}
OPTIONAL = {
    "ratio": st.floats(allow_nan=False, allow_infinity=False),
    "home": ADDRESS | st.none(),
    "tags": st.lists(TEXT, max_size=3),
    "history": st.lists(ADDRESS, max_size=2),
    "rooms": st.dictionaries(TEXT, ADDRESS, max_size=2),
    "pet": PET | st.none(),
    "pets": st.lists(PET, max_size=2),
    "either": st.integers() | TEXT | st.lists(st.integers(-9, 9), max_size=2),
    "color": st.sampled_from(["red", 2]),
    "mood": st.sampled_from(["good", "bad"]),
    "born": st.dates().map(str),
    "price": st.decimals(0, 9, places=2).map(str),
    "id": st.uuids().map(str),
    "raw": RAW,
    "point": st.fixed_dictionaries({"x": st.integers(), "y": st.integers()}),
    "size": st.fixed_dictionaries({"width": st.integers()}),
    "numbers": st.lists(st.integers(), max_size=2),
    "box": st.fixed_dictionaries({"content": TEXT}),
    "lastName": TEXT,
    "nickName": TEXT,
    "deep": st.fixed_dictionaries({"down": TEXT}),
    "unknown": RAW,
}
FIELDS = st.recursive(
    st.fixed_dictionaries(REQUIRED, optional=OPTIONAL),
    lambda part: st.fixed_dictionaries(REQUIRED, optional={**OPTIONAL, "friends": st.lists(part, max_size=2)}),
    max_leaves=3,
)
DOCUMENTS = st.builds(
    lambda fields, ascii_only, indent: json.dumps(fields, ensure_ascii=ascii_only, indent=indent),
    FIELDS,
    st.booleans(),
    st.sampled_from([None, 2]),
)


def snapshots(wanted, document, size=1, **how):
    """Everything that is shown of a document that comes in pieces of that size."""
    reader = compile_shape(wanted).reader(partial=True, **how)
    shown = [each for i in range(0, len(document), size) for each in reader.feed(document[i : i + size])]
    return shown + reader.end(document)


def grew(before, after):
    """Whether what was shown is still there in what is shown now."""
    match before:
        case BaseModel():
            kept = before.model_fields_set <= after.model_fields_set
            return kept and all(grew(getattr(before, name), getattr(after, name)) for name in before.model_fields_set)
        case str() if type(after) is str:
            return after.startswith(before)
        case list():
            return len(before) <= len(after) and all(map(grew, before, after))
        case dict():
            return before.keys() <= after.keys() and all(grew(before[key], after[key]) for key in before)
        case _:
            return before == after


@settings(deadline=None, max_examples=60)
@given(DOCUMENTS, st.integers(1, 9))
def test_partials_never_go_backwards(document, size):
    """However a document is cut, what was shown stays: strings, lists, fields only grow; and dumping never warns."""
    shown = snapshots(Everything, document, size, strict=False)

    assert all(grew(before, after) for before, after in pairwise(shown))
    assert all(each.model_dump_json() for each in shown)


@settings(deadline=None, max_examples=60)
@given(DOCUMENTS)
def test_the_last_equals_the_whole(document):
    """The last snapshot is an instance of the user's own class, equal to what `create` returns."""
    *partials, last = snapshots(Everything, document, strict=False)

    assert all(type(each) is Partial[Everything] for each in partials)
    assert type(last) is Everything
    assert last == compile_shape(Everything).load(document, strict=False)


def test_the_end_of_a_list_in_a_union_is_shown():
    """Its last number is known when the list ends, and is shown then, not with what comes after it."""
    reader = compile_shape(Everything).reader(strict=False, partial=True)

    shown = [snapshot for character in '{"either": [0, 0]' for snapshot in reader.feed(character)]

    assert [0, 0] == shown[-1].either


@settings(deadline=None, max_examples=60)
@given(DOCUMENTS, st.data())
def test_snapshots_do_not_depend_on_the_cut(document, data):
    """At the same place of the text the same is shown, whatever the pieces before it were."""
    place = data.draw(st.integers(0, len(document)))
    once, each = (compile_shape(Everything).reader(strict=False, partial=True) for _ in range(2))

    whole = once.feed(document[:place])
    grown = [shown for character in document[:place] for shown in each.feed(character)]

    assert whole == grown[-1:]


@pytest.mark.parametrize("size", [1, 5, 100])
def test_a_key_that_is_said_again_takes_nothing_back(size):
    """What was shown cannot be another in the end, however the document is cut."""
    with pytest.raises(ValueError, match="another one than what was shown"):
        snapshots(Address, '{"street": "Wrong", "zip": 1, "street": "W"}', size)
    assert [Address(street="A", zip=1)] == snapshots(Address, '{"zip": null, "zip": 1, "street": "A"}', size)


def test_another_document_takes_nothing_back():
    """The end is of what was shown, in other spaces perhaps; where nothing was, it is shown as its replay will be."""
    right = '{"street": "Right", "zip": 2}'
    draft, same, silent, replay = (compile_shape(Address).reader(partial=True) for _ in range(4))
    draft.feed('{"street": "Wrong')
    same.feed(right.replace(" ", ""))
    silent.feed('{"zip": nothing}')

    with pytest.raises(ValueError, match="another one than what was shown"):
        draft.end(right)
    assert [Address(street="Right", zip=2)] == same.end(right)
    assert silent.end(right) == replay.feed(right) + replay.end(right)


def test_fields_appear_as_they_arrive():
    """A missing field is None or its default; strings grow; numbers and objects are shown as what they are."""
    document = '{"name": "Al", "age": 12, "address": {"street": "B", "zip": 1}}'
    wanted = pydantic.create_model("Small", name=(str, ...), age=(int, 7), address=(Address, ...))
    home = Partial[Address]

    shown = [(each.name, each.age, each.address) for each in snapshots(wanted, document)[:-1]]

    partial = [(a.street, a.zip) if isinstance(a, home) else a for _, _, a in shown[4:]]
    assert [("", 7), ("A", 7), ("Al", 7), ("Al", 12)] == [each[:2] for each in shown[:4]]
    assert [(None, None), ("", None), ("B", None), Address(street="B", zip=1)] == partial


def test_only_what_was_seen_is_set():
    """`model_fields_set` holds the fields that have arrived, and defaults are fresh."""
    reader = Partial[Everything].model_from_chunks(['{"name": "A', "l"])
    first, second = next(reader), next(reader)

    assert {"name"} == first.model_fields_set
    assert first.tags is not second.tags


def test_a_snapshot_is_independent():
    """Changing what was shown changes nothing that is shown later."""
    reader = compile_shape(Everything).reader(partial=True)
    (first,) = reader.feed('{"tags": ["a", "b')
    first.tags.append("mine")
    (second,) = reader.feed("c")

    assert ["a", "bc"] == second.tags


def test_nothing_new_shows_nothing():
    """Spaces, keys and halves of numbers show nothing, nor does an object before something of a field is there."""
    reader = compile_shape(Address).reader(partial=True)

    assert [0, 0, 0, 0, 1, 0, 0, 0, 1] == [
        len(reader.feed(piece)) for piece in ("{", " ", '"str', 'eet": ', '"x', '", "z', 'ip": 1', "2", "}")
    ]


@pytest.mark.parametrize("cut", ['{"a": "x\\', '{"a": "x\\u00', '{"a": "x\\ud83d', '{"a": "x\\ud83d\\ud', '{"a": "x'])
def test_a_string_is_shown_up_to_what_is_whole_of_it(cut):
    """Half an escape and half a pair of surrogates wait for their other half."""
    wanted = pydantic.create_model("Text", a=(str, ...))

    assert "x" == compile_shape(wanted).reader(partial=True).feed(cut)[0].a


@pytest.mark.parametrize("bad", ['{"a": "x\ny', '{"a": "x\\ud83dy', "{1", "{]", '{"a": nope,', '{"a\\x": 1', "[" * 300])
def test_what_is_no_json_shows_nothing_more(bad):
    """A document that cannot be read ends what is shown; the end raises what `create` raises."""
    wanted = pydantic.create_model("Text", a=(str, ...))
    reader = compile_shape(wanted).reader(partial=True)
    reader.feed(bad)

    assert [] == reader.feed('z", "a": "b"')
    with pytest.raises(pydantic.ValidationError):
        reader.end(bad + '"')


def test_a_union_is_shown_once_only_one_member_fits():
    """Keys and literals tell the members apart; what cannot be told apart is shown when it is complete."""
    wanted = pydantic.create_model("Owner", pet=(Union[Cat, Dog], ...))

    told = [each.pet for each in snapshots(wanted, '{"pet": {"kind": "dog", "name": "R"}}')[:-1]]
    late = [each.pet for each in snapshots(wanted, '{"pet": {"name": "R", "kind": "cat"}}')[:-1]]

    dog = Dog(kind="dog", name="R")
    assert [("dog", None), ("dog", ""), ("dog", "R"), dog] == [
        pet if pet in (None, dog) else (pet.kind, pet.name) for pet in told
    ]
    assert [("cat", "R", 9), Cat(kind="cat", name="R")] == [
        (pet.kind, pet.name, pet.lives) if isinstance(pet, Partial[Cat]) else pet for pet in late
    ]


def test_a_member_once_chosen_stays():
    """A key that the chosen member of a union does not know takes nothing back."""
    wanted = pydantic.create_model("Owner", pet=(Union[Cat, Address], ...))
    shown = snapshots(wanted, '{"pet": {"kind": "cat", "zip": 4, "name": "R"}}')

    assert all(grew(before, after) for before, after in pairwise(shown))


def test_what_is_not_plain_is_shown_complete_and_valid():
    """Literals, enums, dates and the like never show half a value, and no wrong one."""
    document = '{"color": "red", "mood": "goo", "born": "2020-01-02"}'
    reader = compile_shape(Everything).reader(partial=True)
    shown = [(each.color, each.mood, each.born) for character in document for each in reader.feed(character)]

    assert [(Color.RED, "good", None), (Color.RED, "good", dt.date(2020, 1, 2))] == shown


def test_a_complete_object_that_is_not_valid_stays_as_built():
    """What the user's class refuses is shown as far as it goes; the end raises."""
    reader = compile_shape(Everything).reader(partial=True)
    (shown,) = reader.feed('{"history": [{"street": "x"}, {"street": "y", "zip": 1}], "address": {"zip": "no"}')

    assert ["PartialAddress", "Address"] == [type(each).__name__ for each in shown.history]
    assert (None, None) == (shown.address.street, shown.address.zip)


@pytest.mark.parametrize(
    "wrong", ['{"tags": {"a": 1}', '{"rooms": [1]', '{"address": [1]', '{"name": [1]', '{"id": "x"']
)
def test_a_value_of_another_kind_is_not_shown(wrong):
    """What cannot be a value of the field's type is passed over."""
    reader = compile_shape(Everything).reader(partial=True)

    assert [] == reader.feed(wrong)
    assert [{"age"}] == [each.model_fields_set for each in reader.feed(', "age": 1,')]


def test_what_only_the_model_understands_is_not_shown_before_the_model_is_whole():
    """A type that stands for nothing outside its model cannot be made of its own JSON, nor is it shown as that."""

    class Owner(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        name: str = ""
        thing: Optional[Thing] = None

    shown = next(Partial[Owner].model_from_chunks(['{"name": "n", "thing": {"a": [1]}']))

    assert ("n", None) == (shown.name, shown.thing)


def test_names_and_extras():
    """A field has its aliases, its name only where the model says so; other keys only where it allows them."""

    class Open(BaseModel):
        model_config = ConfigDict(populate_by_name=True, extra="allow")
        size: int = Field(default=0, alias="Size")

    shown = snapshots(Open, '{"size": 3, "more": [1, {"x": 2}]}')[-2]

    assert (3, {"more": [1, {"x": 2}]}) == (shown.size, shown.model_extra)
    (shown,) = compile_shape(Everything).reader(partial=True).feed('{"surname": "x", "nickName": "y", "names": ["z"]}')

    assert ("", "y", "?") == (shown.surname, shown.nick, shown.unseen)


def test_the_class_of_partials():
    """`Partial[M]` is one class, a subclass of M with the same aliases, whose fields may all be None."""
    made = Partial[Everything]

    assert made is Partial[Everything] is Partial[made]
    assert "PartialEverything" == made.__name__
    assert issubclass(made, Everything)
    assert issubclass(made, PartialBase)
    assert made is made.get_partial_model()
    assert Optional[Address] == made.model_fields["address"].annotation
    assert "lastName" == made.model_fields["surname"].alias


def test_a_partial_asks_the_same_question():
    """The shape of `Partial[M]` is that of M, so that one's entry answers the other."""
    assert compile_shape(Partial[Address]) is compile_shape(Address)


@pytest.mark.parametrize("wrong", [Partial, lambda: Partial[int], lambda: Partial[list[Address]]])
def test_partial_takes_a_model(wrong):
    """Partial itself is nothing but a name for classes."""
    with pytest.raises(TypeError, match=r"Partial (?:cannot be instantiated|takes a pydantic model)"):
        wrong()
    with pytest.raises(TypeError, match="cannot be subclassed"):
        type("Mine", (Partial,), {})


def test_snapshots_are_pickled_and_copied():
    """A snapshot is found again by the model that it stands for."""
    (shown,) = compile_shape(Address).reader(partial=True).feed('{"street": "x')

    assert shown == pickle.loads(pickle.dumps(shown)) == copy.deepcopy(shown)  # noqa: S301 - it was made right here


def test_a_model_that_nobody_uses_is_forgotten():
    """The partial class keeps its model alive no longer than the model itself lives."""
    model = pydantic.create_model("Passing", a=(int, ...))
    compile_shape(model).reader(partial=True).feed('{"a": 1')
    gone = weakref.ref(model)
    del model
    gc.collect()

    assert gone() is None


def test_threads_get_the_same_class():
    """A partial class is made once, whoever asks first."""
    model = pydantic.create_model("Shared", a=(int, ...))
    made = []
    threads = [threading.Thread(target=lambda: made.append(Partial[model])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {Partial[model]} == set(made)


def test_private_attributes_and_factories_are_there():
    """Private attributes have their defaults, `model_post_init` is not run, factories that need other fields wait."""

    class Careful(BaseModel):
        name: str
        id: UUID = Field(default_factory=uuid4)
        label: str = Field(default_factory=lambda data: data["name"])
        _notes: list[str] = PrivateAttr(default_factory=list)

        def model_post_init(self, context: Any) -> None:
            super().model_post_init(context)
            self._notes.append(self.name.upper())

    (shown,) = compile_shape(Careful).reader(partial=True).feed('{"name": "A')

    assert ([], None, UUID) == (shown._notes, shown.label, type(shown.id))


def test_models_that_are_not_whole_yet_can_be_asked_for():
    """A model defined before the ones it names is completed when it is first asked for."""

    class Node(BaseModel):
        value: int
        children: list["Node"] = Field(default_factory=list)

    shown = snapshots(Node, '{"value": 1, "children": [{"value": 2, "children": [{"value": 3}]}]}')

    assert Late is type(next(Partial[Early].model_from_chunks(['{"late": {"value": 1}'])).late)
    assert 3 == shown[-1].children[0].children[0].value
    assert all(grew(before, after) for before, after in pairwise(shown))


@pytest.mark.parametrize(
    ("wanted", "document", "expected"),
    [
        (int, '{"content": 12}', [12, 12]),
        (str, '{"content": "ab"}', ["", "a", "ab", "ab"]),
        (list[int], '{"content": [1, 2]}', [[], [1], [1, 2], [1, 2]]),
        (Numbers, '{"content": [1]}', [Numbers([1]), Numbers([1])]),
    ],
)
def test_what_travels_in_a_wrapper_is_shown_without_it(wanted, document, expected):
    """Plain values and lists are shown as themselves."""
    assert expected == snapshots(wanted, document)


def test_a_list_of_models_is_shown_growing():
    """An open item is partial, a complete one the user's own."""
    reader = compile_shape(list[Address]).reader(partial=True)
    (shown,) = reader.feed('{"tasks": [{"street": "x", "zip": 1}, {"zip": 2,')

    assert [Address, Partial[Address]] == [type(each) for each in shown]


@pytest.mark.parametrize("document", ["text", "items"])
def test_large_documents_are_shown_in_larger_steps(document):
    """A long open string or list is shown again when it has grown by a share, so that the work stays linear."""
    wanted = pydantic.create_model("Long", text=(str, ""), items=(list[int], []))
    texts = {"text": json.dumps({"text": "x" * 40 * LARGE}), "items": json.dumps({"items": [7] * 10 * LARGE})}

    shown = snapshots(wanted, texts[document], 10)

    assert 200 < len(shown) < 2000


def test_chunks_are_read_for_those_who_hold_the_stream():
    """`model_from_chunks` and its asynchronous twin give the same snapshots, with the context and strictness given."""
    pieces = ['{"street": "x', '", "zip": "1"}']

    async def waited():
        async def stream():
            for piece in pieces:
                yield piece

        made = Partial[Address]
        extracted = made.from_streaming_response_async(stream(), lambda stream: stream, strict=False)
        assert [each async for each in extracted] == list(made.model_from_chunks(pieces, strict=False, mode="x"))
        return [each async for each in made.model_from_chunks_async(stream(), strict=False)]

    shown = asyncio.run(waited())

    assert shown == list(Partial[Address].from_streaming_response(pieces, iter, strict=False))
    assert Address(street="x", zip=1) == shown[-1]


CHUNKS = [
    {"content": 'So: {"street": "x', "tool_calls": [{"index": 0, "function": {"arguments": '{"street": "x'}}]},
    {"content": '", "zip": 1} Yes?', "tool_calls": [{"index": 0, "function": {"arguments": '", "zip": 1}'}}]},
]


@pytest.mark.skipif(not hasattr(instructor.dialects.openai, "Listener"), reason="streams are not heard yet")
@pytest.mark.parametrize("mode", [Mode.TOOLS, Mode.FUNCTIONS, Mode.MD_JSON])
def test_streams_of_an_sdk_are_heard_by_their_mode(mode):
    """Given a mode, the document is heard where the mode has it; events of reasoning are handed on."""
    facts = {"id": "1", "created": 1, "model": "m", "object": "chat.completion.chunk", "type": "reasoning"}
    events = [ChatCompletionChunk(choices=[{"index": 0, "delta": delta}], **facts) for delta in CHUNKS]
    heard = []

    async def waited():
        async def stream():
            for event in events:
                yield event

        return [each async for each in Partial[Address].from_streaming_response_async(stream(), mode)]

    shown = list(Partial[Address].from_streaming_response(events, mode))

    assert [("x", None), ("x", 1), ("x", 1)] == [(each.street, each.zip) for each in shown]
    assert shown == asyncio.run(waited())
    assert '{"street": "x", "zip": 1}' == "".join(Partial[Address].extract_json(events, mode, heard.append))
    assert events == heard


def test_the_literal_mixin_does_nothing_and_says_so():
    """Subclassing it is deprecated."""
    with pytest.warns(DeprecationWarning, match="PartialLiteralMixin"):
        type("Mine", (BaseModel, PartialLiteralMixin), {"__module__": __name__})


def test_a_reader_is_of_snapshots():
    """What the shape gives for partials reads snapshots."""
    assert isinstance(compile_shape(Address).reader(partial=True), Snapshots)
