"""A sweep: cells to rows, on all cores or on a Dask cluster, resumed where it stopped.

A row counts as long as it is "ok" and its key, that of the code, the versions and the limits that made it,
is still the same (see `keys`); every other cell runs, and rows of before are passed over, not deleted.
Where an estimator ran out of time or memory on a task, its cells with as many samples or more are not
started: what is known of them becomes their row.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from gmm_speciation.benchmark.cells import Cell, estimator_of
from gmm_speciation.benchmark.isolation import Limits, run_isolated
from gmm_speciation.benchmark.keys import Keys
from gmm_speciation.benchmark.rows import appending, cell_key, cell_of, read_rows, rows_file
from gmm_speciation.clusters import connect
from gmm_speciation.progress import SILENT, Progress


def sweep(
    wanted: Sequence[Cell],
    directory: Path,
    *,
    shard: tuple[int, int] = (1, 1),
    limits: Limits = Limits(),  # noqa: B008  immutable
    jobs: int | None = None,
    cluster: str | None = None,
    kept: bool = False,
    progress: Progress = SILENT,
) -> list[dict[str, Any]]:
    """Run the cells that have no row that counts; the rows of the wanted cells.

    Args:
        wanted: The cells.
        directory: Where rows are kept; what has a result there is not run again.
        shard: `(i, n)`: do only the i-th of n parts, from 1.
        limits: Of one cell.
        jobs: Processes; one a core by default.
        cluster: Address of a Dask scheduler to run on instead.
        kept: Run nothing: the rows that are there, also while another sweep writes.
        progress: Told of the rows that are done, of what was kept, and of what runs again.

    Raises:
        ValueError: If the shard is not within 1..n, the number of jobs is not positive, the cluster
            does not answer, or another sweep writes here.
    """
    index, number = shard
    if not 1 <= index <= number:
        raise ValueError(f"A shard i/n has 1 <= i <= n; got {index}/{number}.")
    if jobs is not None and jobs < 1:
        raise ValueError(f"The number of jobs must be positive; got {jobs}.")
    keys, cells = Keys(limits), set(wanted)
    for cell in cells:  # before the work, so that what is edited meanwhile runs again
        keys.of(cell.task, cell.estimator)

    def counts(row: dict[str, Any]) -> bool:
        cell = cell_of(row)
        return cell in cells and row.get("key") == keys.of(cell.task, cell.estimator)

    # What runs nothing may look while another sweep writes.
    with nullcontext() if kept else appending(rows_file(directory, shard)) as file:
        known, current = read_rows(directory), read_rows(directory, counts)
        done = {cell_of(row) for row in current if row["status"] == "ok"}
        if any(cell_of(row) in cells for row in known):
            stale = len({cell_of(row) for row in known} & cells) - len(current)
            progress.say(
                f"{len(done)} of {len(cells)} runs kept; {'left' if kept else 'again'}: "
                f"{len(current) - len(done)} without a result, {stale} of other code, versions or limits"
            )
        todo = [c for c in wanted if not kept and c not in done and c.in_shard(index, number)]
        beyond = _Beyond()
        for count, row in enumerate(_run(todo, limits, jobs, cluster, beyond, keys), start=1):
            kind = str(estimator_of(row["estimator"]).kind)
            assert file is not None  # something runs
            file.add(row | {"kind": kind, "key": keys.of(row["task"], row["estimator"])})
            beyond.add(row)
            progress.part(count, len(todo), f"{row['estimator']} on {row['task']}")
    found = {cell_of(row): row for row in read_rows(directory, counts)}
    return [found[cell] for cell in wanted if cell in found]


class _Beyond:
    """Fewest samples at which a limit was reached, by task, estimator and access."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, str], dict[str, Any]] = {}

    def add(self, row: dict[str, Any]) -> None:
        key = row["task"], row["estimator"], row["access"]
        if row["status"] in ("time-out", "memory") and (
            key not in self._rows or row["n"] < self._rows[key]["n"]
        ):
            self._rows[key] = row

    def row_of(self, cell: Cell) -> dict[str, Any] | None:
        """The row of a cell that need not be started."""
        known = self._rows.get((cell.task, cell.estimator, cell.access))
        if known is None or cell.num_samples < known["n"]:
            return None
        message = known["message"].removeprefix("not started: ")
        if "at n = " not in message:
            message += f", at n = {known['n']}, seed {known['seed']}"
        return {
            **cell_key(cell),
            "status": known["status"],
            "message": f"not started: {message}",
            "seconds": 0.0,
        }


def _run(
    todo: Sequence[Cell],
    limits: Limits,
    jobs: int | None,
    cluster: str | None,
    beyond: _Beyond,
    keys: Keys,
) -> Iterator[dict[str, Any]]:
    from joblib import Parallel, delayed, parallel_config

    if not todo:
        return
    # A generator: what is beyond the limits is asked when a cell's turn comes.
    tasks = (
        delayed(run_isolated)(cell, limits, keys.sources) if known is None else delayed(dict)(known)
        for cell, known in ((cell, beyond.row_of(cell)) for cell in todo)
    )
    if cluster is None:
        # Threads: each has a child process, which does the work.
        number = min(jobs or os.cpu_count() or 1, len(todo))
        parallel = Parallel(
            number, backend="threading", return_as="generator_unordered", batch_size=1
        )
        yield from parallel(tasks)
        return
    client = connect(cluster)
    try:
        with parallel_config(backend="dask"):
            yield from Parallel(return_as="generator_unordered", batch_size=1)(tasks)
    finally:
        client.close()
