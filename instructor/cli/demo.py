"""`instructor demo`: three questions to a language model, asked again from memory and from another process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from instructor.cache import AutoCache, BaseCache, DiskCache, TieredCache, stats
from instructor.exceptions import InstructorError
from instructor.factories import from_provider
from instructor.usage import tokens


class Person(BaseModel):
    """Somebody mentioned in a text."""

    name: str
    age: int


class Flag(BaseModel):
    """A flag and its colours."""

    colours: list[str]


Mood = Literal["positive", "neutral", "negative"]
QUESTIONS: dict[str, Any] = {
    "Extract the name and the age: Maria Lopez turned 34 last week.": Person,
    'Is this review positive, neutral or negative? "Terrible. It broke after one day and nobody answered."': Mood,
    'List the colours in this sentence: "The flag is red, white and blue."': Flag,
}


class Timing(msgspec.Struct):
    """One answer: as text, how long it took in seconds, what it took in tokens, and whether a model was asked."""

    answer: str
    seconds: float
    tokens: int | None
    asked: bool


def demo(
    model: Annotated[str, typer.Option(help="Which model to ask, such as openai/gpt-4o-mini.")] = "local/smollm2",
    answers_from: Annotated[Path | None, typer.Option(help="Print answers from this DiskCache.", hidden=True)] = None,
) -> None:
    """Ask a real language model three questions with typed answers, then ask them again: the cache answers."""
    try:
        if answers_from is not None:
            print(msgspec.json.encode(ask_all(model, DiskCache(answers_from))).decode())
            return
        with tempfile.TemporaryDirectory(prefix="instructor-demo-") as directory:
            cache = TieredCache([AutoCache(), DiskCache(directory)])
            first, again, elsewhere = ask_all(model, cache), ask_all(model, cache), _ask_elsewhere(model, directory)
    except InstructorError as error:
        raise SystemExit(f"instructor demo: {error}") from error
    _show(model, first, again, elsewhere)
    if any(timing.asked for timing in again + elsewhere):
        raise SystemExit("instructor demo: a question was asked twice")


def _ask_elsewhere(model: str, directory: str) -> list[Timing]:
    """The answers of a second process, which shares the disk only."""
    command = [sys.executable, "-m", "instructor", "demo", "--model", model, "--answers-from", directory]
    other = subprocess.run(command, capture_output=True, check=False, text=True)  # noqa: S603  this very program
    if other.returncode:
        raise SystemExit(f"instructor demo: the second process failed\n{other.stderr}")
    return msgspec.json.decode(other.stdout, type=list[Timing])


def ask_all(model: str, cache: BaseCache) -> list[Timing]:
    """The answers to all questions, by a client of their own."""
    client = from_provider(model, cache=cache, temperature=0)
    return [_ask(client, cache, text, answer_type) for text, answer_type in QUESTIONS.items()]


def _ask(client: Any, cache: BaseCache, text: str, answer_type: Any) -> Timing:
    question = [{"role": "user", "content": text}]
    missed, start = stats(cache).misses, time.perf_counter()
    answer, completion = client.create_with_completion(response_model=answer_type, messages=question)
    seconds = time.perf_counter() - start
    return Timing(repr(answer), seconds, tokens(completion.usage), stats(cache).misses > missed)


def _show(model: str, first: list[Timing], again: list[Timing], elsewhere: list[Timing]) -> None:
    table = Table(title=f"{model}: asked once, answered three times")
    for heading in ("answer", "first", "again", "in another process", "faster", "tokens saved"):
        table.add_column(heading, overflow="fold", justify="left" if heading == "answer" else "right")
    for one, two, three in zip(first, again, elsewhere, strict=True):
        faster, saved = f"{one.seconds / two.seconds:,.0f}×", str(2 * (one.tokens or 0))
        times = (f"{one.seconds * 1e3:,.0f} ms", f"{two.seconds * 1e6:,.0f} µs", f"{three.seconds * 1e6:,.0f} µs")
        table.add_row(one.answer, *times, faster, saved)
    Console().print(table)
