"""Precision and recall of drawn features by nearest neighbours.

The support of a sample is the union of balls around its points, each reaching to its k-th nearest
neighbour in the sample (Kynkäänniemi et al. 2019, arXiv 1904.06991, Eqs. 1-2, k = 3):

    precision   share of drawn images inside the support of the data
    recall      share of data inside the support of the drawn images

Both depend on the sizes of both samples: compare runs at equal n against one reference. Recall is no
smooth function of the drawn images; its jackknife errs on the large side (Efron & Stein 1981: the
expected jackknife variance is no smaller than the variance), by a fifth or two fifths at recalls up
to 0.75 and by a factor of 2 and more where nearly all data are covered.
"""

import numpy as np
from jaxtyping import Float, Int

from model_bridges.quality.jackknife import Jackknifed, as_features, mean_of

NUM_NEIGHBOURS = 3
_CHUNK = 2048


def radii(
    features: Float[np.ndarray, "n F"], num_neighbours: int = NUM_NEIGHBOURS
) -> Float[np.ndarray, " n"]:
    """Distance of each point to its k-th nearest neighbour among the others.

    Raises:
        ValueError: As `as_features`, or if there are not k others.
    """
    features = as_features(features)
    _check(len(features), num_neighbours)
    return _neighbours(features, num_neighbours)[0][:, -1]


def precision_recall(
    features: Float[np.ndarray, "n F"],
    reference: Float[np.ndarray, "m F"],
    batches: Int[np.ndarray, " n"],
    num_batches: int,
    *,
    reference_radii: Float[np.ndarray, " m"] | None = None,
    num_neighbours: int = NUM_NEIGHBOURS,
) -> tuple[Jackknifed, Jackknifed]:
    """Precision and recall, and both without each batch; the reference is held.

    Args:
        features: Of the drawn images.
        reference: Features of data.
        batches: Batch of each drawn image.
        num_batches: R.
        reference_radii: `radii(reference)`, where it is known already.
        num_neighbours: k.

    Raises:
        ValueError: As `as_features`, or if a sample has too few points for k neighbours without one batch.
    """
    from sklearn.metrics import pairwise_distances

    features, reference = as_features(features), as_features(reference, "reference")
    _check(len(features) - int(np.bincount(batches).max()), num_neighbours)
    if reference_radii is None:
        reference_radii = radii(reference, num_neighbours)
    own = _radii_without(features, batches, num_batches, num_neighbours)
    inside = np.zeros(len(features), bool)
    covered = np.zeros((num_batches + 1, len(reference)), bool)
    for start in range(0, len(reference), _CHUNK):
        rows = slice(start, start + _CHUNK)
        distance = pairwise_distances(reference[rows], features)
        inside |= (distance <= reference_radii[rows, None]).any(0)
        for r, radius in enumerate(own):
            covered[r, rows] = (distance <= radius[None]).any(1)
    shares = covered.mean(1)
    precision = mean_of(inside.astype(float), batches, num_batches)
    return precision, Jackknifed(np.asarray(shares[0]), shares[1:], precision.unseen)


def _radii_without(
    features: Float[np.ndarray, "n F"],
    batches: Int[np.ndarray, " n"],
    num_batches: int,
    num_neighbours: int,
) -> Float[np.ndarray, "R n"]:
    """Radii in the whole sample, then without each batch; -inf for the points that are left out."""
    num = len(features)
    known = num_neighbours + 8
    while True:
        known = min(known, num - 1)
        distance, index = _neighbours(features, known)
        found = np.empty((num_batches + 1, num))
        found[0] = distance[:, num_neighbours - 1]
        enough = True
        for r in range(num_batches):
            ranks = (batches[index] != r).cumsum(1)
            place = (ranks >= num_neighbours).argmax(1)
            radius = np.take_along_axis(distance, place[:, None], 1)[:, 0]
            stays = batches != r
            found[r + 1] = np.where(stays, radius, -np.inf)
            enough &= bool((ranks[stays, -1] >= num_neighbours).all())
        if enough:
            return found
        known *= 2  # all near neighbours of a point were in one batch


def _neighbours(features: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances `(n, num)` to the nearest others, increasing, and their indices."""
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=num).fit(features).kneighbors()


def _check(num_samples: int, num_neighbours: int) -> None:
    if num_neighbours < 1 or num_samples < num_neighbours + 1:
        raise ValueError(
            f"{num_neighbours} nearest neighbours, at least 1, need {num_neighbours + 1} samples or more; "
            f"got {num_samples} (without one batch, where there are batches)."
        )
