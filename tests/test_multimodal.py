"""Images, sounds and documents: made, told apart, sent in every dialect, and remembered by what is in them."""

from __future__ import annotations

import base64
import copy
import importlib
import importlib.util
import json
import pickle
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import golden
import pytest
from fake_provider import FakeProvider
from flavours import CLIENTS, ask, openai_client
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from replay import RECORDED

import instructor
from instructor import Audio, Image, Mode
from instructor.cache import AutoCache, make_cache_key, stats
from instructor.dialects.media import PARTS, part_of
from instructor.effects import Run
from instructor.exceptions import MultimodalError, UnsupportedMediaError
from instructor.flow import ask as ask_provider
from instructor.media import Media, holds, rendered
from instructor.messages import Verbatim, render
from instructor.multimodal import (
    PDF,
    ImageWithCacheControl,
    PDFWithCacheControl,
    PDFWithGenaiFile,
    autodetect_media,
    convert_contents,
    convert_messages,
)

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
OTHER = PNG[:-1] + b"\x83"
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF"
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt "
MP3 = b"ID3\x04\x00"
FLAC = b"fLaC\x00"
DOCUMENT = b"%PDF-1.4\n"
URL = "https://media.example/cat.png"
EVERY_DIALECT = sorted(PARTS)


def b64(content: bytes) -> str:
    """The content in base64."""
    return base64.b64encode(content).decode()


def uri(content: bytes, media_type: str = "image/png") -> str:
    """The content as a data URI."""
    return f"data:{media_type};base64,{b64(content)}"


def asking(*parts: Any) -> list[Any]:
    """A question that holds all that."""
    return [{"role": "user", "content": list(parts)}]


class User(BaseModel):
    """Somebody."""

    name: str
    age: int


# What it is


@pytest.mark.parametrize(
    ("kind", "content", "media_type"),
    [
        *((Image, PNG, "image/png"), (Image, JPEG, "image/jpeg"), (Image, b"GIF89a", "image/gif")),
        *(
            (Image, b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
            (Audio, WAV, "audio/wav"),
            (Audio, MP3, "audio/mpeg"),
        ),
        *((Audio, b"\xff\xfb\x90", "audio/mpeg"), (Audio, b"\xff\xf1\x50", "audio/aac"), (Audio, b"OggS", "audio/ogg")),
        *((Audio, FLAC, "audio/flac"), (Audio, b"\x00\x00\x00\x20ftypM4A ", "audio/mp4")),
        *((Audio, b"FORM\x00\x00\x00\x00AIFF", "audio/aiff"), (PDF, DOCUMENT, "application/pdf")),
    ],
)
def test_the_content_says_what_type_it_is(kind: type[Media], content: bytes, media_type: str) -> None:
    """By how it begins, from wherever it comes and whatever is said about it."""
    made = [kind.from_bytes(content), kind.autodetect(content), kind.from_raw_base64(b64(content))]
    made += [kind.autodetect(b64(content)), kind.from_base64(uri(content, f"{media_type[:5]}/other"))]

    assert {(media_type, b64(content))} == {(each.media_type, each.data) for each in made}
    assert type(autodetect_media(content)) is kind


def test_media_are_models() -> None:
    """They have the fields that users know, and can be compared, copied, pickled, dumped and validated."""
    image = Image.from_bytes(PNG)
    image.identity()

    assert {"source": b64(PNG), "media_type": "image/png", "data": b64(PNG)} == image.model_dump()
    assert image == Image.from_bytes(PNG) == copy.deepcopy(image) == pickle.loads(pickle.dumps(image))  # noqa: S301
    assert image == Image.model_validate(image.model_dump()) == Image.model_validate_json(image.model_dump_json())
    assert image != Image.from_bytes(OTHER)
    assert isinstance(image, BaseModel)
    assert (
        b64(PNG)
        == Image(source=PNG, media_type="image/png").data
        == Image(source=uri(PNG), media_type="image/png").data
    )


def test_a_file_is_read_once(tmp_path: Path) -> None:
    """What is sent is what was there when the medium was made."""
    path = tmp_path / "a b_c.png"
    path.write_bytes(PNG)
    images = [Image.from_path(path), Image.from_path(str(path)), Image.autodetect(path)]
    images.append(Image.autodetect(str(path), allow_local_files=True))
    path.write_bytes(OTHER)

    assert [(path, uri(PNG))] * 4 == [(each.source, each.data_uri) for each in images]


@pytest.mark.fault("H9")
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Image.from_bytes(b""), "begins with b''"),
        (lambda: Image.from_bytes(b"<svg/>"), "no image that can be sent: use image/png, image/jpeg"),
        (lambda: Image.from_bytes(b"GIF88a"), "begins with b'GIF88a'"),
        (lambda: Image.from_base64(uri(b"hello")), "begins with b'hello'"),
        (lambda: Image.from_raw_base64(b64(DOCUMENT)), "application/pdf is no image"),
        (lambda: PDF.from_bytes(PNG), "image/png is no document"),
        (lambda: Audio.from_bytes(b"\x00\x00\x00\x20ftypheic"), "no audio"),
        (lambda: Image.from_base64("data:image/png,hello"), "no data URI in base64"),
        (lambda: Image.from_raw_base64("ä"), "no base64"),
        (lambda: Image.from_raw_base64("abc"), "no base64"),
        (lambda: Image.from_bytes(PNG + bytes(20 * 2**20)), "more than 20971520 bytes"),
        (lambda: Image.from_raw_base64("A" * 42 * 2**20), "at most 20971520 bytes"),
        (lambda: Image.from_url("https://media.example/a.mp3"), "audio/mpeg is no image"),
        (lambda: Image.from_url("file:///etc/passwd"), "no URL of the web"),
        (lambda: Image.autodetect("C:\\cat.png"), "allow_local_files=True"),
    ],
)
def test_what_is_no_such_medium_is_an_error(make: Any, says: str) -> None:
    """Before anything is asked: what it is, and what could be sent."""
    with pytest.raises(MultimodalError, match=re.escape(says)):
        make()


