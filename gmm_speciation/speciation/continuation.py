"""Following the fixed point of pure noise until it loses its stability.

In coordinates `x_t / alpha`, where the noisy distribution is `q = sum_k w_k N(mu_k, Sigma_k + e^{-lambda})`
with component precisions P_k and scores s_k, a fixed point solves

    s(x) + h x = 0        h = 0: a critical point of log q;  h(lambda) >= 0: a linear drift.

In pure noise there is one. It is stable while `H + h = S^T S - (A - h)` is negative, where
`A = sum_k p(k|x) P_k` and the rows of S are `sqrt(p(k|x)) (s_k - s)`. By inertia this is so while A - h is
positive and the *gain*

    gain = top eigenvalue of (A - h)^{-1/2} S^T S (A - h)^{-1/2}

is below 1. The gain is kappa for two equal classes +-m at their midpoint where h = 0. It needs the
K x d matrix S only, no d x d one (except where components have different full covariances, which are
stored so). Where h > 0 the largest `h / a`, a an eigenvalue of A, counts as a gain as well.

A stable fixed point moves continuously with the noise, so Newton steps from the last level follow it
as long as its movement changes no component's posterior by much. (The noise itself may: in many
dimensions components of different variance trade places within little noise, at whatever x.) It ends
where the gain reaches 1: by symmetry it may stay on as a saddle (two equal classes), or vanish together
with a saddle it meets (a fold; several classes of unequal weights). Without a symmetry it may bend aside
and never lose stability.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import brentq
from scipy.sparse.linalg import LinearOperator, minres, svds

from gmm_speciation.covariances import Covariance, Diagonal, Full, Isotropic, LowRank, product
from gmm_speciation.estimate import Estimate
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition
from gmm_speciation.speciation.points import SpeciationPoint
from gmm_speciation.speciation.splits import in_words, sides

_STEP = 0.5  # in log-SNR, of the scan
_SHORTEST = 1e-4  # step where the posteriors change within less noise than that
_SAME_PATH = 0.2  # largest change of a posterior within one step
_TOUCH = 1e-6  # an asymmetry that bends the path by less than this in log-SNR counts as none
_NEWTON_STEPS = 30
_DENSE = 256


class FixedPoint(NamedTuple):
    """A fixed point at one noise level; `x` is relative to the centre of the mixture."""

    log_snr: float
    x: Float[np.ndarray, " d"]
    posterior: Float[np.ndarray, " K"]
    gain: float  # stable below 1
    spread: Float[np.ndarray, "K d"] | None = None  # S (A - h)^{-1/2}


class _Linearised(eqx.Module):
    """The equation around x, in the metric of A - h."""

    posterior: Float[Array, " K"]
    spread: Float[Array, "K d"]  # S (A - h)^{-1/2}
    residual: Float[Array, " d"]  # (A - h)^{-1/2} (s + h x)
    inverse_root: Covariance  # (A - h)^{-1/2}
    size: Array  # of the terms of the residual, which sets its rounding
    softening: Array  # h over the smallest eigenvalue of A


def _average(family: Covariance, weights: Float[Array, " K"]) -> Covariance:
    """`sum_k w_k A_k` as one matrix of the same kind."""
    if family.shared:
        return family
    if isinstance(family, Isotropic):
        return Isotropic(product(weights, family.variance)[None])
    if isinstance(family, Diagonal):
        return Diagonal(product(weights, family.variances)[None])
    if isinstance(family, LowRank):
        return family.average(weights)
    dim = family.eigenvalues(0).shape[-1]
    matrices = jnp.einsum("k,kij->ij", weights, family.matrices(dim), precision="highest")
    return Full.from_matrices(matrices[None])


def _rows(matrix: Covariance, rows: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """One matrix applied to every row."""
    return matrix.weighted_apply(rows, 0 * rows[:1], jnp.ones_like(rows[:, :1]))


@eqx.filter_jit
def _linearise(mixture: GaussianMixture, x: Array, sigma: Array, tilt: Array) -> _Linearised:
    noisy = mixture.perturb(1.0, sigma)
    precision, posterior = noisy.precision(), noisy.posterior(noisy.centre + x)
    if precision.shared:
        scores = _rows(precision, noisy.offsets - x[None, :])
    else:
        each = jnp.eye(mixture.num_components, dtype=x.dtype)
        copies = jnp.broadcast_to(x, noisy.offsets.shape)
        scores = -precision.weighted_apply(copies, noisy.offsets, each)
    score = product(posterior, scores)
    average = _average(precision, posterior)
    stiffness = average.map(lambda v: v - tilt)
    inverse_root = stiffness.map(lambda v: 1 / jnp.sqrt(jnp.where(v > 0, v, 1.0)))
    spread = jnp.sqrt(posterior)[:, None] * (scores - score[None, :])
    force = score + tilt * (noisy.centre + x)
    whitened = _rows(inverse_root, jnp.concatenate([spread, force[None, :]]))
    spectrum = average.eigenvalues(len(x))
    radius = jnp.sqrt(jnp.max(jnp.sum(noisy.means**2, -1)))
    size = 1 + radius * jnp.sqrt(jnp.max(spectrum))
    softening = tilt / jnp.min(spectrum)
    return _Linearised(posterior, whitened[:-1], whitened[-1], inverse_root, size, softening)


@eqx.filter_jit
def _unwhiten(inverse_root: Covariance, u: Array) -> Array:
    return _rows(inverse_root, u[None, :])[0]


def _gain(spread: Float[np.ndarray, "K d"]) -> float:
    """Square of the largest singular value."""
    if min(spread.shape) <= _DENSE:
        return float(np.linalg.norm(spread, 2) ** 2)
    start = np.random.default_rng(0).standard_normal(min(spread.shape))
    return float(svds(spread, k=1, return_singular_vectors=False, v0=start)[0] ** 2)


def solve_from(
    mixture: GaussianMixture, last: FixedPoint, log_snr: float, tilt: float
) -> FixedPoint | None:
    """The fixed point at `log_snr` that continues `last`; None where Newton's method loses it."""
    dtype = mixture.centre.dtype
    level = (jnp.asarray(np.exp(-log_snr / 2), dtype), jnp.asarray(tilt, dtype))
    x, before = last.x, None
    for _ in range(_NEWTON_STEPS):
        here = _linearise(mixture, jnp.asarray(x, dtype), *level)
        posterior = np.asarray(here.posterior, float)
        before = posterior if before is None else before
        if here.softening >= 1:  # A - h is not positive: unstable wherever the point is
            return FixedPoint(log_snr, x, posterior, float(here.softening))
        spread, residual = np.asarray(here.spread, float), np.asarray(here.residual, float)
        rounding = 1e3 * float(jnp.finfo(dtype).eps) * float(here.size)
        if np.linalg.norm(residual) <= rounding:
            break
        # Newton: ((A - h) - S^T S) step = s + h x, in whitened coordinates.
        operator = LinearOperator(
            (mixture.dim, mixture.dim), matvec=lambda u, w=spread: u - w.T @ (w @ u), dtype=float
        )
        u, _ = minres(operator, residual, rtol=1e-10)
        step = np.asarray(_unwhiten(here.inverse_root, jnp.asarray(u, dtype)), float)
        if not np.isfinite(step).all():
            return None
        x = x + step
    else:
        return None
    if np.max(np.abs(posterior - before)) > _SAME_PATH:
        return None
    return FixedPoint(log_snr, x, posterior, max(_gain(spread), float(here.softening)), spread)


