"""What a row of the benchmark is, and the data that its rows share.

Mixtures have means of order `sqrt(2 / d)` a coordinate, so that posteriors are undecided in every
dimension, and data are drawn from them: `n` points, seeded.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from timing import Effort, Measured

import gmm_speciation as gs

PRODUCT = "(n,d)@(d,K)"


@dataclass(frozen=True)
class Sizes:
    """How large the benchmark is; `quick` is the same code on small arrays."""

    num_samples: int = 4096
    dim: int = 1024
    large_dim: int = 16384
    num_components: tuple[int, ...] = (2, 10, 100)
    num_classes: int = 10**6  # of the exact integral
    seeds: int = 48  # of a variance
    accuracy_samples: int = 256
    accuracy_dims: tuple[int, ...] = (64, 1024, 16384)
    memory: int = 6 * 2**30  # bytes that a side-by-side row may take
    effort: Effort = field(default_factory=Effort)

    @classmethod
    def quick(cls) -> "Sizes":
        return cls(
            num_samples=256,
            dim=64,
            large_dim=256,
            num_components=(2, 10),
            num_classes=1000,
            seeds=8,
            accuracy_samples=32,
            accuracy_dims=(64,),
            effort=Effort(min_seconds=0.002, num_pairs=3, row_seconds=0.2),
        )


@dataclass(frozen=True)
class Row:
    """One measurement. Rows of the same `work` share a line of the table."""

    section: str
    work: str
    case: str  # "K = 10"
    measure: Callable[[], Measured]
    against: str = ""  # what a ratio is relative to; nothing for seconds
    target: float | None = None
    unit: str = "×"
    at_least: bool = False  # the target is a lower bound
    reason: str = ""  # what the extra time is, where a target is missed

    @property
    def name(self) -> str:
        return f"{self.section}: {self.work}, {self.case}"


def dtypes() -> tuple[type, ...]:
    """float32 and float64; on an accelerator float32 at the highest precision only."""
    return (np.float32, np.float64) if jax.default_backend() == "cpu" else (np.float32,)


@functools.cache
def product():
    """The bare matrix product at the full precision of its inputs, compiled."""
    return jax.jit(lambda x, y: jnp.matmul(x, y, precision=jax.lax.Precision.HIGHEST))


def means_for(num_components: int, dim: int, dtype: type) -> np.ndarray:
    rng = np.random.default_rng(num_components)
    return (rng.normal(size=(num_components, dim)) * np.sqrt(2 / dim)).astype(dtype)


@functools.lru_cache(maxsize=1)  # the largest is half a gigabyte
def data(num_samples: int, dim: int, dtype: type) -> jax.Array:
    """Points of unit variance about the means of ten components."""
    rng = np.random.default_rng(0)
    component = rng.integers(10, size=num_samples)
    noise = rng.standard_normal((num_samples, dim), np.float32)
    return jnp.asarray(noise + means_for(10, dim, np.float32)[component], dtype)


def isotropic(num_components: int, dim: int, dtype: type) -> gs.GaussianMixture:
    return gs.GaussianMixture.isotropic(means_for(num_components, dim, dtype), dtype(1.0))


def variances_for(num_components: int, dim: int, dtype: type) -> np.ndarray:
    """Variances of diagonal components: between 0.5 and 1.5, differing little between components."""
    base = np.linspace(0.5, 1.5, dim)[None]
    tilt = 1 + 0.02 * np.sin(np.arange(dim)[None] + np.arange(num_components)[:, None])
    return (base * tilt).astype(dtype)


@functools.lru_cache(maxsize=1)
def matrices_for(num_components: int, dim: int, dtype: type) -> np.ndarray:
    """Full covariances about the identity, `(K, d, d)`; not to be changed."""
    rng = np.random.default_rng(1)
    out: np.ndarray = np.empty((num_components, dim, dim), dtype)
    for k in range(num_components):
        factor = rng.standard_normal((dim, dim), np.float32) / np.float32(np.sqrt(dim))
        out[k] = 0.9 * np.eye(dim) + 0.1 * factor @ factor.T
        out[k] = (out[k] + out[k].T) / 2
    out.flags.writeable = False
    return out
