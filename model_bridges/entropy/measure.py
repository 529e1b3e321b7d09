"""Class entropies of a model by several estimators, on the same images, as one result.

Estimators that read one pass share it; every kind of job has a subfolder of the run. For each semantic
variable the result holds a curve by estimator, and for each pair of a variable and a grouping of it the
paired difference of their windows.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from gmm_speciation.curves import EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.partitions import Partition
from gmm_speciation.progress import SILENT, Progress
from gmm_speciation.reporting.trust import Trust
from model_bridges.entropy.clones import CloneAgreement, CloneJob
from model_bridges.entropy.curve import ESTIMATORS, READOUTS, check_estimator
from model_bridges.entropy.elbo import ElboJob
from model_bridges.entropy.problem import Problem
from model_bridges.entropy.sampled_gap import SampledGapJob
from model_bridges.entropy.tracking import TrackingJob
from model_bridges.entropy.trust import trusted
from model_bridges.entropy.windows import WindowDifference, compare_windows
from model_bridges.runs.folder import run_job
from model_bridges.runs.jobs import BatchSums
from model_bridges.tracking.elimination import EliminationInterval
from model_bridges.tracking.pointwise import Pointwise, pointwise_of

DEFAULT_ESTIMATORS = ("tracking", "gap", "elbo", "clones")


@dataclass(frozen=True)
class Cost:
    """What one kind of job took: forward passes of one state, and seconds of this process."""

    work: str
    evaluations: int
    seconds: float


@dataclass(frozen=True, eq=False)
class MeasuredVariable:
    """One semantic variable: curves by estimator, and the theory's where there is one."""

    name: str
    partition: Partition
    curves: dict[str, EntropyCurve]
    theory: EntropyCurve | None = None
    cross_entropy: Estimate | None = None  # on the levels of "tracking"
    step_error: Estimate | None = None  # of the tracked entropy, before extrapolation
    clones: CloneAgreement | None = None
    elimination: EliminationInterval | None = None  # on the levels of "tracking"
    points: Pointwise | None = None

    @property
    def main(self) -> EntropyCurve:
        """The curve that windows are read from: tracking where it was run, else the first."""
        return self.curves.get("tracking", next(iter(self.curves.values())))


@dataclass(frozen=True, eq=False)
class Measurement:
    """All estimators on one distribution of images."""

    model: str
    law: str  # of the images
    path_law: str  # of the noisy states
    num_images: int
    seed: int
    variables: dict[str, MeasuredVariable]
    comparisons: list[WindowDifference] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    images: Float[Tensor, "N *event"] | None = None

    @property
    def trusts(self) -> dict[str, Trust]:
        """What the checks of every curve say, by variable and estimator."""
        return {
            f"{name}, {estimator}": curve.trust
            for name, variable in self.variables.items()
            for estimator, curve in variable.curves.items()
        }

    @property
    def evaluations(self) -> int:
        return sum(cost.evaluations for cost in self.costs)


def measure(
    problem: Problem,
    estimators: Sequence[str] = DEFAULT_ESTIMATORS,
    *,
    run: str | Path | None = None,
    trajectories: bool = False,
    num_paths: int = 1,
    clone_steps: int = 64,
    drop_below: float = 0.0,
    theory: Callable[[Partition, np.ndarray], EntropyCurve] | None = None,
    progress: Progress = SILENT,
) -> Measurement:
    """Run the estimators and put their curves together.

    Args:
        problem: Model, images, partitions, levels (each kind of job places its own by default).
        estimators: Names of `model_bridges.entropy.curve`.
        run: Folder; a subfolder a kind of job.
        trajectories: Track along trajectories that the model generates, with the labels as classes.
        num_paths: Noise paths of each image, for tracking.
        clone_steps: Levels of the clones' sampler.
        drop_below: Classes of a path are left out of tracking from where their posterior falls below it.
        theory: The closed-form curve of a partition on given log-SNR.
        progress: Told of each kind of job and of its chunks.

    Raises:
        ValueError: If an estimator is unknown or needs what is not there, and as `run_job`.
        OSError: As `run_job`.
    """
    _check(problem, estimators)
    ratios = [name for name in estimators if name in ("tracking-ratio", "tracking-forced")]
    if drop_below and ratios:
        raise ValueError(
            f"{', '.join(ratios)} need every class to the end, and `drop_below` leaves some out; use one of "
            "the two."
        )
    jobs = jobs_of(problem, estimators, trajectories, num_paths, clone_steps, drop_below)
    merged, costs = {}, []
    for kind, job in jobs.items():
        progress.step(kind)
        started = time.monotonic()
        folder = None if run is None else Path(run) / kind.replace(" ", "-")
        merged[kind] = run_job(job, folder, progress=progress)
        costs.append(Cost(kind, merged[kind].evaluations, time.monotonic() - started))
    variables = {}
    for name, partition in problem.partitions.items():
        if _measurable(partition, estimators):
            variables[name] = _variable(problem, name, estimators, jobs, merged, theory)
        else:
            progress.say(
                f"{name} groups classes, and 'gap-sampled' knows single ones only: left out"
            )
    path_law = "trajectories generated by the model" if trajectories else "forward-noised images"
    return Measurement(
        problem.denoiser.provenance,
        problem.law,
        path_law,
        len(problem.x0),
        problem.seed,
        variables,
        _comparisons(variables),
        costs,
        None if trajectories else problem.x0,
    )


