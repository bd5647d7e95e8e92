"""AWS Bedrock's converse, as boto3 speaks it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ..messages import split_system
from ..mode import Mode
from ..schema import ANTHROPIC, fit
from ..shape import Shape
from ..threads import in_thread, stream_in_thread
from .base import CALLED, MODES, Call, Ear, Finish, Reply, as_json, call, get, items, listed, together, tool
from .pieces import fold, heard, overlaid, payload, without
from .prompts import in_words, mend

name = "bedrock"
version = 1
modes = MODES


def ask(kwargs: Mapping[str, Any], shape: Shape | None, mode: Mode) -> dict[str, Any]:
    """Name the shape as a tool, as the text's format, or in the system's words."""
    asked = _native(kwargs)
    if shape is None:
        return asked
    if mode in CALLED:
        return _called(asked, shape, mode)
    # Source: Amazon Bedrock user guide, "Structured output": the subset is Anthropic's.
    exact = fit(shape.schema, ANTHROPIC) if mode is Mode.JSON_SCHEMA else None
    if exact is None:
        return _tell(asked, in_words(shape.schema, mode))
    described = {"name": shape.name, "description": shape.description, "schema": json.dumps(exact, ensure_ascii=False)}
    text = {"type": "json_schema", "structure": {"jsonSchema": described}}
    return {**asked, "outputConfig": {**(asked.get("outputConfig") or {}), "textFormat": text}}


_LIMITS = dict.fromkeys(("max_tokens", "max_completion_tokens"), "maxTokens")
_INFERENCE = {**_LIMITS, "temperature": "temperature", "top_p": "topP", "stop": "stopSequences"}
_MOVED = {"model", "messages", "system", "inferenceConfig", "timeout", *_INFERENCE}


def _native(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The question in converse's own words, where the user put it in OpenAI's; boto3 takes its timeouts elsewhere."""
    words, rest = split_system(kwargs.get("messages") or [])
    asked = {key: value for key, value in kwargs.items() if key not in _MOVED and value is not None}
    said = {_INFERENCE[key]: value for key, value in kwargs.items() if key in _INFERENCE and value is not None}
    if "stopSequences" in said:
        said["stopSequences"] = listed(said["stopSequences"])
    if inference := {**said, **(kwargs.get("inferenceConfig") or {})}:
        asked["inferenceConfig"] = inference
    if kwargs.get("model"):
        asked["modelId"] = kwargs["model"]
    return _tell({**asked, "messages": _folded(map(_message, rest))}, [kwargs.get("system"), *words])


def _tell(kwargs: dict[str, Any], words: list[Any]) -> dict[str, Any]:
    """The question with `words` after those of its `system`."""
    told = [*kwargs.get("system", ()), *(block for content in words for block in _blocks(content))]
    return {**kwargs, "system": told} if told else kwargs


def _blocks(content: Any) -> list[Any]:
    """What is said in a content, as blocks."""
    return [block for block in map(_block, listed(content)) if not _is_blank(block)]


def _block(part: Any) -> Any:
    """A part of a message as a block, which it may be already."""
    if isinstance(part, str):
        return {"text": part}
    return {"text": part.get("text") or ""} if get(part, "type") == "text" else part


def _message(message: Any) -> Any:
    """A message as converse has it, what tools say being the user's."""
    if not isinstance(message, dict):
        return message
    blocks = _blocks(message.get("content"))
    if message.get("role") == "tool":
        result = {"toolUseId": message.get("tool_call_id"), "content": blocks}
        return {"role": "user", "content": [{"toolResult": result}]}
    return {"role": message.get("role"), "content": [*blocks, *map(_used, items(message, "tool_calls"))]}


def _used(made: Any) -> Any:
    function = get(made, "function")
    given = _parsed(as_json(get(function, "arguments") or {}))
    return _repeated({"toolUse": {"toolUseId": get(made, "id"), "name": get(function, "name"), "input": given}})


def _parsed(text: str) -> Any:
    """What arguments came to; what is no JSON stays text, which no model takes."""
    with suppress(ValueError, RecursionError):
        return json.loads(text)
    return text


def _is_blank(block: Any) -> bool:
    """Whether it is a text without words, which the API refuses."""
    return isinstance(block, dict) and not str(block.get("text", "-") or "").strip()


def _folded(messages: Any) -> list[Any]:
    """The messages, of which the roles take turns: the results of several calls are one message."""
    folded: list[Any] = []
    for message in messages:
        if folded and get(folded[-1], "role") == get(message, "role") is not None:
            folded[-1] = {**folded[-1], "content": [*folded[-1]["content"], *message["content"]]}
        else:
            folded.append(message)
    return folded


