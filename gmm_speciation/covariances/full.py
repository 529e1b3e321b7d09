"""Full covariances, kept as `Sigma_k = U_k diag(lambda_k) U_k^T`: one factorisation for all noise."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gmm_speciation.covariances.base import (
    Batch,
    ContrastForm,
    Covariance,
    Offsets,
    SpectralFunction,
    Weights,
    add_row,
    as_row,
    product,
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

    def complete_basis(self) -> Float[Array, "_ d d"]:
        return self.basis

    def largest_eigenvalue(self) -> Float[Array, ""]:
        return jnp.max(self.spectrum)

    def _apply_one(self, index, r: Array) -> Array:
        """`A_index r` for rows r."""
        basis = self.basis[index]
        return product(product(r, basis) * as_row(self.spectrum[index], r), basis.T)

    def contrast_form(self, offsets: Offsets) -> ContrastForm | None:
        if not self.shared:
            return None
        return ContrastForm.of_shared(offsets, lambda nu: self._apply_one(0, nu))

    def contrasts(self, y: Batch, offsets: Offsets) -> Weights:
        if (form := self.contrast_form(offsets)) is not None:
            return form(y)

        def half_square(spectrum, basis, offset):
            # Project first, subtract in the eigenbasis: one product of the data a component.
            z = add_row(product(y, basis), -product(offset, basis))
            return -product(z * z, spectrum) / 2

        values = jax.lax.map(lambda args: half_square(*args), (self.spectrum, self.basis, offsets))
        return jnp.moveaxis(values - values[:1], 0, -1)

    def quadratic(self, y: Batch, offset: Float[Array, " d"], index: int) -> Float[Array, "*batch"]:
        z = product(add_row(y, -offset), self.basis[index])
        return product(z * z, self.spectrum[index])

    def weighted_apply(
        self, y: Batch, offsets: Offsets, weights: Weights, *, sum_to_one: bool = False
    ) -> Batch:
        if self.shared:
            whole = y if sum_to_one else weights.sum(-1, keepdims=True) * y
            return self._apply_one(0, whole - product(weights, offsets))

        def add(total, args):
            index, offset, weight = args
            return total + self._apply_one(index, weight[..., None] * add_row(y, -offset)), None

        steps = (jnp.arange(self.num_matrices), offsets, jnp.moveaxis(weights, -1, 0))
        return jax.lax.scan(add, jnp.zeros_like(y), steps)[0]

    def gram(self, offsets: Offsets) -> Float[Array, "K K"]:
        return product(self._apply_one(0, offsets), offsets.T)

    def matrices(self, dim: int) -> Float[Array, "_ d d"]:
        return product(self.basis * self.spectrum[:, None, :], self.basis.mT)
