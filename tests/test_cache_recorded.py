"""RecordedCache: what was recorded is replayed for every client and every way to ask, out of a file for people."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from pathlib import Path
from typing import Any, Literal

import pytest
from fake_provider import FakeProvider, fake_provider
from flavours import CLIENTS
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from pydantic import BaseModel, field_validator

from instructor import Partial
from instructor.cache import AutoCache, CacheMiss, RecordedCache, SealedCache, TieredCache
from instructor.cache.completion import Kept
from instructor.cache.entry import Entry, seal, unseal
from instructor.cache.recorded import _hide, _show
from instructor.testing import CacheContract

QUESTION: dict[str, Any] = {"messages": [{"role": "user", "content": "Extract: John is 25"}], "max_retries": 1}
JOHN = '{"name": "John", "age": 25}'
BOTH = '{"tasks": [{"name": "John", "age": 25}, {"name": "Ann", "age": 31}]}'


class User(BaseModel):
    """Somebody."""

    name: str
    age: int


class Adult(User):
    """Somebody of whom more is expected than the provider is told."""

    @field_validator("age")
    @classmethod
    def _of_age(cls, age: int) -> int:
        if age < 18:
            raise ValueError("too young")
        return age


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where answers are recorded."""
    return tmp_path / "answers" / "test_it.json"


class TestRecordedCache(CacheContract):
    def make_cache(self) -> RecordedCache:
        return RecordedCache("nowhere.json", record=True)


async def told(client: Any, method: str = "create", **how: Any) -> Any:
    """What a client answers, whichever of the two it is; all of it, where it is a stream."""
    answer = getattr(client, method)(**QUESTION, **how)
    answer = await answer if inspect.isawaitable(answer) else answer
    if hasattr(answer, "__anext__"):
        return [item async for item in answer]
    return list(answer) if hasattr(answer, "__next__") else answer


def record(provider: FakeProvider, path: Path, name: str = "openai", *, use_async: bool = False, **how: Any) -> Any:
    """What a client is told that records it."""
    cache = RecordedCache(path, record=True)
    answer = asyncio.run(told(CLIENTS[name](provider, use_async=use_async, cache=cache), **how))
    cache.save()
    return answer


def replay(provider: FakeProvider, path: Path, name: str = "openai", *, use_async: bool = False, **how: Any) -> Any:
    """What the client of another account is told by the file."""
    client = CLIENTS[name](provider, use_async=use_async, key="another", cache=RecordedCache(path))
    return asyncio.run(told(client, **how))


WAYS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "a model": ([JOHN], {"response_model": User}),
    "a list": ([BOTH], {"response_model": list[User]}),
    "a number": (['{"content": 5}'], {"response_model": int}),
    "a word": (['{"content": "a"}'], {"response_model": Literal["a", "b"]}),
    "with its completion": ([JOHN], {"response_model": User, "method": "create_with_completion"}),
    "a plain completion": (["Hello, Grüße"], {"response_model": None}),
    "after a second attempt": (['{"name": "Tim", "age": 7}', JOHN], {"response_model": Adult}),
    "growing": ([JOHN], {"response_model": Partial[User], "stream": True}),
    "one by one": ([BOTH], {"response_model": list[User], "stream": True}),
    "events": (["Hello"], {"response_model": None, "stream": True}),
}


@pytest.mark.parametrize("recording", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CLIENTS)
def test_whatever_was_asked_is_replayed(path: Path, name: str, way: str, recording: bool) -> None:
    """The same, in the same pieces, on another account, when the provider is gone; to either kind of client."""
    said, how = WAYS[way]
    with fake_provider() as provider:
        provider.say(*said)
        first = record(provider, path, name, use_async=recording, **how)

    for use_async in (False, True):
        again = replay(provider, path, name, use_async=use_async, **how)

        assert (first, provider.calls) == (again, len(said))


AROUND: list[dict[str, Any]] = [
    {"cache_mode": "refresh"},
    {"cache_mode": "off"},
    {"cache_namespace": "team"},
    {"cache_ttl": 0},
    {"cache_ttl": 60, "stale_if_error": 600, "stale_while_revalidate": 60},
    {"cache_tags": ["user:42"]},
]


@pytest.mark.parametrize("around", AROUND, ids=str)
def test_what_calls_say_of_the_cache_asks_nobody(path: Path, provider: FakeProvider, around: dict[str, Any]) -> None:
    """Code under test that would go round its cache, or divide it, is recorded and replayed all the same."""
    first = record(provider, path, response_model=User, **around)

    assert first == replay(provider, path, response_model=User, **around)
    assert provider.calls == 1


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("how", [{}, {"cache_mode": "refresh"}, {"stream": True}], ids=str)
def test_what_was_not_recorded_is_asked_of_nobody(
    path: Path, provider: FakeProvider, how: dict[str, Any], use_async: bool
) -> None:
    """Whatever the call says."""
    with pytest.raises(CacheMiss, match="pytest --instructor-record"):
        replay(provider, path, use_async=use_async, response_model=Partial[User], **how)

    assert provider.calls == 0


