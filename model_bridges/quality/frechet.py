"""Fréchet distance of two samples of features.

Between Gaussians with the moments of the samples (Dowson & Landau 1982; as FID, Heusel et al. 2017,
arXiv 1706.08500), squared, in squared units of the features:

    d^2 = |m_a - m_b|^2 + tr S_a + tr S_b - 2 tr (S_a S_b)^(1/2)

With factors S = L L^T the last trace is the sum of singular values of L_a^T L_b: symmetric in a and b,
and accurate for singular covariances, where a root of eigenvalues would keep half the digits.

The value is biased upwards by terms of order F / n, of both samples: compare runs at equal n against
one reference, and beside the distance between two true samples (`quality.floor`).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from gmm_speciation.checks import as_values
from model_bridges.quality.jackknife import Jackknifed, as_features, batch_sums


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance (divisor n - 1) of features.

    Raises:
        ValueError: If they are not finite, or not of one number of features.
    """

    mean: Float[np.ndarray, "*R F"]
    covariance: Float[np.ndarray, "*R F F"]

    def __post_init__(self) -> None:
        for name in ("mean", "covariance"):
            object.__setattr__(self, name, as_values(getattr(self, name), name))
        shape = self.mean.shape
        if not shape or self.covariance.shape != (*shape, shape[-1]):
            raise ValueError(
                "`mean` and `covariance` must have shapes (F,) and (F, F); got "
                f"{shape} and {self.covariance.shape}."
            )

    @classmethod
    def of(cls, features: Float[np.ndarray, "n F"]) -> "Moments":
        """Of one sample.

        Raises:
            ValueError: As `as_features`, or if there are not more samples than features.
        """
        features = as_features(features)
        _check(len(features), features.shape[1])
        return cls(features.mean(0), np.cov(features.T).reshape(2 * (features.shape[1],)))

    def factor(self) -> Float[np.ndarray, "*R F F"]:
        """L with L L^T = S; directions without variance stay without."""
        values, vectors = np.linalg.eigh(self.covariance)
        return vectors * np.sqrt(np.maximum(values, 0))[..., None, :]


def frechet_distance(a: Moments, b: Moments) -> Float[np.ndarray, "*R"]:
    """Squared Fréchet distance; one side may hold R sets of moments. Not negative.

    Raises:
        ValueError: If the two are of different numbers of features.
    """
    if a.mean.shape[-1] != b.mean.shape[-1]:
        raise ValueError(
            f"both moments must be of the same features; got {a.mean.shape[-1]} and {b.mean.shape[-1]} of "
            "them. Take the features of one judge."
        )
    shift = ((a.mean - b.mean) ** 2).sum(-1)
    traces = [np.trace(m.covariance, axis1=-2, axis2=-1) for m in (a, b)]
    overlap = np.linalg.svd(np.swapaxes(a.factor(), -1, -2) @ b.factor(), compute_uv=False).sum(-1)
    return np.asarray(np.maximum(shift + traces[0] + traces[1] - 2 * overlap, 0.0))


def sampled_frechet(
    features: Float[np.ndarray, "n F"],
    reference: Moments,
    batches: Int[np.ndarray, " n"],
    num_batches: int,
) -> Jackknifed:
    """Distance of drawn features from a fixed reference, and the same without each batch.

    Sums over batches give the moments without one by subtraction: R + 1 distances cost linear algebra
    in F only. The error is that of the drawn images; the reference is held.

    Raises:
        ValueError: As `as_features` and `frechet_distance`, or if without a batch there are not more
            samples than features.
    """
    features = as_features(features)
    num, size = features.shape
    counts = np.bincount(batches, minlength=num_batches).astype(float)
    _check(num - int(counts.max()), size)
    centre = features.mean(0)
    around = features - centre[None]  # before squaring, so that a large mean costs no digits
    sums = batch_sums(around, batches, num_batches)
    squares = np.stack([around[batches == r].T @ around[batches == r] for r in range(num_batches)])
    rest = num - counts
    means = (sums.sum(0) - sums) / rest[:, None]
    outer = means[:, :, None] * means[:, None, :]
    covariances = (squares.sum(0) - squares - rest[:, None, None] * outer) / (rest - 1)[
        :, None, None
    ]
    without = frechet_distance(Moments(centre + means, covariances), reference)
    return Jackknifed(frechet_distance(Moments.of(features), reference), without)


def _check(num_samples: int, num_features: int) -> None:
    if num_samples < num_features + 1:
        raise ValueError(
            f"a covariance of {num_features} features needs at least {num_features + 1} samples; got "
            f"{num_samples} (without one batch, where there are batches). Draw more images, or train the "
            "judge with fewer features."
        )
