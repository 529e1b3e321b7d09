"""Statistics of drawn images with the delete-one-batch jackknife, kept so that runs can be paired.

The n images of a run fall into R batches by a shuffle that depends on (n, R) alone. Two runs that drew
image i from the same noise therefore share their batches, and the jackknife of a difference, or of
anything computed from both, sees how much of their noise is common:

    var f = (R - 1) / R sum_r (f_without_r - mean_r f_without_r)^2      (Efron 1982, ch. 3)

Where no image, or every one, is a hit, the jackknife says 0. By Laplace's rule one more image of what did
not come, as of what did, belongs to every count: a share of n has 1 / n^2 of variance besides.

A shuffle, because runs are often listed class by class or with classes in turn: batches of
neighbours, or of every R-th image, would then be classes.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from gmm_speciation.checks import as_values
from gmm_speciation.estimate import Estimate

NUM_BATCHES = 20
_SHUFFLE_SEED = 1982
_LARGEST = 1e100  # of features: products of their squares stay finite


@dataclass(frozen=True, eq=False)
class Jackknifed:
    """A statistic of all batches, and the same without each of the R batches.

    `unseen` is the standard error of what no image shows, of the value's shape or a number for all.
    """

    value: Float[np.ndarray, "..."]
    without: Float[np.ndarray, "batches ..."]
    unseen: Float[np.ndarray, "..."] | float = 0.0

    @property
    def estimate(self) -> Estimate:
        """The value with its standard error, R - 1 degrees of freedom."""
        found = Estimate.jackknife(self.value, self.without)
        return Estimate(found.value, np.hypot(found.stderr, self.unseen), found.dof)

    @property
    def bias(self) -> Float[np.ndarray, "..."]:
        """What the value is too large by, to first order in 1/n (Quenouille 1956)."""
        return np.asarray((len(self.without) - 1) * (self.without.mean(0) - self.value))

    def __sub__(self, other: "Jackknifed") -> "Jackknifed":
        """The paired difference, batch by batch; an image that neither shows is one image."""
        return Jackknifed(
            np.asarray(self.value - other.value),
            self.without - other.without,
            np.maximum(self.unseen, other.unseen),
        )

    def __getitem__(self, index: int) -> "Jackknifed":
        """One entry of an array of statistics."""
        unseen = np.broadcast_to(self.unseen, self.value.shape)
        return Jackknifed(
            np.asarray(self.value[index]), self.without[:, index], np.asarray(unseen[index])
        )


def as_features(features: Any, name: str = "features") -> Float[np.ndarray, "n F"]:
    """Features in float64, in which sums over many images keep their digits.

    Raises:
        ValueError: If they are not a matrix of finite real numbers below 1e100.
    """
    found = as_values(
        features, name, f"be finite and below {_LARGEST:g}", lambda x: np.abs(x) < _LARGEST
    )
    if found.ndim != 2:
        raise ValueError(f"`{name}` must be one row an image, shape (n, F); got {found.shape}.")
    return found


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
    """Sums of rows over each of the L batches, in float64."""
    return np.stack([rows[batches == r].sum(0, dtype=float) for r in range(num_batches)])


def mean_of(
    rows: Float[np.ndarray, "N *event"], batches: Int[np.ndarray, " N"], num_batches: int
) -> Jackknifed:
    """The mean of n rows of numbers in [0, 1]; none seen is not never."""
    sums, counts = batch_sums(rows, batches, num_batches), np.bincount(batches)
    rest = (len(rows) - counts).reshape(-1, *(1,) * (rows.ndim - 1))
    mean = np.asarray(rows.mean(0, dtype=float))
    return Jackknifed(mean, (sums.sum(0) - sums) / rest, 1 / len(rows))
