"""What a cache hit costs, side by side with Instructor 1.17.0, in one run.

    python bench/hits.py                      all cases; some two minutes
    python bench/hits.py --check              ... and fail when a goal is missed
    python bench/hits.py --with langchain     ... and another library's hits (also litellm, dspy; repeatable)
    python bench/hits.py --peer PYTHON        an interpreter that has Instructor 1.17.0 and diskcache already

Run it with an interpreter that has this project's dependencies. The others get virtual environments of their own under
`bench/.venvs`, made on first use. Every library runs in a process of its own and asks a provider on loopback, which is
yet another process; all take turns in short rounds, so that what else the machine does hits all of them alike.

Shown, in microseconds, are the least and the median call of a round, of all rounds the one in the middle. The least
says what the code costs, and is what the goals look at; the median says what this machine makes of it. "Flushed" is
with the CPU's caches emptied between calls. Results go to `bench/results`: `hits.json` and `hits.svg`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import picture

BENCH = Path(__file__).parent
RESULTS = BENCH / "results"
OURS = {"PYTHONPATH": str(BENCH.parent)}
ROUND = 30
"""Milliseconds of one case in one round."""
FLUSHED = 4
"""Every so many rounds are also done with empty CPU caches: emptying them takes long."""


class Case(NamedTuple):
    """Something to time: it should be `goal` times as fast as in 1.17.0, and take `limit` microseconds at most."""

    name: str
    title: str
    goal: float | None = None
    limit: float | None = None


CASES = (
    Case("memory", "memory hit", 100),
    Case("memory_async", "memory hit, async", 100),
    Case("disk", "disk hit", 80),
    Case("large", "memory hit, 100 KB prompt", 20),
    Case("completion", "memory hit with completion", 60),
    Case("miss", "what a miss adds to the SDK's call", 4),
)
IMPORTS = {
    Case("import", "import instructor", limit=40_000): "import instructor",
    Case("import_client", "from instructor import from_openai"): "from instructor import from_openai",
}
"""What is measured in a new interpreter, as the time over that of bare Python."""
NEEDS = {
    "instructor": ("instructor==1.17.0", "diskcache"),
    "langchain": ("langchain-openai", "langchain-community"),
    "litellm": ("litellm", "fastapi", "orjson", "soundfile"),  # its cache does not load without these
    "dspy": ("dspy",),
}


def main() -> None:
    """Measure, tell, and judge if asked to."""
    args = _arguments()
    results = measure(args)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "hits.json").write_text(json.dumps(results, indent=2) + "\n")
    (RESULTS / "hits.svg").write_text(picture.draw([case for case in results["cases"].values() if case["goal"]]))
    show(results)
    missed = [case["title"] for case in results["cases"].values() if not case["reached"]]
    if args.check and missed:
        raise SystemExit(f"goals missed: {'; '.join(missed)}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail when a goal is missed")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--peer", default=os.environ.get("BENCH_PEER"), help="Python that has Instructor 1.17.0")
    parser.add_argument(
        "--with", dest="others", action="append", default=[], choices=sorted(NEEDS.keys() - {"instructor"})
    )
    return parser.parse_args()


# Measuring.


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Everything that is told, as it goes into the JSON file."""
    peer = args.peer or environment("instructor")
    with ExitStack() as stack:
        url = stack.enter_context(provider())
        workers = {
            "ours": stack.enter_context(worker(sys.executable, "instructor", url, OURS)),
            "theirs": stack.enter_context(worker(peer, "instructor", url, {})),
            **{name: stack.enter_context(worker(environment(name), name, url, {})) for name in args.others},
        }
        hot, flushed = rounds(args.rounds, workers)
        versions = {side: it.versions for side, it in workers.items()}
    for case, code in IMPORTS.items():
        hot["ours", case.name] = [imports(sys.executable, code, OURS, args.rounds // 4 + 2)]
        hot["theirs", case.name] = [imports(peer, code, {}, args.rounds // 4 + 2)]
    return {
        "python": sys.version.split()[0],
        "versions": versions,
        "cases": {case.name: _compared(case, hot, flushed["ours", case.name]) for case in (*CASES, *IMPORTS)},
        "others": {name: {case: _figures(hot[name, case]) for case in workers[name].cases} for name in args.others},
    }


Round = list[tuple[float, float]]
"""The least and the median microseconds of a case; a second such pair is of the part that is not to be counted."""
Samples = dict[tuple[str, str], list[Round]]
"""What each round gave, by side and case."""


class Worker:
    """A process that times one library."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.cases, self.versions = self.answer()

    def order(self, case: str, *, flush: bool = False) -> Round:
        """Have a case done for one round: the best and the median call of each ask."""
        return [(min(times), median(times)) for times in self.times(case, flush=flush)]

    def times(self, case: str, *, flush: bool = False) -> Any:
        """The same, every call of each ask."""
        assert self.process.stdin is not None
        order = {"case": case, "milliseconds": ROUND, "flush": flush}
        print(json.dumps(order), file=self.process.stdin, flush=True)
        return self.answer()

    def answer(self) -> Any:
        """The line it says next."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args!r} ended early; what it said is above.")
        return json.loads(line)


@contextmanager
def worker(python: str, library: str, url: str, path: dict[str, str]) -> Iterator[Worker]:
    """A worker for one library, ended at the end."""
    with _process([python, str(BENCH / "worker.py"), f"with_{library}", url], path) as process:
        yield Worker(process)


@contextmanager
def provider() -> Iterator[str]:
    """The address of a provider on loopback: the one that the tests use, in a process of its own."""
    code = (
        "import sys\n"
        "from fake_provider import fake_provider\n"
        "with fake_provider() as it:\n"
        "    it.keep_alive = True\n"
        "    print(it.url, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    with _process([sys.executable, "-c", code], {"PYTHONPATH": str(BENCH.parent / "tests")}) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()


@contextmanager
def _process(command: list[str], path: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    pipe, surroundings = subprocess.PIPE, _surroundings(path)
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=surroundings, cwd=BENCH) as process:
        yield process  # it ends because leaving closes its input


def _surroundings(path: dict[str, str]) -> dict[str, str]:
    """The environment of a process that finds the packages on `path`, and that looks for nothing beyond loopback."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**inherited, **path, "NO_PROXY": "127.0.0.1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


def rounds(number: int, workers: dict[str, Worker]) -> tuple[Samples, Samples]:
    """Every worker does every case in every round, and changes places with the others after each."""
    hot: Samples = defaultdict(list)
    flushed: Samples = defaultdict(list)
    for round_ in range(number + 1):
        for case in CASES:
            sides = [side for side, it in workers.items() if case.name in it.cases]
            for side in sides if round_ % 2 else reversed(sides):
                hot[side, case.name].append(workers[side].order(case.name))
            if case.name != "miss" and round_ % FLUSHED == 1:
                flushed["ours", case.name].append(workers["ours"].order(case.name, flush=True))
        print(f"\rround {round_}/{number}", end="" if round_ < number else "\r", file=sys.stderr, flush=True)
    warm = {name: times[1:] for name, times in hot.items()}  # in the first round everything was made
    return defaultdict(list, warm), flushed


def imports(python: str, code: str, path: dict[str, str], number: int) -> Round:
    """Microseconds that `code` takes in a new interpreter, and that nothing takes."""
    took = [(_run_time(python, code, path), _run_time(python, "pass", path)) for _ in range(number)]
    return [(min(times), median(times)) for times in zip(*took, strict=True)]


def _run_time(python: str, code: str, path: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run([python, "-c", code], check=True, env=_surroundings(path), cwd=BENCH)
    return (time.perf_counter() - start) * 1e6


def environment(library: str) -> str:
    """The Python of a virtual environment with that library in it; made if it is not there."""
    place = BENCH / ".venvs" / library
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done, needs = place / "done", " ".join(NEEDS[library])
    if not done.exists() or done.read_text() != needs:
        print(f"installing {needs} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        subprocess.run([python, "-m", "pip", "install", "-qq", *NEEDS[library]], check=True)
        done.write_text(needs)
    return str(python)


# Telling.


def _figures(samples: list[Round]) -> dict[str, float]:
    """What the round in the middle gave; of a part that is not to be counted, taken off."""
    first, *rest = ([median(kind) for kind in zip(*times, strict=True)] for times in zip(*samples, strict=True))
    counted = (figure - sum(parts) for figure, *parts in zip(first, *rest, strict=True))
    return dict(zip(("least", "median"), (round(figure, 2) for figure in counted), strict=True))


def _compared(case: Case, hot: Samples, flushed: list[Round]) -> dict[str, Any]:
    ours, theirs = _figures(hot["ours", case.name]), _figures(hot["theirs", case.name])
    faster = {name: round(theirs[name] / max(ours[name], 0.01), 1) for name in ours}
    fast = case.goal is None or faster["least"] >= case.goal
    return {
        **case._asdict(),
        "ours": ours,
        "flushed": _figures(flushed) if flushed else None,
        "theirs": theirs,
        "faster": faster,
        "reached": fast and (case.limit is None or ours["least"] <= case.limit),
    }


HEADS = ("µs, least / median", "this project", "flushed", "1.17.0", "times faster", "goal", "")


def show(results: dict[str, Any]) -> None:
    """Print the table."""
    rows = [HEADS, *map(_row, results["cases"].values())]
    for name, cases in results["others"].items():
        rows += [_other_row(name, figures, results["cases"][case]) for case, figures in cases.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        print(first.ljust(widths[0]), *cells, sep="  ")
    for side, versions in results["versions"].items():
        print(f"{side}:", ", ".join(f"{package} {version}" for package, version in versions.items()))


def _row(case: dict[str, Any]) -> tuple[str, ...]:
    measured = (_pair(case["ours"]), _pair(case["flushed"]), _pair(case["theirs"]), _pair(case["faster"]))
    goal = f"{case['goal']} times" if case["goal"] else f"{case['limit']:,} µs" if case["limit"] else ""
    return case["title"], *measured, goal, ("reached" if case["reached"] else "MISSED") if goal else ""


def _other_row(name: str, figures: dict[str, float], case: dict[str, Any]) -> tuple[str, ...]:
    """Another library's `figures` beside ours."""
    faster = {kind: figures[kind] / case["ours"][kind] for kind in figures}
    return f"{case['title']}: {name}", _pair(case["ours"]), "", _pair(figures), _pair(faster), "", ""


def _pair(figures: dict[str, float] | None) -> str:
    return "" if figures is None else f"{figures['least']:,.1f} / {figures['median']:,.1f}"


if __name__ == "__main__":
    main()
