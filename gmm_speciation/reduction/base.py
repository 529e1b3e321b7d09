"""The interface of a reduced mixture: what the class posterior needs, whatever the dimension.

A draw of the noisy state is a component k, r standard normals and, where component variances differ,
one standardised chi-square `u = (chi^2 - nu) / sqrt(2 nu)`.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition
from gmm_speciation.posteriors import PosteriorStatistics, entropy_of
from gmm_speciation.rare import weighed_back

Statistics = Callable[
    [Float[Array, "n r"], Float[Array, " n"], Int[Array, " n"]], PosteriorStatistics
]


class NotReducibleError(ValueError):
    """The posterior of this mixture has no statistic of fewer dimensions that is known here."""


def _number(value: Any) -> Array | np.ndarray:
    # In float64 on the host: d may be greater than any integer of 32 bits.
    return value if isinstance(value, jax.Array) else np.asarray(value, float)


class ReducedMixture(eqx.Module):
    """A mixture as far as its class posterior goes; made by `reduce` or by `families`."""

    log_weights: Float[Array, " K"]  # normalised
    # d as an array, not a part of the structure: one compiled program serves every d.
    dimension: Float[Array | np.ndarray, ""] | int = eqx.field(converter=_number)
    has_radius: bool = eqx.field(static=True)

    @property
    def dim(self) -> int:
        """d; where it is known, not under a transformation of the mixture itself."""
        return int(self.dimension)

    @property
    def radial_dof(self) -> Any:
        """Degrees of freedom of the radial variable; 0 where there is none."""
        return self.dimension - self.num_normals if self.has_radius else 0.0

    @property
    def num_components(self) -> int:
        return self.log_weights.shape[0]

    @property
    def weights(self) -> Float[Array, " K"]:
        return jnp.exp(self.log_weights)

    @property
    @abc.abstractmethod
    def num_normals(self) -> int:
        """How many standard normals a draw of the statistic takes."""

    @property
    @abc.abstractmethod
    def component_points(self) -> Float[Array, "K r"]:
        """Where the components lie in the coordinates of the normals, at one noise level and up to
        scale: which directions tell a component from its nearest neighbours."""

    @abc.abstractmethod
    def clean_means(self) -> Float[Array, "K r"]:
        """Means of the components without noise, up to a rotation and a common shift."""

    def representative(self) -> GaussianMixture | None:
        """A mixture of few dimensions with this reduction and the same modes, or None: means in the
        span of the means, the covariance's eigenvalues along it (concrete values only)."""
        return None

    def mean_square_offset(self) -> Float[Array, ""]:
        """Mean square distance of the component means from their mean."""
        means = self.clean_means()
        return jnp.sum((means - means.mean(0, keepdims=True)) ** 2) / self.num_components

    @property
    @abc.abstractmethod
    def component_variances(self) -> Float[Array, " _"]:
        """Eigenvalues of the component covariances: one an eigenvalue or one a component."""

    @abc.abstractmethod
    def total_top_eigenvalue(self) -> float:
        """Largest eigenvalue of the covariance of the whole mixture (concrete values only)."""

    @abc.abstractmethod
    def statistics(
        self,
        log_snr: Float[Array, ""],
        partition: Partition,
        tilt: Float[Array, " K"] | None = None,
    ) -> Statistics:
        """Entropy, rate and agreement of the exact posterior at one noise level, as a function of

            normals: Standard normals `(n, r)`, `r = num_normals`;
            radial: Standardised chi-square `(chi^2 - nu) / sqrt(2 nu)`, `(n,)`; ignored where nu = 0;
            component: Which component made each draw, `(n,)`.

        With a tilt, of components that were drawn by another distribution (`rare`).
        What does not depend on the draws is worked out before.
        """


class PairReduction(ReducedMixture):
    """A reduction in which two components are told apart by a Gaussian log-ratio."""

    @abc.abstractmethod
    def pair_snr(
        self, log_snr: Float[Array, "*T"]
    ) -> tuple[Float[Array, "*T"], Float[Array, "*T"]]:
        """Of the first two components: the decision SNR kappa, and `sigma^2 |s_0 - s_1|^2`.

        `kappa = alpha^2 Delta^T (alpha^2 Sigma + sigma^2 I)^{-1} Delta / 4`.
        """


def statistics_of(
    log_posterior: Array, spread: Array, partition: Partition, tilt: Array | None = None
) -> PosteriorStatistics:
    log_class = partition.log_sum(log_posterior)
    agreement = jnp.sum(jnp.exp(log_class) ** 2, -1)
    found = PosteriorStatistics(entropy_of(log_class), spread / 2, agreement)
    return weighed_back(found, log_posterior, tilt)
