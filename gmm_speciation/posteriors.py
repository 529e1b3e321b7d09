"""What a posterior over components says about classes: sums, entropies, agreement.

With p(k) the posterior of component k and c its class, `p(c) = sum_{k in c} p(k)` and
`q(k|c) = p(k) / p(c)`. Three conditional expectations of the theory are functions of it:

    entropy      -sum_c p(c) log p(c)                      nats
    agreement    sum_c p(c)^2
    spread       sum_c p(c) |sum_{k in c} q(k|c) a_k - sum_k p(k) a_k|^2

the last for any vectors a_k, the variance of their class means; with scores for a_k it is the
integrand of the entropy rate.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gmm_speciation.checks import known
from gmm_speciation.covariances import as_row, product
from gmm_speciation.estimate import Estimate
from gmm_speciation.partitions import Partition


class PosteriorStatistics(eqx.Module):
    """What one noise level says, a value a draw of X; or means of it."""

    entropy: Float[Array, "*n"]  # -sum_c p log p
    rate: Float[Array, "*n"]  # (sigma^2 / 2) sum_c p_c |s_c - s|^2
    agreement: Float[Array, "*n"]  # sum_c p_c^2


EXACT = 1e-10  # nats: an estimate of an integral's error below this counts as none


def counted_error(error: Float[Array, "*n"], value: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The error as a standard error: 0 where it is below 1e-10, or below rounding in low precision."""
    least = max(EXACT, 32 * float(jnp.finfo(value.dtype).eps))
    return jnp.where(error <= least * jnp.maximum(1.0, jnp.abs(value)), 0.0, error)


class LevelStatistics(eqx.Module):
    """Posterior statistics averaged over X at every noise level, with their standard errors."""

    mean: PosteriorStatistics  # (T,)
    stderr: PosteriorStatistics  # (T,)
    # (T, R): independent replicates; None for an exact integral
    batches: PosteriorStatistics | None
    dof: float = eqx.field(static=True)  # of the standard errors

    @classmethod
    def exact(cls, mean: PosteriorStatistics) -> "LevelStatistics":
        """Deterministic values: standard errors 0."""
        return cls(mean, jax.tree.map(jnp.zeros_like, mean), None, np.inf)

    @classmethod
    def integrated(cls, mean: PosteriorStatistics, error: PosteriorStatistics) -> "LevelStatistics":
        """Deterministic values with an estimate of their error, which stands for a standard error."""
        return cls(mean, error, None, np.inf)

    @classmethod
    def from_replicates(cls, batches: PosteriorStatistics) -> "LevelStatistics":
        """From R independent unbiased replicates `(T, R)` of a whole curve."""
        number, seen = batches.entropy.shape[-1], jax.tree.map(known, batches)

        def each(function: Callable[[Any], Any]) -> PosteriorStatistics:
            return jax.tree.map(lambda values: jnp.asarray(function(values), values.dtype), seen)

        return cls(
            each(lambda values: values.mean(-1)),
            each(lambda values: values.std(-1, ddof=1) / number**0.5),
            batches,
            float(number - 1),
        )

    def estimate(self, which: str) -> Estimate:
        """The estimate of one statistic, by name, at every level."""
        return Estimate(getattr(self.mean, which), getattr(self.stderr, which), self.dof)


def entropy_of(log_probability: Float[Array, "*batch C"]) -> Float[Array, "*batch"]:
    """`-sum_c p log p` in nats, from log p; 0 log 0 = 0, with finite gradients."""
    lowest = jnp.finfo(log_probability.dtype).min / 4
    log_probability = jnp.maximum(log_probability, lowest)
    return -jnp.sum(jnp.exp(log_probability) * log_probability, -1)


def shares(log_posterior: Float[Array, "*batch K"], partition: Partition) -> Array:
    """`q(k | x, c)` of every component in its own class c; uniform inside a class of weight 0."""
    log_class = partition.log_sum(log_posterior)[..., np.asarray(partition.labels)]
    alive = jnp.isfinite(log_class)
    sizes = np.bincount(partition.labels)[np.asarray(partition.labels)]
    uniform = as_row(-jnp.log(jnp.asarray(sizes, log_posterior.dtype)), log_posterior)
    log_ratio = jnp.where(alive, log_posterior, 0.0) - jnp.where(alive, log_class, 0.0)
    return jnp.exp(jnp.where(alive, log_ratio, uniform))


