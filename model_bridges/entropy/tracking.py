"""Tracking as a job in chunks: every quantity of the tracking pass that is a mean over images.

One pass serves the estimators

    tracking            entropy of the tracked posterior, class against class
    gap                 denoiser gap against the Bayes mixture
    gap-unconditional   denoiser gap against the unconditional model
    tracking-ratio      entropy of the ratio to the unconditional model
    tracking-forced     binary entropy with the forced prior 1/2

along noised images, or along trajectories that the model generates itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gmm_speciation.curves import EntropyCurve
from gmm_speciation.estimate import Estimate
from model_bridges.entropy.evidence import UNDECIDED, Evidence, evidence, image_moments
from model_bridges.entropy.gap import integral_from_top
from model_bridges.entropy.levels import place_levels
from model_bridges.entropy.linear_bounds import wiener_errors
from model_bridges.entropy.problem import ProblemJob
from model_bridges.runs.jobs import NUM_BATCHES, Arrays, BatchSums, ChunkSums, Means, counted, merge
from model_bridges.tracking.elimination import EliminationInterval, left_out
from model_bridges.tracking.forward import track
from model_bridges.tracking.generated import generated_posterior
from model_bridges.tracking.readouts import (
    FORCED,
    RATIO,
    chain_entropy,
    doubts,
    forced_prior_entropy,
    label_cross_entropy,
    ratio_entropy,
)
from model_bridges.tracking.tracked import PartitionLike, TrackedPosterior

DEFAULT_NUM_LEVELS = 32
LARGEST_ROW = 50_000  # numbers a path: beyond, posteriors of single paths are not kept
KINDS = {  # what an estimator averages, and the name of its curve
    "tracking": ("entropy", "tracking"),
    "gap": ("bayes", "denoiser gap (bayes)"),
    "gap-unconditional": ("unconditional", "denoiser gap (unconditional)"),
    "tracking-ratio": ("ratio", RATIO),
    "tracking-forced": ("forced", FORCED),
}


@dataclass(frozen=True, eq=False)
class TrackingJob(ProblemJob):
    """Tracking of every image of a problem; 32 levels placed by the pilot by default.

    Args:
        problem: Model and images.
        num_paths: Noise paths of each image.
        trajectories: Track along trajectories of the labels' classes that the model generates, one an
            image, in place of the images. Levels must be given.
        keep_posteriors: Keep the posteriors of single paths as rows.
        drop_below: As of `track`; the read-outs of ratios to the unconditional model need all classes.
    """

    kind = "tracking"

    num_paths: int = 1
    trajectories: bool = False
    keep_posteriors: bool = True
    drop_below: float = 0.0

    def settings(self) -> dict[str, Any]:
        found = super().settings()
        if not self.drop_below:  # as a run of before has it
            del found["drop_below"]
        return found

    def __post_init__(self) -> None:
        if self.trajectories and (self.problem.labels is None or self.problem.sigmas is None):
            raise ValueError(
                "Trajectories of the model need the class of each, `labels`, and the levels of the "
                "sampler, `sigmas`, such as `karras_sigmas(64)`."
            )
        if self.trajectories and self.drop_below:
            raise ValueError(
                "`drop_below` leaves classes of noised images out; trajectories of the model keep all."
            )

    @counted
    def pilot(self) -> ChunkSums:
        """The levels, and what a linear denoiser achieves on each image at them."""
        p = self.problem
        levels = place_levels(*p.rate(), DEFAULT_NUM_LEVELS) if p.sigmas is None else p.sigmas
        return ChunkSums(0, {"levels": levels} if self.trajectories else p.bounded(levels))

    @counted
    def chunk(self, index: int, pilot: ChunkSums) -> ChunkSums:
        """Sums over the images of one chunk."""
        p, images = self.problem, self.problem.images(index)
        record, clean = self._trace(images, pilot.totals["levels"])
        totals = sums_of(record, clean, p.partitions)
        if "wiener" in pilot.totals:
            totals["wiener"] = pilot.totals["wiener"][:, images].sum(1)
        rows: Arrays = {}
        for name, partition in p.partitions.items():
            size = len(record.sigmas) * partition.num_classes
            if self.keep_posteriors and size <= LARGEST_ROW:
                posterior = np.exp(record.log_probabilities(name)).swapaxes(0, 1)
                rows[f"posterior {name}"] = posterior.astype(np.float32)
        return ChunkSums(record.num_images, totals, rows)

    def _trace(
        self, images: slice, levels: Float[np.ndarray, " L"]
    ) -> tuple[TrackedPosterior, Float[Tensor, "N *event"]]:
        """The record of one chunk, and its clean states."""
        p = self.problem
        labels = None if p.labels is None else p.labels[images]
        options = p.options | {"sigmas": levels, "first": images.start}
        if self.trajectories:
            size = images.stop - images.start
            return generated_posterior(p.denoiser, size, labels=labels, **options)
        options |= {"num_paths": self.num_paths, "drop_below": self.drop_below}
        return track(p.denoiser, p.x0[images], labels, **options), p.x0[images]

    def curve(self, merged: BatchSums, name: str, estimator: str = "tracking") -> EntropyCurve:
        """The curve of one partition by one of `KINDS`.

        Raises:
            ValueError: If the estimator is unknown, or needs labels or an unconditional model that
                were not there, and as `BatchSums.evaluate`.
        """
        if estimator not in KINDS:
            raise ValueError(f"`estimator` must be one of {', '.join(KINDS)}; got {estimator!r}.")
        quantity, method = KINDS[estimator]
        key, gap = f"{quantity} {name}", estimator.startswith("gap")
        if key not in merged.totals:
            raise ValueError(
                f"`estimator={estimator!r}` needs an unconditional model"
                + (" and labels" if estimator == "tracking-forced" else "")
                + ", which this job did not have. Use 'tracking' or 'gap'."
            )
        sigmas = merged.pilot.totals["levels"]
        log_snr = -2 * np.log(sigmas)
        total = self.problem.prior_entropy(self.problem.partitions[name])
        if estimator == "tracking-forced":
            total = float(np.log(2))

        def entropy(means: Means) -> np.ndarray:
            return total - integral_from_top(sigmas, means[key]) if gap else means[key]

        def rate(means: Means) -> np.ndarray:
            if gap or estimator == "tracking":
                return means[key if gap else f"bayes {name}"] / 2
            return -np.gradient(means[key], log_snr)

        return merged.curve(log_snr, entropy, rate, total, method)

    def evidence(self, merged: BatchSums, name: str) -> Evidence:
        """What the pass says about the model, for one partition."""
        # Trajectories are paths of their ends up to the sampler's step, which the mmse form would show.
        single = self.problem.partitions[name].is_trivial and not self.trajectories
        found = evidence(merged, name, merged.pilot.totals["levels"], single)
        # Trajectories begin as noise alone, of which x says nothing.
        return replace(found, start=np.inf if self.trajectories else None)

    def elimination(self, merged: BatchSums, name: str) -> EliminationInterval | None:
        """What the classes left out can do to one partition's entropy; None where all were kept."""
        if f"candidates {name}" not in merged.totals:
            return None

        def mean(key: str) -> Estimate:
            return merged.evaluate(lambda means: means[f"{key} {name}"])[0]

        true = mean("true dropped") if f"true dropped {name}" in merged.totals else None
        num_classes = self.problem.partitions[name].num_classes
        return EliminationInterval.of(mean("candidates"), mean("dropped"), true, num_classes)

    def step_error(self, merged: BatchSums, name: str) -> Estimate:
        """Entropy of the fine chain minus that of the coarse one, `(L,)`: what extrapolation corrects."""
        return merged.evaluate(lambda means: means[f"step {name}"])[0]


