"""Monte Carlo averages of the exact posterior over draws of the noisy state.

At base normals z and a component k, `X = alpha mu_k + (alpha^2 Sigma_k + sigma^2 I)^{1/2} z`; every
draw gives three exact conditional expectations given X: the entropy of the class posterior, the
rate integrand and the agreement `sum_c p(c|X)^2`. The same base normals serve every noise level, so a
curve is smooth and differences along it have small errors.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from gmm_speciation.covariances import add_row
from gmm_speciation.inference import Classes, log_class_posterior, score_spread
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition, as_partition
from gmm_speciation.posteriors import LevelStatistics, PosteriorStatistics, entropy_of
from gmm_speciation.processes import variance_preserving

NUM_BATCHES = 16
DEFAULT_NUM_SAMPLES = 8192


def posterior_statistics(
    mixture: GaussianMixture,
    log_snr: Float[Array, ""],
    normals: Float[Array, "n d"],
    component: Int[Array, " n"],
    partition: Partition | None = None,
) -> PosteriorStatistics:
    """Entropy, rate and agreement of the exact posterior at given base normals.

    The pure kernel under every sampled curve: `X = alpha mu_k + (alpha^2 Sigma_k + sigma^2)^{1/2} z`
    with k = `component`, z = `normals`. Safe under jit, vmap and grad.
    """
    alpha, sigma = variance_preserving(log_snr)
    noisy = mixture.perturb(alpha, sigma)
    y = noisy.covariance.colour(normals, noisy.offsets, component)
    x = add_row(y, noisy.centre)
    log_posterior = log_class_posterior(noisy, x, partition)
    return PosteriorStatistics(
        entropy_of(log_posterior),
        sigma.astype(x.dtype) ** 2 / 2 * score_spread(noisy, x, partition),
        jnp.sum(jnp.exp(2 * log_posterior), -1),
    )


@eqx.filter_jit
def _sampled_levels(mixture, log_snr, key, num_samples, partition) -> LevelStatistics:
    key_component, key_normal = jax.random.split(key)
    component = jax.random.categorical(key_component, mixture.log_weights, shape=(num_samples,))
    normals = jax.random.normal(key_normal, (num_samples, mixture.dim), mixture.centre.dtype)

    def at(level):
        statistics = posterior_statistics(mixture, level, normals, component, partition)
        reduce = lambda function: jax.tree.map(function, statistics)  # noqa: E731
        return (
            reduce(jnp.mean),
            reduce(lambda s: jnp.std(s, ddof=1) / jnp.sqrt(s.size).astype(s.dtype)),
            reduce(lambda s: s.reshape(NUM_BATCHES, -1).mean(-1)),
        )

    mean, stderr, batches = jax.lax.map(at, log_snr)
    return LevelStatistics(mean, stderr, batches, float(num_samples - 1))


def sampled_levels(
    mixture: GaussianMixture,
    log_snr: Float[Array, " T"],
    *,
    partition: Classes = None,
    num_samples: int = DEFAULT_NUM_SAMPLES,
    key: PRNGKeyArray | None = None,
) -> LevelStatistics:
    """Averages of `posterior_statistics` at every level of a grid, all from one set of draws.

    Args:
        mixture: The clean law.
        log_snr: Noise levels.
        partition: Classes; every component its own by default.
        num_samples: Draws of X, rounded up to a multiple of 16 (the number of batches).
        key: Random key; `jax.random.key(0)` by default.

    Raises:
        ValueError: If `num_samples < 32`, or the partition does not fit.
    """
    if num_samples < 2 * NUM_BATCHES:
        raise ValueError(f"`num_samples` must be at least {2 * NUM_BATCHES}; got {num_samples}.")
    key = jax.random.key(0) if key is None else key
    num_samples = -(-num_samples // NUM_BATCHES) * NUM_BATCHES
    partition = as_partition(partition, mixture.num_components)
    return _sampled_levels(mixture, log_snr, key, num_samples, partition)
