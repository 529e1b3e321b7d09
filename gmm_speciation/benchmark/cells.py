"""A cell of a sweep: one estimator on one task, at an access, with n samples and a seed."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gmm_speciation.benchmark.catalogue import TASKS
from gmm_speciation.benchmark.tasks import Law, Task
from gmm_speciation.checks import decreasing_grid
from gmm_speciation.estimators.base import Access, Estimator
from gmm_speciation.estimators.registry import ESTIMATORS, own_estimator
from gmm_speciation.lookup import import_named, pick, users_code
from gmm_speciation.partitions import as_partition


class Cell(NamedTuple):
    """What one row is about. Ids with a colon are the user's own, `module:Name`."""

    task: str
    estimator: str
    access: str
    num_samples: int
    seed: int

    def in_shard(self, index: int, number: int) -> bool:
        """Whether shard `index` of `number` (from 1) does it; the same in every process.

        Seeds of one cell stay together: they run the same compiled program.
        """
        text = "|".join(map(str, self._replace(seed=0)))
        return int(hashlib.sha256(text.encode()).hexdigest(), 16) % number == index - 1


def task_of(id: str) -> Task:
    """The task of an id, or of the user's `module:function`.

    Raises:
        ValueError: If there is none, naming the nearest; or if the user's function raises.
    """
    if ":" not in id:
        return pick(id, TASKS, "task")
    made = import_named(id, "Your own is named as module:name, such as mine:task")
    with users_code(id, "Task "):
        task = made() if callable(made) else made
    if not isinstance(task, Task):
        raise ValueError(f"{id!r} must return a gmm_speciation.benchmark.Task; got {type(task)}.")
    return task


def check_task(id: str) -> None:
    """Build a task of the user's own once, before anything runs; those of the catalogue are known.

    Raises:
        ValueError: If its function, its distribution or its noise levels are wrong.
    """
    task = task_of(id)
    if ":" not in id:
        return
    with users_code(id, "Task "):
        if not isinstance(task.law, Law):
            raise ValueError(f"`build` must return a Law; got {type(task.law).__name__}")
        if len(task.grid) < 3:
            raise ValueError(f"a curve needs three noise levels; got {len(task.grid)}")
        decreasing_grid(task.grid)
        as_partition(task.law.partition, task.law.mixture.num_components)


def estimator_of(id: str) -> type[Estimator]:
    """The estimator class of an id, or of the user's `module:Class`.

    Raises:
        ValueError: If there is none; names the nearest.
    """
    return own_estimator(id) if ":" in id else pick(id, ESTIMATORS, "estimator")


def cells(
    tasks: Sequence[str],
    estimators: Sequence[str],
    sizes: Sequence[int],
    seeds: Iterable[int],
    accesses: Sequence[str] = tuple(Access),
) -> list[Cell]:
    """Every combination, cheap sizes first, on every board of an estimator.

    Seeds follow each other: what compiles for the first serves all. A task has no size below its fewest
    samples.

    Raises:
        ValueError: If an id is unknown, a size is below 2, or nothing is left.
    """
    found = possible(tasks, estimators, sizes, seeds, accesses)
    if not found and tasks and estimators:
        raise nothing_left(tasks, estimators, sizes)
    return found


def possible(
    tasks: Sequence[str],
    estimators: Sequence[str],
    sizes: Sequence[int],
    seeds: Iterable[int],
    accesses: Sequence[str],
) -> list[Cell]:
    """As `cells`, where nothing may be left."""
    seeds = list(seeds)
    if not sizes or min(sizes) < 2:
        raise ValueError(f"Every number of samples must be at least 2; got {list(sizes)}.")
    for access in accesses:
        pick(access, {str(one): one for one in Access}, "access")
    least = {id: task_of(id).min_samples for id in tasks}
    boards = {id: [str(a) for a in estimator_of(id).boards() if a in accesses] for id in estimators}
    return [
        Cell(task, estimator, access, size, seed)
        for size in sorted(set(sizes))
        for task in dict.fromkeys(tasks)
        if size >= least[task]
        for estimator in dict.fromkeys(estimators)
        for access in boards[estimator]
        for seed in seeds
    ]


def nothing_left(
    tasks: Sequence[str], estimators: Sequence[str], sizes: Sequence[int]
) -> ValueError:
    """The error that says why there is no cell."""
    needed = ", ".join(f"{id} from {task_of(id).min_samples}" for id in tasks)
    return ValueError(
        f"No task has {sorted(sizes)} samples and no estimator these accesses left: {needed} samples; "
        + ", ".join(f"{id} is {estimator_of(id).access}" for id in estimators)
        + "."
    )
