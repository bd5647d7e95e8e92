"""What reading a stream costs, side by side with Instructor 1.17.0, in one run.

    python bench/streams.py                   all cases; some four minutes
    python bench/streams.py --check           ... and fail when a goal is missed
    python bench/streams.py --peer PYTHON     an interpreter that has Instructor 1.17.0 already

Documents of four sizes come in pieces of ten characters, and are read by the public `model_from_chunks` and
`tasks_from_chunks`, without any provider. Both libraries run these very lines, each in a process of its own that does
one case; the last instance is compared with the document. Shown are microseconds per kilobyte, the best of some runs.
Reading that takes longer than the time there is for a run is stopped; what it took by then is the least it costs.

The cost grows linearly when a kilobyte of the largest document costs at most 1.3 times one of the smallest. Results go
to `bench/results/streams.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

BENCH = Path(__file__).parent
RESULTS = BENCH / "results"
SIZES = (25_000, 50_000, 100_000, 200_000)
PIECE = 10
GROWTH = 1.3
ITEM = {"name": "Ann Somebody", "age": 12345, "note": 'She said "no".\n'}


class Case(NamedTuple):
    """Something to read: the largest should be read `goal` times as fast as by 1.17.0."""

    name: str
    title: str
    goal: float | None = None


CASES = (
    Case("partial_list", "partial, a list of small objects", 10),
    Case("partial_text", "partial, one long string", 10),
    Case("iterable_list", "iterable, many small items"),
    Case("iterable_text", "iterable, one long item", 10),
)


def main() -> None:
    """Measure, tell, and judge if asked to."""
    args = _arguments()
    if args.work:
        print(json.dumps(work(args.work, args.seconds)))
        return
    results = measure(args)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "streams.json").write_text(json.dumps(results, indent=2) + "\n")
    show(results)
    missed = [case["title"] for case in results["cases"] if not case["reached"]]
    if args.check and missed:
        raise SystemExit(f"goals missed: {'; '.join(missed)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail when a goal is missed")
    parser.add_argument("--peer", default=os.environ.get("BENCH_PEER"), help="Python that has Instructor 1.17.0")
    parser.add_argument("--seconds", type=float, default=15, help="the time there is for a run")
    parser.add_argument("--work", choices=[case.name for case in CASES], help=argparse.SUPPRESS)
    return parser.parse_args()


# Measuring.


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that is told, as it goes into the JSON file."""
    peer = args.peer or _environment()
    cases = []
    for case in CASES:
        ours = _worked(sys.executable, case, args.seconds, {"PYTHONPATH": str(BENCH.parent)})
        theirs = _worked(peer, case, args.seconds, {})
        cases.append(_compared(case, ours, theirs))
    return {"python": sys.version.split()[0], "sizes": SIZES, "piece": PIECE, "cases": cases}


def _environment() -> str:
    from hits import environment  # noqa: PLC0415 - it needs what only its own charts need

    return str(environment("instructor"))


def _worked(python: str, case: Case, seconds: float, path: dict[str, str]) -> list[dict[str, Any]]:
    command = [python, str(BENCH / "streams.py"), "--work", case.name, "--seconds", str(seconds)]
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**inherited, **path}, cwd=BENCH)
    answer: list[dict[str, Any]] = json.loads(done.stdout)
    return answer


