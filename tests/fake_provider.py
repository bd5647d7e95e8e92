"""A provider on loopback: answers in the wire format it is asked in, counts the calls, and keeps every request."""

from __future__ import annotations

import json
import select
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from typing import Any

from fake_streams import AWS_EVENTS, streamed

JOHN = '{"name": "John", "age": 25}'


@dataclass
class Say:
    """One answer: the payload as text, or several tool calls; why the model stopped; what goes wrong on the way.

    A stream ends after so many `events`, where it has more. `usage` is what it cost, in the API's own words.
    """

    payload: str = JOHN
    called: list[tuple[str, str]] | None = None
    finish: str = "stop"
    status: int = 200
    refusal: str | None = None
    prose: bool = False
    body: bytes | None = None
    cut: bool = False
    events: int | None = None
    usage: dict[str, Any] | None = None


@dataclass
class FakeProvider:
    """Gives `answers` in turn, the last one for ever; waits for `gate` before each, when there is one.

    Before each event of a stream it waits for `pace`; `sent` counts them, `gone` says that a client hung up.
    """

    url: str = ""
    answers: deque[Say] = field(default_factory=lambda: deque([Say()]))
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    gate: threading.Event | None = None
    pace: threading.Semaphore | None = None
    sent: int = 0
    gone: threading.Event = field(default_factory=threading.Event)
    keep_alive: bool = False
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def calls(self) -> int:
        """How many requests came."""
        return len(self.requests)

    def say(self, *answers: Say | str) -> None:
        """What to answer from now on."""
        self.answers = deque(Say(answer) if isinstance(answer, str) else answer for answer in answers)

    def take(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> Say:
        """Note a request, and pick its answer."""
        with self._lock:
            self.requests.append(body)
            self.headers.append(headers)
            self.paths.append(path)
            answer = self.answers[0] if len(self.answers) == 1 else self.answers.popleft()
        self.arrived.release()
        if self.gate is not None:
            self.gate.wait(20)
        return answer


def wire(path: str, body: dict[str, Any], say: Say) -> dict[str, Any]:
    """The answer as the API at `path` writes it."""
    if "enerateContent" in path:  # also streamGenerateContent
        return _google(body, say) | ({"usageMetadata": say.usage} if say.usage else {})
    write = _anthropic if path.endswith("/messages") else _openai
    if path.partition("?")[0].endswith("/responses"):
        write = _responses
    elif path.endswith("/v2/chat"):
        write = _cohere
    elif path.startswith("/mistral"):
        write = _mistral
    elif "/converse" in path:
        write = _converse
    return write(body, say) | ({"usage": say.usage} if say.usage else {})


def _openai(body: dict[str, Any], say: Say) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": say.payload}
    finish = say.finish
    if body.get("tools") and not say.prose:
        called = say.called or [(body["tools"][0]["function"]["name"], say.payload)]
        functions = [{"name": name, "arguments": arguments} for name, arguments in called]
        calls = [{"id": f"call_{n}", "type": "function", "function": each} for n, each in enumerate(functions, 1)]
        message |= {"content": None, "tool_calls": calls}
        finish = "tool_calls" if finish == "stop" else finish
    if say.refusal:
        message["refusal"] = say.refusal
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


def _responses(body: dict[str, Any], say: Say) -> dict[str, Any]:
    part = {"type": "output_text", "text": say.payload, "annotations": []}
    if say.refusal:
        part = {"type": "refusal", "refusal": say.refusal}
    output: dict[str, Any] = {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]}
    if body.get("tools") and not say.prose and not say.refusal:
        called = {"name": body["tools"][-1].get("name"), "arguments": say.payload}
        output = {"type": "function_call", "id": "fc_1", "call_id": "call_1", **called}
    reason = {"length": "max_output_tokens"}.get(say.finish, say.finish)
    status = "completed" if say.finish == "stop" else "incomplete"
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1700000000,
        "model": body["model"],
        "status": status,
        "incomplete_details": None if say.finish == "stop" else {"reason": reason},
        "output": [{**output, "status": status}],
        "parallel_tool_calls": True,
        **{key: body[key] for key in ("text", "tools", "tool_choice") if key in body},
        "usage": {
            "input_tokens": 10,
            "input_tokens_details": {"cached_tokens": 2},
            "output_tokens": 5,
            "output_tokens_details": {"reasoning_tokens": 1},
            "total_tokens": 15,
        },
    }


def _mistral(body: dict[str, Any], say: Say) -> dict[str, Any]:
    """What OpenAI would say, from an API that has no place for a refusal."""
    said = _openai(body, say)
    if said["choices"][0]["message"].pop("refusal", None):
        said["choices"][0]["finish_reason"] = "content_filter"
    return said


_COHERE_FINISH = {
    "stop": "COMPLETE",
    "tool_calls": "TOOL_CALL",
    "length": "MAX_TOKENS",
    "content_filter": "ERROR_TOXIC",
}


