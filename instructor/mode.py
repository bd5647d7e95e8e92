"""How an answer is asked for: as a tool call, as JSON, as JSON in a code block."""

from __future__ import annotations

import enum
import warnings

from typing_extensions import Self


class Mode(enum.Enum):
    """Where the request carries the schema and where the answer carries the payload."""

    TOOLS = "tool_call"
    TOOLS_STRICT = "tools_strict"
    PARALLEL_TOOLS = "parallel_tool_call"
    JSON = "json_mode"
    JSON_SCHEMA = "json_schema_mode"
    MD_JSON = "markdown_json_mode"
    RESPONSES_TOOLS = "responses_tools"

    # The older names, each with the mode it means today.
    FUNCTIONS = "function_call", TOOLS
    JSON_O1 = "json_o1", JSON_SCHEMA
    RESPONSES_TOOLS_WITH_INBUILT_TOOLS = "responses_tools_with_inbuilt_tools", RESPONSES_TOOLS
    XAI_JSON = "xai_json", MD_JSON
    XAI_TOOLS = "xai_tools", TOOLS
    ANTHROPIC_TOOLS = "anthropic_tools", TOOLS
    ANTHROPIC_REASONING_TOOLS = "anthropic_reasoning_tools", TOOLS
    ANTHROPIC_JSON = "anthropic_json", JSON
    ANTHROPIC_PARALLEL_TOOLS = "anthropic_parallel_tools", PARALLEL_TOOLS
    MISTRAL_TOOLS = "mistral_tools", TOOLS
    MISTRAL_STRUCTURED_OUTPUTS = "mistral_structured_outputs", JSON_SCHEMA
    VERTEXAI_TOOLS = "vertexai_tools", TOOLS
    VERTEXAI_JSON = "vertexai_json", MD_JSON
    VERTEXAI_PARALLEL_TOOLS = "vertexai_parallel_tools", PARALLEL_TOOLS
    GEMINI_JSON = "gemini_json", MD_JSON
    GEMINI_TOOLS = "gemini_tools", TOOLS
    GENAI_TOOLS = "genai_tools", TOOLS
    GENAI_JSON = "genai_json", JSON
    GENAI_STRUCTURED_OUTPUTS = "genai_structured_outputs", JSON
    COHERE_TOOLS = "cohere_tools", TOOLS
    COHERE_JSON_SCHEMA = "json_object", JSON_SCHEMA
    CEREBRAS_TOOLS = "cerebras_tools", TOOLS
    CEREBRAS_JSON = "cerebras_json", MD_JSON
    FIREWORKS_TOOLS = "fireworks_tools", TOOLS
    FIREWORKS_JSON = "fireworks_json", MD_JSON
    WRITER_TOOLS = "writer_tools", TOOLS
    WRITER_JSON = "writer_json", MD_JSON
    BEDROCK_TOOLS = "bedrock_tools", TOOLS
    BEDROCK_JSON = "bedrock_json", MD_JSON
    PERPLEXITY_JSON = "perplexity_json", MD_JSON
    OPENROUTER_STRUCTURED_OUTPUTS = "openrouter_structured_outputs", JSON_SCHEMA

    successor: str | None

    def __new__(cls, value: str, successor: str | None = None) -> Self:
        """A member whose value is the first word alone, so that `Mode("json_o1")` finds it."""
        mode = object.__new__(cls)
        mode._value_, mode.successor = value, successor
        return mode

    # An enum's own hash is a Python function; members are singletons, so identity hashes them on the hot path.
    __hash__ = object.__hash__

    @classmethod
    def tool_modes(cls) -> set[Mode]:
        """The modes whose payload is a tool call."""
        return {mode for mode in cls if core(mode) in _TOOLS}

    @classmethod
    def json_modes(cls) -> set[Mode]:
        """The modes whose payload is text."""
        return set(cls) - cls.tool_modes()

    @classmethod
    def parallel_modes(cls) -> set[Mode]:
        """The modes that may answer with several tool calls."""
        return {mode for mode in cls if core(mode) is cls.PARALLEL_TOOLS}

    @classmethod
    def warn_mode_functions_deprecation(cls) -> None:
        """Warn, once, that FUNCTIONS has a newer name."""
        warn_deprecated_mode(cls.FUNCTIONS)

    @classmethod
    def warn_anthropic_reasoning_tools_deprecation(cls) -> None:
        """Warn, once, that ANTHROPIC_REASONING_TOOLS has a newer name."""
        warn_deprecated_mode(cls.ANTHROPIC_REASONING_TOOLS)

    @classmethod
    def warn_deprecated_mode(cls, mode: Mode) -> None:
        """Warn, once a process, that `mode` has a newer name."""
        warn_deprecated_mode(mode)


CORE = frozenset(mode for mode in Mode if mode.successor is None)
"""The modes that are asked for under their own name."""

DEPRECATED_TO_CORE = {mode: Mode(mode.successor) for mode in Mode if mode.successor}
"""Every legacy mode and the mode it means today."""

_TOOLS = {Mode.TOOLS, Mode.TOOLS_STRICT, Mode.PARALLEL_TOOLS, Mode.RESPONSES_TOOLS}
_warned: set[Mode] = set()


def core(mode: Mode) -> Mode:
    """The mode that `mode` means today."""
    return DEPRECATED_TO_CORE.get(mode, mode)


def warn_deprecated_mode(mode: Mode) -> None:
    """Warn, once a process, that `mode` has a newer name; silent for a mode that has none."""
    if mode in DEPRECATED_TO_CORE and mode not in _warned:
        _warned.add(mode)
        text = f"Mode.{mode.name} is deprecated; use Mode.{DEPRECATED_TO_CORE[mode].name}"
        warnings.warn(text, DeprecationWarning, stacklevel=3)


def reset_deprecated_mode_warnings() -> None:
    """Forget which warnings were given."""
    _warned.clear()
