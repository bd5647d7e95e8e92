"""The pytest plugin: the fixture `recorded_answers`, and `--instructor-record`, which has everything asked anew.

Every run of pytest loads this module where the package is installed: what it needs is loaded when it is needed.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .cache.recorded import RecordedCache


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--instructor-record`."""
    says = "ask the providers, and record what they answer for tests with the fixture recorded_answers"
    parser.getgroup("instructor").addoption("--instructor-record", action="store_true", help=says)


@pytest.fixture(scope="session")
def instructor_answers() -> dict[str, str]:
    """What was recorded in this session: a question that several tests have is asked once."""
    return {}


@pytest.fixture
def recorded_answers(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, instructor_answers: dict[str, str]
) -> Iterator[RecordedCache]:
    """A cache for `cache=`: it gives what was recorded for this test, and asks nobody; no key is needed.

    What is missing is a `CacheMiss`; `pytest --instructor-record` asks for it, and records it beside the test.
    """
    from .cache.recorded import RecordedCache  # noqa: PLC0415  late, as the docstring of this module says

    record, failed = request.config.getoption("--instructor-record"), request.session.testsfailed
    path = request.path.parent / "recorded_answers" / request.path.stem / _file_name(request.node.getmodpath())
    cache = RecordedCache(path, record=record, test=request.node.nodeid, known=instructor_answers)
    if not record:
        _set_keys(monkeypatch)
    yield cache
    cache.save(whole=request.session.testsfailed == failed)


def _file_name(test: str) -> str:
    """The file of a test: one each, so that neither workers nor branches meet in it."""
    spelled = re.sub(r"[^\w.\[\]-]", "_", test, flags=re.ASCII)[:100]
    return f"{spelled}.json" if spelled == test else f"{spelled}-{zlib.crc32(test.encode()):08x}.json"


def _set_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients be made for which there is no key."""
    from .providers import ROWS  # noqa: PLC0415  late, as above

    for names in (row.key_env for row in ROWS.values()):
        if names and not any(map(os.environ.get, names)):
            monkeypatch.setenv(names[0], "recorded")
