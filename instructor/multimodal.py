"""Images, sounds and documents in messages, beside their text.

>>> message = {"role": "user", "content": ["What is this?", Image.from_url("https://example.com/cat.png")]}
>>> convert_messages([message], Mode.TOOLS)[0]["content"][1]
{'type': 'image_url', 'image_url': {'url': 'https://example.com/cat.png'}}
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from fnmatch import fnmatchcase as fnmatch
from os.path import isfile
from pathlib import Path
from typing import Any

from typing_extensions import Self

from .dialects.media import PARTS, part_of
from .exceptions import MultimodalError
from .media import DATA_URI, PLACES, Media, Source, parts_of, rendered, sniff, type_at
from .messages import Verbatim
from .mode import Mode

__all__ = ["Audio", "Image", "ImageWithCacheControl", "MultimodalError"]
__all__ += ["PDF", "PDFWithCacheControl", "PDFWithGenaiFile", "autodetect_media", "convert_contents"]
__all__ += ["convert_messages"]
MIB = 2**20
_LINK = re.compile(r"https?://[^\s{}]+", re.IGNORECASE)  # with braces it is a template, and no URL (RFC 3986)
_NAMES = (str, bytes, Path)


class Image(Media):
    """An image: JPEG, PNG, GIF or WebP, of at most 20 MiB."""

    kind = "image"
    family = "image/*"
    limit = 20 * MIB


class Audio(Media):
    """A sound, of at most 25 MiB. OpenAI takes WAV and MP3, Anthropic none."""

    kind = "audio"
    family = "audio/*"
    limit = 25 * MIB


class PDF(Media):
    """A document, of at most 50 MiB."""

    media_type: str = "application/pdf"

    kind = "document"
    family = "application/pdf"
    limit = 50 * MIB

    def to_mistral(self) -> dict[str, Any]:
        """The part of a message that it is at Mistral."""
        return part_of(self, "mistral")

    def to_bedrock(self, name: str | None = None) -> dict[str, Any]:
        """The part of a message that it is in Bedrock's Converse, under its own name or another."""
        document = part_of(self, "bedrock")["document"]
        return {"document": {**document, "name": name or document["name"]}}


class ImageWithCacheControl(Image):
    """An image up to which Anthropic keeps the question, as `cache_control` says."""

    cache_control: Mapping[str, str] | None = None

    @classmethod
    def from_image_params(cls, image_params: Mapping[str, Any], *, allow_local_files: bool = False) -> Self:
        """From a dict of its source and its `cache_control`."""
        image = cls.autodetect(image_params["source"], allow_local_files=allow_local_files)
        return image.model_copy(update={"cache_control": image_params.get("cache_control")})


class PDFWithCacheControl(PDF):
    """A document up to which Anthropic keeps the question."""

    cache_control: Mapping[str, str] | None = {"type": "ephemeral"}


class PDFWithGenaiFile(PDF):
    """A document that Google's Files API has."""

    @classmethod
    def from_existing_genai_file(cls, file_name: str) -> Self:
        """The file of that name, `files/…`.

        Raises:
            MultimodalError: it is not ready to be used.
        """
        client = _google()
        return cls._ready(client.files.get(name=file_name))

    @classmethod
    def from_new_genai_file(cls, file_path: str, retry_delay: int = 10, max_retries: int = 20) -> Self:
        """A file uploaded now; asked for every `retry_delay` seconds until it is ready, `max_retries` times.

        Raises:
            MultimodalError: it was not ready in time.
        """
        client = _google()
        file = client.files.upload(file=file_path)
        for _ in range(max_retries):
            if file.state.name != "PROCESSING":
                break
            time.sleep(retry_delay)
            file = client.files.get(name=file.name)
        return cls._ready(file)

    @classmethod
    def _ready(cls, file: Any) -> Self:
        if file.state.name != "ACTIVE":
            raise MultimodalError(f"The file {file.name!r} is {file.state.name}, not ACTIVE. Ask for it later.")
        return cls(source=file.uri, media_type=file.mime_type)


