"""K equidistant classes by two nested one-dimensional integrals, for any K.

With orthogonal means `sqrt(s) e_k` in unit noise the logits given class c are `y_c = s + sqrt(s) z`,
`y_j = sqrt(s) z'`, and with `log S = int (e^{-e^l} - e^{-S e^l}) dl` for S = sum_k e^{y_k}

    H(s) = E log S - E y_c = int [ e^{-e^l} - Phi(l + s) Phi(l)^{K-1} ] dl - s,
    Phi(l) = E exp(-exp(l + sqrt(s) z)).

I-MMSE gives `dH/ds = -(1 - phi) / 2` with the agreement `phi = E sum_k p_k^2`; under the integral
`dPhi/ds = Phi'' / 2`, a Gaussian mean of the second derivative of `exp(-exp)`.

Both integrals are trapezoidal sums of functions analytic in a strip of half-width pi/2: a step of 1/4
leaves e^{-39} (Trefethen & Weideman 2014). On one common grid the inner integral of all s is a matrix
product with the Gaussian weights. Where the Gaussian is narrower than a few steps, s < 1, the inner grid
follows its width instead.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gmm_speciation.checks import ArrayLike, require
from gmm_speciation.covariances import product

_STEP = 0.25
_TAIL = 12.0  # standard deviations
_NARROW = 1.0  # below this s the inner grid follows the Gaussian's width


def _saturation(num_classes: int | float) -> float:
    """An s beyond which H < K e^{-s/4} is below 1e-17."""
    return 4.0 * (np.log(num_classes) + 40.0)


def _derivatives(x: Array) -> tuple[Array, Array, Array]:
    """`1 - g`, `g'`, `g''` of `g(x) = exp(-exp(x))`; the first without cancellation at x -> -inf."""
    e = jnp.exp(jnp.minimum(x, 7.0))  # g(7) = exp(-1096) = 0
    g = jnp.exp(-e)
    return -jnp.expm1(-e), -e * g, (e * e - e) * g


def _close(num_classes, s, base, tables):
    """`(H, dH/ds)` from the Gaussian means of `1 - g`, `g'`, `g''` at l and at l + s."""
    (rest, _, second), (rest_s, first_s, second_s) = tables
    floor = jnp.finfo(s.dtype).tiny
    log_phi = jnp.log1p(-jnp.minimum(rest, 1 - jnp.finfo(s.dtype).eps))
    phi = jnp.exp(log_phi)
    others = jnp.exp((num_classes - 1) * log_phi)
    own = jnp.maximum(1 - rest_s, 0.0)
    entropy = _STEP * jnp.sum(base - own * others, -1) - s
    moved = first_s + second_s / 2
    slope = moved * others + own * (num_classes - 1) * others * second / 2 / jnp.maximum(phi, floor)
    return entropy, -_STEP * jnp.sum(slope, -1) - 1


def _wide(num_classes: int | float, s: Float[Array, " T"]) -> tuple[Array, Array]:
    largest = _saturation(num_classes)
    reach = _TAIL * np.sqrt(largest)
    u = np.arange(-np.ceil(reach / _STEP), np.ceil(reach / _STEP) + 1) * _STEP
    low = -(np.log(num_classes) + largest + reach)
    outer = np.arange(np.floor(low / _STEP), np.ceil((reach + 8) / _STEP) + 1) * _STEP
    # g on every sum of the two grids, by one gather from their common grid.
    total = (np.arange(len(u) + len(outer) - 1)) * _STEP + (u[0] + outer[0])
    index = np.arange(len(outer))[:, None] + np.arange(len(u))[None, :]
    # The barrier keeps the compiler from folding the large gather into a constant.
    values = jax.lax.optimization_barrier(_derivatives(jnp.asarray(total, s.dtype)))
    tables = jnp.stack([one[index] for one in values])  # (3, L, U)
    log_density = -(jnp.asarray(u, s.dtype)[None, :] ** 2) / (2 * s[:, None])

    def means(weights: Array) -> Array:
        return jnp.einsum("alu,tu->atl", tables, weights, precision="highest")

    density = jnp.exp(log_density)
    density = density / density.sum(-1, keepdims=True)
    # Phi(l + s): the Gaussian moved by s, on the same grid.
    moved = jnp.exp(-((jnp.asarray(u, s.dtype)[None, :] - s[:, None]) ** 2) / (2 * s[:, None]))
    moved = moved / moved.sum(-1, keepdims=True)
    base = jnp.exp(-jnp.exp(jnp.minimum(jnp.asarray(outer, s.dtype), 7.0)))[None, :]
    return _close(num_classes, s, base, (means(density), means(moved)))


def _narrow(num_classes: int | float, s: Float[Array, " T"]) -> tuple[Array, Array]:
    low = -(np.log(num_classes) + 40 + _TAIL)
    outer = jnp.asarray(np.arange(np.floor(low / _STEP), 20 / _STEP) * _STEP, s.dtype)
    z = np.linspace(-_TAIL, _TAIL, 121)
    density = jnp.asarray(np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum(), s.dtype)
    inner = jnp.sqrt(s)[:, None] * jnp.asarray(z, s.dtype)[None, :]

    def means(shift: Array) -> tuple[Array, ...]:
        x = outer[None, :, None] + inner[:, None, :] + shift[:, None, None]
        return tuple(product(one, density) for one in _derivatives(x))

    base = jnp.exp(-jnp.exp(jnp.minimum(outer, 7.0)))[None, :]
    return _close(num_classes, s, base, (means(0 * s), means(s)))


@functools.partial(jax.jit, static_argnums=0)
def _entropy_and_slope(num_classes: int | float, s: Float[Array, " T"]) -> tuple[Array, Array]:
    largest = _saturation(num_classes)
    wide = _wide(num_classes, jnp.clip(s, _NARROW, largest))
    narrow = _narrow(num_classes, jnp.minimum(s, _NARROW))

    def choose(w: Array, n: Array) -> Array:
        return jnp.where(s > largest, 0.0, jnp.where(s > _NARROW, w, n))

    return choose(wide[0], narrow[0]), choose(wide[1], narrow[1])


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _entropy(num_classes: int | float, s: Float[Array, " T"]) -> Float[Array, " T"]:
    return _entropy_and_slope(num_classes, s)[0]


@_entropy.defjvp
def _entropy_jvp(num_classes, primals, tangents):
    entropy, slope = _entropy_and_slope(num_classes, primals[0])
    return entropy, slope * tangents[0]


def _mmse(num_classes: int | float, s: Float[Array, " T"]) -> Float[Array, " T"]:
    return -2 * _entropy_and_slope(num_classes, s)[1]


def _arguments(num_classes: int | float, s: ArrayLike) -> tuple[float, Array]:
    if not (np.isfinite(num_classes) and num_classes >= 1):
        raise ValueError(f"`num_classes` must be at least 1 and finite; got {num_classes}.")
    array = jnp.asarray(s, float)
    return float(num_classes), require(array, jnp.all(array >= 0), "`s` must not be negative.")


@eqx.filter_jit
def _flat(function, num_classes: int | float, s: Array) -> Array:
    return function(num_classes, s.reshape(-1)).reshape(s.shape)


def equidistant_entropy(num_classes: int | float, s: ArrayLike) -> Float[Array, "*shape"]:
    """`H(C|X)` in nats of `num_classes` equal, equidistant classes at SNR s.

    Args:
        num_classes: K, any number from 1 up; not traced.
        s: `alpha^2 delta^2 / (2 v)`, with delta the pairwise distance of the means and v the variance
            of a component with its noise; any shape, infinity allowed. Safe under jit, vmap, grad.

    Raises:
        ValueError: If `num_classes < 1` or s is negative.
    """
    return _flat(_entropy, *_arguments(num_classes, s))


def equidistant_mmse(num_classes: int | float, s: ArrayLike) -> Float[Array, "*shape"]:
    """`1 - E sum_k p_k^2`, the mean squared error of the one-hot class given X: `-2 dH/ds`.

    Raises:
        ValueError: As `equidistant_entropy`.
    """
    return _flat(_mmse, *_arguments(num_classes, s))


def equidistant_agreement(num_classes: int | float, s: ArrayLike) -> Float[Array, "*shape"]:
    """`phi = E sum_k p_k^2`: two reverse runs from one state end in the same class.

    Raises:
        ValueError: As `equidistant_entropy`.
    """
    return 1 - equidistant_mmse(num_classes, s)
