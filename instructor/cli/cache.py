"""`instructor cache`: look into a cache, and tidy it."""

from __future__ import annotations

import json
import math
import sqlite3
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress
from rich.prompt import Confirm
from rich.table import Column, Table

import instructor.cache
from instructor.cache import DiskCache
from instructor.cache.difference import ABSENT, first_difference
from instructor.cache.disk import Row
from instructor.cache.disk_file import NAME
from instructor.cache.disk_table import tells_damage
from instructor.cache.entry import unseal

app = typer.Typer(name="cache", no_args_is_help=True, help="Look into a cache, and tidy it.")

Place = Annotated[str, typer.Argument(metavar="STORE", help="A DiskCache's directory, or the URL of a Redis server.")]
Files = Annotated[list[typer.FileText], typer.Argument(encoding="utf-8", help="Files of JSON lines.")]
Keys = Annotated[list[str] | None, typer.Argument(show_default=False)]
Tag = Annotated[str | None, typer.Option(help="Delete what was stored with this tag.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document, for programs.")]
Limit = Annotated[int, typer.Option(help="Bytes that the files may take; no bound when it is not given.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
people = Console(stderr=True)
UNBOUNDED = 2**50
"""A size limit for who does not know the one that a cache is used with: writing drops nothing because of it."""


@app.command()
def stats(store: Place, as_json: AsJson = False) -> None:
    """Count what is kept."""
    with opened(store) as cache:
        sizes = [row.size for row in tracked(rows_of(cache), "counting")]
    tell({"entries": len(sizes), "bytes": sum(sizes)}, as_json)


@app.command("list")
def list_(store: Place, as_json: AsJson = False) -> None:
    """List the entries, what was used last before the others; ttl is the seconds that one has left."""
    with opened(store) as cache:
        rows = sorted(tracked(rows_of(cache), "listing"), key=lambda row: row.used, reverse=True)
    known = ((row.key, row.size, _date(row.used), _finite(row.left)) for row in rows)
    tell([dict(zip(("key", "bytes", "last use", "ttl"), row, strict=True)) for row in known], as_json)


@app.command()
def show(key: str, store: Place, as_json: AsJson = False) -> None:
    """Show one entry: what the model said, and the completion around it."""
    with opened(store, after=[key]) as cache:
        text, left = cache.get(key), cache.remaining(key)
        if text is None:
            stop(f"there is no entry under {key}", 1)
    inside: dict[str, Any] = {"text": text}
    if entry := unseal(text, key):
        inside = {"model": entry.model, "made at": _date(entry.made_at), "tape": entry.tape}
        inside["completion"] = json.loads(bytes(entry.completion.data))
    tell({"key": key, "ttl": _finite(left), **inside}, as_json)


@app.command()
def explain(one: Path, other: Path, as_json: AsJson = False) -> None:
    """Tell why two requests, the arguments of `create` in two JSON files, do or do not share a key.

    Clients of two providers, endpoints, accounts or namespaces have keys of their own all the same.
    """
    with one_line():
        found = first_difference(*(json.loads(path.read_text("utf-8")) for path in (one, other)))
    said: dict[str, Any] = {"shared": found is None}
    if found is not None:
        said["path"], *values = found
        pairs = zip(("one", "other"), values, strict=True)
        said |= {name: value if as_json else json.dumps(value) for name, value in pairs if value is not ABSENT}
    tell(said, as_json)
    raise typer.Exit(found is not None)


@app.command()
def delete(keys: Keys = None, *, store: Place, tag: Tag = None, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete the entries under KEYS, or those that were stored with a tag."""
    with opened(store, after=keys or []) as cache:
        if bool(keys) == (tag is not None):
            raise ValueError("name the keys to delete, or one --tag")
        sure(f"Delete {len(keys)} entries?" if keys else f"Delete what bears the tag {tag!r}?", yes)
        if not keys:
            return tell({"deleted": cache.delete_tag(tag)}, as_json)
        gone = [key for key in keys if cache.delete(key)]
    tell({"deleted": len(gone), "absent": [key for key in keys if key not in gone]}, as_json)
    raise typer.Exit(len(gone) < len(keys))


@app.command()
def prune(store: Place, size_limit: Limit = UNBOUNDED, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete what has expired, and what was used longest ago where the files are too large."""
    with opened(store, size_limit=size_limit) as cache:
        if not isinstance(cache, DiskCache):
            raise TypeError("a server does this by itself: see its maxmemory-policy")
        sure("Delete what is too old or too much?", yes)
        with people.status("pruning"):
            tell({"deleted": cache.prune()}, as_json)


@app.command()
def clear(store: Place, yes: Yes = False, as_json: AsJson = False) -> None:
    """Delete every entry."""
    with opened(store) as cache:
        sure("Delete every entry?", yes)
        with people.status("clearing"):
            cache.clear()
    tell({"cleared": True}, as_json)


@app.command()
def verify(store: Place, as_json: AsJson = False) -> None:
    """Check the file, and every entry's checksum. What was not written by a client is counted as foreign."""
    with opened(store) as cache:
        with people.status("checking the file"):
            problems = cache.verify() if isinstance(cache, DiskCache) else []
        found: dict[str, Any] = {"sound": 0, "foreign": 0, "damaged": []}
        for row in tracked(rows_of(cache), "checking the entries"):
            text = cache.get(row.key)
            if unseal(text, row.key):
                found["sound"] += 1
            elif text is not None and not text.startswith("instructor/"):
                found["foreign"] += 1
            elif cache.remaining(row.key):  # else it went while we looked
                found["damaged"].append(row.key)
    tell({**found, "problems": problems}, as_json)
    raise typer.Exit(bool(found["damaged"] or problems))


@app.command()
def export(store: Place, as_json: AsJson = False) -> None:
    """Print every entry, one JSON object a line: key, text, and the seconds it has left as ttl."""
    with opened(store) as cache:
        texts = ((row, cache.get(row.key)) for row in tracked(rows_of(cache), "exporting"))
        lines = ({"key": row.key, "text": text, "ttl": _finite(row.left)} for row, text in texts if text is not None)
        for said in [list(lines)] if as_json else lines:
            print(json.dumps(said))


@app.command("import")
def import_(files: Files, store: Place, as_json: AsJson = False) -> None:
    """Store the entries in FILES, as `export` prints them, each for the time that it had left; - is standard input."""
    count = 0
    with opened(store, make=True) as cache:
        for count, line in enumerate(tracked(chain.from_iterable(files), "importing"), 1):
            try:
                entry = json.loads(line)
                cache.set(str(entry["key"]), entry["text"], entry.get("ttl"))
            except (ValueError, TypeError, KeyError) as problem:  # noqa: PERF203  which line it is helps
                raise ValueError(f"line {count}: {problem!r}") from problem
    tell({"imported": count}, as_json)


# The store.


class Seen(DiskCache):
    """A DiskCache that is looked at: that changes neither the order of use nor, where it is damaged, the file."""

    def __init__(self, directory: str, size_limit: int) -> None:
        super().__init__(directory, size_limit=size_limit)
        self._touched = deque(maxlen=0)

    def _mend(self, thread: Any, error: Exception) -> None:
        if tells_damage(error):
            raise sqlite3.DatabaseError(f"{self._file.path} is damaged ({error})") from error
        super()._mend(thread, error)


@contextmanager
def opened(store: str, *, after: Iterable[str] = (), make: bool = False, size_limit: int = UNBOUNDED) -> Iterator[Any]:
    """The cache at a place, closed afterwards; it must be there already, unless it may be made.

    `after` are the keys that were given before it, none of which should be a place.
    """
    with one_line():
        if any("://" in key or (Path(key) / NAME).exists() for key in after):
            raise ValueError(
                "keys come first, and then the store: instructor cache show KEY STORE, or delete KEY STORE"
            )
        if "://" in store:
            cache: Any = instructor.cache.RedisCache(store)
        elif make or (Path(store) / NAME).exists():
            cache = Seen(store, size_limit)
        else:
            raise FileNotFoundError(f"{store} is no cache: there is no {NAME} in it")
        with closing(cache):
            yield cache


@contextmanager
def one_line() -> Iterator[None]:
    """Whatever goes wrong is one line, and exit code 2."""
    try:
        yield
    except (typer.Exit, typer.Abort, EOFError, BrokenPipeError):
        raise
    except Exception as problem:  # noqa: BLE001  a store may raise what it likes
        stop(" ".join(str(problem).split()) or type(problem).__name__, 2)


def stop(reason: str, code: int) -> NoReturn:
    """End here, with one line that says why."""
    people.print(f"instructor cache: {reason}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(code)


def rows_of(cache: Any) -> Iterator[Any]:
    """What is known of each entry."""
    if isinstance(cache, DiskCache):
        yield from cache.entries()
    else:
        texts = ((key, cache.get(key)) for key in cache)
        known = ((key, len(text.encode("utf-8", "surrogatepass"))) for key, text in texts if text is not None)
        yield from (Row(key, size, 0.0, cache.remaining(key)) for key, size in known)


def _finite(seconds: float) -> float | None:
    return None if seconds == math.inf else seconds


def _date(timestamp: float) -> str | None:
    return datetime.fromtimestamp(timestamp, timezone.utc).isoformat() if timestamp else None


# Talking.


def sure(question: str, yes: bool) -> None:
    """Go on only if whoever asked for it means it."""
    if not (yes or Confirm.ask(question, console=people, default=False)):  # click would write to both outputs
        raise typer.Abort


def tracked(items: Iterable[Any], doing: str) -> Iterator[Any]:
    """The items, counted before the eyes of whoever waits for them."""
    with Progress(console=people, transient=True, disable=not people.is_terminal) as bar:
        yield from bar.track(items, description=doing)


def tell(said: Any, as_json: bool) -> None:
    """Print a document, or a list of them that are of one kind."""
    if as_json:
        print(json.dumps(said))
        return
    rows = said if isinstance(said, list) else [{"": name, " ": value} for name, value in said.items()]
    headings = (Column(heading, overflow="fold") for row in rows[:1] for heading in row)
    table = Table(*headings, box=None, show_header=rows is said)
    for row in rows:
        table.add_row(*map(_word, row.values()))
    console = Console(markup=False, highlight=False)
    if rows is said:  # wider than a terminal, rather than keys that cannot be copied, or be searched for
        unbounded = console.options.update(max_width=sys.maxsize)
        console.width = max(console.width, console.measure(table, options=unbounded).maximum)
    console.print(table)


def _word(value: Any) -> str:
    """A value as people read it, and as a terminal does not take it for something that it is told to do."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)
