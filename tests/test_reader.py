"""Rules of reading JSON while it arrives."""

import asyncio
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, TypedDict, Union

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, ValidationInfo

from instructor.dsl.iterable import IterableBase, IterableModel
from instructor.dsl.json_tracker import JsonCompleteness, is_json_complete
from instructor.jsontext import Finder, find
from instructor.reader import Tree
from instructor.shape import compile_shape

MESSY = Path(__file__).parents[1].parent / "shared" / "recorded" / "messy_json.json"


class User(BaseModel):
    name: str
    tags: list[str] = []


class Pet(BaseModel):
    kind: Literal["cat", "dog"]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda part: st.lists(part, max_size=3) | st.dictionaries(TEXT, part, max_size=3),
    max_leaves=8,
)
USERS = st.fixed_dictionaries({"name": TEXT}, optional={"tags": st.lists(TEXT, max_size=2), "tasks": VALUES})
DOCUMENTS = st.builds(
    lambda users, more, last, ascii_only, indent: json.dumps(
        {"more": more, "tasks": users, **last}, ensure_ascii=ascii_only, indent=indent
    ),
    st.lists(USERS | st.sampled_from(["cat", "dog"]).map(lambda kind: {"kind": kind}), max_size=4),
    VALUES,
    st.dictionaries(TEXT.filter(lambda key: key not in {"more", "tasks"}), VALUES, max_size=1),
    st.booleans(),
    st.sampled_from([None, 2]),
)


def items(wanted, document, pieces, **how):
    """Every item of a document that comes in those pieces."""
    reader = compile_shape(wanted).reader(**how)
    return [item for piece in pieces for item in reader.feed(piece)] + reader.end(document)


def in_pieces(text, size):
    """The text in pieces of that size."""
    return [text[start : start + size] for start in range(0, len(text), size)]


def cut(text, data):
    """The text in pieces of any size."""
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


@settings(deadline=None)
@given(DOCUMENTS, st.data())
def test_any_cut_reads_the_same_items(document, data):
    """However a document is cut, the items are those of the whole."""
    wanted = Iterable[Union[User, Pet]]

    assert compile_shape(wanted).load(document) == items(wanted, document, cut(document, data))


@settings(deadline=None)
@given(VALUES, st.data())
def test_any_cut_gives_the_same_tree(value, data):
    """However a document is cut, every value in it is found where it stands."""
    document = json.dumps(value, ensure_ascii=data.draw(st.booleans())) + "\n"
    tree = Tree()
    for piece in cut(document, data):
        tree.feed(piece)

    assert value == rebuilt(tree, tree.root)
    assert tree.over


def rebuilt(tree, node):
    """The value of a node, made from its members."""
    match node.kind:
        case "{":
            return {key: rebuilt(tree, member) for key, member in node.members.items()}
        case "[":
            return [rebuilt(tree, member) for member in node.members]
        case _:
            return json.loads(tree.text(node))


def test_an_item_is_given_with_its_last_character():
    """An item appears as soon as it is whole, before anything follows it."""
    reader = compile_shape(Iterable[User]).reader()

    assert [] == reader.feed('{"tasks": [{"name": "Ann"')
    assert [User(name="Ann")] == reader.feed("}")
    assert [] == reader.feed(', {"name": "B\\ud83d')
    assert [User(name="B\U0001f600"), User(name="C")] == reader.feed('\\ude00"}, {"name": "C"}')


@pytest.mark.parametrize(
    ("wanted", "document", "expected"),
    [
        (list[int], '{"content": [1, 22]}', [1, 22]),
        (Iterable[int], '{"content": [1, 22]}', [1, 22]),
        (list[Union[int, str]], '{"content": [1, "a"]}', [1, "a"]),
        (IterableModel(User), '{"tasks": [{"name": "Ann"}]}', [User(name="Ann")]),
        (IterableModel(User), "{}", []),
        (list[int], '{"a": {"content": [0]}, "content": [1], "b": [2]}', [1]),
        (list[int], '{"content": []}', []),
        (list[int], '{"content": 9, "content": [1]}', [1]),
    ],
)
def test_lists_of_all_kinds_are_read(wanted, document, expected):
    """The list is the one that the whole has: not one of that name further down, not one that is said again."""
    assert expected == items(wanted, document, [document])