def jobs_of(
    problem: Problem,
    estimators: Sequence[str],
    trajectories: bool = False,
    num_paths: int = 1,
    clone_steps: int = 64,
    drop_below: float = 0.0,
) -> dict[str, Any]:
    """The jobs that these estimators read, by kind. Arguments as `measure`."""
    jobs: dict[str, Any] = {}
    if any(name in READOUTS for name in estimators):
        jobs["tracking"] = TrackingJob(problem, num_paths, trajectories, drop_below=drop_below)
    if "gap-sampled" in estimators:
        jobs["sampled gap"] = SampledGapJob(problem)
    if "elbo" in estimators:
        jobs["elbo"] = ElboJob(problem)
    if "clones" in estimators:
        jobs["clones"] = CloneJob(problem, num_steps=clone_steps)
    return jobs


def _check(problem: Problem, estimators: Sequence[str]) -> None:
    for name in estimators:
        check_estimator(name, problem.denoiser.has_unconditional, problem.labels is not None)
    if not estimators:
        raise ValueError(f"Name at least one estimator: {', '.join(ESTIMATORS)}.")
    if not any(_measurable(partition, estimators) for partition in problem.partitions.values()):
        raise ValueError(
            "The estimator 'gap-sampled' knows single classes only, and every partition here groups "
            "them; use 'gap' or 'tracking'."
        )


def _measurable(partition: Partition, estimators: Sequence[str]) -> bool:
    """Whether some estimator has a curve of this partition."""
    return partition.is_trivial or set(estimators) != {"gap-sampled"}


def _variable(
    problem: Problem,
    name: str,
    estimators: Sequence[str],
    jobs: Mapping[str, Any],
    merged: Mapping[str, BatchSums],
    theory: Callable[[Partition, np.ndarray], EntropyCurve] | None,
) -> MeasuredVariable:
    partition = problem.partitions[name]
    curves: dict[str, EntropyCurve] = {}
    rows = merged["tracking"].rows.get(f"posterior {name}") if "tracking" in jobs else None
    divergence = problem.divergence(name, rows)
    for estimator in estimators:
        kind = (
            "tracking" if estimator in READOUTS else estimator.replace("gap-sampled", "sampled gap")
        )
        if kind == "sampled gap" and not partition.is_trivial:
            continue
        read = (estimator,) if kind == "tracking" else ()
        curve = jobs[kind].curve(merged[kind], name, *read)
        found = jobs[kind].evidence(merged[kind], name)
        curves[estimator] = trusted(curve, found, estimator, divergence, problem.labels is not None)
        curves[estimator].trust.warn(f"The curve of {name} by {estimator}", stacklevel=4)
    result: dict[str, Any] = {}
    if "tracking" in jobs:
        sums, key = merged["tracking"], f"cross_entropy {name}"
        if key in sums.totals:
            result["cross_entropy"] = sums.evaluate(lambda means: means[key])[0]
        result["step_error"] = jobs["tracking"].step_error(sums, name)
        result["elimination"] = jobs["tracking"].elimination(sums, name)
        if rows is not None:
            levels, total = sums.pilot.totals["levels"], problem.prior_entropy(partition)
            result["points"] = pointwise_of(levels, rows, total, partition.names)
    if "clones" in jobs:
        result["clones"] = jobs["clones"].agreement(merged["clones"], name)
    if theory is not None and curves:
        first = next(iter(curves.values()))
        grid = first.log_snr
        if len(grid) < 24:
            grid = np.linspace(grid[0], grid[-1], 32)
        result["theory"] = theory(partition, grid)
    return MeasuredVariable(name, partition, curves, **result)


def _comparisons(variables: Mapping[str, MeasuredVariable]) -> list[WindowDifference]:
    """Every variable against every coarser grouping of its classes."""
    found = []
    for fine in variables.values():
        for coarse in variables.values():
            finer = fine.partition.num_classes > coarse.partition.num_classes
            if finer and fine.partition.refines(coarse.partition) and fine.main.batches is not None:
                found.append(compare_windows(coarse.main, fine.main, (coarse.name, fine.name)))
    return found
