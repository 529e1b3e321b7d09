"""Distances of sampled distributions from a known one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from scipy import stats

from gmm_speciation.checks import ArrayLike, as_axis, as_count, as_points, expect
from gmm_speciation.covariances import product
from gmm_speciation.mixtures import GaussianMixture

_HALVINGS = 200  # to the last digit, between components at any distance


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


def at_the_origin(mixture: GaussianMixture) -> GaussianMixture:
    """The mixture around 0, for what does not depend on where it lies: far out float32 loses its digits."""
    expect(mixture, GaussianMixture)
    return eqx.tree_at(lambda law: law.centre, mixture, jnp.zeros_like(mixture.centre))


def quantiles(mixture: GaussianMixture, probabilities: ArrayLike) -> Float[np.ndarray, " n"]:
    """Quantiles of a one-dimensional mixture: the least q with `P(X <= q) >= p`, by bisection.

    Raises:
        ValueError: If the mixture has more than one dimension, or the probabilities do not increase inside
            (0, 1).
    """
    expect(mixture, GaussianMixture)
    if mixture.dim != 1:
        raise ValueError(f"Quantiles need a mixture on the line; got dimension {mixture.dim}.")
    probabilities = as_axis(
        probabilities,
        "probabilities",
        "increase inside (0, 1)",
        lambda p: (p > 0) & (p < 1) & np.all(np.diff(p) >= 0),
    )
    weights = np.asarray(mixture.weights)
    alive = weights > 0
    means = np.asarray(mixture.centre + mixture.offsets[:, 0], float)[alive, None]
    scales = np.sqrt(np.asarray(mixture.covariance.matrices(1), float)[:, 0, 0])
    scales = np.broadcast_to(scales, weights.shape)[alive, None]

    def share_below(q):
        """`P(X <= q)`; a point counts from where it lies."""
        with np.errstate(divide="ignore", invalid="ignore"):
            each = stats.norm.cdf((q - means) / scales)
        return weights[alive] @ np.where(scales > 0, each, q >= means)

    # The quantile lies between the least and the greatest of the components' own.
    own = means + scales * stats.norm.ppf(probabilities)
    low, high = own.min(0), own.max(0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        beyond = share_below(middle) >= probabilities
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    return np.maximum.accumulate(high)
