"""The cases for LangChain: structured output, with its in-memory and its SQLite cache."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

from langchain_community.cache import SQLiteCache
from langchain_core.caches import InMemoryCache
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


def cases(url: str) -> dict[str, Callable[[], list[Callable[[], Any]]]]:
    """The asks of each case, made when it is wanted."""
    directory = tempfile.mkdtemp()
    return {
        "memory": lambda: [_hit(url, InMemoryCache())],
        "disk": lambda: [_hit(url, SQLiteCache(f"{directory}/cache.db"))],
    }


def _hit(url: str, cache: Any) -> Callable[[], Any]:
    model = ChatOpenAI(model="m", api_key="k", base_url=f"{url}/v1", cache=cache)
    person = model.with_structured_output(Person, method="function_calling")
    assert person.invoke("Extract: John is 25") == Person(name="John", age=25)
    return lambda: person.invoke("Extract: John is 25")