@pytest.mark.filterwarnings("ignore:Not cached")
def test_what_cannot_be_recorded_is_asked_of_nobody(path: Path, provider: FakeProvider) -> None:
    """A question without a key is a miss, too."""
    with pytest.raises(CacheMiss, match="no key to look under"):
        replay(provider, path, response_model=User, tools=[object()])

    assert provider.calls == 0


def test_a_miss_says_whose_it_is(path: Path) -> None:
    """The error has the test, the file, the key, and what to do."""
    with pytest.raises(CacheMiss) as caught:
        RecordedCache(path, test="test_a.py::test_it").get("k" * 64)

    said = str(caught.value)
    assert [] == [
        fact for fact in ("test_a.py::test_it", str(path), "k" * 64, "--instructor-record") if fact not in said
    ]


def test_the_file_is_for_people(path: Path, provider: FakeProvider) -> None:
    """Indented UTF-8 with one line end at its end; the answer is JSON, the question is not there."""
    provider.say('{"name":"Jürgen", "age":25}')
    record(provider, path, response_model=User)
    text = path.read_text("utf-8")

    shown = re.sub(r'(?<=")([0-9a-f]{64})(?=": {)', "KEY", text)
    shown = re.sub(r'(?<="made_at": ")\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00', "TIME", shown)
    assert shown.startswith(
        '{\n  "KEY": {\n    "made_at": "TIME",\n    "answer": {\n      "name": "Jürgen",\n      "age": 25\n    },\n'
        '    "completion": {\n      "how": "first",\n      "data": {\n        "id": "chatcmpl-1",\n'
    )
    assert shown.endswith('    "model": "m"\n  }\n}\n')
    assert "Extract" not in text
    assert [path.name] == [file.name for file in path.parent.iterdir()]


def test_keys_are_sorted_and_answers_are_not(path: Path) -> None:
    """The order of the questions is always the same; the order within an answer is the model's own."""
    cache = RecordedCache(path, record=True)
    for key in "bca":
        cache.set(key, seal(Entry(('{"z": 1, "a": 2}',), Kept("dict", Raw(b"{}")), "m", 0.0), key))
    cache.save()

    shown = json.loads(path.read_bytes())
    assert [*shown] == ["a", "b", "c"]
    assert [*shown["a"]["answer"]] == ["z", "a"]


@pytest.mark.parametrize("text", ["Grüße, 🦉", "half a pair: \ud800", "\x00\r\n\u2028"])
def test_what_is_no_entry_of_ours_comes_back(path: Path, text: str) -> None:
    """A text that another cache put around an entry stands in the file as it is, whatever it holds."""
    cache = RecordedCache(path, record=True)
    cache.set("k", text)
    cache.save()

    assert RecordedCache(path).get("k") == text


def edit(path: Path, old: str, new: str) -> None:
    """Change a file as a reviewer does."""
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")


def test_an_edited_answer_counts(path: Path, provider: FakeProvider) -> None:
    """The test sees what the reviewer wrote; the completion beside it is still what the model said."""
    how = {"response_model": User, "method": "create_with_completion"}
    _, completion = record(provider, path, **how)
    edit(path, '"age": 25', '"age": 99')

    assert replay(provider, path, **how) == (User(name="John", age=99), completion)


def test_an_edited_stream_is_told_in_one_piece(path: Path, provider: FakeProvider) -> None:
    """Pieces count as long as they are the answer."""
    how = {"response_model": Partial[User], "stream": True}
    record(provider, path, **how)
    edit(path, '"age": 25', '"age": 99')

    *_, last = replay(provider, path, **how)

    assert last == User(name="John", age=99)
    assert provider.calls == 1


def test_an_answer_that_does_not_fit_is_asked_of_nobody(path: Path, provider: FakeProvider) -> None:
    """A reviewer who writes what the model refuses reads so, with the file."""
    record(provider, path, response_model=Adult)
    edit(path, '"age": 25', '"age": 7')

    with pytest.raises(CacheMiss, match=r"RecordedCache\('.*test_it.json'\) has an answer that does not fit"):
        replay(provider, path, response_model=Adult)

    assert provider.calls == 1


