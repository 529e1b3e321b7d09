"""Nearest-neighbour estimators of I(X; C); H(C|X) = H(C) - I.

Ross 2014, for a discrete and a continuous variable, here in d dimensions with Euclidean balls: d_i
is the distance of x_i to its k-th neighbour of the same class, m_i how many other points lie within it,
that neighbour included,

    I = psi(n) + psi(k) - < psi(n_c) > - < psi(m_i) >.

Gao, Kannan, Oh & Viswanath 2017 for mixtures of discrete and continuous, as in the authors' own program:
epsilon_i is the distance of (x_i, c_i) to its k-th neighbour in the maximum of the metrics, n_x and n_y how
many points are strictly closer in each alone, the point itself among them,

    I = < psi(k_i) + log n - psi(n_x) - psi(n_y) >,

and where epsilon_i = 0 all three count the points at distance 0. (Their algorithm 1 has log(n + 1) for
psi(n), which is log(k + 1) - psi(k) too low for classes far apart, 0.46 nats at k = 3.) Coordinates of x,
scaled to unit variance, are compared by their largest difference. Classes are equal or they are not, which
no finite distance says: two classes are infinitely far apart, so that the units of x do not matter.

Both need a density, and data that were rounded have none: neighbours are then at distance 0. Ties are
broken by seeded independent noise, uniform on one step of the rounding. Rounding once more gives the tied
value back, so H(C|X) is what it was.
"""

import numpy as np
from jaxtyping import Float
from scipy.special import digamma

from gmm_speciation.estimate import Estimate
from gmm_speciation.estimators.base import LevelEstimator, check_samples

_NEIGHBOURS = 3


def entropy_of_prior(prior: np.ndarray) -> float:
    positive = prior[prior > 0]
    return float(-np.sum(positive * np.log(positive)))


def untied(x: np.ndarray, rng: np.random.Generator) -> Float[np.ndarray, "n d"]:
    """The points about their mean, coordinates with equal values spread uniformly over one step.

    The step is the smallest difference between two values of such a coordinate, the same for all.

    Raises:
        ValueError: If more than 1 % of the points repeat others and the step does not separate points:
            they are then copies, which no density has.
    """
    from sklearn.neighbors import NearestNeighbors

    values = [np.unique(column) for column in x.T]
    tied = np.array([len(distinct) < len(x) for distinct in values])
    points = x.astype(float) - x.mean(0, dtype=float)
    if not tied.any():
        return points
    rounding = 8 * np.finfo(np.result_type(x, np.float32)).eps * float(np.abs(x).max())
    gaps = np.concatenate([np.diff(values[index]) for index in np.flatnonzero(tied)])
    gaps = gaps[gaps > rounding]
    step = float(gaps.min()) if len(gaps) else max(rounding, 1e-30)
    distinct = np.unique(points, axis=0) if tied.all() else points
    copies = len(x) - len(distinct)
    if copies > 0.01 * len(x) and len(distinct) > 1:
        apart = NearestNeighbors(n_neighbors=1).fit(distinct).kneighbors()[0]
        if step < 0.01 * np.median(apart):
            raise ValueError(
                f"{copies} of {len(x)} points repeat others and are not rounded to a common step, so "
                "neighbours at distance 0 say nothing of a density. Drop the repeated points, or add "
                "noise as wide as the resolution of the data."
            )
    return points + np.where(tied, rng.uniform(-step / 2, step / 2, x.shape), 0.0)


class Ross(LevelEstimator):
    title = "k nearest neighbours, discrete-continuous"
    reference = "Ross 2014, PLoS ONE 9(2) e87357"
    family = "neighbours"

    def level(self, x, labels, prior, rng):
        from sklearn.metrics import pairwise_distances
        from sklearn.neighbors import NearestNeighbors

        x = untied(check_samples(x, labels, len(prior), _NEIGHBOURS + 1), rng)
        counts = np.bincount(labels, minlength=len(prior))
        radius = np.empty(len(x))
        for c in range(len(prior)):
            own = x[labels == c]
            found = NearestNeighbors(n_neighbors=_NEIGHBOURS).fit(own)
            radius[labels == c] = found.kneighbors()[0][:, -1]
        if x.shape[1] <= 8:
            tree = NearestNeighbors(algorithm="kd_tree").fit(x)._tree
            # Rounding must not leave the k-th neighbour outside its own ball.
            within = tree.query_radius(x, radius * (1 + 1e-12), count_only=True)
        else:
            distance = pairwise_distances(x)
            within = np.sum(distance <= radius[:, None] * (1 + 1e-6), axis=1)
        information = (
            digamma(len(x))
            + digamma(_NEIGHBOURS)
            - digamma(counts[labels]).mean()
            - digamma(np.maximum(within - 1, _NEIGHBOURS)).mean()  # not x_i itself
        )
        return Estimate.exact(np.asarray(entropy_of_prior(prior) - information))


class MixedKraskov(LevelEstimator):
    title = "KSG for mixed variables"
    reference = "Gao, Kannan, Oh & Viswanath 2017, arXiv 1709.06212"
    family = "neighbours"

    def level(self, x, labels, prior, rng):
        from scipy.spatial.distance import pdist, squareform

        x = untied(check_samples(x, labels, len(prior), _NEIGHBOURS + 1), rng)
        distance = squareform(pdist(x / np.maximum(x.std(0), 1e-30), "chebyshev"))
        same = labels[:, None] == labels[None, :]
        joint = np.where(same, distance, np.inf)
        np.fill_diagonal(joint, np.inf)
        epsilon = np.partition(joint, _NEIGHBOURS - 1, axis=1)[:, _NEIGHBOURS - 1]
        apart = epsilon > 0
        closer = np.where(apart[:, None], distance < epsilon[:, None], distance <= 0)
        k = np.where(apart, _NEIGHBOURS, np.sum(closer & same, 1))
        information = (
            digamma(k) + np.log(len(x)) - digamma(closer.sum(1)) - digamma(same.sum(1))
        ).mean()
        return Estimate.exact(np.asarray(entropy_of_prior(prior) - information))
