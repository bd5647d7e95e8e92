"""xAI through its gRPC SDK: asked over loopback in every mode, read, asked again, streamed, remembered."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from pydantic import BaseModel, ValidationError
from replay import RECORDED, exchanges_in, model_of
from xai_sdk import AsyncClient, Client
from xai_sdk.chat import Chunk, Response, chat_pb2

import instructor
from instructor import AsyncInstructor, Instructor, Mode
from instructor.cache import AutoCache, stats
from instructor.exceptions import ConfigurationError, IncompleteOutputException, InstructorRetryException

HI = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]
STOP, LENGTH = 3, 1
MODES = [Mode.TOOLS, Mode.TOOLS_STRICT, Mode.JSON, Mode.JSON_SCHEMA, Mode.MD_JSON]
sync_and_async = pytest.mark.parametrize("awaits", [False, True], ids=["sync", "async"])
every_mode = pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)


class User(BaseModel):
    """A person."""

    name: str
    age: int


ANN = User(name="Ann", age=3)


class XAI(grpc.GenericRpcHandler):
    """Answers `said` in turn, the last for ever: a payload, a whole response, or a status; keeps every request."""

    def __init__(self) -> None:
        self.said: list[Any] = [ANN.model_dump_json()]
        self.finish = STOP
        self.requests: list[Any] = []
        self.keys: list[str] = []
        self.address = ""

    def service(self, details: Any) -> Any:
        self.keys.append(dict(details.invocation_metadata)["authorization"])
        if details.method.endswith("GetCompletionChunk"):
            return grpc.unary_stream_rpc_method_handler(self._stream, chat_pb2.GetCompletionsRequest.FromString)
        return grpc.unary_unary_rpc_method_handler(self._whole, chat_pb2.GetCompletionsRequest.FromString)

    def _answer(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        said = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        if isinstance(said, grpc.StatusCode):
            context.abort(said, "as told")
        if not isinstance(said, str):
            return said
        called = [_call(tool.function.name, said) for tool in request.tools]
        message = {"role": 2, **({"tool_calls": called} if called else {"content": said})}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        output = {"finish_reason": self.finish, "message": message}
        return chat_pb2.GetChatCompletionResponse(id="r", model=request.model, outputs=[output], usage=usage)

    def _whole(self, request: Any, context: Any) -> bytes:
        answer = self._answer(request, context)
        return answer if isinstance(answer, bytes) else answer.SerializeToString()

    def _stream(self, request: Any, context: Any) -> Iterator[bytes]:
        answer = self._answer(request, context)
        (output,) = answer.outputs
        deltas = [{"role": 2}, *({"role": 2, "content": each} for each in output.message.content)]
        deltas += [{"role": 2, "tool_calls": [call]} for call in output.message.tool_calls]
        for delta in deltas:
            yield _chunk(answer, {"delta": delta})
        yield _chunk(answer, {"delta": {"role": 2}, "finish_reason": output.finish_reason}, usage=answer.usage)


def _call(name: str, arguments: str) -> dict[str, Any]:
    return {"id": f"call_{name}", "type": 1, "function": {"name": name, "arguments": arguments}}


def _chunk(answer: Any, output: dict[str, Any], **more: Any) -> bytes:
    made = chat_pb2.GetChatCompletionChunk(id=answer.id, model=answer.model, outputs=[output], **more)
    return bytes(made.SerializeToString())


@pytest.fixture
def xai():
    """A running server."""
    server, handler = grpc.server(ThreadPoolExecutor(4)), XAI()
    server.add_generic_rpc_handlers([handler])
    handler.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield handler
    server.stop(None).wait()


def ask(xai: XAI, method: str, *, awaits: bool = False, mode: Mode = Mode.TOOLS, **question: Any) -> Any:
    """What a client gives, asked with a client of its own; the items of a stream as a list."""
    options = {"api_key": "k", "api_host": xai.address, "use_insecure_channel": True}
    question = {"model": "m", "messages": HI, **question}
    if not awaits:
        with instructor.from_xai(Client(**options), mode) as client:
            return _listed(getattr(client, method)(**question))

    async def main():
        async with instructor.from_provider("xai/m", True, mode=mode, **options) as client:
            given = getattr(client, method)(**question)
            given = given if hasattr(given, "__aiter__") else await given
            return [each async for each in given] if hasattr(given, "__aiter__") else given

    return asyncio.run(main())


def _listed(given: Any) -> Any:
    return list(given) if hasattr(given, "__next__") else given


@every_mode
@sync_and_async
def test_answers_are_read_and_remembered(xai, mode, awaits):
    """In every mode, with the SDK's own completion, whose second coming costs nothing."""
    cache = AutoCache()
    question = {"mode": mode, "awaits": awaits, "response_model": User, "cache": cache, "cache_namespace": "n"}

    first, again = (ask(xai, "create_with_completion", **question) for _ in range(2))

    assert (ANN, ANN) == (first[0], again[0])
    assert (Response, Response) == (type(first[1]), type(again[1]))
    assert (first[1].proto, first[1].content, first[1].usage) == (again[1].proto, again[1].content, again[1].usage)
    assert {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15} == first[0]._total_usage
    assert {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0} == again[0]._total_usage
    assert 15 == instructor.cache.info(again[0]).saved_tokens
    assert (len(xai.requests), stats(cache).hits) == (1, 1)


