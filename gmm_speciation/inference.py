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

from gmm_speciation.checks import ArrayLike, as_level, as_states, is_concrete, known, takes_states
from gmm_speciation.covariances import Full, LowRank, add_row, product
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.partitions import Partition, as_partition
from gmm_speciation.posteriors import class_spread, shares, within_class

Classes = Partition | ArrayLike | None
_BLOCK_NUMBERS = 2**20


@takes_states
def log_class_posterior(
    mixture: GaussianMixture, x: Float[Array, "*batch d"], partition: Classes = None
) -> Float[Array, "*batch C"]:
    """`log p(c | x)` in nats; -inf for a class of weight 0.

    Raises:
        ValueError: If the partition does not fit the mixture.
    """
    return _log_class_posterior(mixture, x, as_partition(partition, mixture.num_components))


@jax.jit
def _log_class_posterior(mixture, x, partition):
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


@eqx.filter_jit
def noised_log_posterior(
    mixture: GaussianMixture,
    clean: Float[Array, "n d"],
    noise: Float[Array, "n d"],
    sigmas: Float[Array, " L"],
) -> Float[Array, "L n K"]:
    """`log p(k | x_0 + sigma eps)` of the same states and noise at many levels.

    Where components have full covariances of their own, states and noise are turned into each eigenbasis
    once, and a level takes O(n K d) more, not O(n K d^2).
    """
    covariance = mixture.covariance
    if not isinstance(covariance, Full) or covariance.shared:
        return jax.lax.map(
            lambda sigma: mixture.perturb(1.0, sigma).log_posterior(clean + sigma * noise), sigmas
        )
    spectra = jax.vmap(
        lambda sigma: mixture.perturb(1.0, sigma).precision().eigenvalues(mixture.dim)
    )(sigmas)
    y = mixture.centred(clean)

    def squares(component: tuple[Array, Array, Array]) -> Float[Array, "L n"]:
        basis, offset, inverse = component
        state, turned = product(add_row(y, -offset), basis), product(noise, basis)
        return jax.lax.map(
            lambda level: product((state + level[0] * turned) ** 2, level[1]), (sigmas, inverse)
        )

    components = (covariance.basis, mixture.offsets, jnp.moveaxis(spectra, 1, 0))
    volume = jnp.log(spectra).sum(-1)[:, None, :]
    square = jnp.moveaxis(jax.lax.map(squares, components), 0, -1)
    return jax.nn.log_softmax(mixture.log_weights[None, None, :] + (volume - square) / 2)


@takes_states
def class_scores(
    mixture: GaussianMixture, x: Float[Array, "*batch d"], partition: Classes = None
) -> Float[Array, "*batch C d"]:
    """Score `grad_x log p(x | c)` of every class. The result itself has C d numbers per point.

    Raises:
        ValueError: If the partition does not fit the mixture.
    """
    return _class_scores(mixture, x, as_partition(partition, mixture.num_components))


@jax.jit
def _class_scores(mixture, x, partition):
    precision, y = mixture.precision(), mixture.centred(x)
    within = within_class(mixture.log_posterior(x), partition)
    scores = jax.lax.map(
        lambda c: -precision.weighted_apply(y, mixture.offsets, within(c)),
        jnp.arange(partition.num_classes),
    )
    return jnp.moveaxis(scores, 0, -2)


@takes_states
def score_spread(
    mixture: GaussianMixture, x: Float[Array, "*batch d"], partition: Classes = None
) -> Float[Array, "*batch"]:
    """`sum_c p(c|x) |s_c(x) - s(x)|^2`, the posterior variance of the class score.

    Where components share a covariance it is a quadratic form in the posterior with the distances
    `(nu_j - nu_k)^T P^2 (nu_j - nu_k)`, and asks nothing of a point but its posterior. Otherwise one class
    at a time is held.

    Raises:
        ValueError: If the partition does not fit the mixture.
    """
    return _score_spread(mixture, x, as_partition(partition, mixture.num_components))


@jax.jit
def _score_spread(mixture, x, partition):
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
        rows = log_posterior.reshape(-1, log_posterior.shape[-1])
        return class_spread(scores, partition)(rows).reshape(y.shape[:-1])
    if isinstance(precision, Full | LowRank):
        return _spread_by_rows(precision, mixture.offsets, y, log_posterior, partition)
    posterior = jnp.exp(log_posterior)
    within = within_class(log_posterior, partition)

    def add(total, args):
        probability, c = args
        # Weights of s_c - s; they sum to 0 over the components.
        contrast = within(c) - posterior
        difference = precision.weighted_apply(y, mixture.offsets, contrast)
        return total + probability * jnp.sum(difference**2, -1), None

    class_probability = jnp.moveaxis(jnp.exp(partition.log_sum(log_posterior)), -1, 0)
    classes = (class_probability, jnp.arange(partition.num_classes))
    return jax.lax.scan(add, jnp.zeros_like(posterior[..., 0]), classes)[0]


