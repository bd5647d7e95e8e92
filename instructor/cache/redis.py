"""RedisCache: answers kept on a Redis or Valkey server, or a cluster of them, for every host that can reach it."""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import re
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from itertools import chain, islice
from typing import Any, ClassVar
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from .base import BaseCache
from .extras import needed
from .fuse import Fuse
from .limits import lifetime
from .packed import packed, unpacked

_TURNS = 32
"""How many questions of one event loop are on their way at once: more wait here, where nothing times out."""
_Side = tuple[Any, asyncio.Semaphore, AsyncGenerator[Any, None]]
"""What one event loop has of its own: a client, its turns, and what closes it."""
_OWNED = """\
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call(ARGV[2], KEYS[#KEYS], unpack(ARGV, 3))
if KEYS[2] then redis.call('DEL', KEYS[1]) end
return 1"""
"""Do something to the last of the keys if the first, a lease, is still ours; which ends when an entry is stored."""

_MARK = b"instructor-tags/1 "
"""What an entry with tags begins with: then come digests of them, and on the next line the text."""
_LATE = 60
"""Seconds by which an entry may be stored later than its tags were noted."""
_TAG = """\
local now = redis.call('TIME')[1] * 1000
redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, now)
redis.call('ZADD', KEYS[1], ARGV[2] and now + ARGV[2] or '+inf', ARGV[1])
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
if last == 'inf' then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIREAT', KEYS[1], last) end"""
"""Put a key into the set of a tag, where it stays as long as its entry may; so does the set."""
_DROP_TAGGED = f"""\
local tags = string.match(redis.call('GET', KEYS[1]) or '', '^{_MARK.decode().replace("-", "%-")}([^\\n]*)\\n')
return string.find(tags or '', ARGV[1], 1, true) and redis.call('DEL', KEYS[1]) or 0"""
"""Delete an entry if it says that it bears a tag: the sets also have those that were stored again without."""


