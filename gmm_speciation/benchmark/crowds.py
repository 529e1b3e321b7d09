"""The truth of a crowd: many components of one isotropic variance, such as the points of a data set.

A state over alpha is `x = m_k + s z` with `s^2 = v + sigma^2 / alpha^2`, and the log-odds of component j
against its own k are

    l_j = log w_j / w_k - |m_j - m_k|^2 / (2 s^2) - <z, m_j - m_k> / s.

The inner products are formed once for all noise levels and for z and -z. With
`dl_j / dlog s = |m_j - m_k|^2 / s^2 + <z, m_j - m_k> / s` the slope of the entropy comes from the same
pass, along the same z. Scrambled Sobol points in the principal axes of the means, components in
proportion to their weights, sixteen independent scrambles a round; a level gets rounds until the 95 %
interval of its entropy is within the tolerance. Sums of a chunk are single precision (1e-6 nats), means
double.

Axes: B points of a chunk, K components, C classes, d dimensions.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import special
from scipy.stats import qmc

from gmm_speciation.benchmark.tasks import Law
from gmm_speciation.covariances import Isotropic
from gmm_speciation.curves import EntropyCurve
from gmm_speciation.entropy import prior_entropy
from gmm_speciation.estimate import Estimate

MIN_COMPONENTS = 256
_SCRAMBLES = 16
_CHUNK = 512
_ROUND = 2**13  # points of a scramble


def is_crowd(law: Law) -> bool:
    """Whether the components are many, of one isotropic variance."""
    covariance = law.mixture.covariance
    crowded = law.mixture.num_components >= MIN_COMPONENTS
    return crowded and isinstance(covariance, Isotropic) and covariance.shared


def crowd_curve(
    law: Law, grid: Float[np.ndarray, " T"], tolerance: float, *, max_rounds: int = 2**12
) -> EntropyCurve:
    """Entropy and rate at every level, half the 95 % interval of the entropy within `tolerance`.

    Args:
        law: For which `is_crowd` holds.
        grid: Log-SNR.
        tolerance: Nats.
        max_rounds: Of 16 x 8192 points, each with its mirror image.

    Raises:
        ValueError: If the tolerance is not reached.
    """
    mixture = law.mixture
    means = np.asarray(mixture.offsets, float)
    weights = np.asarray(mixture.weights, float)
    axes = np.linalg.svd(means - weights @ means, full_matrices=True)[2]
    means = means @ axes.T  # normals need no turning then
    ratio = np.exp(-grid)
    variance = np.asarray(mixture.covariance.eigenvalues(mixture.dim))[0, 0]
    spread = variance + ratio  # s^2
    slope = -ratio / (2 * spread)  # dlog s / dlambda
    cumulative = np.cumsum(weights) / weights.sum()
    squares = np.sum(means**2, -1)
    membership = jnp.asarray(law.classes.membership().T, jnp.float32)
    log_weights = jnp.asarray(np.log(weights), jnp.float32)
    points = jnp.asarray(means, jnp.float32)

    sums = np.zeros((2, _SCRAMBLES, len(grid)))
    rounds = np.zeros(len(grid), int)
    half = np.full(len(grid), np.inf)
    for round in range(max_rounds):
        active = np.flatnonzero(half > tolerance)
        for scramble in range(_SCRAMBLES):
            rng = np.random.default_rng([11, round, scramble])
            uniform = qmc.Sobol(mixture.dim + 1, rng=rng).random(_ROUND)
            component = np.searchsorted(cumulative, uniform[:, 0], side="right")
            component = np.minimum(component, len(weights) - 1)
            normals = special.ndtri(np.clip(uniform[:, 1:], 2.0**-33, 1 - 2.0**-33))
            for start in range(0, _ROUND, _CHUNK):
                own = component[start : start + _CHUNK]
                distances = squares[own, None] + squares - 2 * means[own] @ means.T
                inner, own_weight = _inner(
                    points,
                    log_weights,
                    jnp.asarray(normals[start : start + _CHUNK], jnp.float32),
                    own,
                )
                half_distances = jnp.asarray(distances / 2, jnp.float32)
                for level in active:
                    sums[:, scramble, level] += _entropy_and_slope(
                        half_distances, inner, own_weight, membership, float(spread[level]) ** 0.5
                    )
        rounds[active] += 1
        mean = sums / (rounds * _ROUND)
        entropy = Estimate.from_samples(mean[0])
        low, high = entropy.interval()
        half = (high - low) / 2
        if np.all(half <= tolerance) and round > 0:
            rate = Estimate.from_samples(-mean[1] * slope)
            prior = float(prior_entropy(mixture, law.classes))
            return EntropyCurve(grid, entropy, rate, prior, "quasi-monte-carlo")
    raise ValueError(
        f"The entropy is known to {half.max():.2g} nats after {max_rounds} rounds, not to {tolerance:g}."
    )


@jax.jit
def _inner(
    means: Float[Array, "K d"],
    log_weights: Float[Array, " K"],
    normals: Float[Array, "B d"],
    own: Array,
) -> tuple[Array, Array]:
    """`<z, m_j - m_k>` and `log w_j / w_k`."""
    inner = jnp.matmul(normals, means.T, precision="highest")
    inner -= jnp.take_along_axis(inner, own[:, None], -1)
    return inner, log_weights[None, :] - log_weights[own][:, None]


@jax.jit
def _entropy_and_slope(half_distances, inner, own_weight, membership, s):
    """Sums over the chunk of the entropy and of its derivative in log s, mean of z and -z."""

    def one(sign):
        far, linear = half_distances / s**2, sign * inner / s
        logits = own_weight - far - linear
        share = jnp.exp(logits - jnp.max(logits, -1, keepdims=True))
        slope = 2 * far + linear
        of_class = jnp.matmul(share, membership, precision="highest")
        total = jnp.sum(of_class, -1, keepdims=True)
        posterior = of_class / total
        mean = jnp.matmul(share * slope, membership, precision="highest") / total
        change = mean - posterior * jnp.sum(mean, -1, keepdims=True)
        log = jnp.log(jnp.maximum(posterior, jnp.finfo(posterior.dtype).tiny))
        return -jnp.stack([jnp.sum(posterior * log), jnp.sum(change * log)])

    return (one(1.0) + one(-1.0)) / 2
