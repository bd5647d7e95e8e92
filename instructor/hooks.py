"""Hooks: let a program listen to what happens during a call.

>>> hooks = Hooks()
>>> hooks.on("completion:kwargs", lambda **kwargs: print("asking", kwargs["model"]))
>>> hooks.emit(HookName.COMPLETION_KWARGS, model="gpt-4o-mini")
asking gpt-4o-mini

A handler is a guest: what it raises becomes a warning and never reaches the call.
"""

from __future__ import annotations

import inspect
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from functools import partialmethod
from types import FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

from typing_extensions import Self

Handler = Callable[..., Any]


class HookName(str, Enum):
    """What can be listened to, with the arguments of its handlers."""

    COMPLETION_KWARGS = "completion:kwargs"
    """Before each attempt: handler(**kwargs of the request)."""

    COMPLETION_RESPONSE = "completion:response"
    """After each answer of the provider: handler(response)."""

    COMPLETION_ERROR = "completion:error"
    """When the provider's API failed: handler(error, attempt_number=, max_attempts=, is_last_attempt=)."""

    COMPLETION_LAST_ATTEMPT = "completion:last_attempt"
    """When the last attempt failed: handler(error, attempt_number=, max_attempts=, is_last_attempt=)."""

    COMPLETION_USAGE = "completion:usage"
    """After each answer that tells its usage: handler(usage so far, attempt_number=)."""

    PARSE_ERROR = "parse:error"
    """When an answer did not validate: handler(error, attempt_number=, max_attempts=, is_last_attempt=)."""

    CACHE_HIT = "cache:hit"
    """An answer came from the cache: handler(key, age=seconds); of an old one, also stale=True."""

    CACHE_MISS = "cache:miss"
    """It did not, and the provider is asked: handler(key)."""

    CACHE_STORE = "cache:store"
    """An answer was stored: handler(key, ttl=seconds or None)."""

    CACHE_ERROR = "cache:error"
    """The cache failed, and the call went on without it: handler(problem, doing=)."""

    CACHE_BYPASS = "cache:bypass"
    """A call or its answer could not be cached: handler(reason, problem=)."""

    @classmethod
    def _missing_(cls, value: object) -> None:
        raise ValueError(f"Invalid hook name: {value} (known are {', '.join(cls)})")


class Hooks:
    """The handlers of each hook, in the order in which they were added."""

    def __init__(self) -> None:
        # Adding to a list and taking from it are one step each, and who is called is copied first: no lock is needed.
        self._handlers: dict[HookName, list[Handler]] = {name: [] for name in HookName}
        self.on_hit = self._handlers[HookName.CACHE_HIT]  # at hand: a hit has no time to look it up

    def on(self, hook_name: HookName | str, handler: Handler) -> None:
        """Call `handler` whenever the hook fires."""
        self._handlers[self.get_hook_name(hook_name)].append(handler)

    def off(self, hook_name: HookName | str, handler: Handler) -> None:
        """Take `handler` off, once; one that is not there is no error."""
        handlers = self._handlers[self.get_hook_name(hook_name)]
        with suppress(ValueError):
            handlers.remove(handler)

    def clear(self, hook_name: HookName | str | None = None) -> None:
        """Take all handlers off that hook, or off all hooks."""
        for name in HookName if hook_name is None else [self.get_hook_name(hook_name)]:
            self._handlers[name].clear()

    def any(self, hook_name: HookName) -> bool:
        """Whether anybody listens: a cheap question to ask before building the arguments."""
        return bool(self._handlers[hook_name])

    def get_hook_name(self, hook_name: HookName | str) -> HookName:
        """The hook of that name; ValueError for an unknown one."""
        return HookName(hook_name)

    def emit(self, hook_name: HookName | str, *args: Any, **kwargs: Any) -> None:
        """Call every handler of the hook; as many keywords as its signature takes, from the first on."""
        name = self.get_hook_name(hook_name)
        for handler in tuple(self._handlers[name]):
            _call(name, handler, args, kwargs)

    emit_completion_arguments = partialmethod(emit, HookName.COMPLETION_KWARGS)
    emit_completion_response = partialmethod(emit, HookName.COMPLETION_RESPONSE)
    emit_completion_error = partialmethod(emit, HookName.COMPLETION_ERROR)
    emit_completion_last_attempt = partialmethod(emit, HookName.COMPLETION_LAST_ATTEMPT)
    emit_completion_usage = partialmethod(emit, HookName.COMPLETION_USAGE)
    emit_parse_error = partialmethod(emit, HookName.PARSE_ERROR)

    def __add__(self, other: Hooks) -> Hooks:
        """Both sets of handlers, the left ones first."""
        if not isinstance(other, Hooks):
            return NotImplemented
        return self.combine(self, other)

    def __iadd__(self, other: Hooks) -> Self:
        """Take over the handlers of `other`, after our own."""
        if not isinstance(other, Hooks):
            return NotImplemented
        for name, handlers in other._handlers.items():
            self._handlers[name] += handlers
        return self

    @classmethod
    def combine(cls, *hooks_instances: Hooks) -> Hooks:
        """New hooks with the handlers of all these, in that order."""
        combined = cls()
        for hooks in hooks_instances:
            if not isinstance(hooks, Hooks):
                raise TypeError(f"Expected Hooks instance, got {type(hooks)}")
            combined += hooks
        return combined

    def copy(self) -> Hooks:
        """New hooks with the same handlers."""
        return self.combine(self)


def _call(name: HookName, handler: Handler, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        handler(*args, **_taken(handler, args, kwargs))
    except Exception:  # noqa: BLE001 - a stranger's code
        warnings.warn(f"Error in {name.value} handler:\n{traceback.format_exc()}", stacklevel=3)


def _taken(handler: Handler, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """As many keywords as its signature takes, from the first on: what is told last was added last."""
    plain = isinstance(handler, (FunctionType, MethodType))
    known = _KNOWN.setdefault(getattr(handler, "__func__", handler), {}) if plain else {}
    names = known.get(told := (len(args), *kwargs))
    if names is None:
        names = [*kwargs]
        while names and not _fits(handler, args, dict.fromkeys(names)):
            names.pop()
        known[told] = names
    return {name: kwargs[name] for name in names}


_KNOWN: WeakKeyDictionary[Any, dict[Any, list[str]]] = WeakKeyDictionary()
"""Which keywords a function takes of those that it is told: to look at its signature costs ten times the call."""


def _fits(handler: Handler, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    with suppress(TypeError, ValueError):  # it does not fit, or it is built in and does not say
        inspect.signature(handler).bind(*args, **kwargs)
        return True
    return False
