"""Diagonal covariances, `Sigma_k = diag(v_k)`."""

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

    def contrasts(self, y: Batch, offsets: Offsets) -> Weights:
        p = self.variances  # precisions here
        scaled = p * offsets
        if self.shared:
            norms = squared_norm_contrasts(offsets, lambda nu: p * nu)[1:]
            return with_reference(add_row(product(y, (scaled[1:] - scaled[:1]).T), -norms / 2))
        constant = jnp.sum(scaled * offsets, -1)
        linear = product(y, (scaled[1:] - scaled[:1]).T)
        squared = product(y * y, (p[1:] - p[:1]).T)
        return with_reference(add_row(linear - squared / 2, -(constant[1:] - constant[:1]) / 2))

    def quadratic(self, y: Batch, offset: Float[Array, " d"], index: int) -> Float[Array, "*batch"]:
        return product(add_row(y, -offset) ** 2, self.variances[index])

    def weighted_apply(self, y: Batch, offsets: Offsets, weights: Weights) -> Batch:
        a = jnp.broadcast_to(self.variances, offsets.shape)
        return product(weights, a) * y - product(weights, a * offsets)

    def gram(self, offsets: Offsets) -> Float[Array, "K K"]:
        return product(self.variances * offsets, offsets.T)

    def matrices(self, dim: int) -> Float[Array, "_ d d"]:
        return self.variances[:, :, None] * jnp.eye(dim, dtype=self.variances.dtype)[None]
