"""Stores that are full of entries, and what is timed of them: the same lines for ours and for others.

    python with_stores.py '{"kind": "disk", "place": "DIRECTORY OR URL", "entries": 10000}'

fills one, unless it is full; `worker.py` times it. With RedisCache, redis-py alone takes turns in the same process.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count, cycle, islice
from typing import Any

BATCH = 5000
LIMIT = 2**34
USAGE = '"object":"chat.completion","usage":{"completion_tokens":5,"prompt_tokens":10,"total_tokens":15}'


def cases(told: str) -> dict[str, Callable[[], list[Callable[[], Any]]]]:
    """The asks of each case, made when it is wanted."""
    known = json.loads(told)
    makers, entries = _makers(**known), known["entries"]
    stores = [make() for make in makers]
    assert [len(store.get(key(0))) for store in stores] == [len(text(0))] * len(stores)
    chance, new = random.Random(entries), count(time.time_ns())  # noqa: S311 - nothing is kept secret with it
    keys = cycle([key(chance.randrange(entries)) for _ in range(200_000)])
    return {
        "get": lambda: [_getting(store, keys) for store in stores],
        "put": lambda: [_putting(store, new) for store in stores],
        "open": lambda: [_opening(make) for make in makers],
    }


def _getting(store: Any, keys: Iterator[str]) -> Callable[[], Any]:
    return lambda: store.get(next(keys))


def _putting(store: Any, new: Iterator[int]) -> Callable[[], Any]:
    return lambda: store.set(key(number := next(new)), text(number))  # some microseconds are for making them


def _opening(make: Callable[[], Any]) -> Callable[[], Any]:
    def open_() -> None:
        with closing(make()) as store:
            store.get(key(0))

    return open_


def _makers(kind: str, place: str, **_: Any) -> list[Callable[[], Any]]:
    if kind == "diskcache":
        from diskcache import Cache  # noqa: PLC0415 - only where it is installed

        return [lambda: Cache(place, size_limit=LIMIT)]
    from instructor.cache import DiskCache, RedisCache  # noqa: PLC0415 - not where there is only the other

    if kind == "disk":
        return [lambda: DiskCache(place, size_limit=LIMIT)]
    from redis import Redis  # noqa: PLC0415 - only where it is installed

    return [lambda: RedisCache(place, prefix=""), lambda: Redis.from_url(place)]


def fill(kind: str, place: str, entries: int) -> None:
    """Store the entries in an order that means nothing, by the store's own means."""
    with closing(_makers(kind, place)[-1]()) as store:
        numbers = iter(range(entries if store.get(key(entries - 1)) is None else 0))
        while batch := list(islice(numbers, BATCH)):
            with _together(kind, store) as put:
                for number in batch:
                    put(key(number), text(number))


@contextmanager
def _together(kind: str, store: Any) -> Iterator[Callable[[str, str], Any]]:
    """What stores an entry; where a store offers that, many of them in one go."""
    if kind == "diskcache":
        with store.transact():
            yield store.set
    elif kind == "redis":
        with store.pipeline(transaction=False) as pipe:
            yield pipe.set
            pipe.execute()
    else:
        entries: list[tuple[str, str]] = []
        yield lambda key, text: entries.append((key, text))
        store._run(store._write, (_put_all, store, entries))  # noqa: SLF001 - it offers no such thing, and needs none


def _put_all(cursor: Any, now: float, store: Any, entries: list[tuple[str, str]]) -> None:
    """What a DiskCache does when it writes, over and over in one transaction: as single ones it takes minutes."""
    from instructor.cache.disk_table import address  # noqa: PLC0415 - not where there is only the other

    for key, text in entries:
        store._put(cursor, now, *address(key), text.encode(), None, ())  # noqa: SLF001 - as above


def key(number: int) -> str:
    """A key like those of clients."""
    return hashlib.sha256(b"%d" % number).hexdigest()


def text(number: int) -> str:
    """An entry like those of clients with a small answer: some 600 bytes."""
    said = f'{{\\"name\\":\\"{key(-number)[:24]}\\",\\"age\\":{number % 90}}}'
    call = f'{{"id":"call_{number}","type":"function","function":{{"name":"Person","arguments":"{said}"}}}}'
    message = f'{{"content":null,"role":"assistant","tool_calls":[{call}]}}'
    choice = f'{{"finish_reason":"tool_calls","index":0,"logprobs":null,"message":{message}}}'
    data = f'{{"id":"chatcmpl-{number}","choices":[{choice}],"created":1700000000,"model":"gpt-4o-mini",{USAGE}}}'
    kept = f'"completion":{{"how":"first","data":{data}}},"model":"gpt-4o-mini","made_at":1795296386.97'
    return f'instructor/1 {key(-number)} {{"tape":["{said}"],{kept}}}'


if __name__ == "__main__":
    fill(**json.loads(sys.argv[1]))
