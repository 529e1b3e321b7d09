"""Full covariances, kept as `Sigma_k = U_k diag(lambda_k) U_k^T`: one factorisation for all noise."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gmm_speciation.covariances.base import (
    Batch,
    Covariance,
    Offsets,
    SpectralFunction,
    Weights,
    add_row,
    product,
    squared_norm_contrasts,
    with_reference,
)


class Full(Covariance):
    """`Sigma_k = U_k diag(lambda_k) U_k^T`; `spectrum` `(K, d)` or `(1, d)`, columns of `basis` are U."""

    spectrum: Float[Array, "_ d"]
    basis: Float[Array, "_ d d"]

    @classmethod
    def from_matrices(cls, matrices: Float[Array, "_ d d"]) -> "Full":
        """Factorise symmetric matrices, once for every noise level to come."""
        return cls(*jnp.linalg.eigh(matrices))

    @property
    def num_matrices(self) -> int:
        return self.spectrum.shape[0]

    def map(self, function: SpectralFunction) -> "Full":
        return Full(function(self.spectrum), self.basis)

    def eigenvalues(self, dim: int) -> Float[Array, "_ d"]:
        return self.spectrum

    def largest_eigenvalue(self) -> Float[Array, ""]:
        return jnp.max(self.spectrum)

    def _apply_one(self, index, r: Array) -> Array:
        """`A_index r` for rows r."""
        basis = self.basis[index]
        return product(
            product(r, basis) * self.spectrum[index].reshape((1,) * (r.ndim - 1) + (-1,)), basis.T
        )

    def contrasts(self, y: Batch, offsets: Offsets) -> Weights:
        if self.shared:
            directions = self._apply_one(0, offsets[1:] - offsets[:1])
            norms = squared_norm_contrasts(offsets, lambda nu: self._apply_one(0, nu))[1:]
            return with_reference(add_row(product(y, directions.T), -norms / 2))

        def half_square(spectrum, basis, offset):
            # Project first, subtract in the eigenbasis: one product of the data a component.
            z = add_row(product(y, basis), -product(offset, basis))
            return -jnp.einsum("...d,d->...", z * z, spectrum) / 2

        values = jax.lax.map(lambda args: half_square(*args), (self.spectrum, self.basis, offsets))
        return jnp.moveaxis(values - values[:1], 0, -1)

    def quadratic(self, y: Batch, offset: Float[Array, " d"], index: int) -> Float[Array, "*batch"]:
        z = product(add_row(y, -offset), self.basis[index])
        return product(z * z, self.spectrum[index])

    def weighted_apply(self, y: Batch, offsets: Offsets, weights: Weights) -> Batch:
        if self.shared:
            total = weights.sum(-1, keepdims=True)
            return self._apply_one(0, total * y - product(weights, offsets))

        def add(total, args):
            index, offset, weight = args
            return total + self._apply_one(index, weight[..., None] * add_row(y, -offset)), None

        steps = (jnp.arange(self.num_matrices), offsets, jnp.moveaxis(weights, -1, 0))
        return jax.lax.scan(add, jnp.zeros_like(y), steps)[0]

    def gram(self, offsets: Offsets) -> Float[Array, "K K"]:
        return product(self._apply_one(0, offsets), offsets.T)

    def matrices(self, dim: int) -> Float[Array, "_ d d"]:
        return jnp.einsum("kie,ke,kje->kij", self.basis, self.spectrum, self.basis)