@pytest.mark.fault("H9")
def test_a_file_that_is_none_or_too_large_is_an_error(tmp_path: Path) -> None:
    """No more of a file is read than may be sent, and the error names it."""
    large, text = tmp_path / "large.png", tmp_path / "text.png"
    text.write_text("hello")
    with large.open("wb") as file:
        file.write(PNG)
        file.truncate(30 * 2**20)

    with pytest.raises(MultimodalError, match="more than 20971520 bytes"):
        Image.from_path(large)
    with pytest.raises(MultimodalError, match=r"in '.*text\.png'") as caught:
        Image.from_path(text)
    assert (str(text), "image") == (caught.value.file_path, caught.value.content_type)
    with pytest.raises(FileNotFoundError):
        Image.from_path(tmp_path / "none.png")


@pytest.mark.fault("H9")
@pytest.mark.parametrize("kind", [Image, Audio, PDF])
def test_a_string_is_no_path_unless_the_program_says_so(tmp_path: Path, kind: type[Media]) -> None:
    """A string may be a stranger's: the file of that name is not read, however it is asked for."""
    content = {Image: PNG, Audio: WAV, PDF: DOCUMENT}[kind]
    path = tmp_path / {Image: "secret.png", Audio: "secret.wav", PDF: "secret.pdf"}[kind]
    path.write_bytes(content)
    name = str(path)

    with pytest.raises(MultimodalError):
        kind.autodetect(name)
    assert name == kind.autodetect_safely(name) == autodetect_media(name)
    assert asking({"type": "text", "text": name}) == convert_messages(asking(name), Mode.TOOLS, autodetect_images=True)
    with pytest.raises(MultimodalError, match="from_path"):
        kind(source=name, media_type="image/png").to_openai(Mode.TOOLS)
    with pytest.raises(MultimodalError, match="from_path"):
        kind.model_validate_json(json.dumps({"source": name, "media_type": "image/png"})).to_openai(Mode.TOOLS)

    assert content == autodetect_media(name, allow_local_files=True).content  # type: ignore[union-attr]
    assert content == kind.autodetect_safely(name, allow_local_files=True).content  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        *((URL, Image), ("https://media.example/A.JPG?x=1", Image), ("gs://bucket/a.wav", str)),
        *(("http://media.example/a.pdf", PDF), (uri(PNG), Image), (uri(DOCUMENT, "application/pdf"), PDF)),
        *(("https://media.example/page", str), ("https://media.example/a.mp4", str), ("see " + URL, str)),
        *(("hello", str), ("", str), ("a\0b.png", str), ("x" * 5000, str), ("data:text/plain,hello", str)),
        *((b"hello", bytes), (Image.from_url(URL), Image)),
    ],
)
def test_media_are_found_by_what_they_say_they_are(source: Any, expected: type) -> None:
    """URLs by how they end, data URIs by their type; all else stays what it is."""
    assert type(autodetect_media(source, allow_local_files=True)) is expected


