"""One library under measurement, in a process of its own: asks when it is told to, and says how long each ask took.

    python worker.py MODULE URL

`MODULE.cases(URL)` gives the cases of one library. A case is made by calling it, and is a list of functions, which are
timed in turn. A line of JSON on standard input names what to do, a line on standard output answers:

    {"case": "memory", "milliseconds": 30, "flush": false}    ->    [[11.2, 10.9, ...]]    (microseconds)
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

Asks = list[Callable[[], Any]]
FEWEST = 20
"""Asks in a round, however long they take."""
PACKAGES = ("instructor", "langchain_core", "litellm", "dspy", "openai", "pydantic", "diskcache", "redis")
_waste = bytearray(b"x") * 2**26


def serve(cases: dict[str, Callable[[], Asks]]) -> None:
    """Answer orders until there are no more."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not look like an answer
    loop = asyncio.new_event_loop()
    made: dict[str, Asks] = {}
    print(json.dumps([sorted(cases), versions()]), file=answers)
    for line in sys.stdin:
        order = json.loads(line)
        name = order["case"]
        if name not in made:
            made[name] = cases[name]()
        round_ = timed_async if inspect.iscoroutinefunction(made[name][0]) else timed
        times = round_(made[name], order["milliseconds"], flush_first(order["flush"]))
        print(json.dumps(loop.run_until_complete(times) if inspect.iscoroutine(times) else times), file=answers)


def timed(asks: Asks, milliseconds: float, before: Callable[[], object]) -> list[list[float]]:
    """Microseconds of each call of each ask, one after the other until the time is up."""
    times: list[list[float]] = [[] for _ in asks]
    for ask, mine in turns(asks, times, milliseconds):
        before()
        start = time.perf_counter_ns()
        ask()
        mine.append((time.perf_counter_ns() - start) / 1000)
    return times


async def timed_async(asks: Asks, milliseconds: float, before: Callable[[], object]) -> list[list[float]]:
    """As `timed`, in an event loop."""
    times: list[list[float]] = [[] for _ in asks]
    for ask, mine in turns(asks, times, milliseconds):
        before()
        start = time.perf_counter_ns()
        await ask()
        mine.append((time.perf_counter_ns() - start) / 1000)
    return times


def turns(asks: Asks, times: list[list[float]], milliseconds: float) -> Iterator[tuple[Callable[[], Any], list[float]]]:
    """Each ask with the list of its times, over and over until the time is up."""
    end = time.perf_counter() + milliseconds / 1000
    while time.perf_counter() < end or len(times[0]) < FEWEST:
        yield from zip(asks, times, strict=True)


def versions() -> dict[str, str]:
    """The versions of those packages that matter for the comparison and are loaded here."""
    loaded = {name: sys.modules[name] for name in PACKAGES if name in sys.modules}
    return {name: getattr(module, "__version__", None) or version(name) for name, module in loaded.items()}


def flush_first(wanted: bool) -> Callable[[], object]:
    """What to do before each ask: nothing, or throw everything out of the CPU's caches by reading 64 MiB."""
    return (lambda: _waste[::64]) if wanted else (lambda: None)


if __name__ == "__main__":
    serve(importlib.import_module(sys.argv[1]).cases(sys.argv[2]))
