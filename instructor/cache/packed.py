r"""Text as the bytes that a server keeps: what is long and compresses well is compressed (zlib, RFC 1950).

    b"\xfe\xff" <zlib stream>

No UTF-8 begins like this, so that whatever else was stored is read as the plain text that it is.
"""

from __future__ import annotations

import zlib
from contextlib import suppress

LONG = 2**14
"""Bytes up to which text is kept as it is: inflating it again takes longer than a gigabit network does for the rest."""
LARGEST = 2**22
"""Bytes that a compressed text may have: an event loop waits 20 ms for so many, and no more are made of anything."""
_HEAD = b"\xfe\xff"


def packed(text: str) -> bytes:
    """What is kept of `text`: its UTF-8, or that compressed, to half of it or less."""
    plain = str.encode(text)
    if not LONG < len(plain) <= LARGEST:
        return plain
    small = _HEAD + zlib.compress(plain, 1)  # higher levels save a tenth more, and take up to four times as long
    return small if len(small) * 2 <= len(plain) else plain


def unpacked(kept: bytes) -> str | None:
    """The text of which that was kept, or None for what is damaged, or more than is compressed here."""
    try:
        return kept.decode()
    except UnicodeDecodeError:
        return _inflated(kept) if kept.startswith(_HEAD) else None


def _inflated(kept: bytes) -> str | None:
    stream = zlib.decompressobj()
    with suppress(zlib.error, UnicodeDecodeError):
        plain = stream.decompress(kept[len(_HEAD) :], LARGEST)
        if stream.eof and not stream.unused_data:
            return plain.decode()
    return None
