"""Rules of finding the JSON document in an answer."""

import asyncio
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instructor import jsontext
from instructor.jsontext import MAX_DEPTH, MAX_LENGTH, find

MESSY = Path(__file__).parents[1].parent / "shared" / "recorded" / "messy_json.json"


@pytest.mark.parametrize("text", ['{"a": 1}', "[1, 2]", '"yes"', "42", "null", '{"a": "```json\\n{}\\n```"}'])
def test_a_text_that_is_json_is_the_document(text):
    """A text that is JSON from end to end is returned as it is, without the space around it."""
    assert text == find(f" {text}\n")


@pytest.mark.parametrize(
    "text",
    [
        '```json\n{"a": 1}\n```',
        '```\n{"a": 1}\n```',
        '~~~json\n{"a": 1}\n~~~',
        '```JSON {"a": 1}```',
        '```json\n{"a": 1}',
        '{"a": 1}\n```',
        '``json\n{"a": 1}\n``',
        'Sure!\n\n```json\n{"a": 1}\n```\nAnything else?',
        'The answer is {"a": 1}, I think.',
        'callback_123({"a": 1});',
        '/* first */ {"a": 1} // last',
        '[```json\n{"a": 1}\n```]',
        'Give me {braces} or [brackets] or {"a": 1}',
    ],
)
def test_the_document_is_found_wherever_it_stands(text):
    """A document is found in a fence of any kind, closed or not, and in prose."""
    assert find(text) == '{"a": 1}'


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ('{"a": 1} as [1] and [2] say, or true', '{"a": 1}'),
        ('```python\nx = [1, 2]\n``` gives {"a": 1}', '{"a": 1}'),
        ('{"a": 1} in `function() {}`', '{"a": 1}'),
        ('[{"a": 1}] as [1] says', '[{"a": 1}]'),
        ("```json\n42\n```", "42"),
        ("The list is [1, 2].", "[1, 2]"),
    ],
)
def test_fields_are_preferred_to_bare_values(text, document):
    """An object with fields, or a list of such, is preferred to a list of bare values, and that to nothing."""
    assert document == find(text)


def test_a_fence_is_preferred_to_prose():
    """What stands in a fence is preferred to what is said around it."""
    assert find('Not {"a": 0} but\n```json\n{"a": 1}\n```\nFor {"a": 2} ask again.') == '{"a": 1}'


def test_the_last_of_equals_is_the_answer():
    """Of several documents that are as good, the last is the answer: models correct themselves by saying it again."""
    assert find('{"a": 1} No, wait: {"a": 2}') == '{"a": 2}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No JSON here.",
        "An {open brace",
        '{"user": {"name": "Ann"}, "items": [1, 2',
        '{"a": {"b": 1}, oops, "c": {"d": 2}}',
        '{"items": [{"a": 1}, {"a": 2},], "meta": {"b": 1}}',
        '{first: {"a": 1}, \'second\': {"a": 2}}',
        '[{"a": 1}, {"b": 2}, {"c',
        '{"text": "see [1] and {\\"a\\": 1}',
        '["see [1] and',
        '```json\n{"a": 1, "b": [',
    ],
)
def test_a_part_of_a_broken_document_is_no_answer(text):
    """When the document is cut short or broken, its inner parts are not taken for the answer."""
    with pytest.raises(ValueError, match="no complete JSON document"):
        find(text)


@pytest.mark.parametrize("broken", ['```json\n{"a": 0, "b": [1,\n```', '{"a": ..., "b": [...]}', '["quoted" prose]'])
def test_a_document_after_a_broken_one_is_found(broken):
    """A broken attempt ends at its last bracket or at its fence; a better one after it is found."""
    assert find(f'{broken}\nOnce more:\n```json\n{{"a": 1}}\n```') == '{"a": 1}'


@pytest.mark.parametrize("text", ['{"a": "x\ny\tz"}', 'So: {"a": "x\ny\tz"}'])
def test_raw_control_characters_in_strings_are_escaped(text):
    """Line breaks and tabs inside strings, which JSON forbids and models write, come back escaped."""
    assert find(text) == '{"a": "x\\ny\\tz"}'


FIELDS = st.dictionaries(
    st.text(),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=10,
    ),
    min_size=1,
    max_size=4,
)
PROSE = st.text(st.characters(exclude_characters="{}[]`~", exclude_categories=["Cs"]))


@given(FIELDS, PROSE, PROSE, st.booleans(), st.sampled_from([None, 2]))
def test_an_object_in_prose_is_found_whole(fields, before, after, ascii_only, indent):
    """Any object with fields is found in any prose without brackets, equal and as written."""
    document = json.dumps(fields, ensure_ascii=ascii_only, indent=indent)

    assert document == find(f"{before}{document}{after}")


