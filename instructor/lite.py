"""Whose account litellm asks on: keys and addresses stand in its own settings, and in the environment."""

from __future__ import annotations

import os
import re
import sys
from functools import lru_cache
from types import ModuleType

_PLACES = frozenset({"api_base", "api_version", "organization", "project", "vertex_project", "vertex_location"})
_WORDS = "API|BASE|CREDENTIALS|ENDPOINT|HOST|KEY|LOCATION|ORGANIZATION|PROFILE|PROJECT|REGION|TENANT|TOKEN|URL"


def identity(_: None) -> tuple[None, dict[str, str]]:
    """No address, and everything that may be an account: which of it counts depends on the model, and changes."""
    told = {name: value for name, value in os.environ.items() if _tells(name)}
    library = sys.modules.get("litellm")
    known = {name: getattr(library, name, None) for name in _settings(library)}
    return None, told | {name: value for name, value in known.items() if isinstance(value, str)}


@lru_cache(maxsize=1)
def _settings(library: ModuleType | None) -> list[str]:
    return [name for name in vars(library) if name.endswith("_key") or name in _PLACES] if library else []


@lru_cache(maxsize=1024)
def _tells(variable: str) -> bool:
    return re.search(rf"_({_WORDS})(_|$)", variable.upper()) is not None
