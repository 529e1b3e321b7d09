"""Labelled data as the networks see them, and the scales that make a noisy state of unit size.

Clean data get their noise when a batch is drawn; noisy data are what they are, one state a level.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from gmm_speciation.checks import ArrayLike

_SMALLEST = 1e-36  # mean square of states; below, float32 has no inverse of it


class Data(NamedTuple):
    """Labelled clean states in float32, centred, with the size of a coordinate."""

    x: Float[Array, "n d"]
    labels: Int[Array, " n"]
    mean: Float[Array, " d"]
    size: Float[Array, ""]  # root mean variance of a coordinate


def data_of(x: ArrayLike, labels: ArrayLike) -> Data:
    """Centre and measure states `(n, d)` with labels `(n,)`."""
    x = jnp.asarray(x, jnp.float32)
    mean = x.mean(0)
    centred = x - mean[None, :]
    size = jnp.sqrt(jnp.maximum(jnp.mean(centred**2), _SMALLEST))
    return Data(centred, jnp.asarray(labels), mean, size)


def scales(log_snr: Array, size: Array) -> tuple[Array, Array, Array, Array, Array]:
    """`(alpha, sigma, c_in, c_skip, c_out)` at each log-SNR, as columns in float32."""
    level = log_snr.astype(jnp.float32)[:, None]
    alpha, sigma = jnp.sqrt(jax.nn.sigmoid(level)), jnp.sqrt(jax.nn.sigmoid(-level))
    c_in = 1 / jnp.sqrt(alpha**2 * size**2 + sigma**2)
    return alpha, sigma, c_in, alpha * size**2 * c_in**2, sigma * size * c_in


def noised(data: Data, index: Array, log_snr: Array, key: Array) -> tuple[Array, Array]:
    """Scaled noisy states of chosen points, and the noise in them."""
    alpha, sigma, c_in, _, _ = scales(log_snr, data.size)
    noise = jax.random.normal(key, (len(index), data.x.shape[1]), jnp.float32)
    return c_in * (alpha * data.x[index] + sigma * noise), noise


class NoisyData(NamedTuple):
    """Labelled states of T noise levels in float32, each level centred and of unit size."""

    x: Float[Array, "T n d"]
    labels: Int[Array, "T n"]
    means: Float[Array, "T d"]
    sizes: Float[Array, " T"]

    def scaled(self, x: ArrayLike, level: int) -> Float[Array, "n d"]:
        """Other states of a level, as those here."""
        return (jnp.asarray(x, jnp.float32) - self.means[level][None, :]) / self.sizes[level]


def noisy_data_of(x: ArrayLike, labels: ArrayLike) -> NoisyData:
    """Centre and scale states `(T, n, d)` with labels `(T, n)`."""
    x = jnp.asarray(x, jnp.float32)
    means = x.mean(1)
    sizes = jnp.sqrt(jnp.maximum(jnp.mean((x - means[:, None]) ** 2, (1, 2)), _SMALLEST))
    return NoisyData((x - means[:, None]) / sizes[:, None, None], jnp.asarray(labels), means, sizes)


def states_of(
    data: Data | NoisyData, log_snr: Array, level: Array, index: Array, key: Array
) -> tuple[Float[Array, "n d"], Int[Array, " n"]]:
    """Scaled states at chosen levels (an index into `log_snr`) of chosen points, with their labels."""
    if isinstance(data, NoisyData):
        return data.x[level, index], data.labels[level, index]
    return noised(data, index, log_snr[level], key)[0], data.labels[index]


def number_of(data: Data | NoisyData) -> int:
    """How many points there are to choose from."""
    return int(data.x.shape[-2])
