"""Maxima of a sampled function of one variable, and how far each stands out.

The *persistence* of a maximum is its height above its saddle: the higher of the two lowest points that
part it from greater maxima (the topographic prominence; Edelsbrunner, Letscher & Zomorodian 2002). The
function counts as 0 beyond both ends of the grid, so the greatest maximum persists over its whole height
and a function that still grows at an end has a maximum there.

A maximum of a *sampled* function counts where its persistence is significant: above t standard errors
of the difference between peak and saddle, with t the Student quantile at 2 % shared out among all points
of the grid (Bonferroni). Peak and saddle are the extremes of the noise, which that share pays for:
of curves with one maximum and independent errors at 48 to 241 points 0.3 to 1.7 % show a second.
"""

import warnings
from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import stats
from scipy.signal import find_peaks

# The most by which a place was off, in steps, by the number of points in the upper half of a maximum: of the
# maximum itself, and of what lies on its flanks. More points lose a thousandth.
AT_THE_TOP = MappingProxyType({1: "two thirds", 2: "half", 3: "a tenth", 4: "a fiftieth"})
ON_THE_FLANKS = MappingProxyType({1: "half", 2: "a fifth"})
_FALSE = 0.02  # of functions with one maximum, the most that may show a second
Heights = Float[np.ndarray, " T"]


class Maximum(NamedTuple):
    """Positions in the grid; `saddle` is None where the function falls to 0 beyond the grid."""

    place: int
    saddle: int | None
    left: int  # lowest points towards the neighbouring maxima, or the ends of the grid
    right: int


def significance(num_points: int, dof: float) -> float:
    """How many standard errors a difference of two out of `num_points` values must have."""
    return float(stats.t.isf(_FALSE / (2 * num_points), dof))


def warn_of_few(heights: Heights, what: str = "peak", lost: Mapping[int, str] = AT_THE_TOP) -> None:
    """Warn where too few points lie in the upper half of the greatest maximum to say where `what` is.

    `lost` says by how much of a step it may be off, by their number.
    """
    top = int(np.argmax(heights))
    lower = np.r_[-1, np.flatnonzero(heights < heights[top] / 2), len(heights)]
    after = int(np.searchsorted(lower, top))
    few = int(lower[after] - lower[after - 1]) - 1
    if few in lost and 0 < top < len(heights) - 1:
        warnings.warn(
            f"{few} levels lie in the upper half of the peak: the {what} may be off by {lost[few]} of their "
            f"step, which its error need not show. Take finer levels, {max(lost) + 1} there or more.",
            stacklevel=6,  # a method of an equinox module is two frames
        )


def persistent_maxima(
    heights: Heights, least: Callable[[int, int | None], float]
) -> tuple[Maximum, ...]:
    """Maxima that persist over more than `least(index, saddle)`, in the order of the grid.

    Args:
        heights: The function on a grid, finite.
        least: The smallest difference between these two points that counts; `None` is a point beyond
            the grid, where the function is 0.
    """
    padded = np.concatenate([[0.0], heights, [0.0]])
    order = _order(padded)
    tops, found = find_peaks(order, prominence=0)
    kept = []
    for top, first, last in zip(tops, found["left_bases"], found["right_bases"], strict=True):
        base = first if order[first] > order[last] else last
        saddle = int(base) - 1 if 0 < base < len(padded) - 1 else None
        if padded[top] - padded[base] > least(int(top) - 1, saddle):
            kept.append((int(top) - 1, saddle))
    if not kept:
        return ()
    tops = [index for index, _ in kept]
    valleys = [a + int(np.argmin(heights[a : b + 1])) for a, b in pairwise(tops)]
    ends = [0, *valleys, len(heights) - 1]
    return tuple(
        Maximum(index, saddle, left, right)
        for (index, saddle), (left, right) in zip(kept, pairwise(ends), strict=True)
    )


def _order(values: Heights) -> Heights:
    """Ranks, the same along a plateau; of equal values apart from each other the first is the greater.

    Two equal maxima would otherwise both persist over their whole heights: neither parts the other from a
    greater one.
    """
    starts = np.r_[True, np.diff(values) != 0]
    plateau = np.cumsum(starts) - 1
    ranks = np.empty(plateau[-1] + 1)
    ranks[np.lexsort((-np.arange(len(ranks)), values[starts]))] = np.arange(len(ranks))
    return ranks[plateau]
