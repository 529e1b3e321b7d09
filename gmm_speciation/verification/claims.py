"""A claim of the theory, with the number predicted and the same number measured on another path."""

import equinox as eqx
import numpy as np
from scipy import stats

from gmm_speciation.estimate import Estimate

CONFIDENCE = 0.9999  # of one claim: about forty of them fail once in 250 runs by chance alone


class Claim(eqx.Module):
    """`predicted` from a formula, `measured` by sampling, differences or another formula."""

    statement: str = eqx.field(static=True)
    source: str = eqx.field(static=True)  # paper, or the identity's name
    how: str = eqx.field(static=True)  # how it was measured
    predicted: float = eqx.field(converter=float)
    measured: Estimate
    slack: float = 0.0  # error of the measured side that is not random: steps, differences
    relation: str = eqx.field(
        static=True, default="equal"
    )  # or "at least", "at most" the prediction
    expected: bool = eqx.field(static=True, default=True)  # False: published, known to fail here

    def __check_init__(self):
        if self.relation not in ("equal", "at least", "at most"):
            raise ValueError(
                f"`relation` must be equal, at least or at most; got {self.relation!r}."
            )

    @property
    def error_bar(self) -> float:
        """Half the interval of the measurement at the stated confidence, plus its slack."""
        quantile = stats.t.ppf(0.5 + CONFIDENCE / 2, self.measured.dof)
        random = float(self.measured.stderr)
        return (float(quantile) * random if random > 0 else 0.0) + self.slack

    @property
    def holds(self) -> bool:
        """Whether the prediction lies inside the error bar; of bounds, the whole bar inside the bound."""
        excess = float(self.measured.value) - self.predicted
        if self.relation == "at least":
            return bool(excess - self.error_bar >= 0)
        if self.relation == "at most":
            return bool(excess + self.error_bar <= 0)
        return bool(abs(excess) <= self.error_bar)


def measured(value, slack: float) -> tuple[Estimate, float]:
    """A deterministic measurement and its own numerical error."""
    return Estimate.exact(np.asarray(float(value))), slack


def averaged(samples) -> Estimate:
    """The mean of independent samples, with its standard error."""
    return Estimate.from_samples(np.asarray(samples, float))
