"""Claims: what a calibrated model must satisfy, with what was measured.

    budget       the integral of dH over the grid is the entropy lost over it, Bayes form
    calibration  the entropy of the tracked posterior is the cross-entropy of the true class
    naming       at the cleanest level it names as many labels as its probabilities promise, E max p
    peaks        every form of the rate is largest at one noise level

A claim that does not hold stays in the list, with its number and its error bar.
"""

from dataclasses import replace

import numpy as np

from gmm_speciation.curves import EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.reporting.claims import Claim, Verdict
from model_bridges.crosscheck.results import VariableCheck
from model_bridges.entropy.trust import NAMING


def _closure(check: VariableCheck, curve: EntropyCurve, form: str) -> Estimate:
    """Integral of a gap over the entropy lost, paired: both sides of the same images move together.

    What half of the levels would displace either side by is in its interval, as two standard errors.
    """
    tracked = check.tracked
    total = tracked.prior_entropy

    def ratio(gap: np.ndarray, own: np.ndarray) -> np.ndarray:
        return np.asarray((total - gap.mean()) / (total - own.mean()))

    gap, own = (_batches(one) for one in (curve, tracked))
    without = [ratio(np.delete(gap, r), np.delete(own, r)) for r in range(len(gap))]
    lost = total - tracked.entropy.value[0]
    closure = Estimate.jackknife((total - curve.entropy.value[0]) / lost, np.asarray(without))
    step = check.evidence.integral_steps[form] + np.ravel(check.evidence.step)[0]
    return replace(closure, stderr=np.hypot(closure.stderr, step / lost / 2))


def _batches(curve: EntropyCurve) -> np.ndarray:
    """Entropies at the clean end, by the same batches of images for every curve of a tracked posterior."""
    assert curve.batches is not None
    return np.asarray(curve.batches.entropy)[:, 0]


def verdicts(check: VariableCheck) -> list[Claim]:
    """Every claim about one variable, with what was measured."""
    assert check.evidence.naming is not None  # a cross-check has labels
    claims = [
        Claim(
            "information budget, Bayes form: integral of dH over H lost",
            1.0,
            _closure(check, check.bayes, "bayes"),
            0.05,
        ),
        Claim(
            "tracked H against true-label cross-entropy: CE − H, mean over the 80 % window [nats]",
            0.0,
            check.window_calibration,
            0.06,
        ),
        Claim(
            "labels named by the tracked posterior at the cleanest level, minus the share it promises",
            0.0,
            check.evidence.naming[0],
            NAMING,
        ),
    ]
    reference = check.bayes.peak().log_snr
    for name, curve in check.forms().items():
        if curve is check.bayes:
            continue
        shift = (reference - curve.peak().log_snr).map(lambda log_snr: log_snr / 2)
        claim = Claim(
            f"peak of the rate, {name}, minus that of the Bayes gap [log σ]", 0.0, shift, 0.3
        )
        if curve is check.unconditional and claim.verdict == Verdict.NO:
            claim = replace(claim, note=check.reference.at_small_noise)
        claims.append(claim)
    if check.unconditional is not None:
        claims.append(
            Claim(
                f"information budget, {check.reference.form}: integral over H lost",
                1.0,
                _closure(check, check.unconditional, "unconditional"),
                0.05,
                note="1 only if both were exact; the excess is "
                f"E|D̄ − D_u|², {check.reference.excess}, shown level by level",
            )
        )
    return claims