def loss_of_stability(
    mixture: GaussianMixture,
    start: float,
    stop: float,
    tilt: Callable[[float], float] = lambda log_snr: 0.0,
    end: str | None = None,
) -> SpeciationPoint:
    """The log-SNR at which the fixed point of the noisiest level loses its stability.

    Args:
        mixture: The clean distribution.
        start: Log-SNR of the noisiest level, where there must be a single fixed point.
        stop: Log-SNR of the cleanest level to look at.
        tilt: `h(lambda)`, in units of the inverse square of x.
        end: Why nothing cleaner is looked at; None where less noise changes nothing.
    """
    weights = np.asarray(mixture.weights, float)
    noise = FixedPoint(start, weights @ np.asarray(mixture.offsets, float), weights, 0.0)
    last = solve_from(mixture, noise, start, tilt(start))
    if last is None:
        return SpeciationPoint(
            None, f"no fixed point is found at the noisiest level, λ = {start:.4g}"
        )
    if last.gain >= 1:
        return SpeciationPoint(
            None,
            f"the fixed point is not stable in the noisiest distribution already, λ = {start:.4g}",
        )
    step = _STEP
    while last.log_snr < stop:
        level = min(last.log_snr + step, stop)
        trial = solve_from(mixture, last, level, tilt(level))
        if trial is not None and trial.gain < 1:
            moved = float(np.max(np.abs(trial.posterior - last.posterior)))
            if moved > _SAME_PATH and step > _SHORTEST:
                step /= 2  # it must not pass a short loss of stability unseen
                continue
            last, step = trial, min(2 * step, _STEP)
            settled = mixture.covariance.shared and last.posterior.max() > 1 - 1e-12
            if settled and tilt(level) == 0:
                end = None  # with one covariance, less noise only separates further
                break
            continue
        root, last = _bracketed_loss(mixture, last, level, tilt)
        beyond = solve_from(mixture, last, root + _TOUCH, tilt(root + _TOUCH))
        if beyond is None or beyond.gain >= 1:
            if last.gain < 0.99:
                return SpeciationPoint(
                    None, f"the fixed point is lost from sight at λ = {root:.4g}"
                )
            splits = () if last.spread is None else (sides(last.spread, last.posterior),)
            note = in_words(splits, Partition.trivial(mixture.num_components))
            return SpeciationPoint(Estimate.exact(np.asarray(root)), note=note, splits=splits)
        last = beyond  # the step had been too long for this bend of the path
    if end is not None:
        return SpeciationPoint(
            None, f"the fixed point of pure noise keeps its stability down to λ = {stop:.4g}, {end}"
        )
    return SpeciationPoint(None, "the fixed point of pure noise never loses its stability")


def _bracketed_loss(
    mixture: GaussianMixture, last: FixedPoint, level: float, tilt: Callable[[float], float]
) -> tuple[float, FixedPoint]:
    """Root of `gain - 1` up to `level`, and the last stable point before it."""
    nearest = last

    def excess(log_snr: float) -> float:
        nonlocal nearest
        point = solve_from(mixture, nearest, log_snr, tilt(log_snr))
        if point is None:
            return 1.0
        if point.gain < 1 and log_snr > nearest.log_snr:
            nearest = point
        return point.gain - 1

    return float(brentq(excess, last.log_snr, level, xtol=1e-10)), nearest
