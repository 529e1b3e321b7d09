"""Claims of the studies of guidance; what decides them is the rule of `gmm_speciation.reporting.claims`."""

from gmm_speciation.estimate import Estimate
from gmm_speciation.reporting.claims import Claim


def at_most(claim: str, measured: Estimate, bound: float, note: str = "") -> Claim:
    """That a number does not exceed a bound."""
    return Claim(claim, bound, measured, relation="at most", note=note)


def at_least(claim: str, measured: Estimate, bound: float, note: str = "") -> Claim:
    """That a number is not below a bound."""
    return Claim(claim, bound, measured, relation="at least", note=note)


def equal(
    claim: str, measured: Estimate, expected: float, tolerance: float, note: str = ""
) -> Claim:
    """That a number is what is expected within a tolerance."""
    return Claim(claim, expected, measured, tolerance, note=note)
