"""Claims with 95 % intervals: a claim holds where the whole interval is on its side."""

import numpy as np

from gmm_speciation.estimate import Estimate
from model_bridges.results import Check


def at_most(claim: str, measured: Estimate, bound: float, note: str = "") -> Check:
    """That a number lies below a bound, its interval included."""
    low, high = (float(end) for end in measured.interval())
    return _check(claim, f"≤ {bound:g}", measured, high <= bound, low > bound, note)


def at_least(claim: str, measured: Estimate, bound: float, note: str = "") -> Check:
    """That a number lies above a bound, its interval included."""
    low, high = (float(end) for end in measured.interval())
    return _check(claim, f"≥ {bound:g}", measured, low >= bound, high < bound, note)


def equal(
    claim: str, measured: Estimate, expected: float, slack: float = 0.0, note: str = ""
) -> Check:
    """That a number agrees with what is expected: the interval, widened by `slack`, holds it."""
    low, high = (float(end) for end in measured.interval())
    inside = low - slack <= expected <= high + slack
    text = f"{expected:.4g}" + (f" ± {slack:g}" if slack else "")
    return _check(claim, text, measured, inside, not inside, note)


def bounded(claim: str, measured: Estimate, bound: float, note: str = "") -> Check:
    """That a number is not above a bound: the claim fails where its interval lies above."""
    low, _ = (float(end) for end in measured.interval())
    return _check(claim, f"not above {bound:g}", measured, low <= bound, low > bound, note)


def _check(
    claim: str, expected: str, measured: Estimate, holds: bool, fails: bool, note: str
) -> Check:
    low, high = (float(end) for end in measured.interval())
    open_ = "not resolved" if not holds and not fails else ""
    notes = "; ".join(part for part in (note, open_) if part)
    half = (high - low) / 2 if np.isfinite(high - low) else None
    return Check(claim, expected, float(measured.value), half, holds, notes)
