"""Minima of the energy followed over beta: where patterns appear, win and the symmetric state gives way.

A *pattern branch* starts at a pattern at large beta and goes down until its minimum is lost in a fold
(appearance); beyond it the same branch returns as a saddle. The *symmetric branch* starts at the single
minimum of small beta and goes up until its Hessian becomes singular (stability). Where both are minima
and equally deep lies the first-order transition (equal energy).

For equidistant patterns these are the critical values of the Potts model. Other patterns need not have
all of them: the state of small beta may change into a pattern's without a transition, and a pattern
inside the hull of others never becomes a minimum. Then a value is None, as it is for what lies above the
range that is followed. Equal energy always compares
with the state that continues the one of small beta, also where that has become another pattern's.
"""

import warnings
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float

from gmm_speciation.checks import ArrayLike, as_count
from gmm_speciation.estimate import Readable
from gmm_speciation.hopfield import continuation
from gmm_speciation.hopfield.continuation import Point
from gmm_speciation.hopfield.landscape import Landscape
from gmm_speciation.hopfield.potts import CriticalBetas

_HIGH_TEMPERATURE = 0.05  # beta_eff at which the state of small beta is started
_NEAR = 1e-6  # relative distance of betas that are one transition
_SAME = 1e-9  # distance of a pattern and its copies, which share their minimum
# At large beta all minima of equal norm are equally deep up to e^{-beta gap}: signs below are noise.
_ROUNDING = 1e-9


class Branch(Readable):
    """A branch of fixed points, one row a point, in the order in which it was followed."""

    beta_eff: Float[np.ndarray, " P"]
    overlap: Float[np.ndarray, " P"]  # (xi - mean) . (x - mean) / |x - mean|^2 with the pattern x
    curvature: Float[np.ndarray, " P"]  # smallest eigenvalue of the Hessian

    @property
    def stable(self) -> Bool[np.ndarray, " P"]:
        """Whether a point is a minimum of the energy."""
        return self.curvature > 0


class PatternBifurcations(Readable):
    """The transitions of one pattern, and its branch."""

    pattern: int  # its row
    betas: CriticalBetas
    branch: Branch | None  # None for a pattern that is no minimum at any beta_eff below 1e10
    symmetric: Branch  # with its overlap with this pattern