def _compared(case: Case, ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[str, Any]:
    growth = ours[-1]["per_kb"] / ours[0]["per_kb"]
    faster = theirs[-1]["seconds"] / ours[-1]["seconds"]
    return {
        **case._asdict(),
        "ours": ours,
        "theirs": theirs,
        "growth": round(growth, 2),
        "faster": round(faster, 1),
        "reached": growth <= GROWTH and (case.goal is None or faster >= case.goal),
    }


# Working: from here on for either library.


def work(name: str, seconds: float) -> list[dict[str, Any]]:
    """What a case costs, by size."""
    read, document = _cases()[name]
    list(read(_pieces(document(1000))))  # whatever is made on first use
    return [_best(read, document(size), seconds) for size in SIZES]


def _cases() -> dict[str, tuple[Callable[..., Any], Callable[[int], str]]]:
    """How each case is read, and its document of a size."""
    from pydantic import BaseModel  # noqa: PLC0415 - a worker's own

    from instructor.dsl.iterable import IterableModel  # noqa: PLC0415 - a worker's own
    from instructor.dsl.partial import Partial  # noqa: PLC0415 - a worker's own

    class Item(BaseModel):
        name: str
        age: int
        note: str

    class Items(BaseModel):
        items: list[Item]

    class Text(BaseModel):
        text: str

    tasks, texts = IterableModel(Item), IterableModel(Text)
    return {
        "partial_list": (Partial[Items].model_from_chunks, lambda size: json.dumps({"items": _items(size)})),
        "partial_text": (Partial[Text].model_from_chunks, lambda size: json.dumps(_text(size))),
        "iterable_list": (tasks.tasks_from_chunks, lambda size: json.dumps({"tasks": _items(size)})),
        "iterable_text": (texts.tasks_from_chunks, lambda size: json.dumps({"tasks": [_text(size)]})),
    }


def _items(size: int) -> list[dict[str, Any]]:
    return [ITEM] * (size // len(json.dumps([ITEM])))


def _text(size: int) -> dict[str, str]:
    return {"text": "Some words, a line.\n" * (size // 21)}


def _pieces(document: str) -> Iterator[str]:
    return (document[start : start + PIECE] for start in range(0, len(document), PIECE))


def _best(read: Callable[..., Any], document: str, seconds: float) -> dict[str, Any]:
    """The best of the runs that there is time for."""
    runs, end = [_run(read, document, seconds)], time.perf_counter() + seconds / 5
    while runs[0]["whole"] and time.perf_counter() < end:
        runs.append(_run(read, document, seconds))
    best = min(runs, key=lambda run: float(run["seconds"]))
    return {**best, "per_kb": round(best["seconds"] * 1e6 / (len(document) / 1000), 1)}


def _run(read: Callable[..., Any], document: str, seconds: float) -> dict[str, Any]:
    """The time that reading takes; of reading that is stopped, the time until then."""
    start, shown, last = time.perf_counter(), 0, None

    def pieces() -> Iterator[str]:
        for piece in _pieces(document):
            if time.perf_counter() - start > seconds:
                raise _StoppedError
            yield piece

    try:
        for instance in read(pieces()):
            last, shown = instance, shown + 1
    except _StoppedError:
        return {"seconds": time.perf_counter() - start, "shown": shown, "whole": False}
    took = time.perf_counter() - start
    said = json.loads(document)
    assert last is not None
    assert last.model_dump() in (said, *said.get("tasks", [])[-1:])
    return {"seconds": took, "shown": shown, "whole": True}


class _StoppedError(Exception):
    """The time for a run is over."""


# Telling.


def show(results: dict[str, Any]) -> None:
    """Print the table."""
    heads = tuple(f"{size // 1000} KB" for size in SIZES)
    rows = [("µs per KB", *heads, "growth", "times faster", "goal", "")]
    for case in results["cases"]:
        goal = f"{case['goal']} times" if case["goal"] else ""
        reached = "reached" if case["reached"] else "MISSED"
        ours, theirs = (tuple(map(_figure, case[side])) for side in ("ours", "theirs"))
        rows.append((case["title"], *ours, f"{case['growth']}", f"{_more(case)}{case['faster']}", goal, reached))
        rows.append(("    1.17.0", *theirs, "", "", "", ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        print(first.ljust(widths[0]), *cells, sep="  ")


def _figure(run: dict[str, Any]) -> str:
    return f"{'' if run['whole'] else '> '}{run['per_kb']:,.0f}"


def _more(case: dict[str, Any]) -> str:
    return "" if case["theirs"][-1]["whole"] else "> "


if __name__ == "__main__":
    main()
