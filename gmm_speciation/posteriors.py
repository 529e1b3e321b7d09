"""What a posterior over components says about classes: sums, entropies, agreement.

With p(k) the posterior of component k and c its class, `p(c) = sum_{k in c} p(k)` and
`q(k|c) = p(k) / p(c)`. Three conditional expectations of the theory are functions of it:

    entropy      -sum_c p(c) log p(c)                      nats
    agreement    sum_c p(c)^2
    spread       sum_c p(c) |sum_{k in c} q(k|c) a_k - sum_k p(k) a_k|^2

the last for any vectors a_k, the variance of their class means; with scores for a_k it is the
integrand of the entropy rate.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gmm_speciation.covariances import product
from gmm_speciation.estimate import Estimate
from gmm_speciation.partitions import Partition


class PosteriorStatistics(eqx.Module):
    """What one noise level says, a value a draw of X; or means of it."""

    entropy: Float[Array, "*n"]  # -sum_c p log p
    rate: Float[Array, "*n"]  # (sigma^2 / 2) sum_c p_c |s_c - s|^2
    agreement: Float[Array, "*n"]  # sum_c p_c^2


class LevelStatistics(eqx.Module):
    """Posterior statistics averaged over X at every noise level, with their standard errors."""

    mean: PosteriorStatistics  # (T,)
    stderr: PosteriorStatistics  # (T,)
    batches: (
        PosteriorStatistics | None
    )  # (T, R): independent replicates; None for an exact integral
    dof: float = eqx.field(static=True)  # of the standard errors

    @classmethod
    def exact(cls, mean: PosteriorStatistics) -> "LevelStatistics":
        """Deterministic values: standard errors 0."""
        return cls(mean, jax.tree.map(jnp.zeros_like, mean), None, np.inf)

    @classmethod
    def from_replicates(cls, batches: PosteriorStatistics) -> "LevelStatistics":
        """From R independent unbiased replicates `(T, R)` of a whole curve."""
        number = batches.entropy.shape[-1]
        return cls(
            jax.tree.map(lambda values: values.mean(-1), batches),
            jax.tree.map(lambda values: jnp.std(values, -1, ddof=1) / number**0.5, batches),
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


def within_class(log_posterior: Array, partition: Partition) -> Array:
    """`q(k | x, c)`, shape `(C, *batch, K)`; uniform inside a class of weight 0."""
    log_class = jnp.moveaxis(partition.log_sum(log_posterior), -1, 0)
    alive = jnp.isfinite(log_class)[..., None]
    ones = (1,) * (log_posterior.ndim - 1)
    members = partition.membership(log_posterior.dtype).reshape(-1, *ones, partition.num_components)
    log_ratio = log_posterior[None] - jnp.where(alive, log_class[..., None], 0.0)
    share = jnp.exp(jnp.where((members > 0) & alive, log_ratio, -jnp.inf))
    return jnp.where(alive, share, members / members.sum(-1, keepdims=True))


def class_spread(
    log_posterior: Float[Array, "n K"], vectors: Float[Array, "K r"], partition: Partition
) -> Float[Array, " n"]:
    """`sum_c p(c) |a_c - a|^2` for vectors a_k that do not depend on the draw.

    `a_c`, `a` are the posterior means of a_k inside class c and over all. Shifting all vectors
    changes nothing, so they are centred first.
    """
    vectors = vectors - vectors.mean(0, keepdims=True)
    posterior = jnp.exp(log_posterior)
    mean = product(posterior, vectors)
    if partition.is_trivial:
        squares = product(posterior, jnp.sum(vectors**2, -1)[:, None])[:, 0]
        return jnp.maximum(squares - jnp.sum(mean**2, -1), 0.0)
    class_probability = jnp.exp(partition.log_sum(log_posterior))
    within = within_class(log_posterior, partition)
    means = jnp.einsum("cnk,kr->ncr", within, vectors, precision="highest") - mean[:, None, :]
    return jnp.sum(class_probability * jnp.sum(means**2, -1), -1)
