"""Long runs: a folder in which a job is done chunk by chunk, by any number of processes.

    settings.json      everything the numbers depend on: model, data, estimator, levels, seed, versions
    pilot.chunk         what the chunks need to know beforehand
    chunks/000000.chunk  sums of one chunk, written whole or not at all

A chunk depends on the settings, the pilot and its index alone, and chunks are merged in the order of their
index; so a run that was killed continues, and a run of many processes ends, with the same bits.

Processes share the folder and nothing else. Started by `accelerate launch` or `torchrun` (which set RANK
and WORLD_SIZE), process r of n takes the chunks r, r + n, ... and then whatever is still missing,
from the end: a process or a device that is lost costs time, not the run.
"""

import hashlib
import importlib.metadata
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from gmm_speciation.files import DiskFullError
from gmm_speciation.progress import Parts, Progress, listening
from gmm_speciation.reading import read_json
from gmm_speciation.reporting.report import check_directory
from model_bridges.runs.chunk_files import CorruptChunkError, read_sums, write_json, write_sums
from model_bridges.runs.jobs import BatchSums, ChunkSums, Job, collect, merge, pace

_PACKAGES = ("gmm-speciation", "torch", "numpy")
# Devices round differently, other weights differ more; coefficients are in float64 everywhere.
PROBE_TOLERANCE, COEFFICIENT_TOLERANCE = 1e-3, 1e-6

_ANSWERS = {
    "model.probe": "the model answers a fixed probe differently, so its weights are others",
    "model.coefficients": "its network's output was taken for another quantity, or on another schedule",
}


class Interrupted(OSError):
    """A run stopped for a reason outside of it; what is finished stays."""


def process_place() -> tuple[int, int]:
    """`(rank, number of processes)` as the launcher says, else `(0, 1)`.

    Raises:
        ValueError: If the launcher's variables are not such a pair.
    """
    words = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    try:
        rank, world = map(int, words)
    except ValueError:
        rank, world = -1, 0
    if not 0 <= rank < world:
        raise ValueError(
            "RANK and WORLD_SIZE must say which of how many processes this is, as `accelerate launch` "
            f"sets them; got RANK={words[0]!r} and WORLD_SIZE={words[1]!r}."
        )
    return rank, world


def take_own_device() -> None:
    """Let "cuda" mean this process's own GPU, by the LOCAL_RANK that launchers set."""
    local = os.environ.get("LOCAL_RANK", "")
    if local.isdecimal() and torch.cuda.is_available():
        torch.cuda.set_device(int(local) % torch.cuda.device_count())


def todo(number: int, finished: Callable[[int], bool]) -> Iterator[int]:
    """Of so many parts this process's share, then what nobody has finished, from the end."""
    rank, world = process_place()
    for index in range(rank, number, world):
        if not finished(index):
            yield index
    while missing := [i for i in range(number) if not finished(i)]:
        yield missing[-1 - rank % len(missing)]


def run_job(
    job: Job,
    folder: str | Path | None,
    *,
    progress: Progress | Parts | None = None,
) -> BatchSums:
    """Do all that is missing of a job in a folder and merge it; without a folder, in memory.

    Args:
        job: The job.
        folder: Of the run; made if missing, continued if it holds a run of the same settings.
        progress: Told of the chunks that anyone has done, and where something had to be done again.

    Raises:
        ValueError: If the folder holds a run with other settings, or as the job does.
        OSError: If the disk is full or the device is lost; the message says what is finished.
    """
    told = listening(progress)
    if folder is None:
        return collect(job, told)
    started = time.monotonic()
    run, cost = _Run(job, folder, told.say), 0
    for index in todo(job.num_chunks, run.finished):
        cost += run.do(index).evaluations
        done = job.num_chunks - len(run.missing())
        told.part(done, job.num_chunks, pace(cost, started))
    return run.merged()


