"""Requests kept as JSON for people to review.

A request may not change under the same version of its dialect: answers that were remembered for the old one would
be given for the new one. So: bump the dialect's `version`, then run `GOLDEN_UPDATE=1 pytest tests/test_dialects.py`
and read the difference. (What was never released may be changed without a bump: delete its file first.)
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent / "golden"


def check(dialect: Any, mode: str, made: dict[str, Any]) -> None:
    """Compare what a dialect made with what is kept for it, or keep it."""
    path = HERE / dialect.name / f"{mode.lower()}.json"
    new = {"version": dialect.version, **made}
    if path.exists():
        kept = json.loads(path.read_text("utf-8"))
        if kept["version"] == dialect.version:
            assert kept == new, f"the {dialect.name} dialect asks in another way now: bump its version (see golden.py)"
            return
    if not os.environ.get("GOLDEN_UPDATE"):
        pytest.fail(
            f"{path.name} is not of {dialect.name}'s version {dialect.version}: set GOLDEN_UPDATE=1, and review"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(new, indent=2, ensure_ascii=False) + "\n", "utf-8")
