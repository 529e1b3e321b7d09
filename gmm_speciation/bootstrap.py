"""Errors of what is no smooth function of means of batches, such as the place of a maximum.

A replicate is a mean of the R batches with weights

    w_r = 1 / R + g_r / sqrt(R (R - 1)),      g normal with sum 0:

the means with noise of their own covariance, as the batches show it (the multiplier bootstrap: van der Vaart
& Wellner 1996, ch. 2.9, with normal multipliers). The standard error of a statistic is the root mean square
distance of its replicates from it, with R - 1 degrees of freedom. The delete-one jackknife, which looks a
tenth as far, sees one bump of a noisy maximum or the jump to the next: its 95 % intervals of peaks held
70 to 80 of 100 truths, these hold 93 to 97.

The g come in pairs of opposite signs and have the covariance of independent normals exactly, so that the
error of a linear statistic is that of the jackknife. They are the same at every call: errors repeat, and of
two statistics of the same batches that are read with the same weights, the difference is paired.
"""

import functools

import numpy as np
from jaxtyping import Float
from scipy.linalg import helmert

from gmm_speciation.estimate import Estimate, RealArray

_FEWEST = 32  # pairs of replicates


@functools.cache
def weights(num_batches: int) -> Float[np.ndarray, "M R"]:
    """Weights of every batch in every replicate; rows have sum 1.

    Raises:
        ValueError: If there are fewer than two batches.
    """
    if num_batches < 2:
        raise ValueError(f"A bootstrap needs at least 2 batches; got {num_batches}.")
    pairs = max(_FEWEST, num_batches - 1)
    normal = np.random.default_rng(0).normal(size=(pairs, num_batches - 1))
    axes, triangle = np.linalg.qr(normal)
    white = np.sqrt(pairs) * axes * np.sign(np.diag(triangle))  # the same by every library
    g = white @ helmert(num_batches) / np.sqrt(num_batches * (num_batches - 1))
    found = 1 / num_batches + np.concatenate([g, -g])
    found.setflags(write=False)
    return found


def error(value: RealArray | float, replicates: RealArray, num_batches: int) -> Estimate:
    """A statistic of all batches with the error that its replicates show, one a row of `weights`."""
    distance = np.asarray(replicates, float) - np.asarray(value, float)
    stderr = np.sqrt(np.mean(distance**2, axis=0))
    return Estimate(np.asarray(value, float), stderr, float(num_batches - 1))
