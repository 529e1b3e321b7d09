"""What a sweep says: its tables, as text for terminal and report, and as CSV."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gmm_speciation.benchmark.cells import estimator_of, task_of
from gmm_speciation.benchmark.leaderboard import (
    Scored,
    Standing,
    by_dimension,
    by_size,
    by_task,
    leaderboard,
    scored,
)
from gmm_speciation.benchmark.truth import truth
from gmm_speciation.curves import EntropyCurve
from gmm_speciation.estimators.base import Estimator
from gmm_speciation.files import write_text

DIMENSIONS = {f"pair-d{d}": d for d in (1, 16, 256, 4096, 100_000)}
_SCORES = ("error", "bias", "rate", "peak", "window", "inside", "violation")


class Summary(NamedTuple):
    """Everything that pictures and reports need."""

    rows: list[dict[str, Any]]
    scored: list[Scored]
    standings: list[Standing]
    tasks: dict[str, EntropyCurve]  # truths by id
    estimators: dict[str, type[Estimator]]
    errors: dict[tuple[str, str], float]
    against_size: dict[str, dict[int, float]]
    against_dimension: dict[str, dict[int, float]]


def summarise(rows: Sequence[dict[str, Any]], directory: Path) -> Summary:
    """The scores of the rows.

    Raises:
        ValueError: If no run has a result, or a task or estimator in them is unknown.
    """
    if not rows:
        raise ValueError("There is nothing to summarise: no row yet.")
    if all(row["status"] != "ok" for row in rows):
        first = rows[0]
        raise ValueError(
            f"None of {len(rows)} runs has a result; {first['estimator']} on {first['task']} with "
            f"{first['n']} samples: {first['status']}, {first['message']}"
        )
    tasks = {id: truth(task_of(id), directory / "truths") for id in _ids(rows, "task")}
    estimators = {id: estimator_of(id) for id in _ids(rows, "estimator")}
    found = scored(rows, tasks, estimators)
    return Summary(
        list(rows),
        found,
        leaderboard(rows, found, estimators),
        tasks,
        estimators,
        by_task(rows, found),
        by_size(found),
        by_dimension(found, DIMENSIONS),
    )


def _ids(rows: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    return list(dict.fromkeys(row[name] for row in rows))


HEADERS = ["estimator", "place", "RMSE/H(C)", "bias", "spread", "inside", "s", "tasks"]
LONG_HEADERS = [
    "estimator",
    "what",
    "kind",
    "knows",
    "place",
    "RMSE/H(C), median",
    "RMSE, nats",
    "bias",
    "spread",
    "rate RMSE",
    "peak, λ",
    "window, λ",
    "inside 95 %",
    "violation",
    "seconds",
    "MiB",
    "evaluations",
    "tasks",
    "failed",
]


def board(standings: Sequence[Standing]) -> list[list[str]]:
    """The leaderboard as wide as a terminal."""
    return [
        [
            line.estimator,
            f"{line.place:.1f}",
            _digits(line.relative),
            signed(line.bias, 3),
            _digits(line.spread),
            _share(line.inside),
            _digits(line.seconds, 2),
            str(line.tasks),
        ]
        for line in standings
    ]


def long_board(standings: Sequence[Standing]) -> list[list[str]]:
    """The leaderboard with all its columns."""
    return [
        [
            line.estimator,
            line.title,
            str(line.kind),
            line.access,
            f"{line.place:.1f}",
            _digits(line.relative),
            _digits(line.rmse),
            signed(line.bias, 3),
            _digits(line.spread),
            _digits(line.rate),
            _digits(line.peak, 2),
            _digits(line.window, 2),
            _share(line.inside),
            _digits(line.violation, 2),
            _digits(line.seconds, 2),
            _whole(line.mib),
            f"{line.evaluations:.2g}",
            str(line.tasks),
            str(line.failed),
        ]
        for line in standings
    ]


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


def write_csv(summary: Summary, directory: Path) -> None:
    """`scores.csv`, one line a row of the sweep, and `leaderboard.csv`."""
    scores = {id(one.row): one.scores for one in summary.scored}
    keys = ["task", "estimator", "n", "seed", "status", "seconds", "peak_mib", "evaluations"]
    lines: list[list[Any]] = [[*keys, *_SCORES, "message"]]
    for row in summary.rows:
        of = scores.get(id(row), {})
        values = [row.get(key) for key in keys]
        lines.append([*values, *(of.get(name) for name in _SCORES), row.get("message", "")])
    _write_csv(directory / "scores.csv", lines)
    _write_csv(directory / "leaderboard.csv", [Standing._fields, *summary.standings])


def _write_csv(path: Path, lines: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(lines)
    write_text(path, text.getvalue())


def _digits(value: float | None, digits: int = 3) -> str:
    return "—" if value is None else f"{value:.{digits}g}"


def signed(value: float, digits: int) -> str:
    """A number with its sign, and a true minus."""
    return f"{value:+.{digits}f}".replace("-", "−")


def _share(value: float | None) -> str:
    return "—" if value is None else f"{100 * value:.0f} %"


def _whole(value: float | None) -> str:
    return "—" if value is None else f"{value:.0f}"
