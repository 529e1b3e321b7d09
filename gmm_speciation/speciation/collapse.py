"""Collapse: the speciation of the empirical mixture, every training point a class.

A model that has memorised n points a_i denoises by `p_e = (1/n) sum_i N(a_i, e^{-lambda})` (at
alpha = 1). With I the index of the point, its excess entropy a dimension is exactly

    f(lambda) = H(I | X) / d,        H(I | X) = log n - I(I; X)

nats. Below a noise level X names its point and f is 0: the reverse process has collapsed onto the
training set. For n independent points of variance s^2 in a large dimension the information is that
of a Gaussian channel until it is exhausted (Biroli et al. 2024, arXiv 2402.18491),

    f = (log n) / d - (1/2) log(1 + s^2 e^lambda)   until   e^{lambda_C} = (n^{2/d} - 1) / s^2,

on the Ornstein-Uhlenbeck clock `t_C = (1/2) log(1 + s^2 / (n^{2/d} - 1))`. At finite size the edge is
smooth; half of log n is left where `e^lambda = (n^{1/d} - 1) / s^2`, which is noisier.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from gmm_speciation.checks import ArrayLike, as_count, as_float_array, as_values
from gmm_speciation.estimate import Estimate
from gmm_speciation.families import empirical
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.processes import variance_preserving
from gmm_speciation.speciation.points import SpeciationPoint
from gmm_speciation.speciation.roots import sampled_root

_POSTERIORS = 2**22  # posterior values held at a time: 32 MB


def _check_population(num_points: int, dim: int, variance: float) -> None:
    if not (2 <= num_points < math.inf and 1 <= dim < math.inf and 0 < variance < math.inf):
        raise ValueError(
            "Collapse needs at least 2 points, 1 dimension and a positive variance, all finite; got "
            f"{num_points}, {dim} and {variance}."
        )


def excess_entropy(
    log_snr: ArrayLike, num_points: int, dim: int, variance: float = 1.0
) -> Float[np.ndarray, "*T"]:
    """`f = (log n) / d - (1/2) log(1 + s^2 e^lambda)`, nats a dimension; negative beyond the collapse.

    Biroli et al. 2024, in their clock `(log n)/d + (1/2) log(Delta / (Delta + s^2 e^{-2t}))`.

    Raises:
        ValueError: If there are fewer than 2 points, no dimension or no variance, or a level is NaN.
    """
    _check_population(num_points, dim, variance)
    levels = as_values(log_snr, "log_snr", "not be NaN", lambda level: ~np.isnan(level))
    signal = levels + np.log(variance)
    return np.asarray(math.log(num_points) / dim - np.logaddexp(0.0, signal) / 2)


def gaussian_collapse(num_points: int, dim: int, variance: float = 1.0) -> float:
    """Log-SNR `log[(n^{2/d} - 1) / s^2]` at which n points of variance s^2 a dimension collapse.

    Raises:
        ValueError: As `excess_entropy`.
    """
    _check_population(num_points, dim, variance)
    # log(e^u - 1) at u = (2/d) log n, without overflow and without cancellation.
    u = 2 * math.log(num_points) / dim
    return float(u + np.log(-np.expm1(-u)) - np.log(variance))


def index_entropy(
    points: ArrayLike,
    log_snr: ArrayLike,
    *,
    num_samples: int = 2048,
    key: PRNGKeyArray | None = None,
) -> Estimate:
    """`H(I | X)` in nats: what noise leaves open about which training point made X.

    Args:
        points: Training set `(n, d)`.
        log_snr: Noise levels, any shape; the same draws serve all.
        num_samples: Draws of X.
        key: Random key; `jax.random.key(0)` by default.

    Raises:
        ValueError: If the points are not `(n, d)` and finite, a level is NaN, or
            `num_samples < 2`.
    """
    num_samples = as_count(num_samples, "num_samples", 2)
    levels = as_float_array(log_snr, "log_snr")
    key = jax.random.key(0) if key is None else key
    entropies = _index_entropies(empirical(points), levels.reshape(-1), key, num_samples)
    estimate = Estimate.from_samples(entropies, 1)
    return jax.tree.map(lambda part: part.reshape(levels.shape), estimate)


@eqx.filter_jit
def _index_entropies(
    mixture: GaussianMixture, log_snr: Array, key: PRNGKeyArray, num_samples: int
) -> Float[Array, "T n"]:
    """Entropy of the posterior over points, a value a level and draw of X."""
    key_index, key_normal = jax.random.split(key)
    index = jax.random.randint(key_index, (num_samples,), 0, mixture.num_components)
    normals = jax.random.normal(key_normal, (num_samples, mixture.dim), mixture.centre.dtype)

    def at(level):
        alpha, sigma = (part.astype(mixture.centre.dtype) for part in variance_preserving(level))
        noisy = mixture.perturb(alpha, sigma)

        def entropy(draw):
            i, z = draw
            x = noisy.centre + noisy.offsets[i] + sigma * z
            return jax.scipy.special.entr(noisy.posterior(x)).sum()

        chunk = max(1, min(num_samples, _POSTERIORS // mixture.num_components))
        return jax.lax.map(entropy, (index, normals), batch_size=chunk)

    return jax.lax.map(at, log_snr)


def collapse_point(
    points: ArrayLike,
    *,
    remaining: float = 0.5,
    num_samples: int = 2048,
    key: PRNGKeyArray | None = None,
) -> SpeciationPoint:
    """Where the share `remaining` of log n is left of the entropy of the training point.

    A half is the half-entropy point of the empirical mixture; a small share comes near the edge at
    which the reverse process has collapsed.

    Args:
        points: Training set `(n, d)`.
        remaining: `H(I | X) / log n` to reach, inside (0, 1).
        num_samples: Draws of X.
        key: Random key; `jax.random.key(0)` by default.

    Raises:
        ValueError: If `remaining` is not inside (0, 1), or as `index_entropy`.
    """
    if not 0 < remaining < 1:
        raise ValueError(f"`remaining` must lie inside (0, 1); got {remaining}.")
    mixture = empirical(points)
    if mixture.num_components == 1:
        return SpeciationPoint(None, "a single training point leaves nothing to find out")
    spread = float(jnp.mean(jnp.sum(mixture.offsets**2, -1)))
    if not spread > 0:
        return SpeciationPoint(None, "all training points are the same")

    def entropy(log_snr: float) -> Estimate:
        return index_entropy(points, log_snr, num_samples=num_samples, key=key)

    # From noise that hides the whole set to noise below the smallest distance rounding resolves.
    low, high = -np.log(spread) - 15, -np.log(spread) + 60
    level = remaining * np.log(mixture.num_components)
    floor = entropy(high).value
    if float(floor) >= level * (1 - 100 * float(np.finfo(floor.dtype).eps)):
        return SpeciationPoint(None, "too many training points are copies of each other")
    return SpeciationPoint(sampled_root(entropy, level, low, high))
