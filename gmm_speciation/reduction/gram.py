"""Means up to rotation: principal axes, factors of Gram matrices, the top eigenvalue of a mixture's
covariance.

Known means are decomposed on the host in float64, whatever their own width, and scaled, so that neither
classes that lie close beside one far away nor squares out of range are lost. A decomposition of the means
keeps twice the digits of one of their Gram matrix.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import brentq

from gmm_speciation.covariances import safe_sqrt


def principal_axes(means: Float[Array | np.ndarray, "K m"]) -> tuple[np.ndarray, np.ndarray]:
    """`(points, frame)`, `(K, r)` and `(r, m)`: means less their mean are `points @ frame`, the rows of
    the frame orthonormal, as far as the digits of the means reach."""
    rows = np.asarray(means, float)
    scale = np.max(np.abs(rows), initial=0.0) or 1.0
    rows = rows / scale
    # Triangles of the long side first, in blocks: the decomposition is then of K x K numbers. Small products
    # start no threads, which on a busy machine wait for each other far longer than the work takes, and
    # stay in the way of JAX's own for a while.
    width, length = rows.shape
    num = max(1, length // (64 * width))
    size = -(-length // num)
    tall = np.pad((rows - rows.mean(0)).T, ((0, num * size - length), (0, 0)))
    inner, triangles = np.linalg.qr(tall.reshape(num, size, width))
    outer, triangle = np.linalg.qr(triangles.reshape(-1, width))
    left, singular, right = np.linalg.svd(triangle.T, full_matrices=False)
    resolution = max(
        4 * float(jnp.finfo(jnp.promote_types(means.dtype, jnp.float32)).eps),
        max(rows.shape) * float(np.finfo(float).eps),
    )
    keep = singular > resolution * max(singular[0], 0.0)
    rank = int(keep.sum())
    turned = (outer @ right[keep].T).reshape(num, inner.shape[2], rank)
    frame = (inner @ turned).reshape(num * size, rank)[:length]
    return left[:, keep] * singular[keep] * scale, frame.T


def traced_axes(means: Float[Array, "K m"]) -> tuple[Float[Array, "K r"], Float[Array, "r m"]]:
    """The same under a trace, which needs no eigenvectors: differences from the mean nearest to the
    middle, of unit length, `r = K - 1`; their lengths are taken for constants."""
    num = len(means)
    apart = jax.lax.stop_gradient(means - means.mean(0, keepdims=True))
    order = (jnp.argmin(jnp.sum(apart**2, -1)) + jnp.arange(num)) % num
    differences = means[order[1:]] - means[order[:1]]
    lengths = jnp.linalg.norm(jax.lax.stop_gradient(differences), axis=-1)
    lengths = jnp.where(lengths > 0, lengths, 1.0)
    points = jnp.zeros((num, num - 1), means.dtype).at[order[1:], jnp.arange(num - 1)].set(lengths)
    return points, differences / lengths[:, None]


def eigenspace_cores(
    frame: Float[np.ndarray, "r m"], eigenvalues: Float[np.ndarray, " m"]
) -> tuple[np.ndarray, np.ndarray]:
    """One Gram matrix a distinct eigenvalue, of the columns of the frame that have it."""
    order = np.argsort(eigenvalues, kind="stable")
    distinct, starts = np.unique(eigenvalues[order], return_index=True)
    if len(distinct) == 1:  # rows of the frame are orthonormal
        return np.eye(len(frame))[None], distinct
    blocks = np.split(frame[:, order], starts[1:], axis=1)
    return np.stack([block @ block.T for block in blocks]), distinct


def cholesky(matrix: Array) -> Array:
    """Lower factor of a positive semi-definite matrix, lifted by rounding size so that it exists.

    Rows and columns are scaled to a unit diagonal first: one long axis does not swamp the others.
    """
    size = matrix.shape[0]
    if size == 0:
        return matrix
    scale = jax.lax.stop_gradient(safe_sqrt(jnp.diagonal(matrix)))
    scale = jnp.where(scale > 0, scale, 1.0)
    lift = 8 * size * jnp.finfo(matrix.dtype).eps
    unit = matrix / (scale[:, None] * scale[None, :])
    return scale[:, None] * jnp.linalg.cholesky(unit + lift * jnp.eye(size, dtype=matrix.dtype))


def host_factor(matrix: np.ndarray) -> np.ndarray:
    """Square factor of a positive semi-definite matrix, of any rank."""
    values, vectors = np.linalg.eigh(np.asarray(matrix, float))
    return vectors * np.sqrt(np.maximum(values, 0.0))


def weighted_rows(
    means: Float[np.ndarray, "K r"], weights: Float[np.ndarray, " K"]
) -> Float[np.ndarray, "K r"]:
    """`sqrt(w_k) (mu_k - mean)` with the weighted mean: rows B with `B^T B` the covariance of the means."""
    return np.sqrt(weights)[:, None] * (means - weights @ means)


def top_between(means: Float[np.ndarray, "K r"], weights: Float[np.ndarray, " K"]) -> float:
    """Top eigenvalue of the covariance of the means."""
    rows = weighted_rows(means, weights)
    if not rows.size:
        return 0.0
    tall = len(rows) > rows.shape[1]
    return float(np.linalg.eigvalsh(rows.T @ rows if tall else rows @ rows.T)[-1])


def top_of_sum(gram: np.ndarray, eigenvalues: np.ndarray) -> float:
    """Top eigenvalue of `Sigma + B B^T`: where that of `sum_e B^T Pi_e B / (L - lambda_e)` is 1."""
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
