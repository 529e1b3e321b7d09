"""Variance exploding against variance preserving: how wide the window is on either clock.

Two equal classes at +-m with `|m|^2 = d mu^2` and variance s^2. Between the two ends of the entropic window
of share `mass` the decision SNR runs over fixed numbers, whatever d is,

    H(kappa_noisy) = (1 + mass) / 2 log 2,    H(kappa_clean) = (1 - mass) / 2 log 2.

A clock reads a kappa at

    VP (Ornstein-Uhlenbeck)   t     = (1/2) log(d mu^2 / kappa + 1 - s^2),    t_S     at kappa = 1
    VE                        sigma = sqrt(d mu^2 / kappa - s^2),             sigma^* at kappa = 1

(`t_S = (1/2) log(d mu^2)` at s = 1). So as d grows

    width in t / t_S          log(kappa_clean / kappa_noisy) / log(d mu^2)    shrinks like 1 / log d
    width in sigma / sigma^*  kappa_noisy^{-1/2} - kappa_clean^{-1/2}         stays as it is:

the transition is sharp on the one clock and smooth on the other, though the entropies are one function
of the log-SNR (Handke et al. 2026, arXiv 2602.09651: no sharp transition in variance exploding models).
"""

import equinox as eqx
import numpy as np
from jaxtyping import Float

from gmm_speciation.asymptotics.two_classes import SeparatedMeans
from gmm_speciation.checks import ArrayLike, as_axis, positive


class ClockWindows(eqx.Module):
    """The entropic window on both clocks, in units of the place where kappa = 1, a row a dimension."""

    dim: Float[np.ndarray, " N"]
    vp: Float[np.ndarray, "N 2"]  # t / t_S, early and late
    ve: Float[np.ndarray, "N 2"]  # sigma / sigma^*, low and high
    vp_law: Float[np.ndarray, " N"]  # log(kappa_clean / kappa_noisy) / log(d mu^2)
    ve_law: float  # kappa_noisy^{-1/2} - kappa_clean^{-1/2}
    mass: float = eqx.field(static=True)

    @property
    def vp_width(self) -> Float[np.ndarray, " N"]:
        """In t / t_S; tends to 0 like 1 / log d."""
        return self.vp[:, 1] - self.vp[:, 0]

    @property
    def ve_width(self) -> Float[np.ndarray, " N"]:
        """In sigma / sigma^*; tends to `ve_law`."""
        return self.ve[:, 1] - self.ve[:, 0]


def clock_windows(
    dim: ArrayLike, *, separation: float = 1.0, variance: float = 1.0, mass: float = 0.8
) -> ClockWindows:
    """The window of two classes at `+-separation (1, ..., 1)` on either clock, exactly at every d.

    Args:
        dim: Dimensions d, `(N,)`; beyond 2^53 too.
        separation: mu.
        variance: s^2 of both classes.
        mass: Share of the information in the window, equal tails outside.

    Raises:
        ValueError: If the share is not inside (0, 1), a number is not valid, or the classes overlap so
            much that kappa never reaches the clean end of the window.
    """
    dims = as_axis(
        dim, "dim", "hold finite numbers of at least 1", lambda d: positive(d) & (d >= 1)
    )
    law = SeparatedMeans(separation)
    if not (np.isfinite(variance) and variance >= 0):
        raise ValueError(f"`variance` must not be negative and be finite; got {variance}.")
    window = law.window(mass)
    ends = np.asarray(law.kappa([window.early, window.late]), float)  # clean, noisy
    signal = dims * separation**2
    if np.any(signal <= variance * ends[0]) or np.any(signal <= variance):
        raise ValueError(
            f"At d = {dims.min():g} the classes overlap: d separation² = {signal.min():.4g} must exceed "
            f"{max(ends[0], 1.0):.4g} times the variance, {variance:g}, for the window to have a clean end."
        )
    times = np.log(signal[:, None] / ends + 1 - variance) / 2
    sigmas = np.sqrt(signal[:, None] / ends - variance)
    return ClockWindows(
        dims,
        times / (np.log(signal + 1 - variance) / 2)[:, None],
        sigmas / np.sqrt(signal - variance)[:, None],
        np.log(ends[0] / ends[1]) / np.log(signal),
        float(ends[1] ** -0.5 - ends[0] ** -0.5),
        float(mass),
    )
