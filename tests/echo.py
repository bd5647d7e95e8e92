"""A provider inside the process: it gives each question an answer of its own, so that a wrong answer shows."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from instructor import Mode
from instructor.cache import BaseCache
from instructor.client import AsyncInstructor, Instructor


class Echo(BaseModel):
    """What was asked, and as much as was wanted."""

    said: str
    more: str = ""


class Asked:
    """A client of the echo that keeps its answers in `cache`, and counts the questions that came through to it."""

    def __init__(self, cache: BaseCache | None, *, size: int = 0, use_async: bool = False, **kwargs: Any) -> None:
        self.calls = 0
        self._size = size
        call = self._acreate if use_async else self._create
        said = {"model": "m", "cache": cache, "cache_namespace": "echo", **kwargs}  # an object that says no account
        self.client: Any = (AsyncInstructor if use_async else Instructor)(
            SimpleNamespace(), call, mode=Mode.JSON, **said
        )

    def __call__(self, question: str, **kwargs: Any) -> Any:
        """The answer, or what has to be awaited for it."""
        messages = [{"role": "user", "content": question}]
        return self.client.create(response_model=Echo, messages=messages, **kwargs)

    def right(self, question: str, **kwargs: Any) -> bool:
        """Ask, and see whether the answer is that of this question."""
        return bool(self(question, **kwargs) == Echo(said=question, more="x" * self._size))

    def _create(self, messages: Any, **_: Any) -> ChatCompletion:
        self.calls += 1
        return completion(messages[-1]["content"], "x" * self._size)

    async def _acreate(self, messages: Any, **_: Any) -> ChatCompletion:
        return self._create(messages)


def completion(said: str, more: str = "") -> ChatCompletion:
    """The echo of a question, as OpenAI's SDK gives it."""
    message = {"role": "assistant", "content": json.dumps({"said": said, "more": more})}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return ChatCompletion.model_validate(
        {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    )