def _spread_by_rows(
    precision: Full | LowRank,
    offsets: Float[Array, "K d"],
    y: Float[Array, "*batch d"],
    log_posterior: Float[Array, "*batch K"],
    partition: Partition,
) -> Float[Array, "*batch"]:
    """`spread_of` where a score takes a product with a matrix: each is formed once, for all classes.

    Blocks of rows hold no more numbers than K matrices of d^2, or than a chunk of draws.
    """
    num_components, dim = offsets.shape
    members = partition.membership() > 0

    def of_row(row: tuple[Array, Array, Array]) -> Array:
        at, share, posterior = row
        steps = (jnp.arange(num_components), offsets)
        scores = jax.lax.map(lambda one: precision.apply_one(one[0], at - one[1]), steps)
        # Weights of s_c - s: where one class is certain no digits cancel.
        contrasts = jnp.where(members, share[None], 0.0) - posterior[None]
        probability = product(members.astype(posterior.dtype), posterior)
        return jnp.sum(probability * jnp.sum(product(contrasts, scores) ** 2, -1))

    rows = (
        y.reshape(-1, dim),
        shares(log_posterior, partition).reshape(-1, num_components),
        jnp.exp(log_posterior).reshape(-1, num_components),
    )
    block = max(dim, _BLOCK_NUMBERS // (num_components * dim))
    return jax.lax.map(of_row, rows, batch_size=block).reshape(y.shape[:-1])


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

    Raises:
        ValueError: If the last axis of the weights is not K, known weights of a point are negative or do not
            sum to 1, or a scale is not a number.
    """
    if weights is not None:
        weights = as_states(weights, mixture.num_components, "weights")
        seen = known(weights)
        total = seen.sum(-1)
        if is_concrete(total) and (seen < -1e-6).any():  # rounding aside; NaN sums to no 1
            raise ValueError(
                "`weights` must not be negative: they average over the components; got a smallest of "
                f"{seen.min():.6g}. Guidance mixes posterior means, not weights."
            )
        if is_concrete(total) and not (abs(total - 1) < 1e-3).all():
            raise ValueError(
                "`weights` must sum to 1 over the components of a point; got sums from "
                f"{total.min():.6g} to {total.max():.6g}. Divide by them."
            )
    return _denoiser(mixture, x, *as_level(alpha, sigma, mixture.centre.dtype), weights)


@jax.jit
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


def component_spread(mixture: GaussianMixture, alpha, sigma):
    """`sigma^2 Sigma_k (alpha^2 Sigma_k + sigma^2 I)^{-1}`, what is left of the variance of a component."""

    def left(v: Array) -> Array:
        noisy = alpha**2 * v + sigma**2
        seen = noisy > 0  # without signal and noise nothing is known: the prior
        return jnp.where(seen, v * sigma**2 / jnp.where(seen, noisy, 1.0), v)

    return mixture.covariance.map(left)


@takes_states
def class_denoisers(
    mixture: GaussianMixture, x: Float[Array, "*batch d"], alpha, sigma, partition: Classes = None
) -> Float[Array, "*batch C d"]:
    """`E[x_0 | x_t = x, c]` for every class. The result itself has C d numbers per point.

    Raises:
        ValueError: If the partition does not fit the mixture, or a scale is not a number.
    """
    partition = as_partition(partition, mixture.num_components)
    return _class_denoisers(mixture, x, *as_level(alpha, sigma, mixture.centre.dtype), partition)


@jax.jit
def _class_denoisers(mixture, x, alpha, sigma, partition):
    within = within_class(mixture.perturb(alpha, sigma).log_posterior(x), partition)
    means = jax.lax.map(
        lambda c: denoiser(mixture, x, alpha, sigma, within(c)), jnp.arange(partition.num_classes)
    )
    return jnp.moveaxis(means, 0, -2)


@takes_states
def posterior_covariance(
    mixture: GaussianMixture, x: Float[Array, " d"], alpha, sigma
) -> Float[Array, "d d"]:
    """`Cov[x_0 | x_t = x]` at one point, dense: for moderate d.

    Within components `Sigma_k sigma^2 (alpha^2 Sigma_k + sigma^2 I)^{-1}`, between them the spread of
    the component posterior means.

    Raises:
        ValueError: If there are more points, or a scale is not a number.
    """
    if x.ndim != 1:
        raise ValueError(
            f"`x` must be one point, of shape ({mixture.dim},); got {x.shape}. Take `jax.vmap` over points."
        )
    posterior = mixture.perturb(alpha, sigma).posterior(x)
    within = component_spread(mixture, alpha, sigma).matrices(mixture.dim)
    within = jnp.broadcast_to(within, (mixture.num_components, *within.shape[1:]))
    means = class_denoisers(mixture, x, alpha, sigma)
    spread = means - product(posterior, means)[None, :]
    between = product((posterior[:, None] * spread).T, spread)
    return jnp.einsum("k,kij->ij", posterior, within, precision="highest") + between