@given(text=st.text(max_size=9) | st.builds("http://{}.png".format, st.text("[]@:/?#%. \\\n\0é", max_size=9)))
def test_any_text_may_be_looked_at(text: str) -> None:
    """It is a medium or it is not: no text, and no broken URL, makes looking for media fail."""
    for found in (
        autodetect_media(text, allow_local_files=True),
        Image.autodetect_safely(text, allow_local_files=True),
    ):
        assert found == text or (isinstance(found, Media) and found.source == text)


@pytest.mark.fault("H9")
def test_a_string_names_nothing_that_only_the_program_may_see() -> None:
    """A bucket's object is meant as everybody sees it; what a provider keeps for this account is not meant at all."""
    assert Image.autodetect("gs://bucket/a.png").link == "https://storage.googleapis.com/bucket/a.png"
    for text in ("s3://bucket/a.png", "file-abc", "files/abc"):
        assert text == PDF.autodetect_safely(text) == Image.autodetect_safely(text) == autodetect_media(text)


def test_what_says_it_is_an_image_and_is_none_is_an_error() -> None:
    """Such a text is not sent as a text, which would cost as much as it is long."""
    with pytest.raises(MultimodalError, match="begins with b'hello'"):
        autodetect_media(uri(b"hello"))
    assert uri(b"hello") == Image.autodetect_safely(uri(b"hello"))


def test_base64_is_told_from_other_text() -> None:
    """`is_base64` knows data URIs."""
    texts = (uri(PNG), "data:audio/ogg;codecs=opus;base64,AAAA", "data:text/plain,x", b64(PNG), "hello")
    assert [True, True, False, False, False] == [Image.is_base64(text) for text in texts]


# How it is sent

EXAMPLES: dict[str, Media] = {
    "image": Image.from_bytes(PNG),
    "image at a URL": Image.from_url(URL),
    "image uploaded": Image.from_file_id("file-abc"),
    "image up to which is kept": ImageWithCacheControl(
        source=PNG, media_type="image/png", cache_control={"type": "ephemeral"}
    ),
    "wav": Audio.from_bytes(WAV),
    "mp3": Audio.from_bytes(MP3),
    "flac": Audio.from_bytes(FLAC),
    "document": PDF.from_bytes(DOCUMENT),
    "document of a name": PDF.from_bytes(DOCUMENT, Path("annual report_2024.pdf")),
    "document uploaded": PDF.from_file_id("file-abc"),
    "document up to which is kept": PDFWithCacheControl.from_bytes(DOCUMENT),
    "document of Google's": PDFWithGenaiFile(source="https://generativelanguage.googleapis.com/v1beta/files/abc"),
    "image in Google's storage": Image(source="gs://bucket/cat.png", media_type="image/png"),
    "image in Google's storage without an ending": Image.from_url("gs://bucket/cat"),
    "image in Amazon's storage": Image.from_url("s3://bucket/cat.png"),
    "image that was in Google's storage": Image.from_bytes(PNG, "gs://bucket/cat.png"),
    "image that was in Amazon's storage": Image.from_bytes(PNG, "s3://bucket/cat.png"),
}


def shown(medium: Media, dialect: str) -> Any:
    """The part as JSON can show it; the error, where there is none; and where it would be fetched, just that."""
    if dialect in {"google", "bedrock"} and medium.link and "googleapis" not in str(medium.source):
        return "(fetched first)"
    if medium.data is None and str(medium.source).startswith("gs://") and dialect != "google":
        return "(fetched first)"
    if "googleapis" in str(medium.source) and dialect in {"openai", "bedrock"}:
        return "(fetched first)"
    try:
        return json.loads(json.dumps(part_of(medium, dialect), default=lambda content: f"(bytes) {b64(content)}"))
    except MultimodalError as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("dialect", EVERY_DIALECT)
def test_parts_are_those_that_were_reviewed(dialect: str) -> None:
    """Every kind of medium from every kind of source is sent as the golden files say."""
    known = importlib.util.find_spec(f"instructor.dialects.{dialect}")
    version = importlib.import_module(f"instructor.dialects.{dialect}").version if known else 1

    made = {name: shown(medium, dialect) for name, medium in EXAMPLES.items()}

    golden.check(SimpleNamespace(name=dialect, version=version), "media", made)


RECORDINGS = {
    "openai": (
        "openai_chat",
        "openrouter",
        "deepseek",
        "cerebras",
        "groq",
        "together",
        "perplexity",
        "llamacpp",
        "xai",
    ),
    "responses": ("openai_responses",),
    "anthropic": ("anthropic",),
    "google": ("google_genai",),
    "bedrock": ("bedrock",),
    "mistral": ("mistral",),
    "cohere": ("cohere",),
}
OPTIONAL = {"detail", "cache_control", "filename", "name", "citations", "context", "text"}


