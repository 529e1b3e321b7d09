"""Jobs cut into chunks, and what their sums say.

A chunk of a job is a function of the settings and of its index alone. It leaves *totals*, sums over the
images it holds, which merge by addition in the order of the chunks, and *rows*, one an image, which
are joined in that order. Chunk i belongs to batch `i mod R`; batches hold different images and noise,
so the delete-one jackknife over them gives the error of any function of the means, with R - 1 degrees
of freedom. For a mean and batches of one size that is the error of the batch means themselves.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from gmm_speciation.curves import Batches, EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.progress import SILENT, Progress
from gmm_speciation.shares import with_unseen

NUM_BATCHES = 16

Arrays = dict[str, np.ndarray]
Means = Mapping[str, np.ndarray]
Step = TypeVar("Step", bound=Callable[..., "ChunkSums"])


@dataclass(frozen=True, eq=False)
class ChunkSums:
    """What one chunk leaves: `count` images, totals over them, rows of them, and its cost."""

    count: int
    totals: Arrays
    rows: Arrays = field(default_factory=dict)
    evaluations: int = 0


@runtime_checkable
class Job(Protocol):
    """A computation that can be cut into chunks.

    `pilot` is made once, before the chunks, and handed to each of them.
    """

    @property
    def num_chunks(self) -> int: ...

    def settings(self) -> dict[str, Any]:
        """Everything that the numbers depend on, as plain JSON data."""

    def pilot(self) -> ChunkSums:
        """What the chunks need to know beforehand, in `totals`."""

    def chunk(self, index: int, pilot: ChunkSums) -> ChunkSums:
        """One chunk; depends on the settings, the pilot and `index` only."""


def counted(step: Step) -> Step:
    """A step of a job with a counting `denoiser`: without gradients, its evaluations in what it leaves."""

    @wraps(step)
    def call(self: Any, *arguments: Any) -> ChunkSums:
        before = self.denoiser.evaluations
        with torch.no_grad():
            sums = step(self, *arguments)
        return replace(sums, evaluations=self.denoiser.evaluations - before)

    return cast(Step, call)


@dataclass(frozen=True, eq=False)
class BatchSums:
    """The sums of all chunks: R batches, and the rows of all images."""

    counts: Float[np.ndarray, " batches"]
    totals: Arrays  # (R, *shape)
    rows: Arrays
    evaluations: int
    pilot: ChunkSums

    @property
    def num_images(self) -> int:
        return int(self.counts.sum())

    def means(self, without: int | None = None) -> Arrays:
        """Means over all images, or over those outside one batch."""
        keep = np.arange(len(self.counts)) != (-1 if without is None else without)
        count = self.counts[keep].sum()
        return {name: total[keep].sum(0) / count for name, total in self.totals.items()}

    def evaluate(
        self, statistic: Callable[[Means], np.ndarray]
    ) -> tuple[Estimate, Float[np.ndarray, "batches ..."]]:
        """A function of the means with its jackknife error, and its pseudo-values batch by batch.

        The pseudo-values `R f - (R - 1) f_without_r` stand for independent values of the batches:
        averages without one of them give the statistic without it.

        Raises:
            ValueError: If there are fewer than two batches.
        """
        num_batches = len(self.counts)
        if num_batches < 2:
            raise ValueError(
                "An error bar needs at least two batches of images; got one. Give more images, or "
                "smaller chunks."
            )
        value = np.asarray(statistic(self.means()), float)
        without = np.stack(
            [np.asarray(statistic(self.means(r)), float) for r in range(num_batches)]
        )
        pseudo = num_batches * value - (num_batches - 1) * without
        return Estimate.jackknife(value, without), pseudo

    def curve(
        self,
        log_snr: Float[np.ndarray, " L"],
        entropy: Callable[[Means], np.ndarray],
        rate: Callable[[Means], np.ndarray],
        prior_entropy: float,
        method: str,
    ) -> EntropyCurve:
        """The entropy curve of two functions of the means, `(L,)` each.

        Raises:
            ValueError: As `evaluate`.
        """
        entropies, entropy_batches = self.evaluate(entropy)
        rates, rate_batches = self.evaluate(rate)
        entropies, rates = with_unseen(entropies, rates, self.num_images)
        batches = Batches(entropy_batches, rate_batches)
        return EntropyCurve(log_snr, entropies, rates, prior_entropy, method, batches)


def merge(chunks: Iterable[ChunkSums], num_chunks: int, pilot: ChunkSums) -> BatchSums:
    """Add up chunks given in the order of their index.

    Raises:
        ValueError: If there are none.
    """
    num_batches = min(NUM_BATCHES, num_chunks)
    counts, evaluations = np.zeros(num_batches), pilot.evaluations
    totals: Arrays = {}
    rows: dict[str, list[np.ndarray]] = {}
    for index, sums in enumerate(chunks):
        batch = index % num_batches
        counts[batch] += sums.count
        evaluations += sums.evaluations
        for name, total in sums.totals.items():
            kept = totals.setdefault(name, np.zeros((num_batches, *np.shape(total))))
            kept[batch] += total
        for name, part in sums.rows.items():
            rows.setdefault(name, []).append(part)
    if not totals:
        raise ValueError("There are no chunks to merge; the job is empty.")
    joined = {name: np.concatenate(parts) for name, parts in rows.items()}
    return BatchSums(counts, totals, joined, evaluations, pilot)


def collect(job: Job, progress: Progress = SILENT) -> BatchSums:
    """Do a whole job here and now, and merge it."""
    started, pilot = time.monotonic(), job.pilot()
    chunks, cost = [], pilot.evaluations
    for index in range(job.num_chunks):
        chunks.append(job.chunk(index, pilot))
        cost += chunks[-1].evaluations
        progress.part(index + 1, job.num_chunks, pace(cost, started))
    return merge(chunks, job.num_chunks, pilot)


def pace(evaluations: int, started: float) -> str:
    """What this process has done a second since it `started` on the monotonic clock."""
    seconds = time.monotonic() - started
    return f"{evaluations / seconds:,.0f} evaluations/s" if seconds > 0 else ""


def chunk_slice(index: int, num_items: int, chunk_size: int) -> slice:
    """The items of one chunk: chunks of fixed size, the last one shorter."""
    return slice(index * chunk_size, min((index + 1) * chunk_size, num_items))


def default_chunk_size(num_items: int, largest: int = 16, filling: int = 0) -> int:
    """A size that leaves at least 16 chunks where there are as many items.

    Args:
        num_items: Items in all.
        largest: Most items of a chunk,
        filling: unless so many fill a batch and twice as many chunks are left.
    """
    return max(
        1, min(largest, num_items // NUM_BATCHES), min(filling, num_items // (2 * NUM_BATCHES))
    )
