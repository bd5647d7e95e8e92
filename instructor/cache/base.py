"""What a cache is: two methods, text in and text out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from .limits import named

if TYPE_CHECKING:
    from .shelf import Stats


class CacheWarning(UserWarning):
    """A cache could not do its work; the call it belongs to went on without it."""


class BaseCache(ABC):
    """A place to keep answers: subclass it, write `get` and `set`, and pass an instance as `cache=`.

    Keys are 64 hexadecimal digits; values are `str`. Both methods may raise: a cache that fails costs a
    miss and a `CacheWarning`, never the call; but a `CacheMiss` out of `get` says that nobody may be asked. Both must
    be safe to call from several threads at once. Coroutines `aget` and `aset`, where a cache has them, are what event
    loops use in their place.
    """

    blocking: ClassVar[Literal["never", "writes", "always"]] = "always"
    """Which calls may take longer than an event loop should wait: those are run in a thread under asyncio."""

    fractional_ttl: ClassVar[bool] = False
    """Whether `set` takes a `ttl` that is not whole; where it does not, seconds are rounded up."""

    imposes: Mapping[str, Any] = MappingProxyType({})
    """Arguments, such as `cache_mode`, that every call through this cache has, whatever the call itself says."""

    @abstractmethod
    def get(self, key: str) -> Any | None:
        """The value stored under `key`, or None."""

    @abstractmethod
    def set(self, key: str, value: Any, ttl: int | None = None) -> None:
        """Store `value` under `key`, for `ttl` seconds when given, replacing what was there."""

    def stats(self) -> Stats:
        """What it did in this process so far, as the calls that were given it know."""
        from .shelf import stats  # noqa: PLC0415  a shelf must know what a cache is first

        return stats(self)

    def delete_tag(self, tag: str) -> int:
        """Forget every entry that was stored with `tag` among its `cache_tags`; how many there were.

        Raises:
            ValueError: that is no tag.
            TypeError: this cache keeps no tags.
        """
        forget: Any = getattr(self, "delete_tagged", None)
        if forget is None or not getattr(self, "keeps_tags", True):
            raise TypeError(
                f"{self!r} keeps no tags: give it a delete_tagged(tag), and tags to its set(), to have them"
            )
        return len(forget(named("a tag", tag)))

    def __bool__(self) -> bool:
        """True, even when there is a `__len__` and it is 0: `if cache:` asks whether there is a cache."""
        return True

    def __getstate__(self) -> dict[str, Any]:
        """Everything but what this process knows of the cache."""
        return {name: value for name, value in self.__dict__.items() if name != "_shelf"}
