"""Quotes that are really in the text they are said to come from."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, Field, ValidationInfo, model_validator
from typing_extensions import Self

MAX_ERRORS = 5
MAX_WORK = 10_000_000
"""Comparisons after which a quote counts as not found: some seconds."""


class CitationMixin(BaseModel):
    """Adds `substring_quotes` to a model, and keeps those that are in the text of the validation context.

    client.create(Fact, messages, context={"context": text})

    A quote with up to five errors (a letter added, left out or replaced), a short one with errors in up to half of
    its letters, becomes what the text says.
    """

    substring_quotes: list[str] = Field(
        description="List of unique and specific substrings of the quote that was used to answer the question."
    )

    @model_validator(mode="after")
    def validate_sources(self, info: ValidationInfo) -> Self:
        """Replace each quote by what the text says, and drop it where the text says no such thing."""
        text = (info.context or {}).get("context")
        if isinstance(text, str):  # not by assignment, which a model may forbid, or validate again
            self.__dict__["substring_quotes"] = [text[start:end] for start, end in self.get_spans(text)]
        return self

    def get_spans(self, context: str) -> Iterator[tuple[int, int]]:
        """Where in `context` the quotes begin and end."""
        yield from filter(None, (find(quote, context) for quote in self.substring_quotes))


def find(quote: str, text: str, work: int = MAX_WORK) -> tuple[int, int] | None:
    """The part of `text` that has the fewest errors of all that might be `quote`, the first of equals."""
    if not quote:
        return None
    start = text.find(quote)
    return _nearest(quote, text, work) if start < 0 else (start, start + len(quote))


def _nearest(quote: str, text: str, work: int) -> tuple[int, int] | None:
    """Sellers' algorithm (1980): a table with a column for each place in `text` where the part may end.

    A row's cell says how many errors the first letters of `quote` have against the part that ends here, and where that
    begins. Only rows that may be within the limit are computed (Ukkonen's cut-off, 1985).
    """
    limit, found = min(MAX_ERRORS, len(quote) // 2), None
    column = [(row, 0) for row in range(len(quote) + 1)]
    bottom = limit
    for end, letter in enumerate(text, start=1):
        corner, column[0] = column[0], (0, end)
        bottom = min(bottom + 1, len(quote))
        for row in range(1, bottom + 1):
            (replaced, start), corner, above = corner, column[row], column[row - 1]
            replaced += quote[row - 1] != letter
            column[row] = min((replaced, start), (corner[0] + 1, corner[1]), (above[0] + 1, above[1]))
        work -= bottom
        while column[bottom][0] > limit:
            bottom -= 1
        if bottom == len(quote):
            found, limit = (column[bottom][1], end), column[bottom][0] - 1
        if limit < 0 or work < 0:
            break
    return found if work >= 0 else None