def recorded_parts(provider: str) -> Iterator[dict[str, Any]]:
    """Every part of a recorded request that holds a medium."""
    for exchange in json.loads((RECORDED / f"{provider}.json").read_text()):
        body = (exchange.get("request") or {}).get("body")
        for message in (body or {}).get("messages", (body or {}).get("input", (body or {}).get("contents"))) or ():
            content = message.get("content", message.get("parts")) if isinstance(message, dict) else None
            for part in content if isinstance(content, list) else ():
                if isinstance(part, dict) and source_in(part) is not None:
                    yield part


def source_in(part: Any) -> Media | None:
    """The medium that a recorded part is, made from the text in it."""
    for text in (text for text in texts_in(part) if len(text) > 8):
        if part.get("type") in {"image_url", "input_image", "image"} or "image" in part:
            return image_in(text) or next(filter(None, map(image_in, texts_in(part))), None)
        if part.get("type") == "input_audio":
            return Audio.from_raw_base64(part["input_audio"]["data"])
        if part.get("type") in {"file", "input_file"} or "inlineData" in part:
            return next(filter(None, map(document_in, texts_in(part))), None)
    return None


def texts_in(part: Any) -> Iterator[str]:
    """Every text in a part."""
    if isinstance(part, str):
        yield part
    for inner in part.values() if isinstance(part, dict) else ():
        yield from texts_in(inner)


def image_in(text: str) -> Image | None:
    """An image, where a text is a URL or holds one."""
    found = Image.autodetect_safely(text)
    return found if isinstance(found, Image) else None


def document_in(text: str) -> PDF | None:
    """A document, where a text is a URL or holds one."""
    found = PDF.autodetect_safely(text)
    return found if isinstance(found, PDF) else None


def outline(part: Any) -> Any:
    """Which fields there are, and which words in them are no content."""
    if isinstance(part, dict):
        return {name: outline(value) for name, value in part.items() if name not in OPTIONAL}
    return part if isinstance(part, str) and len(part) < 20 and "/" not in part else type(part).__name__


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded traffic is not beside this checkout")
@pytest.mark.parametrize("dialect", RECORDINGS)
def test_parts_have_the_shape_of_recorded_ones(dialect: str) -> None:
    """The same medium is sent as the providers' own SDKs, and others', were seen to send it."""
    parts = [part for provider in RECORDINGS[dialect] for part in recorded_parts(provider)]
    seen = [(outline(part), outline(made(part, dialect))) for part in parts]

    assert seen
    assert [expected for expected, _ in seen] == [actual for _, actual in seen]


def made(part: dict[str, Any], dialect: str) -> Any:
    """What we make of the medium in a recorded part; of Google's, what its SDK sends."""
    medium = source_in(part)
    assert medium is not None
    # Claude's own API was recorded on Bedrock too: what it is asked there is what it is asked at home.
    ours = part_of(medium, "anthropic" if dialect == "bedrock" and "source" in part else dialect)
    if dialect != "google":
        return ours
    return types.Part.model_validate(ours).model_dump(mode="json", by_alias=True, exclude_none=True)


def test_an_api_that_does_not_take_a_medium_says_so() -> None:
    """The error is a MultimodalError, and the NotImplementedError that users of Anthropic know."""
    with pytest.raises(NotImplementedError, match="Anthropic takes no audio") as caught:
        Audio.from_bytes(WAV).to_anthropic()
    assert isinstance(caught.value, UnsupportedMediaError)
    with pytest.raises(MultimodalError, match="wav and mp3, not 'audio/flac'"):
        Audio.from_bytes(FLAC).to_openai(Mode.TOOLS)


def test_media_say_themselves_what_they_are_at_a_provider() -> None:
    """The methods that users know give the dialects' own parts."""
    image, document = Image.from_bytes(PNG), PDF.from_bytes(DOCUMENT)

    assert part_of(image, "openai") == image.to_openai(Mode.TOOLS)
    assert part_of(image, "responses") == image.to_openai(Mode.RESPONSES_TOOLS_WITH_INBUILT_TOOLS)
    assert part_of(image, "anthropic") == image.to_anthropic()
    assert types.Part.from_bytes(data=PNG, mime_type="image/png") == image.to_genai()
    assert part_of(document, "mistral") == document.to_mistral()
    assert part_of(document, "bedrock") == document.to_bedrock()
    assert document.to_bedrock("x")["document"]["name"] == "x"


