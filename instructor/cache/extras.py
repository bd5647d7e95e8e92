"""What only some caches need, loaded when one of them is made."""

from __future__ import annotations

import importlib
from typing import Any


def needed(module: str, extra: str, who: str) -> Any:
    """The module that an extra installs.

    Raises:
        ImportError: it is not installed; the message says how to.
    """
    try:
        return importlib.import_module(module)
    except ImportError as missing:
        raise ImportError(f'{who} needs {module.partition(".")[0]}: pip install "instructor[{extra}]"') from missing
