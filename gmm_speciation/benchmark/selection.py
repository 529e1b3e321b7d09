"""Which cells a command line asks for."""

from collections.abc import Sequence

from gmm_speciation.benchmark.cells import (
    Cell,
    check_task,
    estimator_of,
    nothing_left,
    possible,
)
from gmm_speciation.benchmark.profiles import Profile
from gmm_speciation.estimators.base import Access
from gmm_speciation.estimators.registry import LEARNED


def select(
    profile: Profile,
    tasks: Sequence[str],
    estimators: Sequence[str],
    sizes: Sequence[int] | None = None,
    seeds: int | None = None,
    first_seed: int = 0,
    accesses: Sequence[str] = (),
) -> list[Cell]:
    """The cells of a profile, narrowed to the ids given, with the user's own (`module:Name`) added.

    A learned estimator that is named runs at the sizes and seeds of all.

    Raises:
        ValueError: If an id is unknown, a task of the user's own is wrong, a size is below 2, or nothing is
            left.
    """
    for id in tasks:
        check_task(id)
    for id in estimators:
        estimator_of(id)
    chosen_tasks = _chosen(tasks, profile.tasks)
    named = [id for id in estimators if ":" not in id]
    own = [id for id in estimators if ":" in id]
    classical = [id for id in named or profile.estimators if id not in LEARNED] + own
    learned = [id for id in named or profile.learned if id in LEARNED]

    def of(ids: Sequence[str], default: Sequence[int], number: int) -> list[Cell]:
        runs = range(first_seed, first_seed + (seeds or number))
        return possible(chosen_tasks, ids, sizes or default, runs, accesses or tuple(Access))

    fewer = not named
    # A board may have estimators of one kind alone.
    found = of(classical, profile.sizes, profile.seeds) + of(
        learned,
        profile.learned_sizes if fewer else profile.sizes,
        profile.learned_seeds if fewer else profile.seeds,
    )
    if not found:
        raise nothing_left(chosen_tasks, [*classical, *learned], sizes or profile.sizes)
    return found


def _chosen(asked: Sequence[str], default: Sequence[str]) -> list[str]:
    named = [id for id in asked if ":" not in id]
    return list(named or default) + [id for id in asked if ":" in id]
