"""Reverse sampling on closed-form scores, and forward paths of data.

All reverse steps go from a noisier level (alpha_t, sigma_t) to a cleaner one (alpha_s, sigma_s)
through the posterior mean D(x_t) = E[x_0 | x_t], in which every process looks alike:

    "sde"   ancestral: x_s ~ N(mu(x_t, D), v), the kernel that tracking assumes
            (Ho, Jain & Abbeel 2020); exact in distribution as steps shrink
    "euler" Euler-Maruyama on the reverse SDE in the process's own time,
            x_s = x_t - f x_t dt + g^2 s(x_t) dt + g sqrt(dt) z; the papers' simulations
            (Biroli et al. 2024); needs small steps where f or g^2 is large
    "ddim"  deterministic: x_s = alpha_s D + (sigma_s / sigma_t) (x_t - alpha_t D)
            (Song, Meng & Ermon 2021), the exponential-integrator form of the probability flow
    "ode"   Heun's second-order step on the probability flow in `x / alpha` against `sigma / alpha`
            (Karras et al. 2022, Algorithm 1); a guidance takes the second slope from the state of the first

A forward path adds independent Gaussian increments level by level; read from noise to signal it is a
path of the true reverse chain, so it can be tracked without generating anything.

Levels are a strictly increasing log-SNR grid here: sampling runs from noise to signal.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from gmm_speciation import checks
from gmm_speciation.checks import ArrayLike, as_axis, as_float_array, as_states, check_label, expect
from gmm_speciation.guidance import Guidance, Unguided
from gmm_speciation.guidance.intervals import warn_of_idle
from gmm_speciation.guidance.posteriors import check_classes
from gmm_speciation.inference import Classes, class_denoisers, denoiser
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition, as_partition
from gmm_speciation.processes import DiffusionProcess
from gmm_speciation.tracking import VARIANCES, reverse_kernel

SAMPLING_METHODS = ("sde", "euler", "ddim", "ode")


class Trajectory(eqx.Module):
    """States from noise to signal; `final` is the state at the last level."""

    times: Float[Array, " T"]  # strictly decreasing: from noise to signal
    alpha: Float[Array, " T"]
    sigma: Float[Array, " T"]
    states: Float[Array, "T n d"]
    guidance_state: PyTree = ()

    @property
    def final(self) -> Float[Array, "n d"]:
        return self.states[-1]


Readout = Callable[[Array, Array, tuple[Array, Array]], PyTree]


class Observation(eqx.Module):
    """What a read-out said at every level that a step left from, and the states at the end."""

    times: Float[Array, " S"]
    alpha: Float[Array, " S"]
    sigma: Float[Array, " S"]
    readings: PyTree  # leading axis S
    final: Float[Array, "n d"]
    guidance_state: PyTree = ()

    @property
    def log_snr(self) -> Float[Array, " S"]:
        """Strictly increasing: from noise to signal."""
        return 2 * (jnp.log(self.alpha) - jnp.log(self.sigma))


class ReverseLevels(eqx.Module):
    """The scales at every level, and the clock's part of every step, from noise to signal."""

    times: Float[Array, " T"]
    alpha: Float[Array, " T"]
    sigma: Float[Array, " T"]
    drift: Float[Array, " S"]  # f dt of the step that leaves a level, S = T - 1
    diffusion: Float[Array, " S"]  # g^2 dt of it

    @classmethod
    def of(cls, process: DiffusionProcess, times: ArrayLike, dtype) -> "ReverseLevels":
        """The levels of strictly decreasing `times`.

        Raises:
            ValueError: If the grid is not decreasing or leaves the process's range.
        """
        grid, alpha, sigma = _levels(process, times)
        steps = -jnp.diff(grid)
        drift, diffusion = process.drift(grid[:-1]), process.diffusion_squared(grid[:-1])
        parts = (grid, alpha, sigma, drift * steps, diffusion * steps)
        return cls(*(part.astype(dtype) for part in parts))

    def scales(self, index) -> tuple[Array, Array]:
        """`(alpha, sigma)` of one level; the index may be traced."""
        return self.alpha[index], self.sigma[index]


