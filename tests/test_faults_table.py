"""The table of faults says what was run, and the one in the documents is of these tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from faults_table import ROWS, table

CHECKOUT = Path(__file__).parents[1]
PAGE = CHECKOUT / "docs" / "reliability.md"
FAULTS = CHECKOUT.parent / "shared" / "faults.md"

SOME_TESTS = """
import pytest

@pytest.mark.fault("A1")
def test_often(tried):
    assert tried(25, full=100) in {25, 100}

@pytest.mark.fault("A2")
@pytest.mark.fault("A3")
@pytest.mark.parametrize("number", range(3))
def test_parameters(number):
    pass

@pytest.mark.fault("A4")
@pytest.mark.parametrize("number", range(2))
def test_skipped(number):
    if number:
        pytest.skip("needs root")

@pytest.mark.fault("A5")
@pytest.mark.skip(reason="needs strace")
def test_never():
    pass

@pytest.mark.fault("A6")
def test_fails():
    raise ValueError

@pytest.mark.fault("A7")
def test_has_no_fixture(nonsense):
    pass

@pytest.mark.fault("A8")
@pytest.mark.parametrize("number", range(2))
def test_many(number, tried):
    tried(550)

def test_of_something_else():
    raise ValueError
"""
EXPECTED = {
    "A1": "1 | 25 of 100 | passed",
    "A2": "3 | 3 | passed",
    "A3": "3 | 3 | passed",
    "A4": "2 | 1 | passed; 1 skipped: needs root",
    "A5": "1 | 0 | 1 skipped: needs strace",
    "A6": "1 | 0 | **1 failed**",
    "A7": "1 | 0 | **1 failed**",
    "A8": "2 | 1,100 | passed",
}


def rows_of(page: str) -> dict[str, str]:
    """What a page says of each row, without the row's title."""
    return {row: rest for row, _, rest in re.findall(r"^\| ([A-Z]\d+) \| ([^|]+) \| (.+) \|$", page, re.MULTILINE)}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A run of some tests in a process of pytest's own; the page that it wrote."""
    (tmp_path / "test_some.py").write_text(SOME_TESTS)
    monkeypatch.chdir(tmp_path)
    ini = [
        "-o",
        "markers=fault(id): a row",
        "-p",
        "pages",
        "-p",
        "no:cacheprovider",
        "--import-mode=importlib",
        "--rootdir=.",
    ]

    def go(*options: str) -> str:
        pytest.main([*ini, "--faults-table", "page.md", *options, "test_some.py"])
        return (tmp_path / "page.md").read_text()

    return go


def test_the_table_says_what_came_of_the_tests(run, capfd):
    """How many tests, how often, with what result; what was skipped says why, and what has no test is missing."""
    said = rows_of(run())

    assert said == {row: EXPECTED.get(row, "0 | 0 | missing") for row in ROWS}


def test_the_full_amounts_are_tried_on_request(run, capfd):
    """With `--faults full` nothing is tried less often than it should be."""
    assert rows_of(run("--faults", "full"))["A1"] == "1 | 100 | passed"


def test_a_run_again_makes_the_same_page(run, capfd):
    """No times, no dates, no names of machines."""
    assert run() == run()


def test_a_row_that_is_not_there_is_refused(tmp_path, monkeypatch, capfd):
    """A mark with a slip of the pen would be of no row."""
    (tmp_path / "test_slip.py").write_text('import pytest\n@pytest.mark.fault("Z9")\ndef test():\n    pass\n')
    monkeypatch.chdir(tmp_path)

    code = pytest.main(["-o", "markers=fault(id): a row", "-p", "pages", "-p", "no:cacheprovider", "."])

    assert code == pytest.ExitCode.USAGE_ERROR
    assert "'Z9', which is no row" in capfd.readouterr().err


def marked() -> set[str]:
    """The rows that any test is marked with."""
    sources = [path.read_text() for path in Path(__file__).parent.glob("test_*.py") if path != Path(__file__)]
    return set(re.findall(r'^ *(?:@|pytestmark = )pytest\.mark\.fault\("(\w+)"\)', "\n".join(sources), re.MULTILINE))


with_documents = pytest.mark.skipif(not PAGE.parent.is_dir(), reason="the documents are not beside these tests")


@with_documents
def test_the_page_in_the_documents_is_of_these_tests():
    """It names every row, in order; rows are missing there exactly where no test is marked with them; none failed."""
    page = PAGE.read_text()
    said = rows_of(page)

    assert list(said) == list(rows_of(table({}, "")))
    assert {row for row in said if said[row] != "0 | 0 | missing"} == marked()
    assert "failed" not in "".join(said.values())


@with_documents
def test_the_page_says_the_faults_as_they_are_called_now():
    """A title that was changed is changed there too."""
    assert [title for title in ROWS.values() if f"| {title} |" not in PAGE.read_text()] == []


@pytest.mark.skipif(not FAULTS.exists(), reason="the list of what to try is not beside this checkout")
def test_every_row_of_the_list_is_here():
    """In its order, and no others."""
    assert list(ROWS) == re.findall(r"^\| ([A-Z]\d+) \|", FAULTS.read_text(), re.MULTILINE)
