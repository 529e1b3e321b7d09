"""Entropy curves: H(C|X) and its rate against the noise level, and where they happen.

A curve lives on the log-SNR `lambda`, from signal (large) to noise (small). Its rate is
`-dH/dlambda >= 0` in nats per unit log-SNR. A process is a clock: `curve.on(process)` gives the same
entropies at the process's times with `dH/dt = (-dH/dlambda) (-dlambda/dt)`.

The *window* of share `mass` lies between the two equal tails of the information: it ends where
`(1 - mass) / 2` and `(1 + mass) / 2` of `H(C) - H(C|X at the curve's signal end)` have been gained.
It is read off the entropies, so no clock moves it.

Curves from sampling carry the means of R independent batches; peak, window and crossings get their
standard errors from the delete-one jackknife over them.
"""

import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.optimize import brentq

from gmm_speciation.checks import decreasing_grid
from gmm_speciation.estimate import Estimate, RealArray
from gmm_speciation.processes import DiffusionProcess


class Peak(eqx.Module):
    """Where the rate per unit log-SNR is largest, and how large it is."""

    log_snr: Estimate
    rate: Estimate


class ClockedPeak(eqx.Module):
    """Where the rate per unit time is largest, and how large it is."""

    time: Estimate
    rate: Estimate


class Window(eqx.Module):
    """Log-SNR interval that holds the share `mass` of the information, equal tails outside."""

    low: Estimate  # the noisier end
    high: Estimate  # the cleaner end
    mass: float = eqx.field(static=True)

    @property
    def sigma(self) -> tuple[float, float]:
        """The window in EDM noise scale `sigma = exp(-lambda / 2)`, low to high."""
        return tuple(float(np.exp(-end.value / 2)) for end in (self.high, self.low))  # type: ignore[return-value]


class Batches(eqx.Module):
    """Batch means of entropy and rate, `(R, T)`: independent replicates of a whole curve."""

    entropy: RealArray
    rate: RealArray


class ClockedCurve(eqx.Module):
    """An entropy curve on a process's clock; `rate` is `dH/dt`, nats per unit time."""

    times: Float[np.ndarray, " T"]  # strictly increasing: from signal to noise
    entropy: Estimate
    rate: Estimate
    curve: "EntropyCurve"
    process: DiffusionProcess

    def peak(self) -> ClockedPeak:
        """Where `dH/dt` is largest; differs from the peak per unit log-SNR at finite dimension."""
        scale = np.asarray(self.rate.value) / np.maximum(np.asarray(self.curve.rate.value), 1e-300)
        time, rate = self.curve._jackknifed(lambda entropy, rate: _argmax(self.times, rate * scale))
        return ClockedPeak(time, rate)

    def window(self, mass: float = 0.8) -> tuple[float, float]:
        """The curve's window in times, early to late: the same noise levels on this clock."""
        window = self.curve.window(mass)
        return tuple(float(self.process.time(end.value)) for end in (window.high, window.low))  # type: ignore[return-value]


