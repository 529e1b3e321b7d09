"""Noise levels between the levels of a problem, and batches that fit the memory.

Path methods start where noise has hidden the class, whatever the levels of the problem: `HEAD` log-SNR units
beyond its noisiest, or farther, where the bound below falls to the share `HIDDEN` of H(C). In much noise the
classes are as Gaussians of their means m_c and covariances; with the SNR gamma,

    I(C; X) <~ gamma E|m_C - m|^2 / 2     and, of covariances alone,     (gamma tr Cov X_0)^2 / 4

Between two levels of the problem are `STEPS` equal ones, or more, so that none is longer than `LONGEST`.
"""

import itertools
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from gmm_speciation.estimators.base import Problem

HEAD = 6.0
HIDDEN = 0.01
STEPS = 4
LONGEST = 0.15  # log-SNR units
_NUMBERS = 2**24  # of one batch of states of all classes


def noisy_end(problem: Problem, head: float = HEAD) -> float:
    """Log-SNR at which the class is hidden and a path may start: `head` beyond the levels, or farther."""
    x, labels = map(np.asarray, problem.clean())
    x = x - x.mean(0, dtype=float)
    between = sum(
        np.mean(own := labels == c) * np.sum(x[own].mean(0) ** 2) for c in np.unique(labels)
    )
    left, total = HIDDEN * problem.prior_entropy, np.einsum("nd,nd->", x, x) / len(x)
    beyond = problem.log_snr[-1] - head
    if not left > 0:  # one class
        return float(beyond)
    with np.errstate(divide="ignore"):  # infinite where nothing tells classes apart
        return float(min(beyond, np.log(2 * left / between), np.log(2 * np.sqrt(left) / total)))


def path_levels(
    log_snr: Float[np.ndarray, " T"], start: float, steps: int = STEPS
) -> tuple[Float[np.ndarray, " S"], Int[np.ndarray, " T"]]:
    """Levels from noise, at `start`, to signal, and where in them the problem's own are (in its order)."""
    up = np.asarray(log_snr, float)[::-1]
    interval = (up[-1] - up[0]) / (len(up) - 1) if len(up) > 1 else steps * LONGEST
    steps = max(steps, int(np.ceil(interval / LONGEST)))
    spacing = interval / steps
    count = int(np.ceil((up[0] - start) / spacing - 1e-9))  # rounding adds no step
    before = np.linspace(start, up[0], max(count, 1) + 1)
    parts = [before]
    for low, high in itertools.pairwise(up):
        parts.append(np.linspace(low, high, steps + 1)[1:])
    levels = np.concatenate(parts)
    places = len(before) - 1 + steps * np.arange(len(up))
    return levels, places[::-1]


def in_batches(
    function: Callable[..., PyTree], arrays: tuple[Array, ...], numbers_a_state: int, axis: int = 0
) -> PyTree:
    """`function` of slices of the arrays along their first axis; results joined along `axis`.

    Args:
        function: Of one slice of each array, and the number of the slice.
        arrays: Of one length.
        numbers_a_state: Numbers that the function holds for each entry.
        axis: Of the results, which entries run along.
    """
    total = len(arrays[0])
    size = max(1, min(total, _NUMBERS // max(numbers_a_state, 1)))
    parts = []
    for index, start in enumerate(range(0, total, size)):
        part = tuple(array[start : start + size] for array in arrays)
        parts.append(jax.tree.map(np.asarray, function(*part, index)))
    return jax.tree.map(lambda *pieces: np.concatenate(pieces, axis), *parts)
