"""Shares of trials, with intervals that hold at 0 and 1 and in few trials.

Of n independent trials, k of them hits, the interval of Clopper & Pearson (1934) is

    low = B(a/2; k, n - k + 1),      high = B(1 - a/2; k + 1, n - k),      a = 1 - level,

with B(q; ., .) a quantile of the Beta distribution, low = 0 at k = 0 and high = 1 at k = n: it lies in
[0, 1], and none seen is not never. A share p whose standard error s comes from batches, or from trials that
are weighted or hang together, counts for

    n* = min(n, p (1 - p) / s^2) (z / t)^2,      n (z / t)^2 at p = 0 and p = 1, where s says nothing,

trials (Korn & Graubard 1998, Survey Methodology 24, 193), with t and z the quantiles at the level of
Student's t and of the normal distribution.
"""

import math

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from gmm_speciation.estimate import Estimate, RealArray

_FEW = 20  # draws


class Share(Estimate):
    """A share with its standard error, and the trials that it counts for, `n*` before `z / t`.

    The standard error, that of a coin at least, is for what is computed from the share; it is 0 nowhere.
    """

    trials: RealArray = eqx.field(converter=np.asarray, default=np.inf)  # shape of `value`

    @classmethod
    def counted(cls, share, num_trials) -> "Share":
        """The share among independent trials."""
        share = np.asarray(share, float)
        return cls(
            share, _coin(share, num_trials), np.inf, np.broadcast_to(num_trials, share.shape)
        )

    @classmethod
    def of(cls, share: Estimate, num_trials) -> "Share":
        """A share whose error comes from batches, weights or pairs, of at most so many trials."""
        p, stderr = np.asarray(share.value, float), np.asarray(share.stderr, float)
        with np.errstate(divide="ignore", invalid="ignore"):
            known = np.where(stderr > 0, p * (1 - p) / stderr**2, np.inf)
        # Resampling may leave [0, 1]; there, as at the ends, the error says nothing.
        trials = np.where((p > 0) & (p < 1), np.minimum(num_trials, known), num_trials)
        return cls(np.clip(p, 0, 1), np.maximum(stderr, _coin(p, num_trials)), share.dof, trials)

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Two-sided interval `(low, high)` inside [0, 1]; raises as `Estimate.interval`."""
        super().half_width(level)  # checks the level
        tail = (1 - level) / 2
        p = np.asarray(self.value, float)
        n = np.asarray(self.trials) * (stats.norm.ppf(tail) / stats.t.ppf(tail, self.dof)) ** 2
        hits, misses = p * n, (1 - p) * n
        low = np.where(p > 0, stats.beta.ppf(tail, hits, misses + 1), 0 * p)
        high = np.where(p < 1, stats.beta.ppf(1 - tail, hits + 1, misses), 0 * p + 1)
        return low, high

    def half_width(self, level: float = 0.95) -> np.ndarray:
        """The distance to the end of the interval that is further away."""
        low, high = self.interval(level)
        return np.asarray(np.maximum(self.value - low, high - self.value))

    @property
    def complement(self) -> "Share":
        """The share of the other trials."""
        return Share(1 - self.value, self.stderr, self.dof, self.trials)

    def __format__(self, spec: str) -> str:
        """`0.950 (0.924–0.969)`: value and ends of the 95 % interval; see `Estimate.__format__`."""
        low, high = self.interval()
        half = float(np.mean(high - low)) / 2
        if self.value.shape or not 0 < half < math.inf:
            return super().__format__(spec)
        spec = spec or f".{max(0, 1 - math.floor(math.log10(half)))}f"
        return f"{float(self.value):{spec}} ({float(low):{spec}}–{float(high):{spec}})"

    def __repr__(self) -> str:
        return super().__repr__() if self.value.shape else f"Share({self})"

    def __getitem__(self, index) -> "Share":
        return Share(self.value[index], self.stderr[index], self.dof, self.trials[index])


def bounded_mean(values: RealArray, axis: int = 0) -> Estimate:
    """Mean of independent numbers in [0, 1]; what none of n shows may be there once in as many.

    The standard error is 1 / n at least: where all are 0 or all 1 their spread says nothing.
    """
    found = Estimate.from_samples(values, axis)
    return Estimate(found.value, np.maximum(found.stderr, 1 / values.shape[axis]), found.dof)


def with_unseen(
    entropy: Estimate, rate: Estimate, num_draws: float | int, nats: float = math.log(2)
) -> tuple[Estimate, Estimate]:
    """Mean entropies, nats, and rates with what draws that did not come may add in their errors.

    Far from the boundaries of the classes nearly every draw is certain, and the spread of those that came
    says nothing of the rare one that is not. A mean counts for `(mean / stderr)^2` draws. Where these are
    fewer than twenty, two may be missing of `nats` each, by default those on a boundary of two classes; and
    of rates per unit log-SNR `log n` times as much, which is `rate / H` where two classes of one covariance
    leave `H = 1 / n`, or the part that is missing of the entropy.
    """
    missing, mean = _missing(entropy, num_draws, nats), np.asarray(entropy.value)
    part = np.divide(missing, mean, out=np.zeros_like(missing), where=mean > 0)
    slope = np.maximum(part * np.abs(rate.value), missing * np.log(num_draws))
    return (
        entropy_with_unseen(entropy, num_draws, nats),
        Estimate(
            rate.value, np.hypot(rate.stderr, np.where(few_carry(rate), slope, 0.0)), rate.dof
        ),
    )


def entropy_with_unseen(
    entropy: Estimate, num_draws: float | int, nats: float = math.log(2)
) -> Estimate:
    """`with_unseen` of entropies, or cross-entropies, that have no rate."""
    missing = _missing(entropy, num_draws, nats)
    return Estimate(entropy.value, np.hypot(entropy.stderr, missing), entropy.dof)


def _missing(entropy: Estimate, num_draws: float | int, nats: float) -> Float[np.ndarray, "*T"]:
    """What two draws that did not come add to a mean that few carry, nats."""
    return np.where(few_carry(entropy), 2 * nats / num_draws, 0.0)


def few_carry(mean: Estimate, draws: int = _FEW) -> Bool[np.ndarray, "*T"]:
    """Whether fewer than so many draws carry a mean, `(mean / stderr)^2`."""
    return draws * np.asarray(mean.stderr, float) ** 2 > np.asarray(mean.value, float) ** 2


def error_words(value: float, low: float, high: float, spec: str) -> str:
    """`± 0.021` of an interval around its value, the ends `(0.924–0.969)` of another."""
    half = max(value - low, high - value)
    if abs(high + low - 2 * value) > 1e-6 * half + 1e-12 * abs(value):  # but for rounding
        return f"({low:{spec}}–{high:{spec}})"
    return f"± {half:{spec}}"


def _coin(share: Float[np.ndarray, "*batch"], num_trials) -> Float[np.ndarray, "*batch"]:
    """Standard error of a coin with the share (k + 1) / (n + 2), Laplace's rule; NaN without trials."""
    with np.errstate(divide="ignore", invalid="ignore"):
        smooth = (share * num_trials + 1) / (num_trials + 2)
        return np.asarray(np.sqrt(smooth * (1 - smooth) / num_trials))