def sums_of(
    record: TrackedPosterior,
    clean: Float[Tensor, "N *event"],
    partitions: Mapping[str, PartitionLike],
) -> Arrays:
    """Totals over the images of a tracked posterior, whose clean states are given."""
    values = {
        f"{quantity} {name}": part
        for name, partition in partitions.items()
        for quantity, part in quantities(record, partition).items()
    }
    values["error bayes"] = record.fine.bayes_error
    if record.unconditional_error is not None:
        values["error unconditional"] = record.unconditional_error
    if record.label_error is not None:
        scale = 1 / record.sigmas[:, None] ** 2
        values["mmse bayes"] = (record.bayes_error - record.label_error) * scale
        if record.unconditional_error is not None:
            free = (record.unconditional_error - record.label_error) * scale
            values["mmse unconditional"] = free
    totals = {key: record.by_image(part).sum(1) for key, part in values.items()}
    return totals | image_moments(clean)


def merged_posterior(
    record: TrackedPosterior,
    clean: Float[Tensor, "N *event"],
    partitions: Mapping[str, PartitionLike],
) -> BatchSums:
    """The sums of a whole tracked posterior in batches of images, as those of a job in chunks."""
    bound = wiener_errors(clean, record.sigmas)
    order = np.random.default_rng(0).permutation(record.num_images)
    chunks = []
    for batch in np.array_split(order, min(NUM_BATCHES, record.num_images)):
        own = clean[torch.from_numpy(batch).to(clean.device)]
        totals = sums_of(record.images(batch), own, partitions)
        if bound is not None:
            totals["wiener"] = bound[:, batch].sum(1)
        chunks.append(ChunkSums(len(batch), totals))
    return merge(chunks, len(chunks), ChunkSums(0, {"levels": record.sigmas}))


def quantities(
    record: TrackedPosterior, partition: PartitionLike
) -> dict[str, Float[np.ndarray, "L N"]]:
    """What is averaged over paths, for one partition of a tracked posterior; gaps per unit log sigma."""
    chosen = record.partition(partition)
    scale = 1 / record.sigmas[:, None] ** 2
    own = doubts(record.log_posterior, chosen)
    result = {
        "entropy": record.extrapolate(lambda chain: chain_entropy(chain, chosen)),
        "step": chain_entropy(record.fine, chosen) - chain_entropy(record.coarse, chosen),
        "bayes": record.group_gap(chosen) * scale,
        "undecided": (own["confidence"] < UNDECIDED).astype(float),
        **own,
    }
    if record.excess is not None:
        result["unconditional"] = result["bayes"] + record.excess * scale
    if record.kept is not None:
        result |= left_out(record, chosen)
    if record.log_ratio is not None:
        result["ratio"] = ratio_entropy(record, chosen)
        if record.labels is not None:
            result["forced"] = forced_prior_entropy(record, chosen)
    if record.labels is not None:
        labels = record.group_labels(chosen)
        result["cross_entropy"] = record.extrapolate(
            lambda chain: label_cross_entropy(chain.log_posterior, chosen, labels)
        )
        hit = record.log_probabilities(chosen).argmax(-1) == labels[None, :]
        result["accuracy"] = hit.astype(float)
    return result
