"""Diagonal covariances, `Sigma_k = diag(v_k)`."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gmm_speciation.checks import known
from gmm_speciation.covariances.base import Covariance, SpectralFunction
from gmm_speciation.covariances.contrasts import ContrastForm
from gmm_speciation.covariances.products import Batch, Offsets, Weights, as_row, product


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
        return jnp.asarray(known(self.variances).max(), self.variances.dtype)

    def contrast_form(self, offsets: Offsets, log_weights: Float[Array, " K"]) -> ContrastForm:
        each = self.variances
        if self.shared:
            return ContrastForm.of_shared(offsets, log_weights, lambda nu: each * nu, each)
        return ContrastForm.of_each(offsets, log_weights, each, self.flattest().variances)

    def flattest(self) -> "Diagonal":
        v = self.variances
        return Diagonal(v[:1] if len(v) == 2 else jnp.min(v, 0, keepdims=True))

    def quadratic(self, r: Batch, index: Int[Array, "*_"] | None = None) -> Float[Array, "*batch"]:
        if self.shared:
            return product(r**2, self.variances[0])
        own = self.variances[index]
        return jnp.sum(r**2 * (own if own.ndim == r.ndim else as_row(own, r)), -1)

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
