"""How an answer is asked for: as a tool call, as JSON, as JSON in a code block."""

from __future__ import annotations

import enum
import warnings


class Mode(enum.Enum):
    """Where the request carries the schema and where the answer carries the payload."""

    TOOLS = "tool_call"
    TOOLS_STRICT = "tools_strict"
    PARALLEL_TOOLS = "parallel_tool_call"
    JSON = "json_mode"
    JSON_SCHEMA = "json_schema_mode"
    MD_JSON = "markdown_json_mode"
    RESPONSES_TOOLS = "responses_tools"

    FUNCTIONS = "function_call"
    JSON_O1 = "json_o1"
    RESPONSES_TOOLS_WITH_INBUILT_TOOLS = "responses_tools_with_inbuilt_tools"
    XAI_JSON = "xai_json"
    XAI_TOOLS = "xai_tools"
    ANTHROPIC_TOOLS = "anthropic_tools"
    ANTHROPIC_REASONING_TOOLS = "anthropic_reasoning_tools"
    ANTHROPIC_JSON = "anthropic_json"
    ANTHROPIC_PARALLEL_TOOLS = "anthropic_parallel_tools"
    MISTRAL_TOOLS = "mistral_tools"
    MISTRAL_STRUCTURED_OUTPUTS = "mistral_structured_outputs"
    VERTEXAI_TOOLS = "vertexai_tools"
    VERTEXAI_JSON = "vertexai_json"
    VERTEXAI_PARALLEL_TOOLS = "vertexai_parallel_tools"
    GEMINI_JSON = "gemini_json"
    GEMINI_TOOLS = "gemini_tools"
    GENAI_TOOLS = "genai_tools"
    GENAI_JSON = "genai_json"
    GENAI_STRUCTURED_OUTPUTS = "genai_structured_outputs"
    COHERE_TOOLS = "cohere_tools"
    COHERE_JSON_SCHEMA = "json_object"
    CEREBRAS_TOOLS = "cerebras_tools"
    CEREBRAS_JSON = "cerebras_json"
    FIREWORKS_TOOLS = "fireworks_tools"
    FIREWORKS_JSON = "fireworks_json"
    WRITER_TOOLS = "writer_tools"
    WRITER_JSON = "writer_json"
    BEDROCK_TOOLS = "bedrock_tools"
    BEDROCK_JSON = "bedrock_json"
    PERPLEXITY_JSON = "perplexity_json"
    OPENROUTER_STRUCTURED_OUTPUTS = "openrouter_structured_outputs"

    # An enum's own hash is a Python function; members are singletons, so identity hashes them on the hot path.
    __hash__ = object.__hash__

    @classmethod
    def tool_modes(cls) -> set[Mode]:
        """The modes whose payload is a tool call."""
        return {mode for mode in cls if core(mode) in _TOOLS}

    @classmethod
    def json_modes(cls) -> set[Mode]:
        """The modes whose payload is text."""
        return set(cls) - {mode for mode in cls if core(mode) in _TOOLS}

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


_TOOLS = {Mode.TOOLS, Mode.TOOLS_STRICT, Mode.PARALLEL_TOOLS, Mode.RESPONSES_TOOLS}
_TO_JSON = {Mode.ANTHROPIC_JSON, Mode.GENAI_JSON, Mode.GENAI_STRUCTURED_OUTPUTS}
_TO_JSON_SCHEMA = {
    Mode.JSON_O1,
    Mode.MISTRAL_STRUCTURED_OUTPUTS,
    Mode.COHERE_JSON_SCHEMA,
    Mode.OPENROUTER_STRUCTURED_OUTPUTS,
}


def _successor(mode: Mode) -> Mode:
    if mode in _TO_JSON:
        return Mode.JSON
    if mode in _TO_JSON_SCHEMA:
        return Mode.JSON_SCHEMA
    if mode.name.endswith("_PARALLEL_TOOLS"):
        return Mode.PARALLEL_TOOLS
    if mode.name.endswith("_JSON"):
        return Mode.MD_JSON
    return Mode.RESPONSES_TOOLS if mode.name.startswith("RESPONSES_") else Mode.TOOLS


CORE = frozenset(list(Mode)[:7])
"""The modes that are asked for under their own name."""

DEPRECATED_TO_CORE = {mode: _successor(mode) for mode in Mode if mode not in CORE}
"""Every legacy mode and the mode it means today."""

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
