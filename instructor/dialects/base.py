"""What a dialect is: four pure verbs, and the facts it reads out of a completion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from ..mode import Mode
from ..shape import Shape

Finish: TypeAlias = Literal["stop", "length", "refusal"]
"""Why a model stopped: it was done, it ran out of tokens, or it (or a filter) declined."""


class Call(msgspec.Struct, frozen=True):
    """A tool call: `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


class Reply(msgspec.Struct, frozen=True):
    """A completion, read: the same facts for every provider.

    `refusal` holds the provider's words when it declined; `usage` is the SDK's own object.
    """

    text: str | None = None
    calls: tuple[Call, ...] = ()
    finish: Finish = "stop"
    refusal: str | None = None
    usage: Any = None


class Dialect(Protocol):
    """One API family. The verbs are pure: they build new requests and change nothing they are given."""

    name: str
    version: int
    """Bumped when the same question is sent in another way, because the answers may then differ."""
    modes: frozenset[Mode]

    def ask(self, kwargs: Mapping[str, Any], shape: Shape | None, mode: Mode) -> dict[str, Any]:
        """The SDK's arguments for a question; those of a plain completion when `shape` is None."""

    def read(self, completion: Any) -> Reply:
        """What a completion says."""

    def reask(
        self, kwargs: Mapping[str, Any], completion: Any, reply: Reply, problem: Exception, mode: Mode
    ) -> dict[str, Any]:
        """The SDK's arguments for going on after an answer that would not do."""
