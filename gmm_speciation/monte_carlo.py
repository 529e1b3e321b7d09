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

from gmm_speciation.covariances import Isotropic, add_row
from gmm_speciation.inference import Classes, log_class_posterior, score_spread
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition, as_partition
from gmm_speciation.posteriors import LevelStatistics, PosteriorStatistics, entropy_of
from gmm_speciation.processes import variance_preserving
from gmm_speciation.reduction import SharedReduction, reduce

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
    noisy = mixture.perturb(*variance_preserving(log_snr))
    y = noisy.covariance.colour(normals, noisy.offsets, component)
    return _state_statistics(noisy, log_snr, add_row(y, noisy.centre), partition)


def _state_statistics(noisy, log_snr, x, partition) -> PosteriorStatistics:
    _, sigma = variance_preserving(log_snr)
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
        return posterior_statistics(mixture, level, normals, component, partition)

    return _averages(at, log_snr, num_samples)


def _averages(statistics_at, log_snr, num_samples) -> LevelStatistics:
    """Mean, standard error and batch means of the statistics at every level."""

    def at(level):
        statistics = statistics_at(level)
        over = lambda function: jax.tree.map(function, statistics)  # noqa: E731
        return (
            over(jnp.mean),
            over(lambda s: jnp.std(s, ddof=1) / jnp.sqrt(s.size).astype(s.dtype)),
            over(
                lambda s: s[: s.size // NUM_BATCHES * NUM_BATCHES].reshape(NUM_BATCHES, -1).mean(-1)
            ),
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


def data_levels(
    mixture: GaussianMixture,
    log_snr: Float[Array, " T"],
    samples: Float[Array, "n d"],
    *,
    partition: Classes = None,
    key: PRNGKeyArray | None = None,
) -> LevelStatistics:
    """Averages over given clean states instead of draws of the mixture: `X = alpha x_0 + sigma eps`.

    The posterior is the mixture's, the law of X that of the data. Components that share an isotropic
    covariance need one product with the data for all levels; otherwise every level has its own.

    Args:
        mixture: Whose posterior.
        log_snr: Noise levels.
        samples: Clean states.
        partition: Classes; every component its own by default.
        key: Of the noise; `jax.random.key(0)` by default.

    Raises:
        ValueError: If there are fewer than 32 samples, they have another dimension, or the partition
            does not fit.
    """
    if samples.shape[0] < 2 * NUM_BATCHES or samples.shape[1] != mixture.dim:
        raise ValueError(
            f"`samples` must be at least {2 * NUM_BATCHES} states of dimension {mixture.dim}; "
            f"got shape {samples.shape}."
        )
    key = jax.random.key(0) if key is None else key
    partition = as_partition(partition, mixture.num_components)
    if mixture.covariance.shared and isinstance(mixture.covariance, Isotropic):
        reduced = reduce(mixture)
        assert isinstance(reduced, SharedReduction)  # what `reduce` makes of a shared covariance
        return _projected_levels(mixture, reduced, log_snr, samples, partition, key)
    return _noised_levels(mixture, log_snr, samples, partition, key)


@eqx.filter_jit
def _projected_levels(mixture, reduced, log_snr, samples, partition, key) -> LevelStatistics:
    coordinates = reduced.coordinates(mixture.centred(samples), mixture.offsets)
    normals = jax.random.normal(key, coordinates.shape, coordinates.dtype)

    def at(level):
        return reduced.data_statistics(level, coordinates, normals, partition)

    return _averages(at, log_snr, samples.shape[0])


@eqx.filter_jit
def _noised_levels(mixture, log_snr, samples, partition, key) -> LevelStatistics:
    noise = jax.random.normal(key, samples.shape, samples.dtype)

    def at(level):
        alpha, sigma = (scale.astype(samples.dtype) for scale in variance_preserving(level))
        noisy = mixture.perturb(alpha, sigma)
        return _state_statistics(noisy, level, alpha * samples + sigma * noise, partition)

    return _averages(at, log_snr, samples.shape[0])
