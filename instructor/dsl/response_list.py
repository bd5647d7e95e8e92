"""A list of results that remembers the completion it was read from."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, SupportsIndex, TypeVar

from typing_extensions import Self

from ..receipt import Receipt

T = TypeVar("T")


class ListResponse(list[T]):
    """A list, equal to any other list of the same items; `_raw_response` is the completion it came from."""

    _raw_response = Receipt("_raw_response")
    _total_usage = Receipt("_total_usage")

    def get_raw_response(self) -> Any | None:
        """The completion that the items were read from."""
        return getattr(self, "_raw_response", None)

    def get_total_usage(self) -> Any | None:
        """What the call cost, in the provider's own units."""
        return getattr(self, "_total_usage", None)

    async def __aiter__(self) -> AsyncIterator[T]:
        """The items again: `async for user in await client.create(Iterable[User], ...)` is written in older code."""
        for item in self:
            yield item

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        """An item, or a slice that remembers the same completion."""
        return self._like(super().__getitem__(index)) if isinstance(index, slice) else super().__getitem__(index)

    def _like(self, items: list[T]) -> Self:
        copy = type(self)(items)
        vars(copy).update(vars(self))
        return copy


ResponseList = ListResponse