def _levels(process: DiffusionProcess, times: ArrayLike):
    grid = as_axis(
        times,
        "times",
        "decrease strictly, with at least two points",
        lambda t: len(t) > 1 and np.all(np.diff(t) < 0),
    )
    first, last = expect(process, DiffusionProcess).time_range
    if grid.min() < first or grid.max() > last:
        raise ValueError(
            f"`times` must lie in [{first}, {last}], the range of {type(process).__name__}; "
            f"got [{grid.min()}, {grid.max()}]."
        )
    alpha, sigma = process.alpha(grid), process.sigma(grid)
    checks.require(
        sigma,
        (checks.known(alpha) < np.inf).all() & (checks.known(sigma) < np.inf).all(),
        "`times` must have finite scales alpha and sigma; begin at a finite time.",
    )
    return jnp.asarray(grid), alpha, sigma


def check_method(levels: ReverseLevels, method: str) -> None:
    """Refuse levels at which a method divides by 0: without signal, where the clock's rates are infinite.

    Raises:
        ValueError: If there is one, and it is known.
    """
    needed: dict[str, Any] = {
        "ode": (levels.alpha > 0)[:-1],
        "euler": jnp.isfinite(levels.drift) & jnp.isfinite(levels.diffusion),
    }
    fine = needed.get(method)
    if fine is None or not checks.is_concrete(fine) or np.all(np.asarray(fine)):
        return
    time = float(levels.times[int(np.argmin(np.asarray(fine)))])
    lacks = "a signal, alpha > 0" if method == "ode" else "finite rates of the process, f and g^2"
    raise ValueError(
        f"The method {method!r} needs {lacks}, at every level that it leaves; there is none at time "
        f'{time:g}. Begin at a time below, or draw by "sde".'
    )


def _finite(x: ArrayLike, name: str, copy: bool = True) -> Array:
    x = as_float_array(x, name, copy=copy)
    return checks.require(x, (abs(checks.known(x)) < np.inf).all(), f"`{name}` must be finite.")


def label_denoiser(
    mixture: GaussianMixture, x: Array, alpha, sigma, partition: Partition, label: int | None
) -> Array:
    """Posterior mean of class `label`, or of the whole mixture for None.

    Raises:
        ValueError: If there is no such class.
    """
    if label is None:
        return denoiser(mixture, x, alpha, sigma)
    check_label(label, partition.num_classes)
    if partition.is_trivial:
        weights = jax.nn.one_hot(label, mixture.num_components, dtype=x.dtype)
        return denoiser(
            mixture, x, alpha, sigma, jnp.broadcast_to(weights, (*x.shape[:-1], len(weights)))
        )
    return class_denoisers(mixture, x, alpha, sigma, partition)[..., label, :]


def reverse_step(
    x: Float[Array, "n d"],
    denoised: Float[Array, "n d"],
    levels: ReverseLevels,
    index,
    key: PRNGKeyArray,
    method: str,
    variance: str = "posterior",
) -> Float[Array, "n d"]:
    """One step from level `index` to the next, given the posterior mean there.

    The first-order methods: "sde", "euler", "ddim". The index may be traced.
    """
    here, there = levels.scales(index), levels.scales(index + 1)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = here, there
    if method == "ddim":
        return alpha_s * denoised + sigma_s / sigma_t * (x - alpha_t * denoised)
    normals = jax.random.normal(key, x.shape, x.dtype)
    if method == "sde":
        mean, spread = reverse_kernel(x, denoised, here, there, variance)
        return mean + jnp.sqrt(spread) * normals
    drift, diffusion = levels.drift[index], levels.diffusion[index]
    score = (alpha_t * denoised - x) / sigma_t**2
    return x - drift * x + diffusion * score + jnp.sqrt(diffusion) * normals


def _next_state(x, denoised, level, proposal):
    """What `sample` keeps of a step."""
    return proposal


