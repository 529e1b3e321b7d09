"""Entropic criteria: where the class entropy itself is lost.

The peak of `-dH/dlambda`, the half-entropy point `H(C|X) = H(C) / 2`, and the window that holds a
stated share of the information (Handke et al. 2026, arXiv 2602.09651). The peak of `dH/dt` on a
process's clock lies elsewhere at finite dimension: `curve.on(process).peak()`.
"""

from gmm_speciation.curves import EntropyCurve
from gmm_speciation.speciation.points import SpeciationPoint


def entropic_point(curve: EntropyCurve) -> SpeciationPoint:
    """Log-SNR of the largest rate per unit log-SNR."""
    if not curve.prior_entropy > 0:
        return SpeciationPoint(None, "a single class has no entropy to lose")
    return SpeciationPoint(curve.peak().log_snr)


def half_entropy_point(curve: EntropyCurve) -> SpeciationPoint:
    """Log-SNR at which half the prior entropy is left."""
    if not curve.prior_entropy > 0:
        return SpeciationPoint(None, "a single class has no entropy to lose")
    if curve.entropy.value[0] > curve.prior_entropy / 2:
        return SpeciationPoint(None, "the classes overlap: the entropy never falls to a half")
    return SpeciationPoint(curve.crossing(curve.prior_entropy / 2))