@every_mode
@sync_and_async
def test_streams_are_heard_and_replayed(xai, mode, awaits):
    """Partials grow to the answer, items and chunks come one by one; each again without a call."""
    cache, how = AutoCache(), {"mode": mode, "awaits": awaits, "cache_namespace": "n"}
    question = {**how, "cache": cache}

    shown = [ask(xai, "create_partial", response_model=User, **question) for _ in range(2)]
    chunks = [ask(xai, "create", response_model=None, stream=True, **question) for _ in range(2)]
    xai.said = ['{"tasks": [{"name": "Ann", "age": 3}, {"name": "Bob", "age": 4}]}']
    items = [ask(xai, "create_iterable", response_model=User, **question) for _ in range(2)]

    assert shown[0] == shown[1]
    assert ANN == shown[0][-1]
    completions = [each[-1]._raw_response for each in shown]
    assert [Response, Response] == [type(each) for each in completions]
    assert [("REASON_STOP", 15)] * 2 == [(each.finish_reason, each.usage.total_tokens) for each in completions]
    assert [each.proto for each in chunks[0]] == [each.proto for each in chunks[1]]
    assert {Chunk} == {type(each) for each in chunks[0] + chunks[1]}
    assert [[ANN, User(name="Bob", age=4)]] * 2 == items
    assert (len(xai.requests), stats(cache).hits) == (3, 3)


def test_streams_without_a_cache_are_chunks(xai):
    """They are the SDK's, too."""
    assert ANN.model_dump_json() == "".join(
        each.content for each in ask(xai, "create", response_model=None, stream=True)
    )


@every_mode
@sync_and_async
@pytest.mark.parametrize("method", ["create", "create_partial"])
def test_a_wrong_answer_is_asked_again(xai, mode, awaits, method):
    """The model gets its own answer back, and the error; hooks hear of both attempts, whose usage is added up."""
    xai.said = ['{"age": "old"}', ANN.model_dump_json()]
    heard: list[Any] = []
    hooks = instructor.hooks.Hooks()
    hooks.on("completion:usage", lambda usage, **_: heard.append(usage["total_tokens"]))
    hooks.on("parse:error", lambda error, **_: heard.append(type(error)))

    answer = ask(xai, method, mode=mode, awaits=awaits, response_model=User, hooks=hooks)

    assert ANN == (answer[-1] if method == "create_partial" else answer)
    first, second = (list(request.messages) for request in xai.requests)
    assert first == second[: len(first)]
    assert [15, ValidationError, 30] == heard
    said, error = second[len(first) :]
    assert "old" in str(said)
    assert "valid integer" in error.content[0].text
    if mode in {Mode.TOOLS, Mode.TOOLS_STRICT}:
        assert (5, "call_User") == (error.role, error.tool_call_id)


@sync_and_async
def test_several_calls_may_answer(xai, awaits):
    """Every call that was made is an object."""
    calls = [_call("User", ANN.model_dump_json()), _call("User", '{"name": "Bob", "age": 4}')]
    output = {"finish_reason": 4, "message": {"tool_calls": calls}}
    xai.said = [chat_pb2.GetChatCompletionResponse(id="r", outputs=[output])]

    answers = ask(xai, "create", mode=Mode.PARALLEL_TOOLS, awaits=awaits, response_model=list[User])

    assert [ANN, User(name="Bob", age=4)] == list(answers)


@sync_and_async
@pytest.mark.parametrize("method", ["create", "create_partial"])
def test_errors_are_the_sdks(xai, awaits, method):
    """They are the cause, after one call, and nothing is kept."""
    xai.said, cache = [grpc.StatusCode.PERMISSION_DENIED], AutoCache()

    with pytest.raises(InstructorRetryException, match="as told") as caught:
        ask(xai, method, awaits=awaits, response_model=User, cache=cache)

    assert isinstance(caught.value.__cause__, grpc.RpcError)
    assert grpc.StatusCode.PERMISSION_DENIED is caught.value.__cause__.code()
    assert (caught.value.n_attempts, len(xai.requests), len(cache)) == (1, 1, 0)


