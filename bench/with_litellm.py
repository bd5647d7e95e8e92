"""The cases for LiteLLM: its in-memory cache, and the answer read into the same model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import litellm
from pydantic import BaseModel


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


def cases(url: str) -> dict[str, Callable[[], list[Callable[[], Any]]]]:
    """The asks of each case, made when it is wanted."""

    def ask() -> Person:
        messages = [{"role": "user", "content": "Extract: John is 25"}]
        answer = litellm.completion(
            "openai/m", messages, api_base=f"{url}/v1", api_key="k", response_format=Person, caching=True
        )
        return Person.model_validate_json(answer.choices[0].message.content)

    return {"memory": lambda: [_hit(ask)]}


def _hit(ask: Callable[[], Person]) -> Callable[[], Any]:
    litellm.cache = litellm.Cache(type="local")
    assert ask() == Person(name="John", age=25)
    return ask