def test_a_medium_made_by_hand_is_looked_at_when_it_is_sent() -> None:
    """What says that it is a PNG and is a JPEG is sent as a JPEG; what is none is not sent."""
    image = Image(source="mine", media_type="image/png", data=b64(JPEG))

    assert image.to_anthropic()["source"]["media_type"] == "image/jpeg"
    assert image.media_type == "image/png"
    with pytest.raises(MultimodalError, match="no image that can be sent"):
        Image(source="mine", media_type="image/png", data=b64(b"hello")).to_anthropic()
    with pytest.raises(MultimodalError, match="no base64"):
        Image(source="mine", media_type="image/png", data=f"{b64(PNG)}!").to_anthropic()
    with pytest.raises(MultimodalError, match="more than 20971520 bytes"):
        Image(source=PNG + bytes(20 * 2**20), media_type="image/png").to_anthropic()
    assert (
        b64(PNG)
        == Image(source="mine", media_type="image/png", data=base64.encodebytes(PNG)).to_anthropic()["source"]["data"]
    )


def test_a_users_own_kind_of_image_is_sent_as_an_image() -> None:
    """Whatever else it knows; and what else it knows is there when it was fetched or checked."""

    class Portrait(Image):
        of: str

    portrait = Portrait(source=PNG, media_type="image/png", of="Ann")

    assert Image.from_bytes(PNG).to_anthropic() == portrait.to_anthropic()
    assert portrait == portrait.whole()


def test_a_file_in_amazons_storage_is_of_some_type() -> None:
    """Bedrock looks there itself, and is told in which format the file is."""
    assert part_of(Image(source="s3://bucket/cat", media_type="image/png"), "bedrock")["image"]["format"] == "png"
    with pytest.raises(MultimodalError, match="the type of what is at 's3://bucket/cat'"):
        part_of(Image.from_url("s3://bucket/cat"), "bedrock")


def test_mistrals_files_are_known_by_uuids() -> None:
    """Such an id stands for a file there; who takes no ids says that the content was not read."""
    uploaded = PDF.from_file_id("3fa85f64-5717-4562-b3fc-2c963f66afa6")

    assert {"type": "file", "file_id": uploaded.source} == uploaded.to_mistral()
    with pytest.raises(MultimodalError, match="not sent by its name here"):
        uploaded.to_bedrock()


# In messages


def test_content_is_converted() -> None:
    """Texts and media become parts, parts stay, and a text alone stays a text."""
    image, text = Image.from_url(URL), {"type": "text", "text": "b"}
    expected = [{"type": "text", "text": "a"}, image.to_openai(Mode.TOOLS), text]

    assert expected == convert_contents(["a", image, text], Mode.TOOLS)
    assert [image.to_anthropic()] == convert_contents(image, Mode.ANTHROPIC_TOOLS)
    assert [{"type": "input_text", "text": "a"}] == convert_contents(["a"], Mode.RESPONSES_TOOLS)
    assert convert_contents("a", Mode.TOOLS) == "a"
    assert [text] == convert_contents(text, Mode.TOOLS)
    with pytest.raises(ValueError, match=r"not int, [A-Z][a-z]+Path"):
        convert_contents(["a", 3, Path("cat.png")], Mode.TOOLS)


@pytest.mark.parametrize(
    ("mode", "dialect"),
    [
        *((Mode.TOOLS, "openai"), (Mode.MD_JSON, "openai"), (Mode.RESPONSES_TOOLS, "responses")),
        *((Mode.ANTHROPIC_JSON, "anthropic"), (Mode.GENAI_TOOLS, "google"), (Mode.BEDROCK_TOOLS, "bedrock")),
        *((Mode.MISTRAL_TOOLS, "mistral"), (Mode.COHERE_TOOLS, "cohere"), (Mode.FIREWORKS_JSON, "openai")),
    ],
)
def test_a_mode_may_be_named_after_an_api(mode: Mode, dialect: str) -> None:
    """Its media are that API's; otherwise OpenAI's."""
    image = Image.from_bytes(PNG)

    assert [{"role": "user", "content": [part_of(image, dialect)]}] == convert_messages(asking(image), mode)


