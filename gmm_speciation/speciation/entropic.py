"""Entropic criteria: where the class entropy itself is lost.

The peaks of `-dH/dlambda`, the half-entropy point `H(C|X) = H(C) / 2`, and the window that holds a
stated share of the information (Handke et al. 2026, arXiv 2602.09651). The peak of `dH/dt` on a
process's clock lies elsewhere at finite dimension: `curve.on(process).peak()`.

Where classes part in several steps the entropy has a *plateau* between them. A point on it is where its
level happens to be passed, and means nothing for a decision: here, where the rate is below a twentieth of
each of the nearest peaks on either side that hold at least 1 % of the information. The two flanks of one
decision, or of two whose peaks run into each other, have larger rates.
"""

import numpy as np
from scipy.interpolate import PchipInterpolator

from gmm_speciation.curves import EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.peaks import Peak
from gmm_speciation.speciation.points import SpeciationPoint

PLATEAU = 0.05  # rate over that of the nearest peaks below which nothing is decided
_MINOR = 0.01  # share of the information below which a peak decides nothing either


def entropic_point(curve: EntropyCurve) -> SpeciationPoint:
    """Log-SNR of the largest rate per unit log-SNR."""
    return entropic_points(curve)[0]


def entropic_points(curve: EntropyCurve) -> tuple[SpeciationPoint, ...]:
    """Log-SNR of every peak of the rate, the largest first; each note says what it decides."""
    if not curve.prior_entropy > 0:
        return (SpeciationPoint(None, "a single class has no entropy to lose"),)
    peaks = sorted(curve.peaks(), key=lambda peak: -float(peak.rate.value))
    if len(peaks) < 2:  # of a curve that does not stand above its noise: the largest value
        return (SpeciationPoint(curve.peak().log_snr),)
    return tuple(SpeciationPoint(peak.log_snr, note=_decides(peak)) for peak in peaks)


def half_entropy_point(curve: EntropyCurve) -> SpeciationPoint:
    """Log-SNR at which half the prior entropy is left; a note where that is on a plateau."""
    if not curve.prior_entropy > 0:
        return SpeciationPoint(None, "a single class has no entropy to lose")
    least = float(np.min(curve.entropy.value))
    if least > curve.prior_entropy / 2:
        return SpeciationPoint(
            None,
            f"{least / curve.prior_entropy:.3g} of the entropy is left at λ = {curve.log_snr[0]:.4g}, "
            "the cleanest level looked at: the entropy never falls to a half",
        )
    most = float(np.max(curve.entropy.value))
    if most < curve.prior_entropy / 2:
        return SpeciationPoint(
            None,
            f"{most / curve.prior_entropy:.3g} of the entropy is left at λ = {curve.log_snr[-1]:.4g}, "
            "the noisiest level looked at: a half was lost at more noise",
        )
    place = curve.crossing(curve.prior_entropy / 2)
    return SpeciationPoint(place, note=plateau(curve, place))


def plateau(curve: EntropyCurve, log_snr: Estimate) -> str | None:
    """Says so where a point lies on a plateau of the curve, at which nothing is decided; else None."""
    place = float(log_snr.value)
    peaks = [peak for peak in curve.peaks() if float(peak.share.value) >= _MINOR]
    noisier = [peak for peak in peaks if float(peak.log_snr.value) < place]
    cleaner = [peak for peak in peaks if float(peak.log_snr.value) >= place]
    nearest = [*noisier[-1:], *cleaner[:1]]
    if not nearest:
        return None
    rate = float(
        PchipInterpolator(curve.log_snr[::-1], np.asarray(curve.rate.value, float)[::-1])(place)
    )
    relative = rate / min(float(peak.rate.value) for peak in nearest)
    if relative >= PLATEAU:
        return None
    around = " and ".join(_number(float(peak.log_snr.value)) for peak in nearest)
    return f"on a plateau: {max(relative, 0.0):.1g} of the rate at the peaks, λ = {around}"


def _decides(peak: Peak) -> str:
    return f"{float(peak.share.value):.0%} of the information"


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")
