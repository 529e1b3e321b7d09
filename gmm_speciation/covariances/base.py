"""Covariances of Gaussian components, and the functional calculus on them.

A family of K symmetric matrices `Sigma_k = U_k diag(lambda_k) U_k^T` is kept by its spectrum, so
that every function of it, `f(Sigma_k) = U_k diag(f(lambda_k)) U_k^T`, is a matter of eigenvalues:
the forward process `alpha^2 Sigma + sigma^2 I`, the precision, the square root, the Wiener gain
`alpha Sigma (alpha^2 Sigma + sigma^2 I)^{-1}`. One factorisation serves every noise level.

A leading axis of 1 means that all components share the matrix; then `|y|^2` cancels from every
comparison of components and never enters.

Axes: K components (or 1), d dimension; `y` is `(*batch, d)`, relative to the mixture's centre;
`offsets` `(K, d)` are the means relative to the same centre.
"""

import abc
import re
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

Batch = Float[Array, "*batch d"]
Weights = Float[Array, "*batch K"]
Offsets = Float[Array, "K d"]
SpectralFunction = Callable[[Array], Array]


class ContrastForm(eqx.Module):
    """`y . w_k + b_k - (1/2) (y * y) . q_k`, all relative to k = 0; q has one column where all
    coordinates share it, and is None where it vanishes."""

    directions: Offsets
    constants: Float[Array, " K"]
    curvatures: Float[Array, "K _"] | None

    @classmethod
    def of_shared(cls, offsets: Offsets, apply: Callable[[Offsets], Offsets]) -> "ContrastForm":
        """From one precision P: `w_k = P (nu_k - nu_0)`, `b_k = -w_k . (nu_k + nu_0) / 2`."""
        directions = apply(offsets - offsets[:1])
        return cls(directions, -jnp.sum(directions * (offsets + offsets[:1]), -1) / 2, None)

    @classmethod
    def of_each(cls, offsets: Offsets, precisions: Float[Array, "K _"]) -> "ContrastForm":
        """From precisions `diag(p_k)`."""
        scaled = precisions * offsets
        constants = jnp.sum(scaled * offsets, -1)
        return cls(
            scaled - scaled[:1],
            -(constants - constants[:1]) / 2,
            precisions - precisions[:1],
        )

    def __call__(self, y: Batch) -> Weights:
        w, q = self.directions, self.curvatures
        if q is None:
            return add_row(product(y, w.T), self.constants)
        if w.shape[0] == 2:
            # One pass over the data; as matrix-vector products it would be three.
            log_odds = jnp.sum(y * (as_row(w[1], y) - y * as_row(q[1] / 2, y)), -1)
            return add_row(jnp.stack([0 * log_odds, log_odds], -1), self.constants)
        if q.shape[1] == 1:
            squares = jnp.sum(y * y, -1, keepdims=True) * as_row(q[:, 0], y)
        else:
            squares = product(y * y, q.T)
        return add_row(product(y, w.T) - squares / 2, self.constants)


class Covariance(eqx.Module):
    """Interface: K symmetric matrices (or 1, shared) of size d x d, closed under `map`."""

    @property
    def kind(self) -> str:
        """What messages call it: "isotropic", "low-rank"."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", type(self).__name__).lower()

    @property
    @abc.abstractmethod
    def num_matrices(self) -> int:
        """K, or 1 where the components share one matrix."""

    @property
    def shared(self) -> bool:
        """Whether all components have the same matrix by construction."""
        return self.num_matrices == 1

    @abc.abstractmethod
    def map(self, function: SpectralFunction) -> "Covariance":
        """`f(Sigma_k)`: the function acts on the eigenvalues."""

    @abc.abstractmethod
    def eigenvalues(self, dim: int) -> Float[Array, "_ d"]:
        """All eigenvalues, one row a matrix, in no particular order."""

    def complete_basis(self) -> Float[Array, "_ d d"] | None:
        """Eigenvectors as columns, in the order of `eigenvalues`; None for those of the coordinates."""
        return None

    @abc.abstractmethod
    def largest_eigenvalue(self) -> Float[Array, ""]:
        """The largest eigenvalue of all matrices."""

    @abc.abstractmethod
    def contrast_form(self, offsets: Offsets) -> "ContrastForm | None":
        """`contrasts` with its coefficients, or None where a component has d^2 of them."""

    @abc.abstractmethod
    def contrasts(self, y: Batch, offsets: Offsets) -> Weights:
        """Seen as precisions `P_k`: `-(1/2) (y - nu_k)^T P_k (y - nu_k)` minus its value at k = 0."""

    @abc.abstractmethod
    def quadratic(self, y: Batch, offset: Float[Array, " d"], index: int) -> Float[Array, "*batch"]:
        """`(y - nu)^T A_index (y - nu)`."""

    @abc.abstractmethod
    def weighted_apply(
        self, y: Batch, offsets: Offsets, weights: Weights, *, sum_to_one: bool = False
    ) -> Batch:
        """`sum_k w_k A_k (y - nu_k)`, without a `(*batch, K, d)` array.

        Weights may have any sum; where it is known to be 1, a shared matrix need not form it.
        """

    @abc.abstractmethod
    def gram(self, offsets: Offsets) -> Float[Array, "K K"]:
        """`nu_j^T A nu_k` for a shared matrix."""

    @abc.abstractmethod
    def matrices(self, dim: int) -> Float[Array, "_ d d"]:
        """The dense matrices: for moderate d."""

    def perturb(self, alpha, sigma) -> "Covariance":
        """`alpha^2 Sigma_k + sigma^2 I`: the covariance after the forward process."""
        return self.map(lambda eigenvalue: alpha**2 * eigenvalue + sigma**2)

    def log_determinant(self, dim: int) -> Float[Array, " _"]:
        """`log det Sigma_k`, one a matrix."""
        return jnp.log(self.eigenvalues(dim)).sum(-1)

    def sample(
        self, key: PRNGKeyArray, offsets: Offsets, component: jax.Array
    ) -> Float[Array, "n d"]:
        """Draws from `N(nu_k, Sigma_k)` with k = `component`, shape `(n,)`."""
        normals = jax.random.normal(key, (*component.shape, offsets.shape[-1]), offsets.dtype)
        return self.colour(normals, offsets, component)

    def colour(self, normals: Batch, offsets: Offsets, component: jax.Array) -> Batch:
        """`nu_k + Sigma_k^{1/2} z` for given base normals z: differentiable in the parameters."""
        root = self.map(lambda eigenvalue: safe_sqrt(eigenvalue))
        chosen = jax.nn.one_hot(component, offsets.shape[0], dtype=offsets.dtype)
        return offsets[component] + root.weighted_apply(normals, 0 * offsets, chosen)


def safe_sqrt(x: Array) -> Array:
    """Square root with gradient 0, not infinity, at 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def product(x: Array, y: Array) -> Array:
    """Matrix product at the full precision of the inputs, also off the CPU."""
    return jnp.matmul(x, y, precision=jax.lax.Precision.HIGHEST)


def as_row(vector: Array, batched: Array) -> Array:
    """`vector` with the rank of `batched`, to go along its last axis."""
    return vector.reshape((1,) * (batched.ndim - 1) + (-1,))


def add_row(batched: Array, row: Array) -> Array:
    """`batched + row` along the last axis, ranks matched explicitly."""
    return batched + as_row(row, batched)
