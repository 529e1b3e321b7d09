"""Gram matrices of means: factors, principal axes, and the top eigenvalue of a mixture's covariance."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.optimize import brentq

from gmm_speciation.checks import is_concrete


def eigenspace_grams(offsets: Array, eigenvalues: Array) -> tuple[Array, Array]:
    """One Gram matrix a distinct eigenvalue, for means in the eigenbasis."""
    if is_concrete(eigenvalues) and is_concrete(offsets):
        distinct, group = np.unique(np.asarray(eigenvalues), return_inverse=True)
        columns = np.asarray(offsets)
        gram = np.zeros((len(distinct), len(columns), len(columns)), columns.dtype)
        np.add.at(gram, group, columns.T[:, :, None] * columns.T[:, None, :])
        return jnp.asarray(gram), jnp.asarray(distinct)
    return jnp.einsum("jd,kd->djk", offsets, offsets, precision="highest"), eigenvalues


def merge_equal(gram: Array, eigenvalues: Array) -> tuple[Array, Array]:
    """One Gram matrix a distinct eigenvalue, where they are known."""
    if not (is_concrete(eigenvalues) and is_concrete(gram)):
        return gram, eigenvalues
    distinct, group = np.unique(np.asarray(eigenvalues), return_inverse=True)
    merged = np.zeros((len(distinct), *gram.shape[1:]), gram.dtype)
    np.add.at(merged, group, np.asarray(gram))
    return jnp.asarray(merged), jnp.asarray(distinct)


def principal_axes(gram: Array) -> np.ndarray:
    """Orthonormal `(K, r)` basis of the range to rounding, largest axis first."""
    values, vectors = np.linalg.eigh(np.asarray(gram, float))
    keep = values > 64 * len(gram) * float(jnp.finfo(gram.dtype).eps) * max(values[-1], 0.0)
    return vectors[:, keep][:, ::-1]


def spectrum(gram: Array, axes: np.ndarray) -> np.ndarray:
    return np.einsum("kr,kl,lr->r", axes, np.asarray(gram, float), axes)


def cholesky(matrix: Array) -> Array:
    """Lower factor of a positive semi-definite matrix, lifted by rounding size so that it exists."""
    size = matrix.shape[0]
    if size == 0:
        return matrix
    scale = jnp.maximum(jnp.trace(matrix) / size, jnp.finfo(matrix.dtype).tiny ** 0.5)
    lift = 8 * size * jnp.finfo(matrix.dtype).eps * scale
    return jnp.linalg.cholesky(matrix + lift * jnp.eye(size, dtype=matrix.dtype))


def centre_gram(gram: Array) -> Array:
    rows = gram - gram.mean(0, keepdims=True)
    return rows - rows.mean(1, keepdims=True)


def weighted_gram(gram: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Gram matrices `(..., K, K)` of `sqrt(w_k) (mu_k - mean)` with the weighted mean."""
    centring = np.eye(len(weights)) - np.outer(np.ones(len(weights)), weights)
    root = np.sqrt(weights)
    return root[:, None] * (centring @ gram @ centring.T) * root


def top_of_sum(gram: np.ndarray, eigenvalues: np.ndarray) -> float:
    """Top eigenvalue of `Sigma + B B^T`: where the top of `sum_e G_e / (L - lambda_e)` is 1."""
    low, spread = float(eigenvalues.max()), float(np.trace(gram.sum(0)))
    if not spread > 0:
        return low

    def excess(top: float) -> float:
        total = np.einsum("ekl,e->kl", gram, 1 / (top - eigenvalues))
        return float(np.linalg.eigvalsh(total)[-1]) - 1

    start = low + 1e-13 * (low + spread)
    if excess(start) <= 0:
        return low  # the spread has no part along the leading directions that lifts them
    return float(brentq(excess, start, low + spread * (1 + 1e-12), xtol=1e-14 * (low + spread)))
