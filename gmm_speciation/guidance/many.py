"""Guidance towards one of many equidistant classes, simulated in the clock s of `exact.equidistant`.

With the log-joint statistics Y of K classes (orthogonal means sqrt(s) e_k in unit noise), guided with scale
w towards class c,

    dY = [e_c + (w - 1) (e_c - softmax Y)] ds + dB,    Y(0) = 0,    p = softmax(Y)_c,
    dCE/ds = -(2w - 1) (1/2) E_w |e_c - softmax Y|^2,

for any dimension, variance and process; two classes are `information` with s = 2 kappa. Stochastic Heun
steps (weak second order for additive noise), each taken whole and in two halves on the same noise: the
extrapolation `(4 half - whole) / 3` leaves a bias of third order in the step. Every path is run twice more,
with w = 1, whose averages are known by integrals: they serve as control variates.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from gmm_speciation import exact
from gmm_speciation.checks import ArrayLike, as_count, as_rising, as_values
from gmm_speciation.estimate import Estimate
from gmm_speciation.guidance.base import number, parameter
from gmm_speciation.guidance.curves import GuidedCurve


def guided_classes(
    num_classes: int,
    scale: float,
    s: ArrayLike,
    *,
    key: PRNGKeyArray,
    num_samples: int = 4096,
    steps_between: int = 2,
) -> GuidedCurve:
    """Cross-entropy, rate and mean probability of the guided one of `num_classes` equidistant classes.

    Args:
        num_classes: K, at least 2.
        scale: w; 1 is unguided.
        s: Where to read, `(T,)`, positive and strictly increasing; the path steps on a refinement of it.
        key: Random key.
        num_samples: Paths; memory goes with `num_samples * num_classes`.
        steps_between: Whole steps from one value of s to the next; ten times as many up to the first.

    Raises:
        ValueError: If s is not positive and increasing, or there are fewer than 2 classes or paths.
    """
    grid = as_rising(s, "s")
    num_classes = as_count(num_classes, "num_classes", 2)
    scale = float(as_values(number(scale), "scale"))
    num_samples = as_count(num_samples, "num_samples", 2)
    steps_between = as_count(steps_between, "steps_between")
    lead = np.linspace(0, grid[0], 10 * steps_between + 1)[1:-1:10]
    stops = np.r_[lead, grid]
    both = _paths(
        num_classes, parameter(scale), jnp.asarray(stops), key, num_samples, steps_between
    )
    entropy, doubt, spread = (np.asarray(part)[:, :, len(lead) :] for part in both)
    truths = (
        exact.equidistant_entropy(num_classes, grid),
        1 - np.asarray(exact.equidistant_agreement(num_classes, grid)),
        exact.equidistant_mmse(num_classes, grid),
    )
    means = [
        _controlled(values[0], values[1], np.asarray(truth))
        for values, truth in zip((entropy, doubt, spread), truths, strict=True)
    ]
    factor = (2 * scale - 1) / 2
    rate = Estimate(
        factor * means[2].value, abs(factor) * np.asarray(means[2].stderr), means[2].dof
    )
    probability = Estimate(1 - means[1].value, means[1].stderr, means[1].dof)
    return GuidedCurve(
        grid,
        means[0],
        rate,
        probability,
        np.log(num_classes),
        "s",
        "simulated with a control variate",
    )


@eqx.filter_jit
def _paths(num_classes, scale, stops, key, num_samples, steps_between):
    """-log p, 1 - p and |e_c - softmax Y|^2, each `(2, n, T)`: with the scale, and with 1."""
    class_zero = jax.nn.one_hot(0, num_classes)[None, None]
    scales = jnp.stack([scale, jnp.ones_like(scale)])[:, None, None]

    def drift(y):
        return class_zero + (scales - 1) * (class_zero - jax.nn.softmax(y, -1))

    def step(y, length, noise):
        first = drift(y)
        guess = y + length * first + noise[None]
        return y + length * (first + drift(guess)) / 2 + noise[None]

    def to(paths, inputs):
        length, key = inputs

        def advance(index, paths):
            whole, half = paths
            shape = (2, *whole.shape[1:])
            noise = jax.random.normal(jax.random.fold_in(key, index), shape) * jnp.sqrt(length / 2)
            for one in noise:
                half = step(half, length / 2, one)
            return step(whole, length, noise.sum(0)), half

        whole, half = jax.lax.fori_loop(0, steps_between, advance, paths)
        extrapolated = jax.tree.map(lambda one, two: (4 * two - one) / 3, read(whole), read(half))
        return (whole, half), extrapolated

    def read(y):
        log_p = jax.nn.log_softmax(y, -1)
        p = jnp.exp(log_p)
        doubt = jnp.sum(p[..., 1:], -1)
        return -log_p[..., 0], doubt, doubt**2 + jnp.sum(p[..., 1:] ** 2, -1)

    lengths = jnp.diff(stops, prepend=0.0) / steps_between
    start = jnp.zeros((2, num_samples, num_classes))
    _, values = jax.lax.scan(to, (start, start), (lengths, jax.random.split(key, len(stops))))
    return jax.tree.map(lambda part: jnp.moveaxis(part, 0, -1), values)


def _controlled(
    samples: Float[np.ndarray, "n T"],
    control: Float[np.ndarray, "n T"],
    truth: Float[np.ndarray, " T"],
) -> Estimate:
    """Mean of `samples` with the known mean of a correlated control, best linear combination."""
    centred = control - control.mean(0)
    variance = (centred**2).mean(0)
    slope = (centred * samples).mean(0) / np.maximum(variance, 1e-300)
    return Estimate.from_samples(samples - slope * (control - truth))
