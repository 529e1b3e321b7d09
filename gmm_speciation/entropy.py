"""Class entropy of a Gaussian mixture under noise, and its rate.

With `X = alpha x_0 + sigma eps` at log-SNR `lambda`, class posterior p(c|X) and class scores s_c,

    H(C|X)      = E[ -sum_c p(c|X) log p(c|X) ]
    -dH/dlambda = (sigma^2 / 2) E[ sum_c p(c|X) |s_c(X) - s(X)|^2 ] >= 0

(I-MMSE; Guo, Shamai & Verdu 2005). Both are averages of exact conditional expectations given X, not
of sampled labels, and both come from the same draws of X. The same base normals serve every noise
level, so a curve is smooth and its differences have small errors. Nats.

Methods: "exact" where an integral is known (two components that share a covariance, each its own
class, or a single class), "monte-carlo" for every mixture, "auto" for the first that applies.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from gmm_speciation import exact
from gmm_speciation.checks import ArrayLike, as_float_array, decreasing_grid
from gmm_speciation.covariances import add_row
from gmm_speciation.curves import Batches, EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.inference import Classes, entropy_of, log_class_posterior, score_spread
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition, as_partition
from gmm_speciation.processes import variance_preserving

METHODS = ("auto", "exact", "monte-carlo")
NUM_BATCHES = 16
DEFAULT_NUM_SAMPLES = 8192


class PosteriorStatistics(eqx.Module):
    """What one noise level says, a value a draw of X."""

    entropy: Float[Array, " n"]  # -sum_c p log p
    rate: Float[Array, " n"]  # (sigma^2 / 2) sum_c p_c |s_c - s|^2
    agreement: Float[Array, " n"]  # sum_c p_c^2


def posterior_statistics(
    mixture: GaussianMixture,
    log_snr: Float[Array, ""],
    normals: Float[Array, "n d"],
    component: Int[Array, " n"],
    partition: Partition | None = None,
) -> PosteriorStatistics:
    """Entropy, rate and agreement of the exact posterior at given base normals.

    The pure kernel under every sampled curve: `X = alpha mu_k + (alpha^2 Sigma_k + sigma^2)^{1/2} z`
    with k = `component`, z = `normals`. Safe under jit, vmap and grad.
    """
    alpha, sigma = variance_preserving(log_snr)
    noisy = mixture.perturb(alpha, sigma)
    y = noisy.covariance.colour(normals, noisy.offsets, component)
    x = add_row(y, noisy.centre)
    log_posterior = log_class_posterior(noisy, x, partition)
    return PosteriorStatistics(
        entropy_of(log_posterior),
        sigma.astype(x.dtype) ** 2 / 2 * score_spread(noisy, x, partition),
        jnp.sum(jnp.exp(2 * log_posterior), -1),
    )


class SampledLevels(eqx.Module):
    """Means over draws at every level: all draws together, and R independent batches of them."""

    mean: PosteriorStatistics  # (T,)
    stderr: PosteriorStatistics  # (T,)
    batches: PosteriorStatistics  # (T, R)
    num_samples: int = eqx.field(static=True)

    def estimate(self, which: str) -> Estimate:
        """The estimate of one statistic at every level."""
        mean, stderr = (getattr(part, which) for part in (self.mean, self.stderr))
        return Estimate(mean, stderr, float(self.num_samples - 1))


@eqx.filter_jit
def _sampled_levels(mixture, log_snr, key, num_samples, partition) -> SampledLevels:
    key_component, key_normal = jax.random.split(key)
    component = jax.random.categorical(key_component, mixture.log_weights, shape=(num_samples,))
    normals = jax.random.normal(key_normal, (num_samples, mixture.dim), mixture.centre.dtype)

    def at(level):
        statistics = posterior_statistics(mixture, level, normals, component, partition)
        reduce = lambda function: jax.tree.map(function, statistics)  # noqa: E731
        return (
            reduce(jnp.mean),
            reduce(lambda s: jnp.std(s, ddof=1) / jnp.sqrt(s.size).astype(s.dtype)),
            reduce(lambda s: s.reshape(NUM_BATCHES, -1).mean(-1)),
        )

    mean, stderr, batches = jax.lax.map(at, log_snr)
    return SampledLevels(mean, stderr, batches, num_samples)


def sampled_levels(
    mixture: GaussianMixture,
    log_snr: Float[Array, " T"],
    *,
    partition: Classes = None,
    num_samples: int = DEFAULT_NUM_SAMPLES,
    key: PRNGKeyArray | None = None,
) -> SampledLevels:
    """Averages of `posterior_statistics` at every level of a grid, all from one set of draws.

    Args:
        mixture: The clean law.
        log_snr: Noise levels.
        partition: Classes; every component its own by default.
        num_samples: Draws of X, rounded up to a multiple of 16 (the number of batches).
        key: Random key; `jax.random.key(0)` by default.

    Raises:
        ValueError: If `num_samples < 32`, or the partition does not fit.
    """
    if num_samples < 2 * NUM_BATCHES:
        raise ValueError(f"`num_samples` must be at least {2 * NUM_BATCHES}; got {num_samples}.")
    key = jax.random.key(0) if key is None else key
    num_samples = -(-num_samples // NUM_BATCHES) * NUM_BATCHES
    partition = as_partition(partition, mixture.num_components)
    return _sampled_levels(mixture, log_snr, key, num_samples, partition)


def decision_snr(mixture: GaussianMixture, log_snr: ArrayLike) -> Float[Array, "*T"]:
    """`kappa = alpha^2 Delta^T (alpha^2 Sigma + sigma^2 I)^{-1} Delta / 4` of a two-component mixture.

    Raises:
        ValueError: If there are not two components with one covariance.
    """
    if mixture.num_components != 2 or not mixture.covariance.shared:
        raise ValueError(
            "The decision SNR is defined for two components that share a covariance; got "
            f"{mixture.num_components} components, shared: {mixture.covariance.shared}."
        )

    def at(level):
        noisy = mixture.perturb(*variance_preserving(level))
        difference = noisy.offsets[:1] - noisy.offsets[1:]
        return noisy.precision().gram(difference)[0, 0] / 4

    levels = jnp.asarray(log_snr, float)
    return jax.vmap(at)(levels.reshape(-1)).reshape(levels.shape)


def _resolve(mixture: GaussianMixture, partition: Partition, method: str) -> str:
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}; got {method!r}.")
    two = mixture.num_components == 2 and mixture.covariance.shared and partition.is_trivial
    if method == "exact" and not (two or partition.num_classes == 1):
        raise ValueError(
            "`method='exact'` needs two components that share a covariance, each its own class; "
            f"got {mixture.num_components} components in {partition.num_classes} classes, shared "
            f"covariance: {mixture.covariance.shared}. Use `method='monte-carlo'`."
        )
    if method == "auto":
        return "exact" if two or partition.num_classes == 1 else "monte-carlo"
    return method


@eqx.filter_jit
def _exact_curve(mixture: GaussianMixture, log_snr: Array, partition: Partition):
    """`(H, -dH/dlambda)` on an array of log-SNR."""
    if partition.num_classes == 1:
        return jnp.zeros_like(log_snr), jnp.zeros_like(log_snr)
    prior = mixture.weights[0].astype(log_snr.dtype)

    def entropy(level):
        return exact.binary_entropy(decision_snr(mixture, level), prior)

    value, slope = jax.jvp(entropy, (log_snr,), (jnp.ones_like(log_snr),))
    return value, -slope


def _evaluate(mixture, log_snr, partition, method, num_samples, key, which: str) -> Estimate:
    partition = as_partition(partition, mixture.num_components)
    method = _resolve(mixture, partition, method)
    log_snr = as_float_array(log_snr, "log_snr")
    flat = log_snr.reshape(-1)
    if method == "exact":
        values = dict(zip(("entropy", "rate"), _exact_curve(mixture, flat, partition), strict=True))
        return Estimate.exact(values[which].reshape(log_snr.shape))
    levels = sampled_levels(mixture, flat, partition=partition, num_samples=num_samples, key=key)
    estimate = levels.estimate(which)
    value, stderr = (part.reshape(log_snr.shape) for part in (estimate.value, estimate.stderr))
    return Estimate(value, stderr, estimate.dof)


def class_entropy(
    mixture: GaussianMixture,
    log_snr: ArrayLike,
    *,
    partition: Classes = None,
    method: str = "auto",
    num_samples: int = DEFAULT_NUM_SAMPLES,
    key: PRNGKeyArray | None = None,
) -> Estimate:
    """`H(C | X)` in nats at log-SNR `log_snr`, any shape; infinities are allowed.

    Runs on the host: it chooses a method and checks values. Under jit use `posterior_statistics`.

    Args:
        mixture: The clean law.
        log_snr: Noise levels, any shape; the estimate has the same.
        partition: Class of each component; every component its own by default.
        method: "auto", "exact" or "monte-carlo".
        num_samples: Draws of X for Monte Carlo.
        key: Random key; `jax.random.key(0)` by default.

    Raises:
        ValueError: If `log_snr` is NaN, the method is unknown or does not apply, `num_samples` is
            below 32, or the partition does not fit the mixture.
    """
    return _evaluate(mixture, log_snr, partition, method, num_samples, key, "entropy")


def entropy_rate(
    mixture: GaussianMixture,
    log_snr: ArrayLike,
    *,
    partition: Classes = None,
    method: str = "auto",
    num_samples: int = DEFAULT_NUM_SAMPLES,
    key: PRNGKeyArray | None = None,
) -> Estimate:
    """`-dH(C|X)/dlambda >= 0` in nats per unit log-SNR. Arguments and errors as `class_entropy`."""
    return _evaluate(mixture, log_snr, partition, method, num_samples, key, "rate")


def prior_entropy(mixture: GaussianMixture, partition: Classes = None) -> Float[Array, ""]:
    """`H(C)` of the class weights, in nats."""
    partition = as_partition(partition, mixture.num_components)
    return entropy_of(partition.log_sum(mixture.log_weights))


def entropy_curve(
    mixture: GaussianMixture,
    log_snr: ArrayLike,
    *,
    partition: Classes = None,
    method: str = "auto",
    num_samples: int = DEFAULT_NUM_SAMPLES,
    key: PRNGKeyArray | None = None,
) -> EntropyCurve:
    """Entropy and rate on a strictly decreasing log-SNR grid, both from the same draws.

    Other arguments as `class_entropy`.

    Raises:
        ValueError: As `class_entropy`, or if the grid is not finite and strictly decreasing.
    """
    grid = decreasing_grid(log_snr)
    partition = as_partition(partition, mixture.num_components)
    method = _resolve(mixture, partition, method)
    total = float(prior_entropy(mixture, partition))
    if method == "exact":
        entropy, rate = _exact_curve(mixture, grid, partition)
        return EntropyCurve(
            np.asarray(grid), Estimate.exact(entropy), Estimate.exact(rate), total, method
        )
    levels = sampled_levels(mixture, grid, partition=partition, num_samples=num_samples, key=key)
    batches = Batches(np.asarray(levels.batches.entropy).T, np.asarray(levels.batches.rate).T)
    return EntropyCurve(
        np.asarray(grid),
        levels.estimate("entropy"),
        levels.estimate("rate"),
        total,
        method,
        batches,
    )
