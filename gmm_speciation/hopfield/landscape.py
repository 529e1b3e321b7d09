"""The energy landscape in few coordinates, and its fixed points.

Fixed points lie in the convex hull of the patterns. With `u_i = x_i - mean` and `xi = mean + eta`

    beta x_i . xi = beta (u_i . eta + u_i . mean) + common,

so in an orthonormal basis of the span of the u_i, at most min(N - 1, d) coordinates, and in the unit
`delta / sqrt(2)`, the network is

    f(eta, b) = eta - U^T p,    p = softmax(b (U eta + h)),    h_i = u_i . mean,    b = beta_eff,
    Hessian   = I - b U^T (diag p - p p^T) U,

with `h = 0` for patterns of equal norm around the origin. A fixed point is a minimum of E where the
smallest eigenvalue of the Hessian is positive.

In NumPy, in double precision whatever JAX is set to: at a fold the Hessian is singular, and half of
the digits of a fixed point are lost there.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp, softmax

from gmm_speciation.checks import ArrayLike, as_count, as_reals
from gmm_speciation.hopfield.energy import as_patterns

_RANK = 1e-10  # singular values below this share of the largest are rounding
_MAX_RANK = 2000  # a step solves a dense system of this size


class Landscape(NamedTuple):
    """A network reduced to the span of its patterns; lengths in units of `delta / sqrt(2)`."""

    patterns: Float[np.ndarray, "N r"]  # U: centred
    tilts: Float[np.ndarray, " N"]  # h
    unit: float  # delta / sqrt(2), in the unit of the patterns

    @classmethod
    def of(cls, patterns: ArrayLike) -> "Landscape":
        """Reduce patterns `(N, d)`.

        Raises:
            ValueError: If they are not `(N, d)` and finite, are all the same, or span more than 2000
                dimensions.
        """
        # Before JAX rounds them, where it is set to single precision.
        rows = np.asarray(as_reals(patterns, "patterns"), float)
        as_patterns(rows)
        if min(rows.shape) > _MAX_RANK:
            raise ValueError(
                f"Fixed points are followed in at most {_MAX_RANK} dimensions, the smaller of N and d; "
                f"got {rows.shape[0]} patterns in {rows.shape[1]}. Take a subset."
            )
        mean = rows.mean(0)
        centred = rows - mean
        size = float(np.max(np.abs(rows))) or 1.0  # whose square may be no number
        unit = size * float(np.sqrt(np.sum((centred / size) ** 2) / (len(rows) - 1)))
        if not unit > 1e-12 * size:
            raise ValueError("`patterns` must not all be the same.")
        left, singular, _ = np.linalg.svd(centred / unit, full_matrices=False)
        kept = singular > _RANK * singular[0]
        tilts = (centred / unit) @ (mean / unit)
        return cls(left[:, kept] * singular[kept], tilts - tilts.mean(), unit)

    def pattern(self, index: int) -> Float[np.ndarray, " r"]:
        """One of the patterns, with which overlaps can be measured.

        Raises:
            ValueError: If there is none of this index, or it lies at the mean of all.
        """
        index = as_count(index, "index", 0)
        if index >= len(self.patterns):
            raise ValueError(f"`index` must lie inside [0, {len(self.patterns)}); got {index}.")
        own = self.patterns[index]
        if not np.linalg.norm(own) > _RANK * np.linalg.norm(self.patterns):
            raise ValueError(
                f"Pattern {index} lies at the mean of all patterns, and an overlap with it is not defined; "
                "follow another one."
            )
        return own

    def probabilities(self, eta: Float[np.ndarray, " r"], b: float) -> Float[np.ndarray, " N"]:
        """Weights of the patterns in the next step."""
        return softmax(b * self.overlaps(eta))

    def overlaps(self, eta: Float[np.ndarray, " r"]) -> Float[np.ndarray, " N"]:
        """`U eta + h`."""
        return self.patterns @ eta + self.tilts

    def residual(self, eta: Float[np.ndarray, " r"], b: float) -> Float[np.ndarray, " r"]:
        """The gradient `f(eta, b)`."""
        return eta - self.probabilities(eta, b) @ self.patterns

    def hessian(self, eta: Float[np.ndarray, " r"], b: float) -> Float[np.ndarray, "r r"]:
        """`I - b Cov_p(U)`."""
        p = self.probabilities(eta, b)
        spread = np.sqrt(p)[:, None] * (self.patterns - p @ self.patterns)
        return np.eye(len(eta)) - b * spread.T @ spread

    def slope(self, eta: Float[np.ndarray, " r"], b: float) -> Float[np.ndarray, " r"]:
        """`df / d log b`."""
        p, overlaps = self.probabilities(eta, b), self.overlaps(eta)
        return -b * (p * (overlaps - p @ overlaps)) @ self.patterns

    def energy(self, eta: Float[np.ndarray, " r"], b: float) -> float:
        """E in units of `delta^2 / 2`, up to a constant."""
        return float(eta @ eta / 2 - logsumexp(b * self.overlaps(eta)) / b)

    def minimum(self, eta: Float[np.ndarray, " r"], b: float) -> Float[np.ndarray, " r"] | None:
        """The fixed point that Newton's method reaches from `eta`; None where it fails."""
        for _ in range(50):
            residual = self.residual(eta, b)
            try:
                step = np.linalg.solve(self.hessian(eta, b), residual)
            except np.linalg.LinAlgError:
                return None
            eta = eta - step
            if not np.isfinite(eta).all() or np.linalg.norm(eta) > 1e3:
                return None
            if np.linalg.norm(step) < 1e-13 * (1 + np.linalg.norm(eta)):
                return eta
        return None
