"""What is stored: one answer as one line of text, checked and bound to its key.

    instructor/1 <checksum> {"tape": ["{\\"name\\":\\"John\\"}"], "completion": {...}, "model": "gpt-4o", "made_at": ...}

The checksum is BLAKE2b (RFC 7693) over key and text: a damaged entry, and one that stands under another key,
read as no entry at all.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from .completion import Kept

VERSION = "instructor/1"


class Entry(msgspec.Struct, frozen=True):
    """What a model said: its payload in the pieces in which it came, and the completion around it."""

    tape: tuple[str, ...]
    completion: Kept
    model: str | None
    made_at: float


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Entry).decode
_HEAD = len(VERSION) + 1 + 32 + 1


def seal(entry: Entry, key: str) -> str:
    """The entry as text, to be kept under `key`."""
    body = _encode(entry)
    return f"{VERSION} {_checksum(body, key)} {body.decode()}"


def unseal(text: Any, key: str) -> Entry | None:
    """The entry that `text` holds; None when it is not one of ours, is damaged, or belongs to another key."""
    try:
        line = text if type(text) is str else bytes(text).decode() if isinstance(text, (bytes, bytearray)) else ""
        body = line[_HEAD:].encode()
        if line[:_HEAD] != f"{VERSION} {_checksum(body, key)} ":
            return None
        return _decode(body)
    except (ValueError, msgspec.MsgspecError):  # not UTF-8; sealed by a version that had other fields
        return None


def _checksum(body: bytes, key: str) -> str:
    return hashlib.blake2b(body, digest_size=16, key=key.encode()[:64]).hexdigest()
