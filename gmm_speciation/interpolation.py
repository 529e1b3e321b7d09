"""How a curve is read between its points: extrema and crossings of splines."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.interpolate import BSpline, CubicHermiteSpline, PPoly, make_interp_spline
from scipy.optimize import brentq

Values = Float[np.ndarray, " T"]


def spline(x: Values, y: Values, degree: int) -> BSpline:
    """Through points in any order; of a smaller degree where they are few."""
    order = np.argsort(x)
    most = (len(order) - 1) // 2 * 2 - 1
    x, y = (np.asarray(part, float)[order] for part in (x, y))
    return make_interp_spline(x, y, k=max(min(degree, most), 1))


def stationary(curve: BSpline, position: Values, near: int, best: Callable) -> float:
    """The extremum of a spline between the neighbours of one of its points, or the point itself."""
    around = np.asarray(position, float)[max(near - 1, 0) : near + 2]
    roots = PPoly.from_spline(curve.derivative()).roots(extrapolate=False)
    inside = roots[(roots >= around.min()) & (roots <= around.max())]
    candidates = np.append(inside, float(position[near]))
    return float(candidates[int(best(curve(candidates)))])


def crossing(x: Values, y: Values, slope: Values, level: float, degree: int) -> float:
    """Where increasing values pass a level, or the nearer end.

    Degree 3 is the cubic between two points that has their values and slopes, others the spline.
    """
    level = min(max(level, y[0]), y[-1])
    if y[-1] == y[0]:
        return float(x[0])
    after, y = max(int(np.searchsorted(y, level)), 1), y - level
    between = CubicHermiteSpline(x, y, slope) if degree == 3 else spline(x, y, degree)
    ends = [after - 1, after]
    if np.prod(between(x[ends])) > 0:  # at one of them, but for rounding
        return float(x[ends[int(np.argmin(np.abs(y[ends])))]])
    return float(brentq(between, *x[ends], xtol=1e-12))