class RedisCache(BaseCache, AbstractContextManager["RedisCache"]):
    """Answers on the server at a URL (`redis://`, `rediss://`, `unix://`; `redis+cluster://` for a cluster).

    A client of redis-py does as well: a sync one for threads (and, by threads, for event loops), an asynchronous one
    for event loops. It stays yours to close, and a sync one waits as long as you told it to. What is made for a URL is
    closed by `close()` and `aclose()`, or when its event loop ends.

    An operation takes at most `timeout` seconds, connecting included; then it raises, as it does for a server that is
    gone. A key that timed out is let alone for five seconds, so that no call waits twice; after five failures in a row
    all are, and then one of them tries. In a cluster this is counted node by node.

    `ttl` is what entries get whose `set` names none; the server forgets them when it is over. `set` always supersedes:
    a value that is out of time already is not kept, but what stood under its key is gone. Texts of more than 16 KB are
    compressed where that halves them. There is no `len()`: servers do not count by prefix.
    """

    fractional_ttl: ClassVar[bool] = True

    def __init__(
        self,
        url_or_client: Any = "redis://127.0.0.1:6379/0",
        *,
        prefix: str = "instructor:",
        ttl: float | None = None,
        timeout: float = 0.25,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = needed("redis", "redis", "RedisCache")
        if "{" in prefix or "}" in prefix:
            raise ValueError(f"prefix may not have braces, which tell the nodes of a cluster apart; got {prefix!r}")
        self._prefix = prefix
        self._ttl = lifetime("ttl", ttl)
        self._timeout = float(timeout)
        self._url = url_or_client if isinstance(url_or_client, str) else ""
        sync, loops = ((side.Redis, side.RedisCluster) for side in (self._redis, self._redis.asyncio))
        if not isinstance(url_or_client, (str, *sync, *loops)):
            raise TypeError(f"RedisCache takes a URL or a client of redis-py, got {type(url_or_client).__name__}")
        self._client = url_or_client if isinstance(url_or_client, sync) else None
        self._async_client = url_or_client if isinstance(url_or_client, loops) else None
        self._cluster = "+cluster" in self._url or hasattr(url_or_client, "get_node_from_key")
        # Threads to wait for, by process: a child of a fork has none of its parent's.
        self._crews = defaultdict[int, Any](lambda: ThreadPoolExecutor(_TURNS, "instructor-redis"))
        self._sides: WeakKeyDictionary[asyncio.AbstractEventLoop, _Side] = WeakKeyDictionary()
        self._fuses: defaultdict[Any, Fuse] = defaultdict(lambda: Fuse(clock))

    def get(self, key: str) -> str | None:
        """The text stored under `key`, or None."""
        return _text(self._ask(key, "GET", self._name(key)))

    async def aget(self, key: str) -> str | None:
        """As `get`, in an event loop."""
        return _text(await self._ask_async(key, "GET", self._name(key)))

    def set(self, key: str, value: str, ttl: float | None = None, tags: Iterable[str] = ()) -> None:
        """Store `value` under `key`, for `ttl` seconds when given, replacing what was there."""
        for place, *command in self._putting(key, value, ttl, tags):
            self._ask(place, *command)

    async def aset(self, key: str, value: str, ttl: float | None = None, tags: Iterable[str] = ()) -> None:
        """As `set`, in an event loop."""
        for place, *command in self._putting(key, value, ttl, tags):
            await self._ask_async(place, *command)

    def delete(self, key: str) -> bool:
        """Forget what is under `key`; whether there was anything."""
        return bool(self._ask(key, "DEL", self._name(key)))

    def delete_tagged(self, tag: str) -> list[str]:
        """Forget what was stored with `tag`; the keys that went."""
        mark = _digest(tag)
        keys = [key.decode() for key in self._ask(mark, "ZRANGE", self._tagged(mark), 0, -1)]
        return [key for key in keys if self._ask(key, "EVAL", _DROP_TAGGED, 1, self._name(key), mark)]

    def clear(self) -> None:
        """Forget everything under the prefix, and nothing else."""
        names = chain(self._names(), self._names("{{{}*}}:tags"))
        while batch := list(islice(names, 500)):
            self._connect().unlink(*batch)

    def remaining(self, key: str) -> float:
        """Seconds that the entry under `key` has left: `math.inf` when it stays, 0 when there is none."""
        left = self._ask(key, "PTTL", self._name(key))
        return math.inf if left == -1 else max(0, left) / 1000

    def __iter__(self) -> Iterator[str]:
        """The keys, as the server comes upon them: what changes meanwhile may be missed, or come twice."""
        names = (name.decode(errors="replace") if isinstance(name, bytes) else name for name in self._names())
        return (name[len(self._prefix) :] for name in names)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and bool(self._ask(key, "EXISTS", self._name(key)))

    # Leases: what lets one of many hosts do the work for all of them.

    def lease(self, key: str, token: str, seconds: float) -> bool:
        """Take the lease on `key`, unless somebody has it."""
        return bool(self._ask(key, "SET", self._lease(key), token, "NX", "PX", _milliseconds(seconds)))

    async def alease(self, key: str, token: str, seconds: float) -> bool:
        """As `lease`, in an event loop."""
        return bool(await self._ask_async(key, "SET", self._lease(key), token, "NX", "PX", _milliseconds(seconds)))

    def renew(self, key: str, token: str, seconds: float) -> bool:
        """Keep the lease on `key`, if it is still ours, for `seconds` from now."""
        return bool(self._ask(key, *self._owned(key, token, "PEXPIRE", _milliseconds(seconds))))

    def release(self, key: str, token: str) -> bool:
        """Give the lease on `key` back, if it is still ours."""
        return bool(self._ask(key, *self._owned(key, token, "DEL")))

    async def arelease(self, key: str, token: str) -> bool:
        """As `release`, in an event loop."""
        return bool(await self._ask_async(key, *self._owned(key, token, "DEL")))

    def set_leased(self, key: str, value: str, ttl: float | None, token: str, tags: Iterable[str] = ()) -> bool:
        """As `set`, but only while the lease on `key` is ours; whether it was."""
        return bool([self._ask(*command) for command in self._putting(key, value, ttl, tags, token)][-1])

    async def aset_leased(self, key: str, value: str, ttl: float | None, token: str, tags: Iterable[str] = ()) -> bool:
        """As `set_leased`, in an event loop."""
        return bool([await self._ask_async(*command) for command in self._putting(key, value, ttl, tags, token)][-1])

    def close(self) -> None:
        """Close what threads used; a closed cache opens again when used."""
        if self._url and self._client is not None:
            self._client.close()
            self._client = None
        self._crews.clear()

    async def aclose(self) -> None:
        """Close what this event loop used, and what threads did."""
        if side := self._sides.get(asyncio.get_running_loop()):
            await side[2].aclose()
        self.close()

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        place = urlsplit(self._url)  # what comes before the @ and after the ? may be a secret
        return f"RedisCache({place.netloc.rpartition('@')[2] + place.path or 'a client'!r}, prefix={self._prefix!r})"

    # Names and commands

    def _name(self, key: str) -> bytes:
        return (self._prefix + key).encode()

    def _names(self, pattern: str = "{}*") -> Iterator[Any]:
        prefix = re.sub(r"([*?[\\])", r"\\\1", self._prefix)
        return self._connect().scan_iter(match=pattern.format(prefix), count=1000)  # type: ignore[no-any-return]

    def _lease(self, key: str) -> bytes:
        """The braces put it on the node of the entry, and out of the way of whoever looks for the prefix."""
        return b"{%b}:lease" % self._name(key)

    def _tagged(self, mark: str) -> bytes:
        return b"{%b}:tags" % self._name(mark)

    def _putting(
        self, key: str, value: str, ttl: float | None, tags: Iterable[str], token: str | None = None
    ) -> list[tuple[Any, ...]]:
        """The commands that store an entry, each after the key whose node it is for; tags come first: none is lost."""
        seconds = self._ttl if ttl is None else lifetime("ttl", ttl)
        marks, late = [_digest(tag) for tag in tags], () if seconds is None else (_milliseconds(seconds + _LATE),)
        tagging = [(mark, "EVAL", _TAG, 1, self._tagged(mark), key, *late) for mark in marks]
        entry = packed(value)
        if marks or entry.startswith(_MARK):
            entry = b"%b%b\n%b" % (_MARK, " ".join(marks).encode(), entry)
        return [*tagging, (key, *self._put(key, entry, seconds, token))]

    def _put(self, key: str, entry: bytes, seconds: float | None, token: str | None) -> tuple[Any, ...]:
        life = () if seconds is None else ("PX", _milliseconds(seconds))
        verb, *rest = ("DEL",) if seconds is not None and seconds <= 0 else ("SET", entry, *life)
        return (verb, self._name(key), *rest) if token is None else self._owned(key, token, verb, *rest, entry=True)

    def _owned(self, key: str, token: str, *command: Any, entry: bool = False) -> tuple[Any, ...]:
        names = (self._lease(key), self._name(key))[: 1 + entry]
        return ("EVAL", _OWNED, len(names), *names, token, *command)

    # Asking in a thread

    def _ask(self, key: str, *command: Any) -> Any:
        with self._fuse(self._client, key).watch(key):
            if self._cluster and self._url:  # its client asks one node after the other
                return self._crews[os.getpid()].submit(self._perform, command).result(self._timeout)
            return self._perform(command)

    def _perform(self, command: tuple[Any, ...]) -> Any:
        return self._connect().execute_command(*command, NEVER_DECODE=True)

    def _connect(self) -> Any:
        if self._client is None:
            if not self._url:
                raise TypeError(f"{self!r} has an asynchronous client only: use it in an event loop")
            self._client = self._make(self._redis, self._timeout)
        return self._client

    def _make(self, side: Any, patience: float | None) -> Any:
        kind = side.RedisCluster if self._cluster else side.Redis
        once = self._redis.retry.Retry(self._redis.backoff.NoBackoff(), 0)
        limits = {"socket_timeout": patience, "socket_connect_timeout": patience, "max_connections": 2**31}
        # Protocol 3 would begin with a greeting, and what it adds is not needed here.
        return kind.from_url(self._url.replace("+cluster://", "://"), retry=once, protocol=2, **limits)

    # Asking in an event loop

    async def _ask_async(self, key: str, *command: Any) -> Any:
        if self._async_client is None and not self._url:
            return await asyncio.to_thread(self._ask, key, *command)
        client, turns, _ = self._sides.get(asyncio.get_running_loop()) or await self._side()
        async with turns:
            with self._fuse(client, key).watch(key):
                return await self._perform_async(client, command)

    async def _perform_async(self, client: Any, command: tuple[Any, ...]) -> Any:
        asked, begun = self._send(client, command), time.monotonic()
        try:
            return await asyncio.wait_for(asked, self._timeout)
        except asyncio.TimeoutError:
            if time.monotonic() - begun < 1.2 * self._timeout:
                raise
            raise RuntimeError("the event loop stood still for too long to hear the server") from None

    async def _send(self, client: Any, command: tuple[Any, ...]) -> Any:
        if self._cluster:
            await client.initialize()  # once: when commands do it, those that come together cut each other off
        return await client.execute_command(*command, NEVER_DECODE=True)

    async def _side(self) -> _Side:
        keeper = self._keep()
        side = self._sides[asyncio.get_running_loop()] = (await anext(keeper), asyncio.Semaphore(_TURNS), keeper)
        return side

    async def _keep(self) -> AsyncGenerator[Any, None]:
        """The client of an event loop, closed with it: loops end the generators that they began."""
        client = self._async_client or self._make(self._redis.asyncio, None)
        try:
            yield client
        finally:
            self._sides.pop(asyncio.get_running_loop(), None)
            if client is not self._async_client:
                await (getattr(client, "aclose", None) or client.close)()

    def _fuse(self, client: Any, key: str) -> Fuse:
        node = None
        with suppress(Exception):  # it is no cluster, or does not know its nodes yet
            node = client.get_node_from_key(self._name(key)).name
        return self._fuses[node]


def _text(found: bytes | None) -> str | None:
    if found is None:
        return None
    return unpacked(found.partition(b"\n")[2] if found.startswith(_MARK) else found)


def _digest(tag: str) -> str:
    return hashlib.sha256(tag.encode("utf-8", "surrogatepass")).hexdigest()


def _milliseconds(seconds: float) -> int:
    """At least one, and no more than servers can add to the time."""
    return int(min(max(seconds * 1000, 1), 2**62))