def test_users_media_are_found_where_that_is_asked_for(tmp_path: Path) -> None:
    """In what users say, also as dicts and alone; not in what models say, nor in what is said to be verbatim."""
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    kept = {"type": "image", "source": uri(PNG), "cache_control": {"type": "ephemeral"}}
    native = {"type": "image", "source": {"type": "url", "url": URL}}
    said = [*asking("What?", URL, kept, native, path, PNG), {"role": "user", "content": URL}]
    said += [{"role": "assistant", "content": URL}, *asking(Verbatim(URL))]
    given_ = copy.deepcopy(said)

    first, alone, model, verbatim = convert_messages(said, Mode.ANTHROPIC_TOOLS, autodetect_images=True)

    image, content = Image.from_url(URL).to_anthropic(), Image.from_bytes(PNG).to_anthropic()
    expected = [{"type": "text", "text": "What?"}, image, {**content, "cache_control": kept["cache_control"]}, native]
    assert [*expected, content, content] == first["content"]
    assert [image] == alone["content"]
    assert URL == model["content"]
    assert [{"type": "text", "text": URL}] == verbatim["content"]
    assert given_ == said


def test_messages_and_their_parts_may_be_tuples() -> None:
    """Media are found in them as in lists."""
    said: Any = ({"role": "user", "content": ("What?", URL)},)

    expected = convert_messages(asking("What?", Image.from_url(URL)), Mode.TOOLS)
    assert expected == convert_messages(said, Mode.TOOLS, autodetect_images=True)


def test_templates_are_rendered_in_the_text_only() -> None:
    """A medium beside it is left alone, though its URL has braces."""
    image = Image.from_url("https://media.example/{{ who }}.png")

    assert asking("Ann?", image) == render(asking("{{ who }}?", image), {"who": "Ann"})


@pytest.mark.fault("H9")
def test_what_a_template_brings_in_is_never_taken_for_a_medium(provider: FakeProvider) -> None:
    """A stranger's text in the context stays text; what the program wrote itself is found."""
    client = openai_client(provider, autodetect_images=True)

    client.create(User, asking("{{ said }}", URL), context={"said": URL})

    expected = [{"type": "text", "text": URL}, Image.from_url(URL).to_openai(Mode.TOOLS)]
    assert expected == PLACES["openai"](provider.requests[0])


def test_a_template_is_no_url(provider: FakeProvider) -> None:
    """An address that the context is still to fill in is text: braces stand in no URL (RFC 3986)."""
    client = openai_client(provider, autodetect_images=True)

    client.create(User, asking("https://media.example/{{who}}.png"), context={"who": "ann"})

    expected = [{"type": "text", "text": "https://media.example/ann.png"}]
    assert expected == PLACES["openai"](provider.requests[0])


@pytest.mark.parametrize("text", ["data:image/png is how it begins", "data:image/svg+xml,%3Csvg/%3E", "data:image/"])
def test_a_text_that_begins_like_a_data_uri_is_a_text(text: str) -> None:
    """What users say cannot make a call fail by looking a little like a medium."""
    assert text == autodetect_media(text)


def test_googles_messages_are_looked_through_too(provider: FakeProvider) -> None:
    """Their `parts` are what others' `content` is, and stay the only thing in them."""
    client = CLIENTS["google"](provider, autodetect_images=True)

    client.create(User, contents=[{"role": "user", "parts": [{"text": "Who?"}]}])
    client.create(User, contents=[{"role": "user", "parts": [{"text": "Who?"}, uri(PNG)]}])

    assert [1, 2] == [len(PLACES["google"](body)) for body in provider.requests]
    assert b64(PNG) in json.dumps(provider.requests[1])


parts = st.one_of(st.text(max_size=3), st.just({"type": "text", "text": "x"}), st.just(Image.from_url(URL)))
contents = st.one_of(st.text(max_size=3), st.none(), parts, st.lists(parts, max_size=3))
messages = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "tool"]), "content": contents})
nested = st.lists(messages | st.lists(messages, max_size=1), max_size=3)


@given(said=nested, dialect=st.sampled_from(["openai", "anthropic", "mistral"]))
def test_what_is_shown_is_plain_and_nothing_given_is_changed(said: Any, dialect: str) -> None:
    """After rendering there is no medium left, and rendering again changes nothing; without media nothing changes."""
    before = copy.deepcopy(said)

    first = rendered({"messages": said, "model": "m"}, dialect)

    assert before == said
    assert json.dumps(first)
    assert first == rendered(first, dialect)
    assert not holds(first["messages"])
    assert holds(said) or first["messages"] == said


# Asked, and remembered


def key(*parts: Any) -> str:
    """The key of a question that holds all that."""
    return make_cache_key(messages=asking("What is this?", *parts), model="m", response_model=User)


