"""Patterns to store, and the scale on which their transitions happen.

The effective inverse temperature

    beta_eff = beta delta^2 / 2,        delta^2 = mean over pairs i != j of |x_i - x_j|^2

is exact for equidistant patterns of any size (unit patterns with x_i . x_j = c: beta (1 - c)). For other
patterns it is a definition: it puts them on the axis of the equidistant ones of the same mean
squared distance, whose transitions they need not share.
"""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.linalg import helmert

from gmm_speciation.checks import ArrayLike, as_count
from gmm_speciation.hopfield.energy import as_patterns, inverse_temperatures
from gmm_speciation.reading import open_regular, read_array, read_arrays


def mean_squared_distance(patterns: ArrayLike) -> Float[Array, ""]:
    """`delta^2`, the mean of `|x_i - x_j|^2` over pairs of different patterns, unit squared.

    Raises:
        ValueError: If the patterns are not `(N, d)` with at least two rows, or not finite.
    """
    rows = as_patterns(patterns)
    centred = rows - rows[:1]  # exactly 0 for copies
    centred = centred - centred.mean(0, keepdims=True)
    return 2 * jnp.sum(centred**2) / (rows.shape[0] - 1)


def effective_beta(patterns: ArrayLike, beta: ArrayLike) -> Float[Array, "*shape"]:
    """`beta_eff = beta delta^2 / 2`, a number without unit.

    Raises:
        ValueError: As `mean_squared_distance`, or if beta is not positive and finite.
    """
    return inverse_temperatures(beta, "beta") * mean_squared_distance(patterns) / 2


def beta_from_effective(patterns: ArrayLike, beta_eff: ArrayLike) -> Float[Array, "*shape"]:
    """`beta = 2 beta_eff / delta^2`, infinite where all patterns are the same.

    Raises:
        ValueError: As `mean_squared_distance`, or if beta_eff is not positive and finite.
    """
    return 2 * inverse_temperatures(beta_eff, "beta_eff") / mean_squared_distance(patterns)


def equidistant_patterns(
    num_patterns: int, dim: int | None = None, cosine: float | int = 0.0
) -> Float[np.ndarray, "N d"]:
    """Unit patterns with `x_i . x_j = cosine` for every two; `dim` defaults to N.

    Raises:
        ValueError: If there are fewer than 2 patterns, the cosine is not inside [-1/(N-1), 1), or so
            many patterns do not fit.
    """
    n = as_count(num_patterns, "num_patterns", 2)
    dim = n if dim is None else as_count(dim, "dim")
    lowest = -1 / (n - 1)
    if not lowest <= cosine < 1:
        raise ValueError(f"`cosine` must lie inside [{lowest:.6g}, 1); got {cosine}.")
    # Coordinates in a basis of the Gram matrix that is the same on every processor: the direction that all
    # share, which is nothing at the lowest cosine, and those between them.
    rank = n if cosine > lowest else n - 1
    if dim < rank:
        raise ValueError(
            f"{n} patterns at cosine {cosine:.6g} need a dimension of at least {rank}; got {dim}."
        )
    values = np.r_[1 + (n - 1) * cosine, np.full(n - 1, 1 - cosine)]
    patterns = np.zeros((n, dim))
    patterns[:, :rank] = (helmert(n, full=True).T * np.sqrt(np.maximum(values, 0)))[:, n - rank :]
    return patterns


def random_patterns(num_patterns: int, dim: int, seed: int = 0) -> Float[np.ndarray, "N d"]:
    """Independent Gaussian patterns `N(0, I)` brought to unit norm.

    Raises:
        ValueError: If there are fewer than 2 patterns or no dimension.
    """
    shape = as_count(num_patterns, "num_patterns", 2), as_count(dim, "dim")
    normals = np.random.default_rng(seed).standard_normal(shape)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def digit_patterns(num_patterns: int, seed: int = 0) -> Float[np.ndarray, "N 64"]:
    """Different 8 x 8 images of scikit-learn's handwritten digits, brought to unit norm.

    Needs scikit-learn (the `bridge` extra).

    Raises:
        ValueError: If there are not so many.
        ModuleNotFoundError: If scikit-learn is missing.
    """
    from sklearn.datasets import load_digits

    images = np.asarray(load_digits().data, float)
    count = as_count(num_patterns, "num_patterns", 2)
    if count > len(images):
        raise ValueError(f"There are 2 to {len(images)} digit patterns; got {count}.")
    chosen = np.random.default_rng(seed).choice(len(images), count, replace=False)
    return images[chosen] / np.linalg.norm(images[chosen], axis=1, keepdims=True)


def load_patterns(path: str | Path) -> Float[np.ndarray, "N d"]:
    """Patterns from a `.npy` file, or from the array `patterns` of a `.npz`; nothing in it is executed.

    Raises:
        ValueError: If the file is missing, is not such a file, or holds no valid patterns.
    """
    path = Path(path)
    # Both are known by their first bytes.
    with open_regular(path) as file:
        lone = file.read(6) == np.lib.format.MAGIC_PREFIX
    try:
        array = read_array(path) if lone else read_arrays(path)["patterns"]
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{str(path)!r} holds no patterns ({error}); write it by `np.save(path, patterns)` or "
            "`np.savez(path, patterns=patterns)`."
        ) from error
    as_patterns(array)
    return np.asarray(array, float)
