"""Networks of the noisy state: denoisers, classifiers and critics, all small.

Coordinates are the variance-preserving ones, `x = alpha x_0 + sigma eps`. With s^2 the mean variance of a
coordinate of the data (its mean taken off) a state is scaled to unit size by

    c_in = (alpha^2 s^2 + sigma^2)^{-1/2},    c_skip = alpha s^2 c_in^2,    c_out = sigma s c_in

as in Karras et al. 2022 (arXiv 2206.00364, Table 1, in these coordinates). The trunk sees the scaled
state, its squared length, and Fourier features of the log-SNR; a denoiser adds to the skip term a
learned vector and a learned multiple of the state. Nothing in it knows a mixture.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

_FREQUENCIES = 8


class Trunk(nnx.Module):
    """Hidden units of a scaled state at a noise level."""

    def __init__(self, dim: int, extra: int, width: int, *, rngs: nnx.Rngs):
        self.state = nnx.Linear(dim, width, rngs=rngs)
        self.noise = nnx.Linear(2 * _FREQUENCIES + 2 + extra, width, rngs=rngs)
        self.hidden = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, x: Array, log_snr: Array, extra: Array) -> Array:
        phase = log_snr[:, None] * (2.0 ** jnp.arange(-4, _FREQUENCIES - 4, dtype=x.dtype))[None, :]
        # Of order one: the squared length of a unit-variance vector is d +- sqrt(2 d).
        length = (jnp.mean(x**2, -1, keepdims=True) - 1) * jnp.sqrt(x.shape[-1] / 2.0).astype(
            x.dtype
        )
        features = [
            jnp.sin(phase),
            jnp.cos(phase),
            log_snr[:, None] / 8,
            jnp.tanh(length / 4),
            extra,
        ]
        h = jax.nn.silu(self.state(x) + self.noise(jnp.concatenate(features, -1)))
        return h + jax.nn.silu(self.hidden(h))


class DenoiserNetwork(nnx.Module):
    """`E[x_0 | x, c]` for classes 0..C-1, and `E[x_0 | x]` as class C."""

    def __init__(self, dim: int, num_classes: int, width: int, *, rngs: nnx.Rngs):
        self.num_classes = num_classes
        self.trunk = Trunk(dim, num_classes + 1, width, rngs=rngs)
        self.vector = nnx.Linear(width, dim, rngs=rngs, kernel_init=nnx.initializers.zeros_init())
        self.gain = nnx.Linear(width, 1, rngs=rngs, kernel_init=nnx.initializers.zeros_init())

    def raw(self, scaled: Array, log_snr: Array, label: Int[Array, " n"]) -> Array:
        """Output of the network before it is scaled."""
        one_hot = jax.nn.one_hot(label, self.num_classes + 1, dtype=scaled.dtype)
        h = self.trunk(scaled, log_snr, one_hot)
        return self.vector(h) + self.gain(h) * scaled


class ClassNetwork(nnx.Module):
    """One number a class: logits of a classifier, or values of a critic."""

    def __init__(self, dim: int, num_classes: int, width: int, *, rngs: nnx.Rngs):
        self.trunk = Trunk(dim, 0, width, rngs=rngs)
        self.head = nnx.Linear(width, num_classes, rngs=rngs)

    def __call__(self, scaled: Array, log_snr: Array) -> Float[Array, "n C"]:
        return self.head(self.trunk(scaled, log_snr, scaled[:, :0]))


class ClassNetworks(nnx.Module):
    """A classifier of its own for each of T noise levels."""

    def __init__(self, levels: int, dim: int, num_classes: int, width: int, *, rngs: nnx.Rngs):
        def matrix(rows, columns):
            key = rngs.params()
            scale = (2 / rows) ** 0.5
            return nnx.Param(scale * jax.random.normal(key, (levels, rows, columns), jnp.float32))

        self.first, self.second = matrix(dim + 1, width), matrix(width, width)
        self.head = nnx.Param(jnp.zeros((levels, width, num_classes), jnp.float32))

    def __call__(
        self, scaled: Float[Array, "T n d"], level: Int[Array, " T"] | slice = slice(None)
    ) -> Float[Array, "T n C"]:
        """Of states of all levels, or of chosen ones."""
        length = (jnp.mean(scaled**2, -1, keepdims=True) - 1) * (scaled.shape[-1] / 2) ** 0.5
        x = jnp.concatenate([scaled, jnp.tanh(length / 4)], -1)
        h = jax.nn.silu(jnp.einsum("tnd,tdh->tnh", x, self.first[...][level]))
        h = h + jax.nn.silu(jnp.einsum("tnd,tdh->tnh", h, self.second[...][level]))
        return jnp.einsum("tnd,tdc->tnc", h, self.head[...][level])
