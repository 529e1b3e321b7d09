"""The tasks of the benchmark, by id. Ids are stable: a changed distribution gets a new one.

Families are what methods may generalise over; a mean over tasks counts each of them as a cluster.

    pair          two equal isotropic classes; d = 1 to 4096 at one decision SNR a level
    unbalanced    weights that differ
    many classes  equidistant means
    hierarchies   trees, their distances within a few steps or decades apart
    covariances   classes that differ in covariance, or in nothing else
    curved        classes that are curves, or have modes on either side of each other
    heavy tails   Student's t of two degrees of freedom, its scales cut to twelve
    data          handwritten digits, and a subspace

All are Gaussian mixtures, so that scores and posteriors are known in closed form. `min_samples` leaves at
least sixteen samples a class in the mean, so that every method can run.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.special import roots_genlaguerre
from scipy.stats import invgamma, ortho_group

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


def _geometric() -> Law:
    """Eight equidistant classes, each half as frequent as the one before."""
    means = np.asarray(families.equidistant(8, 16, 8.0).means)
    weights = 0.5 ** np.arange(8)
    return Law(GaussianMixture.isotropic(means, 1.0, weights / weights.sum()))


_BLOCKS = (1.3, 0.7)


def _blocks() -> Law:
    """Two classes of one mean in 256 dimensions; variances 1.3 and 0.7 in either half, or the other way."""
    one = np.repeat(_BLOCKS, 128)
    mixture = GaussianMixture.diagonal(np.zeros((2, 256)), np.stack([one, one[::-1]]))
    return Law(mixture, entropy=_entropy_of_blocks)


def _entropy_of_blocks(log_snr: float) -> float:
    """Of `_blocks`: the log-odds are `(1/v - 1/u) (S - T) / 2`, S and T the squared lengths of the halves.

    Given the first class, `S = u chi^2_128` and `T = v chi^2_128`, and half a chi^2 is gamma distributed:
    two Gauss-Laguerre rules.
    """
    alpha2 = 1 / (1 + np.exp(-log_snr))
    u, v = (alpha2 * variance + 1 - alpha2 for variance in _BLOCKS)
    nodes, weights = roots_genlaguerre(120, 63.0)
    weights = weights / weights.sum()
    log_odds = (1 / v - 1 / u) * (u * nodes[:, None] - v * nodes[None, :])
    p = 1 / (1 + np.exp(-np.abs(log_odds)))
    entropy = np.logaddexp(0, -np.abs(log_odds)) + (1 - p) * np.abs(log_odds)
    return float(weights @ entropy @ weights)


def _in_a_plane(points: np.ndarray, labels: np.ndarray, dim: int, variance: float) -> Law:
    """Components on points of a plane that no coordinate axis lies in."""
    axes = ortho_group.rvs(dim, random_state=29)[:2]
    return Law(GaussianMixture.isotropic(points @ axes, variance), Partition(labels))


def _rings() -> Law:
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    return _in_a_plane(np.concatenate([3 * circle, 6 * circle]), np.repeat([0, 1], 24), 2, 0.5)


def _moons() -> Law:
    angle = np.linspace(0, np.pi, 16)
    moon = 6 * np.stack([np.cos(angle), np.sin(angle)], 1)
    other = np.array([6.0, 3.0]) - moon
    points = np.concatenate([moon, other]) - [3.0, 1.5]
    return _in_a_plane(points, np.repeat([0, 1], 16), 64, 0.5)


def _exclusive_or() -> Law:
    corners = 3 * np.array([[1.0, 1.0], [-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
    return _in_a_plane(corners, np.array([0, 0, 1, 1]), 16, 1.0)


def _heavy(centres: tuple[float, ...]) -> Law:
    """Student's t on a line about each centre: normals of inverse-gamma variance, in twelve equal shares."""
    variances = invgamma(1.0).ppf((np.arange(12) + 0.5) / 12)
    means = np.repeat(np.array(centres)[:, None], 12, 0)
    labels = np.repeat(np.arange(len(centres)), 12)
    return Law(
        GaussianMixture.isotropic(means, np.tile(variances, len(centres))), Partition(labels)
    )


