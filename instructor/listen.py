"""Hearing a stream: one attempt, read while it is being answered."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from pydantic_core import from_json

from . import jsontext
from .answer import Answer, is_whole, judge, sign
from .cache.completion import keep, revived
from .conversation import Conversation
from .dialects.base import CALLED
from .effects import END, Emit, Flow, Next, Open
from .exceptions import IncompleteOutputException
from .plan import Plan
from .retry import RETRYABLE
from .shape import Shape


def listen(plan: Plan, shape: Shape, talk: Conversation) -> Flow[Answer]:
    """Emit items as soon as the model has said enough for them; the answer's value are those that came last.

    What does not fit, before anything was shown, is heard to its end, so that the model can be told; later nothing can
    be taken back, and it ends there.
    """
    talk.asks()
    dialect, reader, pieces, told, problem = plan.endpoint.dialect, plan.reader(), [], 0, None
    said, finder = dialect.Listener(plan.mode), None if plan.mode in CALLED else jsontext.Finder()
    try:
        source = yield Open(plan.endpoint.stream, dialect.streamed(talk.kwargs))
        while not (talk.shown and problem) and (event := (yield Next(source))) is not END:
            piece = said.hear(event)
            piece = finder.feed(piece) if finder else piece
            if not piece or problem:
                continue
            pieces.append(piece)
            try:
                items = reader.feed(piece)
            except Exception as error:  # noqa: BLE001  validators are strangers' code
                problem = error
                continue
            talk.shown = talk.shown or bool(items)
            if talk.shown:
                yield Emit(items, pieces[told:] if plan.slot else ())
                told = len(pieces)
    except Exception as error:
        talk.breaks(error)
        raise
    completion = revived(said.data(), plan.endpoint.row.completion)
    reply = dialect.read(completion)
    talk.hears(completion, reply)
    try:
        if problem is not None:
            raise problem
        if not said.ended:
            raise IncompleteOutputException(last_completion=completion)
        text = judge(plan.mode, shape.name, reply, completion)
        rest = [*(() if pieces else reader.feed(text)), *reader.end(text)]  # as its replay will be
    except RETRYABLE as error:
        talk.goes_on(reply, error)
        raise
    sign(plan, rest, completion, talk.usage)
    return Answer(rest, _tape(pieces, text), completion)


def _tape(pieces: list[str], text: str) -> tuple[str, ...]:
    """The pieces, if they are the document that counts; an SDK that reads it meanwhile may set its spaces anew."""
    said = "".join(pieces)
    return tuple(pieces) if said == text or _written(said) == _written(text) else (text,)


def _written(text: str) -> str:
    with suppress(ValueError):
        return json.dumps(from_json(text))
    return text


def overhear(plan: Plan) -> Flow[Answer]:
    """Emit the SDK's own events, each as it comes, and remember them all."""
    endpoint, events = plan.endpoint, []
    said = endpoint.dialect.Listener(plan.mode)
    asked = endpoint.dialect.ask(plan.kwargs, None, plan.mode)
    source = yield Open(endpoint.stream, endpoint.dialect.streamed(asked))
    while (event := (yield Next(source))) is not END:
        events.append(keep(event, endpoint.row.event))  # now: it may be changed by who gets it
        with suppress(Exception):  # an event that we do not understand has been paid for all the same
            said.hear(event)
        yield Emit([event])
    completion = _folded(plan, said)
    kept = tuple(event for event in events if event is not None)
    whole = said.ended and len(kept) == len(events) and is_whole(plan, completion)
    return Answer([], (), completion, whole=whole, events=kept)


def _folded(plan: Plan, said: Any) -> Any:
    with suppress(Exception):
        return revived(said.data(), plan.endpoint.row.completion)
