"""`instructor demo`: three questions to a language model, asked again from memory and from another process."""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Annotated, Any, Literal

import msgspec
import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Column, Table

from instructor.cache import AutoCache, BaseCache, DiskCache, TieredCache
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
    """One answer: as text, how long it took in seconds, and what it took in tokens."""

    answer: str
    seconds: float
    tokens: int | None


def demo(
    model: Annotated[str, typer.Option(help="Which model to ask, such as openai/gpt-4o-mini.")] = "local/smollm2",
) -> None:
    """Ask a real language model three questions with typed answers, then ask them again: the cache answers."""
    try:
        with tempfile.TemporaryDirectory(prefix="instructor-demo-") as directory:
            cache = TieredCache([AutoCache(), DiskCache(directory)])
            first, again = ask_all(model, cache), ask_all(model, cache)
            with ProcessPoolExecutor(1, get_context("spawn")) as another:
                elsewhere = another.submit(_ask_elsewhere, model, directory).result()
    except InstructorError as error:
        raise SystemExit(f"instructor demo: {error}") from error
    _show(model, first, again, elsewhere)


def _ask_elsewhere(model: str, directory: str) -> list[Timing]:
    """The answers in another process, which shares the disk only."""
    return ask_all(model, DiskCache(directory))


def ask_all(model: str, cache: BaseCache) -> list[Timing]:
    """The answers to all questions, by a client of their own."""
    client = from_provider(model, cache=cache, temperature=0)
    return [_ask(client, text, answer_type) for text, answer_type in QUESTIONS.items()]


def _ask(client: Any, text: str, answer_type: Any) -> Timing:
    question = [{"role": "user", "content": text}]
    start = time.perf_counter()
    answer, completion = client.create_with_completion(response_model=answer_type, messages=question)
    return Timing(repr(answer), time.perf_counter() - start, tokens(completion.usage))


def _show(model: str, first: list[Timing], again: list[Timing], elsewhere: list[Timing]) -> None:
    headings = (Column("answer", overflow="fold"), "first", "again", "in another process", "faster", "tokens saved")
    table = Table(*headings, title=f"{model}: asked once, answered three times")
    for one, two, three in zip(first, again, elsewhere, strict=True):
        times = [f"{timing.seconds * 1e3:,.2f} ms" for timing in (one, two, three)]
        table.add_row(one.answer, *times, f"{one.seconds / two.seconds:,.0f}×", str(2 * (one.tokens or 0)))
    Console().print(table)