def within_class(log_posterior: Array, partition: Partition) -> Array:
    """`shares` one class at a time, shape `(C, *batch, K)`: 0 outside the class."""
    members = partition.membership() > 0
    members = members.reshape(len(members), *(1,) * (log_posterior.ndim - 1), -1)
    return jnp.where(members, shares(log_posterior, partition)[None], 0.0)


def pair_spread(
    log_posterior: Float[Array, "*batch K"], distances: Float[Array, "K K"], partition: Partition
) -> Float[Array, "*batch"]:
    """`sum_c p(c) |a_c - a|^2` from `D_jk = |a_j - a_k|^2`, in O(K) numbers a draw.

    The spread of all vectors less that inside the classes, with both kept small together,

        (1/2) sum_j p_j [ sum_{k not in c} D_jk p_k - (1 - p_c) / p_c sum_{k in c} D_jk p_k ],

    c the class of j: no class needs an array of its own, and where one class is certain no digits
    cancel.
    """
    posterior = jnp.exp(log_posterior)
    if partition.is_trivial:
        return jnp.sum(posterior * product(posterior, distances), -1) / 2
    labels = np.asarray(partition.labels)
    same = labels[:, None] == labels[None, :]
    across = product(posterior, jnp.where(same, 0.0, distances))
    inside = product(posterior, jnp.where(same, distances, 0.0))
    others = product(posterior, jnp.asarray(~same, posterior.dtype))
    within = others * shares(log_posterior, partition) * inside
    return jnp.maximum(jnp.sum(posterior * across - within, -1), 0.0) / 2


def squared_distances(vectors: Float[Array, "K r"]) -> Float[Array, "K K"]:
    """`|a_j - a_k|^2`: by inner products, or by differences where vectors far from their mean lie so
    close to each other that the squares would cancel."""
    vectors = vectors - vectors.mean(0, keepdims=True)
    fast, close = _by_products(vectors)

    def by_differences(vectors: Array, fast: Array) -> Array:
        return jax.lax.map(lambda one: jnp.sum((vectors - one[None, :]) ** 2, -1), vectors)

    return jax.lax.cond(close, by_differences, lambda vectors, fast: fast, vectors, fast)


def _by_products(vectors: Float[Array, "K r"]) -> tuple[Array, Array]:
    """Squared distances of centred vectors by their inner products, and whether digits cancel there."""
    squares = jnp.sum(vectors**2, -1)
    sums = squares[:, None] + squares[None, :]
    fast = jnp.maximum(sums - 2 * product(vectors, vectors.T), 0.0)
    apart = ~jnp.eye(len(vectors), dtype=bool)
    return fast, jnp.any(apart & (fast < 4 * jnp.finfo(vectors.dtype).eps ** (1 / 3) * sums))


_FEW = 32  # vectors whose pairs cost no more than a choice between two ways


def class_spread(
    vectors: Float[Array, "K r"], partition: Partition
) -> Callable[[Float[Array, "n K"]], Float[Array, " n"]]:
    """`sum_c p(c) |a_c - a|^2` as a function of log p(k), for vectors a_k that do not depend on the draw.

    `a_c`, `a` are the posterior means of a_k inside class c and over all. By pairs of vectors; by moments
    of the centred ones where they are many in few dimensions, unless some lie far closer to each other than
    to the centre.
    """
    vectors = vectors - vectors.mean(0, keepdims=True)
    if not partition.is_trivial or len(vectors) <= max(vectors.shape[1] + 1, _FEW):
        distances = squared_distances(vectors)
        return lambda log_posterior: pair_spread(log_posterior, distances, partition)

    def by_pairs(log_posterior: Array, vectors: Array) -> Array:
        return pair_spread(log_posterior, squared_distances(vectors), partition)

    def by_moments(log_posterior: Array, vectors: Array) -> Array:
        posterior = jnp.exp(log_posterior)
        mean = product(posterior, vectors)
        squares = product(posterior, jnp.sum(vectors**2, -1)[:, None])[:, 0]
        return jnp.maximum(squares - jnp.sum(mean**2, -1), 0.0)

    close = _by_products(vectors)[1]
    return lambda log_posterior: jax.lax.cond(close, by_pairs, by_moments, log_posterior, vectors)