class EntropyCurve(eqx.Module):
    """Class entropy and its rate against the log-SNR, in nats."""

    log_snr: Float[np.ndarray, " T"] = eqx.field(converter=np.asarray)  # strictly decreasing
    entropy: Estimate  # H(C | X)
    rate: Estimate  # -dH/dlambda, per unit log-SNR
    prior_entropy: float = eqx.field(converter=float)  # H(C)
    method: str = eqx.field(static=True)
    batches: Batches | None = None
    trust: Any = eqx.field(static=True, default=None)  # what a trained model's checks say, if any

    def __check_init__(self):
        decreasing_grid(self.log_snr)
        if {self.entropy.value.shape, self.rate.value.shape} != {self.log_snr.shape}:
            raise ValueError(
                f"Entropy and rate must have one value a noise level, {self.log_snr.shape}; got "
                f"{self.entropy.value.shape} and {self.rate.value.shape}."
            )

    @property
    def sigma(self) -> Float[np.ndarray, " T"]:
        """Noise scale at unit signal scale, `exp(-lambda / 2)`."""
        return np.exp(-self.log_snr / 2)

    def on(self, process: DiffusionProcess) -> ClockedCurve:
        """The same curve on the clock of `process`.

        Raises:
            ValueError: If the process does not reach one of the noise levels.
        """
        times = np.asarray(process.time(self.log_snr))
        slope = -np.asarray(process.log_snr_slope(times))
        rate = Estimate(
            np.asarray(self.rate.value) * slope,
            np.asarray(self.rate.stderr) * slope,
            self.rate.dof,
        )
        return ClockedCurve(times, self.entropy, rate, self, process)

    def peak(self) -> Peak:
        """Where `-dH/dlambda` is largest, by a cubic spline through the curve."""
        position, height = self._jackknifed(lambda entropy, rate: _argmax(self.log_snr, rate))
        return Peak(position, height)

    def window(self, mass: float = 0.8) -> Window:
        """Where the central share `mass` of the information is gained.

        Raises:
            ValueError: If `mass` is not inside (0, 1), or the grid ends inside the window.
        """
        if not 0 < mass < 1:
            raise ValueError(f"`mass` must lie inside (0, 1); got {mass}.")

        def ends(entropy, rate):
            gained = self.prior_entropy - entropy
            levels = np.array([(1 - mass) / 2, (1 + mass) / 2]) * gained[0]
            return tuple(_crossing(self.log_snr, gained, level) for level in levels)

        low, high = self._jackknifed(ends)
        return Window(low, high, mass)

    def crossing(self, entropy: float) -> Estimate:
        """Log-SNR at which H(C|X) has fallen to this entropy in nats.

        Raises:
            ValueError: If the curve does not cross it on its grid.
        """
        level = self.prior_entropy - entropy
        return self._jackknifed(
            lambda h, rate: (_crossing(self.log_snr, self.prior_entropy - h, level),)
        )[0]

    def information_budget(self) -> tuple[Estimate, Estimate]:
        """`(integral of the rate, H at the noisy end - H at the clean end)`: two sides of one identity."""
        integral, difference = self._jackknifed(
            lambda h, rate: (-np.trapezoid(rate, self.log_snr), h[-1] - h[0])
        )
        return integral, difference

    def _jackknifed(self, statistic: Callable) -> tuple[Estimate, ...]:
        """A tuple of statistics of `(entropy, rate)`, with jackknife errors where batches exist."""
        values = statistic(np.asarray(self.entropy.value), np.asarray(self.rate.value))
        if self.batches is None:
            return tuple(Estimate.exact(np.asarray(value, float)) for value in values)
        entropy, rate = np.asarray(self.batches.entropy), np.asarray(self.batches.rate)
        without = np.array(
            [
                statistic(np.delete(entropy, r, 0).mean(0), np.delete(rate, r, 0).mean(0))
                for r in range(len(entropy))
            ]
        )
        return tuple(Estimate.jackknife(v, without[:, i]) for i, v in enumerate(values))


def _argmax(position: np.ndarray, height: np.ndarray) -> tuple[float, float]:
    """Place and height of the maximum of the cubic spline through the points."""
    order = np.argsort(position)
    x, y = np.asarray(position, float)[order], np.asarray(height, float)[order]
    spline = CubicSpline(x, y)
    best = int(np.argmax(y))
    stationary = spline.derivative().roots(extrapolate=False)
    near = stationary[
        (stationary >= x[max(best - 1, 0)]) & (stationary <= x[min(best + 1, len(x) - 1)])
    ]
    candidates = np.append(near, x[best])
    winner = candidates[int(np.argmax(spline(candidates)))]
    return float(winner), float(spline(winner))


def _crossing(log_snr: np.ndarray, gained: np.ndarray, level: float) -> float:
    """Log-SNR at which the information gained passes `level`; gained grows with the log-SNR."""
    x = np.asarray(log_snr, float)[::-1]
    # Sampling noise may bend a monotone function; its running maximum is the nearest we know.
    y = np.maximum.accumulate(np.asarray(gained, float)[::-1])
    if not y[0] <= level <= y[-1]:
        raise ValueError(
            f"The curve gains between {y[0]:.4g} and {y[-1]:.4g} nats on log-SNR "
            f"[{x[0]:.4g}, {x[-1]:.4g}] and never passes {level:.4g}; widen the grid."
        )
    if y[-1] == y[0]:
        warnings.warn("The curve is flat; its crossing is arbitrary.", stacklevel=3)
        return float(x[0])
    return float(brentq(PchipInterpolator(x, y - level), x[0], x[-1], xtol=1e-12))
