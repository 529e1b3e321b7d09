"""Covariances of Gaussian components: `isotropic`, `diagonal`, `full`; the interface is in `base`."""

from gmm_speciation.covariances.base import ContrastForm, Covariance, add_row, product, safe_sqrt
from gmm_speciation.covariances.diagonal import Diagonal
from gmm_speciation.covariances.full import Full
from gmm_speciation.covariances.isotropic import Isotropic

__all__ = [
    "ContrastForm",
    "Covariance",
    "Diagonal",
    "Full",
    "Isotropic",
    "add_row",
    "product",
    "safe_sqrt",
]
