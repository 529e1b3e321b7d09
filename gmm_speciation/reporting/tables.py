"""Text and its tables: as the page has them, and as a terminal can show them."""

import json
import re
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

NONE = "—"
PLUS_MINUS = "±: half-width of the 95 % interval."  # said under tables
ERRORS = "± is the half-width of the 95 % interval"  # the same as a caption

# Control characters but the line break and the tabulator; marks that override the direction of writing.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """Text as it can be printed: what would steer a terminal, or has no form in UTF-8, is written out.

    Names of files and classes come from others; an escape sequence in one would reach the terminal raw.
    """
    shown = CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)
    return shown.encode("utf-8", "backslashreplace").decode("utf-8")


def json_text(content: Any) -> str:
    """Plain data as JSON for a terminal: what would steer it, or it lacks, is written out as JSON does."""
    narrow = not str(getattr(sys.stdout, "encoding", None) or "utf").lower().startswith("utf")
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=narrow)
    return CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def numeric(cells: Sequence[str]) -> bool:
    """Whether most cells of a column are numbers, bounds or nothing: it is aligned to the right."""
    return 2 * sum(bool(re.match(r"\(?[-−+±≤≥<>.—\d]", cell)) for cell in cells) > len(cells)


class Table(NamedTuple):
    """Headers and rows of text; the first column says what a row is about."""

    headers: list[str]
    rows: list[list[str]]

    def columns(self, *kept: int) -> "Table":
        """These columns alone."""
        headers, *rows = ([row[i] for i in kept] for row in (self.headers, *self.rows))
        return Table(headers, rows)

    def tight(self) -> "Table":
        """The same without room around ± and – in the rows."""
        rows = [[cell.replace(" ± ", "±").replace(" – ", "–") for cell in row] for row in self.rows]
        return Table(self.headers, rows)
