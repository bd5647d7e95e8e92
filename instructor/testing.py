"""The rules that every cache and every dialect keeps, as suites to inherit for those who write one."""

from __future__ import annotations

import copy
import json
import re
import secrets
import unittest
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import BaseModel

from .cache.base import BaseCache
from .cache.shelf import shelf_of
from .dialects.base import Dialect
from .mode import Mode
from .parallel import compile_parallel
from .shape import compile_shape

__all__ = ["CacheContract", "DialectContract"]

_TEXTS = {
    "JSON": '{"name": "Ada", "age": 36}',
    "one character": "x",
    "quotes and backslashes": "'\"\\\\n%s {} \\x00",
    "line ends": "\n\r\n\t ",
    "a NUL": "before\x00after",
    "many scripts": "Grüße, 你好, שלום, 🦉\u200d\U0001f9e1\ufeff",
    "what cannot be said shorter": secrets.token_urlsafe(50_000),
    "a megabyte": "0123456789abcdé€" * 65_536,
}


class CacheContract:
    """The rules of `BaseCache`: inherit them, say how to make a cache, and run pytest.

    class TestMyCache(CacheContract):
        def make_cache(self):
            return MyCache()

    A store that other tests or people use at the same time is fine: every rule takes keys of its own.
    Rules about what a store may leave out, such as `delete`, are skipped where it does.
    """

    def make_cache(self) -> BaseCache:
        """A cache to try the rules on, called once by each."""
        raise NotImplementedError(f"{type(self).__name__} needs a make_cache() that returns the cache to test")

    def test_it_is_a_base_cache(self) -> None:
        """Clients accept subclasses of `BaseCache` only."""
        assert isinstance(self.make_cache(), BaseCache)

    def test_what_was_never_stored_is_none(self) -> None:
        """A key that was never stored gives None, and raises nothing."""
        assert self.make_cache().get(_new_key()) is None

    def test_what_is_stored_comes_back(self) -> None:
        """Text comes back as the very same text, of type `str`, whatever it holds."""
        cache = self.make_cache()

        for name, text in _TEXTS.items():
            key = _new_key()
            cache.set(key, text)
            found = cache.get(key)

            assert type(found) is str, f"{name}: a str was stored, {type(found).__name__} came back"
            assert found == text, f"{name}: what came back differs"

    def test_reading_twice_gives_the_same(self) -> None:
        """Reading takes nothing away."""
        cache, key = self.make_cache(), _new_key()
        cache.set(key, "once")

        assert [cache.get(key), cache.get(key)] == ["once", "once"]

    def test_the_last_text_stored_counts(self) -> None:
        """Storing again replaces, by a shorter text as by a longer one."""
        cache, key = self.make_cache(), _new_key()

        for text in ("first", "second, and longer", "3rd"):
            cache.set(key, text)

            assert cache.get(key) == text

    def test_keys_are_kept_apart(self) -> None:
        """Keys that differ in one digit, at either end, have nothing to do with each other."""
        cache, middle = self.make_cache(), _new_key()[2:]
        keys = [f"0{middle}0", f"1{middle}0", f"0{middle}1"]

        for each in keys:
            cache.set(each, f"text of {each}")

        assert [cache.get(each) for each in keys] == [f"text of {each}" for each in keys]

    def test_a_time_to_live_is_accepted(self) -> None:
        """`ttl` is None or whole seconds, by name and by position; a text with time left is there."""
        cache, keys = self.make_cache(), [_new_key() for _ in range(4)]

        cache.set(keys[0], "text", ttl=60)
        cache.set(keys[1], "text", 60)
        cache.set(keys[2], "text", ttl=None)
        cache.set(keys[3], "text", 10 * 365 * 24 * 3600)

        assert [cache.get(key) for key in keys] == ["text"] * 4

    def test_threads_see_whole_texts_of_their_key(self) -> None:
        """Threads that write and read the same keys get None, or a whole text that was stored under that key."""
        cache, keys = self.make_cache(), [_new_key() for _ in range(7)]

        with ThreadPoolExecutor(8) as pool:
            wrong = [text for found in pool.map(_hammer, [cache] * 8, [keys] * 8, range(8)) for text in found]

        assert wrong == []

    def test_a_deleted_text_is_gone(self) -> None:
        """Where there is a `delete`, what it deletes is gone, the rest stays, and an absent key is no error."""
        cache = self.make_cache()
        delete = getattr(cache, "delete", None)
        if delete is None:
            raise unittest.SkipTest(f"{type(cache).__name__} has no delete()")
        gone, kept = _new_key(), _new_key()
        cache.set(gone, "gone")
        cache.set(kept, "kept")

        delete(gone)
        delete(_new_key())

        assert [cache.get(gone), cache.get(kept)] == [None, "kept"]

    def test_what_bears_a_tag_is_deleted_by_it(self) -> None:
        """Where there are tags, `delete_tag` deletes what was stored with one, not what was stored again without."""
        cache: Any = self.make_cache()
        if not shelf_of(cache).keeps_tags:
            raise unittest.SkipTest(f"{type(cache).__name__} keeps no tags")
        (one, two, three, four), tag = (_new_key() for _ in range(4)), f"{{{_new_key()}}} é\n*"
        other = f"{tag}:more"
        cache.set(one, "one", tags=[tag])
        cache.set(two, "two", 60, [other, tag])
        cache.set(three, "three", 60, [other])
        cache.set(four, "four", None, [tag])
        cache.set(four, "four")

        assert [cache.get(key) for key in (one, two, three, four)] == ["one", "two", "three", "four"]
        assert [cache.delete_tag(tag), cache.delete_tag(tag)] == [2, 0]
        assert [cache.get(key) for key in (one, two, three, four)] == [None, None, "three", "four"]
        assert [cache.delete_tag(other), cache.get(three), cache.get(four)] == [1, None, "four"]


