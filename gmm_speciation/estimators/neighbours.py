"""Nearest-neighbour estimators of I(X; C); H(C|X) = H(C) - I.

Ross 2014, for a discrete and a continuous variable, here in d dimensions with Euclidean balls: d_i
is the distance of x_i to its k-th neighbour of the same class, m_i how many other points lie within it,
that neighbour included,

    I = psi(n) + psi(k) - < psi(n_c) > - < psi(m_i) >.

Kraskov, Stoegbauer & Grassberger 2004 (algorithm 1, Eq. 8) on (x, one-hot c): epsilon_i is the
distance to the k-th neighbour in the maximum of the two metrics, n_x and n_y how many are strictly closer
in each,

    I = psi(k) + psi(n) - < psi(n_x + 1) + psi(n_y + 1) >,

with x scaled to unit variance; the distance of two classes is sqrt(2).

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
        return Estimate.exact(np.asarray(entropy_of_prior(prior) - max(information, 0.0)))


class KraskovOneHot(LevelEstimator):
    title = "KSG on (x, one-hot)"
    reference = "Kraskov, Stögbauer & Grassberger 2004, Phys. Rev. E 69, 066138"
    family = "neighbours"

    def level(self, x, labels, prior, rng):
        from sklearn.metrics import pairwise_distances

        x = untied(check_samples(x, labels, len(prior), _NEIGHBOURS + 1), rng)
        distance = pairwise_distances(x / np.maximum(x.std(), 1e-30))
        apart = np.where(labels[:, None] == labels[None, :], 0.0, np.sqrt(2.0))
        joint = np.maximum(distance, apart)
        np.fill_diagonal(joint, np.inf)
        epsilon = np.partition(joint, _NEIGHBOURS - 1, axis=1)[:, _NEIGHBOURS - 1 : _NEIGHBOURS]
        closer_x = np.sum(distance < epsilon, 1) - 1  # not itself
        closer_y = np.sum(apart < epsilon, 1) - 1
        information = (
            digamma(_NEIGHBOURS)
            + digamma(len(x))
            - (digamma(np.maximum(closer_x, 0) + 1) + digamma(closer_y + 1)).mean()
        )
        return Estimate.exact(np.asarray(entropy_of_prior(prior) - max(information, 0.0)))
