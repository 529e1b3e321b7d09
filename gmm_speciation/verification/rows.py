"""How the claims of the theory become rows: what a row tolerates, and errors of two sides."""

import numpy as np

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
    **options,
) -> Claim:
    """A claim with half a percent of tolerance unless it has its own; plain numbers are exact."""
    predicted = float(predicted)
    if not isinstance(measured, Estimate):
        measured = Estimate.exact(float(measured))
    return Claim(
        statement,
        predicted,
        measured,
        _TOLERANCE * abs(predicted) if tolerance is None else tolerance,
        source=source,
        how=how,
        **options,
    )


def with_error(found: Estimate, other: Estimate) -> Estimate:
    """`found` with the errors of both sides, where the prediction is sampled as well."""
    return Estimate(found.value, np.hypot(found.stderr, other.stderr), min(found.dof, other.dof))
