"""Low-rank covariances, `Sigma_k = F_k F_k^T + v_k I`: a manifold of r dimensions with isotropic noise.

With the thin singular value decomposition `F_k = U_k S_k V_k^T`, once for every noise level,

    f(Sigma_k) = U_k f(S_k^2 + v_k) U_k^T + f(v_k) (I - U_k U_k^T),

so that forward process, precision and square root stay in the family and no d x d array is formed. The
part of a vector across the manifold is formed before it is scaled or squared: differences of large
squares, as in Woodbury's identity, would cost the digits of small v.

Derivatives in F exist where its nonzero singular values are distinct, as for any eigendecomposition.
"""

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


class LowRank(Covariance):
    """`Sigma_k = U_k diag(lambda_k) U_k^T + v_k (I - U_k U_k^T)`; columns of `axes` are U, orthonormal."""

    axes: Float[Array, "_ d r"]
    spectrum: Float[Array, "_ r"]  # along the axes
    across: Float[Array, " _"]  # v_k, across them

    @classmethod
    def from_factors(
        cls, factors: Float[Array, "_ d r"], variance: Float[Array, " _"]
    ) -> "LowRank":
        """From `F F^T + v I`, decomposed once for every noise level to come."""
        axes, singular, _ = jnp.linalg.svd(factors, full_matrices=False)
        return cls(axes, singular**2 + variance[:, None], variance)

    @property
    def num_matrices(self) -> int:
        return self.spectrum.shape[0]

    @property
    def rank(self) -> int:
        return self.spectrum.shape[1]

    def map(self, function: SpectralFunction) -> "LowRank":
        return LowRank(self.axes, function(self.spectrum), function(self.across))

    def eigenvalues(self, dim: int) -> Float[Array, "_ d"]:
        rest = (self.num_matrices, dim - self.rank)
        return jnp.concatenate(
            [self.spectrum, jnp.broadcast_to(self.across[:, None], rest)], axis=-1
        )

    def log_determinant(self, dim: int) -> Float[Array, " _"]:
        return jnp.log(self.spectrum).sum(-1) + (dim - self.rank) * jnp.log(self.across)

    def complete_basis(self) -> Float[Array, "_ d d"]:
        return jax.vmap(lambda axes: jnp.linalg.qr(axes, mode="complete")[0])(self.axes)

    def largest_eigenvalue(self) -> Float[Array, ""]:
        return jnp.maximum(jnp.max(self.spectrum, initial=0.0), jnp.max(self.across))

    def _split(self, index, r: Array) -> tuple[Array, Array]:
        """Coordinates of rows r along the axes, and what is left across them."""
        axes = self.axes[index]
        along = product(r, axes)
        return along, r - product(along, axes.T)

    def _apply_one(self, index, r: Array) -> Array:
        """`A_index r` for rows r."""
        along, rest = self._split(index, r)
        scaled = along * as_row(self.spectrum[index], r)
        return self.across[index] * rest + product(scaled, self.axes[index].T)

    def contrast_form(self, offsets: Offsets) -> ContrastForm | None:
        if not self.shared:
            return None
        return ContrastForm.of_shared(offsets, lambda nu: self._apply_one(0, nu))

    def contrasts(self, y: Batch, offsets: Offsets) -> Weights:
        if (form := self.contrast_form(offsets)) is not None:
            return form(y)

        def whitened(index, offset):
            along, rest = self._split(index, add_row(y, -offset))
            inside = jnp.sum(along**2 * as_row(self.spectrum[index], y), -1)
            return jnp.sqrt(self.across[index]) * rest, inside

        reference, inside = whitened(0, offsets[0])

        def half_square(args):
            rest, own = whitened(*args)
            # A difference of squares of many coordinates, coordinate by coordinate.
            return -(jnp.sum((rest - reference) * (rest + reference), -1) + own - inside) / 2

        values = jax.lax.map(half_square, (jnp.arange(self.num_matrices), offsets))
        return jnp.moveaxis(values, 0, -1)

    def quadratic(self, y: Batch, offset: Float[Array, " d"], index: int) -> Float[Array, "*batch"]:
        along, rest = self._split(index, add_row(y, -offset))
        inside = jnp.sum(along**2 * as_row(self.spectrum[index], y), -1)
        return inside + self.across[index] * jnp.sum(rest**2, -1)

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
        along, rest = self._split(0, offsets)
        inside = product(along * self.spectrum, along.T)
        return inside + self.across[0] * product(rest, rest.T)

    def eigenspace_grams(
        self, offsets: Offsets
    ) -> tuple[Float[Array, "E K K"], Float[Array, " E"]]:
        """Of a shared matrix: Gram matrices of the offsets along each axis and across all of them."""
        along, rest = self._split(0, offsets)
        inside = along.T[:, :, None] * along.T[:, None, :]
        grams = jnp.concatenate([inside, product(rest, rest.T)[None]])
        return grams, jnp.concatenate([self.spectrum[0], self.across])

    def average(self, weights: Float[Array, " K"]) -> "LowRank":
        """`sum_k w_k A_k` as one matrix of rank at most K r."""
        dim = self.axes.shape[1]
        gap = weights[:, None] * (self.spectrum - self.across[:, None])
        columns = jnp.moveaxis(self.axes, 0, 1).reshape(dim, -1)
        frame, triangle = jnp.linalg.qr(columns)
        excess, turn = jnp.linalg.eigh(product(triangle * gap.reshape(1, -1), triangle.T))
        across = product(weights, self.across)
        return LowRank(product(frame, turn)[None], across + excess[None, :], across[None])

    def matrices(self, dim: int) -> Float[Array, "_ d d"]:
        gap = self.spectrum - self.across[:, None]
        inside = product(self.axes * gap[:, None, :], self.axes.mT)
        return inside + self.across[:, None, None] * jnp.eye(dim, dtype=inside.dtype)[None]
