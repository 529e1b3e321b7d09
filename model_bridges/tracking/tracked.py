"""The record of one tracking pass, from which every read-out is computed.

Levels are noise scales `sigma`, increasing, so that the log-SNR `-2 log sigma` decreases strictly
as on an entropy curve. Axes: L levels, N paths, K classes; an image may have several noise paths, side
by side, and errors are those of independent images. Squared distances are sums over the
entries of a state, in its squared units; log-probabilities are in nats.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import logsumexp, xlogy

from gmm_speciation.estimate import Estimate
from gmm_speciation.partitions import Partition, as_partition

PartitionLike = str | Partition | Sequence[int] | None
Distances = Float[np.ndarray, "L N"]


@dataclass(frozen=True, eq=False)
class Chain:
    """Class posteriors of one chain of levels, and the distances that depend on them.

    `D_k` is the denoiser of class k, `Dbar = sum_k p_k D_k` the Bayes mixture with the tracked
    posterior p, `D_u` the unconditional model.
    """

    log_posterior: Float[np.ndarray, "L N K"]
    bayes_gap: Distances  # sum_k p_k |D_k - Dbar|^2
    bayes_error: Distances  # |x_0 - Dbar|^2
    excess: Distances | None  # |Dbar - D_u|^2
    group_gaps: dict[str, Distances]  # sum_g p_g |D_g - Dbar|^2, one a partition


@dataclass(frozen=True, eq=False)
class TrackedPosterior:
    """Class posteriors of N images along their noise paths, and the distances of their denoisers.

    `fine` is the chain through all levels, `coarse` that through every other one, both from the same
    outputs and both given at every level. A posterior of an image is that of `fine`; an average over
    images is `2 fine - coarse`, by `extrapolate`, free of the first-order error in the step.
    """

    sigmas: Float[np.ndarray, " L"]
    fine: Chain
    coarse: Chain
    prior: Float[np.ndarray, " K"]
    labels: Int[np.ndarray, " N"] | None  # y
    label_error: Distances | None  # |x_0 - D_y|^2
    labelled_gap: Distances | None  # |D_y - D_u|^2
    unconditional_error: Distances | None  # |x_0 - D_u|^2
    partitions: dict[str, Partition]
    provenance: str
    seed: int
    evaluations: int  # forward passes of one noisy image
    num_paths: int = 1  # of each image; path i belongs to image i // num_paths
    log_ratio: Float[np.ndarray, "L N K"] | None = None  # sum of log p(x'|x,c) / p(x'|x), D_u for p
    path_law: str = "forward-noised images"
    kept: Bool[np.ndarray, "L N K"] | None = None  # candidates, where classes were left out

    def extrapolate(self, quantity: Callable[[Chain], Distances]) -> Distances:
        """`2 q(fine) - q(coarse)`: its mean over images is right to second order in the step.

        Values of single images may leave the range of `quantity`.
        """
        return 2 * quantity(self.fine) - quantity(self.coarse)

    @property
    def log_posterior(self) -> Float[np.ndarray, "L N K"]:
        """Tracked log-posterior of every image, from the fine chain."""
        return self.fine.log_posterior

    @property
    def bayes_gap(self) -> Distances:
        """`sum_k p_k |D_k - Dbar|^2`, extrapolated."""
        return self.extrapolate(lambda chain: chain.bayes_gap)

    @property
    def bayes_error(self) -> Distances:
        """`|x_0 - Dbar|^2`, extrapolated."""
        return self.extrapolate(lambda chain: chain.bayes_error)

    @property
    def excess(self) -> Distances | None:
        """`|Dbar - D_u|^2`, extrapolated; None without an unconditional model."""
        if self.fine.excess is None or self.coarse.excess is None:
            return None
        return 2 * self.fine.excess - self.coarse.excess

    @property
    def log_snr(self) -> Float[np.ndarray, " L"]:
        """`-2 log sigma`, strictly decreasing."""
        return -2 * np.log(self.sigmas)

    @property
    def num_images(self) -> int:
        return self.log_posterior.shape[1] // self.num_paths

    def by_image(self, values: Distances) -> Float[np.ndarray, "L images"]:
        """Means over the paths of each image, `(L, num_images)`."""
        return values.reshape(len(values), self.num_images, self.num_paths).mean(-1)

    def estimate(self, values: Distances) -> Estimate:
        """Mean over images at every level, `(L,)`.

        Raises:
            ValueError: If there are fewer than two images.
        """
        return Estimate.from_samples(self.by_image(values), axis=1)

    def partition(self, partition: PartitionLike = None) -> Partition:
        """A partition of the classes: by name, as labels, or None for every class its own.

        Raises:
            ValueError: If the name is unknown or the labels do not fit the classes.
        """
        if isinstance(partition, str):
            if partition not in self.partitions:
                known = ", ".join(map(repr, self.partitions)) or "none"
                raise ValueError(
                    f"It knows the partitions {known}; got {partition!r}. Pass it to `track` "
                    "in `partitions`."
                )
            return self.partitions[partition]
        return as_partition(partition, len(self.prior))

    def log_probabilities(self, partition: PartitionLike = None) -> Float[np.ndarray, "L N C"]:
        """Tracked log-posterior of the classes of a partition, from the fine chain."""
        return group_log_sum(self.log_posterior, self.partition(partition))

    def prior_entropy(self, partition: PartitionLike = None) -> float:
        """H(C) under the prior, in nats."""
        with np.errstate(divide="ignore"):
            prior = np.exp(group_log_sum(np.log(self.prior), self.partition(partition)))
        return float(-xlogy(prior, prior).sum())

    def group_labels(self, partition: PartitionLike = None) -> Int[np.ndarray, " N"]:
        """Class of every image in a partition.

        Raises:
            ValueError: If the tracked posterior has no labels.
        """
        if self.labels is None:
            raise ValueError(
                "This needs the true classes, and it was tracked without; pass `labels` to `track`."
            )
        return np.asarray(self.partition(partition).labels)[self.labels]

    def group_gap(self, partition: PartitionLike = None) -> Distances:
        """`sum_g p_g |D_g - Dbar|^2` of a partition the tracked posterior was made with, extrapolated.

        Raises:
            ValueError: If it was not made with it.
        """
        chosen = self.partition(partition)
        if chosen.is_trivial:
            return self.bayes_gap
        for name, known in self.partitions.items():
            if known.labels == chosen.labels:
                return 2 * self.fine.group_gaps[name] - self.coarse.group_gaps[name]
        raise ValueError(
            "The gap of a partition is measured during the pass, and this one was not among "
            f"{sorted(self.partitions)}; got labels {chosen.labels}. Pass it to `track` in "
            "`partitions`."
        )

    def images(self, index: slice | Int[np.ndarray, " n"]) -> "TrackedPosterior":
        """The record of some of the images only, with all their paths."""
        chosen = np.arange(self.num_images)[index]
        paths = (chosen[:, None] * self.num_paths + np.arange(self.num_paths)).ravel()
        labels = None if self.labels is None else self.labels[paths]
        return mapped(self, lambda _, values: values[:, paths], labels=labels)

    def levels(self, index: slice | Int[np.ndarray, " n"]) -> "TrackedPosterior":
        """The record of some of the levels only."""
        return mapped(self, lambda _, values: values[index], sigmas=self.sigmas[index])

    def batches(self, values: Distances, num_batches: int = 16) -> Float[np.ndarray, "R L"]:
        """Means over R random groups of images, the same groups at every call."""
        values = self.by_image(values)
        order = np.random.default_rng(0).permutation(self.num_images)
        groups = np.array_split(order, min(num_batches, self.num_images))
        return np.stack([values[:, group].mean(1) for group in groups])


def mapped(
    record: Any, change: Callable[[str, np.ndarray], np.ndarray], where: str = "", **fields: Any
) -> Any:
    """A tracked posterior or a chain with every array of levels and paths `(L, N, ...)` changed.

    Args:
        record: The one or the other.
        change: Of the place of an array, such as "fine group_gaps NAME", and the array.
        where: The place of a chain.
        **fields: Others that change.
    """
    found = dict(fields)
    for name, value in vars(record).items():
        place = where + name
        if isinstance(value, Chain):
            found[name] = mapped(value, change, f"{place} ")
        elif name == "group_gaps":
            found[name] = {key: change(f"{place} {key}", gaps) for key, gaps in value.items()}
        elif isinstance(value, np.ndarray) and value.ndim > 1:
            found[name] = change(place, value)
    return replace(record, **found)


def group_log_sum(
    log_values: Float[np.ndarray, "*batch K"], partition: Partition
) -> Float[np.ndarray, "*batch C"]:
    """`log sum_{k in c} exp(l_k)` for every class of a partition."""
    if partition.is_trivial:
        return log_values
    labels = np.asarray(partition.labels)
    return np.stack(
        [logsumexp(log_values[..., labels == c], axis=-1) for c in range(partition.num_classes)], -1
    )
