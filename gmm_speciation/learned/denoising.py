"""A class-conditional denoiser trained on labelled data, as `Denoisers` for the estimators.

The label is dropped in a share of the batch, a fifth by default, so one network gives `D(x|c)` and `D(x)`
(Ho & Salimans 2022). The loss is that of Karras et al. 2022: the error of the raw output, equal at all
noise levels, which are drawn evenly in log-SNR over the range asked for.
"""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from gmm_speciation.learned.data import Data, noised, scales
from gmm_speciation.learned.networks import DenoiserNetwork
from gmm_speciation.learned.training import Recipe, Trained, digest, train
from gmm_speciation.progress import Parts, Progress

DROPPED = 0.2
_BATCH = 256


class LearnedDenoisers(eqx.Module):
    """A trained network behind the interface of `gmm_speciation.estimators.model.Denoisers`."""

    graph: Any = eqx.field(static=True)
    weights: Any
    mean: Float[Array, " d"]
    size: Float[Array, ""]
    num_classes: int = eqx.field(static=True)

    def _denoised(self, x: Array, log_snr: Array, label: Array) -> Array:
        network = nnx.merge(self.graph, self.weights)
        level = jnp.broadcast_to(log_snr, label.shape)
        alpha, _, c_in, c_skip, c_out = scales(level, self.size)
        centred = x.astype(jnp.float32) - alpha * self.mean[None, :]
        raw = network.raw(c_in * centred, level.astype(jnp.float32), label)
        return (c_skip * centred + c_out * raw + self.mean[None, :]).astype(x.dtype)

    def overall(self, x: Float[Array, "n d"], log_snr: Float[Array, ""]) -> Float[Array, "n d"]:
        """`D(x)`."""
        return self._denoised(x, log_snr, jnp.full(x.shape[:1], self.num_classes))

    def own(
        self, x: Float[Array, "n d"], log_snr: Float[Array, ""], labels: Int[Array, " n"]
    ) -> Float[Array, "n d"]:
        """`D_c(x)` of one class a state."""
        return self._denoised(x, log_snr, labels)

    def classes(self, x: Float[Array, "n d"], log_snr: Float[Array, ""]) -> Float[Array, "n C d"]:
        """`D_c(x)` of every class."""

        def of(label):
            return self._denoised(x, log_snr, jnp.full(x.shape[:1], label))

        return jnp.moveaxis(jax.lax.map(of, jnp.arange(self.num_classes)), 0, 1)


def train_denoiser(
    data: Data,
    num_classes: int,
    log_snr_range: tuple[float, float],
    *,
    seed: int,
    width: int = 64,
    dropped: float = DROPPED,
    validation: Data | None = None,
    recipe: Recipe = Recipe(),  # noqa: B008  immutable
    cache: Path | None = None,
    progress: Progress | Parts | None = None,
) -> tuple[LearnedDenoisers, Trained]:
    """Train on the data; noise levels between the two log-SNR given, low to high.

    With data to validate on, training stops early.
    """
    dim = data.x.shape[1]
    network = DenoiserNetwork(dim, num_classes, width, rngs=nnx.Rngs(seed))
    low, high = log_snr_range

    def loss(network, data, key):
        keys = jax.random.split(key, 4)
        index = jax.random.randint(keys[0], (_BATCH,), 0, len(data.x))
        level = jax.random.uniform(keys[1], (_BATCH,), jnp.float32, low, high)
        without = jax.random.uniform(keys[2], (_BATCH,)) < dropped
        label = jnp.where(without, num_classes, data.labels[index])
        scaled, _ = noised(data, index, level, keys[3])
        _, _, c_in, c_skip, c_out = scales(level, data.size)
        target = (data.x[index] - c_skip / c_in * scaled) / c_out
        return jnp.mean((network.raw(scaled, level, label) - target) ** 2)

    kept = None
    if cache is not None:
        content = f"denoiser|{width}|{_BATCH}|{low}|{high}|{num_classes}|{dropped}"
        kept = cache, content + digest(data.x, data.labels)
    trained = train(
        network,
        loss,
        data,
        seed=seed,
        recipe=recipe,
        validation=validation,
        cache=kept,
        progress=progress,
    )
    graph, weights = nnx.split(trained.network)
    return LearnedDenoisers(graph, weights, data.mean, data.size, num_classes), trained
