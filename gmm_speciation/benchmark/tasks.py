"""A task: a distribution, its classes, a grid of noise levels across the window, and the truth there.

A task is judged on its whole curve: H(C|X), the rate -dH/dlambda, the place of its peak and the 80 %
window. Distributions are built when they are first needed; d = 10^5 costs nothing in a list of tasks.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float

from gmm_speciation.checks import ArrayLike
from gmm_speciation.curves import EntropyCurve
from gmm_speciation.families import empirical
from gmm_speciation.inference import Classes
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition, as_partition
from gmm_speciation.reduction import ReducedMixture
from gmm_speciation.speciation import transition_grid

NUM_LEVELS = 16
_TAIL = 0.01  # share of the information that lies outside either end of a grid


@dataclass(frozen=True)
class Law:
    """A mixture with the classes asked for, and its reduction where `reduce` would not find it.

    Attributes:
        mixture: The distribution.
        partition: Its classes.
        reduced: Its reduction.
        entropy: H(C|X) in nats at a log-SNR, where an integral of the distribution's own gives it.
    """

    mixture: GaussianMixture
    partition: Classes = None
    reduced: ReducedMixture | None = None
    entropy: Callable[[float], float] | None = None

    @property
    def classes(self) -> Partition:
        return as_partition(self.partition, self.mixture.num_components)


@dataclass(frozen=True)
class Task:
    """An entropy to estimate.

    Attributes:
        id: Stable name; rows of different runs are compared by it.
        build: Makes the distribution.
        what: One line for the reader.
        min_samples: Fewest samples that make sense, such as a few a class; the task has no smaller sizes.
        family: Of like tasks, counted as one cluster.
        log_snr: Strictly decreasing noise levels; those of `curve`, or found from the truth, by default.
        curve: The truth on these levels, where the caller knows it.
    """

    id: str
    build: Callable[[], Law]
    what: str
    min_samples: int = 2
    family: str = "own"
    log_snr: Float[np.ndarray, " T"] | None = None
    curve: EntropyCurve | None = field(default=None, repr=False)

    def __post_init__(self):
        if not self.id or not set(self.id) <= set("abcdefghijklmnopqrstuvwxyz0123456789-._"):
            raise ValueError(
                "A task's id is made of small letters, digits, -, . and _, so that it can name a "
                f"file; got {self.id!r}."
            )
        if self.curve is not None and self.log_snr is not None:
            own, levels = np.asarray(self.curve.log_snr), np.asarray(self.log_snr, float)
            if own.shape != levels.shape or not np.allclose(own, levels, rtol=0, atol=1e-9):
                raise ValueError(
                    f"The `curve` of task {self.id!r} must be on its levels, `log_snr`; it has "
                    f"{len(own)} from {own[0]:.4g} to {own[-1]:.4g}. Leave `log_snr` out to take those."
                )

    @classmethod
    def of(cls, id: str, mixture: GaussianMixture, partition: Classes = None, **options) -> "Task":
        """A task on a mixture at hand; `options` as the fields."""
        return cls(id, lambda: Law(mixture, partition), **{"what": id, **options})

    @classmethod
    def from_data(
        cls, id: str, x: ArrayLike, labels: ArrayLike, variance: float = 0.0, **options
    ) -> "Task":
        """A task on data `(n, d)` with integer labels `(n,)`: their empirical mixture is the truth.

        Raises:
            ValueError: If the data are not finite, a class has no sample, or shapes disagree.
        """
        points, classes = np.asarray(x, float), np.asarray(labels)
        if points.ndim != 2 or classes.shape != points.shape[:1]:
            raise ValueError(
                f"Data must be (n, d) with one label each; got {points.shape}, {classes.shape}."
            )
        if not np.isfinite(points).all():
            bad = int(np.sum(~np.isfinite(points).all(1)))
            raise ValueError(f"Data must be finite; {bad} of {len(points)} rows are not.")
        return cls.of(id, empirical(points, variance), Partition(classes), **options)

    @cached_property
    def law(self) -> Law:
        return self.build()

    @cached_property
    def grid(self) -> Float[np.ndarray, " T"]:
        """The noise levels, from signal to noise, on which the curve is estimated."""
        if self.log_snr is not None:
            return np.asarray(self.log_snr, float)
        if self.curve is not None:
            return np.asarray(self.curve.log_snr)
        law = self.law
        return transition_grid(
            law.reduced or law.mixture, partition=law.classes, num_points=NUM_LEVELS, tail=_TAIL
        )
