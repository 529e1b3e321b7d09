"""Nearest-neighbour estimators of I(X; C); H(C|X) = H(C) - I.

Ross 2014, for a discrete and a continuous variable, here in d dimensions with Euclidean balls: d_i
is the distance of x_i to its k-th neighbour of the same class, m_i how many other points lie within it,
that neighbour included,

    I = psi(n) + psi(k) - < psi(n_c) > - < psi(m_i) >.

Gao, Kannan, Oh & Viswanath 2017 for mixtures of discrete and continuous, as in the authors' own program:
epsilon_i is the distance of (x_i, c_i) to its k-th neighbour in the maximum of the metrics, n_x and n_y how
many points are strictly closer in each alone, the point itself among them,

    I = < psi(k) + log n - psi(n_x) - psi(n_y) >.

(Their algorithm 1 has log(n + 1) for psi(n), which is log(k + 1) - psi(k) too low for classes far apart, 0.46
nats at k = 3. Points at distance 0, for which they count otherwise, are told apart below.) Coordinates of x,
scaled to unit variance, are compared by their largest difference. Classes are equal or they are not, which
no finite distance says: two classes are infinitely far apart, so that the units of x do not matter. Then
epsilon_i = d_i, n_x = m_i and n_y = n_c: but for log n the two estimators differ in how x is compared.

Both need a density, and data that were rounded have none: neighbours are then at distance 0. Ties are
broken by seeded independent noise, uniform on one step of the rounding. Rounding once more gives the tied
value back, so H(C|X) is what it was.
"""

from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import digamma

from gmm_speciation.estimate import Estimate
from gmm_speciation.estimators.base import CHUNK_MIB, LevelEstimator

_NEIGHBOURS = 3
_TREE_DIM = 8  # above, trees lose to products


def entropy_of_prior(prior: np.ndarray) -> float:
    positive = prior[prior > 0]
    return float(-np.sum(positive * np.log(positive)))


def rounding_step(x: np.ndarray) -> tuple[Bool[np.ndarray, " d"], float]:
    """Which coordinates have equal values, and the smallest difference of two values of these.

    Raises:
        ValueError: If more than 1 % of the points repeat others and the step does not separate points:
            they are then copies, which no density has.
    """
    from sklearn.neighbors import NearestNeighbors

    values = [np.unique(column) for column in x.T]
    tied = np.array([len(distinct) < len(x) for distinct in values])
    if not tied.any():
        return tied, 0.0
    rounding = 8 * np.finfo(np.result_type(x, np.float32)).eps * float(np.abs(x).max())
    gaps = np.concatenate([np.diff(values[index]) for index in np.flatnonzero(tied)])
    gaps = gaps[gaps > rounding]
    step = float(gaps.min()) if len(gaps) else max(rounding, 1e-30)
    points = x.astype(float) - x.mean(0, dtype=float)
    distinct = np.unique(points, axis=0) if tied.all() else points
    copies = len(x) - len(distinct)
    if copies > 0.01 * len(x) and len(distinct) > 1:
        apart = NearestNeighbors(n_neighbors=1).fit(distinct).kneighbors()[0]
        if step < 0.01 * np.median(apart):
            raise ValueError(
                f"{copies} of {len(x)} points repeat others and are not rounded to a common step: copies are "
                "no draws of a density, neither for neighbours nor for a fit that is tried on held-out "
                "points. Drop the repeated points, or add noise as wide as the resolution of the data."
            )
    return tied, step


def untied(x: np.ndarray, rng: np.random.Generator) -> Float[np.ndarray, "n d"]:
    """The points about their mean, coordinates with equal values spread uniformly over one step.

    Raises:
        ValueError: As `rounding_step`.
    """
    tied, step = rounding_step(x)
    points = x.astype(float) - x.mean(0, dtype=float)
    if not tied.any():
        return points
    return points + np.where(tied, rng.uniform(-step / 2, step / 2, x.shape), 0.0)


class _Neighbours(LevelEstimator):
    family = "neighbours"
    per_class = _NEIGHBOURS + 1
    metric: ClassVar[str]

    def level(self, x, labels, prior, rng):
        from sklearn.neighbors import NearestNeighbors

        x = self.scaled(untied(x, rng))
        radius = np.empty(len(x))
        for c in range(len(prior)):
            found = NearestNeighbors(n_neighbors=_NEIGHBOURS, metric=self.metric).fit(
                x[labels == c]
            )
            radius[labels == c] = found.kneighbors()[0][:, -1]
        within = np.maximum(self.within(x, radius), _NEIGHBOURS)
        counts = np.bincount(labels, minlength=len(prior))
        information = self.total(len(x)) + digamma(_NEIGHBOURS)
        information -= digamma(counts[labels]).mean() + digamma(within).mean()
        return Estimate.exact(np.asarray(entropy_of_prior(prior) - information))

    def within(self, x: np.ndarray, radius: np.ndarray) -> Int[np.ndarray, " n"]:
        """How many other points are no farther, counted without the whole matrix of distances."""
        from sklearn.metrics import pairwise_distances_chunked
        from sklearn.neighbors import KDTree

        # Rounding must not leave the k-th neighbour outside its own ball; products round more.
        trees = x.shape[1] <= _TREE_DIM
        radius = radius * (1 + (1e-6 if self.metric == "euclidean" and not trees else 1e-12))
        if trees:
            return KDTree(x, metric=self.metric).query_radius(x, radius, count_only=True) - 1

        def count(distance: np.ndarray, start: int) -> np.ndarray:
            return np.sum(distance <= radius[start : start + len(distance), None], axis=1) - 1

        chunks = pairwise_distances_chunked(
            x, reduce_func=count, metric=self.metric, working_memory=CHUNK_MIB
        )
        return np.concatenate(list(chunks))


class Ross(_Neighbours):
    title = "k nearest neighbours, discrete-continuous"
    reference = "Ross 2014, PLoS ONE 9(2) e87357"
    metric = "euclidean"
    total = staticmethod(digamma)

    def scaled(self, x):
        return x


class MixedKraskov(_Neighbours):
    title = "KSG for mixed variables"
    reference = "Gao, Kannan, Oh & Viswanath 2017, arXiv 1709.06212"
    metric = "chebyshev"
    total = staticmethod(np.log)

    def scaled(self, x):
        return x / np.maximum(x.std(0), 1e-30)
