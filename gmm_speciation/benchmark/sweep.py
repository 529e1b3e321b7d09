"""A sweep: cells to rows, on all cores or on a Dask cluster, resumed where it stopped.

Where an estimator ran out of time or memory on a task, its cells with as many samples or more are not
started: what is known of them becomes their row.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gmm_speciation.benchmark.cells import Cell
from gmm_speciation.benchmark.isolation import Limits, run_isolated
from gmm_speciation.benchmark.rows import appending, cell_of, read_rows, rows_file
from gmm_speciation.benchmark.worker import cell_key
from gmm_speciation.progress import SILENT, Progress


def sweep(
    wanted: Sequence[Cell],
    directory: Path,
    *,
    shard: tuple[int, int] = (1, 1),
    limits: Limits = Limits(),  # noqa: B008  immutable
    jobs: int | None = None,
    cluster: str | None = None,
    progress: Progress = SILENT,
) -> list[dict[str, Any]]:
    """Run the cells that have no row yet; all rows of the wanted cells.

    Args:
        wanted: The cells.
        directory: Where rows are kept; those in it are not run again.
        shard: `(i, n)`: do only the i-th of n parts, from 1.
        limits: Of one cell.
        jobs: Processes; one a core by default.
        cluster: Address of a Dask scheduler to run on instead.
        progress: Told of the rows that are done.

    Raises:
        ValueError: If the shard is not within 1..n, the number of jobs is not positive, the cluster
            does not answer, or another sweep writes here.
    """
    index, number = shard
    if not 1 <= index <= number:
        raise ValueError(f"A shard i/n has 1 <= i <= n; got {index}/{number}.")
    if jobs is not None and jobs < 1:
        raise ValueError(f"The number of jobs must be positive; got {jobs}.")
    with appending(rows_file(directory, shard)) as file:
        rows = read_rows(directory)
        done = {cell_of(row) for row in rows}
        todo = [cell for cell in wanted if cell not in done and cell.in_shard(index, number)]
        beyond = _Beyond(rows)
        for count, row in enumerate(_run(todo, limits, jobs, cluster, beyond), start=1):
            file.add(row)
            beyond.add(row)
            progress.part(count, len(todo), f"{row['estimator']} on {row['task']}")
    everything = {cell_of(row): row for row in read_rows(directory)}
    return [everything[cell] for cell in wanted if cell in everything]


class _Beyond:
    """Fewest samples at which a limit was reached, by task and estimator."""

    def __init__(self, rows: Sequence[dict[str, Any]]):
        self._rows: dict[tuple[str, str], dict[str, Any]] = {}
        for row in rows:
            self.add(row)

    def add(self, row: dict[str, Any]) -> None:
        key = row["task"], row["estimator"]
        if row["status"] in ("time-out", "memory") and (
            key not in self._rows or row["n"] < self._rows[key]["n"]
        ):
            self._rows[key] = row

    def row_of(self, cell: Cell) -> dict[str, Any] | None:
        """The row of a cell that need not be started."""
        known = self._rows.get((cell.task, cell.estimator))
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
) -> Iterator[dict[str, Any]]:
    from joblib import Parallel, delayed, parallel_config

    if not todo:
        return
    # A generator: what is beyond the limits is asked when a cell's turn comes.
    tasks = (
        delayed(run_isolated)(cell, limits) if known is None else delayed(dict)(known)
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
    client = _connect(cluster)
    try:
        with parallel_config(backend="dask"):
            yield from Parallel(return_as="generator_unordered", batch_size=1)(tasks)
    finally:
        client.close()


def _connect(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError(
            "A Dask cluster needs dask.distributed; install it with: pip install 'dask[distributed]'."
        ) from error
    try:
        return Client(address, timeout=10)
    except (OSError, TimeoutError, ValueError) as error:
        raise ValueError(f"No Dask scheduler answers at {address!r}: {error}.") from error
