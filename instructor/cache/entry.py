"""What is stored: one answer as one line of text, checked and bound to its key.

    instructor/1 <checksum> {"tape": ["..."], "completion": {...}, "model": "gpt-4o", "made_at": 1795296386.97}

The checksum is SHA-256 (FIPS 180-4) over key and text: a damaged entry, and one that stands under another key,
read as no entry at all.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import msgspec

from .completion import Kept


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a model said: its payload in the pieces in which it came, and the completion around it.

    `events` are those of a stream that somebody wanted as the SDK gives it. `fresh_until` (seconds since 1970) is for
    those that may be kept longer than they are fresh: these are instructor/2, which older releases do not read.
    """

    tape: tuple[str, ...]
    completion: Kept
    model: str | None
    made_at: float
    events: tuple[Kept, ...] = ()
    fresh_until: float | None = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Entry).decode
_VERSION = len("instructor/")
_HEAD = len("instructor/1 ") + 64 + 1


def seal(entry: Entry, key: str) -> str:
    """The entry as text, to be kept under `key`."""
    body = _encode(entry)
    return (_head(body, key, b"1" if entry.fresh_until is None else b"2") + body).decode()


def unseal(text: Any, key: str) -> Entry | None:
    """The entry that `text` holds; None when it is not one of ours, is damaged, or belongs to another key."""
    if type(text) is not str:
        return _unseal(bytes(text).decode(errors="replace"), key) if isinstance(text, (bytes, bytearray)) else None
    last = _last(key)
    seen, entry = last[0]
    if seen != text:
        entry = _unseal(text, key)
        if len(text) <= SMALL:
            last[0] = text, entry
    return entry


SMALL = 8192
"""Characters up to which what was unsealed is remembered: a store gives the same text again and again."""


@lru_cache(maxsize=256)
def _last(_key: str) -> list[tuple[str | None, Entry | None]]:
    """What was unsealed last under a key, found by the key because a text from a disk would be hashed each time."""
    return [(None, None)]


def _unseal(text: str, key: str) -> Entry | None:
    try:
        line = text.encode()
        body = line[_HEAD:]
        version = line[_VERSION : _VERSION + 1]
        return _decode(body) if version in b"12" and line[:_HEAD] == _head(body, key, version) else None
    except (ValueError, RecursionError, msgspec.MsgspecError):  # a lone surrogate; a bomb; sealed by another version
        return None


def _head(body: bytes, key: str, version: bytes) -> bytes:
    return b"instructor/%b %b " % (version, hashlib.sha256(key.encode() + body).hexdigest().encode())
