"""Verdicts: what a calibrated model must satisfy, with what was measured.

    budget       the integral of dH over the grid is the entropy lost over it, Bayes form
    calibration  the entropy of the tracked posterior is the cross-entropy of the true class
    accuracy     without noise the posterior names the class
    peaks        every form of the rate is largest at one noise level

A claim that does not hold stays in the list, with its number and its error bar.
"""

import numpy as np

from gmm_speciation.estimate import Estimate
from model_bridges.results import Check, VariableCheck


def verdicts(check: VariableCheck) -> list[Check]:
    """Every claim about one variable, with its measured value, 95 % half-width and verdict."""
    difference = float(check.budget.difference.value)

    def half_width(estimate: Estimate, index: int | None = None) -> float:
        low, high = (estimate if index is None else estimate[index]).interval()
        return float(high - low) / 2

    results = []
    bayes = check.budget.integrals["bayes"]
    closure = float(bayes.value) / difference
    results.append(
        Check(
            "information budget, Bayes form: integral of dH over H lost",
            "1 ± 0.05",
            closure,
            half_width(bayes) / difference,
            abs(closure - 1) <= 0.05,
        )
    )
    gaps = np.abs(np.asarray(check.calibration.value))
    worst = int(np.argmax(gaps))
    results.append(
        Check(
            "tracked H against true-label cross-entropy: largest |CE - H| over all levels [nats]",
            "≤ 0.06",
            float(gaps[worst]),
            half_width(check.calibration, worst),
            bool(gaps[worst] <= 0.06),
            f"at σ = {np.exp(-check.tracked.log_snr[worst] / 2):.3g}",
        )
    )
    named = float(check.accuracy.value[0])
    results.append(
        Check(
            "labels named by the tracked posterior at the cleanest level",
            "≥ 0.98",
            named,
            half_width(check.accuracy, 0),
            named >= 0.98,
        )
    )
    reference = check.bayes.peak().log_snr
    for name, curve in check.forms().items():
        if curve is check.bayes:
            continue
        peak = curve.peak().log_snr
        shift = -(float(peak.value) - float(reference.value)) / 2
        results.append(
            Check(
                f"peak of the rate, {name}, minus that of the Bayes gap [log σ]",
                "within ± 0.3",
                shift,
                float(np.hypot(half_width(peak), half_width(reference))) / 2,
                abs(shift) <= 0.3,
                check.reference.at_small_noise
                if curve is check.unconditional and abs(shift) > 0.3
                else "",
            )
        )
    if "unconditional" in check.budget.integrals:
        excess = float(check.budget.integrals["unconditional"].value) / difference
        results.append(
            Check(
                f"information budget, {check.reference.form}: integral over H lost",
                "1 only if both were exact",
                excess,
                half_width(check.budget.integrals["unconditional"]) / difference,
                abs(excess - 1) <= 0.05,
                f"the excess is E|D̄ − D_u|², {check.reference.excess}, shown level by level",
            )
        )
    return results
