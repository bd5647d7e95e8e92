"""What users import: the public names, the old addresses, and how little an import loads."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pickle
import pkgutil
import re
import statistics
import subprocess
import sys
import tokenize
import typing
from pathlib import Path

import pytest

import instructor
import instructor.cache
import instructor.models
from instructor import Mode, _doors
from instructor.providers import ROWS, Provider, get_provider
from instructor.templating import handle_templating

PACKAGE = Path(instructor.__file__).parent
CHECKOUT = PACKAGE.parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
NAMES = [f"instructor.{'.'.join(path.relative_to(PACKAGE).with_suffix('').parts)}" for path in SOURCES]
MODULES = [name.removesuffix(".__init__") for name in NAMES if not name.endswith("__main__")]

HEAVY = {"openai", "anthropic", "groq", "google.genai", "httpx", "httpx2", "rich", "typer", "jinja2", "pydantic"}
MAX_CODE = 8850
"""Lines of code in the package, without blank lines, comments and docstrings."""
MAX_MODULE = 350
MAX_MEDIAN = 9
IMPORTED_LATE: dict[str, set[str]] = {}
"""By module, what a function of it imports without a comment on that line saying why."""


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh process has after running `code`."""
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    return set(done.stdout.split())


@pytest.mark.parametrize("code", ["import instructor", "import instructor\ninstructor.Mode", "import instructor.mode"])
def test_importing_loads_nothing_heavy(code: str) -> None:
    """Until something is asked for that needs one, no SDK, HTTP client, template engine or pydantic is loaded."""
    loaded = loaded_by(code)

    assert "instructor" in loaded
    assert set() == loaded & HEAVY


def test_a_client_class_loads_no_sdk_and_no_template_engine() -> None:
    """The clients themselves need pydantic and tenacity; the SDKs, HTTP, Jinja2 and rich come with the first use."""
    loaded = loaded_by("from instructor import Instructor, AsyncInstructor, from_provider")

    assert set() == loaded & (HEAVY - {"pydantic"})


@pytest.mark.parametrize("name", sorted(set(instructor.__all__) - {"hooks", "exceptions"}))
def test_a_name_loads_no_sdk(name: str) -> None:
    """Whatever is imported, an SDK comes with the first client."""
    loaded = loaded_by(f"from instructor import {name}")

    assert set() == {each.partition(".")[0] for each in loaded} & {"openai", "anthropic", "groq", "google"}


def test_the_cache_loads_no_sdk() -> None:
    """A program that only makes a cache pays for no client."""
    assert set() == loaded_by("from instructor.cache import AutoCache, DiskCache") & (HEAVY - {"pydantic"})


def test_the_public_names_are_one_sorted_list() -> None:
    """`__all__` is sorted, has no name twice, and is what `dir()` shows."""
    assert sorted(set(instructor.__all__)) == instructor.__all__
    assert set(instructor.__all__) <= set(dir(instructor))


