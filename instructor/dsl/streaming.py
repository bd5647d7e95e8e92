"""The text of an SDK's stream, for those who hold the stream themselves."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any, ClassVar

from ..jsontext import Finder
from ..mode import Mode, core
from ..reader import Reader, read, read_async


class Streamed:
    """What `Partial[M]` and the classes of `IterableModel` can do with streams."""

    _reader: ClassVar[Callable[..., Reader]]

    @classmethod
    def model_from_chunks(cls, json_chunks: Iterable[str], **kwargs: Any) -> Iterator[Any]:
        """What is shown of a document that comes in pieces; the last snapshot is an instance of the model itself."""
        return read(cls._reader(**kwargs), json_chunks)

    @classmethod
    def model_from_chunks_async(cls, json_chunks: AsyncIterable[str], **kwargs: Any) -> AsyncIterator[Any]:
        """The same, of pieces that are waited for."""
        return read_async(cls._reader(**kwargs), json_chunks)

    tasks_from_chunks, tasks_from_chunks_async = model_from_chunks, model_from_chunks_async

    @staticmethod
    def extract_json(
        completion: Iterable[Any], stream_extractor: Any, on_event: Callable[[Any], Any] | None = None
    ) -> Iterator[str]:
        """The pieces of the document in a stream, as an extractor takes them out, or as the mode has them."""
        if isinstance(stream_extractor, Mode):
            return map(_ears(stream_extractor, on_event), completion)
        return iter(stream_extractor(completion))

    @staticmethod
    def extract_json_async(
        completion: AsyncIterable[Any], stream_extractor: Any, on_event: Callable[[Any], Any] | None = None
    ) -> AsyncIterator[str]:
        """The same, of a stream that is waited for."""
        if isinstance(stream_extractor, Mode):
            hear = _ears(stream_extractor, on_event)
            return (hear(event) async for event in completion)
        return aiter(stream_extractor(completion))

    @classmethod
    def from_streaming_response(cls, completion: Iterable[Any], stream_extractor: Any, **kwargs: Any) -> Iterator[Any]:
        """What is shown of a stream."""
        return cls.model_from_chunks(cls.extract_json(completion, stream_extractor), **kwargs)

    @classmethod
    def from_streaming_response_async(
        cls, completion: AsyncIterable[Any], stream_extractor: Any, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """The same, of a stream that is waited for."""
        return cls.model_from_chunks_async(cls.extract_json_async(completion, stream_extractor), **kwargs)


def known(how: dict[str, Any]) -> dict[str, Any]:
    """What validation can be told."""
    return {name: value for name, value in how.items() if name in {"context", "strict"}}


def _ears(mode: Mode, on_event: Callable[[Any], Any] | None) -> Callable[[Any], str]:
    """What hears the document in the events of a mode; whether the dialect is another shows in the first event."""
    listener: Any = None
    found = Finder().feed if mode in Mode.json_modes() else str

    def hear(event: Any) -> str:
        nonlocal listener
        if listener is None:
            package = type(event).__module__.partition(".")[0]
            room = package if package in {"anthropic", "google"} else "openai"  # which others are taken for
            room = "responses" if core(mode) is Mode.RESPONSES_TOOLS else room
            listener = importlib.import_module(f"..dialects.{room}", __package__).Listener(core(mode))
        if on_event and "reasoning" in str(getattr(event, "type", "")):
            on_event(event)
        return found(listener.hear(event))

    return hear
