"""Classifiers and critics of the noisy state, trained on labelled data, judged on data held out.

    classifier   E log q(C|x):  H <= E[-log q(C|x)]
    InfoNCE      I >= E[ log e^{f(x,C)} / mean_j e^{f(x,c_j)} ]        (van den Oord et al. 2018)
    NWJ          I >= E f(x,C) - e^{-1} E' e^{f}                       (Nguyen, Wainwright & Jordan 2010)
    SMILE        I ~ E f - log E' clip(e^f, e^-5, e^5), f trained by the Jensen-Shannon objective
                                                                     (Song & Ermon 2020)

E' is over independent pairs; classes are drawn as they come in the data, so the mean over pairs of a
batch is the mean over its class frequencies.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from gmm_speciation.estimate import Estimate
from gmm_speciation.learned.data import Data, noised
from gmm_speciation.learned.networks import ClassNetwork, ClassNetworks
from gmm_speciation.learned.training import Recipe, train

_CLIP = 5.0
_BATCH = 256


def _loss_of(objective: str, values: Array, labels: Array, frequency: Array) -> Array:
    """Of values `(n, C)`, with the class frequencies of the data in place of independent pairs."""
    own = jnp.take_along_axis(values, labels[:, None], 1)[:, 0]
    log_f = jnp.log(frequency)[None, :]
    if objective == "classifier":
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(values, -1), labels[:, None], 1))
    if objective == "infonce":
        return -jnp.mean(own - jax.nn.logsumexp(values + log_f, -1))
    if objective == "nwj":
        return -jnp.mean(own) + jnp.mean(jnp.sum(frequency[None, :] * jnp.exp(values - 1), -1))
    return jnp.mean(jax.nn.softplus(-own)) + jnp.mean(
        jnp.sum(frequency[None, :] * jax.nn.softplus(values), -1)
    )


def train_on_noise(
    data: Data,
    num_classes: int,
    log_snr: np.ndarray,
    objective: str,
    *,
    seed: int,
    width: int = 64,
    recipe: Recipe = Recipe(),  # noqa: B008  immutable
) -> Any:
    """One network for all noise levels; every batch has states of all of them."""
    network = ClassNetwork(data.x.shape[1], num_classes, width, rngs=nnx.Rngs(seed))
    levels = jnp.asarray(log_snr, jnp.float32)
    frequency = jnp.bincount(data.labels, length=num_classes) / len(data.labels)

    def loss(network, data, key):
        keys = jax.random.split(key, 3)
        index = jax.random.randint(keys[0], (_BATCH,), 0, len(data.x))
        level = levels[jax.random.randint(keys[1], (_BATCH,), 0, len(levels))]
        scaled, _ = noised(data, index, level, keys[2])
        return _loss_of(objective, network(scaled, level), data.labels[index], frequency)

    trained = train(network, loss, data, seed=seed, recipe=recipe)
    return jax.jit(lambda scaled, level: trained.network(scaled, level))


def train_each_level(
    data: Data,
    num_classes: int,
    log_snr: np.ndarray,
    *,
    seed: int,
    width: int = 64,
    recipe: Recipe = Recipe(),  # noqa: B008  immutable
) -> Any:
    """A classifier a noise level, all trained side by side."""
    number = len(log_snr)
    networks = ClassNetworks(number, data.x.shape[1], num_classes, width, rngs=nnx.Rngs(seed))
    levels = jnp.asarray(log_snr, jnp.float32)

    def loss(networks, data, key):
        key_index, key_noise = jax.random.split(key)
        index = jax.random.randint(key_index, (number, _BATCH // 4), 0, len(data.x))
        scaled, _ = noised(data, index.reshape(-1), jnp.repeat(levels, index.shape[1]), key_noise)
        log_q = jax.nn.log_softmax(networks(scaled.reshape(number, index.shape[1], -1)), -1)
        return -jnp.mean(jnp.take_along_axis(log_q, data.labels[index][..., None], -1))

    trained = train(networks, loss, data, seed=seed, recipe=recipe)
    return jax.jit(lambda scaled: trained.network(scaled))


def information(
    values: Float[np.ndarray, "n C"], labels: np.ndarray, frequency: np.ndarray, objective: str
) -> Estimate:
    """I(X; C) in nats that a critic reports on states held out.

    The standard error is that of the mean over the states; SMILE, a logarithm of a mean, has none.
    """
    own = values[np.arange(len(labels)), labels]
    log_f = np.log(np.maximum(frequency, 1e-300))
    if objective == "infonce":
        return Estimate.from_samples(own - np.logaddexp.reduce(values + log_f, axis=1))
    if objective == "nwj":
        return Estimate.from_samples(own - np.exp(np.minimum(values, 80.0) - 1) @ frequency)
    clipped = np.exp(np.clip(values, -_CLIP, _CLIP))
    return Estimate.exact(np.asarray(own.mean() - np.log(np.mean(clipped @ frequency))))
