"""Errors of what is no smooth function of means of batches, such as the place of a maximum.

A replicate of the means m, of R batches b_r, is

    m + sum_r g_r b_r / sqrt(R (R - 1)),      g normal with sum 0:

the means with noise of their own covariance, as the batches show it (the multiplier bootstrap: van der Vaart
& Wellner 1996, ch. 2.9, with normal multipliers). It lies around m where the mean of the b_r does not, as
that of the jackknife's pseudo-values. The standard error of a statistic is the root mean square
distance of its replicates from it, with R - 1 degrees of freedom. The delete-one jackknife, which looks a
tenth as far, sees one bump of a noisy maximum or the jump to the next: its 95 % intervals of peaks held
70 to 80 of 100 truths, these hold 93 to 97.

The g come in pairs of opposite signs and have the covariance of independent normals exactly, so that the
error of a linear statistic is that of the jackknife. They are the same at every call: errors repeat, and of
two statistics of the same batches, each read off its replicates, the difference is paired.
"""

import functools

import numpy as np
from jaxtyping import Float
from scipy.linalg import helmert

from gmm_speciation.estimate import Estimate, RealArray

_FEWEST = 32  # pairs of replicates


@functools.cache
def _directions(num_batches: int) -> Float[np.ndarray, "M R"]:
    """g / sqrt(R (R - 1)) of every replicate."""
    pairs = max(_FEWEST, num_batches - 1)
    normal = np.random.default_rng(0).normal(size=(pairs, num_batches - 1))
    axes, triangle = np.linalg.qr(normal)
    white = np.sqrt(pairs) * axes * np.sign(np.diag(triangle))  # the same by every library
    g = white @ helmert(num_batches) / np.sqrt(num_batches * (num_batches - 1))
    return np.concatenate([g, -g])


def replicates(
    mean: Float[np.ndarray, " *shape"], batches: Float[np.ndarray, " R *shape"]
) -> Float[np.ndarray, " M *shape"]:
    """The means with noise as that of their batches.

    Raises:
        ValueError: If there are fewer than two batches.
    """
    if len(batches) < 2:
        raise ValueError(f"A bootstrap needs at least 2 batches; got {len(batches)}.")
    return mean + np.tensordot(_directions(len(batches)), batches, 1)


def error(value: RealArray | float, replicates: RealArray, num_batches: int) -> Estimate:
    """A statistic of all batches with the error that its replicates show."""
    distance = np.asarray(replicates, float) - np.asarray(value, float)
    stderr = np.sqrt(np.mean(distance**2, axis=0))
    return Estimate(np.asarray(value, float), stderr, float(num_batches - 1))
