"""Following a fixed point through changes of beta, around folds.

A branch is a curve `(eta, theta)`, theta = log b, on which `f(eta, e^theta) = 0`. It is followed by
arc length: step along the tangent, return to the curve by Newton's method in the plane across it
(Keller 1977). At a fold the branch turns back in beta, where a method that solves at fixed beta would
lose it; here the tangent's theta component crosses zero and the same branch goes on as a saddle.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicHermiteSpline
from scipy.optimize import brentq

from gmm_speciation.hopfield.landscape import Landscape

_FIRST, _LARGEST, _SMALLEST = 0.01, 0.05, 1e-7  # arc length of a step
# Where branches of close patterns meet, the curve turns within less than any step. Towards a meeting the
# smallest eigenvalue falls at most by 2 a unit of theta: steps of this share of it stop short of zero.
_SHORT_OF_ZERO = 0.25
SINGULAR = 1e-6  # an eigenvalue that is zero as far as steps can tell
_STRAIGHT = 0.98  # least cosine between the tangents of neighbouring points
_NEWTON = 8
_ROUNDING = 1e-14  # of a residual of terms of order 1
_MAX_POINTS = 4000


class Point(NamedTuple):
    """A point of a branch, with the unit tangent `(eta, theta)` of the curve."""

    eta: Float[np.ndarray, " r"]
    theta: float
    tangent: Float[np.ndarray, " r1"]
    curvature: float  # smallest eigenvalue of the Hessian; a minimum where positive

    @property
    def beta(self) -> float:
        """`b = beta_eff`."""
        return float(np.exp(self.theta))


def start(landscape: Landscape, eta: Float[np.ndarray, " r"], beta: float, sign: float) -> Point:
    """The point of a branch at a fixed point; its tangent goes up (sign 1) or down in beta (-1)."""
    theta = float(np.log(beta))
    hessian = landscape.hessian(eta, beta)
    direction = np.append(-np.linalg.solve(hessian, landscape.slope(eta, beta)), 1.0)
    tangent = sign * direction / np.linalg.norm(direction)
    return Point(eta, theta, tangent, float(np.linalg.eigvalsh(hessian)[0]))


def step(
    landscape: Landscape, last: Point, length: float, reach: float | None = None
) -> Point | None:
    """The point `length` further along the branch; None where Newton's method does not find it.

    Args:
        landscape: The network.
        last: Where to step from.
        length: Along the tangent of `last`.
        reach: Longest correction that still counts as the same branch; half the step by default.
    """
    reach = 0.5 * length if reach is None else reach
    position = np.append(last.eta, last.theta) + length * last.tangent
    for _ in range(_NEWTON):
        eta, beta = position[:-1], float(np.exp(position[-1]))
        matrix = _bordered(landscape, eta, beta, last.tangent)
        residual = np.append(landscape.residual(eta, beta), 0.0)
        try:
            move = np.linalg.solve(matrix, residual)
        except np.linalg.LinAlgError:  # on a crossing of two branches
            move = np.linalg.lstsq(matrix, residual)[0]
        if not np.linalg.norm(move) < reach:
            return None
        position = position - move
        # Near a crossing the Hessian magnifies the rounding of the residual, and moves stay larger.
        if np.linalg.norm(move) < 1e-12 or np.linalg.norm(residual) < _ROUNDING:
            return _at(landscape, position, last.tangent)
    return None


def _at(landscape: Landscape, position: np.ndarray, along: np.ndarray) -> Point | None:
    eta, beta = position[:-1], float(np.exp(position[-1]))
    matrix = _bordered(landscape, eta, beta, along)
    last = np.zeros(len(position))
    last[-1] = 1.0
    try:
        tangent = np.linalg.solve(matrix, last)
    except np.linalg.LinAlgError:
        return None
    curvature = float(np.linalg.eigvalsh(matrix[:-1, :-1])[0])
    return Point(eta, float(position[-1]), tangent / np.linalg.norm(tangent), curvature)


def _bordered(
    landscape: Landscape, eta: np.ndarray, beta: float, across: np.ndarray
) -> Float[np.ndarray, "r1 r1"]:
    """Derivative of `(f, across . position)` by the position."""
    top = np.hstack([landscape.hessian(eta, beta), landscape.slope(eta, beta)[:, None]])
    return np.vstack([top, across])


def follow(landscape: Landscape, first: Point, stop: Callable[[Point], bool]) -> list[Point]:
    """Points of a branch from `first` until `stop(point)` or until it turns for the second time.

    Ends before that where the branch is lost or after some thousands of points.
    """
    way = np.sign(first.tangent[-1])

    def finished() -> bool:
        # Turned once, and now back on the way it came.
        if len(points) == 1:
            return False
        again = way * points[-2].tangent[-1] < 0 < way * points[-1].tangent[-1]
        return bool(again) or stop(points[-1])

    points, length = [first], _FIRST
    while len(points) < _MAX_POINTS and not finished():
        length = min(length, max(_SHORT_OF_ZERO * abs(points[-1].curvature), SINGULAR))
        trial = step(landscape, points[-1], length)
        if trial is None or trial.tangent @ points[-1].tangent < _STRAIGHT:
            length /= 2
            if length < _SMALLEST:
                break
            continue
        straight = trial.tangent @ points[-1].tangent
        points.append(trial)
        if straight > (1 + _STRAIGHT) / 2:
            length = min(1.5 * length, _LARGEST)
    return points


def locate(
    landscape: Landscape, last: Point, following: Point, function: Callable[[Point], float]
) -> Point:
    """The point between two neighbours of a branch at which `function` changes its sign."""
    ends = np.array([np.append(point.eta, point.theta) for point in (last, following)])
    tangents = np.array([last.tangent, following.tangent])
    # Length as `step` measures it, along the first tangent.
    whole = float((ends[1] - ends[0]) @ last.tangent)
    slopes = tangents / (tangents @ last.tangent)[:, None]
    curve = CubicHermiteSpline([0.0, whole], ends, slopes)

    def at(length: float) -> Point:
        point = step(landscape, last, length, reach=0.5 * whole) if 0 < length < whole else None
        if point is not None and point.tangent @ last.tangent > _STRAIGHT - 0.1:
            return point
        # Where branches cross Newton's method fails or finds the other one. The spline does not.
        position, slope = curve(length), curve(length, 1)
        hessian = landscape.hessian(position[:-1], float(np.exp(position[-1])))
        return Point(
            position[:-1],
            float(position[-1]),
            slope / np.linalg.norm(slope),
            float(np.linalg.eigvalsh(hessian)[0]),
        )

    return at(float(brentq(lambda x: float(function(at(x))), 0.0, whole, xtol=1e-13, rtol=1e-12)))
