"""Isotropic covariances, `Sigma_k = v_k I`."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gmm_speciation.covariances.base import Covariance, SpectralFunction
from gmm_speciation.covariances.contrasts import ContrastForm
from gmm_speciation.covariances.products import Batch, Offsets, Weights, product


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

    def contrast_form(self, offsets: Offsets, log_weights: Float[Array, " K"]) -> ContrastForm:
        each = self.variance[:, None]
        if self.shared:
            return ContrastForm.of_shared(offsets, log_weights, lambda nu: each * nu, each)
        return ContrastForm.of_each(offsets, log_weights, each, self.flattest().variance[:, None])

    def flattest(self) -> "Isotropic":
        v = self.variance
        return Isotropic(v[:1] if len(v) == 2 else jnp.min(v, keepdims=True))

    def quadratic(self, r: Batch, index: Int[Array, "*_"] | None = None) -> Float[Array, "*batch"]:
        return self.variance[0 if self.shared else index] * jnp.sum(r**2, -1)

    def weighted_apply(
        self, y: Batch, offsets: Offsets, weights: Weights, *, sum_to_one: bool = False
    ) -> Batch:
        a = jnp.broadcast_to(self.variance, offsets.shape[:1])
        if self.shared:
            whole = y if sum_to_one else weights.sum(-1, keepdims=True) * y
            return a[0] * (whole - product(weights, offsets))
        return product(weights, a[:, None]) * y - product(weights, a[:, None] * offsets)

    def gram(self, offsets: Offsets) -> Float[Array, "K K"]:
        return self.variance[0] * product(offsets, offsets.T)

    def matrices(self, dim: int) -> Float[Array, "_ d d"]:
        return self.variance[:, None, None] * jnp.eye(dim, dtype=self.variance.dtype)[None]