class _Reading(eqx.Module):
    """What `observe` keeps of a step."""

    readout: Readout

    def __call__(self, x, denoised, level, proposal):
        return self.readout(x, denoised, level)


@eqx.filter_jit
def _reverse(mixture, guidance, partition, levels: ReverseLevels, x, key, method, variance, keep):
    def step(carry, inputs):
        x, state = carry
        index, key = inputs
        here, there = levels.scales(index), levels.scales(index + 1)

        def denoise_at(x, level):
            return lambda label: label_denoiser(mixture, x, *level, partition, label)

        denoised, state = guidance.step(state, x, here, denoise_at(x, here))
        first_order = "ddim" if method == "ode" else method
        proposal = reverse_step(x, denoised, levels, index, key, first_order, variance)
        if method == "ode":
            # Heun: slope D - x/alpha at both ends, in the coordinate sigma/alpha; Euler is DDIM.
            corrected = guidance.again(state, proposal, there, denoise_at(proposal, there))
            ratio_t, ratio_s = here[1] / here[0], there[1] / there[0]
            slope_t = (x / here[0] - denoised) / ratio_t
            safe = jnp.where(ratio_s > 0, ratio_s, 1.0)
            slope_s = jnp.where(ratio_s > 0, (proposal / there[0] - corrected) / safe, slope_t)
            proposal = there[0] * (x / here[0] + (ratio_s - ratio_t) * (slope_t + slope_s) / 2)
        return (proposal, state), keep(x, denoised, here, proposal)

    steps = (jnp.arange(len(levels.drift)), jax.random.split(key, len(levels.drift)))
    (final, state), kept = jax.lax.scan(step, (x, guidance.init(x)), steps)
    return final, state, kept


def sample(
    mixture: GaussianMixture,
    process: DiffusionProcess,
    times: ArrayLike,
    *,
    key: PRNGKeyArray,
    num_samples: int | None = None,
    start: ArrayLike | None = None,
    method: str = "sde",
    variance: str = "posterior",
    guidance: Guidance | None = None,
    partition: Classes = None,
) -> Trajectory:
    """Reverse trajectories on the mixture's exact posterior means.

    Args:
        mixture: The clean distribution.
        process: The clock.
        times: Strictly decreasing, from noise to signal, finite alpha and sigma at every level. By "sde"
            and "ddim" the first may be without signal, alpha = 0.
        key: Random key.
        num_samples: Number of trajectories, started from the exact distribution at `times[0]`.
        start: Or the states `(n, d)` to start from: clones, or another distribution.
        method: "sde", "euler", "ddim" or "ode".
        variance: Of the noise of "sde": "posterior", or "beta" as `tracking.reverse_kernel`, which is not
            the kernel that tracking assumes.
        guidance: What bends the denoiser; `Unguided()` by default.
        partition: The classes that guidance labels refer to; every component its own by default.

    Raises:
        ValueError: If the grid is not decreasing, leaves the process's range or has a level that the
            method cannot leave, the method or the variance is unknown, not exactly one of `num_samples`
            and `start` is given, `num_samples` is not a whole number of at least 1 or the start is not
            finite, or a label of the guidance is no class, it tracks not all of them or its posterior has
            others.
    """
    levels, states, (_, state, path) = _run(
        mixture,
        process,
        times,
        _next_state,
        key=key,
        num_samples=num_samples,
        start=start,
        method=method,
        variance=variance,
        guidance=guidance,
        partition=partition,
    )
    path = jnp.concatenate([states[None], path])
    return Trajectory(levels.times, levels.alpha, levels.sigma, path, state)


