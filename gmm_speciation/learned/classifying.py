"""Classifiers and critics of the noisy state, trained on labelled data, judged on data held out.

    classifier   E log q(C|x):  H <= E[-log q(C|x)]
    InfoNCE      I >= E[ log e^{f(x,C)} / mean_j e^{f(x,c_j)} ] <= log B   (van den Oord et al. 2018)
    NWJ          I >= E f(x,C) - e^{-1} E' e^{f}                           (Nguyen, Wainwright & Jordan 2010)
    SMILE        I ~ E f - log E' clip(e^f, e^-5, e^5), f trained by the Jensen-Shannon objective
                                                                           (Song & Ermon 2020)

The c_j are the classes of the B states of one batch, that of x among them, so InfoNCE cannot report more than
log B. E' is over independent pairs; classes are drawn as they come in the data, so the mean over pairs is the
mean over class frequencies.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from gmm_speciation.learned.data import Data, NoisyData, number_of, states_of
from gmm_speciation.learned.networks import ClassNetwork, ClassNetworks
from gmm_speciation.learned.training import Recipe, train

_CLIP = 5.0
_BATCH = 256


def _loss_of(objective: str, values: Array, labels: Array, frequency: Array) -> Array:
    """Of values `(n, C)`; pairs are with the classes of the batch, or as frequent as in the data."""
    own = jnp.take_along_axis(values, labels[:, None], 1)[:, 0]
    if objective == "classifier":
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(values, -1), labels[:, None], 1))
    if objective == "infonce":
        one_hot = jax.nn.one_hot(labels, values.shape[1], dtype=values.dtype)
        log_batch = jnp.log(jnp.mean(one_hot, 0))[None, :]
        return -jnp.mean(own - jax.nn.logsumexp(values + log_batch, -1))
    if objective == "nwj":
        return -jnp.mean(own) + jnp.mean(jnp.sum(frequency[None, :] * jnp.exp(values - 1), -1))
    return jnp.mean(jax.nn.softplus(-own)) + jnp.mean(
        jnp.sum(frequency[None, :] * jax.nn.softplus(values), -1)
    )


def train_on_noise(
    data: Data | NoisyData,
    validation: Data | NoisyData,
    num_classes: int,
    log_snr: np.ndarray,
    objective: str,
    *,
    seed: int,
    width: int = 64,
) -> Any:
    """One network for all noise levels; every batch has states of all of them."""
    network = ClassNetwork(data.x.shape[-1], num_classes, width, rngs=nnx.Rngs(seed))
    levels = jnp.asarray(log_snr, jnp.float32)
    frequency = jnp.bincount(data.labels.reshape(-1), length=num_classes) / data.labels.size

    def loss(network, data, key):
        keys = jax.random.split(key, 3)
        index = jax.random.randint(keys[0], (_BATCH,), 0, number_of(data))
        level = jax.random.randint(keys[1], (_BATCH,), 0, len(levels))
        scaled, labels = states_of(data, levels, level, index, keys[2])
        return _loss_of(objective, network(scaled, levels[level]), labels, frequency)

    recipe = Recipe.of_size(number_of(data))
    trained = train(network, loss, data, seed=seed, recipe=recipe, validation=validation)
    return jax.jit(lambda scaled, level: trained.network(scaled, level))


def train_each_level(
    data: Data | NoisyData,
    validation: Data | NoisyData,
    num_classes: int,
    log_snr: np.ndarray,
    *,
    seed: int,
    width: int = 64,
) -> Any:
    """A classifier a noise level, all trained side by side."""
    number = len(log_snr)
    networks = ClassNetworks(number, data.x.shape[-1], num_classes, width, rngs=nnx.Rngs(seed))
    levels = jnp.asarray(log_snr, jnp.float32)
    level = jnp.repeat(jnp.arange(number), _BATCH // 4)

    def loss(networks, data, key):
        key_index, key_noise = jax.random.split(key)
        index = jax.random.randint(key_index, level.shape, 0, number_of(data))
        scaled, labels = states_of(data, levels, level, index, key_noise)
        log_q = jax.nn.log_softmax(networks(scaled.reshape(number, _BATCH // 4, -1)), -1)
        return -jnp.mean(jnp.take_along_axis(log_q, labels.reshape(number, -1, 1), -1))

    recipe = Recipe.of_size(number_of(data))
    trained = train(networks, loss, data, seed=seed, recipe=recipe, validation=validation)
    return jax.jit(lambda scaled, level: trained.network(scaled[None], level[None])[0])


def information(
    values: Float[np.ndarray, "n C"], labels: Int[np.ndarray, " n"], objective: str
) -> Float[np.ndarray, " n"]:
    """Nats of I(X; C) that a critic reports on each state held out; their mean is what it says."""
    number, num_classes = values.shape
    own = values[np.arange(number), labels]
    frequency = np.bincount(labels, minlength=num_classes) / number
    if objective == "infonce":
        found = np.empty(number)
        order = np.random.default_rng(0).permutation(number)  # rows may come sorted by class
        for part in np.array_split(order, -(-number // _BATCH)):
            counts = np.bincount(labels[part], minlength=num_classes)
            with np.errstate(divide="ignore"):
                joint = values[part] + np.log(counts / len(part))
            found[part] = own[part] - np.logaddexp.reduce(joint, axis=1)
        return found
    if objective == "nwj":
        return own - np.exp(np.minimum(values, 80.0) - 1) @ frequency
    clipped = np.exp(np.clip(values, -_CLIP, _CLIP))
    return own - np.log(np.mean(clipped @ frequency))
