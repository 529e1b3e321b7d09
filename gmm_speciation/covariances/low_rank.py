"""Low-rank covariances, `Sigma_k = F_k F_k^T + v_k I`: a manifold of r dimensions with isotropic noise.

With the thin singular value decomposition `F_k = U_k S_k V_k^T`, once for every noise level,

    f(Sigma_k) = U_k f(S_k^2 + v_k) U_k^T + f(v_k) (I - U_k U_k^T),

so that forward process, precision and square root stay in the family and no d x d array is formed. The
part of a vector across the manifold is formed before it is scaled or squared: differences of large
squares, as in Woodbury's identity, would cost the digits of small v.

Derivatives. `F F^T + v I` is smooth in F, its eigenvectors are not where singular values meet. So the
spectrum is kept as a matrix `C = U^T Sigma U`, diagonal in value: between eigenvalues apart the frame U
turns and C stays diagonal, between equal ones U stands still and the off-diagonal entries of C, which
are 0, carry the derivative. A function of C then has the derivative of Daleckii & Krein (1965),
`d f(C)_ij = f[l_i, l_j] dC_ij` with divided differences. First derivatives are exact for every F, also
for F = 0; higher ones where the singular values are positive and distinct.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gmm_speciation.checks import known
from gmm_speciation.covariances.base import SpectralFunction, Turned
from gmm_speciation.covariances.products import Batch, Offsets, Weights, add_row, product
from gmm_speciation.programs import program


class LowRank(Turned):
    """`Sigma_k = U_k C_k U_k^T + v_k (I - U_k U_k^T)`; columns of `axes` are U, orthonormal."""

    axes: Float[Array, "_ d r"]
    core: Float[Array, "_ r r"]  # C_k, diagonal in value
    across: Float[Array, " _"]  # v_k

    @classmethod
    def from_factors(
        cls, factors: Float[Array, "_ d r"], variance: Float[Array, " _"]
    ) -> "LowRank":
        """From `F F^T + v I`, decomposed once for every noise level to come."""
        return cls(*_decomposed(factors, variance), variance)

    @property
    def num_matrices(self) -> int:
        return self.core.shape[0]

    @property
    def rank(self) -> int:
        return self.core.shape[1]

    @property
    def spectrum(self) -> Float[Array, "_ r"]:
        """Eigenvalues along the axes."""
        return jnp.diagonal(self.core, axis1=1, axis2=2)

    def map(self, function: SpectralFunction) -> "LowRank":
        core = jnp.where(
            jnp.eye(self.rank, dtype=bool)[None],
            function(self.spectrum)[:, :, None],
            self.core * _divided_differences(function, self.spectrum),
        )
        return LowRank(self.axes, core, function(self.across))

    def eigenvalues(self, dim: int) -> Float[Array, "_ d"]:
        rest = (self.num_matrices, dim - self.rank)
        return jnp.concatenate(
            [self.spectrum, jnp.broadcast_to(self.across[:, None], rest)], axis=-1
        )

    def log_determinant(self, dim: int) -> Float[Array, " _"]:
        along = jnp.log(self.spectrum).sum(-1)
        return along + (dim - self.rank) * jnp.log(self.across) if self.rank < dim else along

    def complete_basis(self) -> Float[Array, "_ d d"]:
        return jax.vmap(lambda axes: jnp.linalg.qr(axes, mode="complete")[0])(self.axes)

    def largest_eigenvalue(self) -> Float[Array, ""]:
        spectrum = known(self.core).diagonal(axis1=1, axis2=2)
        numpy: Any = np if isinstance(spectrum, np.ndarray) else jnp
        largest = numpy.maximum(spectrum.max(initial=0.0), known(self.across).max())
        return jnp.asarray(largest, self.core.dtype)

    def _split(self, index, r: Array) -> tuple[Array, Array]:
        """Coordinates of rows r along the axes, and what is left across them."""
        axes = self.axes[index]
        along = product(r, axes)
        return along, r - product(along, axes.T)

    def apply_one(self, index, r: Array) -> Array:
        along, rest = self._split(index, r)
        inside = product(product(along, self.core[index]), self.axes[index].T)
        return self.across[index] * rest + inside

    def _inside(self, index, along: Array) -> Array:
        """`z^T C_index z` for rows z."""
        return jnp.sum(along * product(along, self.core[index]), -1)

    def squares(self, y: Batch, offsets: Offsets) -> tuple[Weights, Weights]:
        def whitened(index, offset):
            along, rest = self._split(index, add_row(y, -offset))
            return jnp.sqrt(self.across[index]) * rest, self._inside(index, along)

        # Relative to the smallest, of which no large part has to cancel in the others.
        smallest = jnp.argmin(self.across)
        reference, _ = whitened(smallest, offsets[smallest])

        def square(args):
            rest, inside = whitened(*args)
            # A difference of squares of many coordinates, coordinate by coordinate.
            relative = jnp.sum((rest - reference) * (rest + reference), -1) + inside
            return relative, jnp.sum(rest**2, -1) + inside

        relative, whole = jax.lax.map(square, (jnp.arange(self.num_matrices), offsets))
        return jnp.moveaxis(relative, 0, -1), jnp.moveaxis(whole, 0, -1)

    def quadratic(self, r: Batch, index: Int[Array, "*_"] | None = None) -> Float[Array, "*batch"]:
        one = 0 if self.shared else index
        along, rest = self._split(one, r)
        return self._inside(one, along) + self.across[one] * jnp.sum(rest**2, -1)

    def gram(self, offsets: Offsets) -> Float[Array, "K K"]:
        along, rest = self._split(0, offsets)
        inside = product(product(along, self.core[0]), along.T)
        return inside + self.across[0] * product(rest, rest.T)

    @program
    def eigenspaces(self, offsets: Offsets) -> tuple[Float[Array, "K m"], Float[Array, " m"]]:
        """Of a shared matrix: coordinates of the offsets along each axis and what is left across all
        of them, with the eigenvalue of every column.

        Eigenspaces, unlike the matrix, have no derivative where eigenvalues along the axes are equal.
        """
        along, rest = self._split(0, offsets)
        values, turn = jnp.linalg.eigh(self.core[0])
        along = product(along, turn)
        if self.rank == offsets.shape[1]:
            return along, values
        across = jnp.broadcast_to(self.across, rest.shape[1:])
        return jnp.concatenate([along, rest], -1), jnp.concatenate([values, across])

    def average(self, weights: Float[Array, " K"]) -> "LowRank":
        """`sum_k w_k A_k` as one matrix of rank at most K r."""
        dim = self.axes.shape[1]
        gap = weights[:, None] * (self.spectrum - self.across[:, None])
        columns = jnp.moveaxis(self.axes, 0, 1).reshape(dim, -1)
        frame, triangle = jnp.linalg.qr(columns)
        excess, turn = jnp.linalg.eigh(product(triangle * gap.reshape(1, -1), triangle.T))
        across = product(weights, self.across)
        core = jnp.diag(across + excess)
        return LowRank(product(frame, turn)[None], core[None], across[None])

    def matrices(self, dim: int) -> Float[Array, "_ d d"]:
        rest = self.across[:, None, None]
        gap = self.core - rest * jnp.eye(self.rank, dtype=self.core.dtype)[None]
        inside = product(product(self.axes, gap), self.axes.mT)
        return inside + rest * jnp.eye(dim, dtype=inside.dtype)[None]


def _close(a: Array, b: Array) -> Array:
    """Whether a difference quotient between a and b loses more digits than a tangent at their middle."""
    relative = jnp.finfo(a.dtype).eps ** (1 / 3)
    return jnp.abs(a - b) <= relative * jnp.maximum(jnp.abs(a), jnp.abs(b))


def _divided_differences(function: SpectralFunction, values: Array) -> Array:
    """`f[l_i, l_j]`, shape `(_, r, r)`: the slope of f where the two are close."""
    a, b = values[:, :, None], values[:, None, :]
    middle, near = (a + b) / 2, _close(a, b)
    _, slope = jax.jvp(function, (middle,), (jnp.ones_like(middle),))
    rise = function(values)[:, :, None] - function(values)[:, None, :]
    divided = jnp.where(near, slope, rise / jnp.where(near, 1.0, a - b))
    return jnp.where(jnp.isfinite(divided), divided, 0.0)


@program
def _decomposed(
    factors: Float[Array, "_ d r"], variance: Float[Array, " _"]
) -> tuple[Array, Array]:
    """Axes and core of `F F^T + v I`."""
    axes, squares = jax.vmap(_frame)(factors)
    identity = jnp.eye(axes.shape[-1], dtype=axes.dtype)
    return axes, squares + variance[:, None, None] * identity[None]


@jax.custom_jvp
def _frame(factors: Float[Array, "d f"]) -> tuple[Float[Array, "d r"], Float[Array, "r r"]]:
    """`(U, C)` with orthonormal columns U, `F F^T = U C U^T` and C diagonal in value."""
    axes, singular, _ = jnp.linalg.svd(factors, full_matrices=False)
    return axes, jnp.diag(singular**2)


@_frame.defjvp
def _frame_jvp(primals, tangents):
    (factors,), (change,) = primals, tangents
    axes, core = _frame(factors)
    if core.size == 0:
        return (axes, core), (axes, core)
    values = jnp.diagonal(core)
    rounding = (jnp.finfo(core.dtype).eps * max(factors.shape)) ** 2 * jnp.max(values, initial=0.0)
    # With dF F^T U = U B + N, N across the axes: U^T d(F F^T) U = B + B^T.
    moved = product(change, product(factors.T, axes))
    inside = product(axes.T, moved)
    across = moved - product(axes, inside)
    symmetric = inside + inside.T
    # Axes turn among each other where their eigenvalues are apart: dU = U A, A antisymmetric.
    a, b = values[:, None], values[None, :]
    apart = ~(_close(a, b) | (jnp.maximum(a, b) <= rounding))
    turn = jnp.where(apart, symmetric / jnp.where(apart, b - a, 1.0), 0.0)
    # Directions without variance have no part in F F^T to first order; where they point is free.
    alive = values > rounding
    both = alive[:, None] & alive[None, :]
    inverted = jnp.where(both, core, jnp.eye(len(values), dtype=core.dtype))
    outward = jnp.linalg.solve(inverted, jnp.where(alive[:, None], across.T, 0.0)).T
    new_core = symmetric - (product(turn, core) - product(core, turn))
    return (axes, core), (product(axes, turn) + outward, new_core)
