"""Sizes of a sweep that are known to fit a time."""

from typing import NamedTuple

from gmm_speciation.benchmark.catalogue import TASKS
from gmm_speciation.estimators.registry import ESTIMATORS, LEARNED

SIZES = (64, 256, 1024, 4096, 16384)


class Profile(NamedTuple):
    """What a sweep runs; `learned` estimators, which train networks, at sizes and seeds of their own."""

    tasks: tuple[str, ...]
    estimators: tuple[str, ...]
    sizes: tuple[int, ...]
    seeds: int
    learned: tuple[str, ...]
    learned_sizes: tuple[int, ...]
    learned_seeds: int
    seconds: float  # limit of a cell with 256 samples


_CLASSICAL = tuple(name for name in ESTIMATORS if name not in LEARNED)
# One task of every family, none of many classes or dimensions.
_SMALL = (
    "pair-d16",
    "pair-w0.9",
    "equidistant-k4",
    "tree4-level2",
    "decades-level1",
    "equal-means",
    "diagonal",
    "moons-d64",
    "xor-d16",
    "heavy-d1",
    "digits-fitted",
)

PROFILES: dict[str, Profile] = {
    # Two minutes on two cores.
    "demo": Profile(
        ("pair-d16", "equal-means", "moons-d64"),
        ("posterior", "ross", "ksg", "lda", "qda", "lda-known-noise", "knn", "logistic"),
        (256,),
        1,
        ("learned-tracking",),
        (256,),
        1,
        30.0,
    ),
    # Every family once: half an hour of one core.
    "small": Profile(_SMALL, _CLASSICAL, (64, 256, 1024), 2, LEARNED, (1024,), 1, 20.0),
    # Everything: days of one core, to be shared by shards.
    "full": Profile(tuple(TASKS), _CLASSICAL, SIZES, 5, LEARNED, SIZES, 5, 60.0),
}
