"""What the class posterior needs of a mixture, at every noise level, whatever the dimension.

*Shared covariance*, any kind (`shared`): a statistic of at most K - 1 dimensions, its law fixed by one
Gram matrix of the means an eigenvalue of the covariance. *Equidistant classes* (`equidistant`): one
number. *Isotropic variances that differ* (`radial`): the coordinates in the span of the means and one
radius. The cost of a draw is O(K r), r the rank of the means, and no array has d entries.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from gmm_speciation.checks import expect, is_concrete, known
from gmm_speciation.covariances import Full, Isotropic, LowRank, product
from gmm_speciation.inference import Classes
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import as_partition
from gmm_speciation.posteriors import PosteriorStatistics
from gmm_speciation.reduction.base import NotReducibleError, PairReduction, ReducedMixture
from gmm_speciation.reduction.equidistant import EquidistantReduction, as_equidistant
from gmm_speciation.reduction.radial import RadialReduction, radial_reduction
from gmm_speciation.reduction.shared import SharedReduction

__all__ = [
    "EquidistantReduction",
    "Law",
    "NotReducibleError",
    "PairReduction",
    "RadialReduction",
    "ReducedMixture",
    "SharedReduction",
    "as_equidistant",
    "mean_square_spread",
    "means_of",
    "radial_reduction",
    "reduce",
    "reduced_statistics",
]

Law = GaussianMixture | ReducedMixture  # what entropies and criteria take


def reduce(mixture: GaussianMixture) -> ReducedMixture:
    """What the class posterior needs of the mixture at every noise level.

    Covers a shared covariance of any kind, and isotropic variances that differ.

    Raises:
        NotReducibleError: If the components have different covariances that are not isotropic.
    """
    expect(mixture, GaussianMixture)
    covariance = mixture.covariance
    offsets: Array | np.ndarray = mixture.offsets
    few = isinstance(covariance, Isotropic) and mixture.dim < mixture.num_components
    if covariance.shared:
        if isinstance(covariance, Isotropic):
            eigenvalues = covariance.variance
            if few:  # the coordinates are the shorter statistic
                return SharedReduction(
                    log_weights=mixture.log_weights,
                    basis=mixture.offsets,
                    core=jnp.eye(mixture.dim, dtype=mixture.offsets.dtype)[None],
                    eigenvalues=eigenvalues,
                    dimension=mixture.dim,
                    has_radius=False,
                )
        elif isinstance(covariance, LowRank):
            offsets, eigenvalues = covariance.eigenspaces(mixture.offsets)
        else:
            eigenvalues = known(covariance.eigenvalues(mixture.dim))[0]
            if isinstance(covariance, Full):
                offsets = _turned(mixture.offsets, known(covariance.basis)[0])
        return SharedReduction.from_means(offsets, eigenvalues, mixture.log_weights, mixture.dim)
    if isinstance(covariance, Isotropic):
        if few:
            return RadialReduction(
                log_weights=mixture.log_weights,
                points=mixture.offsets,
                variances=covariance.variance,
                dimension=mixture.dim,
                has_radius=False,
            )
        return radial_reduction(
            mixture.offsets, covariance.variance, mixture.log_weights, mixture.dim
        )
    raise NotReducibleError(
        f"{mixture.num_components} components have {covariance.kind} covariances "
        "that differ: the log-odds are then quadratic in all coordinates and no statistic of fewer "
        "dimensions is known. Sample it (`method='monte-carlo'`), or share the covariance."
    )


def _turned(offsets: Array, basis: Array | np.ndarray) -> Array | np.ndarray:
    """Means in the eigenbasis, in float64 where they are known."""
    if is_concrete(offsets) and is_concrete(basis):
        return np.asarray(offsets, float) @ np.asarray(basis, float)
    return product(offsets, jnp.asarray(basis))


def reduced_statistics(
    mixture: ReducedMixture,
    log_snr: Float[Array, ""],
    normals: Float[Array, "n r"],
    radial: Float[Array, " n"],
    component: Int[Array, " n"],
    partition: Classes = None,
) -> PosteriorStatistics:
    """`mixture.statistics` with any way to say a partition. Safe under jit, vmap and grad.

    Raises:
        ValueError: If the partition does not fit the mixture.
    """
    partition = as_partition(partition, mixture.num_components)
    return mixture.statistics(log_snr, partition)(normals, radial, component)


def means_of(mixture: Law) -> Float[Array, "K m"]:
    """Means of the components without noise, of a reduced mixture up to a rotation; up to a common shift."""
    return mixture.clean_means() if isinstance(mixture, ReducedMixture) else mixture.offsets


@np.errstate(over="ignore")
def mean_square_spread(mixture: Law) -> float:
    """Mean square distance of the component means from their mean, or the largest component variance
    where that is more: the scale on which noise acts (concrete values only)."""
    if isinstance(mixture, ReducedMixture):
        spread, variance = mixture.mean_square_offset(), jnp.max(mixture.component_variances)
    else:
        offsets = np.asarray(mixture.offsets)
        spread = np.mean(np.sum((offsets - offsets.mean(0)) ** 2, -1))
        variance = mixture.covariance.largest_eigenvalue()
    return max(float(spread), float(variance))
