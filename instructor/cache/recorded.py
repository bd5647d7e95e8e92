"""RecordedCache: answers in a file that people review and edit, given again without asking anybody."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Literal

import msgspec

from ..exceptions import CacheMiss
from .base import BaseCache
from .entry import Entry, seal, unseal
from .wishes import AGING

MISSING = (
    "{test} asks what {path} has no answer to: the question (key {key}) is new, or not the one that was recorded. "
    "Run pytest --instructor-record, with the provider's key, to have it asked and recorded."
)
_SECRET = re.compile(r"(?i)(^|_)(API_?KEY|TOKEN|SECRET|PASSWORD|ACCESS_KEY)$")
"""How the names of environment variables end whose values no file may hold ..."""
_TELLING = 8
"""... if they have at least so many characters: shorter ones are in every text."""


class RecordedCache(BaseCache):
    """The answers in the JSON file `path`; a question that has none is a `CacheMiss`, before any request.

    With `record=True` the file is not looked at: everything is asked once, and `save` writes down what was answered.
    `known` are answers that were asked for already, shared by the tests of a session. `test` is who asks, for errors.

    Whose account or which namespace asks makes no difference, nor does what calls say of modes, times and tags.

    Raises:
        ValueError: the file is damaged.
    """

    blocking: ClassVar[Literal["never", "writes", "always"]] = "never"

    def __init__(
        self, path: str | os.PathLike[str], *, record: bool = False, test: str = "", known: dict[str, str] | None = None
    ) -> None:
        self._path, self._record, self._test = Path(path), record, test
        self._texts = ({} if known is None else known) if record else _texts(self._path)
        self._used: set[str] = set()
        mode = "on" if record else "offline"
        unheard = dict.fromkeys(("cache_ttl", "cache_tags", *AGING))
        self.imposes: Mapping[str, Any] = {"cache_mode": mode, "cache_namespace": "recorded", **unheard}

    def __repr__(self) -> str:
        return f"RecordedCache({str(self._path)!r})"

    def get(self, key: str) -> str | None:
        """The answer under `key`; None where it is to be asked for.

        Raises:
            CacheMiss: it was not recorded.
        """
        text = self._texts.get(key)
        if text is not None:
            self._used.add(key)
        elif not self._record:
            raise CacheMiss(MISSING.format(test=self._test or "Somebody", path=self._path, key=key))
        return text

    def set(self, key: str, value: str, ttl: float | None = None) -> None:  # noqa: ARG002  a record has no end
        """Note an answer for `save` to write down."""
        self._texts[key] = value
        self._used.add(key)

    def save(self, *, whole: bool = True) -> None:
        """Write down what was answered while recording; `whole` says that what was not asked for is to go.

        Raises:
            ValueError: there is a secret in it; nothing is written.
        """
        if not (self._record and self._used):
            return
        kept = {} if whole else _texts(self._path)
        kept |= {key: self._texts[key] for key in self._used}
        shown = {key: _show(kept[key], key) for key in sorted(kept)}
        text = json.dumps(shown, indent=2, ensure_ascii=False)
        _check(text, self._path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(f".{os.getpid()}.new")
        new.write_bytes(f"{text}\n".encode(errors="backslashreplace"))  # half a surrogate pair as JSON escapes it
        new.replace(self._path)


def _texts(path: Path) -> dict[str, str]:
    """The entries of a file, by key."""
    try:
        return {key: _hide(shown, key) for key, shown in json.loads(path.read_bytes()).items()} if path.exists() else {}
    except (ValueError, TypeError, KeyError, AttributeError, msgspec.MsgspecError) as problem:
        raise ValueError(f"{path} is damaged: {problem!r}. Mend it, or run pytest --instructor-record.") from problem


def _show(text: str, key: str) -> Any:
    """An entry as people read it; a text that is none of ours as it is."""
    entry = unseal(text, key)
    if entry is None:
        return text
    fields = json.loads(msgspec.json.encode(entry))
    tape, made_at = fields.pop("tape"), datetime.fromtimestamp(fields.pop("made_at"), timezone.utc)
    answer = {"answer": _value("".join(tape))} if tape else {}
    pieces = {"pieces": tape} if len(tape) > 1 else {}
    return {"made_at": made_at.isoformat(timespec="seconds"), **answer, **fields, **pieces}


def _hide(shown: Any, key: str) -> str:
    """The entry that people read or edited, sealed; its pieces count unless the answer says something else."""
    if isinstance(shown, str):
        return shown
    fields = {"pieces": [], **shown, "made_at": datetime.fromisoformat(shown["made_at"]).timestamp()}
    fields["tape"] = pieces = fields.pop("pieces")
    if "answer" in fields:
        text = _text(fields.pop("answer"))
        fields["tape"] = pieces if pieces and _text(_value("".join(pieces))) == text else [text]
    return seal(msgspec.json.decode(json.dumps(fields), type=Entry), key)


def _value(text: str) -> Any:
    """The object or list that a text writes down, if nothing of it is lost; otherwise the text."""
    with suppress(ValueError, RecursionError):
        value = json.loads(text)
        if isinstance(value, (dict, list)) and _exact(json.dumps(value)) == _exact(text):
            return value
    return text


def _exact(text: str) -> str:
    """JSON with every digit (1.10 is not 1.1), and every name of an object that is there twice."""
    return repr(json.loads(text, parse_float=Decimal, parse_int=Decimal, object_pairs_hook=list))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _check(text: str, path: Path) -> None:
    """Raise if the environment holds a secret that `text` holds, too."""
    found = sorted(name for name, value in os.environ.items() if _SECRET.search(name) and _holds(text, value))
    if found:
        raise ValueError(f"Nothing was recorded in {path}: the answers hold the value of {', '.join(found)}.")


def _holds(text: str, secret: str) -> bool:
    """Whether a text holds a secret, be it inside JSON inside JSON."""
    once = json.dumps(secret)[1:-1]
    return len(secret) >= _TELLING and any(form in text for form in (secret, once, json.dumps(once)[1:-1]))
