"""The user's arguments as a plan: everything that is decided before anything is asked."""

from __future__ import annotations

import collections.abc
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, TypeAlias, get_origin

import msgspec
from msgspec.structs import replace

from .cache.key import make_cache_key
from .cache.leases import Lease
from .cache.shelf import Shelf, check_cache, shelf_of
from .cache.wishes import Policy, Stale, Wishes, wishes_in
from .dsl.iterable import IterableBase
from .dsl.partial import Partial, PartialBase
from .endpoint import Endpoint
from .exceptions import CacheMiss, ConfigurationError
from .hooks import HookName, Hooks
from .messages import render
from .mode import Mode
from .parallel import compile_parallel
from .retry import seconds
from .shape import Shape, compile_shape
from .snapshots import LISTS

DEFAULT_PATIENCE = 600.0
"""Seconds to wait for an identical question when the call has no timeout: the SDKs' own default."""


Reading: TypeAlias = Literal["items", "snapshots", "events"]
"""What a stream gives: the items of a list, an object as far as it is known, or the SDK's own events."""


class Slot(msgspec.Struct, frozen=True, eq=False):
    """Where the answer to a question is remembered, for how many seconds; and the lease to be held then."""

    shelf: Shelf
    key: str
    ttl: float | None = None
    namespace: str | None = None
    sample: int | None = None
    policy: Policy = "on"
    tags: tuple[str, ...] = ()
    stale: Stale | None = None
    lease: Lease | None = None

    @property
    def lasts(self) -> float | None:
        """Seconds for which a store keeps an answer: as long as it is fresh, or will do all the same."""
        return self.ttl if self.ttl is None or self.stale is None else self.ttl + max(self.stale)

    @property
    def keep(self) -> bool:
        """Whether a new answer may be stored at all."""
        return (self.ttl is None or self.ttl > 0) and self.policy != "read"

    @property
    def flight(self) -> str:
        """What is shared with others who ask now: an answer under one policy may not be one under another."""
        return self.key if self.policy == "on" else f"{self.key} {self.policy}"


class Plan(msgspec.Struct, eq=False):
    """One call, decided. `slot` is None when nothing is remembered.

    `streams` says that the answer is a stream of ours; without a shape and a cache it is the SDK's own. `bypassed` says
    that there is a cache, but no key.
    """

    endpoint: Endpoint
    shape: Shape | None
    mode: Mode
    kwargs: dict[str, Any]
    max_retries: Any
    context: Mapping[str, Any] | None
    strict: bool
    hooks: Hooks
    budget: int | None = None
    reading: Reading | None = None
    slot: Slot | None = None
    clock: Callable[[], float] = time.time
    streams: bool = False
    bypassed: bool = False

    @property
    def terms(self) -> Any:
        """An answer that will do for one may not do for another; nor is an error another's on other terms."""
        return self.shape, self.max_retries, self.budget

    def reader(self) -> Any:
        """What reads the tape of a stream as it comes; nothing where the SDK's own events are wanted."""
        return self.shape and self.shape.reader(self.context, strict=self.strict, partial=self.reading == "snapshots")

    @property
    def patience(self) -> float | None:
        """Seconds this call is ready to wait for an identical one: its own timeout, or its client's."""
        given = self.kwargs.get("timeout", getattr(self.endpoint.client, "timeout", DEFAULT_PATIENCE))
        allowed = getattr(given, "read", given)
        return float(allowed) if isinstance(allowed, (int, float)) else None if given is None else DEFAULT_PATIENCE


class Asker(Protocol):
    """Who asks: a client, or a patched function."""

    endpoint: Endpoint
    mode: Mode
    hooks: Hooks
    kwargs: dict[str, Any]


def make_plan(
    asker: Asker,
    response_model: Any,
    messages: Any,
    max_retries: Any,
    context: Mapping[str, Any] | None,
    strict: bool,
    hooks: Hooks | None,
    token_budget: int | None,
    kwargs: Mapping[str, Any],
) -> Plan:
    """The plan of a call, in which the call's own arguments win over its asker's.

    Raises:
        TypeError, ValueError, ConfigurationError: an argument cannot work.
    """
    shape = (compile_parallel if asker.mode is Mode.PARALLEL_TOOLS else compile_shape)(response_model)
    kwargs = {**asker.kwargs, **kwargs}
    if messages is not None:
        kwargs["messages"] = messages
        if type(messages) is not list:
            check_messages(messages)
    if "autodetect_images" in kwargs:
        from .multimodal import detected  # noqa: PLC0415  most questions are put in words

        kwargs = detected(kwargs)
    cache = kwargs.pop("cache", None)
    shelf = None if cache is None else shelf_of(cache)
    if shelf is not None and shelf.imposes:
        kwargs.update(shelf.imposes)
    wishes = wishes_in(kwargs)
    if token_budget is not None:
        check_budget(token_budget, shape)
    stream = "stream" in kwargs and kwargs.pop("stream")
    reading = check_stream(response_model, shape, asker.mode, token_budget) if stream else None
    if context:
        kwargs = {name: render(value, context) if name in TEMPLATED else value for name, value in kwargs.items()}
    heard = asker.hooks if hooks is None else asker.hooks + hooks
    plan = Plan(asker.endpoint, shape, asker.mode, kwargs, max_retries, context, strict, heard, token_budget, reading)
    if shelf is not None and wishes.policy != "off":
        plan.slot = _slot(plan, shelf, wishes)
        plan.bypassed = plan.slot is None
    if reading is not None:
        plan.streams = shape is not None or plan.slot is not None
    if wishes.policy == "offline" and plan.slot is None:
        raise CacheMiss(
            "cache_mode='offline', and there is no cache, or no key to look under: nothing can be answered."
        )
    return plan


