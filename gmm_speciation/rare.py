"""Rare components: drawn more often than they come, and weighed back.

Draws in proportion to weights of 1e-5 never see such a component, and their errors do not know it. With
components drawn by q in place of the weights w, x has the density `q(x) = sum_k q_k p(x|k)`, and

    E f = E_q [ f(x) p(x) / q(x) ],    p(x) / q(x) = 1 / sum_k (q_k / w_k) p(k|x),

the balance heuristic (Veach & Guibas 1995, SIGGRAPH, section 3.3). Here `q_k ~ max(w_k, f)` with
`f = min(DRAWS / n, SHARE / K)`, so that a ratio is at most 1 + SHARE. What is near 1 almost everywhere, the
agreement, is averaged as 1 minus its complement.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gmm_speciation.checks import is_concrete
from gmm_speciation.covariances import add_row
from gmm_speciation.partitions import Partition
from gmm_speciation.posteriors import PosteriorStatistics

# A component of fewer expected draws is rare, and gets as many: eight of each of sixteen replicates, whose
# spread is the error. Those of all rare ones together are at most this share.
DRAWS, SHARE = 128, 0.1


def log_tilt(log_weights: Float[Array, " K"], num_samples: int) -> Float[Array, " K"] | None:
    """`log(q_k / w_k)`, 0 where w_k = 0; None where no component is rare, or weights are traced."""
    if not is_concrete(log_weights):
        return None
    weights = np.exp(np.asarray(log_weights, float))
    alive = weights > 0
    least = min(DRAWS / num_samples, SHARE / len(weights))
    if not (weights[alive] < least).any():
        return None
    proposal = np.where(alive, np.maximum(weights, least), 0.0)
    ratio = np.divide(proposal / proposal.sum(), weights, out=np.ones_like(weights), where=alive)
    return jnp.asarray(np.log(ratio), log_weights.dtype)


def heaviest_on_a_boundary(tilt: Float[Array, " K"] | None, partition: Partition) -> float:
    """What a draw on a boundary of two classes weighs at most, `p / q`.

    There both classes are equally likely and each draws for the other: the smaller of their `w / q` counts,
    and of all pairs the largest, the second largest of all classes.
    """
    if tilt is None or partition.num_classes < 2:
        return 1.0
    of_class = np.zeros(partition.num_classes)
    np.maximum.at(of_class, np.asarray(partition.labels), np.exp(-np.asarray(tilt, float)))
    return float(np.partition(of_class, -2)[-2])


def weighed_back(
    statistics: PosteriorStatistics,
    log_posterior: Float[Array, "n K"],
    tilt: Float[Array, " K"] | None,
) -> PosteriorStatistics:
    """Statistics of draws of q whose averages are those over p; unchanged without a tilt."""
    if tilt is None:
        return statistics
    ratio = jnp.exp(-jax.nn.logsumexp(add_row(log_posterior, tilt), -1))
    return PosteriorStatistics(
        ratio * statistics.entropy,
        ratio * statistics.rate,
        1 - ratio * (1 - statistics.agreement),
    )
