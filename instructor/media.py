"""A medium: where an image, a sound or a document comes from, what is in it, and where it stands in messages.

A medium is read once, when it is made; from then on it holds its content, and a file that changes is another medium.
A URL stays a URL for the APIs that take one; for the others it is fetched when the question is really asked.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase as fnmatch
from os.path import isfile
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import Self

from .dialects.media import part_of
from .exceptions import MultimodalError
from .mode import Mode, core

Source: TypeAlias = str | Path | bytes

_MAGIC = {"image/png": rb"\x89PNG\r\n\x1a\n", "image/jpeg": rb"\xff\xd8\xff", "image/gif": rb"GIF8[79]a"}
_MAGIC |= {"image/webp": rb"RIFF....WEBP", "audio/wav": rb"RIFF....WAVE", "audio/aiff": rb"FORM....AIF[FC]"}
_MAGIC |= {"audio/mpeg": rb"ID3|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", "audio/aac": rb"\xff[\xf0\xf1\xf8\xf9]"}
_MAGIC |= {"audio/ogg": rb"OggS", "audio/flac": rb"fLaC", "audio/mp4": rb"....ftyp(?:M4A|mp4|iso)"}
_MAGIC |= {"audio/webm": rb"\x1aE\xdf\xa3", "application/pdf": rb"%PDF-"}
"""How the content of each type begins, after the formats' own specifications."""