class Network:
    """Patterns whose fixed points are followed; the symmetric branch is followed once for all.

    Args:
        patterns: `(N, d)`.
        largest: The beta_eff up to which branches are followed; 1.3 N by default. A pattern starts
            higher where its minimum is not yet the pattern itself there, and is compared with the
            symmetric branch as far up.

    Raises:
        ValueError: If the patterns are not `(N, d)` and finite or all the same, or `largest` is not
            above the beta_eff of 0.05 at which the symmetric branch starts.
    """

    def __init__(self, patterns: ArrayLike, largest: float | int | None = None):
        self.landscape = Landscape.of(patterns)
        self.largest = 1.3 * self.num_patterns if largest is None else float(largest)
        if not (np.isfinite(self.largest) and self.largest > _HIGH_TEMPERATURE):
            raise ValueError(
                f"`largest` must be finite and above {_HIGH_TEMPERATURE}; got {largest}."
            )

    @property
    def num_patterns(self) -> int:
        return len(self.landscape.patterns)

    @cached_property
    def _symmetric(self) -> list[Point]:
        """The branch of small beta, from there up to `largest`."""
        landscape, beta = self.landscape, _HIGH_TEMPERATURE
        # With tilts the state of small beta is not the mean; at beta = 0 it is.
        eta = np.zeros(landscape.patterns.shape[1])
        for hotter in np.geomspace(1e-4, beta, 12):
            found = landscape.minimum(eta, hotter)
            if found is None:
                return []
            eta = found
        first = continuation.start(landscape, eta, beta, 1.0)
        return continuation.follow(
            landscape, first, lambda point: point.beta > self.largest or point.beta < beta
        )

    @cached_property
    def _hot(self) -> tuple[list[Point], bool]:
        """The part of the symmetric branch that is a minimum, to its end; and whether it ends."""
        points, lost = _until_lost(self.landscape, self._symmetric)
        if not lost and not (points and points[-1].beta > self.largest):
            _warn_of_lost("The symmetric branch", points)
        return points, lost

    @property
    def stability(self) -> float | None:
        """beta_eff at which the symmetric branch stops being a minimum; None if not below `largest`."""
        points, lost = self._hot
        return points[-1].beta if lost else None

    def pattern(self, index: int) -> PatternBifurcations:
        """Follow pattern `index` down from large beta, and find its transitions.

        Raises:
            ValueError: If there is no such pattern, or it lies at the mean of all.
        """
        index = as_count(index, "index", 0)
        self.landscape.pattern(index)
        symmetric = self._branch(_with_end(self._symmetric, self._hot[0]), index)
        first = self._cold(index)
        if first is None:
            betas = CriticalBetas(None, None, self.stability)
            return PatternBifurcations(index, betas, None, symmetric)
        points = continuation.follow(self.landscape, first, self._ended)
        minima, lost = _until_lost(self.landscape, points)
        betas = CriticalBetas(None, None, self.stability)
        if lost:
            betas = CriticalBetas(minima[-1].beta, self._equal_energy(minima), self.stability)
            points = _with_end(points, minima)
        elif not self._ended(points[-1]):
            _warn_of_lost(f"The branch of pattern {index}", points)
        return PatternBifurcations(index, betas, self._branch(points, index), symmetric)

    def _cold(self, index: int) -> Point | None:
        """The pattern's minimum at a beta at which it is almost the pattern itself."""
        own = self.landscape.patterns[index]
        overlaps = self.landscape.overlaps(own)
        others = np.linalg.norm(self.landscape.patterns - own, axis=1) > _SAME
        gap = overlaps[index] - np.max(overlaps[others])
        if not gap > 1e-9:
            return None
        # The other patterns together weigh N e^{-b gap} there.
        beta = max(self.largest, (np.log(self.num_patterns) + 12) / gap)
        eta = self.landscape.minimum(own, beta)
        return None if eta is None else continuation.start(self.landscape, eta, beta, -1.0)

    def _ended(self, point: Point) -> bool:
        """Above the range on the way back, or so hot that only one state is left."""
        rising = point.tangent[-1] > 0
        return (rising and point.beta > self.largest) or point.beta < _HIGH_TEMPERATURE

    def _equal_energy(self, minima: Sequence[Point]) -> float | None:
        """Where the pattern's minimum is as deep as the symmetric one, both being minima."""
        appearance = minima[-1].beta
        if self.stability is not None and abs(self.stability / appearance - 1) < _NEAR:
            return appearance  # one continuous transition
        hot = self._reaching(minima[0].beta)
        depths = [self._depth(hot, point) for point in minima]
        for place, (above, below) in enumerate(pairwise(depths)):
            if above is None or below is None or max(-above, below) < _ROUNDING:
                continue
            if above < 0 <= below:
                return continuation.locate(
                    self.landscape,
                    minima[place],
                    minima[place + 1],
                    lambda point: 0.0 if (depth := self._depth(hot, point)) is None else depth,
                ).beta
        return None

    def _reaching(self, beta: float) -> list[Point]:
        """The minima of the symmetric branch up to this beta, or to their end."""
        points, lost = self._hot
        if lost or not points or points[-1].beta >= beta:
            return points
        further = continuation.follow(self.landscape, points[-1], lambda point: point.beta > beta)
        return [*points[:-1], *_until_lost(self.landscape, further)[0]]

    def _depth(self, hot: Sequence[Point], point: Point) -> float | None:
        """Energy of a pattern's minimum above the symmetric one's at the same beta; None past it."""
        thetas = [known.theta for known in hot]
        after = int(np.searchsorted(thetas, point.theta))
        if not 0 < after < len(thetas):
            return None
        # While it is a minimum the branch rises in beta, so neighbours enclose the state.
        low, high = hot[after - 1 : after + 1]
        share = (point.theta - low.theta) / (high.theta - low.theta)
        eta = self.landscape.minimum((1 - share) * low.eta + share * high.eta, point.beta)
        if eta is None:
            return None
        return self.landscape.energy(point.eta, point.beta) - self.landscape.energy(eta, point.beta)

    def _branch(self, points: Sequence[Point], index: int) -> Branch:
        own = self.landscape.patterns[index]
        states = np.array([point.eta for point in points]).reshape(len(points), len(own))
        return Branch(
            np.array([point.beta for point in points]),
            states @ own / (own @ own),
            np.array([point.curvature for point in points]),
        )


def _warn_of_lost(what: str, points: Sequence[Point]) -> None:
    place = f" at beta_eff = {points[-1].beta:.6g}" if points else ""
    warnings.warn(
        f"{what} is lost{place}, where rounding hides where it goes: a transition there is not seen.",
        stacklevel=4,
    )


def _with_end(points: Sequence[Point], minima: Sequence[Point]) -> list[Point]:
    """A branch with the end of its minima among its points, so that a picture turns there."""
    return [*minima, *points[len(minima) - 1 :]] if minima else list(points)


def _until_lost(landscape: Landscape, points: Sequence[Point]) -> tuple[list[Point], bool]:
    """The minima at the beginning of a branch, the last one where they end; and whether they do.

    They end in a fold, where the branch turns in beta, where it goes on as a saddle, or where it meets
    another within less than a step.
    """
    for place, (last, following) in enumerate(pairwise(points)):
        turns = last.tangent[-1] * following.tangent[-1] <= 0
        least = min(point.curvature for point in points[place : place + 3])
        if not turns and 0 < least == following.curvature < continuation.SINGULAR:
            return list(points[: place + 2]), True
        if turns or following.curvature <= 0:
            end = continuation.locate(
                landscape,
                last,
                following,
                (lambda point: point.tangent[-1]) if turns else (lambda point: point.curvature),
            )
            return [*points[: place + 1], end], True
    return list(points), False
