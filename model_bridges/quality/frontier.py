"""The whole front of one way of guiding against that of another: the area between them.

A kind of guidance, its strength turned up from 0, draws a line of prices x and gains y (less y is better);
between the strengths that were run it is taken as straight in (log x, y). What a budget X buys is the front

    y(X) = min { y(s) : x(s) <= X },      y(X) = y(0), as without guidance, where it buys nothing,

so a setting of which a cheaper one gains more does not count, and none has to be compared with one of
another price. Two kinds are compared along all budgets at once,

    A = 1 / log(X_1 / X_0)  integral of (y_a(X) - y_b(X)) dlog X   from X_0 to X_1,

X_0 the least price on either line, X_1 where the later of the two fronts has reached its end: the difference
of hypervolumes (Zitzler & Thiele 1999, IEEE Trans. Evol. Comput. 3, 257) over a box's width. A price below
that of exact draws is noise: prices count from that floor on. A ends where the strengths end, so they must
reach the least y or a price that nobody pays.

*Errors.* Images are resampled, with the batches of the jackknife as units, and the same ones for both kinds
and all strengths: they share their noise. The price and gain of a resample are those of their influence
(pseudo-values) R f - (R - 1) f_r, and the fronts are drawn anew from them, so that a minimum that is
another strength's by chance is seen. The spread is multiplied by sqrt(R / (R - 1)), which a resample of R
is too narrow by, and has R - 1 degrees of freedom.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from gmm_speciation.estimate import Estimate
from gmm_speciation.shares import Share
from model_bridges.quality.comparison import QualityCurve, check_paired
from model_bridges.quality.jackknife import Jackknifed

NUM_RESAMPLES = 1000
_GRID = 257  # budgets of the integral; a front has a handful of corners
_NEVER = 1e300
_SHOWN = slice(0, None, 64)


@dataclass(frozen=True, eq=False)
class FrontComparison:
    """Two fronts over the budgets of the price `x_name`, paired."""

    x_name: str
    y_name: str
    budgets: Float[np.ndarray, " I"]  # increasing, equally spaced in their logarithm
    y_a: Estimate  # (I,)
    y_b: Estimate
    difference: Estimate  # (I,), y_a - y_b
    area: Estimate  # its mean over log x along the whole front


def compare_fronts(
    curve_a: QualityCurve, curve_b: QualityCurve, x: str, y: str, *, floor: float, seed: int = 0
) -> FrontComparison:
    """The area between the fronts of two curves that both start unguided.

    Args:
        curve_a: One kind.
        curve_b: The other.
        x: The price, a positive metric.
        y: What is to be small.
        floor: Price of exact draws, positive.
        seed: Of the resampling.

    Raises:
        ValueError: If the runs of the curves cannot be paired or lack a metric, a curve does not start
            at strength 0, or the floor is not positive.
    """
    check_paired((*curve_a.points, *curve_b.points))
    if curve_a.strengths[0] != 0 or curve_b.strengths[0] != 0 or not floor > 0:
        raise ValueError(
            "both curves must start at strength 0, and `floor` must be positive; got strengths "
            f"{curve_a.strengths[0]:g} and {curve_b.strengths[0]:g} and a floor of {floor:g}."
        )
    num_batches = len(curve_a.metric(y).without)
    rng = np.random.default_rng(seed)
    picks = rng.multinomial(num_batches, [1 / num_batches] * num_batches, NUM_RESAMPLES)
    lines = []
    for curve in (curve_a, curve_b):
        price, gain = (_resampled(curve.metric(name), picks) for name in (x, y))
        # A price that is not defined, such as the balance of no image, is for nothing.
        price, gain = (
            np.where(np.isnan(price), _NEVER, price),
            np.where(np.isnan(price), gain[:, :1], gain),
        )
        lines.append((np.log(np.maximum(price, floor)), gain))
    ends = []
    for price, gain in lines:
        front = _front(price[0], gain[0], price[0])
        ends.append(price[0][front == front.min()].min())
    grid = np.linspace(min(price[0].min() for price, _ in lines), max(ends), _GRID)
    own, other = (_front(price, gain, grid) for price, gain in lines)
    weights = np.full(_GRID, 1.0)
    weights[[0, -1]] = 0.5
    gap = own - other

    def spread(values: Float[np.ndarray, "N *I"]) -> Estimate:
        return Estimate(values[0], values[1:].std(0), float(num_batches - 1))

    return FrontComparison(
        x,
        y,
        np.exp(grid[_SHOWN]),
        spread(own[:, _SHOWN]),
        spread(other[:, _SHOWN]),
        spread(gap[:, _SHOWN]),
        spread(gap @ weights / weights.sum()),
    )


def compare_shares(
    curve_a: QualityCurve, curve_b: QualityCurve, x: str, y: str, *, floor: float, seed: int = 0
) -> FrontComparison:
    """`compare_fronts` of a share `y` of the n images of a run: none seen is not never.

    A share on a front is of n images at most. The error of a difference is not below that of one image: of
    two runs that agree on every image it would be 0, and by Laplace's rule they differ on one in n.
    """
    num_images = curve_a.points[0].num_images
    found = compare_fronts(curve_a, curve_b, x, y, floor=floor, seed=seed)

    def difference(gap: Estimate) -> Estimate:
        return Estimate(gap.value, np.maximum(np.asarray(gap.stderr), 1 / num_images), gap.dof)

    return replace(
        found,
        y_a=Share.of(found.y_a, num_images),
        y_b=Share.of(found.y_b, num_images),
        difference=difference(found.difference),
        area=difference(found.area),
    )


def _resampled(
    metric: Jackknifed, picks: Float[np.ndarray, "B R"] | np.ndarray
) -> Float[np.ndarray, "N S"]:
    """The metric along a curve, then that of every resample of batches."""
    num_batches = picks.shape[1]
    # Pseudo-values around their mean; the sign is that of R f - (R - 1) f_r.
    influence = (num_batches - 1) * (metric.without.mean(0) - metric.without)
    widened = np.sqrt(num_batches / (num_batches - 1)) / num_batches
    return np.concatenate([metric.value[None], metric.value + widened * picks @ influence])


def _front(
    price: Float[np.ndarray, "*N S"],
    gain: Float[np.ndarray, "*N S"],
    budgets: Float[np.ndarray, " G"],
) -> Float[np.ndarray, "*N G"]:
    """Least gain on the line through the points that each budget buys; `price` is a logarithm."""
    best = np.broadcast_to(gain[..., :1], (*gain.shape[:-1], len(budgets)))
    for s in range(price.shape[-1]):
        here, y = price[..., s, None], gain[..., s, None]
        best = np.where(here <= budgets, np.minimum(best, y), best)
        if s == 0:
            continue
        before, y_before = price[..., s - 1, None], gain[..., s - 1, None]
        crossed = (budgets - before) * (budgets - here) < 0
        part = (budgets - before) / np.where(crossed, here - before, 1.0)
        best = np.where(crossed, np.minimum(best, y_before + part * (y - y_before)), best)
    return best
