"""An answer: how it is read out of a reply, and given again from what was kept of it."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pydantic
from msgspec.structs import replace

from . import jsontext
from .cache.completion import Kept, restore
from .dialects.base import CALLED, Reply
from .endpoint import Endpoint
from .exceptions import IncompleteOutputException, RefusalError, ResponseParsingError
from .mode import Mode
from .parallel import payload
from .plan import Plan
from .receipt import Later, attach, made
from .usage import nothing, price, tokens


class Answer(msgspec.Struct, frozen=True, eq=False):
    """What a flow delivers.

    `value` is what was asked for; of a stream, the last items. `tape` is the payload in the pieces in which it arrived,
    `kept` the completion as text, once it has been remembered; `whole` whether it may be. `events` is a plain stream.
    """

    value: Any
    tape: tuple[str, ...] = ()
    raw: Any = None
    kept: Kept | None = None
    whole: bool = True
    events: tuple[Kept, ...] = ()

    @property
    def completion(self) -> Any:
        """The SDK's own completion."""
        return made(self.raw)


def deliver(plan: Plan, tape: tuple[str, ...], raw: Any, events: tuple[Kept, ...] = ()) -> Answer | None:
    """The answer that was once given, given again; None when today's model refuses it, or it was no such stream."""
    try:
        if plan.shape is None:
            value = [restore(event, plan.endpoint.row.event) for event in events] if plan.reading else made(raw)
            return Answer(value, tape, raw, events=events) if value else None
        text = tape[0] if len(tape) == 1 else "".join(tape)
        value = plan.shape.load(text, plan.context, strict=plan.strict)
    except Exception:  # noqa: BLE001  validators are strangers' code, and this one will run again on the miss
        return None
    attach(value, raw, Free(raw, plan.endpoint))
    return Answer(value if plan.reading is None else last_items(plan, value), tape, raw)


def last_items(plan: Plan, value: Any) -> list[Any]:
    """The items with which a stream of `value` ends: all of a list, or the whole after its snapshots."""
    return [value] if plan.reading == "snapshots" else list(getattr(value, "tasks", value))


def sign(plan: Plan, items: list[Any], raw: Any, usage: Any) -> None:
    """Give the last snapshot, which is the answer itself, its receipt."""
    if plan.reading == "snapshots":
        attach(items[-1], raw, usage)


def receipt(plan: Plan, answer: Answer) -> tuple[Any, Any]:
    """The completion and the usage of an answer that somebody else was given, as our own result carries them."""
    raw = answer.raw
    if answer.kept is not None and plan.slot is not None:
        raw = Restored(answer.kept, plan.endpoint, plan.slot.key, plan.clock(), plan.kwargs.get("model"))
    return raw, Free(raw, plan.endpoint)


class Restored(Later, eq=False):
    """The completion that an answer from the cache was read from."""

    kept: Kept
    endpoint: Endpoint
    key: str = ""
    made_at: float = 0
    model: str | None = None
    value: Any = None
    stale: bool = False

    def make(self) -> Any:
        """The completion, of the SDK's own type; the same object each time."""
        if self.value is None:
            origin = Origin(replace(self))
            self.value = restore(self.kept, self.endpoint.row.completion)
            if isinstance(self.value, pydantic.BaseModel):  # which neither compares nor dumps it
                vars(self.value)["_raw_response"] = origin
        return self.value

    def facts(self) -> dict[str, Any]:
        """Under which key it was found, how old it is, and what asking would have cost."""
        completion = self.make()
        return {
            "key": self.key,
            "age": self.age(time.time()),
            "saved_tokens": tokens(self.endpoint.dialect.read(completion).usage),
            "saved_cost": price(completion, self.endpoint.row, self.model),
            "stale": self.stale,
        }

    def age(self, now: float) -> float:
        """How many seconds ago the answer was given first."""
        return max(now - self.made_at, 0)


class Origin(Later, eq=False):
    """Where a completion came from, which it carries along: not in a copy, and not as a part of itself."""

    restored: Restored

    def make(self) -> None:
        """Nothing: it is there for its facts."""

    def facts(self) -> dict[str, Any]:
        """Those of the result that it belongs to."""
        return self.restored.facts()


class Free(Later, eq=False):
    """What an answer from the cache cost: nothing, in the provider's own units."""

    raw: Any
    endpoint: Endpoint
    value: Any = None

    def make(self) -> Any:
        """A usage of the provider's own type, all zero; the same object each time."""
        if self.value is None:
            self.value = nothing(self.endpoint.dialect.read(made(self.raw)).usage)
        return self.value


def judge(mode: Mode, name: str, reply: Reply, completion: Any) -> str:
    """The payload of a reply that is whole: the call of the tool `name`, or text where none is forced.

    Raises:
        IncompleteOutputException, RefusalError: the model did not finish, or did not want to.
        ResponseParsingError: there is no payload in it.
    """
    if reply.finish == "length":
        raise IncompleteOutputException(last_completion=completion)
    if reply.finish == "refusal":
        said = reply.refusal or "the answer was withheld by a content filter"
        raise RefusalError(f"The model declined: {said}", last_completion=completion)
    if mode is Mode.PARALLEL_TOOLS and reply.calls:
        return payload(reply.calls)
    calls = reply.calls if mode in CALLED else [made for made in reply.calls if made.name == name]
    if calls:
        return calls[0].arguments
    if mode in CALLED:
        problem = "The answer holds no tool call"
    else:
        try:
            return jsontext.find(reply.text or "")
        except ValueError as error:
            problem = str(error)
    raise ResponseParsingError(f"{problem} (mode: {mode.name})", mode=mode.name, raw_response=completion)


def is_whole(plan: Plan, completion: Any) -> bool:
    """Whether a plain completion says something, and all of it; not if it is nothing that we can read."""
    try:
        reply = plan.endpoint.dialect.read(completion)
    except Exception:  # noqa: BLE001  it has been paid for, whatever it is
        return False
    return reply.finish == "stop" and bool(reply.text or reply.calls)
