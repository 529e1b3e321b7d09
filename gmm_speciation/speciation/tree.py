"""The tree of bifurcations: what parts first, and what parts inside the sides of every split.

The curvature criterion sees the first split of a distribution. What parts next parts inside one of its
sides, so it is asked again of the distribution given that the component is on that side, which at its noise
is already decided if the splits are well apart. A side that holds a single class has nothing more to
decide.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gmm_speciation.checks import expect
from gmm_speciation.inference import Classes
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import as_partition
from gmm_speciation.reduction import EquidistantReduction, Law, ReducedMixture
from gmm_speciation.speciation.bifurcation import curvature_point
from gmm_speciation.speciation.points import SpeciationPoint
from gmm_speciation.speciation.splits import Split, in_words

_TOGETHER = 1e-6  # in log-SNR: splits that a symmetry makes one
_NAMED = 60  # equidistant components that are named one by one


def first_bifurcation(mixture: Law, parents: Classes) -> SpeciationPoint:
    """The noisiest curvature point of the mixtures inside each parent class.

    None where no parent has one. Each is the criterion of the distribution given the parent, which at that
    noise is already decided if the levels are well apart.

    Raises:
        ValueError: If the partition does not fit the mixture.
    """
    expect(mixture, Law)
    return next(_splits(mixture, None, parents))


def bifurcations(
    mixture: Law, *, partition: Classes = None, parents: Classes = None
) -> tuple[SpeciationPoint, ...]:
    """All splits that tell classes apart, from noise to signal; one without a place if there is none.

    Args:
        mixture: The clean distribution.
        partition: Class of each component; every component its own by default.
        parents: A coarser partition, whose classes count as decided; the whole mixture by default.

    Raises:
        ValueError: If a partition does not fit the mixture.
    """
    expect(mixture, Law)
    return tuple(_splits(mixture, partition, parents))


class _Side(NamedTuple):
    """Components that are together, where they part, and that log-SNR."""

    members: tuple[int, ...]
    point: SpeciationPoint
    log_snr: float


def _splits(mixture: Law, partition: Classes, parents: Classes) -> Iterator[SpeciationPoint]:
    if isinstance(mixture, ReducedMixture):
        law = None if isinstance(mixture, EquidistantReduction) else mixture.representative()
        if law is None:
            point = curvature_point(mixture)  # all from each other, or why nothing is known
            if point.log_snr is not None and mixture.num_components <= _NAMED:
                splits: tuple[Split, ...] = (tuple((k,) for k in range(mixture.num_components)),)
                note = in_words(splits, as_partition(partition, mixture.num_components))
                point = SpeciationPoint(point.log_snr, note=note, splits=splits)
            yield point
            return
        mixture = law
    classes = as_partition(partition, mixture.num_components)
    above = [0] * mixture.num_components if parents is None else parents
    labels = as_partition(above, mixture.num_components).labels
    waiting: list[_Side] = []
    reasons = set()

    def ask(members: tuple[int, ...], after: float = -np.inf) -> None:
        """Where these part, if they hold several classes and do so at less noise than `after`."""
        if len({classes.labels[k] for k in members}) < 2:
            reasons.add("a single class has nothing to decide")
            return
        point = _inside(mixture, members)
        if point.log_snr is None:
            reasons.add(str(point.reason))
        elif (place := float(point.log_snr.value)) > after:
            waiting.append(_Side(members, point, place))

    alive = np.flatnonzero(np.isfinite(np.asarray(mixture.log_weights)))
    for label in range(max(labels) + 1):
        ask(tuple(int(k) for k in alive if labels[k] == label))
    if not waiting:
        yield SpeciationPoint(None, "; ".join(sorted(reasons)))
    while waiting:
        first = min(side.log_snr for side in waiting)
        now = [side for side in waiting if side.log_snr <= first + _TOGETHER]
        waiting = [side for side in waiting if side.log_snr > first + _TOGETHER]
        splits = tuple(split for side in now for split in side.point.splits)
        yield SpeciationPoint(now[0].point.log_snr, note=in_words(splits, classes), splits=splits)
        for members in (members for split in splits for members in split):
            ask(members, first)


def _inside(mixture: GaussianMixture, members: tuple[int, ...]) -> SpeciationPoint:
    """The curvature point of the distribution given that the component is one of these."""
    index = np.array(members)
    log_weights, centre, offsets = (
        np.asarray(part) for part in (mixture.log_weights, mixture.centre, mixture.offsets)
    )
    log_weights, middle = log_weights[index], offsets[index].mean(0)
    covariance, dtype = mixture.covariance, mixture.offsets.dtype
    if not covariance.shared:
        covariance = jax.tree.map(lambda leaf: leaf[index], covariance)
    law = GaussianMixture(
        jnp.asarray(log_weights - np.logaddexp.reduce(log_weights), dtype),
        jnp.asarray(centre + middle, dtype),
        jnp.asarray(offsets[index] - middle[None, :], dtype),
        covariance,
    )
    point = curvature_point(law)
    splits = tuple(
        tuple(tuple(members[k] for k in side) for side in split) for split in point.splits
    )
    return SpeciationPoint(point.log_snr, point.reason, point.note, splits)
