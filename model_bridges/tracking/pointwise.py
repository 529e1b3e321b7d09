"""Single images: the posterior of each along its own path, and when it became what it is.

The *final class* of a path is the most probable one at the cleanest level. Two moments are read off:

    decision_sigma      the noise below which the final class keeps a probability above 1/2; between two
                        levels by interpolation in log sigma, the largest level where it leads all along
    half_entropy_sigma  the noise below which the entropy of its posterior stays below half of H(C)

They differ for images that hesitate between two classes. Posteriors are those of the fine chain.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.special import xlogy

from model_bridges.tracking.tracked import PartitionLike, TrackedPosterior


@dataclass(frozen=True, eq=False)
class Pointwise:
    """Posteriors `(N, L, C)` of single paths, their final classes and moments of decision."""

    sigmas: Float[np.ndarray, " L"]
    posterior: Float[np.ndarray, "N L C"]
    final_class: Int[np.ndarray, " N"]
    decision_sigma: Float[np.ndarray, " N"]
    half_entropy_sigma: Float[np.ndarray, " N"]
    class_names: tuple[str, ...]


def pointwise_of(
    sigmas: Float[np.ndarray, " L"],
    posterior: Float[np.ndarray, "N L C"],
    prior_entropy: float,
    class_names: Sequence[str] | None = None,
) -> Pointwise:
    """Final classes and moments of decision of given posteriors.

    Raises:
        ValueError: If the names do not fit the classes.
    """
    num_classes = posterior.shape[2]
    names = tuple(map(str, range(num_classes))) if class_names is None else tuple(class_names)
    if len(names) != num_classes:
        raise ValueError(f"There must be one name a class, {num_classes}; got {len(names)}.")
    posterior = np.asarray(posterior, float)
    final = posterior[:, 0].argmax(-1)
    own = posterior[np.arange(len(posterior)), :, final]
    entropy = -xlogy(posterior, posterior).sum(-1)
    return Pointwise(
        sigmas,
        posterior,
        final,
        _last_crossing(sigmas, own - 0.5),
        _last_crossing(sigmas, prior_entropy / 2 - entropy),
        names,
    )


def pointwise(
    record: TrackedPosterior,
    partition: PartitionLike = None,
    class_names: Sequence[str] | None = None,
) -> Pointwise:
    """The single paths of a tracked posterior, for the classes of a partition.

    Raises:
        ValueError: If the names do not fit the classes, or as `TrackedPosterior.partition`.
    """
    posterior = np.exp(record.log_probabilities(partition)).swapaxes(0, 1)
    names = record.partition(partition).names if class_names is None else class_names
    return pointwise_of(record.sigmas, posterior, record.prior_entropy(partition), names)


def _last_crossing(
    sigmas: Float[np.ndarray, " L"], excess: Float[np.ndarray, "N L"]
) -> Float[np.ndarray, " N"]:
    """Noise up to which `excess` is positive without a break, from the cleanest level."""
    run = np.cumprod(excess > 0, axis=1).sum(1)
    lower = np.clip(run - 1, 0, len(sigmas) - 1)
    upper = np.clip(run, 0, len(sigmas) - 1)
    rows = np.arange(len(excess))
    below, above = excess[rows, lower], excess[rows, upper]
    inside = (run > 0) & (run < len(sigmas))
    share = np.where(inside, below / np.where(inside, below - above, 1.0), 0.0)
    position = np.log(sigmas)
    return np.exp(position[lower] + share * (position[upper] - position[lower]))
