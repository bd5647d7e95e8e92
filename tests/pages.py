"""The pages that a run of the tests writes: what tests say that they are of, and what came of them.

A test is of a fault where it is marked with its row, and of a recorded exchange where it takes one as `exchange`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import faults_table
import providers_table
import pytest


class Page(NamedTuple):
    """A page: what it tells of, the option that asks for it, the command that makes it, what writes it."""

    of: str
    option: str
    command: str
    table: Callable[[Mapping[str, Any], str], str]


PAGES = (
    Page("fault", "--faults-table", "scripts/test -m fault --faults={faults}", faults_table.table),
    Page("exchange", "--providers-table", f"scripts/test {providers_table.TESTS}", providers_table.table),
)


@dataclass
class Found:
    """What is known of one row after a run."""

    tests: int = 0
    tried: int = 0
    wanted: int = 0
    failed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, report: Any) -> None:
        """Count one test."""
        self.tests += 1
        if report.failed:
            self.failed += 1
        elif report.skipped:
            self.skipped[str(report.longrepr[2]).removeprefix("Skipped: ")] += 1
        else:
            said = dict(report.user_properties)
            self.tried += said.get("tried", 1)
            self.wanted += said.get("wanted", said.get("tried", 1))

    def __str__(self) -> str:
        times = f"{self.tried:,}" if self.tried >= self.wanted else f"{self.tried:,} of {self.wanted:,}"
        return f"{self.tests:,} | {times} | {'; '.join(self._results())}"

    def _results(self) -> Iterator[str]:
        if self.failed:
            yield f"**{self.failed} failed**"
        elif self.tests > self.skipped.total():
            yield "passed"
        for reason, number in sorted(self.skipped.items()):
            yield f"{number} skipped: {reason}"


class Gathering:
    """Gathers what comes of the tests that are of something, and writes its page when all is over."""

    def __init__(self, page: Page, path: Path, command: str) -> None:
        self._page, self._path, self._command = page, path, command
        self._found: dict[str, Found] = defaultdict(Found)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Count a test once: when it was called, or where it did not come to that."""
        if report.when == "call" or not report.passed:
            for row in {value for name, value in report.user_properties if name == self._page.of}:
                self._found[row].add(report)

    def pytest_sessionfinish(self) -> None:
        """Write the page."""
        self._path.write_text(self._page.table(self._found, self._command), encoding="utf-8")


def pytest_addoption(parser: pytest.Parser) -> None:
    """One option for each page, and how often to try a fault."""
    group = parser.getgroup("pages")
    for page in PAGES:
        group.addoption(page.option, type=Path, metavar="FILE", help=f"write what came of each {page.of} there")
    group.addoption("--faults", choices=["some", "full"], default="some", help="how often to try each fault")


def pytest_configure(config: pytest.Config) -> None:
    """Gather where a page is wanted; what runs tests for another process gathers nothing."""
    for page in PAGES:
        path = config.getoption(page.option)
        if path is not None and not hasattr(config, "workerinput"):
            command = page.command.format(faults=config.getoption("--faults"))
            gathering = Gathering(page, path, f"{command} {page.option}={path}")
            config.pluginmanager.register(gathering, f"gathering-{page.of}")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Have a test's reports say what it is of, and refuse faults that are not there."""
    for mark in item.iter_markers("fault"):
        (row,) = mark.args
        if row not in faults_table.ROWS:
            raise pytest.UsageError(f"{item.nodeid} is marked with {row!r}, which is no row of tests/faults_table.py")
        item.user_properties.append(("fault", row))
    exchange = item.callspec.params.get("exchange") if hasattr(item, "callspec") else None
    if isinstance(exchange, dict) and "file" in exchange:  # others are made by hand
        item.user_properties.append(("exchange", providers_table.name_of(exchange)))


@pytest.fixture
def tried(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Callable[..., int]:
    """Say how often a test tries its fault: `tried(25, full=100)` gives the number of this run."""

    def say(number: int, full: int | None = None) -> int:
        wanted = full or number
        now = wanted if request.config.getoption("--faults") == "full" else number
        record_property("tried", now)
        record_property("wanted", wanted)
        return now

    return say
