"""The page of providers: who they are, what of their traffic was recorded, and what came of the tests that replay it.

`pytest --providers-table=docs/providers.md` writes it after the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from replay import RECORDED, Exchange, exchanges_in, files

from instructor import Mode
from instructor.endpoint import dialect_of
from instructor.providers import ROWS, Row

TESTS = " ".join(f"tests/test_{name}.py" for name in ("recorded", "recorded_streams", "listeners_recorded", "xai"))

UNASKED = {
    ("bedrock", "invoke"): "Bedrock's older API, where each model has a wire format of its own: we ask in `converse`",
    ("bedrock", "invoke-with-response-stream"): "the same API, streamed",
    ("cohere", "v1/chat"): "Cohere's older API, of another client than the `ClientV2` that we take",
    ("ollama", "api/chat"): "Ollama's own API, which no SDK here speaks: we ask Ollama in its copy of OpenAI's",
}
"""What of the recorded traffic is not replayed, by file and API, and why."""

FILES = {
    "cerebras` and `mistral": "asked through their own SDK and, where nothing was streamed, through OpenAI's too",
    "instructor_traffic": "what Instructor's port to PHP sent and got",
    "messy_json": "no traffic, and in no table: what people and models write in place of JSON is tried in "
    "`tests/test_jsontext.py` and `tests/test_reader.py`",
    "openai_sdk_snapshots": "responses without their requests",
    "xai": "asked through OpenAI's SDK, which xAI copies; `xai_grpc` through its own",
}
"""What some files of the recording are."""

_NEVER = "It never met real traffic: none was recorded."
SPECIAL = {
    "anthropic": "`from_anthropic(beta=True)` asks the beta endpoint. Clients of Anthropic's SDK for Bedrock, Vertex "
    "and Foundry are taken as well.",
    "anyscale": _NEVER,
    "azure_openai": "Needs `AZURE_OPENAI_ENDPOINT` too. In place of a key: `azure_ad_token=` or "
    "`azure_ad_token_provider=`.",
    "bedrock": "boto3 cannot be awaited: asynchronous clients call it in threads. The account is what AWS's own chain "
    "of credentials finds. Models with neither `anthropic` nor `claude` in their names are asked in MD_JSON.",
    "cohere": "Version 2 of the API only: `ClientV2`.",
    "databricks": f"Needs an address: `DATABRICKS_BASE_URL`, `_HOST` or `_WORKSPACE_URL`. {_NEVER}",
    "fireworks": "`from_fireworks` takes clients of Fireworks' own SDK too.",
    "gemini": "Through google-genai, as `google`: its own SDK has ended.",
    "generative-ai": "Another name for `google`.",
    "google": "`vertexai=True` with a project asks in Google's cloud.",
    "litellm": f"A function, not a client; keys and addresses are LiteLLM's. {_NEVER}",
    "local": "A small model inside this process: no key and no network. See `instructor demo`.",
    "mistral": "Versions 1 and 2 of the SDK.",
    "ollama": "No key. Models that are not known to call tools are asked in JSON. With `base_url=` it is any server "
    "that copies OpenAI's API, such as llama.cpp's.",
    "openai": "`Mode.RESPONSES_TOOLS` asks in the Responses API. Clients of `AzureOpenAI` and `BedrockOpenAI` are "
    "taken as well.",
    "vertexai": "Through google-genai, with `GOOGLE_CLOUD_PROJECT` in place of a key.",
    "writer": _NEVER,
    "xai": "Over gRPC, through xAI's SDK; `from_openai` asks its copy of OpenAI's API.",
}
"""What one should know about a provider, and its row does not say."""

KINDS = {
    "tool_call": "tool call",
    "json_schema": "json schema",
    "json_mode": "json mode",
    "prompted_json": "prompted json",
    "prose_with_tools_offered": "talk, no call",
    "text": "text",
    "multimodal": "media",
    "truncated": "cut off",
    "refusal": "refusal",
    "error": "error",
}
HOW = """\
# Providers

This page is made by the tests themselves: `{command}`.

## Who can be asked

`from_provider("<name>/<model>")`, with the key in a variable or as `api_key=`. The first mode is what is asked in where
none is said. Clients that exist already go to `from_openai`, `from_anthropic` and their like. Who is not here can be
added: see [`adding.md`](adding.md).

