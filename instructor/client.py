"""The clients: honest signatures, no logic."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from typing import Any, TypeAlias, TypeVar, overload

from tenacity import AsyncRetrying, Retrying
from typing_extensions import Self

from .drive import close, closed, run, run_async
from .endpoint import Endpoint
from .exceptions import ConfigurationError
from .flow import solve
from .hooks import HookName, Hooks
from .mode import Mode, core
from .patching import endpoint_of
from .plan import Plan, check_defaults, growing, make_plan, several
from .providers import Provider
from .streams import streamed, streamed_async
from .telemetry import watched

T = TypeVar("T")
Messages: TypeAlias = list[Any] | None


ONE_ANSWER = (
    "create_with_completion gives one answer: leave stream=True out. The last item of create_partial carries its "
    "completion as _raw_response."
)


class Instructor:
    """Typed answers from a language model.

    `client` is the SDK's own client, `create` the function that asks (or one made by `patch`); every further
    keyword is a default for each call, such as `model`, `temperature`, `cache`, `cache_ttl` or `cache_namespace`.
    """

    def __init__(
        self,
        client: Any | None,
        create: Callable[..., Any],
        mode: Mode = Mode.TOOLS,
        provider: Provider = Provider.OPENAI,
        hooks: Hooks | None = None,
        **kwargs: Any,
    ) -> None:
        self.client = client
        self.create_fn = create
        self.mode = mode
        self.provider = provider
        self.hooks = hooks or Hooks()
        self.kwargs = kwargs
        self.endpoint: Endpoint = endpoint_of(create, client, provider, core(mode))
        check_defaults(kwargs)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.provider.value}, model={self.default_model!r}, mode={self.mode.name}>"

    @property
    def default_model(self) -> str | None:
        """The model that is asked when a call names none."""
        return self.kwargs.get("model")

    @property
    def chat(self) -> Self:
        """The client itself: `client.chat.completions.create` and `client.messages.create` are `client.create`."""
        return self

    completions = messages = chat

    @property
    def responses(self) -> Any:
        """The client itself in the mode of the Responses API, where a question may be `input`; or the SDK client's."""
        sdk: Any = self.client
        return self if core(self.mode) is Mode.RESPONSES_TOOLS else sdk.responses

    def __getattr__(self, name: str) -> Any:
        """Everything else is the SDK client's own."""
        if name.startswith("__") or "client" not in self.__dict__:  # while being copied or unpickled
            raise AttributeError(name)
        return getattr(self.client, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the SDK client's connections."""
        close(self.client)

    def on(self, hook_name: HookName | str, handler: Callable[..., Any]) -> None:
        """Have `handler` called on an event of every call."""
        self.hooks.on(hook_name, handler)

    def off(self, hook_name: HookName | str, handler: Callable[..., Any]) -> None:
        """Have `handler` called no more."""
        self.hooks.off(hook_name, handler)

    def clear(self, hook_name: HookName | str | None = None) -> None:
        """Remove all handlers, of one event or of every one."""
        self.hooks.clear(hook_name)

    def handle_kwargs(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a call, completed with the client's defaults."""
        return {**self.kwargs, **kwargs}

    _plan = make_plan

    def _plan_stream(self, *asked: Any) -> Plan:
        """The plan of a stream."""
        *options, kwargs = asked
        plan: Any = self._plan
        made: Plan = plan(*options, kwargs.pop("token_budget", None), {**kwargs, "stream": True})
        return made

    @overload
    def create(self, response_model: type[T], messages: Messages = ..., *args: Any, **kwargs: Any) -> T: ...
    @overload
    def create(self, response_model: Any = ..., messages: Messages = ..., *args: Any, **kwargs: Any) -> Any: ...
    def create(
        self,
        response_model: Any = None,
        messages: Messages = None,
        max_retries: int | Retrying = 3,
        context: Mapping[str, Any] | None = None,
        strict: bool = True,
        hooks: Hooks | None = None,
        token_budget: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Ask, and get an answer of the type `response_model`; the plain completion when that is None.

        `max_retries` counts the attempts after the first (or is a tenacity controller), `context` feeds templates
        in the messages and pydantic's validation context, `strict` is pydantic's, `token_budget` bounds what
        failed attempts may cost. `cache=`, `cache_ttl=` (seconds), `cache_namespace=`, `cache_mode=` ("on", "off",
        "refresh", "read", "offline"), `cache_sample=` (a number) and `cache_tags=` (names by which `cache.delete_tag`
        finds what is stored) override the client's. `stale_while_revalidate=` and `stale_if_error=` are the seconds
        past `cache_ttl` in which an old answer will do while a new one is asked for, or where the provider fails.

        Raises:
            CacheMiss: `cache_mode` is "offline", and the cache has no answer.
            IncompleteOutputException: the answer was cut off.
            RefusalError: the model declined.
            InstructorRetryException: no attempt gave an answer that fits; its cause is the last error.
        """
        plan = self._plan(response_model, messages, max_retries, context, strict, hooks, token_budget, kwargs)
        return streamed(plan) if plan.streams else run(watched(solve, plan)).value

    def create_partial(
        self,
        response_model: type[T],
        messages: Messages = None,
        max_retries: int | Retrying = 3,
        context: Mapping[str, Any] | None = None,
        strict: bool = True,
        hooks: Hooks | None = None,
        **kwargs: Any,
    ) -> Generator[T, None, None]:
        """The answer as it grows: objects with what is known so far (None for the rest), and at last the whole one.

        Raises, while it is iterated:
            What `create` raises; after something was shown there is no further attempt, and nothing is remembered.
        """
        plan = self._plan_stream(growing(response_model), messages, max_retries, context, strict, hooks, kwargs)
        items: Generator[T, None, None] = streamed(plan)
        return items

    def create_iterable(
        self,
        messages: Messages = None,
        response_model: type[T] | Any = None,
        max_retries: int | Retrying = 3,
        context: Mapping[str, Any] | None = None,
        strict: bool = True,
        hooks: Hooks | None = None,
        **kwargs: Any,
    ) -> Generator[T, None, None]:
        """Answers of the type `response_model`, as many as the model finds, each as soon as it is whole.

        Raises, while it is iterated:
            What `create` raises; after something was given there is no further attempt, and nothing is remembered.
        """
        plan = self._plan_stream(several(response_model), messages, max_retries, context, strict, hooks, kwargs)
        items: Generator[T, None, None] = streamed(plan)
        return items

    def create_with_completion(
        self,
        messages: Messages = None,
        response_model: Any = None,
        max_retries: int | Retrying = 3,
        context: Mapping[str, Any] | None = None,
        strict: bool = True,
        hooks: Hooks | None = None,
        token_budget: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """As `create`, and the SDK's own completion beside the answer: `(answer, completion)`."""
        plan = self._plan(response_model, messages, max_retries, context, strict, hooks, token_budget, kwargs)
        if plan.reading:
            raise ConfigurationError(ONE_ANSWER)
        answer = run(watched(solve, plan))
        return answer.value, answer.completion


class AsyncInstructor(Instructor):
    """Typed answers from a language model, for asyncio."""

    def __enter__(self) -> Self:
        raise TypeError("An asynchronous client is closed by `async with`.")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:  # type: ignore[override]
        """Close the SDK client's connections."""
        await closed(self.client)

    aclose = close

    @overload  # type: ignore[override]
    async def create(self, response_model: type[T], messages: Messages = ..., *args: Any, **kwargs: Any) -> T: ...
    @overload
    async def create(self, response_model: Any = ..., messages: Messages = ..., *args: Any, **kwargs: Any) -> Any: ...
    async def create(
        self,
        response_model: Any = None,
        messages: Messages = None,
        max_retries: int | Retrying | AsyncRetrying = 3,
        context: Mapping[str, Any] | None = None,
        strict: bool = True,
        hooks: Hooks | None = None,
        token_budget: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """As `Instructor.create`, awaited."""
        plan = self._plan(response_model, messages, max_retries, context, strict, hooks, token_budget, kwargs)
        return streamed_async(plan) if plan.streams else (await run_async(watched(solve, plan))).value

    def create_partial(  # type: ignore[override]
        self,
        response_model: type[T],
        messages: Messages = None,
        max_retries: int | Retrying | AsyncRetrying = 3,
        context: Mapping[str, Any] | None = None,
        strict: bool = True,
        hooks: Hooks | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[T, None]:
        """As `Instructor.create_partial`, iterated by `async for`."""
        plan = self._plan_stream(growing(response_model), messages, max_retries, context, strict, hooks, kwargs)
        items: AsyncGenerator[T, None] = streamed_async(plan)
        return items

    def create_iterable(  # type: ignore[override]
        self,
        messages: Messages = None,
        response_model: type[T] | Any = None,
        max_retries: int | Retrying | AsyncRetrying = 3,
        context: Mapping[str, Any] | None = None,
        strict: bool = True,
        hooks: Hooks | None = None,
        **kwargs: Any,
    ) -> AsyncGenerator[T, None]:
        """As `Instructor.create_iterable`, iterated by `async for`."""
        plan = self._plan_stream(several(response_model), messages, max_retries, context, strict, hooks, kwargs)
        items: AsyncGenerator[T, None] = streamed_async(plan)
        return items

    async def create_with_completion(
        self,
        messages: Messages = None,
        response_model: Any = None,
        max_retries: int | Retrying | AsyncRetrying = 3,
        context: Mapping[str, Any] | None = None,
        strict: bool = True,
        hooks: Hooks | None = None,
        token_budget: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """As `Instructor.create_with_completion`, awaited."""
        plan = self._plan(response_model, messages, max_retries, context, strict, hooks, token_budget, kwargs)
        if plan.reading:
            raise ConfigurationError(ONE_ANSWER)
        answer = await run_async(watched(solve, plan))
        return answer.value, answer.completion
