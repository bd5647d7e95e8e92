"""Shapes that users name."""

from __future__ import annotations

from typing import Any

from .._doors import DSL, enter

__all__ = sorted(DSL)  # noqa: PLE0605  each is in a module of its own, entered when it is asked for


def __getattr__(name: str) -> Any:
    return enter(__name__, DSL, name)