@sync_and_async
@pytest.mark.parametrize("method", ["create", "create_partial"])
def test_truncated(xai, awaits, method):
    """What was cut off is an error, asked for once, and never remembered."""
    xai.finish, cache = LENGTH, AutoCache()

    with pytest.raises(IncompleteOutputException) as caught:
        ask(xai, method, awaits=awaits, response_model=User, cache=cache)

    assert Response is type(caught.value.last_completion)
    assert (len(xai.requests), len(cache)) == (1, 0)


# Whose answer it is.


@pytest.mark.fault("D6")
@sync_and_async
def test_two_keys_are_two_accounts(xai, awaits):
    """`from_provider` knows the key, and the address: a client of its own finds again what another one was answered."""
    cache = AutoCache()

    async def one(client: Any) -> None:
        made = client.create(response_model=User, messages=HI)
        await made if awaits else None

    for key in ("one", "two", "one", "two"):
        made = instructor.from_provider("xai/m", awaits, api_key=key, base_url=f"http://{xai.address}", cache=cache)
        asyncio.run(one(made))

    assert ["Bearer one", "Bearer two"] == xai.keys


@pytest.mark.fault("D6")
def test_a_client_whose_key_cannot_be_read_is_an_account(xai):
    """What it was answered is found again through that very client only, or where a namespace names the account."""
    cache, options = AutoCache(), {"api_host": xai.address, "use_insecure_channel": True}
    one, two = (Client(api_key=key, **options) for key in ("one", "two"))

    for sdk in (one, one, two, two):
        instructor.from_xai(sdk, model="m", cache=cache).create(response_model=User, messages=HI)
    for sdk in (one, two):
        named = instructor.from_xai(sdk, model="m", cache=cache, cache_namespace="n")
        named.create(response_model=User, messages=HI)
        named.close()

    assert ["Bearer one", "Bearer two", "Bearer one"] == xai.keys


def test_an_asynchronous_client_serves_every_loop(xai):
    """A client of gRPC belongs to one; ours may be made outside of any."""
    options = {"api_host": xai.address, "use_insecure_channel": True}
    client = instructor.from_provider("xai/m", True, api_key="k", **options)

    for _ in range(2):
        assert ANN == asyncio.run(client.create(response_model=User, messages=HI))
    assert isinstance(client, AsyncInstructor)


def test_a_client_is_sync_or_async_as_its_sdks(xai):
    """`from_xai` looks at the class."""

    async def main():
        sdk = AsyncClient(api_key="k", api_host=xai.address, use_insecure_channel=True)
        async with instructor.from_xai(sdk, model="m") as client:
            assert isinstance(client, AsyncInstructor)
            assert ANN == await client.create(response_model=User, messages=HI)

    asyncio.run(main())
    with instructor.from_xai(Client(api_key="k"), model="m") as client:
        assert isinstance(client, Instructor)


def test_a_key_is_needed(monkeypatch):
    """It is said, or stands in xAI's variable."""
    monkeypatch.delenv("XAI_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="XAI_API_KEY"):
        instructor.from_provider("xai/m")

    monkeypatch.setenv("XAI_API_KEY", "k")
    instructor.from_provider("xai/m").close()


# Recorded traffic.


def recorded() -> list[Any]:
    """What was recorded of the SDK; none where the folder is absent."""
    missing = pytest.param(None, marks=pytest.mark.skip(reason="the recorded traffic is not beside this checkout"))
    return exchanges_in("xai_grpc") if RECORDED.is_dir() else [missing]


@pytest.mark.parametrize("exchange", recorded())
@sync_and_async
def test_recorded_answers(xai, exchange, awaits):
    """A call of the program's tool is an object of the tool's schema, talk is talk; both come again as they were."""
    sample, ours = exchange["response_sample"], exchange["ours"]
    xai.said, cache = [base64.b64decode(sample["raw"])], AutoCache()
    question = {"awaits": awaits, "cache": cache, "cache_namespace": "n"}
    messages = [output["message"] for output in sample["json"]["outputs"]]

    if ours:
        (tool,) = (each["function"] for each in exchange["request"]["json"]["tools"])
        model = model_of(json.loads(tool["parameters"]), tool["name"])
        answers = [ask(xai, "create_with_completion", response_model=model, **question) for _ in range(2)]
        assert json.loads(ours[0]["function"]["arguments"]) == answers[0][0].model_dump() == answers[1][0].model_dump()
        completions = [completion for _, completion in answers]
    else:
        completions = [ask(xai, "create", response_model=None, **question) for _ in range(2)]
        assert messages[-1]["content"] == completions[0].content == completions[1].content

    bare = chat_pb2.GetChatCompletionResponse.FromString(xai.said[0])
    assert [bare, bare] == [each.proto for each in completions]
    assert messages[-1].get("reasoning_content", "") == completions[1].reasoning_content
    assert len(xai.requests) == 1
