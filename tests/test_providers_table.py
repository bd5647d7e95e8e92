"""The page of providers says what was replayed, and the one in the documents is of these providers and these tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import Found
from providers_table import SPECIAL, UNASKED, table
from replay import RECORDED, exchanges_in, files

from instructor.providers import ROWS

PAGE = Path(__file__).parents[1] / "docs" / "providers.md"
COMMAND = re.compile(r"themselves: `(.+)`")
CELL = re.compile(r" (\d+)/(\d+)/(\d+)((?: \[\d+\])*)")
with_recordings = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="the recorded traffic is not beside this checkout (../shared/recorded)"
)
with_documents = pytest.mark.skipif(not PAGE.parent.is_dir(), reason="the documents are not beside these tests")

SOME_TESTS = """
import pytest
from replay import recorded

ONE, TWO, THREE, *_ = [each for each in recorded("groq") if each["kind"] == "error"]

@pytest.mark.parametrize("exchange", [ONE, {**TWO, "file": "openai/groq"}, {"id": "synthetic", "file": "groq"}])
def test_passes(exchange):
    pass

@pytest.mark.parametrize("exchange", [ONE])
def test_fails(exchange):
    raise ValueError

@pytest.mark.skip(reason="needs a key")
@pytest.mark.parametrize("exchange", [THREE])
def test_never(exchange):
    pass
"""


@with_recordings
def test_the_page_says_what_came_of_the_exchanges(tmp_path, monkeypatch, capfd):
    """Of five errors two were replayed, one of them in vain; what took no exchange of the recording is not told."""
    (tmp_path / "test_exchanges.py").write_text(SOME_TESTS)
    monkeypatch.chdir(tmp_path)
    options = ["-p", "pages", "-p", "no:cacheprovider", "--import-mode=importlib", "--rootdir=."]

    pytest.main([*options, "--providers-table", "page.md", "test_exchanges.py"])

    page = (tmp_path / "page.md").read_text()
    (whole, _) = re.findall(r"^\| groq \| .*$", page, re.MULTILINE)
    assert whole.endswith("| 5/2/1 |")
    assert "/0/0" in whole
    assert COMMAND.findall(page)[0].endswith("--providers-table=page.md")


def settled(page: str) -> str:
    """A page without what only a run can tell: how many were replayed, and how many passed."""
    return CELL.sub(r" \1\4", page)


@with_documents
def test_the_page_in_the_documents_is_of_today():
    """The providers, their facts, the reasons and the numbers of what was recorded are those of now."""
    page = PAGE.read_text()
    made = table(
        {}, COMMAND.findall(page)[0].partition(" --providers-table")[0] + " --providers-table=docs/providers.md"
    )

    if not RECORDED.is_dir():
        page, made = (each.partition("### Whole answers")[0] for each in (page, made))
    assert settled(page) == settled(made)


@with_documents
def test_every_cell_is_full_or_explained():
    """What was recorded was replayed, and passed every test, unless a note says why not."""
    cells = CELL.findall(PAGE.read_text())

    assert len(cells) > 200
    assert [cell for cell in cells if len(set(cell[:3])) > 1 and not cell[3]] == []
    assert [cell for cell in cells if cell[1] != cell[2]] == []


@with_recordings
def test_every_reason_is_of_something():
    """A note whose exchanges are gone goes too; so does a line on a provider that is no more."""
    assert set(UNASKED) <= {(file, each["api"]) for file in files() for each in exchanges_in(file)}
    assert set(SPECIAL) <= set(ROWS)


@with_recordings
def test_a_test_that_failed_is_in_its_cell():
    """One failure among the tests of an exchange is enough."""
    (exchange, *_) = exchanges_in("zai")
    page = table({f"zai/{exchange['id']}": Found(tests=3, failed=1)}, "")

    assert len(re.findall(r"/1/0", page)) == 2  # in its row, and in the sum
