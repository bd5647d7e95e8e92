"""The cases for Instructor: this project and the 1.17.0 that it is compared with run these very lines."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any

import openai
from pydantic import BaseModel

import instructor
from instructor.cache import AutoCache, DiskCache

SMALL = "Extract: John is 25"
LARGE = SMALL + ". He has nothing more to say." * 3532
"""100 KB."""


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


def cases(url: str) -> dict[str, Callable[[], list[Callable[[], Any]]]]:
    """The asks of each case, made when it is wanted."""
    sync = partial(openai.OpenAI, api_key="k", base_url=f"{url}/v1")
    later = partial(openai.AsyncOpenAI, api_key="k", base_url=f"{url}/v1")
    directory = tempfile.TemporaryDirectory()
    return {
        "memory": lambda: [_hit(_client(sync(), AutoCache()).create, SMALL)],
        "memory_async": lambda: [_hit_async(_client(later(), AutoCache()).create, SMALL)],
        "disk": lambda: [_hit(_client(sync(), DiskCache(directory=directory.name)).create, SMALL)],
        "large": lambda: [_hit_anew(_client(sync(), AutoCache()).create, LARGE)],
        "completion": lambda: [_hit_with_completion(_client(sync(), AutoCache()).create_with_completion, SMALL)],
        "miss": lambda: _miss(sync(), AutoCache()),
    }


def _client(sdk: Any, cache: Any) -> Any:
    return instructor.from_openai(sdk, cache=cache)


def _question(text: str) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], "response_model": Person}


def _check(person: Any) -> None:
    assert (person.name, person.age) == ("John", 25)


def _hit(create: Callable[..., Any], text: str) -> Callable[[], Any]:
    _check(create(**_question(text)))
    return lambda: create(**_question(text))


def _hit_anew(create: Callable[..., Any], text: str) -> Callable[[], Any]:
    """Each call brings a text of its own, as programs do: nothing may be known by the object's identity."""
    _check(create(**_question(text)))
    return lambda: create(**_question(text[:1] + text[1:]))


def _hit_async(create: Callable[..., Any], text: str) -> Callable[[], Any]:
    async def ask() -> Any:
        return await create(**_question(text))

    return ask


def _hit_with_completion(create: Callable[..., Any], text: str) -> Callable[[], Any]:
    person, completion = create(**_question(text))
    _check(person)
    assert completion.usage.total_tokens == 15

    def ask() -> Any:
        _, completion = create(**_question(text))
        return completion.choices[0].message.tool_calls

    return ask


def _miss(sdk: openai.OpenAI, cache: Any) -> list[Callable[[], Any]]:
    """A question never asked before; and the call that it comes down to, made by hand."""
    client, number, sent = _client(sdk, cache), itertools.count(), []
    client.on("completion:kwargs", lambda *_, **kwargs: sent.append(kwargs))
    _check(client.create(**_question(SMALL)))
    client.clear()
    bare = {**sent[0]}

    def cold() -> Any:
        return client.create(**_question(f"{SMALL} ({next(number)})"))

    def by_hand() -> Any:
        return sdk.chat.completions.create(**{**bare, "messages": _question(f"{SMALL} ({next(number)})")["messages"]})

    return [cold, by_hand]
