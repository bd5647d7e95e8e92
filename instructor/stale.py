"""Old answers: given while a new one is asked for, or where there is none to be had (RFC 5861)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from msgspec.structs import replace

from .answer import Answer, Restored, deliver
from .cache.entry import unseal
from .effects import Begin, Flow
from .exceptions import InstructorRetryException
from .hooks import HookName
from .plan import Plan, Slot
from .remembering import missing, trouble

SIGNS = ("Connect", "Timeout", "Transport", "Network")
"""What is in the names of errors, whatever library they are of, when there was nobody to answer."""
BUSY = (408, 429)
"""What a provider says that will answer later; beside that every status of 500 and above."""

GRPC = {"UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504, "RESOURCE_EXHAUSTED": 429, "INTERNAL": 500, "UNKNOWN": 500}
"""What those are in HTTP (google/rpc/code.proto); the others are no outage."""


def meanwhile(plan: Plan, slot: Slot, text: Any, again: Callable[..., Flow[Any]]) -> Flow[Answer | None]:
    """An old answer that will do at once, while `again` asks in the background; or none.

    Who is offline takes any that would do after an error.

    Raises:
        CacheMiss: there is none, and nobody may be asked.
    """
    if slot.stale is None:
        return None
    offline = slot.policy == "offline"
    answer = old(plan, slot, text, max(slot.stale) if offline else slot.stale.while_revalidate if slot.keep else 0)
    if offline and answer is None:
        raise missing(slot, text)
    if not offline and answer is not None and slot.flight not in slot.shelf.flights:
        yield Begin(partial(refresh, slot=slot, text=text, again=again), _apart(plan))
    return answer


def after(plan: Plan, slot: Slot, text: Any, error: Exception) -> Answer | None:
    """An old answer that will do now that asking has failed; none where the question or the answer was at fault."""
    cause = error.__cause__ if isinstance(error, InstructorRetryException) else error
    return old(plan, slot, text, slot.stale.if_error) if slot.stale and is_outage(cause) else None


def old(plan: Plan, slot: Slot, text: Any, seconds: float) -> Answer | None:
    """The answer in `text`, if it is so many seconds past its freshness at most."""
    entry = None if text is None else unseal(text, slot.key)
    if entry is None or entry.fresh_until is None or plan.clock() >= entry.fresh_until + seconds:
        return None
    kept = Restored(entry.completion, plan.endpoint, slot.key, entry.made_at, entry.model, stale=True)
    answer = deliver(plan, entry.tape, kept, entry.events)
    if answer is not None:
        slot.shelf.stats.hits += 1
        plan.hooks.emit(HookName.CACHE_HIT, slot.key, age=kept.age(plan.clock()), stale=True)
    return answer


def refresh(plan: Plan, slot: Slot, text: Any, again: Callable[..., Flow[Answer]]) -> Flow[Answer]:
    """Ask anew, once for all who do and, with a lease, for all processes; an error is told, for nobody waits for it."""
    try:
        return (yield from again(plan, slot, text))
    except Exception as problem:
        trouble(plan, slot, "refreshing", problem)
        raise


def _apart(plan: Plan) -> Plan:
    """The plan with a question of its own: who has the answer may go on writing to what was asked."""
    with suppress(Exception):  # something cannot be copied
        return replace(plan, kwargs=copy.deepcopy(plan.kwargs))
    return plan


def is_outage(error: object) -> bool:
    """Whether the provider was out of reach, or not able to answer now."""
    status = _status_of(error)
    if status is not None:
        return status in BUSY or not 400 <= status < 500  # noqa: PLR2004  as HTTP has it; 200 was said of a stream
    return any(sign in kind.__name__ for kind in type(error).__mro__ for sign in SIGNS)


def _status_of(error: Any) -> int | None:
    """The HTTP status in an SDK's error: Google's calls it code, Amazon's hides it, and xAI's has one of gRPC's."""
    response, code = getattr(error, "response", None), getattr(error, "code", None)
    if callable(code):
        return GRPC.get(getattr(code(), "name", ""), 400)
    about = response.get("ResponseMetadata", {}) if isinstance(response, dict) else {}
    told = getattr(error, "status_code", None), code, about.get("HTTPStatusCode")
    return next((status for status in told if isinstance(status, int)), None)