def _toy() -> Law:
    mixture, levels = families.paper_toy()
    return Law(mixture, levels[0])


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


_FOUR_LEVELS = ((2, 2, 2, 2), (48.0, 24.0, 12.0, 6.0), 32)
_DECADES = ((2, 2, 2), (400.0, 40.0, 4.0), 64)

_FAMILIES: dict[str, list[tuple[str, Callable[[], Law], str, int]]] = {
    "pair": [
        (f"pair-d{d}", partial(_pair, d), f"two equal classes at ±(1, …, 1), d = {d}", 64)
        for d in (1, 16, 256, 4096)
    ],
    "unbalanced": [
        *(
            (
                f"pair-w{w}",
                partial(_pair, 16, weights=(w, 1 - w)),
                f"two classes of weights {w} and {1 - w:.3g}, d = 16",
                needed,
            )
            for w, needed in ((0.9, 256), (0.999, 16384))
        ),
        ("geometric-k8", _geometric, "eight classes of weights 1/2, 1/4, …, d = 16", 4096),
    ],
    "many classes": [
        (
            f"equidistant-k{k}",
            partial(_equidistant, k, d, 8.0),
            f"{k} equidistant classes, d = {d}",
            needed,
        )
        for k, d, needed in ((4, 16, 64), (10, 64, 256), (100, 128, 4096))
    ],
    "hierarchies": [
        ("toy-first", _toy, "−8, −4 against 6, 8 on a line", 64),
        *(
            (
                f"tree4-level{level}",
                partial(_tree, _FOUR_LEVELS, level - 1),
                f"tree of 4 levels, the decisions down to level {level}",
                needed,
            )
            for level, needed in ((2, 64), (4, 256))
        ),
        *(
            (
                f"decades-level{level}",
                partial(_tree, _DECADES, level - 1),
                f"tree of distances 400, 40, 4, the decisions down to level {level}",
                needed,
            )
            for level, needed in ((1, 64), (3, 256))
        ),
    ],
    "covariances": [
        (
            "equal-means",
            lambda: Law(families.equal_means(64, [0.5, 1.5])),
            "two classes of one mean, variances 0.5 and 1.5, d = 64",
            64,
        ),
        ("diagonal", lambda: _differ("diagonal", 4), "three diagonal covariances, d = 4", 64),
        ("full", lambda: _differ("full", 4), "three full covariances, d = 4", 64),
        ("blocks-d256", _blocks, "one mean, variances 1.3 and 0.7 of either half, d = 256", 64),
    ],
    "curved": [
        ("rings", _rings, "two concentric circles, d = 2", 64),
        ("moons-d64", _moons, "two moons in a plane of d = 64", 64),
        ("xor-d16", _exclusive_or, "four clusters, opposite ones of one class, d = 16", 64),
    ],
    "heavy tails": [
        (
            id,
            partial(_heavy, centres),
            f"{len(centres)} classes with tails of Student's t, on a line",
            64,
        )
        for id, centres in (("heavy-d1", (2.0, -2.0)), ("heavy-k3", (-5.0, 0.0, 5.0)))
    ],
    "data": [
        ("manifold", _manifold, "four classes on an 8-dimensional subspace, d = 1024", 64),
        ("digits-fitted", _digits_fitted, "ten Gaussians fitted to the digits, d = 64", 256),
        ("digits", _digits_empirical, "the real digits: 1797 points in ten classes, d = 64", 256),
    ],
}

TASKS: dict[str, Task] = {
    id: Task(id, build, what, needed, family=family)
    for family, entries in _FAMILIES.items()
    for id, build, what, needed in entries
}
