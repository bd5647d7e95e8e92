"""What the fake provider says when it is asked for a stream: server-sent events, in the format of each API."""

from __future__ import annotations

import binascii
import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

PIECE = 7
"""Characters in each delta."""


def streamed(path: str, body: dict[str, Any], whole: dict[str, Any]) -> Iterator[bytes]:
    """The events of a stream that says what the unstreamed answer `whole` says."""
    if "/converse" in path:
        yield from (framed(kind, said) for kind, said in _converse(whole))
        return
    for event in _spoken(path)(whole):
        name = f"event: {event['type']}\n" if "type" in event else ""
        yield f"{name}data: {json.dumps(event)}\n\n".encode()
    if path.endswith("/chat/completions"):
        yield b"data: [DONE]\n\n"


def _spoken(path: str) -> Callable[[dict[str, Any]], Iterator[dict[str, Any]]]:
    if path.startswith("/mistral"):
        return _mistral
    ends = {"/messages": _anthropic, "/responses": _responses, "/v2/chat": _cohere}
    told = (speak for end, speak in ends.items() if path.partition("?")[0].endswith(end))
    return _google if "GenerateContent" in path else next(told, _openai)


def cut(text: str) -> list[str]:
    """The text in pieces."""
    return [text[start : start + PIECE] for start in range(0, len(text), PIECE)]


def _openai(whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    chunk = {**whole, "object": "chat.completion.chunk"}
    usage, choice = chunk.pop("usage"), whole["choices"][0]
    message = choice["message"]

    def said(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}]}

    yield said({"role": "assistant", "content": None})
    for number, call in enumerate(message.get("tool_calls") or ()):
        named = {**call["function"], "arguments": ""}
        yield said({"tool_calls": [{**call, "index": number, "function": named}]})
        for piece in cut(call["function"]["arguments"]):
            yield said({"tool_calls": [{"index": number, "function": {"arguments": piece}}]})
    for name in ("content", "refusal"):
        yield from (said({name: piece}) for piece in cut(message.get(name) or ""))
    yield said({}, choice["finish_reason"])
    yield {**chunk, "choices": [], "usage": usage}


