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
from contextlib import suppress
from typing import Any

from ..effects import Flow, Load, Save
from .base import BaseCache
from .extras import needed
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
        name, keys = ("key", key) if signing_key is None else ("signing_key", signing_key)
        if keys is None or None not in (key, signing_key):
            raise TypeError("a SealedCache takes key= to encrypt, or signing_key= to sign only: one of the two")
        self._keys = _checked(name, keys)
        self._head, self._seal, self._open = _WAYS[name]
        self._seal(self._keys[0], b"", b"")  # says here and now when something is not installed
        self._clock = clock

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

    def _keep(self, key: str, value: str, ttl: float | None, tags: tuple[str, ...]) -> Flow[None]:
        expires = math.inf if ttl is None else self._clock() + ttl
        plain = _EXPIRES.pack(expires) + str.encode(value, "utf-8", "surrogatepass")
        sealed = self._seal(self._keys[0], plain, self._bound(key))
        marks = tuple(_mark(self._keys[0], tag) for tag in tags)
        yield Save(self._stores[0], key, self._head + urlsafe_b64encode(sealed).decode(), ttl, marks)

    def _marks(self, tag: str) -> Iterable[str]:
        return (_mark(secret, tag) for secret in self._keys)

    def _opened(self, given: Any, key: str) -> tuple[float, str | None]:
        """When an entry expires and its text, which is None for what no key opens."""
        for secret in self._keys:
            with suppress(Exception):  # it is no text, or not base64, or that key does not open it
                stored = given if isinstance(given, str) else bytes(given).decode()
                sealed = urlsafe_b64decode(stored[len(self._head) :])
                plain = self._open(secret, sealed, self._bound(key))
                # Decoding passes over strange characters and spare bits: there is one way to write an entry.
                if stored == self._head + urlsafe_b64encode(sealed).decode():
                    return _EXPIRES.unpack_from(plain)[0], plain[_EXPIRES.size :].decode("utf-8", "surrogatepass")
        return math.inf, None

    def _bound(self, key: str) -> bytes:
        """What an entry is bound to, in as many bytes for every key."""
        return hashlib.sha256(self._head.encode() + key.encode("utf-8", "surrogatepass")).digest()


def _mark(key: bytes, tag: str) -> str:
    """What stands for a tag, under a key of its own: nobody can try out names without it."""
    own = hmac.digest(key, b"instructor tags", "sha256")
    return hmac.digest(own, tag.encode("utf-8", "surrogatepass"), "sha256").hex()


def _sign(key: bytes, plain: bytes, bound: bytes) -> bytes:
    return hmac.digest(key, bound + plain, "sha256") + plain


def _check(key: bytes, signed: bytes, bound: bytes) -> bytes:
    plain = signed[_MAC:]
    if not hmac.compare_digest(_sign(key, plain, bound), signed):
        raise ValueError("the signature is another")
    return plain


def _encrypt(key: bytes, plain: bytes, bound: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    return nonce + _aes_gcm()(key).encrypt(nonce, plain, bound)  # type: ignore[no-any-return]


def _decrypt(key: bytes, sealed: bytes, bound: bytes) -> bytes:
    return _aes_gcm()(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], bound)  # type: ignore[no-any-return]


def _aes_gcm() -> Any:
    return needed("cryptography.hazmat.primitives.ciphers.aead", "sealed", "SealedCache(key=...)").AESGCM


_WAYS = {
    "key": ("instructor-sealed/1 ", _encrypt, _decrypt),
    "signing_key": ("instructor-signed/1 ", _sign, _check),
}


def _checked(name: str, given: bytes | Iterable[bytes]) -> tuple[bytes, ...]:
    keys = (given,) if isinstance(given, bytes) else tuple(given)
    if not keys or any(type(key) is not bytes or len(key) != KEY for key in keys):
        advice = "make one with secrets.token_bytes(32), and keep it where you keep passwords"
        raise ValueError(f"{name} must be {KEY} bytes, or a list of such: {advice}")
    return keys