def _called(kwargs: dict[str, Any], shape: Shape, mode: Mode) -> dict[str, Any]:
    specs = [tool(each, "json", ANTHROPIC, mode) for each in shape.tools or (shape,)]
    tools = [{"toolSpec": {**without(spec, "json"), "inputSchema": {"json": spec["json"]}}} for spec in specs]
    thinking = get(get(kwargs.get("additionalModelRequestFields"), "thinking"), "type") not in {None, "", "disabled"}
    if thinking and not shape.tools:  # no tool is forced on a model that thinks
        kwargs = _tell(kwargs, [f"Answer by calling the tool `{shape.name}` once, and with nothing else."])
    choice: dict[str, Any] = {"auto": {}} if shape.tools or thinking else {"tool": {"name": shape.name}}
    return {**kwargs, "toolConfig": {"tools": tools, "toolChoice": choice}}


_CUT: dict[str, Finish] = dict.fromkeys(("max_tokens", "model_context_window_exceeded"), "length")
_FINISH: dict[str, Finish] = {**_CUT, **dict.fromkeys(("guardrail_intervened", "content_filtered"), "refusal")}


def read(completion: Any) -> Reply:
    """The text blocks as one text, and the tools used; what a guardrail puts in an answer's place is its refusal."""
    blocks = items(get(get(completion, "output"), "message"), "content")
    text = together(get(block, "text") for block in blocks)
    reason = str(get(completion, "stopReason"))
    finish = _FINISH.get(reason, "stop")
    refusal = (f"{text} ({reason})" if text else reason) if finish == "refusal" else None
    return Reply(text, tuple(map(_call, filter(_is_ours, blocks))), finish, refusal, get(completion, "usage"))


def _is_ours(block: Any) -> bool:
    """Whether it calls a tool that is not the server's own."""
    return get(block, "toolUse") is not None and get(get(block, "toolUse"), "type") != "server_tool_use"


def _call(block: Any) -> Call:
    return call(get(get(block, "toolUse"), "toolUseId"), get(block, "toolUse"), "input")


def reask(kwargs: Mapping[str, Any], completion: Any, reply: Reply, problem: Exception, mode: Mode) -> dict[str, Any]:
    """Give the model its own blocks back, and answer each tool use with the error."""
    said = items(get(get(completion, "output"), "message"), "content")
    blocks = [_repeated(block) for block in said if not _is_blank(block)]
    error = [{"text": mend(problem, mode)}]
    failed = {"content": error, "status": "error"}
    answer = [{"toolResult": {"toolUseId": made.id, **failed}} for made in reply.calls] or error
    added = [{"role": "assistant", "content": blocks}] if blocks else []
    return {**kwargs, "messages": _folded([*kwargs["messages"], *added, {"role": "user", "content": answer}])}


def _repeated(block: Any) -> Any:
    """A block as the API takes it back: an input must be an object."""
    used = get(block, "toolUse")
    if not isinstance(get(used, "input"), str):
        return block
    return {"toolUse": {**used, "input": {"INVALID_JSON": used["input"]}}}


class Listener(Ear):
    """Hears events, each of which says in its only key what it is. Reasoning is kept, and nobody's answer."""

    def hear(self, event: Any) -> str:
        """The text that an event adds."""
        for kind, said in heard(event, name).items():
            if kind == "messageStop":
                self.ended = True
            if kind.startswith("contentBlock"):
                return self._hear(kind, said)
            self.said = overlaid(self.said, said)
        return ""

    def _hear(self, kind: str, said: dict[str, Any]) -> str:
        pieces = self.parts.setdefault(said.get("contentBlockIndex"), [])
        piece = said.get("start") or said.get("delta") or {}
        pieces.append(piece)
        if pieces is not next((each for each in self.parts.values() if _is_ours(each[0])), None):
            return payload(self.mode, "", piece.get("text") or "")
        whole = kind == "contentBlockStop" and not any(_input(each) for each in pieces)
        return payload(self.mode, "{}" if whole else _input(piece), "")

    def data(self) -> dict[str, Any]:
        """A completion, without what boto3 says of its HTTP response."""
        content = [_whole(fold(pieces)) for pieces in self.parts.values()]
        message = {"role": self.said.get("role", "assistant"), "content": content}
        return {"output": {"message": message}, **without(self.said, "role")}


def _input(piece: Any) -> str:
    return as_json(get(get(piece, "toolUse"), "input") or "")


def _whole(block: dict[str, Any]) -> dict[str, Any]:
    """A block as it is in a completion that came whole."""
    if "toolUse" in block:
        return {"toolUse": {**block["toolUse"], "input": _parsed(block["toolUse"].get("input") or "{}")}}
    thought = block.get("reasoningContent")
    return {"reasoningContent": {"reasoningText": thought}} if thought and "redactedContent" not in thought else block


# How boto3's client is asked.


def converse(client: Any) -> Callable[..., Any]:
    """The SDK's function, from an event loop: boto3 has no asynchronous one."""
    return in_thread(client.converse)


def events(client: Any) -> Callable[..., Any]:
    """The function that gives a stream of events."""
    return lambda **kwargs: client.converse_stream(**kwargs)["stream"]


def events_async(client: Any) -> Callable[..., Any]:
    """The same, from an event loop."""
    return stream_in_thread(events(client))
