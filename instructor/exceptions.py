"""The errors we raise.

InstructorError
├── IncompleteOutputException      the answer was cut off before it was whole
├── CacheMiss                      nothing is in the cache, and nobody may be asked
├── RefusalError                   the model or a filter declined to answer
├── InstructorRetryException       every attempt failed; the last error is the cause
│   └── TokenBudgetError
│       ├── TokenBudgetExceeded
│       └── TokenUsageUnavailableError
├── ValidationError
├── ProviderError
├── ConfigurationError             the arguments cannot work; nothing was asked
├── ModeError                      the provider does not know that mode
├── ClientError                    that object is not a client of this provider
├── AsyncValidationError           (also ValueError)
├── ResponseParsingError           (also ValueError) the answer holds no payload
└── MultimodalError                (also ValueError) an image, a sound or a document cannot be sent
    └── UnsupportedMediaError      (also ValueError) and a NotImplementedError: the API does not take its kind
"""

from __future__ import annotations

import copyreg
from typing import Any, NamedTuple

from typing_extensions import Self

_ATTEMPT = (
    "<generation number='{}'>\n<exception>\n    {}\n</exception>\n<completion>\n    {}\n</completion>\n</generation>"
)
_ATTEMPTS = "<failed_attempts>\n\n{}\n\n</failed_attempts>\n\n<last_exception>\n    {}\n</last_exception>"
_CUT_OFF = "The output is incomplete: it reached the token limit. Raise max_tokens, or ask for less."


class FailedAttempt(NamedTuple):
    """One attempt that did not give an answer: its number (from 1), its error, what the provider said."""

    attempt_number: int
    exception: Exception
    completion: Any | None = None


class InstructorError(Exception):
    """The base of every error of this library: with the attempts that led to it, and what the provider said last."""

    def __init__(self, *args: Any, failed_attempts: list[FailedAttempt] | None = None, last_completion: Any = None):
        super().__init__(*args)
        self.failed_attempts, self.last_completion = failed_attempts, last_completion

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled and copied whole, whatever its own `__init__` insists on."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]

    @classmethod
    def from_exception(cls, exception: Exception, failed_attempts: list[FailedAttempt] | None = None) -> Self:
        """The same message as `exception`, in our family."""
        return cls(str(exception), failed_attempts=failed_attempts)

    def __str__(self) -> str:
        """The message; after several attempts, a list of what went wrong in each, and the last error."""
        if not self.failed_attempts:
            return super().__str__()
        attempts = "\n\n".join(_ATTEMPT.format(*attempt) for attempt in self.failed_attempts)
        return _ATTEMPTS.format(attempts, super().__str__())


class IncompleteOutputException(InstructorError):
    """The provider stopped before the answer was whole: raise `max_tokens`, or ask for less."""

    def __init__(self, *args: Any, message: str = _CUT_OFF, **kwargs: Any):
        super().__init__(*(args or (message,)), **kwargs)


class CacheMiss(InstructorError):
    """With `cache_mode="offline"`: the answer is not in the cache, and nothing was asked."""


class RefusalError(InstructorError):
    """The model refused, or a filter withheld the answer; the message holds the provider's words."""


class InstructorRetryException(InstructorError):
    """Every attempt failed; `__cause__` is the last error, `total_usage` what all attempts cost in tokens."""

    def __init__(
        self,
        *args: Any,
        messages: list[Any] | None = None,
        n_attempts: int,
        total_usage: Any,
        create_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.n_attempts, self.total_usage = n_attempts, total_usage
        self.messages, self.create_kwargs = messages, create_kwargs


class TokenBudgetError(InstructorRetryException):
    """A call with a `token_budget` stopped asking; `budget` is the number of tokens it was given."""

    def __init__(self, *args: Any, budget: int, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.budget = budget


class TokenBudgetExceeded(TokenBudgetError):
    """A failed attempt left the total at or above the budget."""


class TokenUsageUnavailableError(TokenBudgetError):
    """The provider did not say what an attempt cost, so the budget cannot be kept."""


class ValidationError(InstructorError):
    """A value did not pass validation outside pydantic."""


class ProviderError(InstructorError):
    """A provider could not do what was asked of it."""

    def __init__(self, provider: str, message: str, *args: Any, **kwargs: Any):
        super().__init__(f"{provider}: {message}", *args, **kwargs)
        self.provider = provider


class ConfigurationError(InstructorError):
    """The arguments cannot work; nothing was asked and nothing was spent."""


class ModeError(InstructorError):
    """The provider does not know that mode; `valid_modes` are the ones it does."""

    def __init__(self, mode: str, provider: str, valid_modes: list[str], *args: Any, **kwargs: Any):
        message = f"Mode {mode!r} is not supported by {provider!r}. Use one of: {', '.join(valid_modes)}"
        super().__init__(message, *args, **kwargs)
        self.mode, self.provider, self.valid_modes = mode, provider, valid_modes


class ClientError(InstructorError):
    """The object given is not a client that this provider's SDK makes."""


class AsyncValidationError(InstructorError, ValueError):
    """Async validators refused a value; `errors` holds what each of them said."""

    def __init__(self, *args: Any, errors: list[ValueError] | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.errors = errors or []


class ResponseParsingError(InstructorError, ValueError):
    """The answer holds no payload: no tool call, no JSON; `raw_response` is what the provider said."""

    def __init__(self, *args: Any, mode: str | None = None, raw_response: Any = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.mode, self.raw_response = mode, raw_response


class MultimodalError(InstructorError, ValueError):
    """An image, a sound or a document cannot be sent."""

    def __init__(self, *args: Any, content_type: str | None = None, file_path: str | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.content_type, self.file_path = content_type, file_path


class UnsupportedMediaError(MultimodalError, NotImplementedError):
    """The API that is asked does not take that kind of medium, or that format."""
