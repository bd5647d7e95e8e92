"""The complete demo with real API calls: what the cache saves, in memory, on disk, and with completions.

With OPENAI_API_KEY it asks OpenAI (OPENAI_MODEL names another model); otherwise the small model that runs inside this
process, when it is installed.
"""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

from pydantic import BaseModel, Field

from instructor import from_provider
from instructor.cache import AutoCache, BaseCache, DiskCache
from instructor.exceptions import ConfigurationError

HAS_KEY = "OPENAI_API_KEY" in os.environ
MODEL = f"openai/{os.environ.get('OPENAI_MODEL', 'gpt-4o-mini')}" if HAS_KEY else "local/smollm2"
JOHN = [{"role": "user", "content": "Extract: John is 25"}]
JANE = [{"role": "user", "content": "Extract: Jane is 30"}]


class User(BaseModel):
    """Somebody mentioned in a text."""

    name: str
    age: int


class Described(BaseModel):
    """Somebody mentioned in a text."""

    name: str = Field(description="first name only")
    age: int


def connect(cache: BaseCache) -> tuple[Any, list[Any]]:
    """A client, and a list that grows with every request it sends."""
    client = from_provider(MODEL, cache=cache, temperature=0)
    requests: list[Any] = []
    client.on("completion:kwargs", lambda **request: requests.append(request))
    return client, requests


def ask(client: Any, messages: list[Any] = JOHN, response_model: Any = User, **kwargs: Any) -> tuple[Any, Any, float]:
    """The answer, its completion, and the seconds they took."""
    start = time.perf_counter()
    answer = client.create_with_completion(response_model=response_model, messages=messages, **kwargs)
    return (*answer, time.perf_counter() - start)


def compare(title: str, first: tuple[Any, Any, float], again: tuple[Any, Any, float]) -> None:
    """Answer and completion must be equal; print the times."""
    assert first[:2] == again[:2]
    seconds, later = first[2], again[2]
    print(f"{title}: {again[0]!r}, and the {type(again[1]).__name__} it came in")
    print(f"   first {seconds * 1e3:,.1f} ms, again {later * 1e3:,.3f} ms: {seconds / later:,.0f} times faster\n")


def memory() -> None:
    client, requests = connect(AutoCache(maxsize=100))
    with client:
        compare("AutoCache", ask(client), ask(client))
        assert len(requests) == 1

        for messages, response_model in ((JANE, User), (JOHN, Described)):
            answer, *_ = ask(client, messages, response_model)
            print(f"Another {'prompt' if messages is JANE else 'schema'}: {answer!r}, by a call of its own")
        assert len(requests) == 3


def disk(folder: str) -> None:
    answers, calls = [], 0
    for _ in range(2):
        client, requests = connect(DiskCache(directory=folder))
        with client:
            answers.append(ask(client, cache_ttl=3600))
        calls += len(requests)
    print()
    compare("DiskCache, read by another client", *answers)
    assert calls == 1


def main() -> None:
    print(f"Asking {MODEL}.\n")
    try:
        memory()
        with tempfile.TemporaryDirectory() as folder:
            disk(folder)
    except ConfigurationError as error:
        raise SystemExit(f"There is nobody to ask: set OPENAI_API_KEY, or install the local model.\n{error}") from None


if __name__ == "__main__":
    main()
