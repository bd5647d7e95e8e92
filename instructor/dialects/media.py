"""How each API family takes an image, a sound or a document: one function per dialect, and their table."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..exceptions import MultimodalError, UnsupportedMediaError

if TYPE_CHECKING:  # which needs this module itself
    from ..media import Media


def part_of(medium: Media, dialect: str) -> dict[str, Any]:
    """The part of a message that `medium` is in a dialect; its content is fetched, now, where the API takes no URLs.

    A dialect that is not in the table takes what OpenAI's chat completions take.

    Raises:
        MultimodalError: it is not what it should be, or its content is not to be had.
        UnsupportedMediaError: the API does not take its kind.
    """
    return PARTS.get(dialect, _chat)(medium)


def _chat(medium: Media) -> dict[str, Any]:
    if medium.kind == "image":
        return {"type": "image_url", "image_url": {"url": medium.link or medium.whole().data_uri}}
    if medium.kind == "document":
        return {"type": "file", "file": _file(medium)}
    whole = medium.whole()
    if whole.media_type not in _SOUNDS:
        raise UnsupportedMediaError(f"OpenAI takes wav and mp3, not {whole.media_type!r}. Convert it first.")
    return {"type": "input_audio", "input_audio": {"data": whole.data, "format": _SOUNDS[whole.media_type]}}


_SOUNDS = {"audio/wav": "wav", "audio/mpeg": "mp3"}


def _file(medium: Media) -> dict[str, Any]:
    if medium.file_id:
        return {"file_id": medium.file_id}
    return {"filename": medium.title, "file_data": medium.whole().data_uri}


def _responses(medium: Media) -> dict[str, Any]:
    if medium.kind == "audio":
        raise _untaken("OpenAI's Responses API", medium)
    if medium.kind == "document":
        return {"type": "input_file", **({"file_url": medium.link} if medium.link else _file(medium))}
    known = {"file_id": medium.file_id} if medium.file_id else {"image_url": medium.link or medium.whole().data_uri}
    return {"type": "input_image", "detail": "auto", **known}


def _anthropic(medium: Media) -> dict[str, Any]:
    if medium.kind == "audio":
        raise _untaken("Anthropic", medium)
    kept = getattr(medium, "cache_control", None)
    return {"type": medium.kind, "source": _source(medium), **({"cache_control": dict(kept)} if kept else {})}


def _source(medium: Media) -> dict[str, Any]:
    if medium.link:
        return {"type": "url", "url": medium.link}
    if medium.file_id:
        return {"type": "file", "file_id": medium.file_id}
    whole = medium.whole()
    return {"type": "base64", "media_type": whole.media_type, "data": whole.data}


_GOOGLES = ("gs://", "https://generativelanguage.googleapis.com/")
"""Where Google looks itself: its storage and its Files API."""


def _google(medium: Media) -> dict[str, Any]:
    if medium.data is None and str(medium.source).startswith(_GOOGLES):
        known = {} if "*" in medium.media_type else {"mime_type": medium.media_type}
        return {"file_data": {"file_uri": str(medium.source), **known}}
    whole = medium.whole()
    return {"inline_data": {"mime_type": whole.media_type, "data": whole.content}}


def _bedrock(medium: Media) -> dict[str, Any]:
    if medium.data is None and str(medium.source).startswith("s3://"):  # where Bedrock looks itself
        source: dict[str, Any] = {"s3Location": {"uri": str(medium.source)}}
    else:
        medium = medium.whole()
        source = {"bytes": medium.content}
    if "*" in medium.media_type:
        made = f"{type(medium).__name__}(source=..., media_type=...)"
        raise MultimodalError(f"Bedrock must be told the type of what is at {medium.source!r}: write {made}.")
    named = {"name": re.sub(r"[^\w \-()\[\]]|_", "", medium.title)} if medium.kind == "document" else {}
    return {medium.kind: {"format": medium.media_type.rpartition("/")[2], **named, "source": source}}


def _mistral(medium: Media) -> dict[str, Any]:
    if medium.kind == "audio":
        return {"type": "input_audio", "input_audio": medium.link or medium.whole().data}
    if medium.kind == "image":
        return _chat(medium)
    if medium.file_id:
        return {"type": "file", "file_id": medium.file_id}
    return {"type": "document_url", "document_url": medium.link or medium.whole().data_uri}


def _cohere(medium: Media) -> dict[str, Any]:
    if medium.kind == "image":
        return _chat(medium)
    raise _untaken("Cohere", medium)


def _untaken(who: str, medium: Media) -> UnsupportedMediaError:
    return UnsupportedMediaError(f"{who} takes no {medium.kind}. Say in words what is in it, or ask another provider.")


PARTS: dict[str, Callable[[Media], dict[str, Any]]] = {
    "openai": _chat,
    "responses": _responses,
    "anthropic": _anthropic,
    "google": _google,
    "bedrock": _bedrock,
    "mistral": _mistral,
    "cohere": _cohere,
}
"""By the name of a dialect: the part that a medium is there."""
