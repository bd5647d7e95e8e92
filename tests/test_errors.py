"""Errors: they travel between processes whole, and their family is the one that is written down."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from instructor import exceptions
from instructor.exceptions import FailedAttempt, InstructorError

FAILED = [FailedAttempt(1, ValueError("too old"), {"id": "1"}), FailedAttempt(2, KeyError("age"), None)]
RETRIED: dict[str, Any] = {
    "last_completion": {"id": "2"},
    "messages": [{"role": "user", "content": "who?"}],
    "n_attempts": 2,
    "total_usage": {"total_tokens": 30},
    "create_kwargs": {"model": "m"},
    "failed_attempts": FAILED,
}
MADE: dict[str, Callable[[type[Any]], InstructorError]] = {
    "InstructorError": lambda cls: cls("no", failed_attempts=FAILED),
    "IncompleteOutputException": lambda cls: cls(last_completion={"id": "1"}, failed_attempts=FAILED),
    "CacheMiss": lambda cls: cls("no"),
    "RefusalError": lambda cls: cls("I won't", last_completion={"id": "1"}),
    "InstructorRetryException": lambda cls: cls("no", **RETRIED),
    "TokenBudgetError": lambda cls: cls("no", budget=7, **RETRIED),
    "TokenBudgetExceeded": lambda cls: cls("no", budget=7, **RETRIED),
    "TokenUsageUnavailableError": lambda cls: cls("no", budget=7, **RETRIED),
    "ValidationError": lambda cls: cls("no", failed_attempts=FAILED),
    "ProviderError": lambda cls: cls("groq", "down", failed_attempts=FAILED),
    "ConfigurationError": lambda cls: cls("no"),
    "ModeError": lambda cls: cls("JSON", "groq", ["TOOLS", "MD_JSON"]),
    "ClientError": lambda cls: cls("no"),
    "AsyncValidationError": lambda cls: cls("no", errors=[ValueError("too old")]),
    "ResponseParsingError": lambda cls: cls("no", mode="JSON", raw_response={"id": "1"}),
    "MultimodalError": lambda cls: cls("no", content_type="image/png", file_path="a.png"),
    "UnsupportedMediaError": lambda cls: cls("no", content_type="audio/wav"),
}
"""One error of each class, with everything that it can carry."""

CLASSES = {
    name: cls
    for name, cls in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(cls, BaseException) and cls.__module__ == exceptions.__name__
}


def shown(value: Any) -> Any:
    """A value with every error in it as its type and arguments: errors are equal only to themselves."""
    if isinstance(value, BaseException):
        return type(value), value.args
    if isinstance(value, (list, tuple)):
        return [shown(item) for item in value]
    return value


def told(error: BaseException) -> tuple[Any, ...]:
    """Everything that an error says."""
    attributes = {name: shown(value) for name, value in vars(error).items()}
    return type(error), error.args, str(error), repr(error), attributes


TRAVELS = {
    "copied": copy.copy,
    "copied deeply": copy.deepcopy,
    **{f"pickle {n}": lambda error, n=n: pickle.loads(pickle.dumps(error, n)) for n in (2, pickle.HIGHEST_PROTOCOL)},  # noqa: S301  our own
}


@pytest.mark.parametrize("travel", TRAVELS.values(), ids=TRAVELS.keys())
@pytest.mark.parametrize("name", CLASSES)
def test_every_error_travels_whole(name: str, travel: Callable[[Any], Any]) -> None:
    """A pool of processes pickles what went wrong, and those who wait for one call each get a copy: nothing is lost."""
    error = MADE[name](CLASSES[name])

    twin = travel(error)

    assert told(error) == told(twin)
    assert twin is not error


@pytest.mark.parametrize("travel", TRAVELS.values(), ids=TRAVELS.keys())
def test_a_users_own_error_travels_too(travel: Callable[[Any], Any]) -> None:
    """Whatever its own `__init__` insists on."""
    error = Picky(where="here")

    assert told(error) == told(travel(error))


class Picky(exceptions.ProviderError):
    """An error of a program's own."""

    def __init__(self, *, where: str) -> None:
        super().__init__("groq", f"down {where}")
        self.where = where


def family(cls: type[InstructorError], depth: int = 0) -> Iterator[tuple[int, str, bool]]:
    """A class and its descendants in our module, each with its generation, and whether it is a ValueError."""
    yield depth, cls.__name__, issubclass(cls, ValueError)
    for child in cls.__subclasses__():
        if child.__module__ == exceptions.__name__:
            yield from family(child, depth + 1)


def test_the_family_tree_is_the_real_one() -> None:
    """The tree that the module's docstring draws: who descends from whom, in which order, and is a ValueError."""
    lines = re.findall(r"^([│├└─ ]*)(\w+) *(.*)$", inspect.getdoc(exceptions) or "", re.MULTILINE)
    drawn = [(len(indent) // 4, name, "(also ValueError)" in note) for indent, name, note in lines if name in CLASSES]

    assert drawn == list(family(InstructorError))
    assert sorted(CLASSES) == sorted(name for _, name, _ in drawn)


def test_an_error_counts_its_failed_attempts() -> None:
    """Every attempt is in the message, and the last error after them."""
    text = str(MADE["InstructorRetryException"](exceptions.InstructorRetryException))

    assert ["1", "2"] == re.findall(r"<generation number='(\d+)'>", text)
    assert text.index("too old") < text.index("<last_exception>") < text.index("    no\n")
