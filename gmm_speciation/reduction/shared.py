"""Components that share a covariance `Sigma = sum_e lambda_e Pi_e` (distinct eigenvalues, projections).

The posterior depends on the state through a statistic of at most K - 1 dimensions, whose law is fixed
by the Gram matrix of the means in the metric of the noisy covariance,

    S(alpha, sigma) = sum_e alpha^2 / (alpha^2 lambda_e + sigma^2)  M^T Pi_e M.

The score differences have the same sum with weights `alpha^2 / (alpha^2 lambda_e + sigma^2)^2`. The sum
turns with the noise: no single low-dimensional mixture would do, so one Gram matrix an eigenvalue is
kept, of means along their principal axes and in units of their length: matrices of order one, which add
up to the identity. With S = A A^T the statistic given component k is `A_k + z`.

Axes: K components, r rank of the centred means, E eigenvalues.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gmm_speciation.checks import is_concrete
from gmm_speciation.covariances import ContrastForm, add_row, product, safe_sqrt
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition
from gmm_speciation.posteriors import PosteriorStatistics, class_spread, distances_from
from gmm_speciation.processes import variance_preserving
from gmm_speciation.reduction.base import PairReduction, statistics_of
from gmm_speciation.reduction.gram import (
    cholesky,
    eigenspace_cores,
    host_factor,
    principal_axes,
    top_of_sum,
    traced_axes,
    weighted_rows,
)

_MAX_REPRESENTATIVE = 512  # dimensions


class SharedReduction(PairReduction):
    """Components that share a covariance: `mu_j^T Pi_e mu_k = basis_j core_e basis_k`, the core the
    identity where there is one eigenvalue."""

    basis: Float[Array, "K r"]
    core: Float[Array, "E r r"]
    eigenvalues: Float[Array, " E"]

    @classmethod
    def from_means(
        cls,
        means: Float[Array | np.ndarray, "K m"],
        eigenvalues: Float[Array | np.ndarray, " _"],
        log_weights: Float[Array, " K"],
        dim: int,
    ) -> "SharedReduction":
        """From coordinates of the means in the eigenbasis of the covariance, with the eigenvalue of
        every coordinate or one for all."""
        dtype = log_weights.dtype
        basis: Array | np.ndarray
        core: Array | np.ndarray
        if all(map(is_concrete, (means, eigenvalues))):
            basis, frame = principal_axes(means)
            spectrum = np.broadcast_to(np.asarray(eigenvalues), frame.shape[1:])
            core, distinct = eigenspace_cores(frame, spectrum)
            eigenvalues = distinct
        else:
            lengths, directions = traced_axes(jnp.asarray(means))
            if len(eigenvalues) == 1:
                basis = product(lengths, cholesky(product(directions, directions.T)))
                core = jnp.eye(len(directions))[None]
            else:
                basis, core = lengths, directions.T[:, :, None] * directions.T[:, None, :]
        return cls(
            log_weights=log_weights,
            basis=jnp.asarray(basis, dtype),
            core=jnp.asarray(core, dtype),
            eigenvalues=jnp.asarray(eigenvalues, dtype),
            dimension=dim,
            has_radius=False,
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

    def clean_means(self) -> Float[Array, "K r"]:
        # The cores add up to the identity along the principal axes, but not under a trace.
        return product(self.basis, cholesky(self.core.sum(0)))

    def metric(self, log_snr: Float[Array, ""]) -> tuple[Array, Array]:
        """`alpha / root` and `alpha sigma / root^2`, one an eigenvalue, root^2 the noisy eigenvalue."""
        alpha, sigma = (scale.astype(self.core.dtype) for scale in variance_preserving(log_snr))
        info = jnp.finfo(self.core.dtype)
        # As for mixtures: singular covariances without noise give certain posteriors, not NaN. The root
        # of the variance, because squares of the lengths may overflow.
        floor = jnp.maximum(
            jnp.max(jnp.abs(self.basis), initial=0.0), safe_sqrt(self.eigenvalues.max())
        )
        root = safe_sqrt(alpha**2 * self.eigenvalues + sigma**2)
        root = jnp.maximum(root, jnp.maximum(info.eps * alpha * floor, info.tiny**0.25))
        return alpha / root, (alpha / root) * (sigma / root)

    def pair_snr(self, log_snr: Float[Array, "*T"]) -> tuple[Array, Array]:
        difference = self.basis[0] - self.basis[1]

        def squared(roots: Array) -> Array:
            steps = roots[:, None] * difference[None, :]
            return jnp.einsum("er,ers,es->", steps, self.core, steps, precision="highest")

        def at(level: Array) -> tuple[Array, Array]:
            state, score = self.metric(level)
            return squared(state) / 4, squared(score)

        kappa, score = jax.vmap(at)(log_snr.reshape(-1))
        return kappa.reshape(log_snr.shape), score.reshape(log_snr.shape)

    def _factor(self, roots: Float[Array, " E"]) -> Float[Array, "K r"]:
        """Vectors a_k with Gram matrix `sum_e roots_e^2 M^T Pi_e M`."""
        if len(self.core) == 1:
            return roots[0] * self.basis
        largest = jnp.max(roots)
        share = (roots / jnp.maximum(largest, jnp.finfo(roots.dtype).tiny)) ** 2
        metric = jnp.einsum("e,ers->rs", share, self.core, precision="highest")
        return largest * product(self.basis, cholesky(metric))

    def locations(self, log_snr: Float[Array, ""]) -> Float[Array, "K r"]:
        """Component means of the statistic, in which the noise is standard normal."""
        return self._factor(self.metric(log_snr)[0])

    def statistics(self, log_snr, partition, tilt=None):
        locations = self.locations(log_snr)
        distances = distances_from(locations)
        of_posterior = self._of_posterior(log_snr, partition, tilt)

        def statistics(normals, radial, component):
            # Relative to the component that made the draw: its own logit stays of order one.
            linear = product(normals, locations.T)
            own = jnp.take_along_axis(linear, component[:, None], -1)
            logits = linear - own - distances(component) / 2
            return of_posterior(jax.nn.log_softmax(add_row(logits, self.log_weights), -1))

        return statistics

    def coordinates(self, x: Float[Array, "n d"], offsets: Float[Array, "K d"]) -> Array:
        """Coordinates `(n, r)` of centred states in the span of the means: one product with the data.

        For one isotropic eigenvalue, where the statistic at noise `(alpha, sigma)` is
        `alpha / sqrt(v)` times these plus a normal of variance `sigma^2 / v`.
        """
        # Directions first: products with the means themselves would hide short axes behind long ones.
        middle = offsets.mean(0, keepdims=True)
        frame = product(jnp.linalg.pinv(self.basis - self.basis.mean(0)[None]), offsets - middle)
        # Rows that add up to zero, so that their products with x do; taking the rounding out of these
        # lets XLA centre x inside the product, without a second array of its size.
        shadows = product(x, jnp.concatenate([frame, -frame.sum(0, keepdims=True)]).T)
        shadows = shadows - shadows.mean(-1, keepdims=True)
        origin = self.basis.mean(0) - product(middle, frame.T)[0]
        return add_row(shadows[:, :-1], origin)

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
        signal = self.metric(log_snr)[0][0]
        # x_t = alpha x_0 + sigma eps in units of sqrt(v): given x_0 its noise is sigma, not sqrt(v).
        noise = jnp.where(alpha > 0, sigma * signal / jnp.where(alpha > 0, alpha, 1.0), 1.0)
        state = signal * coordinates + noise * normals
        form = ContrastForm.of_shared(locations, self.log_weights, lambda a: a)
        log_posterior = form(state, near=jax.nn.log_softmax)
        return self._of_posterior(log_snr, partition)(log_posterior)

    def _of_posterior(
        self, log_snr, partition: Partition, tilt: Array | None = None
    ) -> Callable[[Array], PosteriorStatistics]:
        spread = class_spread(self._factor(self.metric(log_snr)[1]), partition)
        return lambda log_p: statistics_of(log_p, spread(log_p), partition, tilt)

    def representative(self) -> GaussianMixture | None:
        count, rank = self.core.shape[:2]
        if not 0 < count * rank <= _MAX_REPRESENTATIVE:
            return None
        factors = [host_factor(np.asarray(core)) for core in self.core]
        coordinates = np.asarray(self.basis, float) @ np.concatenate(factors, axis=-1)
        coordinates = jnp.asarray(coordinates, self.core.dtype)
        spectrum = jnp.repeat(self.eigenvalues, rank)
        return GaussianMixture.diagonal(coordinates, spectrum, self.weights)

    def total_top_eigenvalue(self) -> float:
        rows = weighted_rows(np.asarray(self.basis, float), np.asarray(self.weights, float))
        factor = host_factor(rows.T @ rows)
        parts = factor.T @ np.asarray(self.core, float) @ factor
        return top_of_sum(parts, np.asarray(self.eigenvalues, float))
