"""Boards on the terminal and as a report, of a sweep or of answers from outside."""

from pathlib import Path
from typing import Any

from gmm_speciation import plotting
from gmm_speciation.benchmark.summary import (
    FAILURE_HEADERS,
    HEADERS,
    Summary,
    failures,
    long_board,
    outside,
    short_board,
    title_of,
    violated,
    write_files,
)
from gmm_speciation.reporting import terminal
from gmm_speciation.reporting.report import Report
from gmm_speciation.reporting.tables import Table


def finish(
    summary: Summary,
    title: str,
    provenance: Any,
    out: Path | None,
    quiet: bool,
    more: dict[str, Table] | None = None,
) -> None:
    """Show the boards with the most samples, and write all."""

    def write() -> tuple[Any, dict[str, Any]]:
        assert out is not None  # nothing is written without a place
        write_files(summary, out)
        lines = [line._asdict() for board in summary.boards for line in board.standings]
        seconds = sum(row.get("seconds") or 0.0 for row in summary.rows)
        result = {
            "provenance": provenance,
            "devices": sorted({row["device"] for row in summary.rows if "device" in row}),
            "processor seconds": round(seconds),
            "boards": lines,
        }
        return _report(summary, title), result

    tables = {title_of(board): Table(*short_board(board)) for board in summary.largest}
    note = (
        "error/H(C): root mean square error over H(C), the median over tasks. Estimators of one group are "
        "not resolved from its first. nearer: share of runs nearer the truth than the next line, in brackets "
        "where the two are not resolved."
    )
    if any(map(violated, summary.largest)):
        note += (
            " violation: the most by which a bound is on the wrong side, nats; where it is, it counts as "
            "H(C) from above, 0 from below."
        )
    if far := outside(summary):
        named = ", ".join(f"{name} {beyond:.2g}" for name, beyond in far.items())
        note += (
            f" Clipped to [0, H(C)], and by how much of H(C) at most: {named}; `raw` in boards.csv."
        )
    terminal.finish(
        {**tables, **(more or {})}, write, out, quiet, note=note if summary.boards else ""
    )


def _report(summary: Summary, title: str) -> Any:
    report = Report(title).text(
        "A board holds methods that know the same, say the same kind of number and had the same "
        "draws. *error*: root mean square over noise levels and seeds of H(C|X) - truth, clipped "
        "to [0, H(C)], over H(C); the median over tasks, its interval by a bootstrap over "
        "families of tasks. No result counts as worse than any. *group*: methods of one letter "
        "are not resolved from the first of it, on the same draws. *nearer*: share of runs "
        "nearer the truth than the next line, in brackets where the two are not resolved. "
        "*violation* of a bound: the most by which it was on the wrong side, beyond four of its standard "
        "errors; at such a level it is no bound, and counts as H(C) from above and as 0 from below where "
        "that is farther from the truth. *s*: processor seconds of the "
        "quickest seed, median over tasks. Every cell is in `cells.csv`, every pair of methods in"
        " `pairs.csv`."
    )
    for board in summary.boards:
        report.text(f"## {title_of(board)[0].upper()}{title_of(board)[1:]}")
        report.table(HEADERS, long_board(board))
    for (access, kind), families in summary.against_size.items():
        if len({n for of in families.values() for line in of.values() for n in line}) > 1:
            report.figure(
                plotting.plot_sizes(families),
                f"sizes-{access}-{kind.replace(' ', '-')}",
                f"{access}, {kind}: error against the number of samples, a panel a family of tasks, each "
                "line over the tasks that it has at all its sizes.",
            )
    for board in summary.largest:
        report.figure(
            plotting.plot_heat_map(board),
            f"tasks-{board.access}-{board.kind.replace(' ', '-')}",
            f"{title_of(board)}: error by task, best estimator on top; names of one colour are one group.",
        )
    missing = failures(summary.rows)
    if missing:
        report.text("## Without a result")
        report.table(FAILURE_HEADERS, missing)
    return report