@pytest.mark.fault("D8")
def test_an_image_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    """The same content is the same question from bytes, base64, a data URI and any path; a URL is known as a URL."""
    one, other = tmp_path / "one.png", tmp_path / "other.png"
    one.write_bytes(PNG)
    other.write_bytes(PNG)
    same = [Image.from_bytes(PNG), Image.from_raw_base64(b64(PNG)), Image.from_base64(uri(PNG, "image/jpeg"))]
    same += [Image.from_path(one), Image.from_path(other), Image(source=PNG, media_type="image/png")]
    keys = {key(image) for image in same}
    one.write_bytes(OTHER)
    urls = {key(Image.from_url(url)) for url in (URL, f"{URL}?x", str(one.as_uri()).replace("file", "https"))}

    assert len(keys) == 1
    assert key(Image.from_path(one)) not in keys, "a changed file behind the same path is another question"
    assert len(urls | keys) == 4
    assert key(same[3]) in keys, "what was read before is the old question still"


@pytest.mark.fault("D8")
def test_what_is_sent_differently_is_another_question() -> None:
    """The kind, the name of a document, what is kept by the provider, and content set anew."""
    kept = {"cache_control": {"type": "ephemeral"}}
    image = Image.from_bytes(PNG)
    different = [
        *(image, Image.from_bytes(OTHER), Audio.from_bytes(WAV), PDF.from_bytes(DOCUMENT)),
        *(PDF.from_bytes(DOCUMENT, Path("a.pdf")), PDF.from_bytes(DOCUMENT, Path("b.pdf"))),
        ImageWithCacheControl.from_image_params({"source": PNG, **kept}),
        ImageWithCacheControl.from_image_params({"source": PNG, "cache_control": {"type": "ephemeral", "ttl": "1h"}}),
        *(Image(source=URL, media_type="image/png"), Image(source=URL, media_type="image/jpeg"), uri(PNG)),
    ]
    keys = [key(each) for each in different]
    image.data = b64(JPEG)

    assert len(different) == len({*keys})
    assert key(image) not in keys


PLACES = {
    "openai": lambda body: body["messages"][0]["content"],
    "groq": lambda body: body["messages"][0]["content"],
    "anthropic": lambda body: body["messages"][0]["content"],
    "responses": lambda body: body["input"][0]["content"],
    "google": lambda body: body["contents"][0]["parts"],
    "bedrock": lambda body: body["messages"][0]["content"],
    "cohere": lambda body: body["messages"][0]["content"],
    "mistral": lambda body: body["messages"][0]["content"],
}


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", CLIENTS)
def test_media_are_sent_once_and_remembered(provider: FakeProvider, name: str, use_async: bool) -> None:
    """Each client sends an image as its API has it; the same image again, however made, comes from the cache."""
    client = CLIENTS[name](provider, use_async=use_async, cache=AutoCache())
    images = [Image.from_bytes(PNG), uri(PNG), Image.from_raw_base64(b64(PNG))]

    answers = [ask(client, User, asking("Who?", image), autodetect_images=True) for image in images]
    ask(client, User, asking("Who?", Image.from_bytes(OTHER)))

    assert [User(name="John", age=25)] * 3 == answers
    assert provider.calls == 2
    said, image = PLACES[name](provider.requests[0])
    assert "Who?" in said.values()
    assert b64(PNG) in json.dumps(image)
    assert b64(OTHER) in json.dumps(provider.requests[1])


@pytest.mark.parametrize("use_async", [False, True], ids=["sync", "async"])
def test_streams_and_plain_completions_take_media_too(provider: FakeProvider, use_async: bool) -> None:
    """Whatever is asked for, the question is the same."""
    client = openai_client(provider, use_async=use_async, cache=AutoCache())
    provider.say('{"tasks": [{"name": "John", "age": 25}]}')
    for _ in range(2):
        ask(client, None, asking(Image.from_bytes(PNG)))
        ask(client, list[User], asking(Image.from_bytes(PNG)), context={"x": 1})

    assert [PLACES["openai"](body)[0]["type"] for body in provider.requests] == ["image_url"] * 2


@pytest.mark.fault("H9")
def test_what_cannot_be_sent_is_an_error_before_any_request(provider: FakeProvider) -> None:
    """With and without a cache, once and again: no request, nothing remembered, no retry."""
    bad = Image(source="x", media_type="image/png", data=b64(b"hello"))
    inside = PDF.from_url(f"{provider.url}/secret.pdf")
    for cache in (None, AutoCache()):
        client = openai_client(provider, cache=cache)
        for medium in (bad, inside, Audio.from_bytes(FLAC)):
            with pytest.raises(MultimodalError):
                client.create(User, asking("Who?", medium))
        with pytest.raises(MultimodalError):
            client.create(User, asking(uri(b"hello")), autodetect_images=True)

    assert provider.calls == 0
    assert cache is not None
    assert stats(cache).stores == 0


