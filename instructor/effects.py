"""What a flow may ask of the world.

A flow is a generator: it yields effects, a driver (`drive.py`) performs them and sends back what came of it,
or throws what went wrong. Structs rather than dataclasses, because a cache hit makes one and a frozen
dataclass costs six times as much to make.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import msgspec
import tenacity

from .cache.base import BaseCache

T = TypeVar("T")


class Load(msgspec.Struct, frozen=True):
    """Ask `store` for what it keeps under `key`."""

    store: BaseCache
    key: str


class Save(msgspec.Struct, frozen=True):
    """Have `store` keep `text` under `key` for `ttl` seconds, or for good; and delete it with its `tags`."""

    store: BaseCache
    key: str
    text: str
    ttl: float | None
    tags: tuple[str, ...] = ()


class Do(msgspec.Struct, frozen=True):
    """Have `store` do what only some stores can: its method `verb`, or that method's asynchronous twin."""

    store: BaseCache
    verb: str
    given: tuple[Any, ...]


class Send(msgspec.Struct, frozen=True):
    """Call the provider."""

    call: Callable[..., Any]
    kwargs: Mapping[str, Any]


class Open(msgspec.Struct, frozen=True):
    """Call the provider for a stream: gives the source of its events, closed when the flow ends or opens another."""

    call: Callable[..., Any]
    kwargs: Mapping[str, Any]


class Whole(msgspec.Struct, frozen=True):
    """The only event of a stream that is none: a provider that does not know how answered all at once."""

    completion: Any


class Next(msgspec.Struct, frozen=True):
    """Wait for what comes next out of a source; gives `END` when nothing does."""

    source: Any


class Emit(msgspec.Struct, frozen=True):
    """Hand `items` to who asked, `pieces` of the tape to those who read along, and the `answer` once it is there."""

    items: Sequence[Any] = ()
    pieces: Sequence[Any] = ()
    answer: Any = None


class Run(msgspec.Struct, frozen=True):
    """Do something that may block: in a thread, where there is an event loop to keep free."""

    work: Callable[[], Any]


class Begin(msgspec.Struct, frozen=True):
    """Have `work` on a plan begin, in the background: what it emits is heard by nobody, nor is it waited for."""

    work: Callable[[Any], Flow[Any]]
    plan: Any


class Decide(msgspec.Struct, frozen=True):
    """Ask a tenacity controller what comes next: an attempt, a pause, or the end."""

    controller: tenacity.BaseRetrying
    state: tenacity.RetryCallState


class Sleep(msgspec.Struct, frozen=True):
    """Pause between two attempts, the way the controller wants it."""

    controller: tenacity.BaseRetrying
    seconds: float


class Share(msgspec.Struct, frozen=True):
    """Do `work` once for everybody who asks for `key` at the same time.

    Gives `(True, result, left)` to who did it and `(False, result, left)` to those that waited, at most `patience`
    seconds; `left` is what is left of those. Where waiting could never end there is no result.
    Who waited in vain does the work with what is left of its patience; an error counts for those on the same `terms`.
    """

    flights: Any
    key: str
    work: Callable[[float | None], Flow[Any]]
    patience: float | None
    terms: Any = None


class Join(Share, frozen=True):
    """Listen to the work on `key` while it is being done: gives a source of what it emits, to us and to all others.

    Gives None where that source could never say anything, because we are part of the work ourselves.
    """


END: Any = object()
"""What `Next` gives when a source has no more."""

Effect: TypeAlias = Load | Save | Do | Send | Open | Next | Emit | Run | Begin | Decide | Sleep | Share | Join
Flow: TypeAlias = Generator[Effect, Any, T]
