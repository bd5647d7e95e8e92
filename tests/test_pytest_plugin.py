"""The pytest plugin: answers are recorded once, into a file that people read, and replayed without a provider."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fake_provider import FakeProvider, Say, fake_provider

import instructor
from instructor.pytest_plugin import _file_name

pytest_plugins = "pytester"

CHECKOUT = Path(instructor.__file__).parents[1]
KEY = "sk-canary-0123456789"
EVE = '{"name": "Eve", "age": 1}'

HEAD = """
import pytest
from instructor import from_provider
from pydantic import BaseModel

class User(BaseModel):
    name: str
    age: int

@pytest.fixture
def client(recorded_answers):
    with from_provider("openai/gpt-4o", cache=recorded_answers, max_retries=0) as client:
        yield client

def asked(client, about, **how):
    question = [{"role": "user", "content": about}]
    return client.create(response_model=User, messages=question, max_retries=0, **how)
"""

ONE = (
    HEAD
    + """
def test_one(client):
    user = asked(client, "John")
    print("was told", user)
"""
)


class Project:
    """Somebody's tests, in a folder of their own, run by pytest in a process of its own."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self._pytester, self._monkeypatch = pytester, monkeypatch
        self.answers = pytester.path / "recorded_answers"
        installed = pytester.mkdir("installed")
        _install(installed)
        monkeypatch.setenv("PYTHONPATH", f"{CHECKOUT}{os.pathsep}{installed}")
        monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")

    def write(self, **modules: str) -> None:
        """Write test modules."""
        self._pytester.makepyfile(**modules)

    def record(self, provider: FakeProvider, *options: str) -> pytest.RunResult:
        """Run the tests as somebody with a key who wants to record."""
        return self.run(provider, "--instructor-record", *options, OPENAI_API_KEY=KEY)

    def run(self, provider: FakeProvider, *options: str, **environment: str) -> pytest.RunResult:
        """Run the tests; the address is the provider's, whether it is there or not."""
        with self._monkeypatch.context() as patch:
            patch.setenv("OPENAI_BASE_URL", f"{provider.url}/v1")
            for name, value in environment.items():
                patch.setenv(name, value)
            return self._pytester.runpytest_subprocess("-p", "no:asyncio", "-W", "error", "-rA", *options)

    def texts(self) -> dict[str, str]:
        """Every file of answers, by its path."""
        found = sorted(path for path in self.answers.rglob("*") if path.is_file())
        return {path.relative_to(self.answers).as_posix(): path.read_text("utf-8") for path in found}


