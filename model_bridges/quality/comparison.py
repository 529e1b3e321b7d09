"""Runs of two guidances on the same noise, and one guidance along its strengths.

The difference of a metric is jackknifed over the batches that both runs share; whole curves are compared by
their fronts (`frontier`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from gmm_speciation.estimate import Estimate
from model_bridges.quality.assessment import Quality
from model_bridges.quality.jackknife import Jackknifed


def paired_difference(a: Quality, b: Quality, metric: str) -> Estimate:
    """`metric(a) - metric(b)` of two runs that drew image i from the same noise.

    Of shares that agree on every image the error is that of one image in n: they may differ on the next.

    Raises:
        ValueError: If the runs differ in size, batches, reference or removed class, or lack the metric.
    """
    check_paired([a, b])
    return (a.replicate(metric) - b.replicate(metric)).estimate


def check_paired(runs: Sequence[Quality]) -> None:
    """Refuse runs that cannot be paired.

    Raises:
        ValueError: If they differ in size, batches, reference or removed class.
    """
    kinds = {
        (q.num_images, len(q.replicates["frechet"].without), q.removed, q.reference) for q in runs
    }
    if len(kinds) > 1:
        raise ValueError(
            "paired runs must agree in images, batches, removed class and reference; got "
            f"{' and '.join(map(str, sorted(kinds, key=str)[:2]))}."
        )


@dataclass(frozen=True, eq=False)
class QualityCurve:
    """One kind of guidance along its strengths."""

    name: str
    strengths: Float[np.ndarray, " S"]  # strictly increasing
    points: tuple[Quality, ...]

    def __post_init__(self) -> None:
        if len(self.strengths) != len(self.points) or len(self.points) < 2:
            raise ValueError(
                f"a curve needs one run a strength, at least two; got {len(self.strengths)} strengths and "
                f"{len(self.points)} runs."
            )
        if not (np.diff(self.strengths) > 0).all():
            raise ValueError(f"`strengths` must increase strictly; got {self.strengths.tolist()}.")
        check_paired(self.points)

    def metric(self, metric: str) -> Jackknifed:
        """A scalar metric along the curve, `(S,)`. Raises ValueError if there is no such metric."""
        own = [point.replicate(metric) for point in self.points]
        return Jackknifed(
            np.stack([m.value for m in own]),
            np.stack([m.without for m in own], axis=1),
            np.array([float(m.unseen) for m in own]),
        )
