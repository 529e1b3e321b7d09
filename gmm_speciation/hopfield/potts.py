"""Critical temperatures of equidistant patterns: the mean-field Potts model.

N patterns of one norm at pairwise distance delta. With `xi = mean + s (x_1 - mean)` everything depends
on the *effective inverse temperature*

    beta_eff = beta delta^2 / 2        (unit patterns with x_i . x_j = c: beta (1 - c))

only, and fixed points are those of the N-state Potts model on the complete graph (Wu 1982)

    s = (1 - e^{-b s}) / (1 + (N - 1) e^{-b s}),                  b = beta_eff
    F(s) = (beta_eff / (delta^2 / 2)) (E(xi) - E(mean))
         = -log[(e^{b s} + N - 1) / N] + b s / N + b s^2 (N - 1) / (2 N).

In the variable `y = b s` the ordered branch is explicit: `b(y) = y (1 + N / (e^y - 1))`. Then, going up in b,

    appearance     the pattern minima appear, a fold: the smallest b(y)
    equal energy   F(s) = 0 at s = (N-2)/(N-1):  b = 2 (N-1) log(N-1) / (N-2), the first-order transition
    stability      the symmetric state s = 0 turns into a saddle: b = N

and the three coincide at 2 for two patterns, where the transition is continuous. These are noise levels of
diffusion too: equidistant classes without variance at noise (alpha, sigma) are these patterns with
`s = alpha^2 delta^2 / (2 sigma^2) = beta_eff`, so *stability* is their spectral point `s = N` and
*equal energy* tends to `2 log N`, the far edge of the entropic transition.

Ramsauer et al. 2021 (arXiv 2008.02217); Koulischer et al. 2023 (arXiv 2311.18434).
"""

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

from gmm_speciation.checks import ArrayLike, as_count, as_values, positive
from gmm_speciation.estimate import Readable


class CriticalBetas(Readable):
    """Values of beta_eff, predicted or measured; None where there is no such transition."""

    appearance: float | None  # minima near the patterns first appear
    equal_energy: float | None  # a pattern's minimum is as deep as the symmetric one
    stability: float | None  # the symmetric state loses its stability


def critical_betas(num_patterns: int | float) -> CriticalBetas:
    """The three critical values of beta_eff for N equidistant patterns; N may be as large as 1e300.

    Raises:
        ValueError: If `num_patterns` is not a whole number of at least 2.
    """
    n = float(as_count(num_patterns, "num_patterns", 2))
    if n == 2:
        return CriticalBetas(2.0, 2.0, 2.0)
    return CriticalBetas(
        appearance=_ordered(n, _fold(n)),
        equal_energy=float(2 * (n - 1) / (n - 2) * np.log(n - 1)),
        stability=n,
    )


def _ordered(n: float, y: float) -> float:
    """`b(y) = y (1 + N / (e^y - 1))`."""
    if y == 0:
        return n
    # N / (e^y - 1) without overflow of e^y.
    rest = np.exp(np.log(n) - y) / -np.expm1(-y) if y > 0 else n / np.expm1(y)
    return float(y + y * rest)


def _fold(n: float) -> float:
    """The y > 0 of the smallest b(y), N > 2: root of `(1 - e^{-y}) (e^y - 1 + N) - N y`."""

    def slope(y: float) -> float:
        # Divided by N, so that nothing overflows.
        return float(-np.expm1(-y) * (np.exp(y - np.log(n)) - 1 / n + 1) - y)

    # b has its minimum between 1/2 (N = 3 has it at 0.88) and 2 log N.
    return float(brentq(slope, 0.5, 2 * np.log(n) + 2, xtol=1e-13))


def potts_overlaps(num_patterns: int | float, beta_eff: float | int) -> tuple[float, float] | None:
    """Overlaps s of the pattern's minimum and of the saddle before it; None below their appearance.

    The saddle's s is negative where the symmetric state is unstable; for two patterns it is the other
    pattern's minimum.

    Raises:
        ValueError: If `num_patterns` is not a whole number of at least 2, or beta_eff not positive.
    """
    n = float(as_count(num_patterns, "num_patterns", 2))
    if not (np.isfinite(beta_eff) and beta_eff > 0):
        raise ValueError(f"`beta_eff` must be positive and finite; got {beta_eff}.")
    fold = 0.0 if n == 2 else _fold(n)
    if beta_eff < _ordered(n, fold):
        return None

    def excess(y: float) -> float:
        return _ordered(n, y) - beta_eff

    # b(y) > y above 0 and b(y) > (N - 1) |y| below: both ends lie beyond the roots.
    upper = brentq(excess, fold, beta_eff + 1, xtol=1e-13) if excess(fold) < 0 else fold
    lower = brentq(excess, -beta_eff - 1, fold, xtol=1e-13) if excess(fold) < 0 else fold
    return upper / beta_eff, lower / beta_eff


def potts_energy(
    num_patterns: int | float, s: ArrayLike, beta_eff: ArrayLike
) -> Float[np.ndarray, "..."]:
    """`F(s)`, the energy above the symmetric state's in units of `1/beta`; s and beta_eff broadcast.

    Raises:
        ValueError: If `num_patterns` is not a whole number of at least 2, s not finite, or beta_eff not
            positive and finite.
    """
    n = float(as_count(num_patterns, "num_patterns", 2))
    s, b = (
        as_values(s, "s"),
        as_values(beta_eff, "beta_eff", "be positive and finite", positive),
    )
    y, p = b * s, 1 / n
    mean_exp = np.logaddexp(y, np.log(n - 1)) - np.log(n)
    near = np.asarray(np.clip(y, -1, 1))
    second = b * s**2 * (1 - p) * (1 - b * p) / 2
    return np.where(
        abs(y) > 1,
        -mean_exp + y * p + b * s**2 * (1 - p) / 2,
        second - near**2 * _beyond_second(near, p),
    )


def _beyond_second(y: np.ndarray, p: float) -> np.ndarray:
    """`[K(y) - K'(0) y - K''(0) y^2 / 2] / y^2` of `K(y) = log(1 + p (e^y - 1))`, |y| <= 1.

    The remainder `int_0^1 (1 - u) [K''(u y) - K''(0)] du`, with `K'(t) = p + d(t)` and
    `K''(t) - K''(0) = d (1 - 2 p - d)`: near the symmetric state the first orders of F cancel.
    """
    nodes, weights = np.polynomial.legendre.leggauss(12)
    u = (1 + nodes) / 2
    rise = np.expm1(y[..., None] * u)
    d = p * (1 - p) * rise / (1 + p * rise)
    return np.asarray(np.sum(weights / 2 * (1 - u) * d * (1 - 2 * p - d), -1))
