"""All criteria of one partition side by side, and of every level of a hierarchy.

Entropic, cloning and between-class criteria are properties of a partition. The spectral and the
curvature criterion are properties of a law: they see the first split of that law, whatever its
classes are called. Below the top of a hierarchy the law that splits next is the one inside a parent
class, so there the curvature criterion is asked of each parent's own mixture.
"""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from gmm_speciation.curves import EntropyCurve
from gmm_speciation.entropy import entropy_curve
from gmm_speciation.inference import Classes
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.monte_carlo import DEFAULT_NUM_SAMPLES
from gmm_speciation.partitions import Hierarchy, Partition, as_partition
from gmm_speciation.reduction import Law, ReducedMixture
from gmm_speciation.speciation.bifurcation import curvature_point
from gmm_speciation.speciation.cloning import cloning_point
from gmm_speciation.speciation.entropic import entropic_point, half_entropy_point
from gmm_speciation.speciation.grids import transition_grid
from gmm_speciation.speciation.points import SpeciationPoint
from gmm_speciation.speciation.spectral import (
    between_class_eigenvalue,
    spectral_point,
    top_eigenvalue,
)


class SpeciationTimes(eqx.Module):
    """The criteria side by side, for one partition."""

    spectral: SpeciationPoint  # of the whole covariance
    between_class: SpeciationPoint  # spectral, of the class means
    bifurcation: SpeciationPoint  # curvature, of the whole law or within parents
    entropic: SpeciationPoint
    half_entropy: SpeciationPoint
    cloning: SpeciationPoint
    curve: EntropyCurve  # the curve that the entropic points are read from

    def points(self) -> dict[str, SpeciationPoint]:
        """Name and point of every criterion."""
        return {
            "spectral": self.spectral,
            "between-class spectral": self.between_class,
            "bifurcation": self.bifurcation,
            "entropic peak": self.entropic,
            "half entropy": self.half_entropy,
            "cloning": self.cloning,
        }


def speciation_times(
    mixture: Law,
    *,
    partition: Classes = None,
    parents: Classes = None,
    num_samples: int = DEFAULT_NUM_SAMPLES,
    key: PRNGKeyArray | None = None,
) -> SpeciationTimes:
    """All criteria of one partition, on the log-SNR axis.

    Args:
        mixture: The clean law.
        partition: Class of each component; every component its own by default.
        parents: A coarser partition: the bifurcation is then that of the mixture inside a parent
            class, of the first parent to split where they differ. The whole mixture by default.
        num_samples: Draws of X where the curve is sampled.
        key: Random key; `jax.random.key(0)` by default.

    Raises:
        ValueError: If a partition does not fit the mixture, or its classes are the same law.
    """
    partition = as_partition(partition, mixture.num_components)
    grid = transition_grid(mixture, partition=partition, key=key)
    curve = entropy_curve(mixture, grid, partition=partition, num_samples=num_samples, key=key)
    cloning = cloning_point(
        mixture,
        partition=partition,
        log_snr_range=(float(grid[-1]), float(grid[0])),
        num_samples=num_samples,
        key=key,
    )
    return SpeciationTimes(
        spectral=spectral_point(top_eigenvalue(mixture)),
        between_class=spectral_point(between_class_eigenvalue(mixture, partition)),
        bifurcation=(
            curvature_point(mixture) if parents is None else first_bifurcation(mixture, parents)
        ),
        entropic=entropic_point(curve),
        half_entropy=half_entropy_point(curve),
        cloning=cloning,
        curve=curve,
    )


def first_bifurcation(mixture: Law, parents: Classes) -> SpeciationPoint:
    """The noisiest curvature point of the mixtures inside each parent class.

    None where no parent has one. Each is the criterion of the law given the parent, which at that
    noise is already decided if the levels are well apart.

    Raises:
        ValueError: If the partition does not fit the mixture.
    """
    partition = as_partition(parents, mixture.num_components)
    if isinstance(mixture, ReducedMixture):
        representative = mixture.representative()
        if representative is None:
            return curvature_point(mixture)  # says why there is none
        mixture = representative
    points = [curvature_point(part) for part in _parts(mixture, partition.labels)]
    places = [np.inf if p.log_snr is None else float(p.log_snr.value) for p in points]
    return points[int(np.argmin(places))]


def per_level(
    mixture: Law,
    levels: Hierarchy | Mapping[str, Partition],
    *,
    num_samples: int = DEFAULT_NUM_SAMPLES,
    key: PRNGKeyArray | None = None,
) -> dict[str, SpeciationTimes]:
    """All criteria of every level, by its name; bifurcation inside the classes of the level above.

    Entropic, cloning and between-class points are those of the level's partition of the whole
    mixture, so they include the decisions of the levels above.

    Args:
        mixture: The clean law.
        levels: Partitions of its components, coarse to fine, each refining the one before. Without
            names they are called "level 1, 2 classes" and so on.
        num_samples: Draws of X where a curve is sampled.
        key: Random key; `jax.random.key(0)` by default.

    Raises:
        ValueError: As `speciation_times`, or if a level does not refine the one above.
    """
    if isinstance(levels, Hierarchy):
        levels = {
            f"level {depth}, {level.num_classes} classes": level
            for depth, level in enumerate(levels, start=1)
        }
    above = [None, *Hierarchy(list(levels.values()))][:-1]
    return {
        name: speciation_times(
            mixture, partition=level, parents=parents, num_samples=num_samples, key=key
        )
        for (name, level), parents in zip(levels.items(), above, strict=True)
    }


def _parts(mixture: GaussianMixture, labels: tuple[int, ...]) -> list[GaussianMixture]:
    """The law given each class; classes of weight 0 have none."""
    parts = []
    for label in range(max(labels) + 1):
        index = jnp.asarray([k for k, own in enumerate(labels) if own == label])
        log_weights = mixture.log_weights[index]
        total = jax.nn.logsumexp(log_weights)
        if not jnp.isfinite(total):
            continue
        offsets, covariance = mixture.offsets[index], mixture.covariance
        if not covariance.shared:
            covariance = jax.tree.map(lambda leaf, i=index: leaf[i], covariance)
        middle = offsets.mean(0)
        parts.append(
            GaussianMixture(
                log_weights - total, mixture.centre + middle, offsets - middle[None, :], covariance
            )
        )
    return parts
