"""Deterministic integrals: two classes, K equidistant classes, and any reduction of few dimensions."""

from gmm_speciation.exact.binary import (
    binary_entropy,
    binary_mmse,
    clone_agreement,
    log_binary_entropy,
    log_binary_mmse,
)
from gmm_speciation.exact.equidistant import (
    equidistant_agreement,
    equidistant_entropy,
    equidistant_mmse,
)
from gmm_speciation.exact.quadrature import MAX_DIMENSIONS, quadrature_levels

__all__ = [
    "MAX_DIMENSIONS",
    "binary_entropy",
    "binary_mmse",
    "clone_agreement",
    "equidistant_agreement",
    "equidistant_entropy",
    "equidistant_mmse",
    "log_binary_entropy",
    "log_binary_mmse",
    "quadrature_levels",
]
