"""What a dialect is: pure verbs, a listener, and the facts they read out of what a provider says."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from ..mode import Mode
from ..schema import Subset, fit
from ..shape import Shape

CALLED = frozenset({Mode.TOOLS, Mode.TOOLS_STRICT, Mode.PARALLEL_TOOLS})
"""The modes that ask for tool calls."""
MODES = CALLED | {Mode.JSON, Mode.JSON_SCHEMA, Mode.MD_JSON}

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


class Ear(msgspec.Struct):
    """What listens to one stream: what each event adds, and the completion that all of them are.

    `ended` is whether the event has arrived after which a provider has nothing more to say; `said` is what was heard of
    the completion itself, `parts` what came of its parts, by index.
    """

    mode: Mode
    ended: bool = False
    said: dict[str, Any] = {}
    parts: dict[Any, list[Any]] = {}

    def hear(self, event: Any) -> str:
        """The text that an event adds to the payload: to the first call's arguments, where the mode asks for a call.

        Raises:
            ProviderError: the event is an error.
        """
        raise NotImplementedError

    def data(self) -> dict[str, Any]:
        """The completion that an unstreamed call would have given, as far as it was heard, as JSON data."""
        raise NotImplementedError


class Dialect(Protocol):
    """One API family. The verbs are pure: they build new requests and change nothing they are given."""

    name: str
    version: int
    """Bumped when the same question is sent in another way, because the answers may then differ."""
    modes: frozenset[Mode]
    Listener: type[Ear]

    def ask(self, kwargs: Mapping[str, Any], shape: Shape | None, mode: Mode) -> dict[str, Any]:
        """The SDK's arguments for a question; those of a plain completion when `shape` is None."""

    def read(self, completion: Any) -> Reply:
        """What a completion says."""

    def reask(
        self, kwargs: Mapping[str, Any], completion: Any, reply: Reply, problem: Exception, mode: Mode
    ) -> dict[str, Any]:
        """The SDK's arguments for going on after an answer that would not do."""


def tool(shape: Shape, place: str, subset: Subset, mode: Mode) -> dict[str, Any]:
    """The shape as a tool, its schema at `place`; the model is held to it where that is asked for and can be."""
    exact = fit(shape.parameters, subset) if mode is Mode.TOOLS_STRICT else None
    schema = {place: shape.parameters} if exact is None else {place: exact, "strict": True}
    return {"name": shape.name, "description": shape.description, **schema}


def joined(contents: Iterable[Any]) -> str | list[Any]:
    """What there is in the contents, as one text; as a list of parts where some are more than text."""
    parts = [part for content in contents for part in listed(content) if part]
    return "\n\n".join(parts) if all(isinstance(part, str) for part in parts) else parts


def listed(thing: Any) -> list[Any]:
    """`thing` as a list: itself, none, or alone."""
    return [] if thing is None else list(thing) if isinstance(thing, (list, tuple)) else [thing]


# Reading: a provider may leave out anything, or send anything in its place.


def get(thing: Any, field: str) -> Any:
    """A field of an SDK's object, or of the dict that some clients give in its place."""
    return thing.get(field) if isinstance(thing, dict) else getattr(thing, field, None)


def model_of(completion: Any) -> Any:
    """The model that answered, where it is told."""
    return get(completion, "model") or get(completion, "model_version") or get(get(completion, "proto"), "model")


def items(thing: Any, field: str) -> list[Any]:
    """The members of a field that holds a list; none where it does not."""
    found = get(thing, field)
    return list(found) if isinstance(found, (list, tuple)) else []


def first(thing: Any, field: str) -> Any:
    """The first member of a field that holds a list; None where there is none."""
    return next(iter(items(thing, field)), None)


def together(texts: Iterable[Any]) -> str | None:
    """The texts as one; None where there is none."""
    found = [text for text in texts if isinstance(text, str)]
    return "".join(found) if found else None


def call(id_: Any, made: Any, place: str) -> Call:
    """A tool call whose arguments stand at `place`, as text or as data; none at all are an empty object."""
    arguments = get(made, place)
    return Call(str(id_ or ""), str(get(made, "name") or ""), as_json({} if arguments is None else arguments))


def as_json(said: Any) -> str:
    """JSON text, or the text of what was sent decoded."""
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False, default=str)


def dumped(thing: Any, **options: Any) -> Any:
    """An SDK's object as data; what is data stays as it is."""
    dump = getattr(thing, "model_dump", None)
    return dump(warnings=False, **options) if dump else thing