def test_items_are_validated_as_the_user_asks():
    """Each item is validated with the context, and as strictly as asked."""
    heard = []

    def hear(value: int, info: ValidationInfo) -> int:
        heard.append(info.context)
        return value

    wanted = list[Annotated[int, AfterValidator(hear)]]
    document = '{"content": ["7"]}'

    assert [7] == items(wanted, document, document, context={"a": 1}, strict=False)
    assert [{"a": 1}] == heard
    with pytest.raises(pydantic.ValidationError):
        items(wanted, document, document)


@pytest.mark.parametrize(
    "document",
    [
        '{"tasks": [{"name": "Ann"}, {"nome": "Bob"}]}',
        '{"tasks": [{"name": "Ann"}',
        '{"tasks": [{"name": "Ann"},]}',
        '{"tasks": [{"name": "Ann"}]} and more',
        '{"tasks": [{"name": "Ann"}], "tasks": 3}',
        '{"tasks": 3}',
        '{"tusks": []}',
        "[]",
        "",
    ],
)
def test_what_create_refuses_is_refused(document):
    """An invalid item ends the list; the end raises what `create` raises for the whole."""
    shape = compile_shape(Iterable[User])
    reader = shape.reader()
    given_ = [item for character in document for item in reader.feed(character)]

    with pytest.raises(pydantic.ValidationError) as refused:
        shape.load(document)
    with pytest.raises(pydantic.ValidationError) as raised:
        reader.end(document)
    assert refused.value.errors() == raised.value.errors()
    assert given_ in ([], [User(name="Ann")])


def test_another_document_goes_on_where_this_one_was():
    """When another text was meant in the end, what was given must be the beginning of its list."""
    wanted, whole = list[int], '{"content": [1, 2, 3]}'
    reader, other = compile_shape(wanted).reader(), compile_shape(wanted).reader()
    reader.feed('{"content": [1, 2, ...]}')
    other.feed('{"content": [7,')

    assert [3] == reader.end(whole)
    with pytest.raises(ValueError, match="does not begin with the 1 items"):
        other.end(whole)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_list_that_is_said_again_takes_nothing_back(size):
    """The last of two lists counts, and must begin with the first, however the document is cut."""
    longer, other = '{"content": [1], "content": [1, 2]}', '{"content": [1], "content": [2]}'

    assert [1, 2] == items(list[int], longer, in_pieces(longer, size))
    with pytest.raises(ValueError, match="does not begin with the 1 items"):
        items(list[int], other, in_pieces(other, size))


@pytest.mark.parametrize("wanted", [int, User])
def test_items_are_of_lists(wanted):
    """What is no list has no items."""
    with pytest.raises(TypeError, match="has no items to stream"):
        compile_shape(wanted).reader()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="pydantic takes it")
def test_lists_of_a_typed_dict_that_pydantic_does_not_take():
    """The error says what to ask for instead, and nothing else."""
    with pytest.raises(TypeError, match=r"cannot be a response_model: .*typing_extensions.TypedDict.* < 3.12\.$"):
        compile_shape(Iterable[TypedDict("Point", {"x": int})])


def test_iterable_models():
    """An IterableModel is named after its tasks, and has the name and description that are given."""
    plain, union = IterableModel(User), IterableModel(Union[User, Pet], description="Both.")

    assert ("IterableUser", "IterableUserOrPet", "Both.") == (plain.__name__, union.__name__, union.__doc__)
    assert issubclass(plain, IterableBase)
    assert User is plain.task_type
    assert "Correctly segmented list of `X` tasks" == IterableModel(User, "X").model_fields["tasks"].description


def test_tasks_are_read_for_those_who_hold_the_stream():
    """`tasks_from_chunks` and `from_streaming_response` give the items, and so do their asynchronous twins."""
    pieces = ['{"tasks": [{"name"', ': "Ann"}]}']
    made = IterableModel(User)

    async def waited():
        async def stream():
            for piece in pieces:
                yield piece

        chunks = [each async for each in made.tasks_from_chunks_async(stream())]
        return chunks, [each async for each in made.from_streaming_response_async(stream(), lambda stream: stream)]

    expected = [User(name="Ann")]
    assert expected == list(made.tasks_from_chunks(pieces)) == list(made.from_streaming_response(pieces, iter))
    assert (expected, expected) == asyncio.run(waited())


