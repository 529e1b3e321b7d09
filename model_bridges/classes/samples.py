"""How much a curve depends on the classes that stand for large groups.

Each sample of classes is a model of its own, measured on its own; the mean over R samples has an error
from their differences, R - 1 degrees of freedom, which holds the choice of classes and everything else.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from gmm_speciation.curves import EntropyCurve
from gmm_speciation.estimate import Estimate
from model_bridges.classes.groups import ClassGroups
from model_bridges.denoisers.base import Denoiser
from model_bridges.denoisers.subset import ClassSubset


@dataclass(frozen=True, eq=False)
class SampledCurves:
    """One curve a sample of classes, all at the same levels, and how they differ."""

    selections: tuple[ClassGroups, ...]
    curves: tuple[EntropyCurve, ...]

    @property
    def entropy(self) -> Estimate:
        """Mean over the samples; its error holds the choice of classes and everything else."""
        return Estimate.from_samples(np.stack([c.entropy.value for c in self.curves]))

    @property
    def rate(self) -> Estimate:
        """As `entropy`, for the rate."""
        return Estimate.from_samples(np.stack([c.rate.value for c in self.curves]))

    @property
    def spread(self) -> Float[np.ndarray, " L"]:
        """Standard deviation of the entropy between samples, at every level."""
        return np.stack([c.entropy.value for c in self.curves]).std(0, ddof=1)


def over_samples(
    denoiser: Denoiser,
    selection: ClassGroups,
    measure: Callable[[ClassSubset, ClassGroups], EntropyCurve],
    *,
    max_classes: int,
    num_samples: int = 4,
    seed: int = 0,
) -> SampledCurves:
    """The dependence of a curve on the classes that represent the groups.

    Args:
        denoiser: The model with all of its classes.
        selection: What was named.
        measure: Measures a curve; the levels must be the same every time.
        max_classes: Classes in a sample.
        num_samples: Samples.
        seed: Of the samples.

    Raises:
        ValueError: If there are fewer than two samples, or nothing to sample.
    """
    if num_samples < 2:
        raise ValueError(f"A spread needs at least two samples of classes; got {num_samples}.")
    drawn = tuple(selection.sample(max_classes, seed, index) for index in range(num_samples))
    if not drawn[0].is_sample:
        raise ValueError(
            f"the partition names no more than {max_classes} classes: there is nothing to sample."
        )
    curves = tuple(measure(one.restrict(denoiser), one) for one in drawn)
    return SampledCurves(drawn, curves)
