"""Divergences between the Gaussians of a mixture, for every pair.

    KL(j || k)            = (1/2) [ tr P_k Sigma_j - d + Delta^T P_k Delta + log det Sigma_k / Sigma_j ]
    Bhattacharyya(j, k)   = (1/8) Delta^T S^{-1} Delta + (1/2) log det S / sqrt(det Sigma_j det Sigma_k)

with `Delta = mu_j - mu_k`, `P = Sigma^{-1}`, `S = (Sigma_j + Sigma_k) / 2`. Components that share a
covariance need the Gram matrix of the means only; others their spectrum, or dense matrices.
"""

import numpy as np
from jaxtyping import Float

from gmm_speciation.covariances import Diagonal, Isotropic
from gmm_speciation.mixtures import GaussianMixture

_MAX_DENSE = 512  # dimensions


def divergences(
    mixture: GaussianMixture,
) -> tuple[Float[np.ndarray, "K K"], Float[np.ndarray, "K K"]]:
    """`(KL, Bhattacharyya)` in nats, row j against column k.

    Raises:
        ValueError: If covariances differ that are not diagonal, in more than 512 dimensions.
    """
    offsets, covariance = mixture.offsets, mixture.regularised()
    if covariance.shared:
        gram = np.asarray(mixture.precision().gram(offsets), float)
        squares = np.diag(gram)
        distance = np.maximum(squares[:, None] + squares[None, :] - 2 * gram, 0.0)
        return distance / 2, distance / 8
    if not isinstance(covariance, Diagonal | Isotropic):
        return _dense(mixture)
    # The eigenvalues are variances along the coordinates.
    variances = np.asarray(covariance.eigenvalues(mixture.dim), float)
    return _rows(np.asarray(offsets, float), variances)


def _rows(means: np.ndarray, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    kl, bhattacharyya = [], []
    for mean, variance in zip(means, variances, strict=True):
        square = (mean - means) ** 2
        ratio = variance / variances
        kl.append(((square / variances + ratio - 1 - np.log(ratio)).sum(-1)) / 2)
        middle = (variance + variances) / 2
        volume = np.log(middle) - (np.log(variance) + np.log(variances)) / 2
        bhattacharyya.append((square / middle).sum(-1) / 8 + volume.sum(-1) / 2)
    return np.array(kl), np.array(bhattacharyya)


def _dense(mixture: GaussianMixture) -> tuple[np.ndarray, np.ndarray]:
    if mixture.dim > _MAX_DENSE:
        raise ValueError(
            f"Pairwise divergences of covariances that differ are dense up to {_MAX_DENSE} dimensions; "
            f"the mixture has {mixture.dim}."
        )
    matrices = np.asarray(mixture.regularised().matrices(mixture.dim), float)
    means = np.asarray(mixture.offsets, float)
    log_det = np.linalg.slogdet(matrices)[1]
    inverse = np.linalg.inv(matrices)
    kl, bhattacharyya = [], []
    for j, (mean, matrix) in enumerate(zip(means, matrices, strict=True)):
        delta = mean - means
        trace = np.einsum("kab,ba->k", inverse, matrix)
        square = np.einsum("ka,kab,kb->k", delta, inverse, delta)
        kl.append((trace - mixture.dim + square + log_det - log_det[j]) / 2)
        middle = (matrix + matrices) / 2
        solved = np.linalg.solve(middle, delta[..., None])[..., 0]
        volume = np.linalg.slogdet(middle)[1] - (log_det[j] + log_det) / 2
        bhattacharyya.append(np.sum(delta * solved, -1) / 8 + volume / 2)
    return np.array(kl), np.array(bhattacharyya)