def _cohere(body: dict[str, Any], say: Say) -> dict[str, Any]:
    """What OpenAI would say, in Cohere's words."""
    choice = _openai(body, say)["choices"][0]
    message = {"role": "assistant", **choice["message"]}
    refusal = message.pop("refusal", None)
    if (text := message.pop("content")) is not None:
        message["content"] = [{"type": "text", "text": refusal or text}]
    tokens = {"input_tokens": 10, "output_tokens": 5}
    return {
        "id": "c1",
        "finish_reason": "ERROR_TOXIC" if refusal else _COHERE_FINISH[choice["finish_reason"]],
        "message": message,
        "usage": {"billed_units": tokens, "tokens": tokens},
    }


_ANTHROPIC_FINISH = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}


def _anthropic(body: dict[str, Any], say: Say) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": say.payload}]
    finish = "refusal" if say.refusal else _ANTHROPIC_FINISH[say.finish]
    if body.get("tools") and not say.prose:
        called = [(name, _parsed(text)) for name, text in say.called or [(body["tools"][0]["name"], say.payload)]]
        content = [{"type": "tool_use", "id": f"tu_{n}", "name": m, "input": i} for n, (m, i) in enumerate(called, 1)]
        finish = "tool_use" if finish == "end_turn" else finish
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": content,
        "stop_reason": finish,
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }


_CONVERSE_FINISH = {"stop": "end_turn", "length": "max_tokens", "content_filter": "content_filtered"}


def _converse(body: dict[str, Any], say: Say) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"text": say.refusal or say.payload}]
    finish = "guardrail_intervened" if say.refusal else _CONVERSE_FINISH[say.finish]
    if body.get("toolConfig") and not say.prose and not say.refusal:
        called = say.called or [(body["toolConfig"]["tools"][0]["toolSpec"]["name"], say.payload)]
        used = [{"name": name, "input": _parsed(text)} for name, text in called]
        content = [{"toolUse": {"toolUseId": f"tu_{n}", **each}} for n, each in enumerate(used, 1)]
        finish = "tool_use" if finish == "end_turn" else finish
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": finish,
        "usage": {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15},
        "metrics": {"latencyMs": 1},
    }


_GOOGLE_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}


def _google(body: dict[str, Any], say: Say) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"text": say.payload}]
    if body.get("tools") and not say.prose:
        called = say.called or [(body["tools"][0]["functionDeclarations"][0]["name"], say.payload)]
        parts = [{"functionCall": {"name": name, "args": _parsed(text)}} for name, text in called]
    finish = "SAFETY" if say.refusal else _GOOGLE_FINISH[say.finish]
    return {
        "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": finish, "index": 0}],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15},
        "modelVersion": "m",
        "responseId": "r1",
    }


def _parsed(payload: str) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return {"broken": payload}


@contextmanager
def fake_provider() -> Iterator[FakeProvider]:
    """A running provider, stopped at the end."""
    fake = FakeProvider()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake))
    server.daemon_threads = True
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield fake
    finally:
        if fake.gate is not None:
            fake.gate.set()
        fake.pace = None
        server.shutdown()
        server.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    """Answers for a fake provider."""

    fake: FakeProvider
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        say = self.fake.take(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        try:
            self._say(say, body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client went away
            self.fake.gone.set()

    def _say(self, say: Say, body: dict[str, Any]) -> None:
        if say.body is not None:
            self._answer(say, say.body)
        elif say.status != 200:
            self._answer(say, b'{"error": {"message": "as told", "type": "test"}}')
        elif body.get("stream") or ":stream" in self.path or "/converse-stream" in self.path:
            self._stream(islice(streamed(self.path, body, wire(self.path, body, say)), say.events))
        else:
            self._answer(say, json.dumps(wire(self.path, body, say)).encode())

    def _stream(self, events: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if "/converse" not in self.path else AWS_EVENTS)
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        for event in events:
            if self.fake.pace is not None:
                self._wait(self.fake.pace)
            self.wfile.write(event)
            self.fake.sent += 1

    def _wait(self, pace: threading.Semaphore) -> None:
        """Wait for the next event's turn, or until the client is gone."""
        for _ in range(2000):
            if pace.acquire(timeout=0.01):
                return
            if select.select([self.connection], [], [], 0)[0]:
                raise ConnectionResetError

    def _answer(self, say: Say, data: bytes) -> None:
        self.send_response(say.status)
        self.send_header("content-type", "application/json")
        self.send_header("x-request-id", "req_1")
        self.send_header("content-length", str(len(data)))
        if not self.fake.keep_alive:  # an event loop that ends must not leave connections behind
            self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if say.cut else data)
        if say.cut:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _handler(fake: FakeProvider) -> type[BaseHTTPRequestHandler]:
    return type("Answering", (Handler,), {"fake": fake})
