"""Hearing a stream: one attempt, read while it is being answered."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from . import jsontext
from .answer import Answer, is_whole, judge, sign
from .cache.completion import keep, revived
from .conversation import Conversation, insist
from .dialects.base import CALLED
from .effects import END, Emit, Flow, Next, Open, Whole
from .exceptions import IncompleteOutputException
from .plan import Plan
from .reader import agree
from .retry import RETRYABLE
from .shape import Shape

BROKEN_OFF = "The stream broke off before the model had finished. Ask again."


def listen(plan: Plan, shape: Shape, talk: Conversation) -> Flow[Answer]:
    """Emit items as soon as the model has said enough for them; the answer's value are those that came last.

    What does not fit, before anything was shown, is heard to its end, so that the model can be told; later nothing can
    be taken back, and it ends there.
    """
    asked = talk.asks()
    ear, dialect = Hearing(plan), plan.endpoint.dialect
    try:
        source = yield Open(plan.endpoint.stream, asked)
        while not (talk.shown and ear.problem) and (event := (yield Next(source))) is not END:
            items = ear.hear(event)
            talk.shown = talk.shown or bool(items)
            if talk.shown and (pieces := ear.untold()):
                yield Emit(items, pieces if plan.slot else ())
    except Exception as error:
        talk.breaks(error)
        raise
    completion = ear.completion()
    reply = dialect.read(completion)
    talk.hears(completion, reply)
    try:
        ear.check(completion)
        text = judge(plan.mode, shape.name, reply, completion)
        rest = ear.end(text)
    except RETRYABLE as error:
        talk.goes_on(reply, error)
        raise
    sign(plan, rest, completion, talk.usage)
    return Answer(rest, ear.tape(text), completion)


class Hearing:
    """What was heard of a stream: its pieces, what can be shown of them, and what is wrong with them."""

    def __init__(self, plan: Plan) -> None:
        self.problem: Exception | None = None
        self._kind = plan.endpoint.row.completion
        self._said, self._reader = plan.endpoint.dialect.Listener(plan.mode), plan.reader()
        self._found = str if plan.mode in CALLED else jsontext.Finder().feed
        self._pieces: list[str] = []
        self._told = 0
        self._whole: Any = None

    def hear(self, event: Any) -> list[Any]:
        """The items that an event brings."""
        if type(event) is Whole:
            self._whole = event.completion
            return []
        piece = self._found(self._said.hear(event))
        if not piece or self.problem:
            return []
        self._pieces.append(piece)
        try:
            return self._reader.feed(piece)  # type: ignore[no-any-return]
        except Exception as problem:  # noqa: BLE001  validators are strangers' code
            self.problem = problem
            return []

    def untold(self) -> list[str]:
        """The pieces that came since this was asked last."""
        pieces = self._pieces[self._told :]
        self._told = len(self._pieces)
        return pieces

    def completion(self) -> Any:
        """What an unstreamed call would have given, or did, where the provider knows no streams."""
        return revived(self._said.data(), self._kind) if self._whole is None else self._whole

    def check(self, completion: Any) -> None:
        """Raise for what did not fit while it came, and for what never came to its end."""
        if self.problem is not None:
            raise self.problem
        if self._whole is None and not self._said.ended:
            raise IncompleteOutputException(BROKEN_OFF, last_completion=completion)

    def end(self, text: str) -> list[Any]:
        """The items that are left, `text` being the document that counts."""
        return self._reader.end(text)  # type: ignore[no-any-return]

    def tape(self, text: str) -> tuple[str, ...]:
        """The pieces, if they are the document that counts; an SDK that reads it meanwhile may set its spaces anew."""
        return tuple(self._pieces) if agree("".join(self._pieces), text) else (text,)


def overhear(plan: Plan) -> Flow[Answer]:
    """Emit the SDK's own events, each as it comes, and remember them all."""
    endpoint, events = plan.endpoint, []
    said = endpoint.dialect.Listener(plan.mode)
    asked = endpoint.dialect.ask(plan.kwargs, None, plan.mode)
    source = yield from insist(plan, Open(endpoint.stream, endpoint.row.streamed(asked)))
    while (event := (yield Next(source))) is not END:
        if type(event) is Whole:
            return Answer([event.completion], raw=event.completion, whole=False)
        kept = keep(event, endpoint.row.event)  # now: it may be changed by who gets it
        events.append(kept)
        with suppress(Exception):  # an event that we do not understand has been paid for all the same
            said.hear(event)
        yield Emit([event], [kept or event] if plan.slot else ())
    completion = _folded(plan, said)
    known = tuple(event for event in events if event is not None)
    whole = said.ended and len(known) == len(events) and is_whole(plan, completion)
    return Answer([], (), completion, whole=whole, events=known)


def _folded(plan: Plan, said: Any) -> Any:
    with suppress(Exception):
        return revived(said.data(), plan.endpoint.row.completion)