def test_what_says_more_than_its_items_is_read_whole():
    """The rest of an IterableModel of the user's own is validated in the end, those of others only once."""

    class Noted(IterableModel(User)):
        note: str

    read = []
    counted = IterableModel(Annotated[int, AfterValidator(lambda value: read.append(value) or value)], "Number")
    whole = '{"tasks": [{"name": "Ann"}], "note": "x"}'

    assert [User(name="Ann")] == items(Noted, whole, whole) == list(Noted.tasks_from_chunks(whole))
    with pytest.raises(pydantic.ValidationError, match="note"):
        items(Noted, '{"tasks": [{"name": "Ann"}]}', ['{"tasks": [{"name": "Ann"}]}'])
    with pytest.raises(pydantic.ValidationError, match="note"):
        list(Noted.tasks_from_chunks(['{"tasks": [{"name": "Ann"}]}']))
    assert [1, 2] == items(counted, '{"tasks": [1, 2]}', ['{"tasks":[1,2]}'], strict=True) == read


def test_an_object_is_taken_off_a_text():
    """`get_object` gives the first object, when it is whole, and what follows."""
    get = IterableModel(User).get_object

    assert ('{"a": "}"}', ', {"b"') == get(', {"a": "}"}, {"b"', 0)
    assert (None, '{"b"') == get('{"b"', 0)


# Which parts are complete.


def test_complete_parts_are_known_by_path():
    """A value is complete when its last character is there; a number when something follows it."""
    tracker = JsonCompleteness()
    tracker.analyze('{"a": {"b": 1, "c": [1, {"d": "x"}, {"e": 2')

    assert all(map(tracker.is_path_complete, ["a.b", "a.c[0]", "a.c[1]", "a.c[1].d"]))
    assert not any(map(tracker.is_path_complete, ["", "a", "a.c", "a.c[2]", "a.c[2].e", "b"]))
    assert not tracker.is_root_complete()


@pytest.mark.parametrize(("text", "complete"), [('{"a": 1}', True), ("12", True), ("", False), ('{"a": 1,}', False)])
def test_a_complete_document_is_json(text, complete):
    """A text is complete when all of it is JSON."""
    tracker = JsonCompleteness()
    tracker.analyze(text)

    assert complete is is_json_complete(text) is tracker.is_root_complete() is tracker.is_path_complete("")


# Finding the document in text.

FIELDS = st.dictionaries(TEXT, VALUES, min_size=1, max_size=3)
PROSE = st.text(st.characters(exclude_characters="{}[]`~", exclude_categories=["Cs"]))
FRAMES = ["{}", "```json\n{}\n```", "```\n{}", "~~~json\n{}\n~~~ so [1] says"]


def found(pieces):
    """What is found in a text that comes in those pieces."""
    finder = Finder()
    return "".join(map(finder.feed, pieces))


@settings(deadline=None)
@given(FIELDS | st.lists(FIELDS, min_size=1, max_size=2), PROSE, PROSE, st.sampled_from(FRAMES), st.data())
def test_the_document_is_found_as_it_comes(value, before, after, frame, data):
    """A document in prose or in a fence is handed on as `find` finds it, however the text is cut."""
    document = json.dumps(value, indent=data.draw(st.sampled_from([None, 1])))
    text = f"{before}{frame.replace('{}', document)}{after}"

    assert find(text) == found(cut(text, data))


@pytest.mark.parametrize("text", ['{"a": "x\ny\tz"}', 'So: {"a": "\\\\", "b": "\\"}\x01"} {"c": 1', '[ { "a": "["}]]'])
def test_what_is_handed_on_is_json(text):
    """Raw control characters inside strings are escaped, and nothing after the document is handed on."""
    assert found([text]) == found(text)
    assert json.loads(found(text))


def test_a_gap_without_end_is_no_beginning():
    """Spaces after a bracket are waited through only so far, so that the work is bounded."""
    assert not found(["{", *[" " * 100] * 20, '"a": 1}'])


def messy_cases():
    """Texts that hold JSON, or something like it."""
    if not MESSY.exists():
        return [pytest.param("", marks=pytest.mark.skip(reason=f"no recorded cases at {MESSY.name}"))]
    texts = [case["input"] for case in json.loads(MESSY.read_text())["cases"]]
    return sorted({text for text in texts if isinstance(text, str)})


@pytest.mark.parametrize("text", messy_cases())
def test_recorded_documents_are_found_as_they_come(text):
    """A text reads the same at once and by character; what `find` finds is found where it is the first of its kind."""
    try:
        document = find(text)
    except ValueError:
        document = ""
    handed_on = found(text)

    assert handed_on == found([text])
    assert document == handed_on or not is_first(document, text)


def is_first(document, text):
    """Whether a document begins where the first object with fields, or list of such, seems to."""
    start = re.search(r'(?:\[\s*)?\{\s*"', text)
    return start is not None and document != "" and text.startswith(document, start.start())
