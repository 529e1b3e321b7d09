"""K equal classes whose means are pairwise one distance apart, for K up to millions.

With pairwise distance delta and noisy variance `v = alpha^2 lambda + sigma^2` the classes are orthogonal
means `sqrt(s) e_k` in unit noise,

    s = alpha^2 delta^2 / (2 v),

so the logits given class k are `s [j = k] + sqrt(s) z_j`: no Gram matrix is formed.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.spatial.distance import pdist

from gmm_speciation.checks import ArrayLike, is_concrete
from gmm_speciation.covariances import safe_sqrt
from gmm_speciation.parameters import in_range
from gmm_speciation.processes import variance_preserving
from gmm_speciation.reduction.base import PairReduction, ReducedMixture, statistics_of
from gmm_speciation.reduction.shared import SharedReduction


class EquidistantReduction(PairReduction):
    """Equal components of one variance, every two means `distance` apart."""

    distance: Float[Array, ""]
    variance: Float[Array, ""]

    @classmethod
    def build(
        cls, num_classes: int, distance: ArrayLike, variance: ArrayLike, dim: int
    ) -> "EquidistantReduction":
        """`num_classes` equal components, in any dimension of at least `num_classes - 1`."""
        distance, variance = jnp.asarray(distance, float), jnp.asarray(variance, float)
        distance = in_range(distance, distance + jnp.sqrt(variance))
        return cls(
            log_weights=jnp.full((num_classes,), -np.log(num_classes), distance.dtype),
            dimension=dim,
            has_radius=False,
            distance=distance,
            variance=variance,
        )

    @property
    def num_normals(self) -> int:
        return self.num_components

    @property
    def component_points(self) -> Float[Array, "K K"]:
        return jnp.eye(self.num_components, dtype=self.distance.dtype)

    @property
    def component_variances(self) -> Float[Array, " 1"]:
        return self.variance[None]

    def clean_means(self) -> Float[Array, "K K"]:
        return self.distance / 2**0.5 * jnp.eye(self.num_components, dtype=self.distance.dtype)

    def mean_square_offset(self) -> Float[Array, ""]:
        return self.distance**2 / 2 * (1 - 1 / self.num_components)

    def snr(self, log_snr: Float[Array, "*T"]) -> tuple[Array, Array]:
        """`s = alpha^2 delta^2 / (2 v)`, and `s sigma^2 / v`, its analogue between scores."""
        alpha, sigma = variance_preserving(log_snr)
        # So small a variance is certainty: s stays finite, and so do its products with 0.
        eps = jnp.finfo(sigma.dtype).eps
        root = safe_sqrt(alpha**2 * self.variance + sigma**2)
        longest = jnp.maximum(self.distance, safe_sqrt(self.variance))
        root = jnp.maximum(root, eps * alpha * longest)
        root = jnp.where(root > 0, root, 1.0)  # points that coincide: s = 0
        s = (alpha * self.distance / root) ** 2 / 2
        return s, s * (sigma / root) ** 2

    def pair_snr(self, log_snr: Float[Array, "*T"]) -> tuple[Array, Array]:
        s, score = self.snr(log_snr)
        return s / 2, 2 * score

    def statistics(self, log_snr, partition, tilt=None):
        s, score = self.snr(log_snr)

        def statistics(normals, radial, component):
            own = jax.nn.one_hot(component, self.num_components, dtype=normals.dtype)
            log_posterior = jax.nn.log_softmax(s * own + safe_sqrt(s) * normals, -1)
            # Orthogonal score directions: |a_k|^2 = 1 and a_j . a_k = 0 up to a common shift.
            squares = 2 * log_posterior
            log_class = partition.log_sum(log_posterior)
            inside = jnp.exp(
                partition.log_sum(squares) - jnp.where(jnp.isfinite(log_class), log_class, 0.0)
            )
            spread = jnp.sum(inside, -1) - jnp.sum(jnp.exp(squares), -1)
            return statistics_of(log_posterior, score * spread, partition, tilt)

        return statistics

    def total_top_eigenvalue(self) -> float:
        return float(self.variance + self.distance**2 / (2 * self.num_components))


def as_equidistant(mixture: ReducedMixture) -> EquidistantReduction | None:
    """The same mixture in this form, if it is known to have it to rounding: one variance, equal weights and
    distances."""
    if isinstance(mixture, EquidistantReduction):
        return mixture
    if not isinstance(mixture, SharedReduction) or len(mixture.eigenvalues) != 1:
        return None
    if not (is_concrete(mixture.basis) and is_concrete(mixture.log_weights)):
        return None
    points, weights = np.asarray(mixture.basis, float), np.asarray(mixture.weights, float)
    if not 2 <= len(points) <= points.shape[1] + 1:  # K equidistant points span K - 1 dimensions
        return None
    between = pdist(points / (np.max(np.abs(points), initial=0.0) or 1.0), "sqeuclidean")
    tolerance = 64 * len(points) * np.finfo(mixture.core.dtype).eps
    if np.ptp(between) > tolerance * between.max() or np.ptp(weights) > tolerance:
        return None
    distance = jnp.asarray(pdist(points).mean(), mixture.core.dtype)
    return EquidistantReduction.build(len(points), distance, mixture.eigenvalues[0], mixture.dim)
