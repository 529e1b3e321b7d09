"""Tables of text, the same for the terminal and the page."""

from typing import NamedTuple

NONE = "—"
PLUS_MINUS = "±: half-width of the 95 % interval."  # said under tables
ERRORS = "± is the half-width of the 95 % interval"  # the same as a caption


class Table(NamedTuple):
    """Headers and rows of text; the first column says what a row is about."""

    headers: list[str]
    rows: list[list[str]]

    def columns(self, *kept: int) -> "Table":
        """These columns alone."""
        headers, *rows = ([row[i] for i in kept] for row in (self.headers, *self.rows))
        return Table(headers, rows)
