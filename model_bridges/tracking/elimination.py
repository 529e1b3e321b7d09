"""Successive elimination: classes that a path has ruled out are no longer evaluated.

From sigma_max down, a class c of a path is left out from the level on where its posterior is below a bound.
It keeps the posterior that it has there. The others, the *candidates*, go on among themselves and share what
is left, 1 - m, with m the mass left out:

    p(c|x) = (1 - m) q(c|x),    q the posterior among the candidates.

A class that was left out could have come back. What can be said is an average. Along paths of the model's
own distribution a posterior is a martingale: given all that is seen at the level where c is left out, the
mean of its posterior at any later level is its posterior there. So delta = E m is the average mass left out,
whatever becomes of it on a single path, and

    H(C|X) >= H(C|X, left out or not) >= E (1 - m) H(q)         >= E H(q) - delta log C
    H(C|X) <= E [h(m) + (1 - m) H(q) + m log C]                 <= E H(q) + h(delta) + delta log C

with C classes or groups and h the binary entropy, concave. The premise is that the posterior is calibrated
on the paths that are averaged over; then the true class is among those left out on a share delta of the
paths, which labels can check. On paths of another distribution the interval is no bound, and neither is it
for single images, for the error of a finite average (its standard error stands beside it), or for rates,
which are those of the candidates.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.special import entr, logsumexp
from torch import Tensor

from gmm_speciation.estimate import Estimate
from model_bridges.tracking.tracked import Chain, PartitionLike, TrackedPosterior, group_log_sum


def candidates(
    kept: Bool[Tensor, "B K"], chains: list[Float[Tensor, "B K"]], bound: float
) -> Bool[Tensor, "B K"]:
    """Those of the classes kept that have a posterior of at least `bound` in one of the chains."""
    return kept & (torch.stack(chains).amax(0) >= np.log(bound))


def among_kept(
    log_posterior: Float[Tensor, "B K"], kept: Bool[Tensor, "B K"]
) -> Float[Tensor, "B K"]:
    """`log q`; minus infinity for classes that were left out."""
    return torch.log_softmax(log_posterior.where(kept, -torch.inf), 1)


def moved_on(
    log_posterior: Float[Tensor, "B K"], step: Float[Tensor, "B K"], kept: Bool[Tensor, "B K"]
) -> Float[Tensor, "B K"]:
    """Bayes' rule among the candidates; the others keep their posterior."""
    among = log_posterior.where(kept, -torch.inf)
    left = among.logsumexp(1, keepdim=True).where(~kept.all(1, keepdim=True), 0.0)
    return (torch.log_softmax(among + step, 1) + left).where(kept, log_posterior)


@dataclass(frozen=True, eq=False)
class EliminationInterval:
    """An interval on H(C|X) at every level `(L,)`, nats, that holds what the classes left out can do."""

    lower: Estimate
    upper: Estimate
    dropped: Estimate  # delta
    # Share of the paths that left their own class out: delta, if calibrated.
    true_dropped: Estimate | None

    @classmethod
    def of(
        cls, candidates: Estimate, dropped: Estimate, true: Estimate | None, num_classes: int
    ) -> "EliminationInterval":
        """From E H(q), delta, and the number of classes or groups."""
        delta = np.asarray(dropped.value, float)
        half, moved = np.minimum(delta, 0.5), delta * np.log(num_classes)
        lower = np.maximum(candidates.value - moved, 0.0)
        upper = candidates.value + entr(half) + entr(1 - half) + moved
        own = candidates.stderr, candidates.dof
        return cls(Estimate(lower, *own), Estimate(upper, *own), dropped, true)


def elimination_interval(
    record: TrackedPosterior, partition: PartitionLike = None
) -> EliminationInterval:
    """The interval of one grouping of the classes; of no width where all of them were kept.

    Raises:
        ValueError: If there are fewer than two images.
    """
    found = left_out(record, partition)
    candidates, dropped = (record.estimate(found[key]) for key in ("candidates", "dropped"))
    true = record.estimate(found["true dropped"]) if "true dropped" in found else None
    return EliminationInterval.of(
        candidates, dropped, true, record.partition(partition).num_classes
    )


def left_out(
    record: TrackedPosterior, partition: PartitionLike = None
) -> dict[str, Float[np.ndarray, "L N"]]:
    """H(q) of every path, extrapolated, the mass left out, and whether that was its own class."""
    chosen, kept = record.partition(partition), record.kept
    among = np.ones(record.log_posterior.shape, bool) if kept is None else kept

    def entropy(chain: Chain) -> Float[np.ndarray, "L N"]:
        log_p = np.where(among, chain.log_posterior, -np.inf)
        log_q = log_p - logsumexp(log_p, axis=-1, keepdims=True)
        return entr(np.exp(group_log_sum(log_q, chosen))).sum(-1)

    found = {
        "candidates": record.extrapolate(entropy),
        "dropped": np.where(among, 0.0, np.exp(record.log_posterior)).sum(-1),
    }
    if record.labels is not None:
        found["true dropped"] = 1.0 - among[:, np.arange(len(record.labels)), record.labels]
    return found
