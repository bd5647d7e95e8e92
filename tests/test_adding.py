"""What the page on adding a provider says is done as written, to a copy of the package; then the copy is asked."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import instructor

CHECKOUT = Path(instructor.__file__).parents[1]
PAGE = CHECKOUT / "docs" / "adding.md"
BLOCK = re.compile(r"```(diff|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)

if not PAGE.exists():
    pytest.skip("the documents are not beside these tests", allow_module_level=True)

QUILL_SDK = '''
"""The SDK that the page speaks of, asking whoever speaks OpenAI's wire format."""

import asyncio
import json
import urllib.request


class Quill:
    def __init__(self, api_key="", base_url=""):
        self.api_key, self.base_url = api_key, base_url

    def write(self, **question):
        headers = {"content-type": "application/json", "authorization": self.api_key}
        url = f"{self.base_url}/chat/completions"
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(question).encode(), headers)) as response:
            said = json.load(response)["choices"][0]
        return {"words": said["message"]["content"], "why": {"stop": "done", "length": "limit"}[said["finish_reason"]]}

    def pieces(self, **question):
        said = self.write(**question)
        return iter([*({"words": letter} for letter in said["words"]), {"why": said["why"]}])


class AsyncQuill(Quill):
    async def write(self, **question):
        return await asyncio.to_thread(Quill.write, self, **question)

    async def pieces(self, **question):
        for piece in await asyncio.to_thread(Quill.pieces, Quill("", self.base_url), **question):
            yield piece
'''

TEST_ASKING = """
import asyncio

import pytest
from fake_provider import Say
from pydantic import BaseModel

from instructor import Mode, from_provider
from instructor.cache import AutoCache
from instructor.exceptions import IncompleteOutputException


class User(BaseModel):
    name: str
    age: int


JOHN, HI = User(name="John", age=25), [{"role": "user", "content": "hi"}]
every_name = pytest.mark.parametrize("name", ["acme", "quill"])
every_mode = pytest.mark.parametrize("mode", [None, Mode.JSON_SCHEMA, Mode.MD_JSON])


def client(name, provider, *args, **kwargs):
    return from_provider(f"{name}/m", *args, base_url=provider.url, api_key="k", **kwargs)


@every_name
@every_mode
def test_answers_streams_and_hits(name, mode, provider):
    asking = client(name, provider, cache=AutoCache(), mode=mode)
    provider.say('{"name": "John"}', '{"name": "John", "age": 25}')

    assert JOHN == asking.create(messages=HI, response_model=User)
    assert JOHN == list(asking.create_partial(messages=HI, response_model=User))[-1]
    assert JOHN == asking.create(messages=HI, response_model=User)
    assert 2 == provider.calls
    assert "age" in str(provider.requests[1]["messages"][-1])


@every_name
def test_awaited(name, provider):
    async def main():
        asking = client(name, provider, True)
        shown = [each async for each in asking.create_partial(messages=HI, response_model=User)]
        return shown[-1], await asking.create(messages=HI, response_model=User)

    assert (JOHN, JOHN) == asyncio.run(main())


@every_name
def test_cut_off(name, provider):
    provider.say(Say(finish="length"))

    with pytest.raises(IncompleteOutputException):
        client(name, provider).create(messages=HI, response_model=User)


def test_accounts_are_told_apart(provider):
    cache = AutoCache()
    for key in ("one", "two", "one"):
        asking = from_provider("quill/m", base_url=provider.url, api_key=key, cache=cache)
        asking.create(messages=HI, response_model=User)

    assert 2 == provider.calls
"""


def patch(path: Path, diff: str) -> None:
    """Change a file by a diff, of which each piece must stand there once."""
    source = path.read_text()
    for piece in diff.split("@@\n"):
        old = "".join(line[1:] or line for line in piece.splitlines(keepends=True) if not line.startswith("+"))
        assert source.count(old) == 1, f"the page speaks of lines that are not there:\n{old}"
        source = source.replace(old, "".join(line[1:] or line for line in piece.splitlines(keepends=True)))
    path.write_text(source)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and its tests in which everything was done that the page says."""
    copy = tmp_path_factory.mktemp("copy")
    for folder in ("instructor", "tests"):
        shutil.copytree(CHECKOUT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "pyproject.toml", copy)
    row, test, dialect, other_row, suite = (block for _, block in BLOCK.findall(PAGE.read_text()))
    patch(copy / "instructor" / "providers.py", row)
    patch(copy / "instructor" / "providers.py", other_row)
    patch(copy / "tests" / "test_providers.py", test)
    (copy / "instructor" / "dialects" / "quill.py").write_text(dialect)
    (copy / "quill_sdk.py").write_text(QUILL_SDK)
    (copy / "tests" / "test_quill.py").write_text(suite)
    (copy / "tests" / "test_asking.py").write_text(TEST_ASKING)
    return copy


def pytest_in(copy: Path, *options: str) -> str:
    """The last line that pytest says of some tests, in a process that knows the copy only."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *options]
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    environment.pop("PYTEST_ADDOPTS", None)
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=300)

    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


def test_the_page_is_short() -> None:
    """Whoever adds a provider reads it to the end."""
    assert len(PAGE.read_text().splitlines()) <= 110


def test_a_row_is_tried_like_every_other(copied: Path) -> None:
    """The line of test asks the new provider in every way that there is."""
    passed = re.match(r"(\d+) passed", pytest_in(copied, "tests/test_providers.py", "-k", "acme"))

    assert passed
    assert int(passed[1]) > 10


def test_a_dialect_keeps_the_contract_and_answers(copied: Path) -> None:
    """The suite of the page passes; both providers answer, stream, are asked again, and are remembered."""
    assert "failed" not in pytest_in(copied, "tests/test_quill.py", "tests/test_asking.py")
