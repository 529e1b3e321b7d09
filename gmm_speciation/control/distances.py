"""Distances of sampled distributions from a known one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from scipy import stats
from scipy.interpolate import PchipInterpolator

from gmm_speciation.checks import ArrayLike, as_axis, as_count, as_points, expect
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


def at_the_origin(mixture: GaussianMixture) -> GaussianMixture:
    """The mixture around 0, for what does not depend on where it lies: far out float32 loses its digits."""
    expect(mixture, GaussianMixture)
    return eqx.tree_at(lambda law: law.centre, mixture, jnp.zeros_like(mixture.centre))


def quantiles(mixture: GaussianMixture, probabilities: ArrayLike) -> Float[np.ndarray, " n"]:
    """Quantiles of a one-dimensional mixture; a component of variance 0 is a step of the distribution.

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
    means = np.asarray(mixture.centre + mixture.offsets[:, 0])
    scales = np.sqrt(np.asarray(mixture.covariance.matrices(1))[:, 0, 0]) * np.ones_like(means)
    reach = np.max(np.abs(stats.norm.ppf(probabilities[[0, -1]]))) + 1.0
    # Nodes crowd at every component, so that the inverse is smooth between them.
    nodes = np.unique(means[:, None] + scales[:, None] * np.linspace(-reach, reach, 1200))
    weights, points = np.asarray(mixture.weights), scales == 0

    def scaled(q):
        return (q[None] - means[~points, None]) / scales[~points, None]

    def cdf(q, side):
        """`P(X < q)` from the left, `P(X <= q)` from the right."""
        order = np.argsort(means[points])
        steps = np.r_[0.0, np.cumsum(weights[points][order])]
        below = steps[np.searchsorted(means[points][order], q, side)]
        return weights[~points] @ stats.norm.cdf(scaled(q)) + below

    both = np.stack([cdf(nodes, "left"), cdf(nodes, "right")], 1).ravel()
    keep = np.r_[True, np.diff(both) > 0]
    guess = PchipInterpolator(both[keep], np.repeat(nodes, 2)[keep])(probabilities)
    density = weights[~points] @ (stats.norm.pdf(scaled(guess)) / scales[~points, None])
    step = (cdf(guess, "left") - probabilities) / np.maximum(density, 1e-300)
    least = scales[~points].min(initial=np.inf)
    polished = guess - np.where(np.abs(step) < least, step, 0.0)  # one of Newton's steps
    for place in means[points]:
        here = np.array([place])
        at = (cdf(here, "left") <= probabilities) & (probabilities <= cdf(here, "right"))
        polished = np.where(at, place, polished)
    return np.maximum.accumulate(polished)
