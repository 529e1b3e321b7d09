"""Two ways of guiding, compared on the same noise.

*One point each*: the difference of a metric, jackknifed over the batches that both runs share.

*One curve each*: metrics along a grid of strengths, from 0 up. "How much of y at equal x": for each grid
point of curve a the value X of x there is fixed, and both curves are read at

    s(X) = the largest strength at which x(s) = X,      x(s), y(s) linear between grid points,

that is, strength is turned up until x has its value for the last time. On a curve whose x rises in
the end, as a distance from the data does, that is all the strength the price X can buy, and the rule
is that of the monotone curve min_{s' >= s} x(s'). Curve a is read by the same rule as b: on a falling
branch, where a weaker setting has the same x as a stronger one, both are read at the stronger. Where b never
takes the value X, there is no comparison (NaN): too dear for b, or more than b spends on its whole grid;
exchanging a and b then may compare. Nor is there one where x rises on one curve and falls on the other: the
falling one gets cheaper from there on, and its weak strength does not show what X would buy.

The jackknife leaves out a batch of both curves at once, with the two grid points around s(X) kept: X,
the crossing and y all move, and a smooth function of the data remains smooth.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from gmm_speciation.estimate import Estimate
from model_bridges.quality.assessment import Quality
from model_bridges.quality.jackknife import Jackknifed


def paired_difference(a: Quality, b: Quality, metric: str) -> Estimate:
    """`metric(a) - metric(b)` of two runs that drew image i from the same noise.

    Raises:
        ValueError: If the runs differ in size, batches, reference or removed class, or lack the metric.
    """
    check_paired([a, b])
    return (a.replicate(metric) - b.replicate(metric)).estimate


def check_paired(runs: Sequence[Quality]) -> None:
    """Refuse runs that cannot be paired.

    Raises:
        ValueError: If they differ in size, batches, reference or removed class.
    """
    kinds = {
        (q.num_images, len(q.replicates["frechet"].without), q.removed, q.reference) for q in runs
    }
    if len(kinds) > 1:
        raise ValueError(
            "paired runs must agree in images, batches, removed class and reference; got "
            f"{' and '.join(map(str, sorted(kinds, key=str)[:2]))}."
        )


@dataclass(frozen=True, eq=False)
class QualityCurve:
    """One kind of guidance along its strengths."""

    name: str
    strengths: Float[np.ndarray, " S"]  # strictly increasing
    points: tuple[Quality, ...]

    def __post_init__(self) -> None:
        if len(self.strengths) != len(self.points) or len(self.points) < 2:
            raise ValueError(
                f"a curve needs one run a strength, at least two; got {len(self.strengths)} strengths and "
                f"{len(self.points)} runs."
            )
        if not (np.diff(self.strengths) > 0).all():
            raise ValueError(f"`strengths` must increase strictly; got {self.strengths.tolist()}.")
        check_paired(self.points)

    def metric(self, metric: str) -> Jackknifed:
        """A scalar metric along the curve, `(S,)`. Raises ValueError if there is no such metric."""
        own = [point.replicate(metric) for point in self.points]
        return Jackknifed(
            np.stack([m.value for m in own]), np.stack([m.without for m in own], axis=1)
        )


@dataclass(frozen=True, eq=False)
class EqualComparison:
    """Metric y of two curves where metric x is equal, at the values of x of the I points of curve a.

    NaN where curve b never takes the value that way; `mean_difference` is over the others.
    """

    x_name: str
    y_name: str
    x: Estimate  # (I,)
    strength_a: Float[np.ndarray, " I"]  # where curve a is read
    strength_b: Float[np.ndarray, " I"]
    y_a: Estimate
    y_b: Estimate
    difference: Estimate  # y_a - y_b, paired
    mean_difference: Estimate  # NaN if none is reached

    @property
    def reached(self) -> Bool[np.ndarray, " I"]:
        """Where there is a comparison."""
        return np.isfinite(self.strength_a) & np.isfinite(self.strength_b)


def at_equal(curve_a: QualityCurve, curve_b: QualityCurve, x: str, y: str) -> EqualComparison:
    """Metric `y` of two curves at equal `x`; see the module for the rule.

    Raises:
        ValueError: If the runs of the curves cannot be paired, or lack a metric.
    """
    check_paired((*curve_a.points, *curve_b.points))
    level = curve_a.metric(x)
    strength_a, y_a, way_a = _read(curve_a, x, y, level)
    strength_b, y_b, way_b = _read(curve_b, x, y, level)
    together = way_a * way_b >= 0
    strength_b = np.where(together, strength_b, np.nan)
    y_b = Jackknifed(
        np.where(together, y_b.value, np.nan), np.where(together[None], y_b.without, np.nan)
    )
    gap = y_a - y_b
    used = np.isfinite(strength_b)
    if used.any():
        mean = Jackknifed(np.asarray(gap.value[used].mean()), gap.without[:, used].mean(1))
    else:
        mean = Jackknifed(np.array(np.nan), np.full(len(gap.without), np.nan))
    return EqualComparison(
        x,
        y,
        level.estimate,
        strength_a,
        strength_b,
        y_a.estimate,
        y_b.estimate,
        gap.estimate,
        mean.estimate,
    )


def last_crossing(
    values: Float[np.ndarray, " S"], level: Float[np.ndarray, ""] | float
) -> tuple[int, float] | None:
    """The last place where the line through `values` takes a level: `(segment, fraction)`, or None."""
    for segment in range(len(values) - 2, -1, -1):
        low, high = values[segment : segment + 2]
        if not np.isfinite([low, high]).all():
            continue
        if min(low, high) <= level <= max(low, high):
            return segment, 1.0 if low == high else float((level - low) / (high - low))
    return None


def _read(
    curve: QualityCurve, x: str, y: str, level: Jackknifed
) -> tuple[Float[np.ndarray, " I"], Jackknifed, Float[np.ndarray, " I"]]:
    """Strength and `y` where `x` takes each level for the last time, and the sign of its slope there."""
    across, along = curve.metric(x), curve.metric(y)
    num_batches, num_levels = level.without.shape
    strength, value, way = np.full((3, num_levels), np.nan)
    without = np.full((num_batches, num_levels), np.nan)
    for i in range(num_levels):
        found = last_crossing(across.value, level.value[i])
        if found is None:
            continue
        k, part = found
        strength[i] = _between(curve.strengths[k], curve.strengths[k + 1], part)
        value[i] = _between(along.value[k], along.value[k + 1], part)
        way[i] = np.sign(across.value[k + 1] - across.value[k])
        low, high = across.without[:, k], across.without[:, k + 1]
        flat = low == high
        parts = np.where(flat, part, (level.without[:, i] - low) / np.where(flat, 1, high - low))
        without[:, i] = _between(along.without[:, k], along.without[:, k + 1], parts)
    return strength, Jackknifed(value, without), way


def _between(low, high, part):
    return low * (1 - part) + high * part  # exact at both ends
