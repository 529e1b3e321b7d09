"""The cross-entropy along guided trajectories, as data."""

import equinox as eqx
import numpy as np
from jaxtyping import Float
from scipy.interpolate import CubicHermiteSpline, CubicSpline
from scipy.optimize import brentq

from gmm_speciation.estimate import Estimate, Readable
from gmm_speciation.shares import bounded_mean, with_unseen


class GuidedCurve(Readable):
    """What is known of the guided class along guided trajectories, in nats, from noise to signal.

    `cross_entropy` is `E_w[-log p(c|x)]` with the posterior of the true law and the average over guided
    trajectories. It is the conditional entropy of the class only at scale 1, where the two laws are one.
    """

    clock: Float[np.ndarray, " T"] = eqx.field(converter=np.asarray)  # strictly increasing
    cross_entropy: Estimate
    rate: Estimate  # -d cross_entropy / d clock
    probability: Estimate  # E_w p(c|x)
    prior: float = eqx.field(converter=float)  # cross-entropy before any step, -log p(c)
    clock_name: str = eqx.field(static=True)  # "kappa", "s" or "log_snr"
    method: str = eqx.field(static=True)

    @classmethod
    def of_trajectories(
        cls,
        log_snr: Float[np.ndarray, " T"],
        losses: Float[np.ndarray, "T N"],
        rates: Float[np.ndarray, "T N"],
        prior: float,
        method: str,
    ) -> "GuidedCurve":
        """From `-log p(c|x)` and the integrand of its rate of N trajectories, on log-SNR.

        One that ends in another class costs what its posterior has against it, about `log n` nats where it
        is one of n: what none of n shows is in the errors (`with_unseen`).
        """
        number = losses.shape[1]
        estimates = with_unseen(
            Estimate.from_samples(losses, 1),
            Estimate.from_samples(rates, 1),
            number,
            float(np.log(number)),
        )
        probability = bounded_mean(np.exp(-losses), 1)
        return cls(log_snr, *estimates, probability, prior, "log_snr", method)

    def __check_init__(self):
        shapes = {e.value.shape for e in (self.cross_entropy, self.rate, self.probability)}
        if shapes != {self.clock.shape} or not np.all(np.diff(self.clock) > 0):
            raise ValueError(
                "A guided curve needs a strictly increasing clock and one value of each quantity a "
                f"point of it; got {self.clock.shape} and {shapes}."
            )

    def crossing(self, cross_entropy: float) -> Estimate:
        """Where on the clock the cross-entropy has fallen to this value, with its first-order error.

        Raises:
            ValueError: If the curve does not pass it.
        """
        values = np.asarray(self.cross_entropy.value)
        below = np.flatnonzero(values <= cross_entropy)
        if not len(below) or below[0] == 0:
            raise ValueError(
                f"The curve runs from {values[0]:.4g} to {values[-1]:.4g} nats and does not pass "
                f"{cross_entropy:.4g}; widen the clock."
            )
        two = slice(below[0] - 1, below[0] + 1)
        ends, slopes = self.clock[two], -np.asarray(self.rate.value)[two]
        between = CubicHermiteSpline(ends, values[two] - cross_entropy, slopes)
        place = brentq(between, *ends)
        slope = abs(float(between(place, 1)))
        error = np.interp(place, self.clock, np.asarray(self.cross_entropy.stderr)) / slope
        return Estimate(np.asarray(place), np.asarray(error), self.cross_entropy.dof)

    def peak(self) -> float:
        """Where on the clock the rate per unit of its logarithm is largest (of log-SNR: of itself)."""
        logarithmic = self.clock_name != "log_snr"
        x = np.log(self.clock) if logarithmic else self.clock
        heights = np.asarray(self.rate.value) * (self.clock if logarithmic else 1.0)
        spline = CubicSpline(x, heights)
        places = np.append(spline.derivative().roots(extrapolate=False), x)
        best = float(places[int(np.argmax(spline(places)))])
        return float(np.exp(best)) if logarithmic else best
