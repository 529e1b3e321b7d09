"""The class entropy that a tracked posterior says, with its rate.

With `p_i` the tracked posterior of image i at one noise level, `H = mean_i [-sum_c p_i(c) log p_i(c)]`.
Averages run over images, so errors are those of independent images. Entropy and rate are extrapolated in
the step of the noise levels. Nats throughout.

The literature's other two read-outs take the log ratio l_c of a class to the unconditional model:

    ratio           pi_c = prior_c e^(l_c), at most 1: right in continuous time, off by the square root
                    of the step with heavy tails, not normalised
    forced prior    sigmoid(l_y) of a path's own class y, prior 1/2, the unconditional posing as "not y":
                    right for a rare class only; its binary entropy starts from log 2

Neither is extrapolated; the pure functions are in `gmm_speciation.tracking`.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.signal import savgol_filter
from scipy.special import expit

from gmm_speciation.curves import Batches, EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.partitions import Partition
from gmm_speciation.shares import with_unseen
from model_bridges.tracking.tracked import Chain, PartitionLike, TrackedPosterior, group_log_sum

RATIO = "tracking (ratio to the unconditional)"
FORCED = "tracking (forced prior 1/2, binary)"


def posterior_entropy(
    log_posterior: Float[np.ndarray, "*batch K"], partition: Partition
) -> Float[np.ndarray, "*batch"]:
    """`-sum_c p log p` over the classes of a partition, nats."""
    log_p = group_log_sum(log_posterior, partition)
    # log p = -inf only for a class of prior 0, where p log p = 0.
    return -(np.exp(log_p) * np.where(np.isfinite(log_p), log_p, 0.0)).sum(-1)


def label_cross_entropy(
    log_posterior: Float[np.ndarray, "*batch N K"],
    partition: Partition,
    labels: Int[np.ndarray, " N"],
) -> Float[np.ndarray, "*batch N"]:
    """`-log p_c` of the class c of a partition that each image is labelled with, nats."""
    return -group_log_sum(log_posterior, partition)[..., np.arange(len(labels)), labels]


def doubts(
    log_posterior: Float[np.ndarray, "*batch K"], partition: Partition
) -> dict[str, Float[np.ndarray, "*batch"]]:
    """The largest probability, and what a posterior says of its own scatter.

    "varentropy" is the variance of `-log p` of the class, nats squared; "doubt" that of being right with
    the most probable class.
    """
    log_p = group_log_sum(log_posterior, partition)
    finite = np.where(np.isfinite(log_p), log_p, 0.0)
    mean = (np.exp(log_p) * finite).sum(-1, keepdims=True)
    # The sum of a group may round to a little more than one, and doubt would be negative.
    confidence = np.exp(np.minimum(log_p.max(-1), 0.0))
    return {
        "confidence": confidence,
        "varentropy": (np.exp(log_p) * (finite - mean) ** 2).sum(-1),
        "doubt": confidence * (1 - confidence),
    }


def chain_entropy(chain: Chain, partition: Partition) -> Float[np.ndarray, "L N"]:
    """`-sum_c p log p` of each image at each level, nats."""
    return posterior_entropy(chain.log_posterior, partition)


def tracked_curve(record: TrackedPosterior, partition: PartitionLike = None) -> EntropyCurve:
    """Entropy of the tracked posterior; its rate `-dH/dlambda = E gap / (2 sigma^2)` per unit log-SNR.

    The gap is the Bayes one, at the same noisy states, so the two sides are comparable but not the
    same number: their agreement is a test. Both are extrapolated in the step.

    Raises:
        ValueError: If there are fewer than two images, or the partition was not tracked.
    """
    chosen = record.partition(partition)
    entropy = record.extrapolate(lambda chain: chain_entropy(chain, chosen))
    rate = record.group_gap(partition) / (2 * record.sigmas[:, None] ** 2)
    return curve_of(record, entropy, rate, record.prior_entropy(partition), "tracking")


def step_error(record: TrackedPosterior, partition: PartitionLike = None) -> Estimate:
    """Entropy of the fine chain minus that of the coarse one, `(L,)`: what extrapolation corrects.

    Where it is not small against the entropies, the grid of levels is too coarse.

    Raises:
        ValueError: If there are fewer than two images.
    """
    chosen = record.partition(partition)
    difference = chain_entropy(record.fine, chosen) - chain_entropy(record.coarse, chosen)
    return record.estimate(difference)


def curve_of(
    record: TrackedPosterior,
    entropy: Float[np.ndarray, "L N"],
    rate: Float[np.ndarray, "L N"],
    prior_entropy: float,
    method: str,
) -> EntropyCurve:
    """The curve of per-image entropies and rates, with batches of images for errors of places."""
    batches = Batches(record.batches(entropy), record.batches(rate))
    estimates = with_unseen(record.estimate(entropy), record.estimate(rate), record.num_images)
    return EntropyCurve(record.log_snr, *estimates, prior_entropy, method, batches)


def decision_sigma(
    record: TrackedPosterior, partition: PartitionLike = None
) -> Float[np.ndarray, " N"]:
    """Noise below which the final class on a path keeps a probability above 1/2: its own decision.

    The final class is the most probable one at the cleanest level. The largest level where the class
    leads already at the top of the grid.
    """
    p = np.exp(record.log_probabilities(partition))
    final = p[0].argmax(-1)
    led = p[:, np.arange(p.shape[1]), final] > 0.5
    # Levels grow upwards: count the unbroken run of led levels from the cleanest one.
    run = np.cumprod(led, axis=0).sum(0)
    return record.sigmas[np.maximum(run - 1, 0)]


def slope_curve(record: TrackedPosterior, partition: PartitionLike = None) -> EntropyCurve:
    """The tracked entropy with its own slope as rate, by a local quartic over nine levels.

    Independent of the denoiser gap: where both peak at one place, the two read-outs agree.

    Raises:
        ValueError: If there are fewer than nine levels, or they are not equally spaced in log sigma.
    """
    position = np.log(record.sigmas)
    steps = np.diff(position)
    if len(position) < 9 or not np.allclose(steps, steps[0], rtol=1e-6):
        raise ValueError(
            "The slope needs at least nine levels equally spaced in log sigma, such as "
            f"`numpy.geomspace(0.02, 80, 64)`; got {len(position)}."
        )
    chosen = record.partition(partition)
    entropy = record.extrapolate(lambda chain: chain_entropy(chain, chosen))
    slope = savgol_filter(entropy, 9, 4, deriv=1, delta=steps[0], axis=0)
    total = record.prior_entropy(partition)
    return curve_of(record, entropy, slope / 2, total, "slope of tracking")


def log_ratios(
    record: TrackedPosterior, partition: PartitionLike = None
) -> Float[np.ndarray, "L N C"]:
    """`log p(path | c) / p(path)` of the classes of a partition, the unconditional model as p(path).

    For a group it is `log sum_k (prior_k / prior_group) e^(l_k)`.

    Raises:
        ValueError: If the tracked posterior has no unconditional model.
    """
    if record.log_ratio is None:
        raise ValueError(
            "A ratio to the unconditional model needs one, and the tracked model has none. Use the class "
            "against class read-out, `estimator='tracking'`."
        )
    chosen = record.partition(partition)
    with np.errstate(divide="ignore"):
        log_prior = np.log(record.prior)
    given = group_log_sum(log_prior, chosen)
    # A class without weight has nothing to be the ratio of; with 0 for its log-weight it stays -inf.
    share = group_log_sum(record.log_ratio + log_prior, chosen)
    return share - np.where(np.isfinite(given), given, 0.0)


def ratio_entropy(
    record: TrackedPosterior, partition: PartitionLike = None
) -> Float[np.ndarray, "L N"]:
    """`-sum_c pi_c log pi_c` with `pi_c = min(prior_c e^(l_c), 1)`, not normalised.

    Raises:
        ValueError: As `log_ratios`.
    """
    with np.errstate(divide="ignore"):
        log_prior = group_log_sum(np.log(record.prior), record.partition(partition))
    log_pi = np.minimum(log_ratios(record, partition) + log_prior, 0.0)
    return -(np.exp(log_pi) * np.where(np.isfinite(log_pi), log_pi, 0.0)).sum(-1)


def forced_prior_entropy(
    record: TrackedPosterior, partition: PartitionLike = None
) -> Float[np.ndarray, "L N"]:
    """Binary entropy of `sigmoid(l_y)` for each path's own class y.

    Raises:
        ValueError: As `log_ratios`, or If the tracked posterior has no labels.
    """
    labels = record.group_labels(partition)
    ratio = log_ratios(record, partition)[:, np.arange(len(labels)), labels]
    p = expit(ratio)
    # -log sigmoid(l) = log(1 + e^-l), exact in both tails.
    return p * np.logaddexp(0, -ratio) + (1 - p) * np.logaddexp(0, ratio)


def ratio_curve(record: TrackedPosterior, partition: PartitionLike = None) -> EntropyCurve:
    """Entropy by the ratio to the unconditional model, with its slope as rate.

    Raises:
        ValueError: As `log_ratios`, or if there are fewer than two images.
    """
    entropy = ratio_entropy(record, partition)
    total = record.prior_entropy(partition)
    return curve_of(record, entropy, _slope(record, entropy), total, RATIO)


def forced_prior_curve(record: TrackedPosterior, partition: PartitionLike = None) -> EntropyCurve:
    """Binary entropy by the forced prior of 1/2, from log 2 in pure noise, with its slope as rate.

    Raises:
        ValueError: As `forced_prior_entropy`, or if there are fewer than two images.
    """
    entropy = forced_prior_entropy(record, partition)
    return curve_of(record, entropy, _slope(record, entropy), float(np.log(2)), FORCED)


def _slope(record: TrackedPosterior, entropy: Float[np.ndarray, "L N"]) -> Float[np.ndarray, "L N"]:
    """`-dH/dlambda` by differences of neighbouring levels."""
    return -np.gradient(entropy, record.log_snr, axis=0)
