"""The tree of decisions: classes merged by the noise at which the model tells them apart.

Two classes are apart from the log-SNR of their half-entropy point on (`pairs`). Pairs that are confused down
to the lowest noise merge first; a group's height against another is the average over its pairs (average
linkage; scipy), so that heights are monotone. On a mixture made by a hierarchy the tree is the hierarchy.

The *support* of a fork is the share of bootstrap samples of the images, drawn class by class, whose tree has
the same group of classes (Felsenstein 1985). Below one half the tree does not know better than one fork of
many ways, and is drawn so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import linkage

from gmm_speciation.estimate import in_digits
from model_bridges.entropy.pairs import PairEntropies, tracked_pairs
from model_bridges.tracking.tracked import TrackedPosterior

NUM_BOOTSTRAPS = 200
_SHOWN = 6  # forks in a `repr`
Group = frozenset[int]


@dataclass(frozen=True, eq=False)
class DecisionTree:
    """Forks in the order in which classes merge, from the lowest noise up.

    Args:
        classes: Labels of the leaves, 0 to C - 1.
        merges: The two nodes below each fork: leaves by their place, fork i as C + i.
        heights: Log-SNR of each fork, decreasing.
        support: Share of bootstrap samples with the group of each fork; that of the last is 1.
    """

    classes: Int[np.ndarray, " C"]
    merges: Int[np.ndarray, "F 2"]
    heights: Float[np.ndarray, " F"]
    support: Float[np.ndarray, " F"]

    @property
    def groups(self) -> list[Group]:
        """The classes below each fork."""
        return _groups(self.merges, self.classes)

    @property
    def sigmas(self) -> Float[np.ndarray, " F"]:
        """Noise of each fork."""
        return np.exp(-self.heights / 2)

    def __repr__(self) -> str:
        lines = [
            f"λ = {in_digits(height)} (σ = {in_digits(sigma)}, support {support:.0%})"
            for height, sigma, support in zip(self.heights, self.sigmas, self.support, strict=True)
        ]
        if len(lines) > _SHOWN:
            lines[_SHOWN - 1 : -1] = ["…"]
        names = [str(k) for k in range(max(self.classes) + 1)]
        return f"DecisionTree({self.in_words(names)}; forks at {', '.join(lines)})"

    def plot(self, class_names: Sequence[str] | None = None, title: str = "model") -> list[Any]:
        """The tree on an axis of noise; returns the matplotlib axes, one in a list.

        Args:
            class_names: Of all classes of the model; their numbers by default.
            title: Above it.
        """
        plotting = import_module("model_bridges.crosscheck.plotting")  # lies above this module
        names = class_names or [str(k) for k in range(max(self.classes) + 1)]
        return plotting.plot_trees({title: self}, list(names)).axes

    def in_words(self, names: Sequence[str], least_support: float = 0.5) -> str:
        """Nested brackets, `((3 9) 8)`, with forks of less support dissolved into the one above."""
        num = len(self.classes)

        def inside(node: int) -> str:
            if node < num:
                return names[int(self.classes[node])]
            parts = " ".join(map(inside, map(int, self.merges[node - num])))
            top = node == num + len(self.merges) - 1
            return f"({parts})" if top or self.support[node - num] >= least_support else parts

        return inside(num + len(self.merges) - 1)


def decision_tree(
    tracked: TrackedPosterior | PairEntropies, num_bootstraps: int = NUM_BOOTSTRAPS, seed: int = 0
) -> DecisionTree:
    """The tree of the classes.

    Args:
        tracked: Tracked posteriors with labels, or the pairs of them or of a mixture.
        num_bootstraps: Samples of the images that supports are shares of.
        seed: Of these.

    Raises:
        ValueError: As `tracked_pairs`; if there are no bootstrap samples.
    """
    if num_bootstraps < 1:
        raise ValueError(f"A support needs bootstrap samples; got {num_bootstraps}.")
    pairs = tracked if isinstance(tracked, PairEntropies) else tracked_pairs(tracked)
    merges, heights = _merged(pairs, pairs.estimate()[0])
    groups = _groups(merges, pairs.classes)
    counts = np.zeros(len(groups))
    for points in pairs.resampled(num_bootstraps, seed):
        found = set(_groups(_merged(pairs, points)[0], pairs.classes))
        counts += [group in found for group in groups]
    return DecisionTree(pairs.classes, merges, heights, counts / num_bootstraps)


def _merged(
    pairs: PairEntropies, points: Float[np.ndarray, " P"]
) -> tuple[Int[np.ndarray, "F 2"], Float[np.ndarray, " F"]]:
    """Forks and their log-SNR. A pair that is never told apart stands at the cleanest level."""
    cleanest = float(pairs.log_snr[0])
    together = cleanest - np.where(np.isfinite(points), points, cleanest)
    forks = linkage(together, "average")
    return forks[:, :2].astype(int), cleanest - forks[:, 2]


def _groups(merges: Int[np.ndarray, "F 2"], classes: Int[np.ndarray, " C"]) -> list[Group]:
    below: list[Group] = [frozenset([int(k)]) for k in classes]
    for left, right in merges:
        below.append(below[left] | below[right])
    return below[len(classes) :]
