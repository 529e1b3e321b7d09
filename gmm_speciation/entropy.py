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
from jaxtyping import Array, Float, PRNGKeyArray

from gmm_speciation import exact
from gmm_speciation.checks import ArrayLike, as_float_array, decreasing_grid
from gmm_speciation.curves import Batches, EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.inference import Classes, entropy_of
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.monte_carlo import DEFAULT_NUM_SAMPLES, sampled_levels
from gmm_speciation.partitions import Partition, as_partition
from gmm_speciation.processes import variance_preserving

METHODS = ("auto", "exact", "monte-carlo")
STATISTICS = ("entropy", "rate", "agreement")


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
    """`(H, -dH/dlambda, phi)` on an array of log-SNR."""
    if partition.num_classes == 1:
        return jnp.zeros_like(log_snr), jnp.zeros_like(log_snr), jnp.ones_like(log_snr)
    prior = mixture.weights[0].astype(log_snr.dtype)

    def entropy(level):
        return exact.binary_entropy(decision_snr(mixture, level), prior)

    value, slope = jax.jvp(entropy, (log_snr,), (jnp.ones_like(log_snr),))
    return value, -slope, exact.clone_agreement(decision_snr(mixture, log_snr), prior)


def _evaluate(mixture, log_snr, partition, method, num_samples, key, which: str) -> Estimate:
    partition = as_partition(partition, mixture.num_components)
    method = _resolve(mixture, partition, method)
    log_snr = as_float_array(log_snr, "log_snr")
    flat = log_snr.reshape(-1)
    if method == "exact":
        values = dict(zip(STATISTICS, _exact_curve(mixture, flat, partition), strict=True))
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


def clone_agreement(
    mixture: GaussianMixture,
    log_snr: ArrayLike,
    *,
    partition: Classes = None,
    method: str = "auto",
    num_samples: int = DEFAULT_NUM_SAMPLES,
    key: PRNGKeyArray | None = None,
) -> Estimate:
    """`phi = E sum_c p(c|X)^2`: two reverse runs from one noisy state end in the same class.

    Biroli et al. 2024 (arXiv 2402.18491), cloning. Arguments and errors as `class_entropy`.
    """
    return _evaluate(mixture, log_snr, partition, method, num_samples, key, "agreement")


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
        entropy, rate, _ = _exact_curve(mixture, grid, partition)
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
