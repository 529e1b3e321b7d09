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


def hidden_level(
    x: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], prior_entropy: float
) -> float:
    """Log-SNR at which noise hides the class of clean states; inf where nothing tells classes apart."""
    x = x - x.mean(0, dtype=float)
    between = sum(
        np.mean(own := labels == c) * np.sum(x[own].mean(0) ** 2) for c in np.unique(labels)
    )
    left, total = HIDDEN * prior_entropy, np.einsum("nd,nd->", x, x) / len(x)
    if not left > 0:  # one class
        return np.inf
    with np.errstate(divide="ignore"):
        return float(min(np.log(2 * left / between), np.log(2 * np.sqrt(left) / total)))


def path_levels(
    log_snr: Float[np.ndarray, " T"],
    steps: int = STEPS,
    head: float = HEAD,
    hidden: float = np.inf,
) -> tuple[Float[np.ndarray, " S"], Int[np.ndarray, " T"]]:
    """Levels from noise to signal, and where in them the problem's own levels are (in its order).

    Args:
        log_snr: The problem's own.
        steps: Between two of them, at least.
        head: How far beyond the noisiest of them the path starts, at least.
        hidden: Where it starts at the latest (`hidden_level`).
    """
    up = np.asarray(log_snr, float)[::-1]
    interval = (up[-1] - up[0]) / (len(up) - 1) if len(up) > 1 else steps * LONGEST
    steps = max(steps, int(np.ceil(interval / LONGEST)))
    spacing = interval / steps
    head = max(head, up[0] - hidden)
    before = np.linspace(up[0] - head, up[0], max(int(np.ceil(head / spacing)), 1) + 1)
    parts = [before]
    for low, high in itertools.pairwise(up):
        parts.append(np.linspace(low, high, steps + 1)[1:])
    levels = np.concatenate(parts)
    places = len(before) - 1 + steps * np.arange(len(up))
    return levels, places[::-1]


def levels_of(
    problem: Problem,
) -> tuple[Float[np.ndarray, " S"], Int[np.ndarray, " T"]]:
    """`path_levels` of a problem, from where its clean states say that noise hides their class."""
    x, labels = problem.clean()
    return path_levels(
        problem.log_snr, hidden=hidden_level(np.asarray(x), labels, problem.prior_entropy)
    )


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
