"""All caching features, with canned answers: no key, no network, no language model, and done in a second or so.

Questions go through OpenAI's SDK over HTTP to `Canned` below, which runs on this machine, gives the same answer every
time and counts. So every number of calls is real; what they answer is not.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from openai import OpenAI
from pydantic import BaseModel, Field

import instructor
from instructor.cache import AutoCache, BaseCache, DiskCache, make_cache_key, stats


class User(BaseModel):
    """Somebody mentioned in a text."""

    name: str
    age: int


QUESTION = [{"role": "user", "content": "Extract: John is 25"}]


class Canned(ThreadingHTTPServer):
    """Stands in for OpenAI: answers everything with the same user, after the blink of an eye."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), CannedAnswer)
        self.calls = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def client(self, **defaults: Any) -> instructor.Instructor:
        """A new client, as a program makes one when it starts."""
        openai = OpenAI(base_url=f"http://127.0.0.1:{self.server_port}/v1", api_key="canned")
        client: instructor.Instructor = instructor.from_openai(openai, **{"model": "gpt-4o-mini", **defaults})
        return client


class CannedAnswer(BaseHTTPRequestHandler):
    """One request, answered as OpenAI would write it."""

    server: Canned

    def do_POST(self) -> None:
        """Count it, take a moment, and answer."""
        self.server.calls += 1
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        time.sleep(0.02)
        function = {"name": body["tools"][0]["function"]["name"], "arguments": '{"name": "John", "age": 25}'}
        message = {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "function", "function": function}]}
        completion = {
            "id": "canned",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        }
        data = json.dumps(completion).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def memory(canned: Canned) -> None:
    with canned.client(cache=AutoCache(maxsize=100)) as client:
        start = time.perf_counter()
        first = client.create(response_model=User, messages=QUESTION)
        between = time.perf_counter()
        second = client.create(response_model=User, messages=QUESTION)
        end = time.perf_counter()
        assert first == second
        print(f"   first {first!r}, {(between - start) * 1e3:.1f} ms; again {(end - between) * 1e6:.0f} µs")

        client.create(response_model=User, messages=QUESTION, cache=None)
        print("   with cache=None it was asked again")


def disk(canned: Canned) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            with DiskCache(directory=folder) as cache, canned.client(cache=cache) as client:
                client.create(response_model=User, messages=QUESTION)
        print("   two clients, two cache objects, one directory")


def time_to_live(canned: Canned) -> None:
    now = 0.0
    cache = AutoCache(honor_ttl=True, clock=lambda: now)
    with canned.client(cache=cache, cache_ttl=3600) as client:
        for now in (0.0, 3599.0, 3601.0):  # noqa: B007 - the cache's clock reads it
            client.create(response_model=User, messages=QUESTION)
    print("   asked at once, after 3599 s and after 3601 s by the cache's clock: the third was a call")


def completions(canned: Canned) -> None:
    with canned.client(cache=AutoCache()) as client:
        user, completion = client.create_with_completion(response_model=User, messages=QUESTION)
        same_user, same_completion = client.create_with_completion(response_model=User, messages=QUESTION)
    assert (user, completion) == (same_user, same_completion)
    print(f"   {type(same_completion).__name__} of {same_completion.usage.total_tokens} tokens, paid once")


def invalidation(canned: Canned) -> None:
    class Described(BaseModel):
        """Somebody mentioned in a text."""

        name: str = Field(description="first name only")
        age: int

    question = {"response_model": User, "messages": QUESTION}
    changes: list[dict[str, Any]] = [
        {},
        {"messages": [{"role": "user", "content": "Extract: Jane is 30"}]},
        {"model": "gpt-4o"},
        {"temperature": 0.5},
        {"response_model": Described},
    ]
    with canned.client(cache=AutoCache()) as client:
        for change in changes * 2:
            client.create(**{**question, **change})
    print(f"   {len(changes)} different questions, each asked twice")
    key = make_cache_key(messages=QUESTION, model="gpt-4o-mini", response_model=User, mode="TOOLS")
    print(f"   a key is a digest of the whole question: {key[:16]}…")


class Folder(BaseCache):
    """One file for each answer: whatever can keep text under a name is a cache."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def get(self, key: str) -> str | None:
        """The text of that file, if there is one."""
        file = self.path / key
        return file.read_text(encoding="utf-8") if file.exists() else None

    def set(self, key: str, value: str, ttl: int | None = None) -> None:  # noqa: ARG002 - kept for ever
        """Write the file."""
        (self.path / key).write_text(value, encoding="utf-8")


def your_own(canned: Canned) -> None:
    with tempfile.TemporaryDirectory() as path, canned.client(cache=Folder(path)) as client:
        client.create(response_model=User, messages=QUESTION)
        client.create(response_model=User, messages=QUESTION)
        (file,) = Path(path).iterdir()
        print(f"   {file.name[:16]}…: {file.stat().st_size} bytes")


def at_once(canned: Canned) -> None:
    cache = AutoCache()
    with canned.client(cache=cache) as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.create(response_model=User, messages=QUESTION), range(8)))
    assert answers == [User(name="John", age=25)] * 8
    print(f"   eight equal answers; {stats(cache)}")


PARTS = (
    (memory, "AutoCache: in memory, the least recently used answers are forgotten", 2),
    (disk, "DiskCache: the next client, or the next run of the program, finds the answers", 1),
    (time_to_live, "cache_ttl: seconds, or a timedelta; AutoCache heeds it only with honor_ttl=True", 2),
    (completions, "create_with_completion: the answer and the completion, the second time both from the cache", 1),
    (invalidation, "Another prompt, model, parameter or schema is another question", 5),
    (your_own, "A cache of your own: two methods, text in and text out", 1),
    (at_once, "Eight threads that ask the same question at the same time", 1),
)
"""What is shown, in words, and how many calls it may take."""


def main() -> None:
    print("Every answer below is canned: it comes from a stand-in for OpenAI on this machine.\n")
    with Canned() as canned:
        for number, (show, title, expected) in enumerate(PARTS, 1):
            before = canned.calls
            print(f"{number}. {title}")
            show(canned)
            calls = canned.calls - before
            print(f"   calls: {calls}\n")
            assert calls == expected, f"{calls} calls instead of {expected}"
        canned.shutdown()


if __name__ == "__main__":
    main()
