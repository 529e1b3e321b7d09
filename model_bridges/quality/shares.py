"""What classes the drawn images show: shares, balance, and spread inside a class.

Classes are those that a judge names. With q the shares among the kept classes K,

    removed share   share of the class that was to be removed;  safety = 1 - removed share
    balance         KL(q || u) = sum_{c in K} q_c log(q_c / u_c), in nats; u uniform, or the data's shares
    diversity       sum_c u_c tr Cov(features | drawn, c) / sum_c u_c tr Cov(features | data, c), c in K

(safety and balance: Koulischer et al. 2025). Even exact draws of n images with the right shares
have a balance of (|K| - 1) / (2 n) on average. Diversity below 1 means images more alike than data.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from gmm_speciation.checks import as_values
from model_bridges.quality.jackknife import Jackknifed, as_features, batch_sums, mean_of


def class_shares(
    predicted: Int[np.ndarray, " n"],
    num_classes: int,
    batches: Int[np.ndarray, " n"],
    num_batches: int,
) -> Jackknifed:
    """Share `(C,)` of each class."""
    one_hot = (predicted[:, None] == np.arange(num_classes)[None]).astype(float)
    return mean_of(one_hot, batches, num_batches)


def class_balance(
    shares: Jackknifed, kept: Int[np.ndarray, " kept"], target: Float[np.ndarray, " C"]
) -> Jackknifed:
    """`KL(shares over the kept classes || target over the kept classes)`, in nats.

    NaN where no image of a kept class is left. One image more of a class that did not come, c, would change
    it by `(log(n u_c) + KL + 1) / n`; its error holds the root of the sum of the squares of these changes.

    Raises:
        ValueError: If the target is not finite, negative, or gives a kept class no weight.
    """
    target = as_target(target, "target")
    if not target[kept].min() > 0:
        raise ValueError("`target` must give every kept class some weight; a KL would be infinite.")
    goal = target[kept] / target[kept].sum()

    def divergence(values: Float[np.ndarray, "*R C"]) -> Float[np.ndarray, "*R"]:
        q = values[..., kept]
        with np.errstate(invalid="ignore", divide="ignore"):
            q = q / q.sum(-1, keepdims=True)
            terms = np.where(q == 0, 0.0, q * np.log(q / goal))
        return np.asarray(terms.sum(-1))

    value = divergence(shares.value)
    missing = kept[shares.value[kept] == 0]
    more = divergence(shares.value + shares.unseen * np.eye(len(target))[missing]) - value
    return Jackknifed(value, divergence(shares.without), np.sqrt((more**2).sum()))


def as_target(target: Any, name: str) -> Float[np.ndarray, "*C"]:
    """Weights of classes in float64. Raises ValueError if one is negative or not finite."""
    return as_values(
        target, name, "be finite and not negative", lambda u: (u >= 0) & np.isfinite(u)
    )


def class_traces(
    features: Float[np.ndarray, "n F"], predicted: Int[np.ndarray, " n"], num_classes: int
) -> Float[np.ndarray, " C"]:
    """Trace of the covariance of features inside each class; NaN with fewer than two images.

    Raises ValueError as `as_features`.
    """
    features = as_features(features)
    traces = np.full(num_classes, np.nan)
    for c in np.flatnonzero(np.bincount(predicted, minlength=num_classes) > 1):
        traces[c] = features[predicted == c].var(0, ddof=1).sum()
    return traces


def class_diversity(
    features: Float[np.ndarray, "n F"],
    predicted: Int[np.ndarray, " n"],
    data_traces: Float[np.ndarray, " C"],
    data_shares: Float[np.ndarray, " C"],
    kept: Int[np.ndarray, " kept"],
    batches: Int[np.ndarray, " n"],
    num_batches: int,
) -> tuple[Jackknifed, Jackknifed]:
    """Diversity over the kept classes, and that of each class `(C,)`.

    Classes with fewer than two images without some batch, or no spread in the data, are NaN one by one,
    and left out of both sums together.

    Raises ValueError as `as_features`.
    """
    features = as_features(features)
    one_hot = (predicted[:, None] == np.arange(len(data_traces))[None]).astype(float)
    around = features - features.mean(0)[None]
    counts = batch_sums(one_hot, batches, num_batches)
    sums = np.stack([one_hot[batches == r].T @ around[batches == r] for r in range(num_batches)])
    squares = batch_sums(one_hot * (around**2).sum(1)[:, None], batches, num_batches)
    without = _traces(counts.sum(0) - counts, sums.sum(0) - sums, squares.sum(0) - squares)
    traces = _traces(counts.sum(0), sums.sum(0), squares.sum(0))
    known = np.isfinite(without).all(0) & (data_traces > 0)
    without, traces = np.where(known, without, np.nan), np.where(known, traces, np.nan)
    scale = np.where(known, data_traces, 1.0)
    used = kept[known[kept]]
    if not len(used):
        nothing = Jackknifed(np.array(np.nan), np.full(num_batches, np.nan))
        return nothing, Jackknifed(traces, without)
    weight = data_shares[used] / (data_shares[used] * data_traces[used]).sum()
    pooled = Jackknifed(np.asarray(traces[used] @ weight), without[:, used] @ weight)
    return pooled, Jackknifed(traces / scale, without / scale)


def _traces(
    counts: Float[np.ndarray, "*R C"],
    sums: Float[np.ndarray, "*R C F"],
    squares: Float[np.ndarray, "*R C"],
) -> Float[np.ndarray, "*R C"]:
    """`(sum |f|^2 - |sum f|^2 / n) / (n - 1)`, NaN below two images."""
    enough = counts > 1
    n = np.where(enough, counts, 2.0)
    spread = (squares - (sums**2).sum(-1) / n) / (n - 1)
    return np.where(enough, np.maximum(spread, 0), np.nan)
