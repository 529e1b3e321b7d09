"""Named mixtures of the speciation literature.

symmetric pair   +-m, m = separation (1, ..., 1), so |m|^2 = d separation^2 (Biroli et al. 2024)
equidistant      K means with one pairwise distance
equal means      classes N(0, v_c I) that differ in variance only (Achilli et al. 2026)
hierarchy        a tree of means, one distance a level
paper toy        four points -8, -4, 6, 8 on a line (Handke et al. 2025)
empirical        a component on every data point: memorisation as a mixture
"""

from collections.abc import Sequence
from typing import Literal, overload

import jax.numpy as jnp
import numpy as np
from scipy.linalg import helmert

from gmm_speciation.checks import ArrayLike, as_count, as_float_array
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.parameters import in_range
from gmm_speciation.partitions import Hierarchy, Partition
from gmm_speciation.reduction import (
    EquidistantReduction,
    ReducedMixture,
    SharedReduction,
    radial_reduction,
)


def _positive(value: float, name: str) -> float:
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"`{name}` must be positive and finite; got {value}.")
    return float(value)


def _variance(value: float) -> float:
    if not (np.isfinite(value) and value >= 0):
        raise ValueError(f"`variance` must not be negative, infinite or NaN; got {value}.")
    return float(value)


def _dimension(dim: int, needed: int, reason: str) -> int:
    if int(dim) != dim or dim < needed:
        raise ValueError(
            f"`dim` must be a whole number of at least {needed} ({reason}); got {dim}."
        )
    return int(dim)


@overload
def symmetric_pair(
    dim: int, separation: float = 1.0, variance: float = 1.0, reduced: Literal[False] = False
) -> GaussianMixture: ...
@overload
def symmetric_pair(
    dim: int, separation: float = 1.0, variance: float = 1.0, *, reduced: Literal[True]
) -> ReducedMixture: ...
def symmetric_pair(
    dim: int, separation: float = 1.0, variance: float = 1.0, reduced: bool = False
) -> GaussianMixture | ReducedMixture:
    """Two equal classes at `+-separation (1, ..., 1)` with covariance `variance I`.

    `reduced=True` gives the reduction without forming a mean, for any dimension.

    Raises:
        ValueError: If `dim < 1`, or separation or variance is not valid.
    """
    dim, separation = _dimension(dim, 1, "a line"), _positive(separation, "separation")
    if reduced:
        return EquidistantReduction.build(
            2, 2 * np.sqrt(float(dim)) * separation, _variance(variance), dim
        )
    mean = np.full((1, dim), separation)
    return GaussianMixture.isotropic(np.concatenate([mean, -mean]), variance)


@overload
def equidistant(
    num_classes: int,
    dim: int,
    distance: float,
    variance: float = 1.0,
    reduced: Literal[False] = False,
) -> GaussianMixture: ...
@overload
def equidistant(
    num_classes: int, dim: int, distance: float, variance: float = 1.0, *, reduced: Literal[True]
) -> ReducedMixture: ...
def equidistant(
    num_classes: int, dim: int, distance: float, variance: float = 1.0, reduced: bool = False
) -> GaussianMixture | ReducedMixture:
    """`num_classes` equal classes, every two means `distance` apart, centred on the origin.

    `reduced=True` gives the reduction: any dimension, and classes by the million.

    Raises:
        ValueError: If `dim < num_classes - 1`: so many equidistant points do not fit.
    """
    num_classes = as_count(num_classes, "num_classes")
    dim = _dimension(dim, max(num_classes - 1, 1), "equidistant points need num_classes - 1")
    distance = _positive(distance, "distance")
    if reduced:
        return EquidistantReduction.build(num_classes, distance, _variance(variance), dim)
    means = np.zeros((num_classes, dim))
    means[:, : max(num_classes - 1, 1)] = _simplex(num_classes) * distance
    return GaussianMixture.isotropic(means, variance)


@overload
def equal_means(
    dim: int, variances: ArrayLike, reduced: Literal[False] = False
) -> GaussianMixture: ...
@overload
def equal_means(dim: int, variances: ArrayLike, *, reduced: Literal[True]) -> ReducedMixture: ...
def equal_means(
    dim: int, variances: ArrayLike, reduced: bool = False
) -> GaussianMixture | ReducedMixture:
    """Equal classes `N(0, v_c I)`, one a variance; `reduced=True` for any dimension.

    Raises:
        ValueError: If there is no variance or one is negative.
    """
    variances = np.atleast_1d(np.asarray(variances, float))
    dim = _dimension(dim, 1, "a line")
    if reduced:
        for variance in variances:
            _variance(variance)
        log_weights = jnp.full((len(variances),), -np.log(len(variances)))
        largest = jnp.asarray(variances.max())
        means = in_range(jnp.zeros((len(variances), 1)), jnp.sqrt(largest))
        return radial_reduction(means, jnp.asarray(variances), log_weights, dim)
    return GaussianMixture.isotropic(np.zeros((len(variances), dim)), variances)


