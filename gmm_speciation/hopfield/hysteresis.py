"""Hysteresis: retrieval swept up and down in beta, each step from where the last one ended.

Upwards the state starts at the single minimum of small beta and gets, before every step, a kick towards the
pattern, so that it leaves a state that has become a saddle; downwards it starts at the pattern. A state
stays in its minimum for as long as that exists. So where a minimum is lost in a fold the two sweeps part
and enclose a loop (first order); where one turns into the other without a jump they agree (continuous).
For equidistant patterns the loop reaches from *appearance* to *stability*.

The sweeps are iterations `xi <- X^T softmax(beta X xi)`, which share nothing with `continuation`.
"""

import equinox as eqx
import numpy as np
from jaxtyping import Float
from scipy.special import softmax

from gmm_speciation.checks import ArrayLike, as_rising
from gmm_speciation.hopfield.landscape import Landscape

_KICK = 1e-4  # of the way to the pattern
_STILL = 1e-10  # move of a step after which a state has arrived
_MAX_STEPS = 20_000


class Loop(eqx.Module):
    """Overlap with the pattern of the state that is reached, `(xi - mean) . (x - mean) / |x - mean|^2`."""

    beta_eff: Float[np.ndarray, " B"]
    up: Float[np.ndarray, " B"]
    down: Float[np.ndarray, " B"]

    @property
    def area(self) -> float:
        """Between the sweeps, integral over log beta_eff; 0 without a first-order jump."""
        return float(np.trapezoid(self.down - self.up, np.log(self.beta_eff)))

    def jump(self, which: str) -> tuple[float, float]:
        """Where the sweep "up" or "down" changes most in one step, and by how much."""
        change = np.abs(np.diff(getattr(self, which)))
        at = int(np.argmax(change))
        return float(np.sqrt(self.beta_eff[at] * self.beta_eff[at + 1])), float(change[at])


def hysteresis_loop(patterns: ArrayLike, index: int, beta_eff: ArrayLike) -> Loop:
    """Sweep up and down over values of beta_eff.

    Args:
        patterns: `(N, d)`.
        index: The pattern whose overlap is followed.
        beta_eff: Increasing, positive.

    Raises:
        ValueError: As `Landscape.of`; if there is no such pattern, it lies at the mean of all, or beta_eff
            does not increase from above 0.
    """
    landscape = Landscape.of(patterns)
    grid = as_rising(beta_eff, "beta_eff", 3)
    own = landscape.pattern(index)

    def settled(eta: np.ndarray, b: float) -> np.ndarray:
        for _ in range(_MAX_STEPS):
            before = eta
            eta = softmax(b * (landscape.patterns @ eta + landscape.tilts)) @ landscape.patterns
            if np.linalg.norm(eta - before) < _STILL:
                break
        return eta

    def sweep(eta: np.ndarray, values: np.ndarray, kick: float) -> np.ndarray:
        found = []
        for b in values:
            eta = settled((1 - kick) * eta + kick * own, float(b))
            found.append(eta @ own / (own @ own))
        return np.array(found)

    up = sweep(np.zeros_like(own), grid, _KICK)
    down = sweep(own, grid[::-1], 0.0)[::-1]
    return Loop(grid, up, down)
