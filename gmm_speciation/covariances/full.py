"""Full covariances, kept as `Sigma_k = U_k diag(lambda_k) U_k^T`: one factorisation for all noise."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gmm_speciation.checks import known
from gmm_speciation.covariances.base import SpectralFunction, Turned
from gmm_speciation.covariances.products import Batch, Offsets, as_row, product


class Full(Turned):
    """`Sigma_k = U_k diag(lambda_k) U_k^T`; `spectrum` `(K, d)` or `(1, d)`, columns of `basis` are U."""

    spectrum: Float[Array, "_ d"]
    basis: Float[Array, "_ d d"]

    @classmethod
    def from_matrices(cls, matrices: Float[Array, "_ d d"]) -> "Full":
        """Factorise symmetric matrices, once for every noise level to come."""
        seen = known(matrices)
        numpy: Any = np if isinstance(seen, np.ndarray) else jnp
        return cls(*(jnp.asarray(part, matrices.dtype) for part in numpy.linalg.eigh(seen)))

    @property
    def num_matrices(self) -> int:
        return self.spectrum.shape[0]

    def map(self, function: SpectralFunction) -> "Full":
        return Full(function(self.spectrum), self.basis)

    def eigenvalues(self, dim: int) -> Float[Array, "_ d"]:
        return self.spectrum

    def complete_basis(self) -> Float[Array, "_ d d"]:
        return self.basis

    def largest_eigenvalue(self) -> Float[Array, ""]:
        return jnp.asarray(known(self.spectrum).max(), self.spectrum.dtype)

    def apply_one(self, index, r: Array) -> Array:
        basis = self.basis[index]
        return product(product(r, basis) * as_row(self.spectrum[index], r), basis.T)

    def quadratic(self, r: Batch, index: Int[Array, "*_"] | None = None) -> Float[Array, "*batch"]:
        one = 0 if self.shared else index
        z = product(r, self.basis[one])
        return product(z * z, self.spectrum[one])

    def gram(self, offsets: Offsets) -> Float[Array, "K K"]:
        return product(self.apply_one(0, offsets), offsets.T)

    def matrices(self, dim: int) -> Float[Array, "_ d d"]:
        return product(self.basis * self.spectrum[:, None, :], self.basis.mT)
