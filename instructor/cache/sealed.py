"""SealedCache: what is stored is encrypted or signed, and bound to its key and its time."""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import struct
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from typing import Any

from ..effects import Flow, Load, Save
from .base import BaseCache
from .layer import Layer
from .shelf import shelf_of

KEY = 32
"""Bytes in a key."""
_MAC = 32
"""Bytes in an HMAC-SHA-256."""
_NONCE = 12
"""Bytes in a nonce: drawn at random, they are enough for four thousand million entries under one key (SP 800-38D)."""
_SKEW = 1.0
"""Seconds by which a store may keep an entry too long without being suspected: clocks differ, and are read in turn."""
_EXPIRES = struct.Struct(">d")


class SealedCache(Layer):
    """`SealedCache(DiskCache(), key)`: keeps texts in `inner` encrypted with AES-256-GCM (extra `sealed`).

    `signing_key=` in place of `key` signs them with HMAC-SHA-256 and hides nothing. It is one or the other: AES-GCM
    tells forgeries, too. A key is 32 secret bytes, or a list of such: the first seals, all open, so that a new one is
    put in front and an old one goes when its entries have.

    What was forged, damaged, moved from another key of the cache, sealed with an unknown key, or is given after its
    time is a miss: counted in `stats(cache).tampered`, and as an error. An inner cache that ignores `ttl` gives what is
    after its time without being attacked. Who can write to `inner` can still delete, and put back an older entry of the
    same key that has time left.
    """

    def __init__(
        self,
        inner: BaseCache,
        key: bytes | Iterable[bytes] | None = None,
        *,
        signing_key: bytes | Iterable[bytes] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(inner)
        if (key is None) == (signing_key is None):
            raise TypeError("a SealedCache takes key= to encrypt, or signing_key= to sign only: one of the two")
        self._keys = _checked("signing_key" if key is None else "key", signing_key if key is None else key)
        self._box: type[_Signed] = _Signed if key is None else _Encrypted
        self._box(self._keys[0])  # says here and now when something is not installed
        self._clock = clock

    def __repr__(self) -> str:
        return f"SealedCache({self._stores[0]!r})"

    def _find(self, key: str) -> Flow[Any]:
        sealed = yield Load(self._stores[0], key)
        if sealed is None:
            return None
        expires, text = self._opened(sealed, key)
        late = self._clock() - expires
        if text is None or late > _SKEW:
            shelf = shelf_of(self)
            shelf.stats.tampered += 1
            shelf.trouble("reading", "an entry after its time" if text else "an entry that no key of this cache sealed")
        return text if late < 0 else None

    def _keep(self, key: str, value: str, ttl: float | None) -> Flow[None]:
        if not isinstance(value, str):
            raise TypeError(f"a SealedCache keeps str, got {type(value).__name__}")
        expires = math.inf if ttl is None else self._clock() + ttl
        plain = _EXPIRES.pack(expires) + value.encode("utf-8", "surrogatepass")
        sealed = self._box(self._keys[0]).seal(plain, self._bound(key))
        yield Save(self._stores[0], key, self._box.head + urlsafe_b64encode(sealed).decode(), ttl)

    def _opened(self, given: Any, key: str) -> tuple[float, str | None]:
        """When an entry expires and its text, which is None for what no key opens."""
        try:
            stored = given if isinstance(given, str) else bytes(given).decode()
            sealed = urlsafe_b64decode(stored[len(self._box.head) :])
            # Decoding passes over strange characters and spare bits: there is one way to write an entry, not several.
            if stored == self._box.head + urlsafe_b64encode(sealed).decode():
                for secret in self._keys:
                    plain = self._box(secret).open(sealed, self._bound(key))
                    if plain is not None:
                        return _EXPIRES.unpack_from(plain)[0], plain[_EXPIRES.size :].decode("utf-8", "surrogatepass")
        except (TypeError, ValueError):  # not text, or not base64
            pass
        return math.inf, None

    def _bound(self, key: str) -> bytes:
        """What an entry is bound to, in as many bytes for every key."""
        return hashlib.sha256(self._box.head.encode() + key.encode("utf-8", "surrogatepass")).digest()


class _Signed:
    """Shows what it holds, with a signature in front."""

    head = "instructor-signed/1 "

    def __init__(self, key: bytes) -> None:
        self.key = key

    def seal(self, plain: bytes, bound: bytes) -> bytes:
        return hmac.digest(self.key, bound + plain, "sha256") + plain

    def open(self, sealed: bytes, bound: bytes) -> bytes | None:
        plain = sealed[_MAC:]
        return plain if hmac.compare_digest(self.seal(plain, bound), sealed) else None


class _Encrypted(_Signed):
    """Shows nothing but the length."""

    head = "instructor-sealed/1 "

    def __init__(self, key: bytes) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  only who seals needs it
        except ImportError as missing:
            raise ImportError("SealedCache(key=...) needs cryptography: pip install 'instructor[sealed]'") from missing
        self.cipher = AESGCM(key)

    def seal(self, plain: bytes, bound: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        return nonce + self.cipher.encrypt(nonce, plain, bound)

    def open(self, sealed: bytes, bound: bytes) -> bytes | None:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415  as above

        try:
            return self.cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], bound)
        except (InvalidTag, ValueError):  # too short for a nonce is a ValueError
            return None


def _checked(name: str, given: Any) -> tuple[bytes, ...]:
    keys = (given,) if isinstance(given, (str, bytes, bytearray)) else tuple(given)
    for key in keys:
        if not isinstance(key, bytes):
            raise TypeError(f"{name} must be bytes, got {type(key).__name__}: {_ADVICE}")
        if len(key) != KEY:
            raise ValueError(f"{name} must have {KEY} bytes, got {len(key)}: {_ADVICE}")
    if not keys:
        raise ValueError(f"{name} must not be an empty list: {_ADVICE}")
    return keys


_ADVICE = "make one with secrets.token_bytes(32), and keep it where you keep passwords."
