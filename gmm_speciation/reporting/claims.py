"""A claim, the number measured for it, and one rule of verdict.

A claim allows a range of values: `predicted ± tolerance`, or everything on one side of a bound. With the
95 % interval of the measurement it is

    yes     where the whole interval lies inside the range,
    no      where it lies wholly outside,
    open    otherwise: the measurement does not decide.

So a claim can only be confirmed by a measurement sharper than its tolerance, and what it tells apart
follows from the tolerance alone: of two predictions further apart than twice the tolerance at most one can
be "yes", whatever is measured. `measured` never depends on `predicted`: another prediction is judged by
the same measurement (`Claim.given`).
"""

import dataclasses
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np

from gmm_speciation.estimate import Estimate
from gmm_speciation.reporting.records import to_json
from gmm_speciation.reporting.tables import Table
from gmm_speciation.shares import error_words

_SIGNS = {"equal": "", "at most": "≤ ", "at least": "≥ "}  # by relation
HOW_CLAIMS_ARE_JUDGED = (
    "± is the half-width of the 95 % interval, brackets are its ends. *yes*: the whole interval lies inside "
    "what is expected; *no*: wholly outside; *open*: it does not decide."
)


class Verdict(StrEnum):
    """What a measurement says about a claim."""

    YES = "yes"
    NO = "no"
    OPEN = "open"


def verdict(interval: tuple[float, float], allowed: tuple[float, float]) -> Verdict:
    """`interval` (low, high) of the measurement against the range that the claim allows; NaN is open."""
    low, high = interval
    least, most = allowed
    if least <= low and high <= most:
        return Verdict.YES
    return Verdict.NO if high < least or low > most else Verdict.OPEN


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement about one number, in the number's own unit.

    Attributes:
        statement: What is claimed.
        predicted: The number that is claimed, or the bound.
        measured: One estimate, made without `predicted`.
        tolerance: How far the true value may lie from the prediction; beyond a bound, 0 by default.
        relation: "equal", or "at most", "at least" the prediction.
        source: Paper, or the name of the identity.
        how: How it was measured.
        note: What else the row should say.
        expected: The verdict that is expected; "no" for a published claim known to fail.
    """

    statement: str
    predicted: float
    measured: Estimate
    tolerance: float = 0.0
    relation: str = "equal"
    source: str = ""
    how: str = ""
    note: str = ""
    expected: Verdict = Verdict.YES

    def __post_init__(self):
        if self.relation not in _SIGNS:
            raise ValueError(
                f"`relation` must be equal, at most or at least; got {self.relation!r}."
            )
        if not self.tolerance >= 0:
            raise ValueError(f"`tolerance` must not be negative; got {self.tolerance}.")
        if np.shape(self.measured.value):
            raise ValueError(
                f"A claim is about one number; got shape {np.shape(self.measured.value)}."
            )

    @property
    def allowed(self) -> tuple[float, float]:
        """Least and largest value that the claim allows."""
        least, most = self.predicted - self.tolerance, self.predicted + self.tolerance
        return (
            -np.inf if self.relation == "at most" else least,
            np.inf if self.relation == "at least" else most,
        )

    @property
    def verdict(self) -> Verdict:
        """The rule of this module, at 95 %."""
        low, high = (float(end) for end in self.measured.interval())
        return verdict((low, high), self.allowed)

    @property
    def as_expected(self) -> bool:
        return self.verdict == self.expected

    @property
    def tells_apart(self) -> float | None:
        """Smallest relative error of the prediction that is sure not to be called "yes".

        `2 tolerance / |predicted|`; None for a bound and for a prediction of 0, which have no such number.
        """
        if self.relation != "equal" or self.predicted == 0:
            return None
        return 2 * self.tolerance / abs(self.predicted)

    def given(self, predicted: float) -> "Claim":
        """The same measurement and tolerance against another prediction."""
        return dataclasses.replace(self, predicted=predicted)


def at_most(statement: str, measured: Estimate, bound: float, note: str = "") -> Claim:
    """That a number does not exceed a bound."""
    return Claim(statement, bound, measured, relation="at most", note=note)


def at_least(statement: str, measured: Estimate, bound: float, note: str = "") -> Claim:
    """That a number is not below a bound."""
    return Claim(statement, bound, measured, relation="at least", note=note)


def equal(statement: str, measured: Estimate, expected: float, tolerance: float) -> Claim:
    """That a number is what is expected within a tolerance."""
    return Claim(statement, expected, measured, tolerance)


def predicted_words(claim: Claim) -> str:
    """The number that is claimed, with ≥ or ≤ where it is a bound."""
    return f"{_SIGNS[claim.relation]}{claim.predicted:.6g}"


def claim_record(claim: Claim) -> dict[str, Any]:
    """What a `result.json` holds of a claim of the theory or of a paper."""
    return {
        "claim": claim.statement,
        "source": claim.source,
        "measured_by": claim.how,
        "predicted": claim.predicted,
        "measured": claim.measured,
        "tolerance": claim.tolerance,
        "tells_apart": claim.tells_apart,
        "verdict": claim.verdict,
        "relation": claim.relation,
        "expected": claim.expected,
    }


def _expected(claim: Claim) -> str:
    if claim.relation == "equal":
        return f"{claim.predicted:.4g} ± {claim.tolerance:g}"
    return predicted_words(claim)


def check_rows(claims: Sequence[Claim]) -> Table:
    """Headers and rows: claim, expected, measured, 95 % half-width or ends, verdict."""
    headers = ["claim", "expected", "measured", "± 95 %", "holds"]
    rows = []
    for claim in claims:
        half = float(claim.measured.half_width())
        # One more decimal where the error would be 0.000.
        digits = 4 if half < 5e-4 else 3
        value, (low, high) = float(claim.measured.value), map(float, claim.measured.interval())
        error = error_words(value, low, high, f".{digits}f").removeprefix("± ")
        rows.append(
            [
                claim.statement + (f" ({claim.note})" if claim.note else ""),
                _expected(claim),
                f"{value:.{digits}f}",
                error if np.isfinite(half) else "",
                str(claim.verdict),
            ]
        )
    return Table(headers, rows)


def check_records(claims: Sequence[Claim]) -> list[dict[str, Any]]:
    """What a `result.json` holds of them."""
    return [
        {
            "claim": claim.statement,
            "expected": _expected(claim),
            "measured": float(claim.measured.value),
            "half_width": half if np.isfinite(half := float(claim.measured.half_width())) else None,
            "interval_95": to_json(claim.measured.interval()),
            "holds": claim.verdict == Verdict.YES,
            "verdict": str(claim.verdict),
            "note": claim.note,
        }
        for claim in claims
    ]