{providers}

{special}

## What real providers said

Real exchanges of providers and their SDKs, recorded by public projects, are served by a loopback server to the same
SDKs: alone, and under our clients. An answer must be the object of an independent reading of its bytes, its completion
what the SDK alone makes of them, and both must come again from the cache without a call; sync, async, and streamed at
every cut. What was cut off must raise, a refusal must give no object, an error must be the SDK's own, and arguments
that do not fit must be asked for once more, with the error. Text and media are asked for without a response model.

Each cell: exchanges recorded/replayed/passed. An empty one is of a kind that nobody recorded there. Nothing recorded
shows 503, 529, or a 429 of Anthropic's: the tests make these by hand, for every SDK.

{tables}

{notes}
"""


def name_of(exchange: Exchange) -> str:
    """The file of an exchange, by whatever way it is asked, and its id."""
    return f"{exchange['file'].rpartition('/')[2]}/{exchange['id']}"


def table(found: Mapping[str, Any], command: str) -> str:
    """The page."""
    everything = [each for file in files() for each in exchanges_in(file)] if RECORDED.is_dir() else []
    titles = {"Whole answers": False, "Streams": True}
    made = [f"### {title}\n\n{_traffic(everything, found, stream=stream)}" for title, stream in titles.items()]
    parts = {"providers": providers(), "special": special(), "notes": notes(), "tables": "\n\n".join(made)}
    return HOW.format(command=command, **parts)


def providers() -> str:
    """A line for each name that `from_provider` knows."""
    lines = ["| name | dialect | SDK | its extra | key | modes |", "|---|---|---|---|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(_facts(name, row))} |" for name, row in sorted(ROWS.items()))])


def _facts(name: str, row: Row) -> Iterator[str]:
    extra = row.extra or row.sdk.replace(".", "-")
    known = dialect_of(row).modes - row.lacks | ({Mode.RESPONSES_TOOLS} if row.responses else set())
    yield f"`{name}`"
    yield row.dialect
    yield row.sdk.partition(".client")[0]
    yield "" if extra == "openai" else f"`{extra}`"
    yield "none" if row.fallback_key else " or ".join(f"`{variable}`" for variable in row.key_env)
    yield ", ".join(mode.name for mode in sorted(known, key=lambda mode: (mode is not row.mode, mode.name)))


def special() -> str:
    """What the table does not say."""
    return "\n".join(f"- `{name}`: {line}" for name, line in SPECIAL.items())


def _traffic(everything: list[Exchange], found: Mapping[str, Any], *, stream: bool) -> str:
    """A line for each file that has any, and their sum."""
    exchanges = [each for each in everything if each["stream"] == stream]
    cells = {file: [each for each in exchanges if each["file"] == file] for file in files()} if everything else {}
    lines = [f"| {' | '.join(('recorded in', *KINDS.values()))} |", f"|---|{'---:|' * len(KINDS)}"]
    for file, mine in [*cells.items(), ("all", exchanges)]:
        if mine:
            counts = [_cell([each for each in mine if each["kind"] == kind], found) for kind in KINDS]
            lines.append(f"| {file} | {' | '.join(counts)} |")
    return "\n".join(lines)


def _cell(exchanges: list[Exchange], found: Mapping[str, Any]) -> str:
    """How many were recorded, replayed, and passed every test; with the numbers of the notes on those that were not."""
    results = [found[name] for each in exchanges if (name := name_of(each)) in found]
    replayed = [each for each in results if each.tests > each.skipped.total()]
    passed = [each for each in replayed if not each.failed]
    reasons = sorted(
        {[*UNASKED].index(key) + 1 for each in exchanges if (key := (each["file"], each["api"])) in UNASKED}
    )
    counts = f"{len(exchanges)}/{len(replayed)}/{len(passed)}" if exchanges else ""
    return counts + "".join(f" [{number}]" for number in reasons)


def notes() -> str:
    """Why some were not replayed, and what some files are."""
    said = [f"{number}. {file}, `{api}`: {why}." for number, ((file, api), why) in enumerate(UNASKED.items(), 1)]
    return "\n".join([*said, "", *(f"- `{file}`: {what}." for file, what in FILES.items())])
