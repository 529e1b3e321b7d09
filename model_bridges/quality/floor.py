"""The distance between two true samples: below it no difference from the data is seen.

held out against training    also holds what the judge learned by heart about its training images
halves of one sample         disjoint random parts of n images each, the size to compare a run at
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from gmm_speciation.estimate import Estimate
from model_bridges.quality.assessment import Quality, assess
from model_bridges.quality.feature_classifier import FeatureClassifier, Images, Labels
from model_bridges.quality.frechet import Moments, frechet_distance
from model_bridges.quality.reference import Reference


@dataclass(frozen=True, eq=False)
class Floor:
    """What true samples score against each other."""

    held_out: Quality  # held-out images judged against the reference
    num_images: int  # of each half
    halves: Estimate  # Fréchet distance of two halves; its error is the spread of one such pair


def floor(
    judge: FeatureClassifier,
    reference: Reference,
    held_out: Images,
    held_out_labels: Labels,
    *,
    removed: int | None = None,
    num_images: int | None = None,
    num_splits: int = 20,
    num_batches: int = 10,
    seed: int = 0,
    balance_to: Literal["uniform", "data"] | Float[np.ndarray, " C"] = "uniform",
) -> Floor:
    """Distances between true samples.

    Args:
        judge: The classifier.
        reference: Data that runs are compared with.
        held_out: Images outside the reference and the judge's training.
        held_out_labels: Their classes.
        removed: A class to leave out of both.
        num_images: Size of each half, that of the runs; half of the reference by default, its most.
        num_splits: Random splits of the reference.
        num_batches: Batches of the held-out images.
        seed: Of the splits.
        balance_to: As of `assess`.

    Raises:
        ValueError: If the reference is smaller than two halves, or as `assess`.
    """
    data = reference.without(removed)
    own = Reference.of(judge, held_out, held_out_labels).without(removed)
    stays = np.isin(np.asarray(held_out_labels), own.kept)
    most = len(data.features) // 2
    num = most if num_images is None else num_images
    if not 2 <= num <= most or num_splits < 2:
        raise ValueError(
            f"`num_images` must be 2 to {most}, half of the reference, and `num_splits` at least 2; got "
            f"{num} and {num_splits}."
        )
    rng = np.random.default_rng(seed)
    distances = []
    for _ in range(num_splits):
        order = rng.permutation(len(data.features))
        first, second = order[:num], order[num : 2 * num]
        distances.append(
            frechet_distance(Moments.of(data.features[first]), Moments.of(data.features[second]))
        )
    # Splits share images: their mean is known no better than one of them, to be safe.
    halves = Estimate(np.mean(distances), np.std(distances, ddof=1), float(num_splits - 1))
    judged = assess(held_out[stays], judge, reference, removed, num_batches, balance_to=balance_to)
    return Floor(judged, num, halves)
