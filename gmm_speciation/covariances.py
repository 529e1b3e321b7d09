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
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

Batch = Float[Array, "*batch d"]
Weights = Float[Array, "*batch K"]
Offsets = Float[Array, "K d"]
SpectralFunction = Callable[[Array], Array]


class Covariance(eqx.Module):
    """Interface: K symmetric matrices (or 1, shared) of size d x d, closed under `map`."""

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

    @abc.abstractmethod
    def largest_eigenvalue(self) -> Float[Array, ""]:
        """The largest eigenvalue of all matrices."""

    @abc.abstractmethod
    def contrasts(self, y: Batch, offsets: Offsets) -> Weights:
        """Seen as precisions `P_k`: `-(1/2) (y - nu_k)^T P_k (y - nu_k)` minus its value at k = 0."""

    @abc.abstractmethod
    def quadratic(self, y: Batch, offset: Float[Array, " d"], index: int) -> Float[Array, "*batch"]:
        """`(y - nu)^T A_index (y - nu)`."""

    @abc.abstractmethod
    def weighted_apply(self, y: Batch, offsets: Offsets, weights: Weights) -> Batch:
        """`sum_k w_k A_k (y - nu_k)`, without a `(*batch, K, d)` array. Weights need not sum to 1."""

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


def _squared_norm_contrasts(offsets: Offsets, metric: Callable[[Array], Array]) -> Array:
    """`nu_k . P nu_k - nu_0 . P nu_0` as `(nu_k - nu_0) . P (nu_k + nu_0)`: no cancellation."""
    return jnp.sum((offsets - offsets[:1]) * metric(offsets + offsets[:1]), -1)


def _with_reference(contrasts: Array) -> Array:
    """Prepend the reference component, whose contrast with itself is 0."""
    return jnp.pad(contrasts, [(0, 0)] * (contrasts.ndim - 1) + [(1, 0)])


def product(x: Array, y: Array) -> Array:
    """Matrix product at the full precision of the inputs, also off the CPU."""
    return jnp.matmul(x, y, precision=jax.lax.Precision.HIGHEST)


def add_row(batched: Array, row: Array) -> Array:
    """`batched + row` along the last axis, ranks matched explicitly."""
    return batched + row.reshape((1,) * (batched.ndim - 1) + (-1,))


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
            norms = _squared_norm_contrasts(offsets, lambda nu: p[0] * nu)[1:]
            linear = p[0] * product(y, (offsets[1:] - offsets[:1]).T)
            return _with_reference(add_row(linear, -norms / 2))
        scaled = p[:, None] * offsets
        constant = jnp.sum(scaled * offsets, -1)
        linear = product(y, (scaled[1:] - scaled[:1]).T)
        squared_norm = jnp.sum(y * y, -1, keepdims=True)
        radial = product(squared_norm, (p[1:] - p[:1])[None, :])
        return _with_reference(add_row(linear - radial / 2, -(constant[1:] - constant[:1]) / 2))

    def quadratic(self, y: Batch, offset: Float[Array, " d"], index: int) -> Float[Array, "*batch"]:
        return self.variance[index] * jnp.sum(add_row(y, -offset) ** 2, -1)

    def weighted_apply(self, y: Batch, offsets: Offsets, weights: Weights) -> Batch:
        a = jnp.broadcast_to(self.variance, offsets.shape[:1])
        return product(weights, a[:, None]) * y - product(weights, a[:, None] * offsets)

    def gram(self, offsets: Offsets) -> Float[Array, "K K"]:
        return self.variance[0] * product(offsets, offsets.T)

    def matrices(self, dim: int) -> Float[Array, "_ d d"]:
        return self.variance[:, None, None] * jnp.eye(dim, dtype=self.variance.dtype)[None]


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
            norms = _squared_norm_contrasts(offsets, lambda nu: p * nu)[1:]
            return _with_reference(add_row(product(y, (scaled[1:] - scaled[:1]).T), -norms / 2))
        constant = jnp.sum(scaled * offsets, -1)
        linear = product(y, (scaled[1:] - scaled[:1]).T)
        squared = product(y * y, (p[1:] - p[:1]).T)
        return _with_reference(add_row(linear - squared / 2, -(constant[1:] - constant[:1]) / 2))

    def quadratic(self, y: Batch, offset: Float[Array, " d"], index: int) -> Float[Array, "*batch"]:
        return product(add_row(y, -offset) ** 2, self.variances[index])

    def weighted_apply(self, y: Batch, offsets: Offsets, weights: Weights) -> Batch:
        a = jnp.broadcast_to(self.variances, offsets.shape)
        return product(weights, a) * y - product(weights, a * offsets)

    def gram(self, offsets: Offsets) -> Float[Array, "K K"]:
        return product(self.variances * offsets, offsets.T)

    def matrices(self, dim: int) -> Float[Array, "_ d d"]:
        return self.variances[:, :, None] * jnp.eye(dim, dtype=self.variances.dtype)[None]


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

    def largest_eigenvalue(self) -> Float[Array, ""]:
        return jnp.max(self.spectrum)

    def _apply_one(self, index, r: Array) -> Array:
        """`A_index r` for rows r."""
        basis = self.basis[index]
        return product(
            product(r, basis) * self.spectrum[index].reshape((1,) * (r.ndim - 1) + (-1,)), basis.T
        )

    def contrasts(self, y: Batch, offsets: Offsets) -> Weights:
        if self.shared:
            directions = self._apply_one(0, offsets[1:] - offsets[:1])
            norms = _squared_norm_contrasts(offsets, lambda nu: self._apply_one(0, nu))[1:]
            return _with_reference(add_row(product(y, directions.T), -norms / 2))

        def half_square(spectrum, basis, offset):
            # Project first, subtract in the eigenbasis: one product of the data a component.
            z = add_row(product(y, basis), -product(offset, basis))
            return -jnp.einsum("...d,d->...", z * z, spectrum) / 2

        values = jax.lax.map(lambda args: half_square(*args), (self.spectrum, self.basis, offsets))
        return jnp.moveaxis(values - values[:1], 0, -1)

    def quadratic(self, y: Batch, offset: Float[Array, " d"], index: int) -> Float[Array, "*batch"]:
        z = product(add_row(y, -offset), self.basis[index])
        return product(z * z, self.spectrum[index])

    def weighted_apply(self, y: Batch, offsets: Offsets, weights: Weights) -> Batch:
        if self.shared:
            total = weights.sum(-1, keepdims=True)
            return self._apply_one(0, total * y - product(weights, offsets))

        def add(total, args):
            index, offset, weight = args
            return total + self._apply_one(index, weight[..., None] * add_row(y, -offset)), None

        steps = (jnp.arange(self.num_matrices), offsets, jnp.moveaxis(weights, -1, 0))
        return jax.lax.scan(add, jnp.zeros_like(y), steps)[0]

    def gram(self, offsets: Offsets) -> Float[Array, "K K"]:
        return product(self._apply_one(0, offsets), offsets.T)

    def matrices(self, dim: int) -> Float[Array, "_ d d"]:
        return jnp.einsum("kie,ke,kje->kij", self.basis, self.spectrum, self.basis)
