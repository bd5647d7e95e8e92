"""Find the JSON document that a language model meant in its answer.

>>> find('Sure! Here it is: {"name": "Ann"} Anything else?')
'{"name": "Ann"}'

This is finding, not mending: a document that is cut short or has a trailing comma is passed over, and so are its inner
parts, since a fragment that happens to be valid is a wrong answer. One thing is put right, because models write it all
the time and it has one reading only: raw control characters inside strings (line breaks, tabs) come back escaped.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from pydantic_core import from_json

MAX_LENGTH = 1024 * 1024
MAX_DEPTH = 128
MAX_PLACES = 1000  # a decoding error counts the lines before it, so each may cost the length of the text
MAX_TOKENS = 20_000  # brackets and strings read while stepping over one broken document
MAX_GAP = 1000  # what is between the brackets that a document opens with
SMALL = 64 * 1024  # below this, trying first whether all of it is JSON costs next to nothing when it is not

# Where a value may begin: after a fence and its info string, or at a bracket followed by something like JSON. Keys
# without double quotes are let in too, so that the inner parts of such a document are not taken for documents.
_PLACE = re.compile(r"""(?P<fence>(?:`{3,}|~{3,})[^\S\n]*\w*\s*)|(?=\{\s*(?:["'}]|\w+\s*:)|\[\s*[]["{0-9tfnNI-])""")
_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*(?P<closed>"|\Z)'
_TOKEN = re.compile(rf"{_STRING}|(?P<open>[\[{{])|(?P<close>[\]}}])|(?P<fence>\n[^\S\n]*(?:```|~~~))", re.DOTALL)
_STRINGS = re.compile(_STRING, re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f]")

# Where an answer may begin, an object with fields or a list of such; and what may become that with what comes next.
_START = re.compile(r'(?:\[\s*)?\{\s*"')
_MAY_START = re.compile(r"(?:\[\s*(?:\{\s*)?|\{\s*)\Z")

# Numbers stay text: nobody looks at them here, and making an int of a million digits takes seconds.
_STRICT = json.JSONDecoder(parse_int=str, parse_float=str)
_LENIENT = json.JSONDecoder(parse_int=str, parse_float=str, strict=False)  # takes raw control characters in strings
_TOO_DEEP = f"The JSON in the answer is nested deeper than {MAX_DEPTH} levels."


class Finder:
    """Finds the first document of fields in a text that comes in pieces, and hands it on as it comes.

    Most answers hold one. Where `find` chooses another in the end, whoever reads this one must begin again.
    """

    def __init__(self) -> None:
        self._rest, self._depth = "", 0
        self._quoted = self._over = False

    def feed(self, piece: str) -> str:
        """The part of the document that the piece brings."""
        if self._over:
            return ""
        text, self._rest = self._rest + piece, ""
        if self._depth:
            return self._inside(text)
        start = _START.search(text) or _MAY_START.search(text)
        if start and start[0].endswith('"'):
            return self._inside(text[start.start() :])
        self._rest = start[0] if start and len(start[0]) < MAX_GAP else ""
        return ""

    def _inside(self, text: str) -> str:
        if (len(text) - len(text.rstrip("\\"))) % 2:  # what it escapes is still to come
            text, self._rest = text[:-1], "\\"
        opened = '"' if self._quoted else ""
        text = opened + text
        for token in _TOKEN.finditer(text):
            self._quoted = token["closed"] == ""
            self._depth += bool(token["open"]) - bool(token["close"])
            if not self._depth:
                self._over, text = True, text[: token.end()]
                break
        return _escaped(text)[len(opened) :]


def extract_json_from_stream(pieces: Iterable[str]) -> Iterator[str]:
    """The JSON document in a text that comes in pieces, as it comes."""
    return filter(None, map(Finder().feed, pieces))


def extract_json_from_stream_async(pieces: AsyncIterable[str]) -> AsyncIterator[str]:
    """The same, of pieces that are waited for."""
    finder = Finder()
    return (found async for piece in pieces if (found := finder.feed(piece)))