@given(FIELDS, PROSE, PROSE, st.sampled_from(["```json\n{}\n```", "```\n{}\n```", "~~~json\n{}\n~~~", "```json\n{}"]))
def test_an_object_in_a_fence_is_found_whole(fields, before, after, fence):
    """Any object with fields is found in any fence, whatever is said around it."""
    document = json.dumps(fields)

    assert document == find(f"{before}\n{fence.format(document)}\n{after}")


def messy_cases():
    """Cases on which two tools agree, and in which what they agree on stands in the text or is the text."""
    if not MESSY.exists():
        reason = f"no recorded cases at {MESSY.parent.name}/{MESSY.name} beside the checkout"
        return [pytest.param({}, marks=pytest.mark.skip(reason=reason))]
    cases = json.loads(MESSY.read_text())["cases"]
    return [
        pytest.param(case, id=f"{number}-{case['test']}")
        for number, case in enumerate(cases)
        if case.get("json_repair_agrees")
        if case["naive_ok"] or case["expected_value"] in inner_values(case["input"])
    ]


def inner_values(text):
    """Every value that can be decoded from somewhere in the text, raw control characters in strings or not."""
    decoder = json.JSONDecoder(strict=False)
    values = []
    for start, character in enumerate(text):
        if character in "{[":
            try:
                values.append(decoder.raw_decode(text, start)[0])
            except ValueError:
                continue
    return values


@pytest.mark.parametrize("case", messy_cases())
def test_what_two_tools_agree_on_is_what_we_find(case):
    """Where two other tools agree on the JSON that stands in a text, so do we."""
    assert case["expected_value"] == json.loads(find(case["input"]))


def filled(piece, end=""):
    """As many of `piece` as fit into the greatest length."""
    return piece * ((MAX_LENGTH - len(end)) // len(piece)) + end


BOMBS = {
    "brackets": filled("["),
    "braces": filled("{ "),
    "objects that never end": filled('{"a":'),
    "depth 10k": "[" * 10_000 + "]" * 10_000,
    "depth 129": '{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1),
    "depth 129 in prose": "x " + '{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1),
    "1 MiB and 1": "x" * (MAX_LENGTH + 1),
    "1e6 keys": "{" + ",".join(f'"{key}":1' for key in range(1_000_000)) + "}",
    "many documents": filled("[] "),
    "many objects": filled('{"a":1} '),
    "many fences": filled("```\n"),
    "broken at the end": "[" + filled('{"a":1},', "]]")[1:],
    "broken sets": filled('{"a",'),
    "quotes": filled('"'),
    "strings that never end": filled('["'),
    "escapes": filled('["\\", '),
    "words": filled("{ab "),
}


def seconds(call):
    """The processor time of the quickest of three calls: what the call costs, without what the machine adds."""
    times = []
    for _ in range(3):
        started = time.thread_time()
        call()
        times.append(time.thread_time() - started)
    return min(times)


def refuse(text):
    """Insist that nothing is found, with a message that says why."""
    with pytest.raises(ValueError, match="answer"):
        find(text)


@pytest.mark.fault("H11")
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_quickly(name):
    """Depth, length, numbers of keys and of brackets are bounded: a ValueError within 200 ms of work."""
    assert seconds(lambda: refuse(BOMBS[name])) < 0.2


LARGE = {
    "huge int": '{"a": ' + "9" * 1_000_000 + "}",
    "huge int in prose": 'So {"a": ' + "9" * 1_000_000 + "}",
    "same key": "{" + '"a":1,' * 100_000 + '"a":1}',
    "as many keys as fit": "{" + ",".join(f'"{key}":1' for key in range(80_000)) + "}",
    "as deep as allowed": '{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH,
    "at the end": filled("x", '{"a":1}'),
    "raw control characters": '{"a": ["\n",' + '"",' * 100_000 + '""]}',
}


@pytest.mark.fault("H11")
@pytest.mark.parametrize("name", LARGE)
def test_a_large_document_is_found_quickly(name):
    """What is large but within the bounds is handed on as it stands, within 200 ms; the model's loader judges it."""
    text = LARGE[name]

    assert text[text.index("{") :].replace("\n", "\\n") == find(text)
    assert seconds(lambda: find(text)) < 0.2


def test_json_out_of_a_stream_of_text():
    """The document is handed on as it comes, without what stands around it, from either kind of stream."""
    pieces = ['Here: ```json\n{"a', '": 1}', "\n``` Bye"]

    async def stream():
        for piece in pieces:
            yield piece

    async def collected():
        return [piece async for piece in jsontext.extract_json_from_stream_async(stream())]

    assert list(jsontext.extract_json_from_stream(pieces)) == ['{"a', '": 1}']
    assert asyncio.run(collected()) == ['{"a', '": 1}']
