"""The picture for the README: horizontal bars on a logarithmic scale, readable on light and on dark pages."""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from typing import Any

WIDTH, LEFT, RIGHT = 820, 250, 130
HEAD, ROW, BAR = 44, 46, 15
TEXT, LINE = "#7d8590", "#7d859055"  # halfway between black and white: contrast enough with both
SIDES = (("ours", "this project", "#2f9e63"), ("theirs", "Instructor 1.17.0", "#b08a3e"))
LEAST, MOST = 0, 4
"""Powers of ten, in microseconds."""


def draw(cases: list[dict[str, Any]]) -> str:
    """An SVG with two bars for each case, and how many times faster the first is."""
    height = HEAD + ROW * len(cases) + 6
    parts = [*_legend(), *_scale(height)]
    for place, case in enumerate(cases):
        parts += _case(case, HEAD + ROW * place)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="{TEXT}">\n'
        "<title>Time per cache hit, this project and Instructor 1.17.0, logarithmic scale</title>\n"
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _legend() -> Iterator[str]:
    for place, (_, label, colour) in enumerate(SIDES):
        yield f'<rect x="{LEFT + 140 * place}" y="4" width="11" height="11" rx="2" fill="{colour}"/>'
        yield _text(LEFT + 140 * place + 17, 14, label)


def _scale(height: int) -> Iterator[str]:
    for power in range(LEAST, MOST + 1):
        x = _x(10**power)
        yield f'<path d="M{x} {HEAD - 6}V{height - 8}" stroke="{LINE}"/>'
        yield _text(x, HEAD - 11, _time(10**power), anchor="middle", size=11)


def _case(case: dict[str, Any], top: float) -> Iterator[str]:
    yield _text(LEFT - 12, top + 20, case["title"], anchor="end")
    for place, (side, _, colour) in enumerate(SIDES):
        y, end = top + (BAR + 2) * place, _x(case[side]["least"])
        yield f'<rect x="{LEFT}" y="{y}" width="{end - LEFT:.1f}" height="{BAR}" rx="2" fill="{colour}"/>'
        yield _text(end + 6, y + 12, _time(case[side]["least"]), size=12)
    yield _text(WIDTH - 4, top + 21, f"{case['faster']['least']:.0f} times faster", anchor="end", weight="bold")


def _x(microseconds: float) -> float:
    power = min(max(math.log10(max(microseconds, 1e-9)), LEAST), MOST)
    share = (power - LEAST) / (MOST - LEAST)
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _time(microseconds: float) -> str:
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= size:
            return f"{microseconds / size:.3g} {unit}"
    return f"{microseconds:.3g} µs"


def _text(x: float, y: float, words: str, anchor: str = "start", size: int = 13, weight: str = "normal") -> str:
    style = f'text-anchor="{anchor}" font-size="{size}" font-weight="{weight}"'
    return f'<text x="{x}" y="{y}" {style}>{escape(words)}</text>'
