"""Anthropic's provider: its answers are cached like all others, and never mixed with another provider's.

With ANTHROPIC_API_KEY the real API is asked; without, a stand-in on this machine with canned answers that speaks
Anthropic's wire format, and OpenAI's. `python test_anthropic.py`, or pytest.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from anthropic.types import Message
from pydantic import BaseModel

from instructor import AsyncInstructor, Instructor, from_provider
from instructor.cache import AutoCache, BaseCache, DiskCache

IS_REAL = "ANTHROPIC_API_KEY" in os.environ
MODEL = f"anthropic/{os.environ.get('ANTHROPIC_MODEL', 'claude-haiku-4-5')}"
QUESTION = [{"role": "user", "content": "Extract: John is 25"}]


class User(BaseModel):
    """Somebody mentioned in a text."""

    name: str
    age: int


JOHN = User(name="John", age=25)


class CannedAnswer(BaseHTTPRequestHandler):
    """One request, answered with the same user as the API at that path would write it."""

    def do_POST(self) -> None:
        """Answer at once."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        write = as_anthropic if self.path.endswith("/messages") else as_openai
        data = json.dumps({"model": body["model"], **write(body["tools"][0])}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def as_anthropic(tool: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "msg_canned",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "toolu_1", "name": tool["name"], "input": JOHN.model_dump()}],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }


def as_openai(tool: dict[str, Any]) -> dict[str, Any]:
    function = {"name": tool["function"]["name"], "arguments": JOHN.model_dump_json()}
    message = {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": function}]}
    return {
        "id": "chatcmpl-canned",
        "object": "chat.completion",
        "created": 0,
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


@contextmanager
def canned() -> Iterator[str]:
    """The address of a stand-in for both providers."""
    with ThreadingHTTPServer(("127.0.0.1", 0), CannedAnswer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def place() -> Iterator[dict[str, Any]]:
    """Where Anthropic is: nothing to add when it is the real one."""
    if IS_REAL:
        yield {}
        return
    with canned() as url:
        yield {"base_url": url, "api_key": "canned"}


def counted(client: Instructor | AsyncInstructor) -> list[Any]:
    """A list that grows with every request that a client sends."""
    requests: list[Any] = []
    client.on("completion:kwargs", lambda **request: requests.append(request))
    return requests


def connect(cache: BaseCache, where: dict[str, Any], *, async_client: bool = False) -> Any:
    return from_provider(MODEL, async_client=async_client, cache=cache, **where)


def test_the_second_answer_comes_from_the_cache() -> None:
    """The same object twice, one call; with `cache=None` it is asked again."""
    with place() as where, connect(AutoCache(maxsize=100), where) as client:
        requests = counted(client)
        answers = [client.create(response_model=User, messages=QUESTION) for _ in range(2)]

        assert answers == [JOHN, JOHN]
        assert len(requests) == 1

        client.create(response_model=User, messages=QUESTION, cache=None)

        assert len(requests) == 2


def test_the_completion_is_anthropics_own() -> None:
    """`create_with_completion` gives a `Message` from the cache too, equal to the first."""
    with place() as where, connect(AutoCache(), where) as client:
        (user, message), (same, again) = (
            client.create_with_completion(response_model=User, messages=QUESTION) for _ in range(2)
        )

    assert (user, message) == (same, again)
    assert isinstance(again, Message)


def test_another_client_finds_it_on_disk() -> None:
    """What a client with `await` stored, a plain one reads from the same directory."""

    async def ask(cache: BaseCache, where: dict[str, Any]) -> Any:
        async with connect(cache, where, async_client=True) as client:
            return await client.create(response_model=User, messages=QUESTION)

    with place() as where, tempfile.TemporaryDirectory() as folder:
        with DiskCache(directory=folder) as cache:
            first = asyncio.run(ask(cache, where))
        with DiskCache(directory=folder) as cache, connect(cache, where) as client:
            requests = counted(client)
            second = client.create(response_model=User, messages=QUESTION)

    assert first == second
    assert requests == []


def test_providers_share_a_cache_but_no_answers() -> None:
    """The same question to another provider is another question: each is asked once. OpenAI's part is always canned."""
    cache = AutoCache()
    with place() as where, canned() as url, connect(cache, where) as anthropic:
        openai = from_provider("openai/gpt-4o-mini", cache=cache, base_url=f"{url}/v1", api_key="canned")
        requests = [counted(anthropic), counted(openai)]
        for client in (anthropic, openai) * 2:
            client.create(response_model=User, messages=QUESTION)
        openai.close()

    assert [len(sent) for sent in requests] == [1, 1]


def main() -> None:
    print("Asking Anthropic." if IS_REAL else "No ANTHROPIC_API_KEY: the answers are canned.")
    tests = [value for name, value in globals().items() if name.startswith("test_")]
    for test in tests:
        test()
        print(f"ok  {test.__name__}")
    print(f"{len(tests)} passed")


if __name__ == "__main__":
    main()
