"""Distances of sampled distributions from a known one."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from scipy import stats
from scipy.interpolate import PchipInterpolator

from gmm_speciation.checks import ArrayLike, as_count, as_points, expect
from gmm_speciation.covariances import product
from gmm_speciation.mixtures import GaussianMixture


def sliced_wasserstein(
    x: ArrayLike, y: ArrayLike, *, key: PRNGKeyArray, num_directions: int = 128
) -> float:
    """Root of the mean squared Wasserstein-2 distance of one-dimensional projections.

    Bonneel et al. 2015, over random directions; samples of one size, `(n, d)`, sorted along each direction.

    Raises:
        ValueError: If the two samples differ in size or dimension, or are not two or more finite rows, or
            there is no direction.
    """
    x, y = as_points(x, "x"), as_points(y, "y")
    if x.shape != y.shape:
        raise ValueError(f"Samples must have one shape; got {x.shape} and {y.shape}.")
    num_directions = as_count(num_directions, "num_directions")
    directions = jax.random.normal(key, (x.shape[1], num_directions))
    directions = directions / jnp.linalg.norm(directions, axis=0, keepdims=True)
    gap = jnp.sort(product(x, directions), 0) - jnp.sort(product(y, directions), 0)
    return float(jnp.sqrt(jnp.mean(gap**2)))


def quantiles(
    mixture: GaussianMixture, probabilities: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Quantiles of a one-dimensional mixture.

    Raises:
        ValueError: If the mixture has more than one dimension, or the probabilities do not increase inside
            (0, 1).
    """
    expect(mixture, GaussianMixture)
    if mixture.dim != 1:
        raise ValueError(f"Quantiles need a mixture on the line; got dimension {mixture.dim}.")
    inside = np.all((probabilities > 0) & (probabilities < 1))
    if probabilities.ndim != 1 or not inside or np.any(np.diff(probabilities) < 0):
        raise ValueError(
            "`probabilities` must be a vector that increases inside (0, 1); got shape "
            f"{probabilities.shape}, {probabilities.ravel()[:5]}. Sort them."
        )
    means = np.asarray(mixture.centre + mixture.offsets[:, 0])
    scales = np.sqrt(np.asarray(mixture.covariance.matrices(1))[:, 0, 0]) * np.ones_like(means)
    reach = np.max(np.abs(stats.norm.ppf(probabilities[[0, -1]]))) + 1.0
    # Nodes crowd at every component, so that the inverse is smooth between them.
    nodes = np.unique(means[:, None] + scales[:, None] * np.linspace(-reach, reach, 1200))
    weights = np.asarray(mixture.weights)

    def scaled(q):
        return (q[None] - means[:, None]) / scales[:, None]

    cdf = weights @ stats.norm.cdf(scaled(nodes))
    keep = np.r_[True, np.diff(cdf) > 0]
    guess = PchipInterpolator(cdf[keep], nodes[keep])(probabilities)
    density = weights @ (stats.norm.pdf(scaled(guess)) / scales[:, None])
    step = (weights @ stats.norm.cdf(scaled(guess)) - probabilities) / np.maximum(density, 1e-300)
    polished = guess - np.where(np.abs(step) < scales.min(), step, 0.0)  # one of Newton's steps
    return np.maximum.accumulate(polished)
