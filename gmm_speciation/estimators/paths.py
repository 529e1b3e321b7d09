"""Noise levels between the levels of a problem, and batches that fit the memory.

Path methods start where noise has hidden the class: `HEAD` log-SNR units beyond the noisiest level of
the problem, where the information left falls like e^lambda. Between two levels of the problem there
are `STEPS` equal ones, or more, so that none is longer than `LONGEST`.
"""

import itertools
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

HEAD = 6.0
STEPS = 4
LONGEST = 0.15  # log-SNR units
_NUMBERS = 2**24  # of one batch of states of all classes


def path_levels(
    log_snr: Float[np.ndarray, " T"], steps: int = STEPS, head: float = HEAD
) -> tuple[Float[np.ndarray, " S"], Int[np.ndarray, " T"]]:
    """Levels from noise to signal, and where in them the problem's own levels are (in its order)."""
    up = np.asarray(log_snr, float)[::-1]
    interval = (up[-1] - up[0]) / (len(up) - 1) if len(up) > 1 else steps * LONGEST
    steps = max(steps, int(np.ceil(interval / LONGEST)))
    spacing = interval / steps
    before = np.linspace(up[0] - head, up[0], max(int(np.ceil(head / spacing)), 1) + 1)
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
