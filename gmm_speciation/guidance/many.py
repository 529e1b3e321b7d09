"""Guidance towards one of many equidistant classes, simulated in the clock s of `exact.equidistant`.

With the log-joint statistics Y of K classes (orthogonal means sqrt(s) e_k in unit noise), guided with scale
w towards class c,

    dY = [e_c + (w - 1) (e_c - softmax Y)] ds + dB,    Y(0) = 0,    p = softmax(Y)_c,
    dCE/ds = -(2w - 1) (1/2) E_w |e_c - softmax Y|^2,

for any dimension, variance and process; two classes are `information` with s = 2 kappa. Stochastic Heun
steps (weak second order for additive noise), each taken whole and in two halves on the same noise: the
extrapolation `(4 half - whole) / 3` leaves a bias of third order in the step, below the errors at
`ds (1 + 2 |w - 1|) <= 1 / 4`. Every path is run twice more, with w = 1, whose averages are known by
integrals: they serve as control variates, but where fewer than a hundred paths carry a mean. There neither
the spread nor the control knows of the paths that did not come, and the error is that of the plain mean with
them (`with_unseen`).
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
from gmm_speciation.shares import entropy_with_unseen, few_carry

_STEP = 0.25  # of whole steps, over the rate at which the drift bends
_FEW = 100  # paths
_MOST = 10**6  # steps


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
        steps_between: Whole steps from one value of s to the next, at least; ten times as many up to the
            first.

    Raises:
        ValueError: If s is not positive and increasing, there are fewer than 2 classes or paths, or s
            asks for more than a million steps.
    """
    grid = as_rising(s, "s")
    num_classes = as_count(num_classes, "num_classes", 2)
    scale = float(as_values(number(scale), "scale"))
    num_samples = as_count(num_samples, "num_samples", 2)
    steps_between = as_count(steps_between, "steps_between")
    lead = np.linspace(0, grid[0], 10 * steps_between + 1)[1:-1:10]
    stops = np.r_[lead, grid]
    lengths = np.diff(stops, prepend=0.0)
    counts = np.maximum(steps_between, np.ceil(lengths * (1 + 2 * abs(scale - 1)) / _STEP))
    if counts.sum() > _MOST:
        raise ValueError(
            f"`s` up to {grid[-1]:.4g} at scale {scale:.4g} takes {counts.sum():.3g} steps, more than "
            f"{_MOST:.0e}. Stop where all is decided, at some tens."
        )
    counts = jnp.asarray(counts, int)
    both = _paths(
        num_classes, parameter(scale), jnp.asarray(lengths) / counts, counts, key, num_samples
    )
    entropy, doubt, spread = (np.asarray(part)[:, :, len(lead) :] for part in both)
    factor = (2 * scale - 1) / 2
    truths = (
        np.asarray(exact.equidistant_entropy(num_classes, grid)),
        1 - np.asarray(exact.equidistant_agreement(num_classes, grid)),
        factor * np.asarray(exact.equidistant_mmse(num_classes, grid)),
    )
    values = entropy, doubt, factor * spread
    most = float(np.log(num_samples))  # nats of a path that comes once in as many
    plain = [
        entropy_with_unseen(Estimate.from_samples(part[0]), num_samples, nats)
        for part, nats in zip(values, (most, 1.0, most), strict=True)
    ]
    means = [_controlled(*each) for each in zip(values, truths, plain, strict=True)]
    return GuidedCurve(
        grid,
        means[0],
        means[2],
        Estimate(1 - means[1].value, means[1].stderr, means[1].dof),
        np.log(num_classes),
        "s",
        "simulated with a control variate",
    )


@eqx.filter_jit
def _paths(num_classes, scale, lengths, counts, key, num_samples):
    """-log p, 1 - p and |e_c - softmax Y|^2, each `(2, n, T)`: with the scale, and with 1.

    Each is read after `counts` further steps of length `lengths`, `(T,)`.
    """
    class_zero = jax.nn.one_hot(0, num_classes)[None, None]
    scales = jnp.stack([scale, jnp.ones_like(scale)])[:, None, None]

    def drift(y):
        return class_zero + (scales - 1) * (class_zero - jax.nn.softmax(y, -1))

    def step(y, length, noise):
        first = drift(y)
        guess = y + length * first + noise[None]
        return y + length * (first + drift(guess)) / 2 + noise[None]

    def to(paths, inputs):
        length, count, key = inputs

        def advance(index, paths):
            whole, half = paths
            shape = (2, *whole.shape[1:])
            noise = jax.random.normal(jax.random.fold_in(key, index), shape) * jnp.sqrt(length / 2)
            for one in noise:
                half = step(half, length / 2, one)
            return step(whole, length, noise.sum(0)), half

        whole, half = jax.lax.fori_loop(0, count, advance, paths)
        extrapolated = jax.tree.map(lambda one, two: (4 * two - one) / 3, read(whole), read(half))
        return (whole, half), extrapolated

    def read(y):
        log_p = jax.nn.log_softmax(y, -1)
        p = jnp.exp(log_p)
        doubt = jnp.sum(p[..., 1:], -1)
        return -log_p[..., 0], doubt, doubt**2 + jnp.sum(p[..., 1:] ** 2, -1)

    start = jnp.zeros((2, num_samples, num_classes))
    keys = jax.random.split(key, len(lengths))
    _, values = jax.lax.scan(to, (start, start), (lengths, counts, keys))
    return jax.tree.map(lambda part: jnp.moveaxis(part, 0, -1), values)


def _controlled(
    samples: Float[np.ndarray, "2 n T"], truth: Float[np.ndarray, " T"], plain: Estimate
) -> Estimate:
    """Mean of samples with the known mean of those at scale 1, best linear combination.

    Where few samples carry the mean it is `plain`, unless they are the control themselves.
    """
    samples, control = samples
    centred = control - control.mean(0)
    variance = (centred**2).mean(0)
    slope = (centred * samples).mean(0) / np.maximum(variance, 1e-300)
    found = Estimate.from_samples(samples - slope * (control - truth))
    few = few_carry(plain, _FEW) & np.any(samples != control)
    stderr = np.where(few, plain.stderr, found.stderr)
    return Estimate(np.where(few, plain.value, found.value), stderr, found.dof)
