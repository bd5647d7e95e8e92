"""What every test may ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fake_provider import FakeProvider, fake_provider

pytest_plugins = ["pages"]


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    """A provider on loopback that answers `{"name": "John", "age": 25}` until it is told otherwise."""
    with fake_provider() as fake:
        yield fake


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run without keys, and without a proxy between them and loopback."""
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GROQ_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