def _google() -> Any:
    """A client, to be held as long as it is used: it closes its connections when it is let go."""
    from google import genai  # noqa: PLC0415  an SDK

    return genai.Client()


def autodetect_media(source: Source | Media, *, allow_local_files: bool = False) -> Media | Source:
    """The image, sound or document that is meant; what says nothing of the kind is given back as it came.

    A URL is one whose path ends as such files do; a string is a path only where `allow_local_files` says so.

    Raises:
        MultimodalError: it says that it is one, and is not.
    """
    if isinstance(source, Media):
        return source
    said = sniff(source) if isinstance(source, bytes) else _said(source, allow_local_files)
    kind = next((kind for kind in (Image, Audio, PDF) if fnmatch(said or "", kind.family)), None)
    return kind.autodetect(source, allow_local_files=allow_local_files) if kind else source


def _said(source: str | Path, allowed: bool) -> str | None:
    """The type that a path or a text says it is of."""
    text = str(source)
    if found := DATA_URI.fullmatch(text):
        return found["type"]
    named = isinstance(source, Path) or (allowed and isfile(text)) or _LINK.fullmatch(text)  # noqa: PTH113  see media.py
    return type_at(text) if named else None


def detected(kwargs: dict[str, Any]) -> dict[str, Any]:
    """A question with the media that users name in words, where `autodetect_images` asks for that."""
    allowed, wanted = kwargs.pop("allow_local_files", False), kwargs.pop("autodetect_images")
    if not wanted:
        return kwargs
    asked = [name for name in PLACES if isinstance(kwargs.get(name), (list, tuple))]
    return kwargs | {name: [_seen(message, allowed) for message in kwargs[name]] for name in asked}


def _seen(message: Any, allowed: bool) -> Any:
    if not isinstance(message, dict) or message.get("role") != "user":
        return message
    return message | {name: _found(message[name], allowed) for name in ("content", "parts") if name in message}


def _found(content: Any, allowed: bool) -> Any:
    if isinstance(content, (list, tuple)):
        return [_found(part, allowed) for part in content]
    source = content.get("source") if isinstance(content, dict) and content.get("type") == "image" else None
    if isinstance(source, _NAMES):
        return ImageWithCacheControl.from_image_params(content, allow_local_files=allowed)
    if isinstance(content, _NAMES) and not isinstance(content, Verbatim):
        return autodetect_media(content, allow_local_files=allowed)
    return content


def convert_contents(contents: Any, mode: Mode) -> Any:
    """The content of a message as the API that a mode is named after takes it; OpenAI's where it is named after none.

    Raises:
        MultimodalError: something in it is neither text nor part nor medium, or cannot be sent.
    """
    given = contents if isinstance(contents, list) else [contents]
    if odd := [type(part).__name__ for part in given if not isinstance(part, (str, dict, Media))]:
        raise MultimodalError(f"A message holds text, dicts and media, not {', '.join(odd)}.")
    dialect = _dialect(mode)
    text = "input_text" if dialect == "responses" else "text"
    return contents if isinstance(contents, str) else parts_of(given, dialect, text)


def convert_messages(
    messages: list[Any], mode: Mode, autodetect_images: bool = False, *, allow_local_files: bool = False
) -> list[Any]:
    """Messages with their media as the API that a mode is named after takes them.

    With `autodetect_images`, what users say in URLs and data URIs is looked at too; with `allow_local_files`, in paths.

    Raises:
        MultimodalError: one of them cannot be sent.
    """
    asked = {"messages": messages, "autodetect_images": autodetect_images, "allow_local_files": allow_local_files}
    found: list[Any] = rendered(detected(asked), _dialect(mode))["messages"]
    return found


def _dialect(mode: Mode) -> str:
    name = mode.name.partition("_")[0].lower()
    name = {"genai": "google", "gemini": "google", "vertexai": "google"}.get(name, name)
    return name if name in PARTS else "openai"