def _slot(plan: Plan, shelf: Shelf, wishes: Wishes) -> Slot | None:
    """Where the answer is remembered; nowhere where the question has no key."""
    key = key_of(plan, shelf, wishes.namespace, wishes.sample)
    if wishes.tags and not shelf.keeps_tags:
        problem = f"{shelf.store!r} keeps no tags, so what has cache_tags could not be deleted again."
        bypass(plan, shelf, "tags", problem)
        wishes = wishes._replace(ttl=0)
    return None if key is None else Slot(shelf, key, *wishes)


TEMPLATED = ("messages", "input", "contents", "chat_history", "system", "instructions")


def key_of(plan: Plan, shelf: Shelf, namespace: str | None, sample: int | None = None) -> str | None:
    """The key of a question, or None with a warning when it has none."""
    kwargs, endpoint = plan.kwargs, plan.endpoint
    if plan.reading is not None and plan.shape is None and "stream_options" in kwargs:  # they say what the events are
        kwargs = {**kwargs, "events": kwargs["stream_options"]}
    try:
        return make_cache_key(
            messages=kwargs.get("messages"),
            model=kwargs.get("model"),
            system=kwargs.get("system"),
            response_model=plan.shape,
            mode=plan.mode,
            provider=endpoint.speaker,
            namespace=namespace,
            request_kwargs=kwargs,
            endpoint=endpoint.scope(namespace),
            strict=plan.strict,
            context=plan.context,
            sample=sample,
        )
    except (TypeError, ValueError) as problem:
        bypass(plan, shelf, "no stable identity", problem)
        return None


def bypass(plan: Plan, shelf: Shelf, reason: str, problem: object) -> None:
    """Tell of a question or an answer that cannot be cached."""
    shelf.bypass(reason, problem)
    plan.hooks.emit(HookName.CACHE_BYPASS, reason, problem=problem)


def within(plan: Plan, left: float | None) -> Plan:
    """The plan with what is left of its timeout, where it has one and some of it was spent waiting."""
    if left is None or seconds(plan.kwargs.get("timeout")) is None:
        return plan
    return replace(plan, kwargs={**plan.kwargs, "timeout": max(left, 0.001)})


def check_defaults(kwargs: Mapping[str, Any]) -> None:
    """Refuse at construction what every call would refuse, and what only a call can say."""
    if per_call := {"max_retries", "context", "strict", "token_budget"} & kwargs.keys():
        raise ConfigurationError(f"{sorted(per_call)} belong to a call: pass them to create().")
    if kwargs.get("cache") is not None:
        check_cache(kwargs["cache"])
    wishes_in({**kwargs}, of_call=False)  # a call may give what is missing


def check_messages(messages: Any) -> None:
    """Raise for what is no list of messages, before a provider is paid to say so."""
    if isinstance(messages, (str, dict)):
        raise TypeError(
            f'messages must be a list of messages, not {messages!r:.100}. Write [{{"role": "user", "content": "..."}}].'
        )


def check_budget(budget: Any, shape: Shape | None) -> None:
    """Raise unless a token budget can be kept."""
    if isinstance(budget, bool) or not isinstance(budget, int):
        raise TypeError(f"token_budget must be a whole number of tokens, not {budget!r}.")
    if budget <= 0:
        raise ValueError(f"token_budget must be greater than 0, not {budget!r}.")
    if shape is None:
        raise ConfigurationError("token_budget needs a response_model: a plain completion is one call.")


def check_stream(response_model: Any, shape: Shape | None, mode: Mode, budget: int | None) -> Reading:
    """What a stream of `response_model` gives."""
    if shape is None:
        return "events"
    if budget is not None or mode is Mode.PARALLEL_TOOLS:
        reason = "token_budget needs a whole answer" if budget else "PARALLEL_TOOLS gives all its calls at once"
        raise ConfigurationError(f"{reason}. Leave stream=True out.")
    if _is_a(response_model, PartialBase):
        return "snapshots"
    if _is_list(response_model):
        return "items"
    raise ConfigurationError(
        f"A stream of {response_model!r} would be one answer. Ask for Partial[...] of it (create_partial) to see it "
        "grow, for Iterable[...] (create_iterable) to get one after the other, or leave stream=True out."
    )


def _is_a(response_model: Any, kind: type) -> bool:
    return isinstance(response_model, type) and issubclass(response_model, kind)


def _is_list(response_model: Any) -> bool:
    return get_origin(response_model) in LISTS or _is_a(response_model, IterableBase)


def growing(response_model: Any) -> Any:
    """`Partial[...]` of a response model, which it may be already."""
    return response_model if _is_a(response_model, PartialBase) else Partial[response_model]


def several(response_model: Any) -> Any:
    """`Iterable[...]` of a response model, which it may be already."""
    if response_model is None:
        raise TypeError("create_iterable() needs a response_model: the type of its items.")
    return response_model if _is_list(response_model) else collections.abc.Iterable[response_model]
