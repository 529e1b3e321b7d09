"""All metrics of one run of drawn images, with errors and what pairing it with another run takes."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from gmm_speciation.estimate import Estimate
from gmm_speciation.shares import Share
from model_bridges.quality.feature_classifier import FeatureClassifier, Images
from model_bridges.quality.frechet import sampled_frechet
from model_bridges.quality.jackknife import NUM_BATCHES, Jackknifed, batch_index
from model_bridges.quality.precision_recall import precision_recall
from model_bridges.quality.reference import Reference
from model_bridges.quality.shares import as_target, class_balance, class_diversity, class_shares


@dataclass(frozen=True, eq=False)
class Quality:
    """Drawn images against a reference; errors are those of the n drawn images, R - 1 degrees of freedom.

    Shares of drawn images are counted, with the exact interval of independent trials; recall, a share of
    data, has the jackknife's error, and no smaller one than a coin. `replicates` holds every metric
    without each batch, for comparisons of runs that used the same noise image by image.
    """

    num_images: int
    removed: int | None
    reference: str  # digest
    frechet: Estimate  # squared distance, squared feature units; biased upwards, compare at equal n
    precision: Share
    recall: Share
    removed_share: Share | None  # share of the removed class, if there is one
    balance: Estimate  # KL over the kept classes, nats
    shares: Share  # (C,)
    diversity: Estimate  # spread inside classes over that of data
    class_diversity: Estimate  # (C,), NaN for classes hardly drawn
    replicates: dict[str, Jackknifed]

    @property
    def balance_floor(self) -> float:
        """Average balance of as many exact draws with the right shares, `(|K| - 1) / (2 n_kept)`."""
        removed = 0.0 if self.removed_share is None else float(self.removed_share.value)
        kept = len(self.shares.value) - (self.removed is not None)
        return (kept - 1) / (2 * max(1.0, self.num_images * (1 - removed)))

    @property
    def left(self) -> Share:
        """What is left of the removed class.

        Raises:
            ValueError: If no class was removed.
        """
        if self.removed_share is None:
            raise ValueError("Nothing is left of a class that was not removed: give `removed`.")
        return self.removed_share

    def replicate(self, metric: str) -> Jackknifed:
        """A metric with its values without each batch.

        Raises:
            ValueError: If the run has no such metric.
        """
        if metric not in self.replicates:
            raise ValueError(
                f"`metric` must be one of {', '.join(self.replicates)}; got {metric!r}."
            )
        return self.replicates[metric]


def assess(
    images: Images,
    judge: FeatureClassifier,
    reference: Reference,
    removed: int | None = None,
    num_batches: int = NUM_BATCHES,
    *,
    balance_to: Literal["uniform", "data"] | Float[np.ndarray, " C"] = "uniform",
) -> Quality:
    """Judge drawn images.

    Args:
        images: `(n, *event)`, in the units that the judge was trained in. Runs that are to be paired
            list images of the same noise in the same places.
        judge: The classifier.
        reference: Data, as `Reference.of(judge, images, labels)`; the same for all runs.
        removed: A class that was to be removed. The reference then is the data of the other classes,
            and balance and diversity are taken over those.
        num_batches: R of the jackknife.
        balance_to: What balance compares with: equal shares, the data's, or these.

    Raises:
        ValueError: If images are not finite or of another shape, too few for the features or the
            batches, `removed` is no class, or `balance_to` is unknown or not a positive share of every
            class that is kept; if one is negative or not finite.
    """
    data = reference.without(removed)
    if isinstance(balance_to, str):
        named = {"uniform": np.ones(judge.num_classes), "data": data.shares}
        if balance_to not in named:
            raise ValueError(
                f"`balance_to` must be 'uniform', 'data' or shares; got {balance_to!r}."
            )
        balance_to = named[balance_to]
    target = as_target(balance_to, "balance_to")
    if target.shape != (judge.num_classes,):
        raise ValueError(
            f"`balance_to` must be a share of each of {judge.num_classes} classes; got shape {target.shape}."
        )
    features = judge.features(images)
    predicted = judge.logits(features).argmax(1)
    num = len(features)
    batches = batch_index(num, num_batches)
    split = batches, num_batches
    shares = class_shares(predicted, judge.num_classes, *split)
    precision, recall = precision_recall(
        features, data.features, *split, reference_radii=data.radii
    )
    diversity, by_class = class_diversity(
        features, predicted, data.traces, data.shares, data.kept, *split
    )
    replicates = {
        "frechet": sampled_frechet(features, data.moments, *split),
        "precision": precision,
        "recall": recall,
        "balance": class_balance(shares, data.kept, target),
        "diversity": diversity,
    }
    if removed is not None:
        replicates["removed_share"] = shares[removed]
    return Quality(
        num_images=num,
        removed=removed,
        reference=data.digest,
        frechet=replicates["frechet"].estimate,
        precision=Share.counted(precision.value, num),
        recall=Share.of(recall.estimate, len(data.features)),
        removed_share=None if removed is None else Share.counted(shares[removed].value, num),
        balance=replicates["balance"].estimate,
        shares=Share.counted(shares.value, num),
        diversity=diversity.estimate,
        class_diversity=by_class.estimate,
        replicates=replicates,
    )