@pytest.mark.parametrize("name", instructor.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """Every name of `__all__` resolves, again to the same object, and says what it is for."""
    value = getattr(instructor, name)

    assert value is getattr(instructor, name)
    assert inspect.getdoc(value)


def test_type_checkers_see_the_same_names() -> None:
    """What is loaded lazily at run time is imported plainly for type checkers."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = [alias.name for node in imports for alias in node.names]

    assert instructor.__all__ == sorted(seen)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A misspelt name is the error that Python has for it."""
    with pytest.raises(AttributeError, match="module 'instructor' has no attribute 'from_nobody'"):
        instructor.from_nobody  # noqa: B018


def test_the_version_is_the_distributions() -> None:
    """`instructor.__version__` and `pyproject.toml` say the same, and old pins accept it."""
    (declared,) = re.findall(r'^version = "(.+)"$', (CHECKOUT / "pyproject.toml").read_text(), re.MULTILINE)
    major, minor, patch = map(int, declared.split("."))

    assert instructor.__version__ == declared
    assert (1, 9, 1) <= (major, minor, patch) < (2, 0, 0)


def test_the_names_of_the_cache() -> None:
    """The names that the documentation imports from `instructor.cache` are there, sorted."""
    documented = {"AutoCache", "BaseCache", "DiskCache", "make_cache_key"}

    assert documented <= set(instructor.cache.__all__)
    assert sorted(instructor.cache.__all__) == instructor.cache.__all__
    assert all(hasattr(instructor.cache, name) for name in instructor.cache.__all__)


@pytest.mark.parametrize("path", _doors.DOORS)
def test_an_old_address_leads_to_the_very_thing(path: str) -> None:
    """A module that moved is the module itself; one whose names went to several rooms has the very same objects."""
    door = _doors.DOORS[path]

    found = importlib.import_module(path)

    assert found is importlib.import_module(path)
    if isinstance(door, str):
        assert found is importlib.import_module(f"instructor.{door}")
        assert found.__spec__ is not None
        assert found.__spec__.name == f"instructor.{door}"
    else:
        expected = {name: pkgutil.resolve_name(f"instructor.{place}") for name, place in door.items()}
        assert {name: getattr(found, name) for name in found.__all__} == expected
        assert set(door) <= set(dir(found))


def test_the_parent_of_every_old_address_is_one_too() -> None:
    """`import a.b.c` enters `a.b` first: no door opens into nowhere, and none hides a module that is there."""
    parents = {path.rpartition(".")[0] for path in _doors.DOORS} - {"instructor"}

    assert parents <= set(_doors.DOORS)
    assert set() == set(_doors.DOORS) & set(MODULES)


def test_old_addresses_in_every_form_of_import() -> None:
    """`import a.b as c`, `from a import b` and `from a.b import c` reach the same thing, in whatever order."""
    script = """
        import instructor.core.exceptions as a, instructor.exceptions as b
        assert a is b
        import instructor.core.patch
        from instructor.core import patch, Instructor, hooks
        from instructor.core.patch import patch as same
        from instructor import v2, patch as public
        assert patch is same is public and callable(patch)
        assert hooks is __import__("instructor.hooks").hooks
        from instructor.v2.providers.openai.client import from_openai
        assert v2.from_openai is from_openai is __import__("instructor").from_openai
        from instructor.core import *
        assert InstructorError is b.InstructorError
    """
    loaded_by(inspect.cleandoc(script))


def test_an_old_address_is_no_duplicate_of_its_errors() -> None:
    """An error raised inside is caught by who imported its class from the old place, also after pickling."""
    from instructor.core.exceptions import ConfigurationError  # type: ignore[import-not-found]

    with pytest.raises(ConfigurationError) as caught:
        instructor.from_provider("nobody/nothing")

    assert type(pickle.loads(pickle.dumps(caught.value))) is ConfigurationError  # noqa: S301 - our own bytes


@pytest.mark.parametrize("path", ["instructor.core.nothing", "instructor.nowhere", "instructor.core.exceptions.deeper"])
def test_what_never_was_is_not_found(path: str) -> None:
    """The doorman knows his list, and nothing else."""
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(path)


def test_a_hall_has_only_its_names() -> None:
    """A name that an old address never had is an attribute error which names the module."""
    core = importlib.import_module("instructor.core")

    with pytest.raises(AttributeError, match=r"module 'instructor\.core' has no attribute 'nothing'"):
        core.nothing  # noqa: B018


def test_a_hall_can_be_patched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users' tests may put something of theirs at an old address, and get the old thing back."""
    core = importlib.import_module("instructor.core")
    real = core.from_openai

    with monkeypatch.context() as patch:
        patch.setattr("instructor.core.from_openai", "theirs")
        assert core.from_openai == "theirs"

    assert core.from_openai is real


def test_one_doorman_stands_at_the_end_of_the_line() -> None:
    """Everybody else is asked first, and reloading the package brings no second doorman."""
    before = list(sys.meta_path)

    importlib.reload(instructor)

    assert before == sys.meta_path
    assert sys.meta_path.count(_doors.DOORMAN) == 1


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("https://api.openai.com/v1", Provider.OPENAI),
        ("https://mine.openai.azure.com", Provider.AZURE_OPENAI),
        ("https://API.Groq.com/openai/v1", Provider.GROQ),
        ("https://api.anthropic.com", Provider.ANTHROPIC),
        ("https://generativelanguage.googleapis.com", Provider.GOOGLE),
        ("https://openrouter.ai/api/v1", Provider.OPENROUTER),
        ("https://api.x.ai/v1", Provider.XAI),
        ("http://localhost:11434/v1", Provider.OLLAMA),
        ("http://localhost:8000/v1", Provider.UNKNOWN),
        ("https://models.example", Provider.UNKNOWN),
        ("", Provider.UNKNOWN),
    ],
)
def test_the_provider_of_an_address(address: str, expected: Provider) -> None:
    """`get_provider` looks for a provider's name in the address, and is not led astray by copies of OpenAI's API."""
    assert get_provider(address) is expected


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.base_url and name != "local"])
def test_the_provider_of_each_address_in_the_table(name: str) -> None:
    """Every address that the table of providers holds is that provider's."""
    row = ROWS[name]

    assert get_provider(row.base_url or "") is row.provider


