"""Deterministic integrals for two Gaussian classes with one covariance.

The log-odds of the two classes are Gaussian under either: with the signal-to-noise ratio of the
decision

    kappa = alpha^2 Delta^T (alpha^2 Sigma + sigma^2 I)^{-1} Delta / 4,    Delta = mu_+ - mu_-,

`L | + ~ N(l + 2 kappa, 4 kappa)` and `L | - ~ N(l - 2 kappa, 4 kappa)` with prior log-odds l. So, in
nats and for equal priors,

    H(kappa) = E log(1 + e^{-L}),   phi(kappa) = E sigmoid(L),   mmse(kappa) = 2 (1 - phi),
    dH/dkappa = -mmse / 2.

This is the binary-input Gaussian channel (Guo, Shamai & Verdu 2005). The integrals are trapezoidal
sums over the part of the real line where neither the Gaussian nor the integrand vanishes; for
integrands analytic in a strip the rule converges geometrically (Trefethen & Weideman 2014), here to
rounding error in float64. All functions act elementwise and are safe under jit, vmap and grad.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gmm_speciation.checks import ArrayLike, require

_NUM_NODES = 601
_TAIL = 13.0  # standard deviations: exp(-13^2 / 2) = 2e-37
_SATURATION = 100.0  # log-odds beyond which a class is certain to 4e-44


def _gaussian_mean(function, mean: Array, kappa: Array) -> Array:
    """`E f(L)`, `L ~ N(mean, 4 kappa)`, for f that is negligible or linear beyond saturation."""
    scale = 2 * jnp.sqrt(jnp.maximum(kappa, jnp.finfo(kappa.dtype).tiny))
    low = jnp.clip((-_SATURATION - mean) / scale, -_TAIL, _TAIL)
    high = jnp.clip((_SATURATION - mean) / scale, -_TAIL, _TAIL)
    unit = jnp.linspace(0.0, 1.0, _NUM_NODES, dtype=kappa.dtype)
    xi = low[..., None] + (high - low)[..., None] * unit.reshape((1,) * kappa.ndim + (-1,))
    log_odds = mean[..., None] + scale[..., None] * xi
    density = jnp.exp(-(xi**2) / 2) / jnp.sqrt(2 * jnp.pi)
    return jax.scipy.integrate.trapezoid(density * function(log_odds), xi, axis=-1)


def _arguments(kappa: ArrayLike, prior: ArrayLike) -> tuple[Array, Array]:
    k, p = jnp.asarray(kappa, float), jnp.asarray(prior, float)
    k = require(k, jnp.all(k >= 0), "`kappa` must not be negative.")
    p = require(p, jnp.all((p >= 0) & (p <= 1)), "`prior` must lie in [0, 1].")
    shape = jnp.broadcast_shapes(k.shape, p.shape)
    return jnp.broadcast_to(k, shape), jnp.broadcast_to(p, shape)


def _prior_mean(function, kappa: Array, prior: Array) -> Array:
    """`prior E_+ f(L) + (1 - prior) E_- f(-L)`: f of the log-odds of the true class."""
    tiny = jnp.finfo(kappa.dtype).tiny
    log_odds = jnp.log(jnp.maximum(prior, tiny)) - jnp.log(jnp.maximum(1 - prior, tiny))
    plus = _gaussian_mean(function, log_odds + 2 * kappa, kappa)
    minus = _gaussian_mean(function, 2 * kappa - log_odds, kappa)
    return prior * plus + (1 - prior) * minus


@jax.custom_jvp
def _entropy(kappa: Array, prior: Array) -> Array:
    return _prior_mean(lambda log_odds: jax.nn.softplus(-log_odds), kappa, prior)


@_entropy.defjvp
def _entropy_jvp(primals, tangents):
    kappa, prior = primals
    # dH/dkappa by I-MMSE; dH/dprior = E_+ softplus(-L) - E_- softplus(L): the terms from p cancel.
    softplus = lambda log_odds: jax.nn.softplus(-log_odds)  # noqa: E731
    tiny = jnp.finfo(kappa.dtype).tiny
    log_odds = jnp.log(jnp.maximum(prior, tiny)) - jnp.log(jnp.maximum(1 - prior, tiny))
    by_prior = _gaussian_mean(softplus, log_odds + 2 * kappa, kappa) - _gaussian_mean(
        softplus, 2 * kappa - log_odds, kappa
    )
    by_kappa = -_mmse(kappa, prior) / 2
    return _entropy(kappa, prior), by_kappa * tangents[0] + by_prior * tangents[1]


def _mmse(kappa: Array, prior: Array) -> Array:
    # For C = +-1 the posterior variance is 4 p (1 - p), and 2 E p (1 - p) = E[1 - p(true class)].
    return 2 * _prior_mean(lambda log_odds: jax.nn.sigmoid(-log_odds), kappa, prior)


def binary_entropy(kappa: ArrayLike, prior: ArrayLike = 0.5) -> Float[Array, "*shape"]:
    """`H(C|X)` in nats at decision SNR `kappa >= 0`, prior probability `prior` of one class.

    Raises:
        ValueError: If `kappa` is negative or `prior` lies outside [0, 1].
    """
    return _entropy(*_arguments(kappa, prior))


def binary_mmse(kappa: ArrayLike, prior: ArrayLike = 0.5) -> Float[Array, "*shape"]:
    """Smallest mean squared error of `C = +-1` given X: `-2 dH/dkappa`.

    Raises:
        ValueError: As `binary_entropy`.
    """
    return _mmse(*_arguments(kappa, prior))


def clone_agreement(kappa: ArrayLike, prior: ArrayLike = 0.5) -> Float[Array, "*shape"]:
    """`phi = E sum_c p(c|X)^2`: two reverse runs from one state end in the same class.

    Biroli et al. 2024, "Dynamical regimes of diffusion models", section on cloning.

    Raises:
        ValueError: As `binary_entropy`.
    """
    return 1 - binary_mmse(kappa, prior) / 2
