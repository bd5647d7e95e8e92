"""One API as one client reaches it: which function to call, in which dialect, on whose account."""

from __future__ import annotations

import hashlib
import operator
import urllib.parse
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from .cache.key import canonical
from .dialects.base import Dialect
from .providers import Row

ROUNDS = 10_000
"""PBKDF2 rounds (RFC 8018) over a credential: some milliseconds, once a process, against guessing it from a key."""


class Endpoint:
    """A provider's row, the dialect it speaks, and the client or function that speaks it.

    `start` is something to be done before each call, such as seeing that a local server runs; `place` names an
    endpoint whose address says nothing about it.
    """

    def __init__(
        self,
        row: Row,
        dialect: Dialect,
        client: Any,
        call: Callable[..., Any] | None = None,
        *,
        is_async: bool = False,
    ) -> None:
        self.row = row
        self.dialect = dialect
        self.client = client
        self.is_async = is_async
        self.start: Callable[[], None] | None = None
        self.place: str | None = None
        self.speaker = f"{dialect.name}/{dialect.version} {row.completion}"
        self._call = call
        self._path: Callable[[Any], Callable[..., Any]] = operator.attrgetter(row.async_call if is_async else row.call)
        self._identity: Callable[[Any], tuple[Any, ...]] = operator.attrgetter(*row.identity)
        self._seen: tuple[Any, ...] | None = None
        self._scopes: tuple[str, str | None] = ("", None)

    @property
    def call(self) -> Callable[..., Any]:
        """The SDK's function, looked up each time: tests and tracers replace it."""
        return self._call or self._path(self.client)

    def scope(self, namespace: str | None) -> str:
        """What this endpoint adds to a key: where it is and, unless `namespace` stands for it, whose account it is.

        Raises:
            TypeError: the credential is made anew for each call, so that only a namespace can name the account.
        """
        try:
            seen = self._identity(self.client)
        except AttributeError:  # not the SDK's own client
            seen = tuple(_attribute(self.client, name) for name in self.row.identity)
        if seen != self._seen:
            self._scopes, self._seen = _scopes(self.place, seen), seen
        place, whole = self._scopes
        if namespace is not None:
            return place
        if whole is None:
            raise TypeError("the credential has no fixed value; name the account yourself with cache_namespace=…")
        return whole


def _attribute(client: Any, name: str) -> Any:
    """The attribute, or its public spelling: the private one is read first because properties cost more than a hash."""
    return getattr(client, name, getattr(client, name.lstrip("_"), None))


def _scopes(place: str | None, identity: tuple[Any, ...]) -> tuple[str, str | None]:
    """The address, and the address with a digest of everything else; not that where a credential is a function."""
    address, *account = identity
    url = place or _normal(str(address)) if isinstance(address, str) or type(address).__name__ == "URL" else place or ""
    if any(callable(part) and not _is_stand_in(part) for part in account):
        return url, None
    return url, f"{url} {_digest(canonical([part if _is_plain(part) else None for part in account]))}"


def _is_plain(part: Any) -> bool:
    return part is None or isinstance(part, (str, dict, bool))


def _is_stand_in(part: Any) -> bool:
    """Whether this is a mock's attribute, which is callable whatever it stands for."""
    return "mock" in type(part).__module__


def _normal(url: str) -> str:
    """One spelling for one address."""
    split = urllib.parse.urlsplit(url.rstrip("/"))
    host = "127.0.0.1" if split.hostname == "localhost" else split.hostname or ""
    port = f":{split.port}" if split.port else ""
    return f"{split.scheme}://{host}{port}{split.path}"


@lru_cache(maxsize=256)
def _digest(account: bytes) -> str:
    return hashlib.pbkdf2_hmac("sha256", account, b"instructor account", ROUNDS).hex()
