"""Monte Carlo averages of the exact posterior over draws of the noisy state.

At base normals z and a component k, `X = alpha mu_k + (alpha^2 Sigma_k + sigma^2 I)^{1/2} z`; every
draw gives three exact conditional expectations given X: the entropy of the class posterior, the
rate integrand and the agreement `sum_c p(c|X)^2`. The same base normals serve every noise level, so a
curve is smooth and differences along it have small errors. Chunks of the draws go over all devices
(`averages`).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray

from gmm_speciation.checks import as_count
from gmm_speciation.covariances import Isotropic
from gmm_speciation.inference import Classes, spread_of
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition, as_partition
from gmm_speciation.posteriors import LevelStatistics, PosteriorStatistics, entropy_of
from gmm_speciation.processes import variance_preserving
from gmm_speciation.progress import Parts, Progress
from gmm_speciation.rare import heaviest_on_a_boundary, log_tilt, weighed_back
from gmm_speciation.reduction import SharedReduction, reduce
from gmm_speciation.sampling.averages import NUM_BATCHES, Chunks, Source, level_averages

DEFAULT_NUM_SAMPLES = 8192
_MOST_AT_LEAST = 1024  # rows of a chunk
_DATA_NUMBERS = 2**26  # a chunk of given data, which are in memory already and read once


def posterior_statistics(
    mixture: GaussianMixture,
    log_snr: Float[Array, ""],
    normals: Float[Array, "n d"],
    component: Int[Array, " n"],
    partition: Partition | None = None,
    tilt: Float[Array, " K"] | None = None,
) -> PosteriorStatistics:
    """Entropy, rate and agreement of the exact posterior at given base normals.

    The pure kernel under every sampled curve: `X = alpha mu_k + (alpha^2 Sigma_k + sigma^2)^{1/2} z`
    with k = `component`, z = `normals`; with a tilt, of components drawn by another distribution than the
    weights (`rare`). Safe under jit, vmap and grad.
    """
    noisy = mixture.perturb(*variance_preserving(log_snr))
    y = noisy.covariance.colour(normals, noisy.offsets, component)
    return _state_statistics(noisy, log_snr, y, partition, tilt)


def _state_statistics(noisy, log_snr, y, partition, tilt=None) -> PosteriorStatistics:
    """Of states relative to the centre."""
    _, sigma = variance_preserving(log_snr)
    partition = as_partition(partition, noisy.num_components)
    log_posterior = noisy.log_posterior_about_centre(y)
    spread = spread_of(noisy, y, log_posterior, partition)
    log_class = partition.log_sum(log_posterior)
    found = PosteriorStatistics(
        entropy_of(log_class),
        sigma.astype(y.dtype) ** 2 / 2 * spread,
        jnp.sum(jnp.exp(2 * log_class), -1),
    )
    return weighed_back(found, log_posterior, tilt)


class _Draws(Source):
    """Draws of the mixture."""

    mixture: GaussianMixture
    partition: Partition
    key: PRNGKeyArray
    size: int = eqx.field(static=True)
    tilt: Float[Array, " K"] | None = None

    def draw(self, index, rows):
        key_component, key_normal = jax.random.split(jax.random.fold_in(self.key, index))
        weights = self.mixture.log_weights
        weights = weights if self.tilt is None else weights + self.tilt
        component = jax.random.categorical(key_component, weights, shape=(self.size,))
        shape = (self.size, self.mixture.dim)
        return jax.random.normal(key_normal, shape, weights.dtype), component

    def statistics(self, log_snr, drawn):
        return posterior_statistics(self.mixture, log_snr, *drawn, self.partition, self.tilt)


class _NoisedData(Source):
    """Given clean states, noised in d dimensions at every level."""

    mixture: GaussianMixture
    partition: Partition
    key: PRNGKeyArray

    def draw(self, index, rows):
        key = jax.random.fold_in(self.key, index)
        return rows, jax.random.normal(key, rows.shape, rows.dtype)

    def statistics(self, log_snr, drawn):
        states, noise = drawn
        alpha, sigma = (scale.astype(states.dtype) for scale in variance_preserving(log_snr))
        noisy = self.mixture.perturb(alpha, sigma)
        y = noisy.centred(alpha * states + sigma * noise)
        return _state_statistics(noisy, log_snr, y, self.partition)


class _ProjectedData(Source):
    """Given clean states of which the span of the means is all that matters: one product."""

    mixture: GaussianMixture
    reduced: SharedReduction
    partition: Partition
    key: PRNGKeyArray

    def draw(self, index, rows):
        centred = self.mixture.centred(rows)
        coordinates = self.reduced.coordinates(centred, self.mixture.offsets)
        key = jax.random.fold_in(self.key, index)
        return coordinates, jax.random.normal(key, coordinates.shape, coordinates.dtype)

    def statistics(self, log_snr, drawn):
        return self.reduced.data_statistics(log_snr, *drawn, self.partition)


def _chunks(mixture: GaussianMixture, num_rows: int) -> Chunks:
    # With fewer rows than components the matrices of a chunk, of pairs of components, would cost the most.
    num = mixture.num_components
    return Chunks.of(num_rows, mixture.dim + num, min(num, _MOST_AT_LEAST))


def sampled_levels(
    mixture: GaussianMixture,
    log_snr: Float[Array, " T"],
    *,
    partition: Classes = None,
    num_samples: int = DEFAULT_NUM_SAMPLES,
    key: PRNGKeyArray | None = None,
    mesh: Mesh | None = None,
    progress: Progress | Parts | None = None,
) -> LevelStatistics:
    """Averages of `posterior_statistics` at every level of a grid, all from one set of draws.

    For a given key the same on any number of devices and hosts; memory does not grow with the draws.

    Args:
        mixture: The clean distribution.
        log_snr: Noise levels.
        partition: Classes; every component its own by default.
        num_samples: Draws of X, rounded up to a multiple of 16 (the number of batches).
        key: Random key; `jax.random.key(0)` by default.
        mesh: Devices to use; all of the default backend by default, on all hosts.
        progress: Called with `(draws done, draws in all)` as chunks of them are done.

    Raises:
        ValueError: If `num_samples < 32`, or the partition does not fit.
    """
    num_samples = as_count(num_samples, "num_samples", 2 * NUM_BATCHES)
    key = jax.random.key(0) if key is None else key
    num_samples = -(-num_samples // NUM_BATCHES) * NUM_BATCHES
    partition = as_partition(partition, mixture.num_components)
    chunks = _chunks(mixture, num_samples)
    tilt = log_tilt(mixture.log_weights, num_samples)
    source = _Draws(mixture, partition, key, chunks.size, tilt)
    found = level_averages(source, log_snr, chunks, mesh=mesh, progress=progress)
    return found.of_few(num_samples, heaviest_on_a_boundary(tilt, partition))


def data_levels(
    mixture: GaussianMixture,
    log_snr: Float[Array, " T"],
    samples: Num[Array | np.ndarray, "n d"],
    *,
    partition: Classes = None,
    key: PRNGKeyArray | None = None,
    mesh: Mesh | None = None,
    progress: Progress | Parts | None = None,
) -> LevelStatistics:
    """Averages over given clean states instead of draws of the mixture: `X = alpha x_0 + sigma eps`.

    The posterior is the mixture's, the distribution of X that of the data. Components that share an isotropic
    covariance need one product with the data for all levels; otherwise every level has its own.

    Args:
        mixture: Whose posterior.
        log_snr: Noise levels.
        samples: Clean states; a numpy array, memory-mapped too, goes to the devices chunk by chunk.
        partition: Classes; every component its own by default.
        key: Of the noise; `jax.random.key(0)` by default.
        mesh: Devices to use, as in `sampled_levels`; every host has all samples at hand.
        progress: Called with `(samples done, samples in all)` as chunks of them are done.

    Raises:
        ValueError: If there are fewer than 32 samples, they have another dimension or are not finite,
            or the partition does not fit.
    """
    if samples.shape[0] < 2 * NUM_BATCHES or samples.shape[1] != mixture.dim:
        raise ValueError(
            f"`samples` must be at least {2 * NUM_BATCHES} states of dimension {mixture.dim}; "
            f"got shape {samples.shape}."
        )
    key = jax.random.key(0) if key is None else key
    partition = as_partition(partition, mixture.num_components)
    source: Source
    if mixture.covariance.shared and isinstance(mixture.covariance, Isotropic):
        reduced = reduce(mixture)
        assert isinstance(reduced, SharedReduction)  # what `reduce` makes of a shared covariance
        chunks = Chunks.of(len(samples), mixture.dim, numbers=_DATA_NUMBERS)
        source = _ProjectedData(mixture, reduced, partition, key)
    else:
        chunks = _chunks(mixture, len(samples))
        source = _NoisedData(mixture, partition, key)

    def rows(index: int):
        return chunks.rows(samples, index, mixture.centre.dtype)

    found = level_averages(source, log_snr, chunks, mesh=mesh, rows=rows, progress=progress)
    return found.of_few(len(samples))