def _mistral(whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """As OpenAI's, but that calls come whole."""
    message = whole["choices"][0]["message"]
    for event in _openai({**whole, "choices": [{**whole["choices"][0], "message": {**message, "tool_calls": ()}}]}):
        yield event
        if message.get("tool_calls"):
            calls = [{**call, "index": number} for number, call in enumerate(message.pop("tool_calls"))]
            yield {**event, "choices": [{"index": 0, "delta": {"tool_calls": calls}, "finish_reason": None}]}


def _anthropic(whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    started = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
    yield {"type": "message_start", "message": started}
    for number, block in enumerate(whole["content"]):
        told = json.dumps(block["input"], separators=(",", ":")) if "input" in block else block["text"]
        empty = {**block, "input": {}} if "input" in block else {**block, "text": ""}
        yield {"type": "content_block_start", "index": number, "content_block": empty}
        for piece in cut(told):
            text = {"type": "text_delta", "text": piece}
            delta = {"type": "input_json_delta", "partial_json": piece} if "input" in block else text
            yield {"type": "content_block_delta", "index": number, "delta": delta}
        yield {"type": "content_block_stop", "index": number}
    stop = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": stop, "usage": {"output_tokens": whole["usage"]["output_tokens"]}}
    yield {"type": "message_stop"}


def _cohere(whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"type": "message-start", "id": whole["id"], "delta": {"message": {"role": "assistant", "tool_calls": []}}}
    for number, part in enumerate(whole["message"].get("content") or ()):
        yield {"type": "content-start", "index": number, "delta": {"message": {"content": {**part, "text": ""}}}}
        for piece in cut(part["text"]):
            yield {"type": "content-delta", "index": number, "delta": {"message": {"content": {"text": piece}}}}
        yield {"type": "content-end", "index": number}
    for number, call in enumerate(whole["message"].get("tool_calls") or ()):
        named = {**call, "function": {**call["function"], "arguments": ""}}
        yield {"type": "tool-call-start", "index": number, "delta": {"message": {"tool_calls": named}}}
        for piece in cut(call["function"]["arguments"]):
            calls = {"function": {"arguments": piece}}
            yield {"type": "tool-call-delta", "index": number, "delta": {"message": {"tool_calls": calls}}}
        yield {"type": "tool-call-end", "index": number}
    yield {"type": "message-end", "delta": {"finish_reason": whole["finish_reason"], "usage": whole["usage"]}}


def _google(whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    candidate = whole["candidates"][0]
    for part in candidate["content"]["parts"]:
        parts = [{"text": piece} for piece in cut(part["text"])] if "text" in part else [part]
        for each in parts:
            content = {"role": "model", "parts": [each]}
            yield {**whole, "candidates": [{"content": content, "index": 0}]}
    empty = {"content": {"role": "model", "parts": [{"text": ""}]}, "finishReason": candidate["finishReason"]}
    yield {**whole, "candidates": [{**empty, "index": 0}]}


def _responses(whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for number, (kind, fields) in enumerate(_told(whole)):
        yield {"type": f"response.{kind}", **fields, "sequence_number": number}


def _told(whole: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    begun = {"response": {**whole, "status": "in_progress", "incomplete_details": None, "output": [], "usage": None}}
    yield "created", begun
    yield "in_progress", begun
    for number, item in enumerate(whole["output"]):
        at = {"item_id": item["id"], "output_index": number}
        empty = {"arguments": ""} if "arguments" in item else {"content": []}
        yield "output_item.added", {"item": {**item, **empty, "status": "in_progress"}, "output_index": number}
        if "arguments" in item:
            yield from _grown("function_call_arguments", item, "arguments", at)
        for place, part in enumerate(item.get("content", ())):
            yield from _part(part, {**at, "content_index": place})
        yield "output_item.done", {"item": item, "output_index": number}
    yield whole["status"], {"response": whole}


def _part(part: dict[str, Any], at: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    key = "text" if "text" in part else "refusal"
    yield "content_part.added", {**at, "part": {**part, key: ""}}
    yield from _grown(part["type"], part, key, {**at, **({"logprobs": []} if key == "text" else {})})
    yield "content_part.done", {**at, "part": part}


def _grown(kind: str, told: dict[str, Any], key: str, at: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for piece in cut(told[key]):
        yield f"{kind}.delta", {**at, "delta": piece}
    yield f"{kind}.done", {**at, key: told[key], **({"name": told["name"]} if "name" in told else {})}


AWS_EVENTS = "application/vnd.amazon.eventstream"


def framed(kind: str, said: dict[str, Any]) -> bytes:
    """An event in AWS's binary framing: lengths, their checksum, headers, JSON, and the checksum of it all."""
    named = {":message-type": "event", ":event-type": kind, ":content-type": "application/json"}
    headers = b"".join(_header(name, value) for name, value in named.items())
    data = json.dumps(said).encode()
    frame = _summed(struct.pack(">II", 16 + len(headers) + len(data), len(headers)))
    return _summed(frame + headers + data)


def _header(name: str, value: str) -> bytes:
    return bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()


def _summed(data: bytes) -> bytes:
    return data + struct.pack(">I", binascii.crc32(data))


def _converse(whole: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    message = whole["output"]["message"]
    yield "messageStart", {"role": message["role"]}
    for number, block in enumerate(message["content"]):
        at, used = {"contentBlockIndex": number}, block.get("toolUse")
        if used:
            yield "contentBlockStart", {**at, "start": {"toolUse": {k: used[k] for k in ("toolUseId", "name")}}}
        for piece in cut(json.dumps(used["input"], separators=(",", ":")) if used else block["text"]):
            yield "contentBlockDelta", {**at, "delta": {"toolUse": {"input": piece}} if used else {"text": piece}}
        yield "contentBlockStop", at
    yield "messageStop", {"stopReason": whole["stopReason"]}
    yield "metadata", {"usage": whole["usage"], "metrics": whole["metrics"]}
