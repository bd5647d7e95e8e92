"""What is long is kept compressed, comes back as it was, and is nothing at all when it is damaged."""

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instructor.cache.packed import LARGEST, LONG, packed, unpacked

LINES = "".join(f"{number} bottles of beer, {number} bottles … " for number in range(450))
"""Longer than what is kept as it is, and short when compressed."""
NOISE = random.Random(1).randbytes(LONG).hex()  # noqa: S311 - nothing is kept secret with it
"""As long, and a little more than half when compressed."""


@given(st.text(), st.integers(0, 2))
def test_what_was_packed_comes_back(text, times):
    """Packing and unpacking is identity, for short texts and for long ones."""
    whole = text + LINES * times

    assert unpacked(packed(whole)) == whole


def test_what_is_long_takes_half_the_room_or_less():
    """A long text that compresses is kept compressed; to less than half, or it is not worth the time."""
    assert len(packed(LINES)) < len(LINES.encode()) / 2
    assert packed(NOISE) == NOISE.encode()


def test_what_is_short_is_kept_as_it_is():
    """Up to a length, text is kept as everybody can read it."""
    assert packed("x" * LONG) == b"x" * LONG
    assert len(packed("x" * (LONG + 1))) < LONG


def test_what_was_kept_plain_is_read():
    """Long texts that others stored, uncompressed, are read."""
    assert unpacked(LINES.encode()) == LINES


def test_a_text_cut_off_anywhere_is_none():
    """Of a compressed text that was cut off nothing is read, wherever that was; nor of one with something behind it."""
    kept = packed(LINES)

    assert {unpacked(kept[:length]) for length in range(1, len(kept))} == {None}
    assert unpacked(kept + b"\0") is None


def test_a_text_with_any_bit_flipped_is_never_another():
    """Of a compressed text with one wrong bit nothing is read, whichever it is; but some at the end mean nothing."""
    kept = packed(LINES)
    flipped = (kept[:place] + bytes([kept[place] ^ 1 << bit]) + kept[place + 1 :] for place, bit in _bits(kept))

    wrong = [found for found in map(unpacked, flipped) if found is not None]

    assert wrong in ([], [LINES] * len(wrong))
    assert len(wrong) < 8


def _bits(kept):
    return ((place, bit) for place in range(len(kept)) for bit in range(8))


@pytest.mark.parametrize("kept", [b"\xff", b"\xfe\xff", b"\xfe\xffx", b"\xfe\xff" + zlib.compress(b"\xff")])
def test_what_is_neither_text_nor_compressed_text_is_none(kept):
    """Whatever else somebody stored is nothing."""
    assert unpacked(kept) is None


def test_a_bomb_is_none():
    """What would become larger than anything that is compressed here is not read to its end."""
    assert unpacked(b"\xfe\xff" + zlib.compress(bytes(LARGEST))) == "\0" * LARGEST
    assert unpacked(b"\xfe\xff" + zlib.compress(bytes(LARGEST + 1))) is None
