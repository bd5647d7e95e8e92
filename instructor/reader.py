"""JSON that is still arriving: what of it is there, read once however it is cut."""

from __future__ import annotations

import io
import json
import re
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, Protocol

from pydantic_core import from_json

from .jsontext import MAX_DEPTH

WORD = "0"
"""The kind of a number, of true, false and null; other values are of the kind that they open with."""
UNREAD = object()
"""What the value of a node is before anybody has made something of it."""
_KEY = "key"
_TOKEN = re.compile(r'[\s,:]*(?:(?P<open>[{\["])|(?P<close>[}\]])|(?P<word>.)|\Z)', re.DOTALL)
_INSIDE = {
    WORD: re.compile(r'[^\s,:{}\[\]"]*'),
    '"': re.compile(r'[^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*', re.DOTALL),
}
_INSIDE[_KEY] = _INSIDE['"']
_PASSED = re.compile(r'(?:[^"{}\[\]]+|"[^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*")*', re.DOTALL)
_CLOSES = {"}": "{", "]": "["}


class Reader(Protocol):
    """Makes of a document that is still arriving what can be shown of it."""

    tree: Tree

    def feed(self, piece: str) -> list[Any]:
        """What can be shown now that could not before."""

    def end(self, text: str) -> list[Any]:
        """What is left to be shown, `text` being the whole document as judged in the end.

        Raises:
            ValueError: it does not fit, or is not what was shown; `pydantic.ValidationError` where `create` raises it.
        """


def agree(said: str, text: str) -> bool:
    """Whether two texts are one document; an SDK that reads it meanwhile may set its spaces anew."""
    if said.strip() == text.strip():
        return True
    try:
        return json.dumps(from_json(said)) == json.dumps(from_json(text))
    except ValueError:
        return False


def read(reader: Reader, pieces: Iterable[str]) -> Iterator[Any]:
    """All that a reader shows of the pieces of a document."""
    for piece in pieces:
        yield from reader.feed(piece)
    yield from reader.end(reader.tree.text())


async def read_async(reader: Reader, pieces: AsyncIterable[str]) -> AsyncIterator[Any]:
    """The same, of pieces that are waited for."""
    async for piece in pieces:
        for shown in reader.feed(piece):
            yield shown
    for shown in reader.end(reader.tree.text()):
        yield shown


class Node:
    """A value in the text: its kind, where it stands (`end` is None while it is open), and its members if it has some.

    The last three belong to who shows it: the form chosen for it, what it came to when complete, what was shown of it.
    """

    __slots__ = ("end", "form", "key", "kind", "members", "seen", "shown", "start", "value")

    def __init__(self, kind: str, start: int) -> None:
        self.kind, self.start = kind, start
        self.end: int | None = None
        self.members: Any = {} if kind == "{" else []
        self.key: str | None = None
        self.form: Any = None
        self.value: Any = UNREAD
        self.seen: Any = None
        self.shown: list[Any] = []


class Tree:
    """The document as far as it has arrived.

    It is read loosely: commas and colons are passed over, since whoever is given the whole document checks it. What
    cannot be read any further ends the tree where it stands, and so does a key that `repeats`: the value that counts
    is not the one that was shown. What is nested deeper than `levels` has no members.
    """

    def __init__(self, levels: int = MAX_DEPTH) -> None:
        self._levels = levels
        self.root: Node | None = None
        self.path: list[Node] = []
        self.length, self.over, self.repeats = 0, False, False
        self._said = io.StringIO()  # `str +=` on an attribute copies what is there
        self._rest = ""

    def feed(self, piece: str) -> None:
        """Read on: the piece is looked at once, and nothing before it again."""
        self._said.write(piece)
        self.length += len(piece)
        text, self._rest = self._rest + piece, ""
        base, position = self.length - len(text), 0
        while position < len(text) and not self.over:
            inside = _INSIDE.get(self.path[-1].kind) if self.path else None
            if inside:
                position = self._go_on(inside, text, position, base)
            elif len(self.path) > self._levels:
                position = self._pass(text, position, base)
            else:
                position = self._step(text, position, base)

    def text(self, node: Node | None = None) -> str:
        """What is there of a value; of everything by default."""
        if node is None:
            return self._said.getvalue()
        self._said.seek(node.start)
        found = self._said.read((self.length if node.end is None else node.end) - node.start)
        self._said.seek(self.length)
        return found

    def _step(self, text: str, position: int, base: int) -> int:
        token = _TOKEN.match(text, position)
        if token is None or token.lastgroup is None:
            return len(text)
        start = token.start(token.lastgroup)
        if token["close"]:
            self._close(base + start + 1, _CLOSES[token["close"]])
        else:
            self._open(token["open"] or WORD, base + start)
        return start + 1

    def _go_on(self, inside: re.Pattern[str], text: str, position: int, base: int) -> int:
        """Read on in a string or a word, up to its end if that is there."""
        kind = self.path[-1].kind
        found = inside.match(text, position)
        position = found.end() if found else position
        if position == len(text):
            return position
        if text[position] == "\\":  # the last character: what it escapes is still to come
            self._rest = "\\"
            return len(text)
        if kind != WORD and text[position] != '"':
            self.over = True
            return position
        position += kind != WORD
        self._close(base + position, kind)
        return position

    def _pass(self, text: str, position: int, base: int) -> int:
        """Read on to the next bracket, or into a string that is still open."""
        found = _PASSED.match(text, position)
        position = found.end() if found else position
        if position == len(text):
            return position
        mark = text[position]
        if mark in _CLOSES:
            self._close(base + position + 1, _CLOSES[mark])
        else:
            self.path.append(Node(mark, base + position))
            self.over = len(self.path) > MAX_DEPTH
        return position + 1

    def _open(self, kind: str, start: int) -> None:
        parent = self.path[-1] if self.path else None
        is_key = parent is not None and parent.kind == "{" and parent.key is None
        node = Node(_KEY if is_key else kind, start)
        self.over = len(self.path) > MAX_DEPTH or (is_key and kind != '"')
        self.path.append(node)
        if parent is None:
            self.root = node
        elif parent.kind == "[":
            parent.members.append(node)
        elif parent.key is not None:
            parent.members[parent.key], parent.key = node, None

    def _close(self, end: int, kind: str) -> None:
        if not self.path or self.path[-1].kind != kind:
            self.over = True
            return
        node = self.path.pop()
        node.end = end
        if kind == _KEY:
            self._name(node)
        self.over = self.over or not self.path

    def _name(self, node: Node) -> None:
        parent = self.path[-1]
        try:
            parent.key = from_json(self.text(node))
        except ValueError:
            self.over = True
        self.repeats = parent.key in parent.members
        self.over = self.over or self.repeats