class _Run:
    """One run folder, opened by one process."""

    def __init__(self, job: Job, folder: str | Path, say: Callable[[str], object]):
        self.job, self.folder, self.say = job, Path(folder), say
        if (
            not str(folder) or not self.folder.is_dir()
        ):  # one that is there may be finished, and only be read
            check_directory(folder)
        # Through JSON and back, as it will be compared.
        settings = json.loads(json.dumps(job.settings() | {"versions": versions()}))
        stored = self._agree(settings)
        self.digest = hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()
        self.pilot = self._pilot()

    def _agree(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The settings on disk, which must be these; written where there are none."""
        path = self.folder / "settings.json"
        if not path.exists():
            if self.folder.exists() and any(self.folder.glob("chunks/*.chunk")):
                raise ValueError(
                    f"{self.folder} holds chunks but no settings.json, so nothing says what they are. "
                    "Choose another folder."
                )
            self._guarded(lambda: write_json(path, settings, replace=False))
        try:
            stored = read_json(path)
        except ValueError as error:
            raise ValueError(f"{error} Choose another folder for the run.") from error
        different = list(_differences(stored, settings))
        if different:
            raise ValueError(
                f"the run in {self.folder} was made with other settings: {'; '.join(different)}. "
                "Repeat the command as it was, or choose another folder for the run."
            )
        return stored

    def _pilot(self) -> ChunkSums:
        path = self.folder / "pilot.chunk"
        if path.exists():
            try:
                return read_sums(path, self._digest("pilot"))
            except CorruptChunkError as error:
                self.say(f"{error}: made again")
                path.unlink(missing_ok=True)
        found = self._guarded(self.job.pilot)
        self._guarded(lambda: write_sums(path, found, self._digest("pilot"), replace=False))
        # Another process may have been first; all go on with the one on disk.
        return read_sums(path, self._digest("pilot"))

    def _digest(self, place: str | int) -> str:
        """Of the settings, and of which part of the job a file holds."""
        return f"{self.digest} {place}"

    def path(self, index: int) -> Path:
        return self.folder / "chunks" / f"{index:06d}.chunk"

    def finished(self, index: int) -> bool:
        return self.path(index).exists()

    def missing(self) -> list[int]:
        """Chunks that nobody has finished."""
        return [i for i in range(self.job.num_chunks) if not self.finished(i)]

    def do(self, index: int) -> ChunkSums:
        """Compute one chunk and keep it."""
        sums = self._guarded(lambda: self.job.chunk(index, self.pilot))
        self._guarded(lambda: write_sums(self.path(index), sums, self._digest(index)))
        return sums

    def merged(self) -> BatchSums:
        """All chunks, in order; one that cannot be read is computed again."""
        return merge(map(self._read, range(self.job.num_chunks)), self.job.num_chunks, self.pilot)

    def _read(self, index: int) -> ChunkSums:
        try:
            return read_sums(self.path(index), self._digest(index))
        except CorruptChunkError as error:
            self.say(f"chunk {error}: computed again")
            return self.do(index)

    def _guarded(self, step: Callable[[], Any]) -> Any:
        """Do a step; where the disk or the device fails, say what is safe."""
        try:
            return step()
        except DiskFullError as error:
            raise Interrupted(self._state(f"{error.strerror} in {error.filename}")) from error
        except (RuntimeError, MemoryError) as error:
            if not _is_device_error(error):
                raise
            reason = " ".join(str(error).split())[:200]
            raise Interrupted(self._state(f"the device failed ({reason})")) from error

    def _state(self, reason: str) -> str:
        done = self.job.num_chunks - len(self.missing())
        return (
            f"{reason}. {done} of {self.job.num_chunks} chunks in {self.folder} are finished and safe; "
            "when this is mended, the same command continues there."
        )


def _is_device_error(error: BaseException) -> bool:
    known = getattr(torch, "AcceleratorError", ())
    text = str(error).lower()
    return (
        isinstance(error, MemoryError | torch.OutOfMemoryError)
        or (bool(known) and isinstance(error, known))
        or any(word in text for word in ("cuda error", "hip error", "device-side", "nccl"))
    )


def versions() -> dict[str, str]:
    """Of the packages that numbers depend on."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def _differences(stored: Any, now: Any, place: str = "") -> Iterator[str]:
    """Where two settings differ, in words; what a model answers up to rounding of devices."""
    if place in _ANSWERS and isinstance(now, list):
        if isinstance(stored, list) and len(stored) != len(now):
            yield "its model was asked of other classes, or by another version"
        elif not _same_answers(stored, now, place):
            yield _ANSWERS[place]
        return
    if isinstance(stored, Mapping) and isinstance(now, Mapping):
        for key in [*stored, *(key for key in now if key not in stored)]:
            inside = f"{place}.{key}" if place else str(key)
            yield from _differences(stored.get(key), now.get(key), inside)
        return
    if stored != now:
        yield f"{place} was {_short(stored)} and is {_short(now)}"


def _same_answers(stored: Any, now: list[float], place: str) -> bool:
    """Whether these are numbers that differ by no more than the rounding of devices."""
    if not isinstance(stored, list) or not all(type(v) in (int, float) for v in stored):
        return False
    scale = max(*map(abs, stored), 1e-12)
    limits = [PROBE_TOLERANCE * scale] * len(now)
    if place == "model.coefficients":  # from small to large levels, each of a size of its own
        limits = [COEFFICIENT_TOLERANCE * abs(value) + 1e-12 for value in now]
    return all(abs(a - b) <= most for a, b, most in zip(stored, now, limits, strict=True))


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 60 else f"{text[:56]}..."
