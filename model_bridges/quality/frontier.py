"""How much two ways of guiding achieve within the same budget.

For each guided point of curve b its price X, metric x, is a budget, and both curves may use any of their
strengths whose price is at most X:

    y(X) = min { y(s) : x(s) <= X },      difference  y_a(X) - y_b(X)

Curve b, too: where its price first falls with strength, as a distance to data without a class does, a
stronger setting of its own is cheaper, and the weak one is no match for anybody. `at_equal` reads both
curves where x takes one and the same value; that needs an x that rises with strength. A price that first
falls, or that hardly moves and is lost in noise, has no such place, but it has a budget. Strengths are chosen
once, on all images, the weakest of equals; the jackknife leaves out batches of the two chosen points. The
unguided point, where both curves start, is always affordable where b's price is above it.
"""

import numpy as np
from jaxtyping import Float, Int

from model_bridges.quality.comparison import EqualComparison, QualityCurve, check_paired
from model_bridges.quality.jackknife import Jackknifed


def within_budget(curve_a: QualityCurve, curve_b: QualityCurve, x: str, y: str) -> EqualComparison:
    """Least `y` of curve a minus that of curve b, at a price `x` not above that of each guided point of b.

    NaN where curve a has no strength at that price; b always has one.

    Raises:
        ValueError: If the runs of the curves cannot be paired, or lack a metric.
    """
    check_paired((*curve_a.points, *curve_b.points))
    (price_a, gain_a), (price_b, gain_b) = (
        (curve.metric(x), curve.metric(y)) for curve in (curve_a, curve_b)
    )
    guided = np.flatnonzero(curve_b.strengths > 0)
    budgets = price_b.value[guided]
    chosen_a, chosen_b = _best(price_a, gain_a, budgets), _best(price_b, gain_b, budgets)
    chosen_b = np.where(chosen_b < 0, guided, chosen_b)  # NaN buys nothing, not even itself
    reached = chosen_a >= 0
    own, other = _at(gain_a, chosen_a), _at(gain_b, chosen_b)
    own = Jackknifed(
        np.where(reached, own.value, np.nan), np.where(reached[None], own.without, np.nan)
    )
    gap = own - other
    if reached.any():
        mean = Jackknifed(np.asarray(gap.value[reached].mean()), gap.without[:, reached].mean(1))
    else:
        mean = Jackknifed(np.array(np.nan), np.full(len(gap.without), np.nan))
    strength = np.where(reached, curve_a.strengths[chosen_a], np.nan)
    return EqualComparison(
        x, y, _at(price_b, guided).estimate, strength, curve_b.strengths[chosen_b], own.estimate,
        other.estimate, gap.estimate, mean.estimate,
    )  # fmt: skip


def _best(
    price: Jackknifed, gain: Jackknifed, budgets: Float[np.ndarray, " I"]
) -> Int[np.ndarray, " I"]:
    """The point of the least gain that each budget buys; -1 where it buys none."""
    chosen = np.full(len(budgets), -1)
    for i, budget in enumerate(budgets):
        affordable = np.flatnonzero(price.value <= budget)
        if len(affordable):
            chosen[i] = affordable[np.argmin(gain.value[affordable])]
    return chosen


def _at(values: Jackknifed, index: Int[np.ndarray, " I"]) -> Jackknifed:
    return Jackknifed(values.value[index], values.without[:, index])
