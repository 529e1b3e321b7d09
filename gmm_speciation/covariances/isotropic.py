"""Isotropic covariances, `Sigma_k = v_k I`."""

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


class Isotropic(Covariance):
    """`Sigma_k = v_k I`; `variance` has shape `(K,)` or `(1,)`."""

    variance: Float[Array, " _"]

    @property
    def num_matrices(self) -> int:
        return self.variance.shape[0]

    def map(self, function: SpectralFunction) -> "Isotropic":
        return Isotropic(function(self.variance))

    def eigenvalues(self, dim: int) -> Float[Array, "_ d"]:
        return jnp.broadcast_to(self.variance[:, None], (self.num_matrices, dim))

    def log_determinant(self, dim: int) -> Float[Array, " _"]:
        return dim * jnp.log(self.variance)

    def largest_eigenvalue(self) -> Float[Array, ""]:
        return jnp.max(self.variance)

    def contrasts(self, y: Batch, offsets: Offsets) -> Weights:
        p = self.variance  # a precision here
        if self.shared:
            norms = squared_norm_contrasts(offsets, lambda nu: p[0] * nu)[1:]
            linear = p[0] * product(y, (offsets[1:] - offsets[:1]).T)
            return with_reference(add_row(linear, -norms / 2))
        scaled = p[:, None] * offsets
        constant = jnp.sum(scaled * offsets, -1)
        linear = product(y, (scaled[1:] - scaled[:1]).T)
        squared_norm = jnp.sum(y * y, -1, keepdims=True)
        radial = product(squared_norm, (p[1:] - p[:1])[None, :])
        return with_reference(add_row(linear - radial / 2, -(constant[1:] - constant[:1]) / 2))

    def quadratic(self, y: Batch, offset: Float[Array, " d"], index: int) -> Float[Array, "*batch"]:
        return self.variance[index] * jnp.sum(add_row(y, -offset) ** 2, -1)

    def weighted_apply(self, y: Batch, offsets: Offsets, weights: Weights) -> Batch:
        a = jnp.broadcast_to(self.variance, offsets.shape[:1])
        return product(weights, a[:, None]) * y - product(weights, a[:, None] * offsets)

    def gram(self, offsets: Offsets) -> Float[Array, "K K"]:
        return self.variance[0] * product(offsets, offsets.T)

    def matrices(self, dim: int) -> Float[Array, "_ d d"]:
        return self.variance[:, None, None] * jnp.eye(dim, dtype=self.variance.dtype)[None]
