"""How the commands of papers end: the table of rows, the page, the record, the plan."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmm_speciation.reporting import terminal
from gmm_speciation.reporting.claims import (
    HOW_CLAIMS_ARE_JUDGED,
    Verdict,
    claim_record,
    predicted_words,
)
from gmm_speciation.reporting.papers import PaperRow
from gmm_speciation.reporting.report import Report
from gmm_speciation.reporting.tables import PLUS_MINUS, Table

if TYPE_CHECKING:
    from gmm_speciation.plotting import Figure

Pictures = Mapping[str, tuple["Figure", str]]  # file name without ending to picture and caption
_QUICK = (
    "Everything here is small (--quick): intervals are wide, and many a verdict is open for that."
)


def finish_paper(
    title: str,
    about: str,
    rows: Sequence[PaperRow],
    pictures: Callable[[], Pictures],
    provenance: Mapping[str, Any],
    *,
    quick: bool,
    out: Path | None,
    quiet: bool,
) -> None:
    """Show the rows and, where that was asked for, write the page.

    Args:
        title: Of the paper.
        about: What of it is not public, what stands for it.
        rows: The claims.
        pictures: Draws what the page shows; those that no row names are left out.
        provenance: Of the result.
        quick: Whether everything was small.
        out, quiet: As every command has them.
    """
    words = f"{about} {_QUICK}" if quick else about
    command = str(provenance.get("command") or "")

    def write() -> tuple[Report, dict[str, Any]]:
        named = {row.place.figure for row in rows}
        drawn = {} if out is None else {k: v for k, v in pictures().items() if k in named}
        record = {
            "title": title,
            "about": words,
            "claims": paper_record(rows, command),
            "provenance": provenance,
        }
        return paper_report(title, words, rows, drawn, command), record

    note = f"{PLUS_MINUS} {summary(rows)}.{f' {_QUICK}' if quick else ''}"
    terminal.finish({title: paper_table(rows)}, write, out, quiet, note=note)


def show_plan(
    title: str, headers: Sequence[str], rows: Sequence[Sequence[str]], quiet: bool
) -> None:
    """What a command would cost."""
    table = Table(list(headers), [list(row) for row in rows])
    record = {"title": title, "plan": [dict(zip(headers, row, strict=True)) for row in rows]}
    terminal.finish({f"Plan: {title}": table}, lambda: (None, record), None, quiet)


def summary(rows: Sequence[PaperRow]) -> str:
    """How many claims hold, do not, or are open."""
    counts = {one: sum(row.claim.verdict == one for row in rows) for one in Verdict}
    return (
        f"{counts[Verdict.YES]} of {len(rows)} claims hold, {counts[Verdict.NO]} do not, "
        f"{counts[Verdict.OPEN]} are open"
    )


def paper_table(rows: Sequence[PaperRow]) -> Table:
    """Headers and rows for the terminal; where a row stands in the paper is in the page."""
    return Table(
        ["claim", "predicted", "measured ± 95 %", "holds"],
        [
            [
                row.claim.statement,
                predicted_words(row.claim),
                format(row.claim.measured),
                str(row.claim.verdict),
            ]
            for row in rows
        ],
    )


def paper_report(
    title: str, words: str, rows: Sequence[PaperRow], pictures: Pictures, command: str
) -> Report:
    """The page: the table, what does not hold, the pictures; `command` made the rows without their own."""
    report = Report(title).text(f"{words}\n\n{summary(rows)}. {HOW_CLAIMS_ARE_JUDGED}")
    headers, cells = paper_table(rows)
    more = ["where", "predicted by", "tolerance", "measured by", "command", "picture"]
    report.table(
        [*headers[:-1], *more, headers[-1]],
        [
            [
                *cell[:-1],
                row.place.where,
                row.place.origin,
                f"{row.claim.tolerance:.2g}" if row.claim.tolerance else "—",
                row.claim.how,
                f"`{row.place.command or command}`",
                f"{row.place.figure}.png" if row.place.figure in pictures else "",
                cell[-1],
            ]
            for row, cell in zip(rows, cells, strict=True)
        ],
    )
    failed = [row.claim for row in rows if row.claim.verdict == Verdict.NO]
    if failed:
        lines = [f"- {one.statement}{f': {one.note}' if one.note else ''}" for one in failed]
        report.text("## What does not hold\n\n" + "\n".join(lines))
    for name, (figure, caption) in pictures.items():
        report.figure(figure, name, caption)
    return report


def paper_record(rows: Sequence[PaperRow], command: str = "") -> list[dict[str, Any]]:
    """What a `result.json` holds under "claims"; `show` reads it back."""
    return [
        claim_record(row.claim)
        | {
            "where": row.place.where,
            "predicted_by": row.place.origin,
            "command": row.place.command or command,
            "figure": row.place.figure,
            "note": row.claim.note,
        }
        for row in rows
    ]