class DialectContract:
    """The rules of `Dialect`: inherit them, say which module speaks it and what it hears, and run pytest.

    class TestMyDialect(DialectContract):
        dialect = my_dialect

        def said(self, mode):
            return {"text": json.dumps(self.payload), "why": "done"}

    `payload` is what every answer of `said` and `events` holds, where the mode looks for it.
    """

    dialect: Dialect
    payload: Mapping[str, Any] = {"name": "Ann", "age": "old"}
    question: Mapping[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Who is old?"}]}

    def said(self, mode: Mode) -> Any:
        """A completion, as the SDK gives it, that says `payload` to its end."""
        raise NotImplementedError(f"{type(self).__name__} needs a said(mode) that returns a completion")

    def events(self, mode: Mode) -> list[Any]:  # noqa: ARG002  it is for those who inherit
        """The events, as the SDK gives them, of a stream that says the same; nothing where it cannot be streamed."""
        return []

    def test_nothing_given_is_changed(self) -> None:
        """Asking and asking again build new requests, twice the same, and leave alone what they are given."""
        for mode in self.dialect.modes:
            question, asked = copy.deepcopy(self.question), self._asked(mode)
            sent = copy.deepcopy(asked)
            self._again(asked, mode)

            assert question == self.question
            assert asked == sent == self._asked(mode)

    def test_a_plain_question_asks_for_nothing(self) -> None:
        """Without a shape, no mode adds anything: all send the same."""
        plain = [self.dialect.ask(self.question, None, mode) for mode in self.dialect.modes]

        assert plain == plain[:1] * len(plain)

    def test_the_fields_are_asked_for(self) -> None:
        """Every mode tells the model which fields there are."""
        for mode in self.dialect.modes:
            assert {'"name', '"age'} <= set(re.findall(r'"\w+', _text(self._asked(mode))))

    def test_what_was_said_is_read(self) -> None:
        """The payload is the first call's arguments, or the text; an answer that is whole has stopped."""
        for mode in self.dialect.modes:
            reply = self.dialect.read(self.said(mode))

            assert json.loads(reply.calls[0].arguments if reply.calls else str(reply.text)) == self.payload
            assert reply.finish == "stop"

    def test_an_error_is_told_of(self) -> None:
        """Going on after a bad answer repeats that answer, and says what was wrong with it."""
        for mode in self.dialect.modes:
            again = _text(self._again(self._asked(mode), mode))

            assert "age is no number" in again
            assert str(self.payload["age"]) in again

    def test_what_says_nothing_is_no_answer(self) -> None:
        """A provider may send anything: reading raises nothing, and finds nothing that was not said."""
        for odd in (None, dict[str, Any](), "text", 7):
            reply = self.dialect.read(odd)

            assert (reply.text or "", reply.calls, reply.finish) == ("", (), "stop")

    def test_pieces_add_up(self) -> None:
        """What the events of a stream add is the payload, and the last of them ends it."""
        for mode in self.dialect.modes - {Mode.PARALLEL_TOOLS}:  # whose calls count when they are whole
            events, listener = self.events(mode), self.dialect.Listener(mode)
            if not events:
                raise unittest.SkipTest(f"{type(self).__name__} has no events()")

            assert json.loads("".join(map(listener.hear, events))) == self.payload
            assert listener.ended

    def _asked(self, mode: Mode) -> dict[str, Any]:
        shape = compile_parallel(list[_Person]) if mode is Mode.PARALLEL_TOOLS else compile_shape(_Person)
        return self.dialect.ask(self.question, shape, mode)

    def _again(self, asked: dict[str, Any], mode: Mode) -> dict[str, Any]:
        completion, problem = self.said(mode), ValueError("age is no number")
        return self.dialect.reask(asked, completion, self.dialect.read(completion), problem, mode)


class _Person(BaseModel):
    name: str
    age: int


def _text(request: dict[str, Any]) -> str:
    """All that a request says; schemas in words have their quotes escaped."""
    return json.dumps(request, default=str).replace("\\", "")


def _new_key() -> str:
    return secrets.token_hex(32)


def _hammer(cache: BaseCache, keys: list[str], thread: int) -> list[str]:
    """Write and read in turn; what came back that is not a whole text of its key."""
    wrong = []
    for round_ in range(60):
        for key in keys:
            if (round_ + thread) % 3 == 0:
                cache.set(key, _repeat(key, round_ * thread))
            found = cache.get(key)
            if found is not None and found != _repeat(key, found.count(key) - 1):
                wrong.append(found)
    return wrong


def _repeat(key: str, times: int) -> str:
    """A text that tells how long it is and whose it is."""
    return f"{times} {key}" + f" {key}" * times
