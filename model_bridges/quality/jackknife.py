"""Statistics of drawn images with the delete-one-batch jackknife, kept so that runs can be paired.

The n images of a run fall into R batches by a shuffle that depends on (n, R) alone. Two runs that drew
image i from the same noise therefore share their batches, and the jackknife of a difference, or of
anything computed from both, sees how much of their noise is common:

    var f = (R - 1) / R sum_r (f_without_r - mean_r f_without_r)^2      (Efron 1982, ch. 3)

A shuffle, because runs are often listed class by class or with classes in turn: batches of
neighbours, or of every R-th image, would then be classes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from gmm_speciation.estimate import Estimate

NUM_BATCHES = 20
_SHUFFLE_SEED = 1982


@dataclass(frozen=True, eq=False)
class Jackknifed:
    """A statistic of all batches, and the same without each of the R batches."""

    value: Float[np.ndarray, "..."]
    without: Float[np.ndarray, "batches ..."]

    @property
    def estimate(self) -> Estimate:
        """The value with its standard error, R - 1 degrees of freedom."""
        return Estimate.jackknife(self.value, self.without)

    @property
    def bias(self) -> Float[np.ndarray, "..."]:
        """What the value is too large by, to first order in 1/n (Quenouille 1956)."""
        return np.asarray((len(self.without) - 1) * (self.without.mean(0) - self.value))

    def __sub__(self, other: "Jackknifed") -> "Jackknifed":
        """The paired difference, batch by batch."""
        return Jackknifed(np.asarray(self.value - other.value), self.without - other.without)

    def __getitem__(self, index: int) -> "Jackknifed":
        """One entry of an array of statistics."""
        return Jackknifed(np.asarray(self.value[index]), self.without[:, index])


def batch_index(num_images: int, num_batches: int) -> Int[np.ndarray, " n"]:
    """The batch 0 to R - 1 of every image; sizes differ by at most one.

    Raises:
        ValueError: If there are fewer than two batches, or fewer than two images a batch.
    """
    if not 2 <= num_batches <= num_images // 2:
        raise ValueError(
            f"`num_batches` must be at least 2, with two images or more each; got {num_batches} batches "
            f"of {num_images} images."
        )
    shuffle = np.random.default_rng(_SHUFFLE_SEED).permutation(num_images)
    index = np.empty(num_images, np.int64)
    index[shuffle] = np.arange(num_images) % num_batches
    return index


def batch_sums(
    rows: Float[np.ndarray, "N *event"], batches: Int[np.ndarray, " N"], num_batches: int
) -> Float[np.ndarray, "L *event"]:
    """Sums of rows over each of the L batches."""
    return np.stack([rows[batches == r].sum(0) for r in range(num_batches)])


def mean_of(
    rows: Float[np.ndarray, "N *event"], batches: Int[np.ndarray, " N"], num_batches: int
) -> Jackknifed:
    """The mean of rows."""
    sums, counts = batch_sums(rows, batches, num_batches), np.bincount(batches)
    rest = (len(rows) - counts).reshape(-1, *(1,) * (rows.ndim - 1))
    return Jackknifed(np.asarray(rows.mean(0)), (sums.sum(0) - sums) / rest)
