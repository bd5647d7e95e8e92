"""Recorded traffic: where it lies, a loopback server that plays it back, and pydantic models out of its schemas.

A stream comes back whole; `recut` makes a transport for the SDK's own client that cuts it as a network may.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, create_model

RECORDED = Path(__file__).resolve().parents[2] / "shared" / "recorded"

Exchange = dict[str, Any]


def recorded(file: str, *, stream: bool = False) -> list[Exchange]:
    """The exchanges in a file, those that were streamed or the others."""
    return [exchange for exchange in exchanges_in(file) if exchange["stream"] == stream]


def exchanges_in(file: str) -> list[Exchange]:
    """All exchanges in a file; those that were recorded without an id, a kind or a reading are given theirs."""
    found = json.loads((RECORDED / f"{file}.json").read_text(encoding="utf-8"))
    known = _KNOWN.get(file, lambda exchange, number: exchange)
    return [{**known(each, number), "file": file} for number, each in enumerate(found)]


def files() -> list[str]:
    """The files that hold exchanges, by name."""
    return sorted({path.stem for path in RECORDED.glob("*.json")} - {"messy_json"})  # which is no traffic


def streams_in(apis: Iterable[str]) -> set[str]:
    """The ids of everything that was recorded as a stream in some APIs, whichever file holds it."""
    spoken = set(apis)
    return {each["id"] for file in files() for each in recorded(file, stream=True) if each["api"] in spoken}


def _snapshot(exchange: Exchange, _number: int) -> Exchange:
    """A response of which no request was kept, read here; it is named after the test that it was recorded for."""
    body = exchange["response"]["body"]
    asked = {"input": "hi"} if exchange["api"] == "responses" else {"messages": [{"role": "user", "content": "hi"}]}
    said = _streamed_message(body) if exchange["stream"] else _message(json.loads(body))
    calls = [call["function"] for call in said.get("tool_calls") or ()]
    reading = {
        "text": said.get("content") or "",
        "tool_calls": [{**call, "arguments_parse": True, "valid_against_request_schema": None} for call in calls],
        "refusal": said.get("refusal"),
        "finish": "stop",
        "json_in_text": "whole",
    }
    asked_for = "json_schema" if reading["text"].startswith("{") else "text"
    kind = "refusal" if reading["refusal"] else "tool_call" if calls else asked_for
    return {
        **{name: exchange[name] for name in ("api", "stream", "response")},
        "id": exchange["source"]["test"],
        "kind": kind,
        "reading": reading,
        "request": {"url": "", "body": asked},
    }


def _message(completion: dict[str, Any]) -> dict[str, Any]:
    """The message of a chat completion, or the text of a response."""
    if "choices" in completion:
        return dict(completion["choices"][0]["message"])
    contents = [part for item in completion["output"] for part in item.get("content", ())]
    return {"content": "".join(part.get("text", "") for part in contents)}


def _streamed_message(body: str) -> dict[str, Any]:
    """The message that the chunks of a stream add up to."""
    lines = [line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: {")]
    deltas = [choice["delta"] for line in lines for choice in json.loads(line)["choices"]]
    calls = [call["function"] for delta in deltas for call in delta.get("tool_calls") or ()]
    function = {key: "".join(call.get(key) or "" for call in calls) for key in ("name", "arguments")}
    words = {key: "".join(delta.get(key) or "" for delta in deltas) for key in ("content", "refusal")}
    return {**words, "tool_calls": [{"function": function}] if calls else []}


def _grpc(exchange: Exchange, number: int) -> Exchange:
    """An exchange of xAI's own SDK: a call of the program's tool, or talk."""
    messages = [output["message"] for output in exchange["response_sample"]["json"]["outputs"]]
    ours = [
        call for each in messages for call in each.get("tool_calls", ()) if call["type"].endswith("CLIENT_SIDE_TOOL")
    ]
    kind = "tool_call" if ours else "text"
    return {**exchange, "id": str(number), "api": "grpc", "stream": False, "kind": kind, "ours": ours}


_KNOWN = {"openai_sdk_snapshots": _snapshot, "xai_grpc": _grpc}


@dataclass
class Replay:
    """Answers `{url}/x/<id>/...` with the response recorded under that id, and keeps every request."""

    url: str = ""
    exchanges: dict[str, Exchange] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)

    def at(self, exchange: Exchange) -> str:
        """The base URL of an exchange, from now on."""
        self.exchanges[exchange["id"]] = exchange
        return f"{self.url}/x/{exchange['id']}"


@contextmanager
def replay_server() -> Iterator[Replay]:
    """A running replay, stopped at the end."""
    replay = Replay()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(replay))
    server.daemon_threads = True
    replay.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield replay
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# What belonged to the connection of then, or would be untrue of the body as it was recorded: decoded, in one piece.
_HOP = frozenset({"connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"})


def _handler(replay: Replay) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            replay.requests.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            response = replay.exchanges[self.path.split("/")[2]]["response"]
            body = _body(response)
            self.send_response_only(response["status"])  # without a Date of its own: twice the same is the same
            for name, value in _headers(response).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler


def _body(response: Mapping[str, Any]) -> bytes:
    if "body_base64" in response:
        return base64.b64decode(response["body_base64"])
    return str(response["body"]).encode()


def _headers(response: Mapping[str, Any]) -> dict[str, str]:
    given = {name.lower(): value for name, value in response["headers"].items()}
    kind = "text/event-stream" if str(response.get("body")).startswith("data:") else "application/json"
    return {"content-type": kind} | {name: value for name, value in given.items() if name not in _HOP}


def recut(library: Any, size: int | None, **options: Any) -> Any:
    """A transport for the clients of an HTTP library whose answers arrive in pieces of `size` bytes, None being whole.

    It has the methods of the sync and of the async one. SDKs differ in the library that they are built on: httpx, or
    what came after it.
    """
    pieces = _pieces(library)

    class Recut(library.BaseTransport, library.AsyncBaseTransport):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.sync, self.later = library.HTTPTransport(**options), library.AsyncHTTPTransport(**options)

        def handle_request(self, request: Any) -> Any:
            response = self.sync.handle_request(request)
            response.stream = pieces(response.stream, size)
            return response

        async def handle_async_request(self, request: Any) -> Any:
            response = await self.later.handle_async_request(request)
            response.stream = pieces(response.stream, size)
            return response

        def close(self) -> None:
            self.sync.close()

        async def aclose(self) -> None:
            await self.later.aclose()

    return Recut()


def _pieces(library: Any) -> Any:
    class Pieces(library.SyncByteStream, library.AsyncByteStream):  # type: ignore[misc, name-defined]
        def __init__(self, stream: Any, size: int | None) -> None:
            self.stream, self.size = stream, size

        def _cut(self, body: bytes) -> list[bytes]:
            size = self.size or len(body) or 1
            return [body[start : start + size] for start in range(0, len(body), size)]

        def __iter__(self) -> Iterator[bytes]:
            yield from self._cut(b"".join(self.stream))

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in self._cut(b"".join([part async for part in self.stream])):
                yield piece

        def close(self) -> None:
            self.stream.close()

        async def aclose(self) -> None:
            await self.stream.aclose()

    return Pieces


def model_of(schema: Mapping[str, Any] | None, name: str) -> type[BaseModel]:
    """A model of what a JSON Schema describes; one that takes any object where there is no schema."""
    return _model(schema or {}, (schema or {}).get("$defs", {}), name, {})


_OPEN = ConfigDict(extra="allow", protected_namespaces=())
_PLAIN = {"string": str, "integer": int, "number": float, "boolean": bool, "null": None}

Schema = Mapping[str, Any]


def _model(schema: Schema, defs: Schema, name: str, made: dict[str, Any]) -> type[BaseModel]:
    """The properties under aliases: theirs are names that Python, or pydantic, has other uses for."""
    required = schema.get("required") or ()
    fields: dict[str, Any] = {}
    for number, (key, part) in enumerate((schema.get("properties") or {}).items()):
        kind = _type(part, defs, f"{name}_{key}", made)
        given = (kind, ...) if key in required else (_either(kind, None), None)
        fields[f"f{number}"] = (given[0], Field(given[1], alias=key))
    return create_model(name, __config__=ConfigDict(title=name, **_OPEN), **fields)


def _type(schema: Any, defs: Schema, name: str, made: dict[str, Any]) -> Any:
    """The type that a schema stands for; Any for what this reader does not know."""
    if not isinstance(schema, Mapping):
        return Any
    if "$ref" in schema:
        return _defined(schema["$ref"].rpartition("/")[2], defs, made)
    kind = schema.get("type")
    if isinstance(kind, list):
        return _union([{**schema, "type": one} for one in kind], defs, name, made)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return _union(choices, defs, name, made)
    return _nullable(_single({**schema, "type": str(kind).lower()}, defs, name, made), schema)


def _single(schema: Schema, defs: Schema, name: str, made: dict[str, Any]) -> Any:
    if schema.get("enum"):
        return Literal[tuple(schema["enum"])]
    match schema["type"]:
        case "array":
            return list[_type(schema.get("items"), defs, f"{name}_item", made)]  # type: ignore[misc]
        case "object" if schema.get("properties"):
            return _model(schema, defs, name, made)
        case "object":
            return dict[str, _type(schema.get("additionalProperties"), defs, name, made)]  # type: ignore[misc]
        case kind:
            return _PLAIN.get(kind, Any)


def _nullable(kind: Any, schema: Schema) -> Any:
    return _either(kind, None) if schema.get("nullable") else kind


def _union(schemas: list[Any], defs: Schema, name: str, made: dict[str, Any]) -> Any:
    return _either(*(_type(part, defs, f"{name}_{place}", made) for place, part in enumerate(schemas)))


def _either(*kinds: Any) -> Any:
    return Union[kinds]  # `|` cannot join what is only known here, such as None with None


def _defined(name: str, defs: Schema, made: dict[str, Any]) -> Any:
    if name not in made:
        made[name] = Any  # a schema inside itself is read one level deep
        made[name] = _type(defs.get(name), defs, name, made)
    return made[name]
