"""All criteria of one partition side by side, and of every level of a hierarchy.

Entropic, cloning and between-class criteria are properties of a partition. The spectral and the curvature
criterion are properties of a distribution: they see the first split of that distribution, whatever its
classes are called; the note of a bifurcation says which of them part there. Below the top of a hierarchy
the distribution that splits next is the one inside a parent class, so there the curvature criterion is
asked of each parent's own mixture (`tree`).
"""

from collections.abc import Mapping

import equinox as eqx
from jaxtyping import PRNGKeyArray

from gmm_speciation.checks import expect
from gmm_speciation.curves import EntropyCurve
from gmm_speciation.entropy import entropy_curve
from gmm_speciation.estimate import known
from gmm_speciation.inference import Classes
from gmm_speciation.partitions import Hierarchy, Partition, as_partition
from gmm_speciation.reduction import Law
from gmm_speciation.sampling.monte_carlo import DEFAULT_NUM_SAMPLES
from gmm_speciation.speciation.cloning import cloning_point
from gmm_speciation.speciation.entropic import entropic_points, half_entropy_point, plateau
from gmm_speciation.speciation.grids import transition_grid
from gmm_speciation.speciation.points import SpeciationPoint, points_in_words
from gmm_speciation.speciation.spectral import (
    between_class_eigenvalue,
    spectral_point,
    top_eigenvalue,
)
from gmm_speciation.speciation.tree import bifurcations


class SpeciationTimes(eqx.Module):
    """The criteria side by side, for one partition."""

    spectral: SpeciationPoint  # of the whole covariance
    between_class: SpeciationPoint  # spectral, of the class means
    # Curvature, of the whole distribution or within parents: the first split.
    bifurcation: SpeciationPoint
    entropic: SpeciationPoint
    half_entropy: SpeciationPoint
    cloning: SpeciationPoint
    curve: EntropyCurve  # the curve that the entropic points are read from
    later_bifurcations: tuple[SpeciationPoint, ...] = ()  # inside the sides of the splits before

    def __repr__(self) -> str:
        if not known(self.curve.entropy):
            return super().__repr__()
        return f"SpeciationTimes(log-SNR λ of each criterion\n{points_in_words(self.points())}\n)"

    def points(self) -> dict[str, SpeciationPoint]:
        """Name and point of every criterion; splits are numbered by place, peaks by their rate."""
        later = enumerate(self.later_bifurcations, start=2)
        further = enumerate(entropic_points(self.curve)[1:], start=2)
        return {
            "spectral": self.spectral,
            "between-class spectral": self.between_class,
            "bifurcation": self.bifurcation,
            **{f"bifurcation {number}": point for number, point in later},
            "entropic peak": self.entropic,
            **{f"entropic peak {number}": point for number, point in further},
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
        mixture: The clean distribution.
        partition: Class of each component; every component its own by default.
        parents: A coarser partition: bifurcations are then those of the mixtures inside its classes.
            The whole mixture by default.
        num_samples: Draws of X where the curve is sampled.
        key: Random key; `jax.random.key(0)` by default.

    Raises:
        ValueError: If a partition does not fit the mixture, or its classes are the same distribution.
    """
    expect(mixture, Law)
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
    if cloning.log_snr is not None:
        cloning = SpeciationPoint(cloning.log_snr, note=plateau(curve, cloning.log_snr))
    splits = bifurcations(mixture, partition=partition, parents=parents)
    return SpeciationTimes(
        spectral=spectral_point(top_eigenvalue(mixture)),
        between_class=spectral_point(between_class_eigenvalue(mixture, partition)),
        bifurcation=splits[0],
        entropic=entropic_points(curve)[0],
        half_entropy=half_entropy_point(curve),
        cloning=cloning,
        curve=curve,
        later_bifurcations=splits[1:],
    )


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
        mixture: The clean distribution.
        levels: Partitions of its components, coarse to fine, each refining the one before. Without
            names they are called "level 1, 2 classes" and so on.
        num_samples: Draws of X where a curve is sampled.
        key: Random key; `jax.random.key(0)` by default.

    Raises:
        ValueError: As `speciation_times`, or if a level does not refine the one above.
    """
    expect(mixture, Law)
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