@pytest.mark.parametrize(
    "text", ["", "[", "[]", '{"k": 1}', '{"k": {}}', '{"k": {"made_at": "now"}}', '{"k": {"made_at": 1}}', b"\xff"]
)
def test_a_damaged_file_says_so(path: Path, text: str | bytes) -> None:
    """It is named, and what to do."""
    path.parent.mkdir()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())

    with pytest.raises(ValueError, match=r"test_it.json is damaged: .* pytest --instructor-record"):
        RecordedCache(path)


def test_what_is_not_asked_any_more_goes(path: Path) -> None:
    """Unless somebody says that not everything was asked; who asked for nothing changes nothing."""
    for whole, keys in [(True, "ab"), (False, "bc"), (True, "")]:
        cache = RecordedCache(path, record=True)
        for key in keys:
            cache.set(key, f"{key} {whole}")
        cache.save(whole=whole)

    assert json.loads(path.read_bytes()) == {"a": "a True", "b": "b False", "c": "c False"}

    cache = RecordedCache(path, record=True)
    cache.set("c", "again")
    cache.save()

    assert json.loads(path.read_bytes()) == {"c": "again"}


@pytest.mark.parametrize("name", ["MY_API_KEY", "GITHUB_TOKEN", "aws_secret_access_key", "PASSWORD"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_secret_is_never_written(
    path: Path, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, name: str, stream: bool
) -> None:
    """An answer that gives away what the environment keeps is refused, in however many quotes and pieces it came."""
    secret = 'Gr"üße\\ 12345'
    monkeypatch.setenv(name, secret)
    provider.say(json.dumps({"name": f"key {secret}!", "age": 1}))

    with pytest.raises(
        ValueError, match=rf"Nothing was recorded in .*: the answers hold the value of {name}\."
    ) as caught:
        record(provider, path, response_model=Partial[User], stream=stream)

    assert "12345" not in str(caught.value)
    assert not path.exists()


def test_a_short_value_is_no_secret(path: Path, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in every text by chance keeps nobody from recording."""
    monkeypatch.setenv("MY_TOKEN", "John")

    record(provider, path, response_model=User)

    assert path.exists()


TEXTS = st.text() | st.recursive(
    st.none() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
).map(json.dumps)


@given(tape=st.lists(TEXTS, max_size=3), made_at=st.integers(0, 2**32))
def test_writing_down_loses_nothing(tape: list[str], made_at: int) -> None:
    """An entry is read as it was shown: the pieces as they are, a single one as the same document."""
    entry = Entry(tuple(tape), Kept("dict", Raw(b'{"a": 1.5}')), "m", float(made_at))

    again = unseal(_hide(json.loads(json.dumps(_show(seal(entry, "k"), "k"))), "k"), "k")

    assert again is not None
    if len(tape) == 1:
        tape = [same(tape[0], again.tape[0])]
    assert (again.tape, bytes(again.completion.data), again.made_at) == (tuple(tape), b'{"a": 1.5}', made_at)


def same(text: str, other: str) -> str:
    """The other text, if it is the same document."""
    assert text == other or repr(json.loads(text)) == repr(json.loads(other))
    return other


LAYERS: dict[str, Any] = {
    "below": lambda inner: TieredCache([AutoCache(), inner]),
    "sealed": lambda inner: SealedCache(inner, signing_key=b"s" * 32),
    "both": lambda inner: TieredCache([AutoCache(), SealedCache(inner, signing_key=b"s" * 32)]),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_asks_no_more_than_what_it_stands_on(path: Path, provider: FakeProvider, layer: str) -> None:
    """In a layer, too, what calls say does not matter, and what was not recorded is a miss that asks nobody."""
    recorded = RecordedCache(path, record=True)
    client = CLIENTS["openai"](provider, use_async=False, cache=LAYERS[layer](recorded))
    first = asyncio.run(told(client, response_model=User))
    recorded.save()

    cache = LAYERS[layer](RecordedCache(path))
    client = CLIENTS["openai"](provider, use_async=False, key="another", cache=cache)
    around = {"cache_mode": "refresh", "cache_namespace": "team"}
    assert asyncio.run(told(client, response_model=User, **around)) == first
    with pytest.raises(CacheMiss, match="has no answer to"):
        asyncio.run(told(client, response_model=Adult, **around))
    assert (provider.calls, cache.stats().errors) == (1, 0)


@pytest.mark.parametrize(
    "text",
    ['{"a": 1, "a": 2}', '{"a": 0.1000000000000000000001}', '{"a": 1.10}', "[-0]", "5", '"a"', "null", "{", "[" * 9999],
)
def test_what_json_would_lose_is_shown_as_text(text: str) -> None:
    """A name that is there twice, digits that no float has, what is no object: the text itself stands in the file."""
    shown = _show(seal(Entry((text,), Kept("dict", Raw(b"{}")), "m", 0.0), "k"), "k")

    assert shown["answer"] == text
