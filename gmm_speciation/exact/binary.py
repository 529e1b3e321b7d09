"""Deterministic integrals for two Gaussian classes with one covariance.

The log-odds of the two classes are Gaussian under either: with the signal-to-noise ratio of the
decision

    kappa = alpha^2 Delta^T (alpha^2 Sigma + sigma^2 I)^{-1} Delta / 4,    Delta = mu_+ - mu_-,

and prior log-odds l, `L | + ~ N(l + 2 kappa, 4 kappa)` and `L | - ~ N(l - 2 kappa, 4 kappa)`: the
binary-input Gaussian channel (Guo, Shamai & Verdu 2005). One density is the other times e^L, so every
average is one over a centred normal of positive terms that decay on both sides, and no tail cancels:

    E f(L) = A E f(l + u) 2 cosh((l + u) / 2),   u ~ N(0, 4 kappa),   A = sqrt(pi (1 - pi)) e^{-kappa/2}.

So, in nats and with `M_n = 2 A E sech^n(L / 2)` over u,

    H = E h(sigmoid(L)),   mmse = 4 E p (1 - p) = M_1 = 2 (1 - phi),   dH/dkappa = -M_1 / 2,
    dM_n/dkappa = (n^2 - 1) M_n / 2 - n (n + 1) M_{n+2} / 2            (the heat equation).

The integrals are trapezoidal sums over the part of the line where the integrand, log-concave but for
factors of order one, is within e^{-60} of its largest value. It is analytic in the strip |Im L| < pi: a
step of at most 0.6 and a quarter of the normal's width leaves 1e-14 of the integral itself
(Trefethen & Weideman 2014). Sums keep their logarithm, so values too small for the number format have one,
too. All functions act elementwise and are safe under jit, vmap and grad.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gmm_speciation.checks import ArrayLike, as_float_array, known, require

_NUM_NODES = 1201
_DROP = 60.0  # the sum ends where the integrand is e^{-60} of its largest value
_LEAST, _MOST = 1e-30, 1e15  # kappa of the nodes: below, and above, the integrals have their limits


def _arguments(kappa: ArrayLike, prior: ArrayLike) -> tuple[Array, Array]:
    k, p = as_float_array(kappa, "kappa"), as_float_array(prior, "prior")
    k = require(k, (known(k) >= 0).all(), "`kappa` must not be negative.")
    return k, require(p, ((known(p) >= 0) & (known(p) <= 1)).all(), "`prior` must lie in [0, 1].")


def _log_prior(prior: Array) -> tuple[Array, Array]:
    """`(log pi, log(1 - pi))`, finite."""
    info = jnp.finfo(prior.dtype)
    return jnp.log(jnp.maximum(prior, info.tiny)), jnp.log1p(-jnp.minimum(prior, 1 - info.eps / 2))


def _nodes(n: int, kappa: Array, log_odds: Array) -> tuple[Array, Array, Array]:
    """Nodes u with their step, and the largest `-u^2 / (8 kappa) - n |l + u| / 2`.

    That function is made of two parabolas that meet at L = l + u = 0; it ends where it has dropped by
    `_DROP`, by the quadratic formula in the form that does not cancel.
    """
    sign = jnp.where(log_odds < 0, -1.0, 1.0).astype(kappa.dtype)
    size = jnp.abs(log_odds)
    mode = jnp.maximum(size - 2 * n * kappa, 0.0)  # of L, on the side of the prior
    reach = 8 * kappa * _DROP

    def distance(slope_from: Array, drop: Array) -> Array:
        drop = jnp.maximum(drop, 0.0)
        return 8 * kappa * drop / (jnp.sqrt(slope_from**2 + 8 * kappa * drop) + slope_from)

    outer = distance(mode - size + 2 * n * kappa, jnp.asarray(_DROP, kappa.dtype))
    parabola = jnp.where(mode > 0, mode**2 / (8 * kappa), 0.0)  # dropped on the way to L = 0
    inner = jnp.where(
        parabola >= _DROP, jnp.sqrt(reach), mode + distance(size + 2 * n * kappa, _DROP - parabola)
    )
    # In u = L - l, toward the prior's side and away from it; exact for narrow normals, too.
    centre = -jnp.minimum(2 * n * kappa, size)
    low, high = centre - inner, centre + outer
    unit = jnp.linspace(0.0, 1.0, _NUM_NODES, dtype=kappa.dtype)
    unit = unit.reshape((1,) * kappa.ndim + (-1,))
    step = (high - low) / (_NUM_NODES - 1)
    u = sign[..., None] * (low[..., None] + (high - low)[..., None] * unit)
    return u, step, -(centre**2) / (8 * kappa) - n * mode / 2


def _log_scale_and_mean(n: int, function: Callable[[Array], Array], kappa: Array, prior: Array):
    """`(c, m)` with `E e^{-n |L| / 2} f(L) = e^c m` over u, m of order one, `f` of moderate size."""
    log_plus, log_minus = _log_prior(prior)
    log_odds = log_plus - log_minus
    bounded = jnp.clip(kappa, _LEAST, _MOST)
    u, step, largest = jax.lax.stop_gradient(_nodes(n, bounded, log_odds))
    level = log_odds[..., None] + u
    exponent = -(u**2) / (8 * bounded[..., None]) - n * jnp.abs(level) / 2
    values = jnp.exp(exponent - largest[..., None]) * function(level)
    # By the square root of the width: its square overflows in float32.
    total = step / jnp.sqrt(bounded) * jnp.sum(values, -1) / jnp.sqrt(8 * jnp.pi)
    return largest, total


def _fold(level: Array) -> tuple[Array, Array]:
    """`(|L|, e^{-|L|})`, the latter never 0."""
    size = jnp.abs(level)
    return size, jnp.maximum(jnp.exp(-size), jnp.finfo(size.dtype).tiny)


def _uncertainty(level: Array) -> Array:
    """`2 cosh(L / 2) h(sigmoid(L)) e^{|L| / 2}`, from 2.77 at L = 0 to |L| + 1."""
    size, e = _fold(level)
    return (1 + e) * (jnp.log1p(e) / e + size / (1 + e))


def _power(n: int) -> Callable[[Array], Array]:
    """`2 sech^n(L / 2) e^{n |L| / 2}`."""

    def function(level: Array) -> Array:
        _, e = _fold(level)
        return 2 * (2 / (1 + e)) ** n

    return function


def _surprise_balance(prior: Array) -> Callable[[Array], Array]:
    """`e^{|L|/2} sqrt(pi (1 - pi)) [e^{L/2} softplus(-L) / pi - e^{-L/2} softplus(L) / (1 - pi)]` over
    the larger of `sqrt((1 - pi) / pi)` and its inverse."""
    log_plus, log_minus = _log_prior(prior)
    tilt = (log_minus - log_plus) / 2
    plus, minus = (jnp.exp(sign * tilt - jnp.abs(tilt))[..., None] for sign in (1, -1))

    def function(level: Array) -> Array:
        size, e = _fold(level)
        likely, unlikely = jnp.log1p(e) / e, size + jnp.log1p(e)
        positive = level > 0
        return jnp.where(
            positive, plus * likely - minus * unlikely, plus * unlikely - minus * likely
        )

    return function


def _log_weight(kappa: Array, prior: Array) -> Array:
    """`log A`."""
    log_plus, log_minus = _log_prior(prior)
    return (log_plus + log_minus) / 2 - kappa / 2


def _certain(prior: Array) -> Array:
    return (prior <= 0) | (prior >= 1)


def _log_average(n: int, function: Callable[[Array], Array], kappa: Array, prior: Array) -> Array:
    """`log A E e^{-n |L| / 2} f(L)` for positive f; -inf where one class is certain."""
    scale, mean = _log_scale_and_mean(n, function, kappa, prior)
    value = _log_weight(kappa, prior) + scale + jnp.log(mean)
    return jnp.where(_certain(prior), -jnp.inf, value)


Slopes = tuple[Array, Array]  # of a logarithm, by kappa and by the prior


def _log_moment_slopes(n: int, value: Array, kappa: Array, prior: Array) -> Slopes:
    finite = jnp.where(jnp.isfinite(value), value, 0.0)
    higher = jnp.exp(_log_value(n + 2, kappa, prior) - finite)
    ones = jnp.ones_like(prior)
    by_prior = jax.jvp(lambda p: _log_average(n, _power(n), kappa, p), (prior,), (ones,))[1]
    return (n * n - 1) / 2 - n * (n + 1) / 2 * higher, by_prior


def _log_entropy_slopes(value: Array, kappa: Array, prior: Array) -> Slopes:
    finite = jnp.where(jnp.isfinite(value), value, 0.0)
    # dH/dprior = E_+ softplus(-L) - E_- softplus(L): the terms from p cancel.
    log_plus, log_minus = _log_prior(prior)
    scale, mean = _log_scale_and_mean(1, _surprise_balance(prior), kappa, prior)
    scale = scale - kappa / 2 + jnp.abs(log_minus - log_plus) / 2 - finite
    by_prior = jnp.where(mean == 0, 0.0, jnp.exp(scale) * mean)
    return -jnp.exp(_log_value(1, kappa, prior) - finite) / 2, by_prior  # I-MMSE


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _log_value(n: int, kappa: Array, prior: Array) -> Array:
    """`log M_n`, or `log H` for n = 0."""
    return _log_average(n or 1, _power(n) if n else _uncertainty, kappa, prior)


def _slopes(n: int, value: Array, kappa: Array, prior: Array) -> Slopes:
    if n:
        return _log_moment_slopes(n, value, kappa, prior)
    return _log_entropy_slopes(value, kappa, prior)


@_log_value.defjvp
def _log_value_jvp(n, primals, tangents):
    value = _log_value(n, *primals)
    by_kappa, by_prior = _slopes(n, value, *primals)
    return value, by_kappa * tangents[0] + by_prior * tangents[1]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _value(n: int, kappa: Array, prior: Array) -> Array:
    return jnp.exp(_log_value(n, kappa, prior))


@_value.defjvp
def _value_jvp(n, primals, tangents):
    logarithm = _log_value(n, *primals)

    # In two halves: the slope by a small prior is a number where the value is too small for one.
    half = jnp.exp(logarithm / 2)
    by_kappa, by_prior = (half * one * half for one in _slopes(n, logarithm, *primals))
    return jnp.exp(logarithm), by_kappa * tangents[0] + by_prior * tangents[1]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _elementwise(function: Callable[..., Array], n: int, kappa: Array, prior: Array) -> Array:
    dtype = jnp.promote_types(jnp.promote_types(kappa.dtype, prior.dtype), jnp.float32)
    shape = jnp.broadcast_shapes(kappa.shape, prior.shape)
    return function(n, *(jnp.broadcast_to(one, shape).astype(dtype) for one in (kappa, prior)))


def log_binary_entropy(kappa: ArrayLike, prior: ArrayLike = 0.5) -> Float[Array, "*shape"]:
    """`log H(C|X)`, also where H itself is too small for a number; -inf where it is 0.

    Arguments and errors as `binary_entropy`.
    """
    return _elementwise(_log_value, 0, *_arguments(kappa, prior))


def log_binary_mmse(kappa: ArrayLike, prior: ArrayLike = 0.5) -> Float[Array, "*shape"]:
    """`log mmse = log 2 (1 - phi)`; as `log_binary_entropy`."""
    return _elementwise(_log_value, 1, *_arguments(kappa, prior))


def binary_entropy(kappa: ArrayLike, prior: ArrayLike = 0.5) -> Float[Array, "*shape"]:
    """`H(C|X)` in nats at decision SNR `kappa >= 0`, prior probability `prior` of one class.

    Relative accuracy 1e-9 in float64, with infinity allowed for kappa.

    Raises:
        ValueError: If `kappa` is negative or NaN, or `prior` lies outside [0, 1].
    """
    return _elementwise(_value, 0, *_arguments(kappa, prior))


def binary_mmse(kappa: ArrayLike, prior: ArrayLike = 0.5) -> Float[Array, "*shape"]:
    """Smallest mean squared error of `C = +-1` given X: `-2 dH/dkappa`.

    Raises:
        ValueError: As `binary_entropy`.
    """
    return _elementwise(_value, 1, *_arguments(kappa, prior))


def clone_agreement(kappa: ArrayLike, prior: ArrayLike = 0.5) -> Float[Array, "*shape"]:
    """`phi = E sum_c p(c|X)^2`: two reverse runs from one state end in the same class.

    `binary_mmse / 2` is its distance from 1 without cancellation. Biroli et al. 2024, "Dynamical regimes
    of diffusion models", section on cloning.

    Raises:
        ValueError: As `binary_entropy`.
    """
    return 1 - binary_mmse(kappa, prior) / 2
