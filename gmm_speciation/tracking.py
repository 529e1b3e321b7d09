"""Tracking: the class posterior along a reverse path, from the path alone.

A denoiser of class c predicts the next state of the reverse chain by the kernel

    p(x_s | x_t, c) = N(mu_c, v I),
    mu_c = (alpha_{t|s} sigma_s^2 / sigma_t^2) x_t + (alpha_s sigma_{t|s}^2 / sigma_t^2) D_c(x_t),
    v    = sigma_{t|s}^2 sigma_s^2 / sigma_t^2,
    alpha_{t|s} = alpha_t / alpha_s,   sigma_{t|s}^2 = sigma_t^2 - alpha_{t|s}^2 sigma_s^2,

for t noisier than s (Ho, Jain & Abbeel 2020, Eq. 7; Kingma et al. 2021, Eq. 25-27). Each step observed
multiplies the odds of the classes by the ratio of these densities (Koulischer et al. 2025, arXiv
2410.14398):

    log pi_c <- log pi_c - |x_s - mu_c|^2 / (2 v).

It is valid where x_s was drawn from that chain; forward paths of data, read backwards, are.

Three read-outs, which differ in error and must not be mixed up:

    class against class         softmax of all log-likelihoods with the prior
    ratio to the unconditional  pi_c = prior * e^l; error of order sqrt(step), may exceed 1
    forced prior                sigmoid(l) with prior 1/2: the unconditional poses as the complement;
                                right for a rare class only

Pure functions, safe under jit, vmap and grad. The kernel and the update take arrays of JAX and torch (see
`gmm_speciation.arrays`); where a step leaves from and leads to is `(alpha, sigma)`, or sigma alone in EDM
coordinates, where alpha is 1. Log-likelihoods in nats.
"""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gmm_speciation.arrays import Level, like, scales
from gmm_speciation.checks import ArrayLike, as_float_array, is_concrete, known, require

Variance = Literal["posterior", "beta"]
VARIANCES = get_args(Variance)


def reverse_kernel(
    x: Float[Any, "*#states"],
    denoised: Float[Any, "*#states"],
    noisy: Level,
    cleaner: Level,
    variance: str = "posterior",
) -> tuple[Float[Any, "*#states"], Any]:
    """Mean and variance of the next state given x and a posterior mean of x_0.

    Args:
        x: State at the noisier level.
        denoised: `D(x)` of one class; or of all, a class axis first, beside `x[None]`.
        noisy: Level t.
        cleaner: The next level, s.
        variance: "posterior" is v; "beta" that of the forward step, beta_t where alpha^2 + sigma^2 = 1
            and brought to the scale of x_s elsewhere, the larger choice of Ho, Jain & Abbeel 2020,
            Sec. 3.2.

    Raises:
        ValueError: If `variance` is neither, or known levels rise.
    """
    if variance not in VARIANCES:
        raise ValueError(f"`variance` must be one of {', '.join(VARIANCES)}; got {variance!r}.")
    (alpha_t, sigma_t), (alpha_s, sigma_s) = scales(noisy), scales(cleaner)
    falls = sigma_s * alpha_t <= sigma_t * alpha_s
    if is_concrete(falls) and not getattr(falls, "all", lambda: falls)():  # Python's bool has none
        raise ValueError(
            "A reverse step goes from noise to signal: `cleaner` must have no more noise per signal than "
            f"`noisy`; got {noisy} to {cleaner}."
        )
    ratio, share = alpha_t / alpha_s, (sigma_s / sigma_t) ** 2
    added = sigma_t**2 - ratio**2 * sigma_s**2
    mean = ratio * share * x + alpha_s * (1 - ratio**2 * share) * denoised
    if variance == "beta":
        share = (alpha_s**2 + sigma_s**2) / (alpha_t**2 + sigma_t**2)
    return mean, like(x, added * share)


def log_likelihood_update(
    x_next: Float[Any, "*state"], means: Float[Any, " C *state"], variance: Float[Array, ""] | float
) -> Float[Any, " C *rows"]:
    """`-|x_s - mu_c|^2 / (2 v)` up to one number for all classes.

    Of one state `(d,)`, or of one a row `(n, *event)`; the class axis comes first. The squares are taken
    as differences to their class average, so no digits go to the common part.

    Raises:
        ValueError: If the means of a class have not the shape of the state.
    """
    if x_next.shape != means.shape[1:]:
        raise ValueError(
            "`means` must be those of the state for each class, "
            f"{('C', *x_next.shape)}; got {tuple(means.shape)}."
        )
    reference = means.mean(0)[None]
    product = (reference - means) * (2 * x_next[None] - means - reference)
    kept = product.shape[: min(2, product.ndim - 1)]
    return -product.reshape(*kept, -1).sum(-1) / (2 * variance)


def class_against_class(
    log_prior: Float[Array, " C"], log_likelihood: Float[Array, "*batch C"]
) -> Float[Array, "*batch C"]:
    """Log-posterior `log pi_c` from the log-likelihoods summed along the path.

    Raises:
        ValueError: If prior and log-likelihoods are not of the same classes.
    """
    if log_likelihood.shape[-1:] != log_prior.shape:
        raise ValueError(
            "`log_prior` must be (C,), and the last axis of `log_likelihood` these C classes; got "
            f"{log_prior.shape} and {log_likelihood.shape}."
        )
    joint = log_likelihood + log_prior.reshape((1,) * (log_likelihood.ndim - 1) + (-1,))
    return jax.nn.log_softmax(joint, -1)


def _probability(value: ArrayLike, log_ratio: Float[Array, "*batch"], name: str) -> Array:
    """A probability, one for all log-ratios or one each."""
    p, shape = as_float_array(value, name).astype(jnp.result_type(log_ratio)), jnp.shape(log_ratio)
    if p.shape not in ((), shape):
        raise ValueError(f"`{name}` must be a number, or one a log-ratio, {shape}; got {p.shape}.")
    seen = known(p)
    return require(
        p, (seen >= 0) & (seen <= 1), f"`{name}` must be a probability, in [0, 1]; got {seen}."
    )


def ratio_to_unconditional(prior, log_ratio: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """`prior * e^l` with l the summed log-ratio to the unconditional kernel; not bounded by 1.

    Raises:
        ValueError: If the prior is no probability, or has another shape than the log-ratios.
    """
    return _probability(prior, log_ratio, "prior") * jnp.exp(log_ratio)


def forced_prior(log_ratio: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """`sigmoid(l)`: the papers' binary form, in which the unconditional stands for "not c"."""
    return jax.nn.sigmoid(log_ratio)


def repaired_forced_prior(base_rate, log_ratio: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Posterior of a class of probability `base_rate` from its log-ratio to the unconditional.

    With w the base rate, `p(x) = w p(x|c) + (1 - w) p(x|not c)` gives
    `logit p = l + log[(1 - w) / (1 - w e^l)] + logit w`, that is `p = w e^l`; where the tracked ratio
    exceeds its bound 1/w, p is 1. Returned as the posterior at prior 1/2:
    `sigmoid(l + log[(1 - w) / (1 - w e^l)])`.

    Raises:
        ValueError: As `ratio_to_unconditional`, or if the class is all there is.
    """
    base_rate = _probability(base_rate, log_ratio, "base_rate")
    base_rate = require(base_rate, known(base_rate) < 1, "`base_rate` must be below 1.")
    remaining = 1 - base_rate * jnp.exp(log_ratio)
    logit = log_ratio + jnp.log1p(-base_rate) - jnp.log(jnp.maximum(remaining, 1e-30))
    return jax.nn.sigmoid(logit)
