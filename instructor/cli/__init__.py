"""The command line: one file per noun."""

from __future__ import annotations

import typer

from . import cache
from .demo import demo

app = typer.Typer(name="instructor", no_args_is_help=True, add_completion=False, help="Typed answers, asked once.")
app.command()(demo)
app.add_typer(cache.app)
