"""Whether a tracked class posterior says what is true: cross-entropy, calibration, accuracy, reliability.

With `p_i` the tracked posterior of image i at one noise level and `y_i` its class,

    H  = mean_i [-sum_c p_i(c) log p_i(c)]        entropy of the tracked posterior
    CE = mean_i [-log p_i(y_i)] >= H(C|X)         cross-entropy, an upper bound on the truth

and CE - H is the calibration error. Errors are those of independent images. Entropy and cross-entropy are
extrapolated in the step of the noise levels; reliability and accuracy, which are about the posteriors
themselves, are those of the fine chain. Nats throughout.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from gmm_speciation.checks import as_count
from gmm_speciation.estimate import Estimate
from gmm_speciation.shares import Share, entropy_with_unseen
from model_bridges.tracking.readouts import chain_entropy, label_cross_entropy
from model_bridges.tracking.tracked import Chain, PartitionLike, TrackedPosterior


def cross_entropy(record: TrackedPosterior, partition: PartitionLike = None) -> Estimate:
    """`E[-log p(y)]` of the true class at every level, shape `(L,)`: an upper bound on H(C|X).

    Raises:
        ValueError: If the tracked posterior has no labels or fewer than two images.
    """
    labels, chosen = record.group_labels(partition), record.partition(partition)
    samples = record.extrapolate(
        lambda chain: label_cross_entropy(chain.log_posterior, chosen, labels)
    )
    return entropy_with_unseen(record.estimate(samples), record.num_images)


def calibration_error(
    record: TrackedPosterior,
    partition: PartitionLike = None,
    window: tuple[float, float] | None = None,
) -> Estimate:
    """`CE - H` at every level, `(L,)`, paired image by image: 0 for a calibrated posterior.

    Args:
        record: Of labelled images.
        partition: Variable; the single classes by default.
        window: Give the mean over the levels of `inside`, one number, instead.

    Raises:
        ValueError: As `inside`, or if there are no labels or fewer than two images.
    """
    labels, chosen = record.group_labels(partition), record.partition(partition)

    def paired(chain: Chain) -> Float[np.ndarray, "L N"]:
        cross = label_cross_entropy(chain.log_posterior, chosen, labels)
        return cross - chain_entropy(chain, chosen)

    samples = record.extrapolate(paired)
    if window is None:
        return record.estimate(samples)
    return record.estimate(samples[inside(record, window)].mean(0, keepdims=True))[0]


def inside(record: TrackedPosterior, window: tuple[float, float]) -> Int[np.ndarray, " n"]:
    """Levels between two noise scales; where they lie between two levels, that nearest to their middle.

    Raises:
        ValueError: If the first is not below the second, or not positive.
    """
    if not 0 < window[0] <= window[1]:
        raise ValueError(f"`window` must be (low, high) with 0 < low <= high; got {window}.")
    found = np.flatnonzero((record.sigmas >= window[0]) & (record.sigmas <= window[1]))
    if len(found):
        return found
    return np.abs(np.log(record.sigmas) - np.log(window).mean()).argmin(keepdims=True)


def accuracy(record: TrackedPosterior, partition: PartitionLike = None) -> Share:
    """Share of images whose most probable class is the true one, shape `(L,)`.

    Raises:
        ValueError: If the tracked posterior has no labels or fewer than two images.
    """
    labels = record.group_labels(partition)
    hit = record.log_probabilities(partition).argmax(-1) == labels[None, :]
    return Share.of(record.estimate(hit.astype(float)), record.num_images)


@dataclass(frozen=True, eq=False)
class Reliability:
    """How often a class is true where the posterior gives it a probability in a bin.

    Bins without entries hold NaN. Errors treat images as independent, not the classes and levels
    of one image; a bin is of as many trials as there are images in it, at most.
    """

    edges: Float[np.ndarray, " edges"]  # one more than bins
    confidence: Float[np.ndarray, " bins"]  # mean probability
    frequency: Share  # share of true classes, (bins,)
    counts: Int[np.ndarray, " bins"]

    @property
    def expected_error(self) -> float:
        """Mean of |frequency - confidence| over all entries (expected calibration error)."""
        deviation = np.abs(np.nan_to_num(np.asarray(self.frequency.value) - self.confidence))
        return float((deviation * self.counts).sum() / self.counts.sum())


def reliability(
    record: TrackedPosterior,
    level: int | None = None,
    *,
    num_bins: int = 10,
    partition: PartitionLike = None,
) -> Reliability:
    """Reliability diagram over all classes, at one level (index into `record.sigmas`) or pooled.

    Source: Guo et al. 2017 (arXiv 1706.04599), here for every class and not the winner alone, with
    the ratio estimator's error over images.

    Raises:
        ValueError: If the tracked posterior has no labels or no such level, or there are fewer than two
            images or one bin.
    """
    labels, num_images = record.group_labels(partition), record.num_images
    num_bins = as_count(num_bins, "num_bins")
    if num_images < 2:
        raise ValueError(f"A reliability diagram needs two images; got {num_images}.")
    p = np.exp(record.log_probabilities(partition))
    if level is not None and level not in range(-len(p), len(p)):
        raise ValueError(
            f"`level` must be the index of one of the {len(p)} levels, not its noise; got {level}."
        )
    p = p if level is None else p[[level]]
    hit = np.broadcast_to(labels[:, None] == np.arange(p.shape[-1]), p.shape)
    edges = np.linspace(0, 1, num_bins + 1)
    bins = np.clip(np.digitize(p, edges) - 1, 0, num_bins - 1)
    inside = bins[..., None] == np.arange(num_bins)  # L N C bins

    def of_images(entries: np.ndarray) -> np.ndarray:
        """Entries that each image has in each bin, over its levels, paths and classes."""
        return entries.sum((0, 2)).reshape(num_images, record.num_paths, -1).sum(1).astype(float)

    n, hits = of_images(inside), of_images(inside & hit[..., None])
    counts = n.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        frequency = hits.sum(0) / counts
        residual = ((hits - frequency * n) ** 2).sum(0)
        stderr = np.sqrt(residual * num_images / (num_images - 1)) / counts
        confidence = np.einsum("lnc,lncb->b", p, inside) / counts
    estimate = Estimate(frequency, stderr, float(num_images - 1))
    share = Share.of(estimate, (n > 0).sum(0))
    return Reliability(edges, confidence, share, counts.astype(int))
