"""Clones of trained networks, as measured by others: Biroli et al. 2024 (arXiv 2402.18491), real images.

The data behind the figures are three rows over branch times,

    mean      share of pairs of clones that a classifier puts into one class
    std       spread of that number over the runs behind a point
    errors    standard error of the mean, std / sqrt(runs)

Times are not in the rows; they are the Ornstein-Uhlenbeck times of the figure, and the log-SNR of each says
where runs of another model, on any schedule, belong. A share known from R = (std / errors)^2 runs
has R - 1 degrees of freedom; the fewest of all points are those of the curve.
"""

from pathlib import Path

import equinox as eqx
import numpy as np
from jaxtyping import Float

from gmm_speciation.checks import ArrayLike, as_reals
from gmm_speciation.estimate import Estimate
from gmm_speciation.processes import DiffusionProcess, OrnsteinUhlenbeck
from gmm_speciation.reading import read_array, read_bytes

ROWS = ("mean", "std", "errors")
_LARGEST = 64 << 20  # bytes of a file
_ROUNDING = 1e-3  # of printed figures: a share a little over 1, an error a little over its spread


class TrainedClones(eqx.Module):
    """Agreement of clones of a trained network, one entry a branch time."""

    times: Float[np.ndarray, " T"]
    log_snr: Float[np.ndarray, " T"]
    agreement: Estimate  # share of pairs that end in one class
    spread: Float[np.ndarray, " T"]  # standard deviation over runs


def trained_clones(
    rows: ArrayLike | str | Path, times: ArrayLike, *, process: DiffusionProcess | None = None
) -> TrainedClones:
    """The published curve of a trained network, to lay beside runs of `clone` estimators.

    Args:
        rows: Mean, standard deviation and standard error, `(3, T)`; or a file of them: `.npy`, or text
            with commas or blanks between numbers.
        times: `(T,)`, of the branches, all different, in the clock of `process`.
        process: The clock; Ornstein-Uhlenbeck, the paper's, by default.

    Raises:
        ValueError: If there are not three rows of one number a time, a mean is no share, an error is
            negative or larger than its standard deviation, times repeat or lie outside the
            process's range, or the file cannot be read as numbers.
    """
    clock = OrnsteinUhlenbeck() if process is None else process
    table = _read(Path(rows)) if isinstance(rows, str | Path) else as_reals(rows, "rows")
    table, at = np.asarray(table, float), np.asarray(as_reals(times, "times"), float)
    if at.ndim != 1 or table.shape != (len(ROWS), len(at)):
        turned = " Rows and columns are exchanged: give its transpose." * (
            at.ndim == 1 and table.shape == (len(at), len(ROWS))
        )
        raise ValueError(
            f"`rows` must be {', '.join(ROWS)}, shape (3, T), with `times` of shape (T,); got "
            f"{table.shape} and {at.shape}.{turned}"
        )
    low, high = clock.time_range
    if not (np.all((at > low) & (at <= high)) and len(set(at.tolist())) == len(at) > 0):
        raise ValueError(
            f"`times` must be different and lie in ({low:g}, {high:g}]; got {at.tolist()}."
        )
    mean, spread, error = table
    if not np.all((mean >= -_ROUNDING) & (mean <= 1 + _ROUNDING)):
        raise ValueError(
            f"The first row must be shares between 0 and 1, not percent; got {mean.tolist()}."
        )
    if not np.all((error >= 0) & (error <= (1 + _ROUNDING) * spread + 1e-12)):
        raise ValueError(
            "The third row must be standard errors of the mean, between 0 and the standard deviations of "
            f"the second; got errors {error.tolist()} and deviations {spread.tolist()}. Are the rows in "
            f"the order {', '.join(ROWS)}?"
        )
    known = error > 0
    runs = np.min((spread[known] / error[known]) ** 2, initial=np.inf)
    order = np.argsort(at)
    return TrainedClones(
        at[order],
        np.asarray(clock.log_snr(at[order]), float),
        Estimate(mean[order], error[order], max(1.0, float(np.round(runs)) - 1)),
        spread[order],
    )


def _read(path: Path) -> np.ndarray:
    try:
        if path.suffix == ".npy":
            return read_array(path)
        text = read_bytes(path, _LARGEST).decode("utf-8").replace(",", " ")
        return np.loadtxt(text.splitlines(), ndmin=2)
    except ValueError as error:
        raise ValueError(
            f"{str(path)!r} must hold three rows of numbers, {', '.join(ROWS)}: {error}."
        ) from error
