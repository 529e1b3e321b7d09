"""How much two ways of guiding achieve within the same budget.

For each guided point of curve b its price X, metric x, is a budget, and curve a may use any of its strengths
whose price is at most X:

    y_a(X) = min { y_a(s) : x_a(s) <= X },      difference  y_a(X) - y_b(s_b)

`at_equal` reads both curves where x takes one and the same value; that needs an x that rises with strength.
A price that first falls, or that hardly moves and is lost in noise, has no such place, but it has a budget.
Strengths are chosen once, on all images; the jackknife leaves out batches of the two chosen points. The
unguided point, where both curves start, is always affordable where b's price is above it.
"""

import numpy as np

from model_bridges.quality.comparison import EqualComparison, QualityCurve, check_paired
from model_bridges.quality.jackknife import Jackknifed


def within_budget(curve_a: QualityCurve, curve_b: QualityCurve, x: str, y: str) -> EqualComparison:
    """Least `y` of curve a at a price `x` not above that of each guided point of curve b, minus b's `y`.

    NaN where curve a has no strength at that price.

    Raises:
        ValueError: If the runs of the curves cannot be paired, or lack a metric.
    """
    check_paired((*curve_a.points, *curve_b.points))
    (price_a, gain_a), (price_b, gain_b) = (
        (curve.metric(x), curve.metric(y)) for curve in (curve_a, curve_b)
    )
    guided = np.flatnonzero(curve_b.strengths > 0)
    chosen = np.full(len(guided), -1)
    for i, point in enumerate(guided):
        affordable = np.flatnonzero(price_a.value <= price_b.value[point])
        if len(affordable):
            chosen[i] = affordable[np.argmin(gain_a.value[affordable])]
    reached = chosen >= 0

    def at(values: Jackknifed, index: np.ndarray) -> Jackknifed:
        return Jackknifed(values.value[index], values.without[:, index])

    own, other = at(gain_a, chosen), at(gain_b, guided)
    own = Jackknifed(
        np.where(reached, own.value, np.nan), np.where(reached[None], own.without, np.nan)
    )
    gap = own - other
    if reached.any():
        mean = Jackknifed(np.asarray(gap.value[reached].mean()), gap.without[:, reached].mean(1))
    else:
        mean = Jackknifed(np.array(np.nan), np.full(len(gap.without), np.nan))
    strength = np.where(reached, curve_a.strengths[chosen], np.nan)
    return EqualComparison(
        x, y, at(price_b, guided).estimate, strength, curve_b.strengths[guided], own.estimate,
        other.estimate, gap.estimate, mean.estimate,
    )  # fmt: skip
