"""Many equidistant classes, in the clock `s = alpha^2 delta^2 / (2 v)` of `exact.equidistant`.

As K -> infinity at fixed `u = s / log K` the posterior freezes like a random-energy model (Derrida 1981):

    I / log K -> min(1, u / 2),     -d(H / log K)/du -> 1/2 below u = 2, 0 beyond,
    phi       -> 0 below u = 2, 1 beyond.

So half the entropy is gone at s = log K, while the largest rate per unit log-SNR, `s |dH/ds|`, and the
clones both move towards the edge s = 2 log K. The spectral and the curvature criterion ask when the
noise leaves one direction of the covariance standing. Without cluster variance the K - 1 eigenvalues of
the covariance between the means are delta^2 / (2 K), at the symmetric point that of the posterior, too: both
criteria say s = K, far inside the phase in which the class has long been decided (K = 1000: 1000 against
7.2 and 10.2).

Everything else at finite K comes from the exact integrals; nothing is taken from its limit.
"""

import equinox as eqx
import numpy as np
from jaxtyping import Float
from scipy.interpolate import PPoly, make_interp_spline
from scipy.optimize import brentq

from gmm_speciation import exact
from gmm_speciation.checks import ArrayLike, as_axis
from gmm_speciation.speciation import CLONE_SHARE

_POINTS = 96
_DEGREE = 7  # the spline's error on this grid is below that of the integrals


class ManyClassLimit(eqx.Module):
    """The limit K -> infinity at `u = s / log K`; H and I as shares of log K."""

    u: Float[np.ndarray, " T"]
    entropy: Float[np.ndarray, " T"]  # H / log K
    # s |dH/ds| / log K = -dH/dlambda / log K, without cluster variance
    rate: Float[np.ndarray, " T"]
    agreement: Float[np.ndarray, " T"]  # of clones


def many_class_limit(u: ArrayLike) -> ManyClassLimit:
    """The random-energy law at `u = s / log K`, shape `(T,)`.

    Raises:
        ValueError: If u is negative or not one-dimensional.
    """
    share = as_axis(u, "u", "be numbers that are not negative", lambda u: u >= 0)
    before = share < 2
    return ManyClassLimit(
        share,
        np.where(before, 1 - share / 2, 0.0),
        np.where(before, share / 2, 0.0),
        np.where(before, 0.0, 1.0),
    )


class ClassCriteria(eqx.Module):
    """Where each criterion stands for K equidistant classes without cluster variance, in s."""

    num_classes: Float[np.ndarray, " N"]
    half_entropy: Float[np.ndarray, " N"]  # H = (1/2) log K
    entropic_peak: Float[np.ndarray, " N"]  # of -dH/dlambda = s |dH/ds|
    cloning: Float[np.ndarray, " N"]  # clones agree by 0.55 of the way from chance to certainty
    spectral: Float[np.ndarray, " N"]  # of the whole covariance: s = K
    curvature: Float[np.ndarray, " N"]  # of log p at the symmetric point: s = K

    @property
    def limits(self) -> dict[str, Float[np.ndarray, " N"]]:
        """What each criterion tends to as K grows, by the name of its field."""
        log_k = np.log(self.num_classes)
        return {
            "half_entropy": log_k,
            "entropic_peak": 2 * log_k,
            "cloning": 2 * log_k,
            "spectral": self.num_classes,
            "curvature": self.num_classes,
        }


def criteria_by_classes(num_classes: ArrayLike) -> ClassCriteria:
    """The points of five criteria for each number of classes, from the exact integrals.

    Args:
        num_classes: Whole numbers of at least 2, `(N,)`; about half a second each.

    Raises:
        ValueError: If one is not a whole number of at least 2.
    """
    counts = as_axis(
        num_classes,
        "num_classes",
        "hold whole numbers of at least 2",
        lambda k: (k >= 2) & (k % 1 == 0),
    )
    half, peak, cloning = np.array([_entropic_criteria(count) for count in counts]).T
    return ClassCriteria(counts, half, peak, cloning, counts, counts)


def _entropic_criteria(num_classes: float) -> tuple[float, float, float]:
    """Half entropy, peak and cloning point, by splines of H and its slope in log s."""
    log_k = np.log(num_classes)
    log_s = np.linspace(np.log(0.4 * log_k), np.log(3.2 * log_k + 4), _POINTS)
    s = np.exp(log_s)
    mmse = np.asarray(exact.equidistant_mmse(num_classes, s))
    entropy = make_interp_spline(
        log_s, np.asarray(exact.equidistant_entropy(num_classes, s)), k=_DEGREE
    )
    error = make_interp_spline(log_s, mmse, k=_DEGREE)
    rate = make_interp_spline(log_s, s * mmse / 2, k=_DEGREE)
    # (phi - 1/K) / (1 - 1/K) = share, with phi = 1 - mmse.
    aim = (1 - CLONE_SHARE) * (1 - 1 / num_classes)
    half = _root(lambda x: float(entropy(x)) - log_k / 2, log_s)
    clones = _root(lambda x: float(error(x)) - aim, log_s)
    return np.exp(half), np.exp(_highest(rate, log_s)), np.exp(clones)


def _root(function, log_s: np.ndarray) -> float:
    return float(brentq(function, log_s[0], log_s[-1], xtol=1e-13))


def _highest(rate, log_s: np.ndarray) -> float:
    """Where the rate is largest."""
    places = PPoly.from_spline(rate.derivative()).roots(extrapolate=False)
    inside = places[(places > log_s[0]) & (places < log_s[-1])]
    return float(inside[int(np.argmax(rate(inside)))])
