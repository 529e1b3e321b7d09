"""Entropy curves: H(C|X) and its rate against the noise level, and where they happen.

A curve lives on the log-SNR `lambda`, from signal (large) to noise (small). Its rate is
`-dH/dlambda >= 0` in nats per unit log-SNR. A process is a clock: `curve.on(process)` gives the same
entropies at the process's times with `dH/dt = (-dH/dlambda) (-dlambda/dt)`.

The *window* of share `mass` lies between the two equal tails of the information: it ends where
`(1 - mass) / 2` and `(1 + mass) / 2` of `H(C) - H(C|X at the curve's signal end)` have been gained.
It is read off the entropies, so no clock moves it.

A curve may decide in several steps, one maximum of the rate each. `peaks()` gives those that persist
(`maxima`): above the noise where the curve is sampled, above rounding where it is exact, with the share
of the information gained between the valleys around each. `peak()` is the greatest.

Between the points an exact curve is read by a quintic spline, which leaves 1e-6 of a grid of 48. Noise would
make it swing: the rate of a sampled one is read by a cubic spline, and its crossings by the cubic between two
points that has their entropies and rates, 0.002 to 0.03 from the truth on levels one unit apart; how far the
quintic spline would read otherwise is in the error. So is what errors of the entropies hold beside the
scatter of the batches, as of what lies beyond the levels of a model.
Curves from sampling carry the means of R independent batches; peak, window and crossings get their
standard errors from a bootstrap over them (`bootstrap`): a maximum among noisy levels is no smooth function
of them. Where a sampled curve has no batches, these errors are NaN, not known.
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float

from gmm_speciation import bootstrap
from gmm_speciation.checks import as_values, decreasing_grid
from gmm_speciation.estimate import Estimate, RealArray, in_digits, known
from gmm_speciation.interpolation import crossing, spline, stationary
from gmm_speciation.maxima import (
    ON_THE_FLANKS,
    Maximum,
    persistent_maxima,
    significance,
    warn_of_few,
)
from gmm_speciation.peaks import ClockedPeak, Peak
from gmm_speciation.processes import DiffusionProcess

_ROUNDING = 1e-6  # of the largest rate: what an exact curve in float64 does not resolve


class Window(eqx.Module):
    """Log-SNR interval that holds the share `mass` of the information, equal tails outside."""

    low: Estimate  # the noisier end
    high: Estimate  # the cleaner end
    mass: float = eqx.field(static=True)

    @property
    def sigma(self) -> tuple[float, float]:
        """The window in EDM noise scale `sigma = exp(-lambda / 2)`, low to high."""
        return tuple(float(np.exp(-end.value / 2)) for end in (self.high, self.low))  # type: ignore[return-value]

    def __repr__(self) -> str:
        if not known(self.low, self.high):
            return super().__repr__()
        low, high = map(in_digits, self.sigma)
        return (
            f"Window({self.mass:.4g} of the information: λ from {self.low} to {self.high}, "
            f"σ from {low} to {high})"
        )


class Batches(eqx.Module):
    """Batch means of entropy and rate, `(R, T)`: independent replicates of a whole curve."""

    entropy: RealArray
    rate: RealArray

    def replicates(self, means: Float[np.ndarray, "2 T"]) -> Float[np.ndarray, "M 2 T"]:
        """Entropies and rates as other batches might have shown them (`bootstrap`)."""
        return bootstrap.replicates(means, np.stack([self.entropy, self.rate], 1))


class ClockedCurve(eqx.Module):
    """An entropy curve on a process's clock; `rate` is `dH/dt`, nats per unit time."""

    times: Float[np.ndarray, " T"]  # strictly increasing: from signal to noise
    entropy: Estimate
    rate: Estimate
    curve: "EntropyCurve"
    process: DiffusionProcess

    def peak(self, *, at_end: bool = False) -> ClockedPeak:
        """Where `dH/dt` is largest, at finite dimension not where `EntropyCurve.peak` is; warns as that."""
        return ClockedPeak(*self.curve._greatest(self.times, self._slope(), at_end))

    def peaks(self) -> tuple[ClockedPeak, ...]:
        """All maxima of `dH/dt` that persist, in the order of sampling: from noise to signal."""
        found = self.curve._maxima(self.times, self._slope())
        return tuple(ClockedPeak(*numbers) for numbers in reversed(found))

    def plot(self, **options: Any) -> list[Any]:
        """Entropy above, `dH/dt` below; returns the two matplotlib axes (`plotting.plot_clock`)."""
        import gmm_speciation  # its plotting lies above this module

        return gmm_speciation.plotting.plot_clock(self, **options).axes

    def __repr__(self) -> str:
        if not known(self.entropy, self.rate):
            return super().__repr__()
        top = int(np.argmax(self.rate.value))
        return (
            f"ClockedCurve({len(self.times)} times t of {type(self.process).__name__} from "
            f"{in_digits(self.times[0])} to {in_digits(self.times[-1])}; largest rate dH/dt "
            f"{self.rate[top]} nats per unit t at t = {in_digits(self.times[top])}; of {self.curve})"
        )

    def _slope(self) -> Float[np.ndarray, " T"]:
        return -np.asarray(self.process.log_snr_slope(self.times))

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
        in_nats = "be an entropy in nats, finite and not below 0"
        as_values(self.prior_entropy, "prior_entropy", in_nats, lambda h: 0 <= h < np.inf)
        if {self.entropy.value.shape, self.rate.value.shape} != {self.log_snr.shape}:
            raise ValueError(
                f"Entropy and rate must have one value a noise level, {self.log_snr.shape}; got "
                f"{self.entropy.value.shape} and {self.rate.value.shape}."
            )
        if self.batches is not None:
            entropy, rate = self.batches.entropy.shape, self.batches.rate.shape
            if entropy != rate or entropy[1:] != self.log_snr.shape:
                raise ValueError(
                    f"Batches must be a row a batch with one value a noise level, (R, {len(self.log_snr)}); "
                    f"got {entropy} and {rate}. Transpose what is a level a row."
                )

    @property
    def sigma(self) -> Float[np.ndarray, " T"]:
        """Noise scale at unit signal scale, `exp(-lambda / 2)`."""
        return np.exp(-self.log_snr / 2)

    def __repr__(self) -> str:
        if not known(self.entropy, self.rate):
            return super().__repr__()
        top = int(np.argmax(self.rate.value))
        trust = (
            "" if self.trust is None else ", trusted" if self.trust.ok else ", NOT to be trusted"
        )
        return (
            f"EntropyCurve({len(self.log_snr)} levels λ from {in_digits(self.log_snr[0])} to "
            f"{in_digits(self.log_snr[-1])}: H(C|X) from {self.entropy[0]} to {self.entropy[-1]} of H(C) = "
            f"{in_digits(self.prior_entropy)} nats; largest rate {self.rate[top]} nats per unit λ at λ = "
            f"{in_digits(self.log_snr[top])}; {self.method}{trust})"
        )

    def plot(self, process: DiffusionProcess | None = None, **options: Any) -> list[Any]:
        """Entropy above, rate below, with 95 % bands, peaks and the 80 % window.

        Args:
            process: Adds an axis of its times.
            **options: Of `plotting.plot_curve`: what to mark, the unit, a title.

        Returns:
            The two matplotlib axes, from the top; `axes[0].figure` is the picture.
        """
        import gmm_speciation  # its plotting lies above this module

        return gmm_speciation.plotting.plot_curve(self, process, **options).axes

    def on(self, process: DiffusionProcess) -> ClockedCurve:
        """The same curve on the clock of `process`.

        Raises:
            ValueError: If the process does not reach one of the noise levels.
        """
        times = np.asarray(process.time(self.log_snr))
        slope = -np.asarray(process.log_snr_slope(times))

        def per_time(rate):
            rate = np.asarray(rate)
            # The clock may stand still where nothing is left: 0, not 0 times infinity.
            return rate * np.where(rate == 0, 0.0, slope)

        rate = Estimate(per_time(self.rate.value), per_time(self.rate.stderr), self.rate.dof)
        return ClockedCurve(times, self.entropy, rate, self, process)

    def part(self, levels: slice) -> "EntropyCurve":
        """The curve at some of its levels."""
        return replace(
            self,
            log_snr=self.log_snr[levels],
            entropy=self.entropy[levels],
            rate=self.rate[levels],
            batches=jax.tree.map(lambda each: each[:, levels], self.batches),
        )

    def peak(self, *, at_end: bool = False) -> Peak:
        """Where `-dH/dlambda` is largest, by a spline through the curve.

        Warns where that is at an end of the levels or they are too few to tell, unless the caller says that
        this may be (`at_end`). The error is that of sampling.
        """
        return Peak(*self._greatest(self.log_snr, np.ones_like(self.log_snr), at_end))

    def peaks(self) -> tuple[Peak, ...]:
        """All maxima of `-dH/dlambda` that persist, in the order of sampling: from noise to signal.

        None on a curve whose rate does not stand above the noise. The shares add up to that of the
        information which the grid holds.
        """
        found = self._maxima(self.log_snr, np.ones_like(self.log_snr))
        return tuple(Peak(*numbers) for numbers in reversed(found))

    def window(self, mass: float = 0.8, *, at_end: bool = False) -> Window:
        """Where the central share `mass` of the information is gained, of that which the grid holds.

        Warns where a tenth of it and more would be gained in one unit beyond the clean end, and where the
        levels are too few to tell, unless the caller says that it may end with the levels (`at_end`).

        Raises:
            ValueError: If `mass` is not inside (0, 1), or the grid's noisy end lies inside the window.
        """
        as_values(mass, "mass", "lie inside (0, 1)", lambda m: m.ndim == 0 and 0 < m < 1)

        def levels(entropy):
            return np.array([(1 - mass) / 2, (1 + mass) / 2]) * (self.prior_entropy - entropy[0])

        def ends(entropy, rate, degree):
            return tuple(self._crossing(entropy, rate, x, degree) for x in levels(entropy))

        if not at_end:
            beyond = float(self.rate.value[0] - 3 * self.rate.stderr[0])
            if beyond > (self.prior_entropy - float(self.entropy.value[0])) / 10 > 0:
                words = f"Much is decided beyond {in_digits(self.log_snr[0])} still, the grid's clean end"
                warnings.warn(f"{words}; widen the grid.", stacklevel=3)
            self._check_passed("window", *levels(np.asarray(self.entropy.value)))
        low, high = self._resampled(ends)
        return Window(low, high, float(mass))

    def crossing(self, entropy: float, *, at_end: bool = False) -> Estimate:
        """Log-SNR at which H(C|X) has fallen to this entropy in nats; warns where the levels are too few.

        Raises:
            ValueError: If it is no number, or the curve does not cross it on its grid; the nearer end where
                the caller says that this may be (`at_end`).
        """
        as_values(entropy, "entropy", "be a number", lambda x: x.ndim == 0 and np.isfinite(x))
        level = self.prior_entropy - float(entropy)
        if not at_end:
            self._check_passed("crossing", level)
        return self._resampled(lambda h, rate, k: (self._crossing(h, rate, level, k),))[0]

    def information_budget(self) -> tuple[Estimate, Estimate]:
        """`(integral of the rate, H at the noisy end - H at the clean end)`: two sides of one identity."""
        return self._resampled(  # type: ignore[return-value]
            lambda h, rate, _: (-np.trapezoid(rate, self.log_snr), h[-1] - h[0])
        )

    def _maxima(self, position: np.ndarray, slope: np.ndarray) -> list[tuple[Estimate, ...]]:
        """Position, height, share and persistence of every maximum of `slope * rate`, signal first."""
        return [self._read(position, slope, top) for top in self._tops(slope)]

    def _greatest(
        self, position: np.ndarray, slope: np.ndarray, at_end: bool
    ) -> tuple[Estimate, ...]:
        """The same of the greatest one, whether or not it stands above the noise."""
        heights = np.asarray(self.rate.value, float) * slope
        best = int(np.argmax(heights))
        alone = Maximum(best, None, 0, len(position) - 1)
        read = self._maxima(position, slope) or [self._read(position, slope, alone)]
        if not at_end:
            warn_of_few(heights)
        if not at_end and best in (0, len(position) - 1) and self.rate.value[best] != 0:
            warnings.warn(
                f"The rate is largest at an end of the levels, {in_digits(position[best])}, and may be "
                "larger beyond; widen the grid.",
                stacklevel=5,
            )
        return max(read, key=lambda one: float(one[1].value))

    def _check_whole(self) -> None:
        missing = np.isnan(self.entropy.value) | np.isnan(self.rate.value)
        if np.any(missing):
            raise ValueError(
                f"The curve has no value at log-SNR {in_digits(self.log_snr[np.argmax(missing)])}: entropy "
                "or rate is NaN. Make one of the levels that have both."
            )

    def _tops(self, slope: np.ndarray) -> tuple[Maximum, ...]:
        self._check_whole()
        eps = float(np.finfo(np.asarray(self.rate.value).dtype).eps)
        rates, stderr = np.asarray(self.rate.value, float), np.asarray(self.rate.stderr, float)
        rounding = max(_ROUNDING, 100 * eps) * np.max(np.abs(rates))

        def least(index: int, saddle: int | None) -> float:
            """The smallest difference of the two rates that is more than noise and rounding."""
            pair = [index] if saddle is None else [index, saddle]
            signed = np.array([1.0, -1.0])[: len(pair)] * slope[pair]
            error, dof = float(np.linalg.norm(stderr[pair] * signed)), self.rate.dof
            if self.batches is not None:  # the errors of both may have much in common
                difference = Estimate.from_samples(np.asarray(self.batches.rate)[:, pair] @ signed)
                error, dof = float(difference.stderr), difference.dof
            return float(max(significance(len(rates), dof) * error, rounding * max(slope[pair])))

        return persistent_maxima(rates * slope, least)

    def _read(self, position: np.ndarray, slope: np.ndarray, top: Maximum) -> tuple[Estimate, ...]:
        through = spline(position, np.asarray(self.rate.value, float) * slope, self._degree)
        valleys = [
            stationary(through, position, end, np.argmin)
            if 0 < end < len(position) - 1
            else position[end]
            for end in (top.left, top.right)
        ]

        def statistic(entropy, rate, degree):
            heights = rate * slope
            through = spline(position, heights, degree)
            highest = top.left + int(np.argmax(heights[top.left : top.right + 1]))
            place = stationary(through, position, highest, np.argmax)
            height = float(through(place))
            ends = spline(position, entropy, degree)(valleys)
            gained = self.prior_entropy - float(entropy[0])
            share = abs(float(ends[1] - ends[0])) / gained if gained > 0 else np.nan
            return place, height, share, height - (0 if top.saddle is None else heights[top.saddle])

        return self._resampled(statistic)

    def _gained(self, entropy: np.ndarray) -> np.ndarray:
        """The information gained, noise first: what noise bends, by its running maximum."""
        return np.maximum.accumulate(np.asarray(self.prior_entropy - entropy, float)[::-1])

    def _check_passed(self, what: str, *levels: float) -> None:
        self._check_whole()
        warn_of_few(np.asarray(self.rate.value, float), what, ON_THE_FLANKS)
        x, y = self.log_snr[::-1], self._gained(np.asarray(self.entropy.value))
        missed = [level for level in levels if not y[0] <= level <= y[-1]]
        if missed:
            raise ValueError(
                f"The curve gains between {y[0]:.4g} and {y[-1]:.4g} nats on log-SNR "
                f"[{x[0]:.4g}, {x[-1]:.4g}] and never passes {missed[0]:.4g}; widen the grid."
            )
        if y[-1] == y[0]:
            warnings.warn("The curve is flat; its crossing is arbitrary.", stacklevel=5)

    def _crossing(self, entropy: np.ndarray, rate: np.ndarray, level: float, degree: int) -> float:
        """Log-SNR at which the information gained, whose slope is the rate, passes `level`, or an end."""
        x, slope = (np.asarray(part, float)[::-1] for part in (self.log_snr, rate))
        return crossing(x, self._gained(entropy), slope, level, degree)

    @property
    def _exact(self) -> bool:
        return not (np.any(self.rate.stderr) or np.any(self.entropy.stderr))

    @property
    def _degree(self) -> int:
        return 5 if self._exact else 3

    def _resampled(self, statistic: Callable) -> tuple[Estimate, ...]:
        """A tuple of statistics of `(entropy, rate)`, exact, by the bootstrap, or with unknown errors."""
        self._check_whole()
        means = np.stack([self.entropy.value, self.rate.value])
        values = statistic(*means, self._degree)
        if self.batches is None:
            error = np.asarray(0.0 if self._exact else np.nan)
            return tuple(Estimate(np.asarray(value, float), error) for value in values)
        replicates = self.batches.replicates(means)
        found = np.array([statistic(*one, self._degree) for one in replicates])
        noise = bootstrap.error(np.array(values), found, len(self.batches.rate))
        others = np.array([statistic(*means, 5), statistic(*self.displaced, self._degree)])
        apart = np.linalg.norm([noise.stderr, *(others - values)], axis=0)
        return tuple(Estimate(*each, noise.dof) for each in zip(values, apart, strict=True))

    @property
    def displaced(self) -> Float[np.ndarray, "2 T"]:
        """Entropies, lower by what their errors hold beside the scatter of the batches, and rates."""
        sampled = self.batches and Estimate.from_samples(self.batches.entropy)
        scatter = np.asarray(sampled.stderr if sampled else 0.0)
        rest = np.asarray(self.entropy.stderr) ** 2 - scatter**2
        lower = self.entropy.value - np.sqrt(np.where(rest > 1e-9 * scatter**2, rest, 0.0))
        return np.stack([lower, self.rate.value])
