"""What is remembered: an answer looked up in a store, and stored there; a store that fails costs nobody the answer."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from .answer import Answer, Restored, deliver
from .cache.completion import keep
from .cache.entry import Entry, seal, unseal
from .cache.leases import HEART
from .effects import Do, Flow, Load, Save
from .exceptions import CacheMiss
from .hooks import HookName
from .plan import Plan, Slot, bypass


def recall(plan: Plan, slot: Slot, refused: Any = None) -> Flow[tuple[Any, Answer | None]]:
    """What is stored, and the answer in it; no answer where the store fails, or has what was `refused` before.

    Raises:
        CacheMiss: there is none, and nobody may be asked.
    """
    text = answer = None
    try:
        if slot.policy != "refresh":
            text = yield Load(slot.shelf.store, slot.key)
    except CacheMiss:  # no failure: the store knows that nobody may be asked
        raise
    except Exception as problem:  # noqa: BLE001  a store is a stranger's code
        trouble(plan, slot, "reading", problem)
    if text is not None and (refused is None or text != refused):
        entry = unseal(text, slot.key)
        if entry is None:
            trouble(plan, slot, "reading", "the entry is damaged, or not ours")
        elif entry.fresh_until is None or plan.clock() < entry.fresh_until:
            kept = Restored(entry.completion, plan.endpoint, slot.key, entry.made_at, entry.model)
            answer = deliver(plan, entry.tape, kept, entry.events)
    if answer is not None:
        slot.shelf.stats.hits += 1
        if plan.hooks.on_hit:
            plan.hooks.emit(HookName.CACHE_HIT, slot.key, age=kept.age(plan.clock()))
    else:
        yield from _without(plan, slot, text)
    return text, answer


def _without(plan: Plan, slot: Slot, text: Any) -> Flow[None]:
    """There is no answer here; a store of several may have one further down."""
    if slot.policy == "offline" and slot.stale is None:
        raise missing(slot, text)
    try:
        if text is not None and hasattr(slot.shelf.store, "recheck"):
            yield Do(slot.shelf.store, "recheck", (slot.key,))
    except Exception as problem:  # noqa: BLE001  a store is a stranger's code
        trouble(plan, slot, "reading", problem)


def missing(slot: Slot, text: Any) -> CacheMiss:
    """The error of who may not ask, where nothing but `text` is stored."""
    has = "has no answer" if text is None else "has an answer that does not fit (any more)"
    return CacheMiss(f"{slot.shelf.store!r} {has} under {slot.key}, and cache_mode is 'offline'.")


def remember(plan: Plan, slot: Slot, answer: Answer) -> Flow[Answer]:
    """Store an answer that is finished, validated and whole; a store that fails costs nobody the answer."""
    if not answer.whole:
        return answer
    kept = keep(answer.raw, plan.endpoint.row.completion)
    if kept is None:
        problem = f"a {type(answer.raw).__name__} cannot be kept as text and come back equal"
        bypass(plan, slot.shelf, "completion", problem)
        return answer
    if slot.keep:
        now = plan.clock()
        fresh_until = None if slot.stale is None else now + (slot.ttl or 0)
        entry = Entry(answer.tape, kept, str(plan.kwargs.get("model")), now, answer.events, fresh_until)
        try:
            yield from save(plan, slot, seal(entry, slot.key))
        except Exception as problem:  # noqa: BLE001  a store is a stranger's code
            trouble(plan, slot, "storing an answer", problem)
    return replace(answer, kept=kept)


def save(plan: Plan, slot: Slot, text: str) -> Flow[None]:
    """Store a text; not where the lease was lost, since somebody else asks now, or was answered."""
    lease, store = slot.lease, slot.shelf.store
    if lease is None:
        yield Save(store, slot.key, text, slot.lasts, slot.tags)
    elif (yield Do(store, "set_leased", (slot.key, text, slot.lasts, lease.token, *filter(None, [slot.tags])))):
        HEART.let_go(lease)
    else:
        return
    slot.shelf.stats.stores += 1
    plan.hooks.emit(HookName.CACHE_STORE, slot.key, ttl=slot.ttl)


def trouble(plan: Plan, slot: Slot, doing: str, problem: object) -> None:
    """Tell of a store that failed."""
    slot.shelf.trouble(doing, problem)
    plan.hooks.emit(HookName.CACHE_ERROR, problem, doing=doing)