def _install(folder: Path) -> None:
    """Tell pytest what pip tells it: the entry points that the project declares."""
    declared = re.search(r"\[project\.entry-points\.pytest11\]\n(.+)\n", (CHECKOUT / "pyproject.toml").read_text())
    assert declared is not None
    info = folder / "instructor-1.18.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: instructor\nVersion: 1.18.0\n")
    (info / "RECORD").write_text("instructor/__init__.py,,\n")
    (info / "entry_points.txt").write_text(f"[pytest11]\n{declared[1].replace(chr(34), '')}\n")


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project without tests yet."""
    return Project(pytester, monkeypatch)


def test_recorded_once_and_replayed_without_a_provider(project: Project) -> None:
    """Who has a key records; who has neither key nor network replays the same, and the file stays as it is."""
    project.write(test_users=ONE)
    with fake_provider() as provider:
        project.record(provider).assert_outcomes(passed=1)
        recorded = project.texts()
        replayed = project.run(provider)

        assert provider.calls == 1

    alone = project.run(provider)

    replayed.stdout.fnmatch_lines(["was told name='John' age=25"])
    alone.stdout.fnmatch_lines(["was told name='John' age=25"])
    assert [*recorded] == ["test_users/test_one.json"]
    assert project.texts() == recorded


def test_a_question_that_was_not_recorded_is_asked_of_nobody(project: Project, provider: FakeProvider) -> None:
    """The error names the test and the file, and says how to record."""
    project.write(test_users=ONE)

    result = project.run(provider, OPENAI_API_KEY=KEY)

    result.assert_outcomes(failed=1)
    (said,) = {line for line in result.outlines if "CacheMiss: " in line and line.startswith("E ")}
    assert "test_users.py::test_one asks what " in said
    assert f"{project.answers / 'test_users' / 'test_one.json'} has no answer to" in said
    assert "pytest --instructor-record" in said
    assert provider.calls == 0


def test_what_a_reviewer_edits_is_what_the_test_sees(project: Project, provider: FakeProvider) -> None:
    """An answer that is changed by hand counts; one that does not fit is a miss that says so, and asks nobody."""
    project.write(test_users=ONE)
    project.record(provider)
    file = project.answers / "test_users" / "test_one.json"

    def edited(age: str) -> pytest.RunResult:
        file.write_text(re.sub(r'(?<="age": )[^\s,]+', age, file.read_text()))
        return project.run(provider)

    edited("99").stdout.fnmatch_lines(["was told name='John' age=99"])
    edited('"old"').stdout.fnmatch_lines(
        ["E *CacheMiss: RecordedCache('*test_one.json') has an answer that does not *"]
    )
    edited("}").stdout.fnmatch_lines(["E *ValueError: *test_one.json is damaged: *--instructor-record."])
    assert provider.calls == 1


def test_keys_are_in_no_file(project: Project, provider: FakeProvider) -> None:
    """Neither the key that asked, nor what was asked, is written down."""
    project.write(test_users=ONE)

    project.record(provider).assert_outcomes(passed=1)

    (text,) = project.texts().values()
    assert [] == [told for told in (KEY, "Bearer", "gpt-4o-secret", '"content": "John"') if told in text]
    assert provider.headers[0]["authorization"] == f"Bearer {KEY}"


def test_an_answer_that_gives_a_secret_away_is_an_error(project: Project, provider: FakeProvider) -> None:
    """It names the variable, but not its value; what was recorded before stays."""
    project.write(test_users=ONE)
    project.record(provider)
    before = project.texts()
    provider.say('{"name": "canary-98765", "age": 1}')
    project.write(test_users=ONE.replace('print("was told", user)', "pass"))

    result = project.run(provider, "--instructor-record", OPENAI_API_KEY=KEY, MY_TOKEN="canary-98765")

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["E *ValueError: Nothing was recorded in *hold the value of MY_TOKEN."])
    result.stdout.no_fnmatch_line("*98765*")
    assert project.texts() == before


def test_recording_again_asks_again_and_drops_what_is_not_asked_any_more(
    project: Project, provider: FakeProvider
) -> None:
    """Everything is asked anew, once however often it is asked; other tests' files stay."""
    two = ONE + '\ndef test_two(client):\n    assert asked(client, "Ann") == asked(client, "Ann")\n    ONCE\n'
    project.write(test_users=two.replace("ONCE", 'asked(client, "Eve")'))
    project.record(provider).assert_outcomes(passed=2)
    before = project.texts()
    calls = provider.calls
    provider.say(EVE)
    project.write(test_users=two.replace("ONCE", ""))

    project.record(provider, "-k", "two").assert_outcomes(passed=1, deselected=1)

    after = project.texts()
    assert (calls, provider.calls) == (3, 4)
    assert after["test_users/test_one.json"] == before["test_users/test_one.json"]
    assert [len(json.loads(each["test_users/test_two.json"])) for each in (before, after)] == [2, 1]
    assert '"name": "Eve"' in after["test_users/test_two.json"]


def test_a_provider_that_is_down_costs_no_answer(project: Project, provider: FakeProvider) -> None:
    """A test that fails while recording keeps what was there, but for what was answered anew."""
    both = HEAD + 'def test_both(client):\n    for about in ("Ann", "Bob"):\n        asked(client, about)\n'
    project.write(test_users=both)
    project.record(provider).assert_outcomes(passed=1)
    provider.say(EVE, Say(status=500))

    project.record(provider).assert_outcomes(failed=1)

    (text,) = project.texts().values()
    assert ['"name": "John"' in text, '"name": "Eve"' in text, len(json.loads(text))] == [True, True, 2]


