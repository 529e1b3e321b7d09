"""Samples out, answers in: estimators of any language enter the boards by two files.

Format 1. What is exported are the draws that the registry's own estimators get at this task, access, number
of samples and seed. A noisy state is `x_t = alpha x_0 + sigma eps`, `alpha^2 + sigma^2 = 1`, log-SNR
`log(alpha^2 / sigma^2)`, levels from signal to noise. Entropies are in nats.

    .npz       format, task, access, n, seed; log_snr, alpha, sigma (T,); prior (C,); labels (n,);
               x (T, n, d) of noisy access, (n, d) of clean access
    .csv       a line a state: level, log_snr, alpha, sigma, label, prior of the label's class, x0 … x{d-1};
    .parquet   the same columns, where pyarrow is installed. Clean states have level -1, alpha = 1, sigma = 0;
               lines without x and label, one a level, say at which levels the entropy is asked for

An answer is a CSV with a line a level,

    task, access, n, seed         as exported
    estimator, kind               a name of one's own; estimate, lower bound or upper bound
    level, entropy                every level once, nats
    stderr, rate, seconds         may be left out: of the entropy, where an interval is claimed; -dH/dlambda;
                                  processor time of the whole run, the same at all its levels

Columns of samples and of `cells.csv` may stay in it and say nothing; any other is refused.
"""

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gmm_speciation.benchmark.cells import Cell, task_of
from gmm_speciation.benchmark.columns import cell_of_line, column, lines_of
from gmm_speciation.benchmark.rows import cell_key
from gmm_speciation.benchmark.summary import CELL_FIELDS, write_csv
from gmm_speciation.benchmark.worker import levels_of
from gmm_speciation.estimators.base import Access, Kind, Problem
from gmm_speciation.estimators.registry import ESTIMATORS
from gmm_speciation.files import write_bytes
from gmm_speciation.lookup import pick
from gmm_speciation.processes import variance_preserving
from gmm_speciation.reading import read_bytes

FORMAT = 1
SUFFIXES = (".npz", ".csv", ".parquet")
EXPORTED = {str(one): one for one in (Access.NOISY, Access.CLEAN)}  # what holds samples
_REQUIRED = ("task", "access", "n", "seed", "estimator", "kind", "level", "entropy")
_OPTIONAL = ("stderr", "rate", "seconds")
_OF_SAMPLES = ("format", "log_snr", "alpha", "sigma", "label", "prior")
_KNOWN = dict.fromkeys((*_REQUIRED, *_OPTIONAL, *_OF_SAMPLES, *CELL_FIELDS), 0)
_LARGEST = 1 << 28  # bytes of answers
_DOF = 1e9  # the format has standard errors of a normal