_SUFFIXES = {name.partition("/")[2]: name for name in _MAGIC if name not in {"audio/mpeg", "audio/mp4", "audio/webm"}}
_SUFFIXES |= {"jpg": "image/jpeg", "mp3": "audio/mpeg", "m4a": "audio/mp4"}
DATA_URI = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)(?:;[^,;]+)*;base64,(?P<data>.*)", re.DOTALL)
_WEB = re.compile("https?://", re.IGNORECASE)
_FILE_ID = re.compile(r"(?:file[-_]|files/)[\w-]+|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # Mistral's are UUIDs


class Media(BaseModel):
    """What images, sounds and documents have in common.

    `source` is where it comes from: a URL, a path, the id of a file that the provider has; `data` is its content in
    base64, once that is known.
    """

    model_config = ConfigDict(defer_build=True)

    source: Source
    media_type: str
    data: str | None = Field(default=None, repr=False)

    kind: ClassVar[Literal["image", "audio", "document"]]
    family: ClassVar[str]
    """Its types, as a pattern."""
    limit: ClassVar[int]
    """The bytes that its content may have."""

    def model_post_init(self, _context: Any) -> None:
        """Take the content out of a source that holds it."""
        if self.data is None and isinstance(self.source, bytes):
            self.data = base64.b64encode(self.source).decode()
        elif self.data is None and (found := DATA_URI.fullmatch(str(self.source))):
            self.data = found["data"]

    @classmethod
    def autodetect(cls, source: Source, *, allow_local_files: bool = False) -> Self:
        """The medium that is meant: by bytes, a `Path`, a URL, a data URI, or base64.

        A string is never taken for the path of a file unless `allow_local_files` says so: it may be a stranger's.

        Raises:
            MultimodalError: it is none of these, or not of this kind.
        """
        if isinstance(source, bytes):
            return cls.from_bytes(source)
        if isinstance(source, Path):
            return cls.from_path(source)
        if _WEB.match(source) or source.startswith(("data:", "gs://")):
            return cls.from_url(_public(source))  # what is in a bucket as everybody sees it, not as this program may
        if allow_local_files and isfile(source):  # noqa: PTH113  a Path's raises for what can be no path
            return cls.from_path(source)
        return cls.from_raw_base64(source)

    @classmethod
    def autodetect_safely(cls, source: Source, *, allow_local_files: bool = False) -> Self | Source:
        """As `autodetect`, but what is no such medium is given back as it came."""
        try:
            return cls.autodetect(source, allow_local_files=allow_local_files)
        except (MultimodalError, OSError):
            return source

    @classmethod
    def from_bytes(cls, content: bytes, source: Source | None = None) -> Self:
        """From its content.

        Raises:
            MultimodalError: it is empty or too large, or does not begin as something of this kind does.
        """
        known = cls._known(content, source)
        return cls(source=known["data"] if source is None else source, **known)

    @classmethod
    def from_path(cls, path: str | Path) -> Self:
        """From a file, which is read now."""
        with Path(path).open("rb") as file:
            return cls.from_bytes(file.read(cls.limit + 1), Path(path))

    @classmethod
    def from_url(cls, url: str) -> Self:
        """From a URL (http, https, gs, s3), which is not looked at yet; or from a data URI."""
        if url.startswith("data:"):
            return cls.from_base64(url)
        if not re.match("(?:https?|gs|s3)://", url, re.IGNORECASE):
            raise MultimodalError(f"{url[:100]!r} is no URL of the web. A file is read by {cls.__name__}.from_path.")
        return cls(source=url, media_type=cls._fitting(type_at(url) or cls.family))

    @classmethod
    def from_base64(cls, data_uri: str) -> Self:
        """From a data URI: `data:image/png;base64,…`."""
        found = DATA_URI.fullmatch(data_uri)
        if found is None:
            raise MultimodalError(f"{data_uri[:40]!r} is no data URI in base64: write data:<type>;base64,<data>.")
        return cls.from_bytes(_decoded(found["data"], cls.limit), data_uri)

    @classmethod
    def from_raw_base64(cls, data: str) -> Self:
        """From its content in base64."""
        return cls.from_bytes(_decoded(data, cls.limit))

    @classmethod
    def from_gs_url(cls, data_uri: str, timeout: int = 30) -> Self:
        """From a public object of Google's storage, `gs://bucket/object`, fetched now, in `timeout` seconds."""
        return cls.from_url(data_uri).whole(timeout)

    @classmethod
    def from_file_id(cls, file_id: str) -> Self:
        """From the id of a file that was uploaded to the provider before."""
        return cls(source=file_id, media_type=cls.family)

    @classmethod
    def is_base64(cls, s: str) -> bool:
        """Whether a text is a data URI in base64."""
        return DATA_URI.fullmatch(s) is not None

    @property
    def link(self) -> str | None:
        """The URL, if that is all that is known, and one that anybody can follow."""
        source = self.source
        return source if self.data is None and isinstance(source, str) and _WEB.match(source) else None

    @property
    def file_id(self) -> str | None:
        """The id of a file at the provider, if that is all that is known."""
        source = self.source
        return source if self.data is None and isinstance(source, str) and _FILE_ID.fullmatch(source) else None

    @property
    def content(self) -> bytes:
        """The content, which must be known."""
        return _decoded(self.data or "", self.limit)

    @property
    def data_uri(self) -> str:
        """The content, which must be known, as a data URI."""
        return f"data:{self.media_type};base64,{self.data}"

    @property
    def title(self) -> str:
        """The name of its file; `document.pdf` where there is none."""
        return self.source.name if isinstance(self.source, Path) else "document.pdf"

    def whole(self, seconds: float | None = None) -> Self:
        """Itself with its content, which is fetched now if all that is known is a URL; and with the type of that.

        Raises:
            MultimodalError: there is nothing of this kind, or it cannot be fetched (see `fetch.fetch`).
        """
        content = self._fetched(seconds) if self.data is None else self.content
        return self.model_copy(update=self._known(content, self.source))

    def _fetched(self, seconds: float | None) -> bytes:
        url = _public(str(self.source))
        if not _WEB.match(url):
            what = f"The {self.kind} {str(self.source)[:100]!r} is not sent by its name here, and was not read"
            raise MultimodalError(f"{what}. Use {type(self).__name__}.from_path or from_bytes.")
        from .fetch import MAX_SECONDS, fetch  # noqa: PLC0415  most questions fetch nothing

        return fetch(url, self.limit, seconds=seconds or MAX_SECONDS)

    def identity(self) -> list[Any]:
        """What tells it from others in the key of a question: its content; where that is, while it is not known."""
        title = self.title if self.kind == "document" else None
        kept = getattr(self, "cache_control", None)
        if self.data is None:
            return [self.media_type, str(self.source), title, kept]
        seen = vars(self).get("_digest")
        if seen is None or seen[0] is not self.data:  # remembered: hashing again takes milliseconds
            seen = vars(self)["_digest"] = (self.data, hashlib.sha256(self.data.encode()).digest())
        return [seen[1], title, kept]

    def to_openai(self, mode: Mode) -> dict[str, Any]:
        """The part of a message that it is at OpenAI, in the Responses API or in the other."""
        return part_of(self, "responses" if core(mode) is Mode.RESPONSES_TOOLS else "openai")

    def to_anthropic(self) -> dict[str, Any]:
        """The block of a message that it is at Anthropic."""
        return part_of(self, "anthropic")

    def to_genai(self) -> Any:
        """The part of a content that it is at Google, of the SDK's type."""
        from google.genai.types import Part  # noqa: PLC0415  an SDK

        return Part.model_validate(part_of(self, "google"))

    @classmethod
    def _known(cls, content: bytes, source: Source | None) -> dict[str, str]:
        """What there is to know of content: the type that it begins as, and itself."""
        if len(content) > cls.limit:
            raise MultimodalError(f"The {cls.kind} has more than {cls.limit} bytes, which is the limit. Send less.")
        media_type = cls._fitting(sniff(content) or f"What begins with {content[:12]!r}", source)
        return {"media_type": media_type, "data": base64.b64encode(content).decode()}

    @classmethod
    def _fitting(cls, media_type: str, source: Source | None = None) -> str:
        if fnmatch(media_type, cls.family):
            return media_type
        known = ", ".join(name for name in _MAGIC if fnmatch(name, cls.family))
        path = str(source) if isinstance(source, Path) else None
        where = f" in {path!r}" if path else ""
        text = f"{media_type}{where} is no {cls.kind} that can be sent: use {known}."
        raise MultimodalError(text, content_type=cls.kind, file_path=path)


def sniff(content: bytes) -> str | None:
    """The type that content begins as."""
    return next((name for name, begins in _MAGIC.items() if re.match(begins, content, re.DOTALL)), None)


def _decoded(data: str, limit: int) -> bytes:
    """The bytes that a text in base64 stands for."""
    if len(data) > 2 * limit:
        raise MultimodalError(f"There are {len(data)} characters of base64 for at most {limit} bytes. Send less.")
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except ValueError as problem:  # what is no ASCII, or no base64
        raise MultimodalError(
            f"{data[:20]!r}… is no base64: {problem}. A file is read by from_path, or with allow_local_files=True."
        ) from problem


def _public(url: str) -> str:
    """Where everybody finds a public object of Google's storage; any other URL as it is."""
    return re.sub("^gs://", "https://storage.googleapis.com/", url)


def type_at(url: str) -> str | None:
    """The type that the end of a URL's or of a file's name stands for."""
    return _SUFFIXES.get(re.split("[?#]", url, maxsplit=1)[0].rpartition(".")[2].lower())


PLACES = ("messages", "contents", "input")
"""The arguments in which media may stand."""


def holds(said: Any) -> bool:
    """Whether there is a medium in messages, or a bare text among the parts of one: what no API takes as it is."""
    if isinstance(said, dict):
        said = said.get("content") or said.get("parts")
    if isinstance(said, (list, tuple)):
        return any(isinstance(part, str) or holds(part) for part in said)
    return isinstance(said, Media)


def rendered(kwargs: Mapping[str, Any], dialect: str) -> dict[str, Any]:
    """The arguments of a question with its media as a dialect has them, fetched where they must be.

    Raises:
        MultimodalError: one of them cannot be sent.
    """
    return {name: _shown(value, dialect) if name in PLACES else value for name, value in kwargs.items()}


def _shown(said: Any, dialect: str) -> Any:
    """Messages, or one, or a part."""
    if isinstance(said, (list, tuple)):
        return [_shown(each, dialect) for each in said]
    if isinstance(said, dict):
        inside = (("parts", _shown), ("content", parts_of))
        return said | {name: show(said[name], dialect) for name, show in inside if name in said}
    return part_of(said, dialect) if isinstance(said, Media) else said


def parts_of(content: Any, dialect: str, text: str = "text") -> Any:
    """The content of a message: a text, or parts of which each says what it is."""
    if isinstance(content, Media):
        return [part_of(content, dialect)]
    if not isinstance(content, (list, tuple)):
        return content
    return [{"type": text, "text": str(each)} if isinstance(each, str) else _shown(each, dialect) for each in content]
