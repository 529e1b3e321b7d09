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
from jaxtyping import Array, Float, Int, PRNGKeyArray

from gmm_speciation.covariances.contrasts import ContrastForm
from gmm_speciation.covariances.products import (
    Batch,
    Offsets,
    Weights,
    add_row,
    by_group,
    product,
    safe_sqrt,
)

SpectralFunction = Callable[[Array], Array]


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
    def contrast_form(
        self, offsets: Offsets, log_weights: Float[Array, " K"]
    ) -> ContrastForm | None:
        """Seen as precisions `P_k`: the log-odds of the components with their coefficients, or None
        where a component has d^2 of them."""

    def flattest(self) -> "Covariance":
        """Seen as precisions: the one matrix that a contrast form leaves out of every component."""
        return self

    def squares(self, y: Batch, offsets: Offsets) -> tuple[Weights, Weights]:
        """`(y - nu_k)^T A_k (y - nu_k)` up to a part that all components share at y, and whole; where
        there is no contrast form."""

        def square(args):
            index, offset = args
            # Subtracted before it is turned: near a sharp component the rest would be rounding.
            return self.quadratic(add_row(y, -offset), index)

        steps = (jnp.arange(self.num_matrices), offsets)
        whole = jnp.moveaxis(jax.lax.map(square, steps), 0, -1)
        return whole, whole

    @abc.abstractmethod
    def quadratic(self, r: Batch, index: Int[Array, "*_"] | None = None) -> Float[Array, "*batch"]:
        """`r^T A_index r`: one matrix for all rows, or the own one of each where it is diagonal; a shared
        matrix needs no index."""

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
        return offsets[component] + root.own_apply(normals, 0 * offsets, component)

    def own_apply(self, y: Batch, offsets: Offsets, component: Int[Array, "*_"]) -> Batch:
        """`A_k (y - nu_k)` with the `component` k of each row."""
        chosen = jax.nn.one_hot(component, offsets.shape[0], dtype=offsets.dtype)
        return self.weighted_apply(y, offsets, chosen)


class Turned(Covariance):
    """Interface of the kinds whose axes are not those of the coordinates: one product at a time."""

    @abc.abstractmethod
    def apply_one(self, index, r: Array) -> Array:
        """`A_index r` for rows r."""

    def contrast_form(
        self, offsets: Offsets, log_weights: Float[Array, " K"]
    ) -> ContrastForm | None:
        if not self.shared:
            return None
        return ContrastForm.of_shared(offsets, log_weights, lambda nu: self.apply_one(0, nu))

    def weighted_apply(
        self, y: Batch, offsets: Offsets, weights: Weights, *, sum_to_one: bool = False
    ) -> Batch:
        if self.shared:
            whole = y if sum_to_one else weights.sum(-1, keepdims=True) * y
            return self.apply_one(0, whole - product(weights, offsets))

        def add(total, args):
            index, offset, weight = args
            return total + self.apply_one(index, weight[..., None] * add_row(y, -offset)), None

        steps = (jnp.arange(self.num_matrices), offsets, jnp.moveaxis(weights, -1, 0))
        return jax.lax.scan(add, jnp.zeros_like(y), steps)[0]

    def own_apply(self, y: Batch, offsets: Offsets, component: Int[Array, "*_"]) -> Batch:
        if self.shared:
            return self.apply_one(0, y - offsets[component])
        return by_group(self.apply_one, y - offsets[component], component, len(offsets))
