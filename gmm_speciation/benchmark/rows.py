"""Rows of a sweep as JSON lines: appended as they finish, read back to go on.

A line that was cut off by a kill, or damaged, is dropped, and its cell runs again. Every shard writes a file
of its own into one folder, so shards on several machines never write the same file; two sweeps of one shard
are refused.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from gmm_speciation.benchmark.cells import Cell
from gmm_speciation.files import naming_a_full_disk
from gmm_speciation.reading import parse_json, read_bytes

_PATTERN = "rows*.jsonl"
_LARGEST = 1 << 30  # bytes of one file


def rows_file(directory: Path, shard: tuple[int, int] = (1, 1)) -> Path:
    """Where a shard's rows go."""
    name = "rows.jsonl" if shard[1] == 1 else f"rows-{shard[0]}-of-{shard[1]}.jsonl"
    return directory / name


def read_rows(
    directory: Path, counts: Callable[[dict[str, Any]], bool] = lambda row: True
) -> list[dict[str, Any]]:
    """The rows of all shards that count; of a cell that was run twice, the last of them."""
    found: dict[Cell, dict[str, Any]] = {}
    for path in sorted(directory.glob(_PATTERN)):
        for line in read_bytes(path, _LARGEST).splitlines():
            try:
                row = parse_json(line, path.name)
                cell = cell_of(row)
                hash(cell), row["status"]
            except (ValueError, KeyError, TypeError):
                continue  # cut off or damaged: its cell runs again
            if counts(row):
                found[cell] = row
    return list(found.values())


def cell_of(row: Mapping[str, Any]) -> Cell:
    """The cell that a row is about."""
    return Cell(row["task"], row["estimator"], row["access"], row["n"], row["seed"])


def cell_key(cell: Cell) -> dict[str, Any]:
    """The part of a row that says which cell it is."""
    return {
        "task": cell.task,
        "estimator": cell.estimator,
        "access": cell.access,
        "n": cell.num_samples,
        "seed": cell.seed,
    }


@contextmanager
def appending(path: Path) -> Iterator["Appender"]:
    """A file to add rows to, locked against a second sweep.

    Raises:
        ValueError: If another process is writing it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_suffix(".lock"), timeout=0)  # the system frees it with the process
    try:
        lock.acquire()
    except Timeout as error:
        raise ValueError(f"Another sweep is writing {str(path)!r}; wait for it.") from error
    with lock, path.open("ab+") as file:
        if file.seek(0, os.SEEK_END):
            # End a line that was cut off, so that the next one stands alone.
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.write(b"\n")
        yield Appender(file, path)


class Appender:
    """Adds rows; each is on disk before the next begins."""

    def __init__(self, file: BinaryIO, path: Path):
        self._file, self._path = file, path

    def add(self, row: dict[str, Any]) -> None:
        with naming_a_full_disk(self._path):
            self._file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
