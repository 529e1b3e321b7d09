"""Covariances of Gaussian components, one kind a file; the interface is in `base`."""

from gmm_speciation.covariances.base import Covariance
from gmm_speciation.covariances.contrasts import ContrastForm
from gmm_speciation.covariances.diagonal import Diagonal
from gmm_speciation.covariances.full import Full
from gmm_speciation.covariances.isotropic import Isotropic
from gmm_speciation.covariances.low_rank import LowRank
from gmm_speciation.covariances.products import add_row, as_row, product, safe_sqrt

__all__ = [
    "ContrastForm",
    "Covariance",
    "Diagonal",
    "Full",
    "Isotropic",
    "LowRank",
    "add_row",
    "as_row",
    "product",
    "safe_sqrt",
]
