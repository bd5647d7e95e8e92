"""One API as one client reaches it: which function to call, in which dialect, on whose account."""

from __future__ import annotations

import copy
import hashlib
import importlib
import operator
import pkgutil
import urllib.parse
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, TypeAlias, cast

import pydantic

from .cache.key import canonical
from .dialects.base import Dialect
from .providers import Row, row_for

Function: TypeAlias = Callable[..., Any]
ROUNDS = 10_000
"""PBKDF2 rounds (RFC 8018) over a credential: some milliseconds, once a process, against guessing it from a key."""


class Endpoint:
    """A provider's row, the dialect it speaks, and the client or function that speaks it.

    `start` is something to be done before each call, such as seeing that a local server runs; `place` names an
    endpoint whose address says nothing about it; `face` is the patched function that users call.
    """

    def __init__(self, row: Row, client: Any, call: Function | None = None, *, is_async: bool = False) -> None:
        self.row = row = row_for(client, row)
        self.dialect = dialect_of(row)
        self.client = client
        self.is_async = is_async
        self.start: Callable[[], None] | None = None
        self.place: str | None = _place_of(call) if client is None else None
        self.face: Any = None
        self.speaker = f"{self.dialect.name}/{self.dialect.version} {row.completion}"
        self._call = call
        self._path: Callable[[Any], Function] = _reach(row.calls[is_async])
        self._path_to_stream: Callable[[Any], Function] = _reach((row.streams or row.calls)[is_async])
        self._identity = _reach(*row.identity, *row.loose) if client is not None else pkgutil.resolve_name(row.bare)
        self._own = uuid.uuid4().hex  # the account of a client that does not let us read whose it is
        self._memo: tuple[Any, tuple[str, str | None]] = (None, ("", None))

    @property
    def call(self) -> Function:
        """The SDK's function, looked up each time: tests and tracers replace it."""
        return self._call or self._path(self.client)

    @property
    def stream(self) -> Function:
        """The SDK's function that gives a stream."""
        return self._call or self._path_to_stream(self.client)

    def scope(self, namespace: str | None) -> str:
        """What this endpoint adds to a key: where it is and, unless `namespace` stands for it, whose account it is.

        Raises:
            TypeError: the credential is made anew for each call, so that only a namespace can name the account.
        """
        client, row = self.client, self.row
        try:
            seen = self._identity(client)
        except AttributeError:  # not the SDK's own client
            read = {name: _attribute(client, name) for name in (*row.identity, *row.loose)}
            hidden = not any(read.values()) or any(":" in name and read[name] is None for name in read)
            seen = (read[row.identity[0]], self._own) if hidden else tuple(read.values())
        memo = self._memo
        if seen != memo[0]:
            still = (*seen[: len(row.identity)], *map(copy.copy, seen[len(row.identity) :]))  # as they are now
            memo = self._memo = (still, _scopes(self.place, still))  # one store: accounts must not mix
        place, whole = memo[1]
        if namespace is not None:
            return place
        if whole is None:
            raise TypeError("the credential has no fixed value; name the account yourself with cache_namespace=…")
        return whole


def _reach(*places: str) -> Callable[[Any], Any]:
    """What gets these of a client: attributes, and what functions of ours say of it."""
    if not any(":" in place for place in places):
        return operator.attrgetter(*places)
    gets = [pkgutil.resolve_name(place) if ":" in place else operator.attrgetter(place) for place in places]
    return gets[0] if len(gets) == 1 else lambda client: tuple(get(client) for get in gets)


def nobodys(_: None) -> tuple[None]:
    """The address, and no account, of a function without a client."""
    return (None,)


def dialect_of(row: Row) -> Dialect:
    """The module that speaks a provider's dialect."""
    return cast("Dialect", importlib.import_module(f".dialects.{row.dialect}", __package__))


def _place_of(call: Any) -> str:
    """Where a bare function asks: its own name, or one of its making where others may bear the same."""
    name = f"{getattr(call, '__module__', None)}:{getattr(call, '__qualname__', None)}"
    with suppress(ValueError, ImportError, AttributeError):
        if pkgutil.resolve_name(name) is call:
            return name
    return f"{name} {uuid.uuid4().hex}"


def _attribute(client: Any, name: str) -> Any:
    """The attribute, or what comes nearest to it in public: private ones come first because properties cost time."""
    for spelling in (name, name.lstrip("_"), name.removesuffix("._list").replace("._", ".")):
        with suppress(AttributeError):
            return _reach(spelling)(client)
    return None


def _scopes(place: str | None, identity: tuple[Any, ...]) -> tuple[str, str | None]:
    """The address, and the address with a digest of the account; not the latter where the account has no name."""
    address, *account = identity
    url = urllib.parse.urlsplit("" if _is_stand_in(address) else str(address or ""))
    where = place or _spelled(url)
    try:
        parts = [url.username, url.password, *map(_named, account)]
    except TypeError:
        return where, None
    return where, f"{where} {_digest(canonical(parts))}"


def _is_stand_in(part: Any) -> bool:
    """Whether this is a mock's attribute, which is whatever it is asked to be."""
    return "mock" in type(part).__module__


def _spelled(url: urllib.parse.SplitResult) -> str:
    """One spelling for one address."""
    host = "127.0.0.1" if url.hostname == "localhost" else url.hostname
    return f"{url.scheme}://{host}:{url.port}{url.path.rstrip('/')}?{url.query}"


_TRANSPORT = frozenset({"accept", "accept-encoding", "connection", "user-agent", "x-goog-api-client"})


def _named(part: Any) -> Any:
    """What a part of an account is called; a client's headers without those that its HTTP library adds.

    Raises:
        TypeError: it is a function or an object, and says nothing.
    """
    if isinstance(part, list):  # an HTTP client's headers: tuples that begin with a name and end with a value
        part = {item[0].decode("latin-1"): item[-1] for item in part}
    if isinstance(part, pydantic.BaseModel):  # what Mistral's client knows of its account
        part = dict(part)
    if isinstance(part, Mapping):
        return {name: part[name] for name in part if name.lower() not in _TRANSPORT}
    if part is None or _is_stand_in(part):
        return None
    if isinstance(part, (str, bool)):
        return part
    raise TypeError


@lru_cache(maxsize=256)
def _digest(account: bytes) -> str:
    return hashlib.pbkdf2_hmac("sha256", account, b"instructor account", ROUNDS).hex()
