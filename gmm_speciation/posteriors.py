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
from jaxtyping import Array, Bool, Float, Int

from gmm_speciation.checks import known
from gmm_speciation.covariances import as_row, product
from gmm_speciation.estimate import Estimate
from gmm_speciation.partitions import Partition
from gmm_speciation.shares import with_unseen


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

    def of_few(self, num_draws: int, weight: float = 1.0) -> "LevelStatistics":
        """With what draws that did not come may add in the errors, as of `with_unseen`."""
        entropy, rate = with_unseen(
            self.estimate("entropy"), self.estimate("rate"), num_draws / weight
        )
        # A draw on a boundary agrees with its clone half the time.
        few = np.asarray(entropy.stderr) > np.asarray(self.stderr.entropy)
        agreement = np.hypot(np.asarray(self.stderr.agreement), few * weight / num_draws)
        wider = (
            jnp.asarray(error, self.mean.entropy.dtype)
            for error in (entropy.stderr, rate.stderr, agreement)
        )
        return LevelStatistics(self.mean, PosteriorStatistics(*wider), self.batches, self.dof)

    def estimate(self, which: str) -> Estimate:
        """The estimate of one statistic, by name, at every level."""
        return Estimate(getattr(self.mean, which), getattr(self.stderr, which), self.dof)


def entropy_of(log_probability: Float[Array, "*batch C"]) -> Float[Array, "*batch"]:
    """`-sum_c p log p` in nats, from log p of what adds up to 1; 0 log 0 = 0, with finite gradients.

    Of a likely class counts `-p log p - (1 - p)`, and 1 - p as the sum of the others: in its logarithm what
    rare ones leave it would be lost to rounding. Likely is p > e^{-1/2}: two, by rounding, cannot be.
    """
    lowest = jnp.finfo(log_probability.dtype).min / 4
    log_probability = jnp.maximum(log_probability, lowest)
    probability, likely = jnp.exp(log_probability), log_probability > -0.5
    own = -probability * log_probability + jnp.where(likely, jnp.expm1(log_probability), 0.0)
    others = jnp.sum(jnp.where(likely, 0.0, probability), -1)
    return jnp.sum(own, -1) + jnp.where(likely.any(-1), others, 0.0)


def shares(log_posterior: Float[Array, "*batch K"], partition: Partition) -> Array:
    """`q(k | x, c)` of every component in its own class c; uniform inside a class of weight 0."""
    log_class = partition.log_sum(log_posterior)[..., np.asarray(partition.labels)]
    alive = jnp.isfinite(log_class)
    sizes = np.bincount(partition.labels)[np.asarray(partition.labels)]
    uniform = as_row(-jnp.log(jnp.asarray(sizes, log_posterior.dtype)), log_posterior)
    log_ratio = jnp.where(alive, log_posterior, 0.0) - jnp.where(alive, log_class, 0.0)
    return jnp.exp(jnp.where(alive, log_ratio, uniform))


def within_class(
    log_posterior: Float[Array, "*batch K"], partition: Partition
) -> Callable[[Int[Array, ""]], Float[Array, "*batch K"]]:
    """`shares` of the components of one class, 0 outside it, as a function of the class."""
    share, labels = shares(log_posterior, partition), jnp.asarray(partition.labels)
    return lambda c: jnp.where(as_row(labels == c, share), share, 0.0)