class _Document(NamedTuple):
    text: str
    value: Any
    fenced: bool


def find(text: str) -> str:
    """Return the JSON document in `text`; raise ValueError when there is none, or when it is unreasonably large.

    A text that is JSON from end to end is the document. Otherwise an object with fields, or a list of such, goes before
    other values (a citation such as `[1]` is no answer), then what is fenced before what is not, then the last one.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"The answer is {len(text)} characters long; JSON is looked for in at most {MAX_LENGTH}.")
    whole = text.strip()
    document = _whole(whole) or _best(whole)
    _check_depth(document)
    return document.text


def _whole(text: str) -> _Document | None:
    if len(text) > SMALL and text.startswith(("{", "[")):
        return None
    try:
        return _Document(text, from_json(text), fenced=False)
    except ValueError:
        return None


def _best(text: str) -> _Document:
    best = _Document("", None, fenced=False)
    for document in _documents(text):
        best = max(document, best, key=_rank)  # the later one of equals
    if not best.text:
        raise ValueError(f"The answer ({len(text)} characters) holds no complete JSON document; ask for one.")
    return best


def _rank(document: _Document) -> tuple[bool, bool]:
    records = document.value if isinstance(document.value, list) else [document.value]
    return any(record and isinstance(record, dict) for record in records), document.fenced


def _documents(text: str) -> Iterator[_Document]:
    """Every outermost document, from left to right. What was decoded, or is broken, is not entered again."""
    fenced, position = False, 0
    for _ in range(MAX_PLACES):
        place = _PLACE.search(text, position)
        if place is None:
            return
        position, fenced = place.end(), fenced != bool(place["fence"])
        if place["fence"] and not fenced:
            continue
        document, position = _read(text, position, fenced)
        if document:
            yield document
    raise ValueError(f"The answer has more than {MAX_PLACES} places where JSON may begin; ask for one JSON document.")


def _read(text: str, start: int, fenced: bool, decoder: json.JSONDecoder = _STRICT) -> tuple[_Document | None, int]:
    """The document at `start`, unless it is broken, and where to look for the next one."""
    try:
        value, end = decoder.raw_decode(text, start)
    except json.JSONDecodeError as error:
        if decoder is _STRICT and "" < text[error.pos : error.pos + 1] < " ":
            return _read(text, start, fenced, _LENIENT)
        return None, _past(text, start) if _looks_meant(text, start, error.pos) else error.pos
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    document = text[start:end]
    return _Document(document if decoder is _STRICT else _escaped(document), value, fenced), end


def _looks_meant(text: str, start: int, broken_at: int) -> bool:
    """Whether this is a document with a mistake in it, and not prose in brackets such as `[not a list]`."""
    return text.startswith("{", start) or bool(text[start + 1 : broken_at].strip()) or text.startswith('"', broken_at)


def _past(text: str, start: int) -> int:
    """Where the broken document at `start` ends: at its last bracket, at a fence, or with the text."""
    depth = 0
    for token in islice(_TOKEN.finditer(text, start), MAX_TOKENS):
        if token["fence"]:
            return token.start()
        depth += bool(token["open"]) - bool(token["close"])
        if depth <= 0:
            return token.end()
    return len(text)


def _escaped(document: str) -> str:
    return _STRINGS.sub(lambda string: _CONTROL.sub(lambda control: json.dumps(control[0])[1:-1], string[0]), document)


def _check_depth(document: _Document) -> None:
    if document.text.count("{") + document.text.count("[") <= MAX_DEPTH:
        return
    level = [document.value]
    for _ in range(MAX_DEPTH + 1):
        containers = [item for item in level if isinstance(item, (dict, list))]
        level = [child for item in containers for child in (item.values() if isinstance(item, dict) else item)]
    if containers:
        raise ValueError(_TOO_DEEP)
