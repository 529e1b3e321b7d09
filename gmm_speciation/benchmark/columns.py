"""Files with a line a level, of answers and of stored cells: their columns, and numbers that can be trusted.

What is there is a finite number at every level, but for the infinite degrees of freedom of a normal; what
cannot be negative is not. A column is there at all levels or at none.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gmm_speciation.benchmark.cells import Cell

OF_CELL = ("task", "estimator", "access", "n", "seed")
LARGEST = 1e100  # whose square is a number
_NOT_NEGATIVE = ("stderr", "seconds", "dof", "noise")


def lines_of(file: str, text: str, required: Sequence[str], what: str) -> Iterator[dict[str, str]]:
    """The lines of a CSV; a ValueError names the columns that it lacks, and says `what` to do.

    So does one of a line that has more or fewer numbers than columns, as decimal commas make it.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""))
    columns = reader.fieldnames or ()
    if len(columns) == 1 and any(mark in columns[0] for mark in ";\t"):
        raise ValueError(f"{file} must have commas between its columns; it begins {columns[0]!r}.")
    if twice := [name for name in columns if list(columns).count(name) > 1]:
        raise ValueError(f"{file} has the column {twice[0]} twice; leave one of them.")
    missing = [name for name in required if name not in columns]
    if missing:
        raise ValueError(f"{file} lacks the columns {', '.join(missing)}; {what}")
    for line in reader:
        if None in line or None in line.values():
            raise ValueError(
                f"{file}, line {reader.line_num}: expected a value for each of the {len(columns)} columns, "
                "with a comma between them and a point in a number."
            )
        yield line


def cell_of_line(where: str, line: Mapping[str, str]) -> Cell:
    """The cell that a line is about; a ValueError where it is none."""
    try:
        return Cell(
            line["task"], line["estimator"], line["access"], int(line["n"]), int(line["seed"])
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}.") from None


def column(
    where: str, name: str, lines: Sequence[Mapping[str, str]], needed: bool = False
) -> list[float] | None:
    """The numbers of one column; None where it is empty, unless it is needed.

    Raises:
        ValueError: If a number is missing, not finite, or negative where it cannot be.
    """
    texts = [line.get(name) or "" for line in lines]
    if not needed and not any(texts):
        return None
    values = []
    for text in texts:
        try:
            value = float(text)
        except ValueError:
            value = np.nan
        counts = abs(value) < LARGEST or (name == "dof" and value == np.inf)
        if not counts or (value < 0 and name in _NOT_NEGATIVE):
            must = "a finite number, not negative" if name in _NOT_NEGATIVE else "a finite number"
            raise ValueError(f"{where}: `{name}` must be {must}, at every level; got {text!r}.")
        values.append(value)
    return values