def pair_spread(
    log_posterior: Float[Array, "*batch K"],
    distances: Float[Array, "K K"],
    partition: Partition,
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
    every = jnp.arange(len(distances))
    return _of_pairs(log_posterior, *_sums(posterior, distances, every, partition), partition)


def _sums(
    posterior: Array, rows: Float[Array, "B K"], index: Int[Array, " B"], partition: Partition
) -> tuple[Array, Array]:
    """`sum_k D_jk p_k` over the other classes and over its own, for the rows j of `index`."""
    # Labels are compared on the device: a program holds no K x K constants.
    labels = jnp.asarray(partition.labels)
    same = labels[index][:, None] == labels[None, :]
    across = product(posterior, jnp.where(same, 0.0, rows).T)
    return across, product(posterior, jnp.where(same, rows, 0.0).T)


def _of_pairs(log_posterior: Array, across: Array, inside: Array, partition: Partition) -> Array:
    probability = jnp.exp(partition.log_sum(log_posterior))
    # 1 - p_c as the sum of the classes before and after c: where one is certain no digits cancel.
    none = jnp.zeros_like(probability[..., :1])
    before = jnp.concatenate([none, jnp.cumsum(probability[..., :-1], -1)], -1)
    after = jnp.cumsum(probability[..., :0:-1], -1)[..., ::-1]
    others = before + jnp.concatenate([after, none], -1)
    others = others[..., jnp.asarray(partition.labels)]
    within = others * shares(log_posterior, partition) * inside
    return jnp.maximum(jnp.sum(jnp.exp(log_posterior) * across - within, -1), 0.0) / 2


def squared_distances(vectors: Float[Array, "K r"]) -> Float[Array, "K K"]:
    """`|a_j - a_k|^2`: by inner products, or by differences where vectors far from their mean lie so
    close to each other that the squares would cancel."""
    return _rows_of_distances(vectors)(jnp.arange(len(vectors)))


def distances_from(
    vectors: Float[Array, "K r"],
) -> Callable[[Int[Array, " n"]], Float[Array, "n K"]]:
    """Rows of `squared_distances`, by index: of one matrix, or each anew where it would be large."""
    if len(vectors) > _MATRIX:
        return _rows_of_distances(vectors)
    distances = squared_distances(vectors)
    return lambda index: distances[index]


def _rows_of_distances(
    vectors: Float[Array, "K r"],
) -> Callable[[Int[Array, " n"]], Float[Array, "n K"]]:
    vectors = vectors - vectors.mean(0, keepdims=True)
    close = _close(vectors)

    def by_differences(index: Array, vectors: Array) -> Array:
        return jax.lax.map(lambda k: jnp.sum((vectors - vectors[k][None, :]) ** 2, -1), index)

    def by_products(index: Array, vectors: Array) -> Array:
        return _by_products(vectors, index)[1]

    return lambda index: jax.lax.cond(close, by_differences, by_products, index, vectors)


def _by_products(vectors: Array, index: Array) -> tuple[Array, Array]:
    """`|a_j|^2 + |a_k|^2` of centred vectors, and less twice the inner products, for j in `index`."""
    squares = jnp.sum(vectors**2, -1)
    sums = squares[index][:, None] + squares[None, :]
    # A vector is at distance 0 from itself, not at its rounding: all that is left where one class is certain.
    itself = index[:, None] == jnp.arange(len(vectors))[None, :]
    apart = jnp.maximum(sums - 2 * product(vectors[index], vectors.T), 0.0)
    return sums, jnp.where(itself, 0.0, apart)


def _close(vectors: Float[Array, "K r"]) -> Bool[Array, ""]:
    """Whether digits cancel in products: vectors lie far closer to each other than to the centre."""
    every = jnp.arange(len(vectors))
    least = 4 * jnp.finfo(vectors.dtype).eps ** (1 / 3)

    def of_block(index: Array) -> Array:
        sums, fast = _by_products(vectors, index)
        return jnp.any((index[:, None] != every[None, :]) & (fast < least * sums))

    if len(vectors) <= _BLOCK:
        return of_block(every)
    return jnp.any(jax.lax.map(of_block, _blocks(len(vectors))))


def _blocks(number: int) -> Int[Array, "blocks B"]:
    """Every index once, the last a few times."""
    index = np.pad(np.arange(number), (0, -number % _BLOCK), mode="edge")
    return jnp.asarray(index.reshape(-1, _BLOCK))


_FEW = 32  # vectors whose pairs cost no more than a choice between two ways
_MATRIX = 1024  # vectors whose distances are kept
_BLOCK = 256  # rows of a matrix of pairs that are held at a time


def class_spread(
    vectors: Float[Array, "K r"], partition: Partition
) -> Callable[[Float[Array, "n K"]], Float[Array, " n"]]:
    """`sum_c p(c) |a_c - a|^2` as a function of log p(k), for vectors a_k that do not depend on the draw.

    `a_c`, `a` are the posterior means of a_k inside class c and over all. By pairs of vectors; where they are
    many in few dimensions by their means inside each class, or, where each is a class, by moments of the
    centred ones; by pairs still where some lie far closer to each other than to the centre.
    """
    vectors = vectors - vectors.mean(0, keepdims=True)
    number, rank, num_classes = *vectors.shape, partition.num_classes
    many = max(rank + 1 if partition.is_trivial else 2 * rank * num_classes, _FEW)
    if number <= min(many, _MATRIX):
        distances = squared_distances(vectors)
        return lambda log_posterior: pair_spread(log_posterior, distances, partition)

    def by_pairs(log_posterior: Array, vectors: Array) -> Array:
        if number <= _MATRIX:
            return pair_spread(log_posterior, squared_distances(vectors), partition)
        rows, posterior = _rows_of_distances(vectors), jnp.exp(log_posterior)
        blocks = _blocks(number)
        sums = jax.lax.map(lambda index: _sums(posterior, rows(index), index, partition), blocks)
        across, inside = (
            jnp.moveaxis(part, 0, 1).reshape(len(posterior), -1)[:, :number] for part in sums
        )
        return _of_pairs(log_posterior, across, inside, partition)

    def by_moments(log_posterior: Array, vectors: Array) -> Array:
        """About the likeliest vector b, `sum_k p_k |a_k - b|^2 - |sum_k p_k (a_k - b)|^2`, k not b.

        Every term is of the size of what b leaves: no digits cancel where it is certain.
        """
        top = jnp.argmax(log_posterior, -1)
        is_top = top[:, None] == jnp.arange(number)[None, :]
        others = jnp.where(is_top, 0.0, jnp.exp(log_posterior))
        left, mean = jnp.sum(others, -1), product(others, vectors)
        squares = jnp.sum(vectors**2, -1)
        apart = product(others, squares[:, None])[:, 0] + left * squares[top]
        apart = apart - 2 * jnp.sum(vectors[top] * mean, -1)
        return jnp.maximum(apart - jnp.sum((mean - left[:, None] * vectors[top]) ** 2, -1), 0.0)

    def by_class(log_posterior: Array, vectors: Array) -> Array:
        """`(1/2) sum_bc p(b) p(c) |a_b - a_c|^2`, where no digits cancel if one class is certain."""
        within, every = within_class(log_posterior, partition), jnp.arange(num_classes)
        means = jax.lax.map(lambda c: product(within(c), vectors), every)
        probability = jnp.exp(partition.log_sum(log_posterior)).T

        def add(total: Array, c: Array) -> tuple[Array, None]:
            apart = jnp.sum((means - means[c][None]) ** 2, -1)
            return total + probability[c] * jnp.sum(probability * apart, 0), None

        total = jnp.zeros(len(log_posterior), vectors.dtype)
        return jax.lax.scan(add, total, every)[0] / 2

    few = by_moments if partition.is_trivial else by_class
    close = _close(vectors)
    return lambda log_posterior: jax.lax.cond(close, by_pairs, few, log_posterior, vectors)
