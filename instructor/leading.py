"""Asking for everybody: for all who wait in this process and, with a lease, for those in others."""

from __future__ import annotations

import math
from typing import Any

import tenacity
from msgspec.structs import replace

from .answer import Answer
from .asking import ask
from .cache.flights import is_nested
from .cache.leases import HEART, Lease
from .effects import Do, Emit, Flow, Sleep
from .hooks import HookName
from .plan import Plan, Slot, key_of, within
from .remembering import recall, remember, trouble

PAUSE = tenacity.Retrying()
"""Pauses as tenacity does when it is not told how."""
SHORTEST, LONGEST = 0.01, 0.25
"""Seconds between two looks at what another process is answered: a quarter of the time that was waited already."""


def tell(plan: Plan, slot: Slot, refused: Any = None, left: float | None = None) -> Flow[None]:
    """As `lead`, while others listen."""
    answer = yield from lead(plan, slot, refused, left)
    yield Emit(answer=answer)


def lead(plan: Plan, slot: Slot, refused: Any = None, left: float | None = None) -> Flow[Answer]:
    """Ask for everybody, unless somebody else has just been answered; with what is left of a timeout."""
    lease = slot.shelf.lease(slot.key) if slot.keep and slot.policy == "on" else None
    if lease is not None:
        return (yield from lead_all(plan, slot, lease, refused, left))
    _, answer = yield from recall(plan, slot, refused)
    return answer or (yield from ask_anew(within(plan, left), slot))


def lead_all(plan: Plan, slot: Slot, lease: Lease, refused: Any, left: float | None) -> Flow[Answer]:
    """As `lead`, for all processes: with the lease, which is given back however this ends."""
    answer: Answer | None
    try:
        answer, left = yield from wait(plan, slot, lease, refused, left)
        if answer is None:
            leased = replace(slot, lease=lease) if lease.taken else slot
            answer = yield from ask_anew(within(plan, left), leased)
        yield from give_back(plan, slot, lease)
    except Exception:
        yield from give_back(plan, slot, lease)
        raise
    finally:
        HEART.drop(lease)  # where it was not given back: who is cancelled, or not listened to, cannot
    return answer


def wait(plan: Plan, slot: Slot, lease: Lease, refused: Any, left: float | None) -> Flow[tuple[Any, float | None]]:
    """Take the lease, or wait for the answer of who has it: for half of our patience, which leaves the rest to ask."""
    patience = plan.patience if left is None else left
    waited, enough = 0.0, 0.0 if is_nested() else math.inf if patience is None else patience / 2
    while True:
        free = yield from take(plan, slot, lease)  # before looking: it may have been given back with an answer just now
        refused, answer = yield from recall(plan, slot, refused)
        if answer is not None or free or waited >= enough:
            return answer, left if patience is None or not waited else patience - waited
        pause = min(SHORTEST + waited / 4, LONGEST, enough - waited)
        yield Sleep(PAUSE, pause)
        waited += pause


def take(plan: Plan, slot: Slot, lease: Lease) -> Flow[bool]:
    """Whether nobody else has the lease: it is ours, or not to be had from a store that fails."""
    try:
        if not (yield Do(lease.store, "lease", (lease.key, lease.token, lease.seconds))):
            return False
        HEART.keep(lease)
    except Exception as problem:  # noqa: BLE001  a store is a stranger's code
        trouble(plan, slot, "taking a lease", problem)
    return True


def give_back(plan: Plan, slot: Slot, lease: Lease) -> Flow[None]:
    """Let the next one ask, unless that was done when the answer was stored."""
    try:
        if lease.taken:
            yield Do(lease.store, "release", (lease.key, lease.token))
            HEART.let_go(lease)
    except Exception as problem:  # noqa: BLE001  a store is a stranger's code
        trouble(plan, slot, "giving back a lease", problem)


def ask_anew(plan: Plan, slot: Slot) -> Flow[Answer]:
    """Ask, and remember the answer; not if the question was changed under our hands since it was looked up."""
    slot.shelf.stats.misses += 1
    plan.hooks.emit(HookName.CACHE_MISS, slot.key)
    if key_of(plan, slot.shelf, slot.namespace, slot.sample) != slot.key:
        return replace((yield from ask(replace(plan, slot=None))), whole=False)
    return (yield from remember(plan, slot, (yield from ask(plan))))
