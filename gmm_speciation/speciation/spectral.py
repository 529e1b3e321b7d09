"""Spectral criterion: noise drowns the leading direction of the data.

With `Lambda` the largest eigenvalue of the data covariance, speciation is where
`alpha^2 Lambda = sigma^2` (Biroli et al. 2024, arXiv 2402.18491), that is at log-SNR
`-log Lambda`; on the Ornstein-Uhlenbeck clock `t_S = (1/2) log(1 + Lambda)`, of which their tables
use the asymptotic `(1/2) log Lambda`. For labelled data the same with the covariance between classes.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.sparse.linalg import LinearOperator, eigsh

from gmm_speciation.checks import ArrayLike, as_reals, expect
from gmm_speciation.estimate import Estimate
from gmm_speciation.inference import Classes
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import as_partition
from gmm_speciation.reduction import EquidistantReduction, Law, ReducedMixture, means_of
from gmm_speciation.reduction.gram import top_between
from gmm_speciation.speciation.points import SpeciationPoint


def top_eigenvalue(mixture: Law) -> float:
    """Largest eigenvalue of the covariance of the whole mixture, within plus between components."""
    expect(mixture, Law)
    if isinstance(mixture, ReducedMixture):
        return mixture.total_top_eigenvalue()
    weights, offsets = np.asarray(mixture.weights, float), np.asarray(mixture.offsets, float)
    # Rows whose Gram matrix is the covariance between components.
    spread = np.sqrt(weights)[:, None] * (offsets - weights @ offsets)

    def apply(v: np.ndarray) -> np.ndarray:
        within = _within(mixture, jnp.asarray(v, mixture.centre.dtype))
        return spread.T @ (spread @ v) + np.asarray(within, float)

    if mixture.dim <= 2:
        dense = np.stack([apply(e) for e in np.eye(mixture.dim)])
        return float(np.linalg.eigvalsh(dense)[-1])
    operator = LinearOperator((mixture.dim, mixture.dim), matvec=apply, dtype=float)
    # A fixed start makes the Lanczos iteration reproducible.
    start = np.random.default_rng(0).standard_normal(mixture.dim)
    return float(eigsh(operator, k=1, which="LA", return_eigenvectors=False, v0=start)[0])


def between_class_eigenvalue(mixture: Law, partition: Classes = None) -> float:
    """Largest eigenvalue of the covariance of the class means."""
    expect(mixture, Law)
    partition = as_partition(partition, mixture.num_components)
    if isinstance(mixture, EquidistantReduction) and partition.is_trivial:
        return float(mixture.distance) ** 2 / (2 * mixture.num_components)
    weights, labels = np.asarray(mixture.weights, float), np.asarray(partition.labels)
    rows = np.asarray(means_of(mixture), float)
    class_weights = np.bincount(labels, weights)
    sums = np.zeros((len(class_weights), rows.shape[1]))
    np.add.at(sums, labels, weights[:, None] * rows)
    alive = class_weights > 0
    means = sums[alive] / class_weights[alive, None]
    return top_between(means, class_weights[alive])


def sample_top_eigenvalue(x: ArrayLike) -> float:
    """Largest eigenvalue of the covariance of data `(n, d)`.

    Raises:
        ValueError: If there are fewer than two points or they are not finite.
    """
    x = as_reals(x, "x").astype(float)
    if x.ndim != 2 or len(x) < 2 or not np.isfinite(x).all():
        raise ValueError(f"`x` must be at least two finite points, (n, d); got shape {x.shape}.")
    centred = x - x.mean(0)
    return float(np.linalg.norm(centred, 2) ** 2 / len(x))


def spectral_point(eigenvalue: float) -> SpeciationPoint:
    """Where `alpha^2 Lambda = sigma^2`: log-SNR `-log Lambda`.

    Raises:
        ValueError: If the eigenvalue is not finite.
    """
    if not np.isfinite(eigenvalue):
        raise ValueError(f"`eigenvalue` must be finite; got {eigenvalue}.")
    if not eigenvalue > 0:
        return SpeciationPoint(None, "the covariance has no positive eigenvalue")
    return SpeciationPoint(Estimate.exact(np.asarray(-np.log(eigenvalue))))


@eqx.filter_jit
def _within(mixture: GaussianMixture, v: Float[Array, " d"]) -> Float[Array, " d"]:
    """`sum_k w_k Sigma_k v`; compiled, for the iteration calls it many times."""
    covariance, zeros = mixture.covariance, 0 * mixture.offsets
    return covariance.weighted_apply(v[None, :], zeros, mixture.weights[None, :])[0]
