"""What a noisy state says about its class and its origin.

At noise `(alpha, sigma)`, with `s_k` the score of component k, p(k|x) its posterior and
q(k|x,c) = p(k|x) / p(c|x) inside class c:

    class score      s_c(x) = sum_{k in c} q(k|x,c) s_k(x)
    score spread     sum_c p(c|x) |s_c(x) - s(x)|^2
    posterior mean   E[x_0 | x] = sum_k p(k|x) [mu_k + alpha Sigma_k P_k (x - alpha mu_k)]

with `P_k = (alpha^2 Sigma_k + sigma^2 I)^{-1}`: Tweedie's formula written so that it keeps its digits
at both ends of the noise range. States come from any array library (`checks`).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gmm_speciation.checks import ArrayLike, as_states, takes_states
from gmm_speciation.covariances import add_row, as_row, product
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition, as_partition
from gmm_speciation.posteriors import pair_spread, shares, squared_distances, within_class

Classes = Partition | ArrayLike | None


@takes_states
def log_class_posterior(
    mixture: GaussianMixture, x: Float[Array, "*batch d"], partition: Classes = None
) -> Float[Array, "*batch C"]:
    """`log p(c | x)` in nats; -inf for a class of weight 0.

    Raises:
        ValueError: If the partition does not fit the mixture.
    """
    partition = as_partition(partition, mixture.num_components)
    return partition.log_sum(mixture.log_posterior(x))


@takes_states
def class_posterior(
    mixture: GaussianMixture, x: Float[Array, "*batch d"], partition: Classes = None
) -> Float[Array, "*batch C"]:
    """`p(c | x)`, the sum of the posteriors of the class's components.

    Raises:
        ValueError: If the partition does not fit the mixture.
    """
    return jnp.exp(log_class_posterior(mixture, x, partition))


@takes_states
@eqx.filter_jit
def class_scores(
    mixture: GaussianMixture, x: Float[Array, "*batch d"], partition: Classes = None
) -> Float[Array, "*batch C d"]:
    """Score `grad_x log p(x | c)` of every class. The result itself has C d numbers per point.

    Raises:
        ValueError: If the partition does not fit the mixture.
    """
    partition = as_partition(partition, mixture.num_components)
    precision, y = mixture.precision(), mixture.centred(x)
    within = within_class(mixture.log_posterior(x), partition)
    scores = jax.lax.map(lambda q: -precision.weighted_apply(y, mixture.offsets, q), within)
    return jnp.moveaxis(scores, 0, -2)


@takes_states
@eqx.filter_jit
def score_spread(
    mixture: GaussianMixture, x: Float[Array, "*batch d"], partition: Classes = None
) -> Float[Array, "*batch"]:
    """`sum_c p(c|x) |s_c(x) - s(x)|^2`, the posterior variance of the class score.

    Where components share a covariance it is a quadratic form in the posterior with the K x K
    distances `(nu_j - nu_k)^T P^2 (nu_j - nu_k)`, so its cost does not depend on d. Otherwise one class
    at a time is held.

    Raises:
        ValueError: If the partition does not fit the mixture.
    """
    partition = as_partition(partition, mixture.num_components)
    return spread_of(mixture, mixture.centred(x), mixture.log_posterior(x), partition)


def spread_of(
    mixture: GaussianMixture,
    y: Float[Array, "*batch d"],
    log_posterior: Float[Array, "*batch K"],
    partition: Partition,
) -> Float[Array, "*batch"]:
    """`score_spread` of centred states whose posterior is known."""
    precision = mixture.precision()
    if mixture.covariance.shared:
        each = jnp.ones_like(mixture.log_weights)[:, None]
        scores = precision.weighted_apply(mixture.offsets, 0 * mixture.offsets[:1], each)
        return pair_spread(log_posterior, squared_distances(scores), partition)
    posterior = jnp.exp(log_posterior)
    within = shares(log_posterior, partition)

    def add(total, args):
        probability, members = args
        # Weights of s_c - s; they sum to 0 over the components.
        contrast = jnp.where(as_row(members, within), within, 0.0) - posterior
        difference = precision.weighted_apply(y, mixture.offsets, contrast)
        return total + probability * jnp.sum(difference**2, -1), None

    class_probability = jnp.moveaxis(jnp.exp(partition.log_sum(log_posterior)), -1, 0)
    classes = (class_probability, partition.membership() > 0)
    return jax.lax.scan(add, jnp.zeros_like(posterior[..., 0]), classes)[0]


@takes_states
def denoiser(
    mixture: GaussianMixture,
    x: Float[Array, "*batch d"],
    alpha,
    sigma,
    weights: Float[Array, "*batch K"] | None = None,
) -> Float[Array, "*batch d"]:
    """`E[x_0 | x_t = x]` where x_0 is drawn from `mixture` and `x_t = alpha x_0 + sigma eps`.

    Args:
        mixture: The distribution of the clean data.
        x: Noisy states.
        alpha: Signal scale.
        sigma: Noise scale.
        weights: Component weights to average with; the posterior given `x` by default. A one-hot
            row gives the denoiser of one component, `q(k | x, c)` that of a class.
    """
    if weights is not None:
        weights = as_states(weights, mixture.num_components, "weights")
    return _denoiser(mixture, x, *_level(mixture, alpha, sigma), weights)


def _level(mixture: GaussianMixture, alpha, sigma) -> tuple[Array, Array]:
    """Scales as arrays: a new noise level is new data to compiled code, not a new program."""
    return tuple(jnp.asarray(scale, mixture.centre.dtype) for scale in (alpha, sigma))  # type: ignore[return-value]


@eqx.filter_jit
def _denoiser(mixture, x, alpha, sigma, weights):
    noisy = mixture.perturb(alpha, sigma)
    if weights is None:
        weights = noisy.posterior(x)
    gain = wiener_gain(mixture, alpha, sigma)
    update = gain.weighted_apply(noisy.centred(x), noisy.offsets, weights)
    return add_row(update + product(weights, mixture.offsets), mixture.centre)


def wiener_gain(mixture: GaussianMixture, alpha, sigma):
    """`alpha Sigma_k (alpha^2 Sigma_k + sigma^2 I)^{-1}` as a covariance-like family."""
    tiny = jnp.finfo(mixture.centre.dtype).tiny
    return mixture.covariance.map(lambda v: alpha * v / jnp.maximum(alpha**2 * v + sigma**2, tiny))


@takes_states
def class_denoisers(
    mixture: GaussianMixture, x: Float[Array, "*batch d"], alpha, sigma, partition: Classes = None
) -> Float[Array, "*batch C d"]:
    """`E[x_0 | x_t = x, c]` for every class. The result itself has C d numbers per point.

    Raises:
        ValueError: If the partition does not fit the mixture.
    """
    partition = as_partition(partition, mixture.num_components)
    return _class_denoisers(mixture, x, *_level(mixture, alpha, sigma), partition)


@eqx.filter_jit
def _class_denoisers(mixture, x, alpha, sigma, partition):
    within = within_class(mixture.perturb(alpha, sigma).log_posterior(x), partition)
    means = jax.lax.map(lambda q: denoiser(mixture, x, alpha, sigma, q), within)
    return jnp.moveaxis(means, 0, -2)


@takes_states
def posterior_covariance(
    mixture: GaussianMixture, x: Float[Array, " d"], alpha, sigma
) -> Float[Array, "d d"]:
    """`Cov[x_0 | x_t = x]` at one point, dense: for moderate d.

    Within components `Sigma_k sigma^2 (alpha^2 Sigma_k + sigma^2 I)^{-1}`, between them the spread of
    the component posterior means.
    """
    posterior = mixture.perturb(alpha, sigma).posterior(x)
    tiny = jnp.finfo(mixture.centre.dtype).tiny
    within = mixture.covariance.map(
        lambda v: v * sigma**2 / jnp.maximum(alpha**2 * v + sigma**2, tiny)
    ).matrices(mixture.dim)
    within = jnp.broadcast_to(within, (mixture.num_components, *within.shape[1:]))
    means = class_denoisers(mixture, x, alpha, sigma)
    spread = means - product(posterior, means)[None, :]
    between = product((posterior[:, None] * spread).T, spread)
    return jnp.einsum("k,kij->ij", posterior, within, precision="highest") + between
