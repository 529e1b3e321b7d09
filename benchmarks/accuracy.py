"""float32 posteriors against the truth, in high dimension and far from the origin.

Ten classes at distance 2 (decision SNR of order 1 in every dimension), `offset` added to every
coordinate of means and data, all rounded to float32. The error is the largest over points and classes
of `|p - p_true|`; the truth is the difference form of the quadratic in float64 on the same rounded
inputs, so that no rounding of the inputs counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from others import LIBRARIES, Unavailable, posterior_of
from scipy.special import softmax

NUM_COMPONENTS = 10
OFFSETS = (0, 1, 10)


@dataclass(frozen=True)
class Error:
    """Largest error of a float32 posterior; None where the library cannot, and why."""

    dim: int
    offset: float
    library: str
    error: float | None
    failure: str = ""


def _problem(num_samples: int, dim: int, offset: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(NUM_COMPONENTS, dim)) * np.sqrt(2 / dim) + offset
    x = means[rng.integers(NUM_COMPONENTS, size=num_samples)] + rng.normal(size=(num_samples, dim))
    return means.astype(np.float32), x.astype(np.float32)


def _truth(x: np.ndarray, means: np.ndarray) -> np.ndarray:
    y = x.astype(float)
    squares = [((y - mean.astype(float)) ** 2).sum(1) for mean in means]
    return softmax(-np.stack(squares, 1) / 2, axis=1)


def errors(num_samples: int, dims: tuple[int, ...]) -> Iterator[Error]:
    """The table, row by row."""
    for dim in dims:
        for offset in OFFSETS:
            means, x = _problem(num_samples, dim, offset)
            truth = _truth(x, means)
            for library in LIBRARIES:
                try:
                    posterior = np.asarray(posterior_of(library, x, means)())
                    posterior = posterior.reshape(truth.shape).astype(float)
                except Unavailable as failure:
                    yield Error(dim, offset, library, None, str(failure))
                else:
                    largest = float(np.abs(posterior - truth).max())
                    yield Error(dim, offset, library, largest)
