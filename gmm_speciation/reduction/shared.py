"""Components that share a covariance `Sigma = sum_e lambda_e Pi_e` (distinct eigenvalues, projections).

The posterior depends on the state through a statistic of at most K - 1 dimensions, whose law is fixed
by the Gram matrix of the means in the metric of the noisy covariance,

    S(alpha, sigma) = sum_e alpha^2 / (alpha^2 lambda_e + sigma^2)  M^T Pi_e M.

The score differences have the same sum with weights `alpha^2 / (alpha^2 lambda_e + sigma^2)^2`. The sum
turns with the noise: no single low-dimensional mixture would do, so one Gram matrix an eigenvalue is
kept. With S = A A^T the statistic given component k is `A_k + z`.

Axes: K components, r rank of the centred means, E eigenvalues.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gmm_speciation.checks import is_concrete
from gmm_speciation.covariances import add_row, product, safe_sqrt
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition
from gmm_speciation.posteriors import PosteriorStatistics, class_spread
from gmm_speciation.processes import variance_preserving
from gmm_speciation.reduction.base import PairReduction, statistics_of
from gmm_speciation.reduction.gram import (
    centre_gram,
    cholesky,
    principal_axes,
    top_of_sum,
    weighted_gram,
)

_MAX_REPRESENTATIVE = 512  # dimensions


class SharedReduction(PairReduction):
    """Components that share a covariance: `mu_j^T Pi_e mu_k = basis_j core_e basis_k`."""

    basis: Float[Array, "K r"]
    core: Float[Array, "E r r"]
    eigenvalues: Float[Array, " E"]

    @classmethod
    def from_gram(
        cls,
        gram: Float[Array, "E K K"],
        eigenvalues: Float[Array, " E"],
        log_weights: Float[Array, " K"],
        dim: int,
    ) -> "SharedReduction":
        """From the Gram matrix of the centred means in every eigenspace of the covariance."""
        if all(map(is_concrete, (gram, eigenvalues))):
            axes = jnp.asarray(principal_axes(gram.sum(0)), gram.dtype)
            core = jnp.einsum("kr,ekl,ls->ers", axes, gram, axes, precision="highest")
            return cls(
                log_weights=log_weights,
                basis=axes,
                core=core,
                eigenvalues=eigenvalues,
                dim=dim,
                radial_dof=0,
            )
        # Under a trace: contrasts against component 0, which need no eigenvectors.
        contrasts = gram - gram[:, :1, :]
        contrasts = (contrasts - contrasts[:, :, :1])[:, 1:, 1:]
        basis = jnp.eye(gram.shape[1], dtype=gram.dtype)[:, 1:]
        return cls(
            log_weights=log_weights,
            basis=basis,
            core=contrasts,
            eigenvalues=eigenvalues,
            dim=dim,
            radial_dof=0,
        )

    @property
    def num_normals(self) -> int:
        return self.basis.shape[1]

    @property
    def component_points(self) -> Float[Array, "K r"]:
        return self.locations(jnp.zeros((), self.core.dtype))

    @property
    def component_variances(self) -> Float[Array, " E"]:
        return self.eigenvalues

    def gram(self) -> Float[Array, "K K"]:
        return centre_gram(product(product(self.basis, self.core.sum(0)), self.basis.T))

    def metric(self, log_snr: Float[Array, ""]) -> tuple[Array, Array]:
        """`(alpha^2 / (alpha^2 lambda_e + sigma^2), sigma^2 alpha^2 / (...)^2)`, one an eigenvalue."""
        alpha, sigma = variance_preserving(log_snr)
        info = jnp.finfo(self.core.dtype)
        # As for mixtures: singular covariances without noise give certain posteriors, not NaN.
        scale = jnp.max(jnp.abs(self.core), initial=0.0) + jnp.max(self.eigenvalues)
        floor = jnp.maximum(info.eps**2 * scale, jnp.sqrt(info.tiny))
        noisy = jnp.maximum(alpha**2 * self.eigenvalues + sigma**2, floor)
        return alpha**2 / noisy, (alpha / noisy) ** 2 * sigma**2

    def pair_snr(self, log_snr: Float[Array, "*T"]) -> tuple[Array, Array]:
        difference = self.basis[0] - self.basis[1]
        distances = jnp.einsum("r,ers,s->e", difference, self.core, difference, precision="highest")
        state, score = jax.vmap(self.metric)(log_snr.reshape(-1))
        squared = (product(state, distances) / 4, product(score, distances))
        return squared[0].reshape(log_snr.shape), squared[1].reshape(log_snr.shape)

    def _factor(self, weights: Float[Array, " E"]) -> Float[Array, "K r"]:
        """Vectors a_k with Gram matrix `sum_e weights_e M^T Pi_e M`."""
        largest = jnp.max(weights)
        share = weights / jnp.maximum(largest, jnp.finfo(weights.dtype).tiny)
        metric = jnp.einsum("e,ers->rs", share, self.core, precision="highest")
        return safe_sqrt(largest) * product(self.basis, cholesky(metric))

    def locations(self, log_snr: Float[Array, ""]) -> Float[Array, "K r"]:
        """Component means of the statistic, in which the noise is standard normal."""
        return self._factor(self.metric(log_snr)[0])

    def statistics(self, log_snr, normals, radial, component, partition):
        locations = self.locations(log_snr)
        # Relative to the component that made the draw: its own logit stays of order one.
        linear = product(normals, locations.T)
        squares = jnp.sum(locations**2, -1)
        cross = product(locations, locations.T)
        distance = squares[:, None] + squares[None, :] - 2 * cross
        own = jnp.take_along_axis(linear, component[:, None], -1)
        return self._of_logits(log_snr, linear - own - distance[component] / 2, partition)

    def coordinates(self, x: Float[Array, "n d"], offsets: Float[Array, "K d"]) -> Array:
        """Coordinates `(n, r)` of centred states in the span of the means: one product with the data.

        For one isotropic eigenvalue, where the statistic at noise `(alpha, sigma)` is
        `alpha / sqrt(v)` times these plus a normal of variance `sigma^2 / v`.
        """
        points = product(self.basis, cholesky(self.core[0]))
        shadows = product(x, offsets.T)
        # Offsets sum to zero, so their products with x do; taking the rounding out of the rows lets
        # XLA centre x inside the product, without a second array of its size.
        shadows = shadows - shadows.mean(-1, keepdims=True)
        return product(shadows, jnp.linalg.pinv(points).T)

    def data_statistics(
        self,
        log_snr: Float[Array, ""],
        coordinates: Float[Array, "n r"],
        normals: Float[Array, "n r"],
        partition: Partition,
    ) -> PosteriorStatistics:
        """As `statistics`, for given clean states in `coordinates`; one isotropic eigenvalue."""
        alpha, sigma = variance_preserving(log_snr)
        locations = self.locations(log_snr)
        signal, _ = self.metric(log_snr)
        # x_t = alpha x_0 + sigma eps in units of sqrt(v): given x_0 its noise is sigma, not sqrt(v).
        noise = jnp.where(alpha > 0, sigma * safe_sqrt(signal[0]) / jnp.maximum(alpha, 1e-30), 1.0)
        state = safe_sqrt(signal[0]) * coordinates + noise * normals
        linear = product(state, locations.T)
        logits = add_row(linear, -jnp.sum(locations**2, -1) / 2)
        return self._of_logits(log_snr, logits, partition)

    def _of_logits(self, log_snr, logits: Array, partition: Partition) -> PosteriorStatistics:
        log_posterior = jax.nn.log_softmax(add_row(logits, self.log_weights), -1)
        scores = self._factor(self.metric(log_snr)[1])
        spread = class_spread(log_posterior, scores, partition)
        return statistics_of(log_posterior, spread, partition)

    def representative(self) -> GaussianMixture | None:
        count, rank = self.core.shape[:2]
        if not 0 < count * rank <= _MAX_REPRESENTATIVE:
            return None
        coordinates = jnp.concatenate(
            [product(self.basis, cholesky(core)) for core in self.core], axis=-1
        )
        spectrum = jnp.repeat(self.eigenvalues, rank)
        return GaussianMixture.diagonal(coordinates, spectrum, self.weights)

    def total_top_eigenvalue(self) -> float:
        weights = np.asarray(self.weights, float)
        gram = weighted_gram(
            np.einsum("kr,ers,ls->ekl", self.basis, self.core, self.basis), weights
        )
        return top_of_sum(gram, np.asarray(self.eigenvalues, float))