def test_known_model_names_are_askable() -> None:
    """Every suggested name is of a provider in the table, and none is suggested twice."""
    names = typing.get_args(instructor.models.KnownModelName)

    assert set() == {name.partition("/")[0] for name in names} - set(ROWS)
    assert sorted(set(names)) == list(names)


def test_the_names_of_the_shapes() -> None:
    """`instructor.dsl` has the very same shapes as the package itself, and no others."""
    dsl = importlib.import_module("instructor.dsl")

    assert all(getattr(instructor, name) is getattr(dsl, name) for name in set(dsl.__all__) & set(instructor.__all__))
    with pytest.raises(AttributeError, match=r"module 'instructor\.dsl' has no attribute 'Perhaps'"):
        dsl.Perhaps  # noqa: B018


def test_templating_on_its_own() -> None:
    """`handle_templating` renders a copy with either spelling of the context; without one it gives back what it got."""
    request = {"model": "{{ x }}", "messages": [{"role": "user", "content": "Hi {{ x }}"}]}
    expected = {"model": "{{ x }}", "messages": [{"role": "user", "content": "Hi Ann"}]}

    assert handle_templating(request, Mode.TOOLS, {"x": "Ann"}) == expected
    assert handle_templating(request, Mode.TOOLS, Provider.OPENAI, {"x": "Ann"}) == expected
    assert handle_templating(request, Mode.TOOLS, Provider.OPENAI, {}) is request
    assert request["messages"] == [{"role": "user", "content": "Hi {{ x }}"}]


def functions_of(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function in a module, however deep."""
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def code_lines(path: Path) -> int:
    """Lines with code on them: neither blank, nor comment, nor docstring."""
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    with path.open("rb") as file:
        tokens = [token for token in tokenize.tokenize(file.readline) if token.type not in skipped][1:]
    code = {line for token in tokens for line in range(token.start[0], token.end[0] + 1)}
    texts = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Expr)]
    return len(code - {line for node in texts if is_text(node) for line in range(node.lineno, end_of(node) + 1)})


def is_text(node: ast.Expr) -> bool:
    """Whether a statement is a string and nothing else."""
    return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def end_of(node: ast.stmt) -> int:
    """The last line of a statement."""
    return node.end_lineno or node.lineno


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_a_module_is_one_idea(path: Path) -> None:
    """A module says in its first line what it is for, and has at most 350 lines."""
    text = path.read_text()

    assert ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= MAX_MODULE


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_imports_are_at_the_top(path: Path) -> None:
    """What a function imports is in the list of exceptions, or a comment on the line says why."""
    lines = path.read_text().splitlines()
    late = {
        ast.unparse(node)
        for function in functions_of(ast.parse(path.read_text()))
        for node in ast.walk(function)
        if isinstance(node, (ast.Import, ast.ImportFrom)) and not explains(lines[node.lineno - 1])
    }

    assert late == IMPORTED_LATE.get(path.relative_to(PACKAGE).as_posix(), set())


def explains(line: str) -> bool:
    """Whether a line has a comment with words in it beside the name of a lint rule."""
    return bool(re.search(r"#\s*(?:noqa: [A-Z0-9, ]+\s*)?\W*\w+", line))


def test_functions_fit_a_glance() -> None:
    """Half of all functions have at most nine lines."""
    functions = [function for path in SOURCES for function in functions_of(ast.parse(path.read_text()))]

    assert statistics.median(end_of(function) - function.lineno + 1 for function in functions) <= MAX_MEDIAN


def test_the_package_stays_small() -> None:
    """There is a bound on the lines of code, so that raising it is a decision."""
    assert sum(map(code_lines, SOURCES)) <= MAX_CODE


@pytest.mark.parametrize("name", MODULES)
def test_what_a_module_offers_is_there(name: str) -> None:
    """Every module loads, and where it has an `__all__`, that is sorted and every name in it resolves."""
    module = importlib.import_module(name)
    offered = list(getattr(module, "__all__", []))

    assert sorted(offered) == offered
    assert all(hasattr(module, each) for each in offered)


@pytest.mark.skipif(not importlib.util.find_spec("mypy"), reason="mypy is not installed")
def test_type_checkers_understand_the_clients(tmp_path: Path) -> None:
    """A program that gives its variables types passes mypy's strict mode without a cast."""
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), "tests/typing/api.py"]

    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT)

    assert done.stdout.startswith("Success"), done.stdout + done.stderr
