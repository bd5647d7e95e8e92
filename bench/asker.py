"""One of several processes that ask the same questions through one cache.

    python asker.py STORE URL ABOUT NUMBER

STORE is a directory or the URL of a Redis server, URL that of a provider; there are NUMBER questions, which are others
for another ABOUT. It says so when it is ready; then for each number of seconds that it reads, it says how often it
asked in that time: every question once at least.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import openai
from pydantic import BaseModel

import instructor
from instructor.cache import DiskCache, RedisCache


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


def main(store: str, url: str, about: str, number: str) -> None:
    """Answer orders until there are no more."""
    cache: Any = RedisCache(store) if "://" in store else DiskCache(store)
    client = instructor.from_openai(openai.OpenAI(api_key="k", base_url=f"{url}/v1"), cache=cache)
    questions = [question(f"Extract: John is 25 ({each} of {about})") for each in range(int(number))]
    client.create(**questions[0], cache=None)  # whatever is made on first use
    print("ready", flush=True)
    for seconds in sys.stdin:
        print(asked(client, questions, float(seconds)), flush=True)


def question(text: str) -> dict[str, Any]:
    """What is asked."""
    return {"model": "m", "messages": [{"role": "user", "content": text}], "response_model": Person}


def asked(client: Any, questions: list[dict[str, Any]], seconds: float) -> int:
    """How many questions were answered until the time was up."""
    end, number = time.perf_counter() + seconds, 0
    while number == 0 or time.perf_counter() < end:
        for each in questions:
            person = client.create(**each)
            assert (person.name, person.age) == ("John", 25)
        number += len(questions)
    return number


if __name__ == "__main__":
    main(*sys.argv[1:])
