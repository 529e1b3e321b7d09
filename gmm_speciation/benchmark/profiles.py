"""Sizes of a sweep that are known to fit a time."""

from typing import NamedTuple

from gmm_speciation.benchmark.catalogue import TASKS
from gmm_speciation.estimators.registry import ESTIMATORS, LEARNED


class Profile(NamedTuple):
    """What a sweep runs; `learned` estimators, which train a network a cell, at fewer sizes and seeds,
    and the tasks that are `once` at the first size and one seed."""

    tasks: tuple[str, ...]
    estimators: tuple[str, ...]
    sizes: tuple[int, ...]
    seeds: int
    learned: tuple[str, ...]
    learned_sizes: tuple[int, ...]
    learned_seeds: int
    seconds: float  # limit of a cell
    once: tuple[str, ...] = ()
    untrained: tuple[str, ...] = ()  # too large to train on within the limit


_CLASSICAL = tuple(name for name in ESTIMATORS if name not in LEARNED)

PROFILES: dict[str, Profile] = {
    # Two minutes on two cores.
    "demo": Profile(
        ("pair-d16", "pair-d256", "equidistant-k4", "toy-second"),
        _CLASSICAL,
        (256,),
        1,
        ("classifier",),
        (256,),
        1,
        30.0,
    ),
    # All tasks; at most six hours on two cores.
    "full": Profile(
        tuple(TASKS),
        _CLASSICAL,
        (64, 256),
        2,
        LEARNED,
        (256,),
        1,
        25.0,
        once=("pair-d100000", "equidistant-k100", "equidistant-k1000"),
        untrained=("pair-d100000", "equidistant-k1000"),
    ),
}
