"""Rows of another sweep: of its folder, or of the `cells.csv` that it wrote, packed by xz or not.

A file of cells is text from anywhere, so it names nothing that is imported: a task that is not of the
catalogue is left out, and an estimator is a name. Its truths must be those of here. Numbers have the digits
that they have there. What was not kept is not made up: without `dof` there is no interval, and without
`noise`, nan or no column, no violation.
"""

import lzma
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gmm_speciation.benchmark.catalogue import TASKS
from gmm_speciation.benchmark.cells import Cell
from gmm_speciation.benchmark.columns import OF_CELL, cell_of_line, column, lines_of
from gmm_speciation.benchmark.rows import cell_key, read_rows
from gmm_speciation.benchmark.truth import truth
from gmm_speciation.estimators.base import Kind
from gmm_speciation.reading import read_bytes

Draw = tuple[str, str, int, int]  # task, access, n, seed
_LARGEST = 1 << 30  # bytes
_WHAT = "take a folder of a sweep, or the cells.csv that it wrote."
_COLUMNS = (*OF_CELL, "kind", "status", "level", "log_snr", "truth", "entropy")
_CLOSE = 1e-6  # of levels and of truths
_truth = cache(truth)


def draw_of(row: Mapping[str, Any]) -> Draw:
    """The draws that a row is about; what had the same can be compared."""
    return row["task"], row["access"], row["n"], row["seed"]


def others(path: Path, draws: Collection[Draw]) -> list[dict[str, Any]]:
    """Rows of another sweep on these draws.

    Args:
        path: Its folder, its `cells.csv` or that as `.csv.xz`.
        draws: What they must be about.

    Raises:
        ValueError: If there is nothing at `path`, it is no such file, a number in it is missing or not
            finite, or its truth of a task is another.
    """
    rows = read_rows(path) if path.is_dir() else _read_cells(path, draws)
    if not rows and path.is_dir():
        raise ValueError(f"{path} holds no run of a sweep; {_WHAT}")
    return [row for row in rows if draw_of(row) in draws]


def _read_cells(path: Path, draws: Collection[Draw]) -> list[dict[str, Any]]:
    lines_of_cell: dict[Cell, list[dict[str, str]]] = {}
    for line in lines_of(path.name, _text(path), _COLUMNS, _WHAT):
        cell = cell_of_line(_where(path, line["estimator"], line["task"]), line)
        if cell.task in TASKS and draw_of(cell_key(cell)) in draws:
            lines_of_cell.setdefault(cell, []).append(line)
    return [
        _row(_where(path, cell.estimator, cell.task), cell, lines)
        for cell, lines in lines_of_cell.items()
    ]


def _where(path: Path, estimator: str, task: str) -> str:
    return f"{path.name}, {estimator!r} on {task!r}"


def _text(path: Path) -> str:
    content = read_bytes(path, _LARGEST)
    try:
        if path.suffix == ".xz":
            unpacked = lzma.LZMADecompressor()
            content = unpacked.decompress(content, max_length=_LARGEST)
            if not unpacked.eof:
                raise ValueError(
                    f"{path.name} is cut off, or holds more than {_LARGEST >> 30} GiB."
                )
        return content.decode("utf-8-sig")
    except (lzma.LZMAError, UnicodeDecodeError):
        raise ValueError(f"{path.name} is no cells.csv, nor one packed by xz.") from None


def _row(where: str, cell: Cell, lines: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    first = lines[0]
    if len(lines) > 1:  # in any order
        levels = column(where, "level", lines, needed=True) or []
        lines = [lines[place] for place in np.argsort(levels, kind="stable")]
        if len(set(levels)) < len(levels):
            raise ValueError(f"{where}: n = {cell.num_samples}, seed {cell.seed} comes twice.")
    if first["kind"] not in list(Kind):
        raise ValueError(f"{where}: kind {first['kind']!r} is unknown.")

    def number(name: str) -> float | None:
        values = column(where, name, lines[:1])
        return None if values is None else values[0]

    status, seconds, dof = first["status"], number("seconds"), number("dof")
    row = {**cell_key(cell), "kind": first["kind"], "status": status}
    row |= {"message": first.get("message") or "", "seconds": seconds}
    row |= {name: number(name) for name in ("peak_mib", "evaluations")}
    if first.get("device"):
        row["device"] = first["device"]
    if status != "ok":
        return row
    _check_truth(
        where, cell, *(column(where, name, lines) for name in ("level", "log_snr", "truth"))
    )
    if first.get("noise", "nan") != "nan":
        row["noise"] = column(where, "noise", lines)
    row["entropy"] = column(where, "entropy", lines, needed=True)
    row |= {name: column(where, name, lines) for name in ("stderr", "rate")}
    return row if dof is None else row | {"dof": dof}


def _check_truth(where: str, cell: Cell, *columns: list[float] | None) -> None:
    """Raises: ValueError: If the levels or the entropies at them are not those of here."""
    exact = _truth(TASKS[cell.task])
    expected = (np.arange(len(exact.log_snr)), exact.log_snr, exact.entropy.value)
    for given, right in zip(columns, expected, strict=True):
        if given is None or np.shape(given) != np.shape(right):
            raise ValueError(f"{where}: it has not the {len(exact.log_snr)} levels of the task.")
        if np.max(np.abs(np.subtract(given, right))) > _CLOSE:
            raise ValueError(f"{where}: levels and truth of the task are others than here.")
