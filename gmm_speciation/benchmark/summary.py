"""What a sweep says: its boards, as text for terminal and report, and as files.

    cells.csv     every cell: status, seconds, and at every level entropy (raw, clipped, and as it counts),
                  rate and truth; nats, and nats per unit log-SNR
    boards.csv    every line of every board
    pairs.csv     every two methods of a board on the same draws

Long format, a number a field, so that any program can make other tables of them; `cells.parquet` besides
where pyarrow is installed.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gmm_speciation.benchmark.boards import Board, Pair, Result, Standing, boards, by_size, results
from gmm_speciation.benchmark.cells import task_of
from gmm_speciation.benchmark.scores import counted
from gmm_speciation.benchmark.truth import truth
from gmm_speciation.curves import EntropyCurve
from gmm_speciation.files import write_bytes, write_text


class Summary(NamedTuple):
    """Everything that pictures and reports need."""

    rows: list[dict[str, Any]]
    results: list[Result]
    boards: list[Board]
    truths: dict[str, EntropyCurve]
    families: dict[str, str]  # of the tasks
    against_size: dict[tuple[str, str], dict[str, dict[str, dict[int, float]]]]

    @property
    def largest(self) -> list[Board]:
        """The board with the most samples of every access and kind."""
        return list({(one.access, one.kind): one for one in self.boards}.values())


def summarise(rows: Sequence[dict[str, Any]], directory: Path) -> Summary:
    """The boards of the rows.

    Raises:
        ValueError: If no run has a result, or a task in them is unknown.
    """
    if not rows:
        raise ValueError("There is nothing to summarise: no row yet.")
    if all(row["status"] != "ok" for row in rows):
        first = rows[0]
        raise ValueError(
            f"None of {len(rows)} runs has a result; {first['estimator']} on {first['task']} with "
            f"{first['n']} samples: {first['status']}, {first['message']}"
        )
    tasks = {id: task_of(id) for id in dict.fromkeys(row["task"] for row in rows)}
    truths = {id: truth(task, directory / "truths") for id, task in tasks.items()}
    # A task of one's own is like no other.
    families = {id: id if task.family == "own" else task.family for id, task in tasks.items()}
    found = results(rows, truths)
    priors = {id: curve.prior_entropy for id, curve in truths.items()}
    return Summary(
        list(rows),
        found,
        boards(found, families, priors),
        truths,
        families,
        by_size(found, families),
    )


HEADERS = [
    "estimator",
    "group",
    "error/H(C)",
    "95 %",
    "nearer",
    "bias",
    "raw",
    "inside 95 %",
    "violation",
    "s",
    "tasks",
    "timed out",
    "failed",
]
_NEAR = 0.01  # of H(C)


def title_of(board: Board) -> str:
    return f"{ACCESSES[board.access]}, {board.kind}s, n = {board.n}"


ACCESSES = {
    "noisy": "noisy samples",
    "clean": "clean samples, noise known",
    "scores": "scores of a diffusion model",
    "mixture": "the mixture",
}


def long_board(board: Board) -> list[list[str]]:
    """A board with all its columns, a line an estimator.

    *nearer*: how often one was nearer the truth than the next line, in brackets where the two are not
    resolved.
    """
    resolved = {(pair.estimator, pair.other) for pair in board.pairs if pair.resolved}
    following = [line.estimator for line in board.standings[1:]]
    return [
        [
            line.estimator,
            letter(line.group),
            _digits(line.error),
            "—" if np.isnan(line.low) else f"{_digits(line.low)} to {_digits(line.high)}",
            _share(line.beats_next)
            if line.beats_next is None or (line.estimator, after) in resolved
            else f"({_share(line.beats_next)})",
            "—" if line.bias is None else signed(line.bias, 3),
            _digits(line.raw),
            _share(line.inside),
            _digits(line.violation, 2),
            _digits(line.seconds, 2),
            str(line.tasks),
            str(line.timed_out),
            str(line.failed),
        ]
        for line, after in zip(board.standings, [*following, ""], strict=True)
    ]


def short_board(board: Board) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of a board as wide as a terminal; violations where one is seen."""
    columns = [*range(5), *([8] if violated(board) else []), 10]
    return [*(HEADERS[column] for column in columns), "no result"], [
        [*(row[column] for column in columns), str(line.timed_out + line.failed)]
        for row, line in zip(long_board(board), board.standings, strict=True)
    ]


def violated(board: Board) -> bool:
    """Whether a bound of it is none somewhere."""
    return any(line.violation for line in board.standings)


