"""Tracked posteriors of images as a job in chunks, for a cross-check that can be killed and continued.

Everything that `track` measures of an image is a row; noise depends on the seed and the image alone, so the
rows of all chunks are the tracked posterior of all images.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gmm_speciation.progress import Parts, Progress
from model_bridges.entropy.problem import Problem, ProblemJob
from model_bridges.runs.folder import run_job
from model_bridges.runs.jobs import Arrays, ChunkSums, counted
from model_bridges.tracking.forward import track
from model_bridges.tracking.tracked import TrackedPosterior, mapped


@dataclass(frozen=True, eq=False)
class TrackedJob(ProblemJob):
    """`track` of the images of a problem at its levels, `num_paths` noise paths each."""

    kind = "tracked posteriors"

    num_paths: int

    def pilot(self) -> ChunkSums:
        """Nothing to know beforehand."""
        return ChunkSums(0, {})

    @counted
    def chunk(self, index: int, pilot: ChunkSums) -> ChunkSums:
        """The images of one chunk, as rows."""
        record, rows = self.record(self.problem.images(index)), {}

        def keep(place: str, values: np.ndarray) -> np.ndarray:
            by_path = np.moveaxis(values, 1, 0)
            rows[place] = by_path.reshape(record.num_images, -1, *by_path.shape[1:])
            return values

        mapped(record, keep)
        return ChunkSums(record.num_images, {"count": np.ones(1)}, rows)

    def record(self, images: slice, progress: Progress | Parts | None = None) -> TrackedPosterior:
        """Some of the images."""
        p = self.problem
        return track(
            p.denoiser,
            p.x0[images],
            None if p.labels is None else p.labels[images],
            sigmas=p.sigmas,
            num_paths=self.num_paths,
            first=images.start,
            progress=progress,
            **p.options,
        )

    def joined(self, rows: Arrays, evaluations: int) -> TrackedPosterior:
        """All images, from the rows of all chunks."""
        labels = self.problem.labels

        def of_all(place: str, _: np.ndarray) -> np.ndarray:
            stored = rows[place]
            return np.moveaxis(stored.reshape(-1, *stored.shape[2:]), 0, 1)

        return mapped(
            self.record(slice(0, 1)),
            of_all,
            labels=None if labels is None else labels.repeat_interleave(self.num_paths).numpy(),
            evaluations=evaluations,
        )


def tracked(
    problem: Problem,
    num_paths: int,
    folder: Path | None = None,
    progress: Progress | Parts | None = None,
) -> TrackedPosterior:
    """The tracked posterior of the images of a problem; in a folder by chunks. Errors as `run_job`."""
    job = TrackedJob(problem, num_paths)
    if folder is None:
        return job.record(slice(0, None), progress)
    merged = run_job(job, folder, progress=progress)
    return job.joined(merged.rows, merged.evaluations)
