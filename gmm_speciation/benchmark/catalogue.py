"""The tasks of the benchmark, by id. Ids are stable: a changed distribution gets a new one."""

from collections.abc import Callable
from functools import partial

import numpy as np

from gmm_speciation import families, fitting
from gmm_speciation.benchmark.tasks import Law, Task
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition


def _pair(dim: int, separation: float = 1.0, weights: tuple[float, float] | None = None) -> Law:
    mean = np.full((1, dim), separation)
    return Law(GaussianMixture.isotropic(np.concatenate([mean, -mean]), 1.0, weights))


def _equidistant(num_classes: int, dim: int, distance: float) -> Law:
    return Law(
        families.equidistant(num_classes, dim, distance),
        None,
        families.equidistant(num_classes, dim, distance, reduced=True),
    )


def _tree(tree: tuple[tuple[int, ...], tuple[float, ...], int], level: int) -> Law:
    mixture, levels = families.hierarchy(*tree)
    return Law(mixture, levels[level])


def _differ(covariance: str, dim: int) -> Law:
    """Three classes whose covariances share nothing, at moderate distance."""
    rng = np.random.default_rng(17)
    means = rng.normal(size=(3, dim))
    if covariance == "diagonal":
        return Law(GaussianMixture.diagonal(means, np.exp(rng.normal(size=(3, dim)))))
    roots = rng.normal(size=(3, dim, dim)) / np.sqrt(dim)
    return Law(GaussianMixture.full(means, roots @ roots.mT + 0.1 * np.eye(dim)))


def _manifold() -> Law:
    """Four classes on an eight-dimensional subspace of 1024, with noise of variance 0.01 off it."""
    rng = np.random.default_rng(23)
    basis = np.linalg.qr(rng.normal(size=(1024, 8)))[0]
    means = 3 * rng.normal(size=(4, 8)) @ basis.T
    return Law(GaussianMixture.low_rank(means, basis * np.linspace(2, 0.5, 8), 0.01))


def _toy(decision: int) -> Law:
    mixture, levels = families.paper_toy()
    if decision == 0:
        return Law(mixture, levels[0])
    return Law(GaussianMixture.isotropic(np.array([[6.0], [8.0]]), 1.0))


def digits() -> tuple[np.ndarray, np.ndarray]:
    """The 1797 handwritten digits of scikit-learn, standardised to mean 0, variance 1 of all pixels."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return (pixels - pixels.mean()) / pixels.std(), labels


def _digits_fitted() -> Law:
    x, labels = digits()
    return Law(fitting.fit(x, labels, "full", shrinkage=0.02, shared=True))


def _digits_empirical() -> Law:
    x, labels = digits()
    return Law(families.empirical(x), Partition(labels))


def _entry(id: str, build: Callable[[], Law], what: str, min_samples: int = 8) -> Task:
    return Task(id, build, what, min_samples)


_PAIRS = [
    _entry(f"pair-d{d}", partial(_pair, d), f"two equal classes at ±(1, …, 1), d = {d}")
    for d in (1, 16, 256, 4096, 100_000)
]
_WEIGHTS = [
    _entry(
        f"pair-w{w}",
        partial(_pair, 16, weights=(w, 1 - w)),
        f"two classes of weights {w} and {1 - w:.3g}, d = 16",
        needed,
    )
    for w, needed in ((0.9, 64), (0.999, 4096))
]
_EQUIDISTANT = [
    _entry(
        f"equidistant-k{k}",
        partial(_equidistant, k, d, 8.0),
        f"{k} equidistant classes, d = {d}",
        needed,
    )
    for k, d, needed in ((4, 16, 32), (10, 64, 80), (100, 128, 1600), (1000, 1024, 2000))
]
_TWO_LEVELS = ((2, 5), (16.0, 4.0), 32)
_FOUR_LEVELS = ((2, 2, 2, 2), (48.0, 24.0, 12.0, 6.0), 32)
_TREES = [
    _entry(
        f"tree{len(tree[0])}-level{level + 1}",
        partial(_tree, tree, level),
        f"tree of {len(tree[0])} levels, the decisions down to level {level + 1}",
        64,
    )
    for tree in (_TWO_LEVELS, _FOUR_LEVELS)
    for level in range(len(tree[0]))
]
_SHAPES = [
    _entry(
        "equal-means",
        lambda: Law(families.equal_means(64, [0.5, 1.5])),
        "two classes of one mean, variances 0.5 and 1.5, d = 64",
    ),
    _entry("diagonal", lambda: _differ("diagonal", 4), "three diagonal covariances, d = 4"),
    _entry("full", lambda: _differ("full", 4), "three full covariances, d = 4"),
    _entry("manifold", _manifold, "four classes on an 8-dimensional subspace, d = 1024", 32),
    _entry("toy-first", lambda: _toy(0), "−8, −4 against 6, 8 on a line"),
    _entry("toy-second", lambda: _toy(1), "6 against 8 on a line"),
    _entry("separated", lambda: _pair(16, 8.0), "two classes 64 standard deviations apart, d = 16"),
    _entry(
        "coincident", lambda: _pair(16, 0.05), "two classes 0.4 standard deviations apart, d = 16"
    ),
    _entry("digits-fitted", _digits_fitted, "ten Gaussians fitted to the digits, d = 64", 160),
    _entry("digits", _digits_empirical, "the real digits: 1797 points in ten classes, d = 64", 160),
]

TASKS: dict[str, Task] = {
    task.id: task for task in (*_PAIRS, *_WEIGHTS, *_EQUIDISTANT, *_TREES, *_SHAPES)
}
