"""Diagonal covariances, `Sigma_k = diag(v_k)`."""

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


class Diagonal(Covariance):
    """`Sigma_k = diag(v_k)`; `variances` has shape `(K, d)` or `(1, d)`."""

    variances: Float[Array, "_ d"]

    @property
    def num_matrices(self) -> int:
        return self.variances.shape[0]

    def map(self, function: SpectralFunction) -> "Diagonal":
        return Diagonal(function(self.variances))

    def eigenvalues(self, dim: int) -> Float[Array, "_ d"]:
        return self.variances

    def largest_eigenvalue(self) -> Float[Array, ""]:
        return jnp.max(self.variances)

    def contrast_form(self, offsets: Offsets) -> ContrastForm:
        if self.shared:
            return ContrastForm.of_shared(offsets, lambda nu: self.variances * nu)
        return ContrastForm.of_each(offsets, self.variances)

    def contrasts(self, y: Batch, offsets: Offsets) -> Weights:
        return self.contrast_form(offsets)(y)

    def quadratic(self, y: Batch, offset: Float[Array, " d"], index: int) -> Float[Array, "*batch"]:
        return product(add_row(y, -offset) ** 2, self.variances[index])

    def weighted_apply(
        self, y: Batch, offsets: Offsets, weights: Weights, *, sum_to_one: bool = False
    ) -> Batch:
        if self.shared:
            whole = y if sum_to_one else weights.sum(-1, keepdims=True) * y
            return as_row(self.variances[0], y) * (whole - product(weights, offsets))
        a = self.variances
        return product(weights, a) * y - product(weights, a * offsets)

    def gram(self, offsets: Offsets) -> Float[Array, "K K"]:
        return product(self.variances * offsets, offsets.T)

    def matrices(self, dim: int) -> Float[Array, "_ d d"]:
        return self.variances[:, :, None] * jnp.eye(dim, dtype=self.variances.dtype)[None]