@overload
def hierarchy(
    branching: Sequence[int],
    distances: Sequence[float],
    dim: int,
    variance: float = 1.0,
    reduced: Literal[False] = False,
) -> tuple[GaussianMixture, Hierarchy]: ...
@overload
def hierarchy(
    branching: Sequence[int],
    distances: Sequence[float],
    dim: int,
    variance: float = 1.0,
    *,
    reduced: Literal[True],
) -> tuple[ReducedMixture, Hierarchy]: ...
def hierarchy(
    branching: Sequence[int],
    distances: Sequence[float],
    dim: int,
    variance: float = 1.0,
    reduced: bool = False,
) -> tuple[GaussianMixture | ReducedMixture, Hierarchy]:
    """A tree of classes: `branching[l]` children a node at level l, `distances[l]` apart.

    Children of one node are equidistant, in dimensions that no other level uses. Returns the mixture
    of the leaves and the partitions from the top level down to the leaves. `reduced=True` gives the
    reduction, for any dimension.

    Raises:
        ValueError: If the two sequences disagree, a branching is not a whole number of at least 2, or
            `dim` is too small.
    """
    branching = tuple(as_count(width, "branching", 2) for width in branching)
    distances = tuple(distances)
    if len(branching) != len(distances) or not branching:
        raise ValueError(
            "`branching` and `distances` need one entry a level, top level first; got "
            f"{len(branching)} and {len(distances)}."
        )
    used = sum(b - 1 for b in branching)
    dim = _dimension(dim, used, "each level takes branching - 1")
    num_leaves = int(np.prod(branching))
    leaves = np.stack(np.unravel_index(np.arange(num_leaves), branching))  # (levels, leaves)
    means, start, partitions = np.zeros((num_leaves, used)), 0, []
    for level, (width, distance) in enumerate(zip(branching, distances, strict=True)):
        block = _simplex(width) * _positive(distance, "distances")
        means[:, start : start + width - 1] = block[leaves[level]]
        start += width - 1
        path = np.ravel_multi_index(tuple(leaves[: level + 1]), branching[: level + 1])
        partitions.append(Partition(path))
    levels = Hierarchy(partitions)
    if reduced:
        log_weights = jnp.full((num_leaves,), -np.log(num_leaves))
        eigenvalue = jnp.asarray([_variance(variance)])
        extent = jnp.asarray(np.ptp(means, axis=0).max()) + jnp.sqrt(eigenvalue[0])
        centres = in_range(jnp.asarray(means), extent)
        return SharedReduction.from_means(centres, eigenvalue, log_weights, dim), levels
    means = np.pad(means, [(0, 0), (0, dim - used)])
    return GaussianMixture.isotropic(means, variance), levels


def paper_toy(variance: float = 1.0) -> tuple[GaussianMixture, Hierarchy]:
    """Four equal components at -8, -4, 6, 8 on a line; decisions {-8, -4} | {6, 8}, then each.

    Handke et al. 2025, arXiv 2506.10433.
    """
    mixture = GaussianMixture.isotropic(np.array([[-8.0], [-4.0], [6.0], [8.0]]), variance)
    return mixture, Hierarchy([Partition([0, 0, 1, 1]), Partition.trivial(4)])


def empirical(points: ArrayLike, variance: float = 0.0) -> GaussianMixture:
    """A component of the given variance on every data point, shape `(n, d)`: the distribution a perfect
    memoriser would learn.

    Raises:
        ValueError: If the points are not `(n, d)` and finite, or the variance is negative.
    """
    return GaussianMixture.isotropic(as_float_array(points, "points"), variance)


def _simplex(num_points: int) -> np.ndarray:
    """`(K, max(K - 1, 1))` centred points at pairwise distance 1."""
    if num_points == 1:
        return np.zeros((1, 1))
    # Unit vectors over sqrt(2) in a basis of the hyperplane that is the same on every processor.
    return -helmert(num_points).T / np.sqrt(2)