def outside(summary: Summary) -> dict[str, float]:
    """Estimators with raw answers beyond [0, H(C)], by how much of H(C) at most, where that is seen."""
    most: dict[str, float] = {}
    for row in summary.rows:
        if row["status"] == "ok":
            values, prior = np.array(row["entropy"]), summary.truths[row["task"]].prior_entropy
            beyond = float(np.max(np.maximum(-values, values - prior))) / prior
            most[row["estimator"]] = max(beyond, most.get(row["estimator"], _NEAR))
    return {name: beyond for name, beyond in most.items() if beyond > _NEAR}


def letter(group: int) -> str:
    """a, b, …, z, aa, … of a group."""
    text = ""
    while group:
        group, rest = divmod(group - 1, 26)
        text = chr(ord("a") + rest) + text
    return text


FAILURE_HEADERS = ["estimator", "status", "runs", "tasks", "first message"]


def broken(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of estimators that have no result at all and whose code failed."""
    fine = {row["estimator"] for row in rows if row["status"] == "ok"}
    return [
        row
        for row in rows
        if row["estimator"] not in fine and row["status"] in ("failed", "crashed")
    ]


def failures(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Estimator, status, how many rows, and one message, for what gave no result."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["status"] != "ok":
            groups.setdefault((row["estimator"], row["status"]), []).append(row)
    return [
        [
            name,
            status,
            str(len(of)),
            ", ".join(dict.fromkeys(r["task"] for r in of)),
            of[0]["message"],
        ]
        for (name, status), of in groups.items()
    ]


_OF_ROW = (
    "estimator",
    "access",
    "kind",
    "n",
    "seed",
    "status",
    "seconds",
    "peak_mib",
    "evaluations",
)
_OF_LEVEL = ("entropy", "stderr", "noise", "rate")
CELL_FIELDS = [
    "task",
    "family",
    *_OF_ROW,
    "device",
    "dof",
    "prior_entropy",
    "level",
    "log_snr",
    "truth",
    "truth_stderr",
    "entropy",
    "clipped",
    "counted",
    "stderr",
    "noise",
    "rate",
    "truth_rate",
    "message",
]


def cells_of(summary: Summary) -> Iterator[dict[str, Any]]:
    """A record a level of every row; one alone where there is no result."""
    for row in summary.rows:
        exact, prior = summary.truths[row["task"]], summary.truths[row["task"]].prior_entropy
        head = {"task": row["task"], "family": summary.families[row["task"]]}
        head |= {name: row.get(name) for name in (*_OF_ROW, "device", "dof")}
        head |= {"prior_entropy": prior, "message": row.get("message", "")}
        if row["status"] != "ok":
            yield dict.fromkeys(CELL_FIELDS) | head
            continue
        unknown = [np.nan] * len(exact.log_snr)  # of a row of elsewhere
        of = {name: row.get(name) for name in _OF_LEVEL} | {"noise": row.get("noise", unknown)}
        counts = counted(row, exact)
        for level, log_snr in enumerate(np.asarray(exact.log_snr, float)):
            yield (
                dict.fromkeys(CELL_FIELDS)
                | head
                | {name: values[level] for name, values in of.items() if values is not None}
                | {
                    "level": level,
                    "log_snr": float(log_snr),
                    "truth": float(exact.entropy.value[level]),
                    "truth_stderr": float(exact.entropy.stderr[level]),
                    "truth_rate": float(exact.rate.value[level]),
                    "clipped": min(max(row["entropy"][level], 0.0), prior),
                    "counted": float(counts[level]),
                }
            )


def write_files(summary: Summary, directory: Path) -> None:
    """`cells.csv`, `boards.csv` and `pairs.csv`; `cells.parquet` where pyarrow is installed."""
    records = list(cells_of(summary))
    write_csv(directory / "cells.csv", [CELL_FIELDS, *(list(one.values()) for one in records)])
    lines = [line for board in summary.boards for line in board.standings]
    write_csv(directory / "boards.csv", [Standing._fields, *lines])
    pairs = [pair for board in summary.boards for pair in board.pairs]
    write_csv(directory / "pairs.csv", [Pair._fields, *pairs])
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        return
    content = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(records), content, compression="zstd")
    write_bytes(directory / "cells.parquet", content.getvalue())


def write_csv(path: Path, lines: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(lines)
    write_text(path, text.getvalue())


def _digits(value: float | None, digits: int = 3) -> str:
    if value is None or np.isnan(value):
        return "—"
    return "∞" if np.isinf(value) else f"{value:.{digits}g}"


def signed(value: float, digits: int) -> str:
    """A number with its sign, and a true minus."""
    return f"{value:+.{digits}f}".replace("-", "−")


def _share(value: float | None) -> str:
    return "—" if value is None else f"{100 * value:.0f} %"