def test_other_apis_places_may_hold_media(provider: FakeProvider) -> None:
    """`contents` at Google and `input` in the Responses API take media as `messages` do."""
    image = Image.from_bytes(PNG)
    CLIENTS["google"](provider).create(User, contents=["Who?", image])
    CLIENTS["google"](provider).create(User, contents=[types.Content(role="user", parts=[image.to_genai()])])
    CLIENTS["google"](provider).create(User, contents=[{"role": "user", "parts": [{"text": "Who?"}, image]}])
    CLIENTS["responses"](provider).responses.create(input=asking("Who?", image), response_model=User)
    CLIENTS["responses"](provider).create(User, input=asking("Who?", uri(PNG)), autodetect_images=True)

    assert [b64(PNG) in json.dumps(body) for body in provider.requests] == [True] * 5


def test_a_question_without_media_is_left_alone() -> None:
    """No work is done off the loop, and no part is touched, where all parts are parts."""
    client = instructor.Instructor(None, lambda **_: None, model="m")

    def first_effect(said: Any, **more: Any) -> Any:
        return next(ask_provider(client._plan(User, said, 1, None, True, None, None, more)))

    assert not isinstance(first_effect([{"role": "user", "content": "Who?"}], autodetect_images=False), Run)
    assert not isinstance(first_effect(asking({"type": "text", "text": "Who?"})), Run)
    assert isinstance(first_effect(asking("Who?", Image.from_url(URL))), Run)
    assert isinstance(first_effect([{"role": "user", "content": Image.from_url(URL)}]), Run)
    assert isinstance(first_effect([{"role": "user", "content": URL}], autodetect_images=True), Run)


def test_defaults_of_a_client_reach_its_calls(provider: FakeProvider, tmp_path: Path) -> None:
    """`autodetect_images` and `allow_local_files` may be said once for all."""
    path = tmp_path / "cat.png"
    path.write_bytes(PNG)
    client = openai_client(provider, autodetect_images=True, allow_local_files=True)

    client.create(User, asking(str(path)))
    client.create(User, asking(str(path)), autodetect_images=False)

    first, second = ([part["type"] for part in PLACES["openai"](body)] for body in provider.requests)
    assert (["image_url"], ["text"]) == (first, second)


# Google's files


class Files(BaseHTTPRequestHandler):
    """Google's Files API: a file is ready when it was asked for three times."""

    states: list[str]

    def do_GET(self) -> None:
        self._say({})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        place = f"http://127.0.0.1:{self.server.server_address[1]}/up"
        start = self.headers.get("X-Goog-Upload-Command") == "start"
        self._say({"X-Goog-Upload-URL": place} if start else {"X-Goog-Upload-Status": "final"}, wrapped=True)

    def _say(self, headers: dict[str, str], *, wrapped: bool = False) -> None:
        state = self.states[0] if len(self.states) == 1 or wrapped else self.states.pop(0)
        file = {"name": "files/abc", "uri": "https://generativelanguage.googleapis.com/v1beta/files/abc"}
        body: Any = {**file, "mimeType": "application/pdf", "state": state}
        data = json.dumps({"file": body} if wrapped else body).encode()
        self.send_response(200)
        for name, value in {"content-length": str(len(data)), "content-type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the file's state is, each time that it is asked for."""
    handler = type("Answering", (Files,), {"states": ["PROCESSING", "PROCESSING", "ACTIVE"]})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
    thread.start()
    monkeypatch.setenv("GOOGLE_API_KEY", "k")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", f"http://127.0.0.1:{server.server_port}")
    yield handler.states
    server.shutdown()
    server.server_close()
    thread.join()


def test_googles_files_are_waited_for(states: list[str], tmp_path: Path) -> None:
    """A new file is asked for until it is ready; one that is not ready in time, or at all, is an error."""
    path = tmp_path / "a.pdf"
    path.write_bytes(DOCUMENT)

    with pytest.raises(MultimodalError, match="is PROCESSING, not ACTIVE"):
        PDFWithGenaiFile.from_existing_genai_file("files/abc")
    file = PDFWithGenaiFile.from_new_genai_file(str(path), retry_delay=0)

    assert ["ACTIVE"] == states
    assert file == PDFWithGenaiFile.from_existing_genai_file("files/abc")
    assert {"file_uri": file.source, "mime_type": "application/pdf"} == part_of(file, "google")["file_data"]
