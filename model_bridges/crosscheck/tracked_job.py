"""Tracked posteriors of images as a job in chunks, for a cross-check that can be killed and continued.

Everything that `track` measures of an image is a row; noise depends on the seed and the image alone, so the
rows of all chunks are the tracked posterior of all images.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from gmm_speciation.progress import Parts, Progress
from model_bridges.entropy.problem import Problem, ProblemJob
from model_bridges.runs.folder import run_job
from model_bridges.runs.jobs import Arrays, ChunkSums, counted
from model_bridges.tracking.forward import track
from model_bridges.tracking.tracked import Chain, TrackedPosterior


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
        record = self.record(self.problem.images(index))
        rows = _rows(record, record.num_images)
        return ChunkSums(record.num_images, {"count": np.ones(1)}, rows)

    def record(self, images: slice, progress: Progress | Parts | None = None) -> TrackedPosterior:
        """Some of the images."""
        p = self.problem
        return track(
            p.denoiser,
            p.x0[images],
            None if p.labels is None else p.labels[images],
            sigmas=p.sigmas,
            prior=p.prior,
            partitions=p.partitions,
            num_paths=self.num_paths,
            seed=p.seed,
            first=images.start,
            max_batch=p.max_batch,
            progress=progress,
        )

    def joined(self, rows: Arrays, evaluations: int) -> TrackedPosterior:
        """All images, from the rows of all chunks."""
        labels, one = self.problem.labels, self.record(slice(0, 1))
        return replace(
            one,
            **_of_rows(one, rows),
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


def _rows(record: Any, num_images: int, name: str = "") -> Arrays:
    """Every array of levels and paths `(L, N, ...)` of a record as rows of images, by place."""
    found: Arrays = {}
    for key, value in _arrays(record):
        if isinstance(value, Chain | dict):
            found |= _rows(value, num_images, f"{name}{key} ")
        else:
            by_path = np.moveaxis(value, 1, 0)
            found[name + key] = by_path.reshape(num_images, -1, *by_path.shape[1:])
    return found


def _of_rows(record: Any, rows: Arrays, name: str = "") -> dict[str, Any]:
    """The fields of a record of the same kind with the arrays of these rows."""
    changes: dict[str, Any] = {}
    for key, value in _arrays(record):
        if isinstance(value, Chain):
            changes[key] = replace(value, **_of_rows(value, rows, f"{name}{key} "))
        elif isinstance(value, dict):
            changes[key] = _of_rows(value, rows, f"{name}{key} ")
        else:
            stored = rows[name + key]
            changes[key] = np.moveaxis(stored.reshape(-1, *stored.shape[2:]), 0, 1)
    return changes


def _arrays(record: Any) -> list[tuple[str, Any]]:
    """What a tracked posterior, a chain or a mapping holds of every level and path."""
    if isinstance(record, dict):
        return list(record.items())
    named = [(field.name, getattr(record, field.name)) for field in fields(record)]
    return [
        (name, value)
        for name, value in named
        if isinstance(value, Chain)
        or name == "group_gaps"
        or (isinstance(value, np.ndarray) and value.ndim > 1)
    ]