def export(path: Path, task_id: str, access: str, num_samples: int, seed: int) -> None:
    """Write the draws of a cell.

    Raises:
        ValueError: If task or access is unknown, the access holds no samples, the task begins at more of
            them, or the suffix is not one of `SUFFIXES`; or if pyarrow is missing for Parquet.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"Samples are written as {', '.join(SUFFIXES)}; got {path.name!r}.")
    of = pick(access, EXPORTED, "access")
    task = task_of(task_id)
    if num_samples < max(task.min_samples, 2):
        raise ValueError(
            f"Task {task_id!r} begins at {max(task.min_samples, 2)} samples; got {num_samples}."
        )
    law, grid = task.law, levels_of(task)
    problem = Problem(law.mixture, law.classes, grid, num_samples, seed, of, task.id)
    scales = [tuple(map(float, variance_preserving(level))) for level in grid]
    if of is Access.CLEAN:
        clean, labels = problem.clean()
        x = np.asarray(clean)
    else:
        levels = [problem.samples(level) for level in range(len(grid))]
        x, labels = np.stack([np.asarray(one.x) for one in levels]), levels[0].labels
    content = {
        "format": FORMAT,
        "task": task_id,
        "access": str(of),
        "n": num_samples,
        "seed": seed,
        "log_snr": grid,
        "alpha": np.array([alpha for alpha, _ in scales]),
        "sigma": np.array([sigma for _, sigma in scales]),
        "prior": problem.prior,
        "labels": labels,
        "x": x,
    }
    if path.suffix == ".npz":
        file = io.BytesIO()
        np.savez_compressed(file, **content)
        write_bytes(path, file.getvalue())
        return
    records = list(_records(content))
    names = list(records[-1])
    if path.suffix == ".csv":
        write_csv(path, [names, *([record.get(name) for name in names] for record in records)])
        return
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ValueError(
            "Parquet needs pyarrow: pip install 'gmm-speciation[parquet]'; .npz and .csv do not."
        ) from error
    columns = {name: [record.get(name) for record in records] for name in names}
    file = io.BytesIO()
    parquet.write_table(arrow.table(columns), file)
    write_bytes(path, file.getvalue())


def _records(content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    head = {name: content[name] for name in ("format", "task", "access", "n", "seed")}
    levels: list[dict[str, Any]] = [
        {"level": level, "log_snr": float(l), "alpha": float(a), "sigma": float(s)}
        for level, (l, a, s) in enumerate(
            zip(content["log_snr"], content["alpha"], content["sigma"], strict=True)
        )
    ]
    clean = content["x"].ndim == 2
    if clean:
        yield from (head | level for level in levels)
        levels = [{"level": -1, "log_snr": None, "alpha": 1.0, "sigma": 0.0}]
    for level, states in zip(levels, content["x"][None] if clean else content["x"], strict=True):
        for state, label in zip(states, content["labels"], strict=True):
            of = {"label": int(label), "prior": float(content["prior"][label])}
            yield head | level | of | {f"x{i}": float(value) for i, value in enumerate(state)}


def read_answers(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of answers, as those of a sweep.

    Raises:
        ValueError: If it is no text, a column, a level or a number is missing, is said twice or is not
            finite, or a name, of a column as well, is unknown or is one of the registry's.
    """
    try:
        text = read_bytes(path, _LARGEST).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(
            f"{path.name} is no CSV in UTF-8; answers have the columns {', '.join(_REQUIRED)}."
        ) from None
    what = f"answers have {', '.join(_REQUIRED)} and may have {', '.join(_OPTIONAL)}."
    reader = lines_of(path.name, text, _REQUIRED, what)
    cells: dict[tuple[Cell, str], dict[int, Mapping[str, str]]] = {}
    for number, line in enumerate(reader, start=2):
        where = f"{path.name}, line {number}"
        for name in line if not cells else ():
            if name and not re.fullmatch("x[0-9]+", name):  # without one, the index of a table
                pick(name, _KNOWN, f"column of {path.name}")
        cell = cell_of_line(where, line)
        try:
            level = int(line["level"])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: {error}.") from None
        levels = cells.setdefault((cell, line["kind"]), {})
        if level in levels:
            raise ValueError(f"{where}: level {level} of {cell} comes twice.")
        levels[level] = line
    if not cells:
        raise ValueError(f"{path.name} has no answers.")
    return [_row(path.name, cell, kind, levels) for (cell, kind), levels in cells.items()]


def _row(
    file: str, cell: Cell, kind: str, levels: Mapping[int, Mapping[str, str]]
) -> dict[str, Any]:
    where = f"{file}, {cell.estimator!r} on {cell.task!r}"
    if not cell.estimator or cell.estimator in ESTIMATORS:
        raise ValueError(f"{where}: name it as no estimator of the registry is named.")
    pick(cell.access, EXPORTED, "access")
    if cell.seed < 0:
        raise ValueError(f"{where}: a seed is a whole number from 0; got {cell.seed}.")
    pick(kind, {str(one): one for one in Kind}, "kind")
    task = task_of(cell.task)
    if cell.num_samples < task.min_samples:
        raise ValueError(
            f"{where}: it begins at {task.min_samples} samples; got {cell.num_samples}."
        )
    number = len(levels_of(task))
    if sorted(levels) != list(range(number)):
        raise ValueError(f"{where}: levels 0 to {number - 1} once each; got {sorted(levels)}.")

    lines = [levels[level] for level in range(number)]
    seconds = column(where, "seconds", lines)
    if seconds and len(set(seconds)) > 1:
        raise ValueError(
            f"{where}: `seconds` is the processor time of the whole run, the same at every level; got "
            f"{min(seconds):g} to {max(seconds):g}."
        )
    return {
        **cell_key(cell),
        "kind": kind,
        "status": "ok",
        "message": "",
        "entropy": column(where, "entropy", lines, needed=True),
        "stderr": column(where, "stderr", lines),
        "rate": column(where, "rate", lines),
        "noise": None,
        "dof": _DOF,
        "seconds": None if seconds is None else seconds[0],
    }