def _run(
    mixture,
    process,
    times,
    keep,
    *,
    key,
    num_samples=None,
    start=None,
    method="sde",
    variance="posterior",
    guidance=None,
    partition=None,
) -> tuple[ReverseLevels, Array, tuple]:
    """Levels, start, and what `_reverse` gives; checks the arguments of `sample`."""
    dtype = expect(mixture, GaussianMixture).centre.dtype
    if method not in SAMPLING_METHODS:
        raise ValueError(f"`method` must be one of {', '.join(SAMPLING_METHODS)}; got {method!r}.")
    if variance not in VARIANCES or (variance == "beta" and method != "sde"):
        raise ValueError(
            f'`variance` must be one of {", ".join(VARIANCES)}, and is of the method "sde" alone; got '
            f"{variance!r} with {method!r}."
        )
    if (num_samples is None) == (start is None):
        raise ValueError("Give exactly one of `num_samples` and `start`.")
    levels = ReverseLevels.of(process, times, dtype)
    check_method(levels, method)
    key_start, key_path = jax.random.split(checks.as_key(key))
    if start is None:
        count = checks.as_count(num_samples, "num_samples")
        states, _ = mixture.perturb(*levels.scales(0)).sample(key_start, count)
    else:
        states = as_states(_finite(start, "start", copy=False), mixture.dim, "start")
        if states.ndim != 2:
            raise ValueError(f"`start` must have shape (n, {mixture.dim}); got {states.shape}.")
        states = states.astype(dtype)
    guidance = Unguided() if guidance is None else expect(guidance, Guidance)
    partition = as_partition(partition, mixture.num_components)
    check_classes(guidance, partition.num_classes, partition)
    warn_of_idle(guidance, (levels.sigma / levels.alpha)[:-1])
    return (
        levels,
        states,
        _reverse(mixture, guidance, partition, levels, states, key_path, method, variance, keep),
    )


def observe(
    mixture: GaussianMixture,
    process: DiffusionProcess,
    times: ArrayLike,
    readout: Readout,
    *,
    key: PRNGKeyArray,
    **options: Any,
) -> Observation:
    """Reverse trajectories as `sample` draws them, of which only what `readout` says is kept.

    Args:
        readout: `readout(x, denoised, (alpha, sigma))` with the states `(n, d)` at a level and the
            guided posterior means there; any arrays. A function of the module or an `eqx.Module`, so
            that it compiles once.

    Other arguments, options and errors as those of `sample`.
    """
    levels, _, (final, state, readings) = _run(
        mixture, process, times, _Reading(readout), key=key, **options
    )
    return Observation(
        levels.times[:-1], levels.alpha[:-1], levels.sigma[:-1], readings, final, state
    )


def forward_path(
    x_0: ArrayLike, process: DiffusionProcess, times: ArrayLike, *, key: PRNGKeyArray
) -> Trajectory:
    """Noised data, one Markov path a point, returned from noise to signal like a sampled trajectory.

    `x_t = alpha_{t|s} x_s + sigma_{t|s} z` from the cleanest level up.

    Args:
        x_0: Clean points `(n, d)`.
        process: The clock.
        times: Strictly decreasing, as for `sample`.
        key: Random key.

    Raises:
        ValueError: If the grid is not decreasing or leaves the process's range, or `x_0` is not `(n, d)` or
            not finite.
    """
    x_0 = _finite(x_0, "x_0")
    if x_0.ndim != 2:
        raise ValueError(f"`x_0` must have shape (n, d), a point a row; got {x_0.shape}.")
    grid, alpha, sigma = (level.astype(x_0.dtype) for level in _levels(process, times))
    normals = jax.random.normal(checks.as_key(key), (len(grid), *x_0.shape), x_0.dtype)

    def noisier(x, inputs):
        (alpha_t, sigma_t), (alpha_s, sigma_s), z = inputs
        ratio = alpha_t / alpha_s
        x = ratio * x + jnp.sqrt(jnp.maximum(sigma_t**2 - ratio**2 * sigma_s**2, 0.0)) * z
        return x, x

    up = slice(None, None, -1)
    cleanest = alpha[-1] * x_0 + sigma[-1] * normals[-1]
    levels = ((alpha[:-1][up], sigma[:-1][up]), (alpha[1:][up], sigma[1:][up]), normals[:-1][up])
    _, states = jax.lax.scan(noisier, cleanest, levels)
    return Trajectory(grid, alpha, sigma, jnp.concatenate([states[up], cleanest[None]]))