def test_tests_that_ask_the_same_ask_once(project: Project, provider: FakeProvider) -> None:
    """A question is asked once in a session; each test has the answer in its own file, and can be run alone."""
    project.write(test_users=ONE + '\ndef test_same(client):\n    asked(client, "John")\n')

    project.record(provider).assert_outcomes(passed=2)
    project.run(provider, "-k", "same").assert_outcomes(passed=1, deselected=1)

    one, same = project.texts().values()
    assert one == same
    assert provider.calls == 1


@pytest.mark.skipif("not __import__('importlib.util').util.find_spec('xdist')", reason="pytest-xdist is not installed")
def test_workers_lose_no_answer(project: Project, provider: FakeProvider) -> None:
    """Recorded by two workers, every test of a module is replayed, by two workers or by one."""
    tests = "@pytest.mark.parametrize('n', range(20))\ndef test_it(client, n):\n    asked(client, f'User {n}')\n"
    project.write(test_many=HEAD + tests)

    project.record(provider, "-n", "2").assert_outcomes(passed=20)
    project.run(provider, "-n", "2").assert_outcomes(passed=20)
    project.run(provider).assert_outcomes(passed=20)

    assert len(project.texts()) == provider.calls == 20


def test_the_keys_that_stand_in_are_for_one_test(project: Project, provider: FakeProvider) -> None:
    """Every provider that needs a key has one while answers are replayed; a key that is there stays."""
    test = """
import os
from instructor.providers import ROWS

def keys():
    return [any(map(os.environ.get, row.key_env)) for row in ROWS.values() if row.key_env]

def test_with(recorded_answers):
    assert all(keys())
    assert os.environ["GROQ_API_KEY"] == "mine"

def test_without():
    assert not all(keys())
"""
    project.write(test_keys=test)

    project.run(provider, GROQ_API_KEY="mine").assert_outcomes(passed=2)

    assert project.texts() == {}


def test_loading_the_plugin_loads_nothing_else() -> None:
    """Every run of pytest loads it: it brings the package's front door and itself."""
    script = "import sys, pytest; had = set(sys.modules); import instructor.pytest_plugin; print(*{*sys.modules} - had)"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=CHECKOUT)

    assert {"instructor", "instructor._doors", "instructor.pytest_plugin"} == set(done.stdout.split())


def test_a_program_that_uses_the_package_may_run_pytest(project: Project, pytester: pytest.Pytester) -> None:
    """Pytest wants to load the modules of a plugin itself: it does not complain when that comes too late."""
    project.write(test_nothing="def test_nothing(): pass")
    script = "import sys, instructor, pytest; sys.exit(pytest.main(['-W', 'error', '-p', 'no:asyncio']))"

    pytester.run(sys.executable, "-c", script).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        ("test_a", "test_a.json"),
        ("TestA.test_b[1.5-x]", "TestA.test_b[1.5-x].json"),
        ("test_a[a/b]", r"test_a\[a_b\]-[0-9a-f]{8}.json"),
        ("test_a[" + "x" * 300 + "]", r"test_a\[x+-[0-9a-f]{8}.json"),
    ],
)
def test_a_file_is_named_as_its_test(test: str, expected: str) -> None:
    """What no file may be called is spelled otherwise, and kept apart by a checksum."""
    name = _file_name(test)

    assert name == expected or re.fullmatch(expected, name)
    assert len(name.encode()) < 128


def test_other_spellings_are_other_files() -> None:
    """Two tests whose names are spelled alike have a file each."""
    assert len({_file_name(f"test_a[{value}]") for value in ("a/b", "a:b", "a_b", "é", "ü")}) == 5


def test_the_page_about_testing_is_true(project: Project, provider: FakeProvider) -> None:
    """What the page shows can be recorded, and replayed."""
    text = (CHECKOUT / "docs" / "testing.md").read_text("utf-8")
    project.write(test_page="\n".join(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)))

    first = project.record(provider).parseoutcomes()
    second = project.run(provider).parseoutcomes()

    assert set(first) <= {"passed", "skipped"}
    assert {**first, "seconds": 0} == {**second, "seconds": 0}
    assert 0 < provider.calls == len(project.texts())
