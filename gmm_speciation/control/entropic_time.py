"""Sampler grids equally spaced in information (Stancevic, Handke & Ambrogioni 2025, arXiv 2504.13612).

    entropic time of the state    H(x_0 | x_sigma),    dH/dlambda = -(gamma / 2) E|x_0 - D|^2
    entropic time of the class    H(C | x_sigma)
    Karras et al. 2022            sigma^{1/rho} equally spaced, rho = 7

with lambda the log-SNR and gamma = e^lambda. The first is, in sigma, `dH/dsigma = sigma^{-3} E|x_0 - D|^2`.
The paper's rescaled variant weights the rate; its weight could not be read, so it is not offered.

A grid is a list of times from noise to signal. On the line its quality is exact: the ODE maps quantiles of
the noisy distribution to quantiles of the output, with no sampling at all.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.interpolate import PchipInterpolator

from gmm_speciation.checks import as_count, as_key, as_values, expect
from gmm_speciation.control.distances import at_the_origin, quantiles
from gmm_speciation.entropy import class_entropy
from gmm_speciation.inference import Classes, class_denoisers, component_spread
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import as_partition
from gmm_speciation.processes import DiffusionProcess, variance_preserving
from gmm_speciation.samplers import ReverseLevels, sample

_SCAN = 160  # levels on which a rate is integrated
_ROUNDING = 100  # in units of the entropy's own: differences of less are noise


def karras_times(
    process: DiffusionProcess,
    num_steps: int,
    *,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
) -> Float[np.ndarray, " T"]:
    """Times, from noise to signal, with `sigma^{1/rho}` equally spaced (arXiv 2206.00364, Eq. 5).

    Raises:
        ValueError: As `karras_numbers`, or if there is no step.
    """
    num_steps = as_count(num_steps, "num_steps")
    low, high, rho = karras_numbers(sigma_min, sigma_max, rho)
    sigma = np.linspace(high ** (1 / rho), low ** (1 / rho), num_steps + 1) ** rho
    return np.asarray(process.time(-2 * np.log(sigma)))


def entropic_times(
    mixture: GaussianMixture,
    process: DiffusionProcess,
    num_steps: int,
    *,
    of: str = "state",
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    partition: Classes = None,
    num_samples: int = 2048,
    key: PRNGKeyArray | None = None,
) -> Float[np.ndarray, " T"]:
    """Times, from noise to signal, equally spaced in the entropy that the state leaves open.

    Args:
        mixture: The clean distribution.
        process: The clock of the sampler.
        num_steps: Steps of the sampler.
        of: "state", H(x_0|x_sigma), or "class", H(C|x_sigma).
        sigma_min: Noise per signal at the clean end.
        sigma_max: At the noisy end.
        partition: The classes of "class".
        num_samples: Draws for the mean squared error of "state".
        key: Random key of these.

    Raises:
        ValueError: As `karras_times`, or if `of` is neither, the partition does not fit, there is no draw, or
            nothing is gained between the two ends but rounding.
    """
    expect(mixture, GaussianMixture)
    num_steps = as_count(num_steps, "num_steps")
    # The rate is formed from the inverse square of the noise.
    sigma_min, sigma_max, _ = karras_numbers(sigma_min, sigma_max, 0.5)
    if of not in ("state", "class"):
        raise ValueError(f"`of` must be 'state' or 'class'; got {of!r}.")
    partition = as_partition(partition, mixture.num_components)
    levels = np.linspace(-2 * np.log(sigma_max), -2 * np.log(sigma_min), _SCAN)
    least = 0.0
    if of == "class":
        entropy = np.asarray(class_entropy(mixture, levels, partition=partition, key=key).value)
        gained = np.maximum.accumulate(entropy[0] - entropy)
        least = _ROUNDING * np.finfo(mixture.centre.dtype).eps * entropy.max()
    else:
        key = jax.random.key(0) if key is None else as_key(key)
        draws = as_count(num_samples, "num_samples")
        errors = _mean_square_errors(mixture, jnp.asarray(levels), key, draws)
        rate = np.exp(levels) / 2 * np.asarray(errors)
        steps = np.diff(levels) * (rate[1:] + rate[:-1]) / 2
        gained = np.r_[0.0, np.cumsum(steps)]
    if not gained[-1] > least:
        raise ValueError(
            f"Between sigma = {sigma_max:.4g} and {sigma_min:.4g} nothing of the {of} is decided, so that "
            "no grid is even in it. Take a wider range, float64, or `karras_times`."
        )
    if of == "class" or not np.all(np.diff(gained) > 0):
        # Where all is decided or all open nothing is gained: a grid must not stop there.
        gained = gained + 1e-6 * gained[-1] * np.linspace(0, 1, _SCAN)
    even = np.linspace(0, gained[-1], num_steps + 1)
    at = PchipInterpolator(gained, levels)(even)
    at[[0, -1]] = levels[[0, -1]]
    return np.asarray(process.time(at))


def karras_numbers(sigma_min: float, sigma_max: float, rho: float) -> tuple[float, float, float]:
    """The ends of a grid and its exponent.

    Raises:
        ValueError: If one is not a number, or not `0 < sigma_min < sigma_max` and `rho > 0`, all finite, or
            `sigma^{1/rho}` of an end is no number.
    """
    given = {"sigma_min": sigma_min, "sigma_max": sigma_max, "rho": rho}
    low, high, rho = (
        float(as_values(value, name, "be one number", lambda x: x.ndim == 0))
        for name, value in given.items()
    )
    fine = 0 < low < high < np.inf and 0 < rho < np.inf
    if not fine or max(abs(np.log(low)), abs(np.log(high))) / rho > 700:
        raise ValueError(
            "A grid needs 0 < `sigma_min` < `sigma_max` and `rho` > 0, all finite, and sigma^(1/rho) of both "
            f"a number; got {low}, {high} and {rho}."
        )
    return low, high, rho


@eqx.filter_jit
def _mean_square_errors(mixture, levels, key, num_samples) -> Float[Array, " T"]:
    """`E|x_0 - D|^2`, averaged as the trace of the exact posterior covariance of each draw."""
    # Not by `fold_in(key, 1)`, which is the second key that `sample` splits off.
    key_clean, key_noise = jax.random.split(key)
    clean, _ = mixture.sample(key_clean, num_samples)
    noise = jax.random.normal(key_noise, clean.shape, clean.dtype)

    def at(level):
        alpha, sigma = variance_preserving(level)
        x = alpha * clean + sigma * noise
        posterior = mixture.perturb(alpha, sigma).posterior(x)
        means = class_denoisers(mixture, x, alpha, sigma)
        within = component_spread(mixture, alpha, sigma).eigenvalues(mixture.dim)
        within = jnp.broadcast_to(within.sum(-1), posterior.shape[1:])
        spread = means - jnp.einsum("nk,nkd->nd", posterior, means, precision="highest")[:, None, :]
        squares = within[None, :] + jnp.sum(spread**2, -1)
        return jnp.sum(posterior * squares, -1).mean()

    return jax.lax.map(at, levels)


def line_error(
    mixture: GaussianMixture,
    process: DiffusionProcess,
    times: Float[np.ndarray, " T"],
    *,
    method: str = "ode",
    num_points: int = 4000,
) -> float:
    """Wasserstein-2 distance of the ODE's output from a mixture on the line, start distribution exact.

    The output is compared at the noise of the last level, where its distribution is known, too.

    Raises:
        ValueError: If the mixture is not on the line, the method is random, or there is no point.
    """
    mixture, num_points = at_the_origin(mixture), as_count(num_points, "num_points")
    if method not in ("ode", "ddim"):
        raise ValueError(f"`method` must be 'ode' or 'ddim', which map quantiles; got {method!r}.")
    u = (np.arange(num_points) + 0.5) / num_points
    levels = ReverseLevels.of(process, times, float)
    start, wanted = (quantiles(mixture.perturb(*levels.scales(end)), u) for end in (0, -1))
    path = sample(
        mixture,
        process,
        times,
        key=jax.random.key(0),
        start=jnp.asarray(start)[:, None],
        method=method,
    )
    # Coarse steps may fold the line: sorting gives the quantiles of the output all the same.
    return float(np.sqrt(np.mean((np.sort(np.asarray(path.final[:, 0])) - wanted) ** 2)))
