"""An SDK's create function that answers with response models: `patch`."""

from __future__ import annotations

import functools
import inspect
import warnings
from typing import Any

import msgspec

from .drive import run, run_async
from .endpoint import Endpoint, Function, dialect_of
from .exceptions import ModeError
from .flow import solve
from .hooks import Hooks
from .mode import Mode, core, warn_deprecated_mode
from .plan import Plan, make_plan
from .providers import ROWS, Provider, Row, row_in
from .streams import streamed, streamed_async
from .telemetry import watched


def row_of(provider: Provider) -> Row:
    """A provider's row; one that has none speaks like OpenAI."""
    return next((row for row in ROWS.values() if row.provider is provider), ROWS["openai"])


def check_mode(mode: Mode, row: Row) -> Mode:
    """The mode to ask in, whatever it used to be called.

    Raises:
        ModeError: the provider does not know it.
    """
    warn_deprecated_mode(mode)
    supported = (dialect_of(row).modes - row.lacks) | ({Mode.RESPONSES_TOOLS} if row.responses else set())
    if core(mode) not in supported:
        raise ModeError(str(getattr(mode, "name", mode)), row.provider.value, sorted(known.name for known in supported))
    return core(mode)


def endpoint_of(create: Function, client: Any, provider: Provider, mode: Mode) -> Endpoint:
    """What a patched function asks; for any other, an endpoint that calls it."""
    made = getattr(create, "endpoint", None)
    if isinstance(made, Endpoint) and made.face is create:  # not a wrapper, to which `functools.wraps` gave it too
        return made
    owner = getattr(getattr(create, "__self__", None), "_client", None)  # whose account is part of every question
    return Endpoint(row_in(row_of(provider), mode), client or owner, create, is_async=is_async(create))


def is_async(function: Function) -> bool:
    """Whether calling `function` gives something to await, looking through decorators."""
    inner = inspect.unwrap(function)
    return inspect.iscoroutinefunction(inner) or inspect.isasyncgenfunction(inner)


def patch(
    client: Any = None, create: Function | None = None, mode: Mode = Mode.TOOLS, provider: Provider = Provider.OPENAI
) -> Any:
    """Teach `client.chat.completions.create`, or the function `create`, to take `response_model` and its companions.

    In `Mode.RESPONSES_TOOLS` it is `client.responses.create` that learns.

    Gives back the same client, or a new function.

    Raises:
        ValueError: neither a client nor a function is given.
    """
    mode = check_mode(mode, row_of(provider))
    if create is not None:
        return patched(endpoint_of(create, client, provider, mode), mode)
    if client is None:
        raise ValueError("patch() needs a client or a create function, as in patch(OpenAI()) or patch(create=...).")
    place = client.responses if mode is Mode.RESPONSES_TOOLS else client.chat.completions
    place.create = patched(endpoint_of(place.create, client, provider, mode), mode)
    return client


def apatch(client: Any, mode: Mode = Mode.TOOLS, provider: Provider = Provider.OPENAI) -> Any:
    """As `patch`, which does both."""
    warnings.warn("apatch is deprecated, use patch instead", DeprecationWarning, stacklevel=2)
    return patch(client, mode=mode, provider=provider)


class Patched(msgspec.Struct):
    """Who asks through a patched function: nobody with defaults of their own."""

    endpoint: Endpoint
    mode: Mode
    hooks: Hooks = msgspec.field(default_factory=Hooks)
    kwargs: dict[str, Any] = {}


def patched(endpoint: Endpoint, mode: Mode) -> Function:
    """The endpoint's function, taking everything that `Instructor.create` takes; one attempt more by default."""
    asker = Patched(endpoint, mode)

    def plan(response_model: Any = None, max_retries: Any = 1, context: Any = None, **kwargs: Any) -> Plan:
        strict, hooks, budget = kwargs.pop("strict", True), kwargs.pop("hooks", None), kwargs.pop("token_budget", None)
        messages = kwargs.pop("messages", None)
        return make_plan(asker, response_model, messages, max_retries, context, strict, hooks, budget, kwargs)

    @functools.wraps(endpoint.call)
    def create(*args: Any, **kwargs: Any) -> Any:
        made = plan(*args, **kwargs)
        return streamed(made) if made.streams else run(watched(solve, made)).value

    @functools.wraps(endpoint.call)
    async def create_async(*args: Any, **kwargs: Any) -> Any:
        made = plan(*args, **kwargs)
        return streamed_async(made) if made.streams else (await run_async(watched(solve, made))).value

    made: Function = create_async if endpoint.is_async else create
    vars(made)["endpoint"], endpoint.face = endpoint, made
    return made
