"""How the claims of the theory become rows: what a row tolerates, errors of two sides, the clock kappa."""

import numpy as np
from jaxtyping import Float

from gmm_speciation.estimate import Estimate
from gmm_speciation.reporting.claims import Claim

_TOLERANCE = 0.005  # of the prediction: of two predictions one percent apart at most one is "yes"


def row(
    statement: str,
    source: str,
    how: str,
    predicted: float,
    measured: Estimate | float,
    tolerance: float | None = None,
    relation: str = "equal",
    **options,
) -> Claim:
    """A claim with half a percent of tolerance, a bound with none, unless it has its own; plain numbers
    are exact."""
    predicted = float(predicted)
    if tolerance is None:
        tolerance = _TOLERANCE * abs(predicted) if relation == "equal" else 0.0
    if not isinstance(measured, Estimate):
        measured = Estimate.exact(float(measured))
    return Claim(
        statement,
        predicted,
        measured,
        tolerance,
        relation,
        source=source,
        how=how,
        **options,
    )


def kappa_of(log_snr: Float[np.ndarray, "*T"] | float, dim: int) -> Float[np.ndarray, "*T"]:
    """Of two unit-variance classes with |m|^2 = dim: `alpha^2 dim` on a variance-preserving process."""
    return np.asarray(dim / (1 + np.exp(-np.asarray(log_snr))))


def level_of(kappa: Float[np.ndarray, "*T"] | float, dim: int) -> Float[np.ndarray, "*T"]:
    """The log-SNR at which they have this kappa."""
    return np.asarray(np.log(kappa / dim) - np.log1p(-kappa / dim))


def with_error(found: Estimate, other: Estimate) -> Estimate:
    """`found` with the errors of both sides, where the prediction is sampled as well."""
    return Estimate(found.value, np.hypot(found.stderr, other.stderr), min(found.dof, other.dof))
