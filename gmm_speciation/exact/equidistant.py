"""K equidistant classes by two nested one-dimensional integrals, for any K.

With orthogonal means `sqrt(s) e_k` in unit noise the logits given class c are `y_c = s + sqrt(s) z`,
`y_j = sqrt(s) z'`. From `log S = int (e^{-e^l} - e^{-S e^l}) dl` and `1 / S = int e^l e^{-S e^l} dl` for
S = sum_k e^{y_k - y_c} and sum_k e^{y_k}, with averages over one normal

    Phi(u) = E exp(-e^{u + sqrt(s) z}),   q = 1 - Phi = E[-expm1(-e^{u + sqrt(s) z})],
    r(u)   = E e^{u + sqrt(s) z} exp(-e^{u + sqrt(s) z}),

the entropy and the error of the one-hot class `mmse = 1 - phi = 1 - E sum_k p_k^2` are

    H(s)    = int Phi(u + s) [1 - Phi(u)^{K-1}] du,   1 - Phi^{K-1} = -expm1((K - 1) log1p(-q)),
    mmse(s) = (K - 1) int Phi(u + s) Phi(u)^{K-2} r(u) du,     dH/ds = -mmse / 2   (I-MMSE).

All terms are positive, so the tail e^{-s/4} keeps its relative accuracy. Every integral is a trapezoidal
sum of a function analytic in a strip of half-width pi/2: a step of 0.3 leaves 1e-14 (Trefethen & Weideman
2014). Where the sums begin and end follows from their integrands' logarithms, up to terms of order one

    log q(u) = -u^2 / (2 s) for -s < u < 0, u + s / 2 below,     log Phi(v) = -v^2 / (2 s) for v > 0,

at each s anew. Below s = 1 the inner nodes follow the width of the normal instead.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gmm_speciation.checks import ArrayLike, as_count, as_float_array, known, require
from gmm_speciation.covariances import product

_STEP = 0.3
_DROP = 42.0  # sums end where the integrand is e^{-42} of its largest value
_NARROW = 1.0  # below this s the inner nodes follow the normal's width
_SCOUTS = 257  # places at which the integrand's logarithm is looked at to find where it ends
_LARGEST = 1e4  # H < K e^{-s / 4} is no number in float64 for any K that is one


def _descend(offset: Array, s: Array, drop: Array) -> Array:
    """How far a parabola of curvature 1/s takes to fall by `drop` from where its slope is offset / s."""
    drop = jnp.maximum(drop, 0.0)
    return 2 * s * drop / (jnp.sqrt(offset**2 + 2 * s * drop) + offset)


def _inner_range(u: Array, s: Array, drop: Array) -> tuple[Array, Array]:
    """Where `-(x - u)^2 / (2 s) + min(x, 0)`, the integrand of q, is within `drop` of its maximum."""
    mode = jnp.where(u > 0, u, jnp.minimum(u + s, 0.0))
    rest = drop - mode**2 / (2 * s)  # left over on the far side of x = 0
    whole = jnp.sqrt(2 * s * jnp.maximum(drop, 0.0))
    above = jnp.where(
        mode < 0,
        jnp.where(rest > 0, _descend(jnp.maximum(-u, 0.0), s, rest), mode + whole),
        mode + _descend(jnp.maximum(mode - u, 0.0), s, drop),
    )
    below = jnp.where(
        mode > 0,
        jnp.where(rest > 0, -_descend(jnp.maximum(u + s, 0.0), s, rest), mode - whole),
        mode - _descend(jnp.maximum(u + s - mode, 0.0), s, drop),
    )
    return below, above


def _survival_range(v: Array, s: Array, drop: Array) -> tuple[Array, Array]:
    """Where `-(x - v)^2 / (2 s) - e^x`, the integrand of Phi, is within `drop` of its maximum."""
    at_most = jnp.maximum(v, 0.0)
    # Minus a lower bound.
    least = jnp.minimum(jnp.exp(jnp.minimum(v, 40.0)), at_most**2 / (2 * s) + 1)
    reach = jnp.sqrt(2 * s * (jnp.maximum(drop, 0.0) + least))
    return v - reach, jnp.minimum(v + reach, jnp.log(jnp.maximum(drop, 0.0) + least + 1))


@jax.jit
def _ranges(log_rest: Array, s: Array) -> tuple[tuple[Array, Array], ...]:
    """Ends of the sums over u, over x in q and r, and over x in Phi, at one s."""
    low, high = -(log_rest + s + _DROP + 8), jnp.sqrt(2 * s * _DROP) + 8
    u = low + (high - low) * jnp.linspace(0.0, 1.0, _SCOUTS, dtype=s.dtype)
    log_q = jnp.where(u > 0, 0.0, jnp.where(u > -s, -(u**2) / (2 * s), u + s / 2))
    survives = jnp.maximum(u + s, 0.0)
    log_survival = -jnp.minimum(survives**2 / (2 * s), jnp.exp(jnp.minimum(survives, 40.0)))
    logarithm = jnp.minimum(log_rest + log_q, 0.0) + log_survival
    left = _DROP - (jnp.max(logarithm) - logarithm)
    inside = left > 0

    def ends(below: Array, above: Array) -> tuple[Array, Array]:
        return jnp.min(jnp.where(inside, below, jnp.inf)), jnp.max(
            jnp.where(inside, above, -jnp.inf)
        )

    step = (high - low) / (_SCOUTS - 1)
    return (
        ends(u - step, u + step),
        ends(*_inner_range(u, s, left)),
        ends(*_survival_range(u + s, s, left)),
    )


_every_range = jax.jit(jax.vmap(_ranges, (None, 0)))


@functools.lru_cache(maxsize=64)
def _num_nodes(log_rest: float) -> tuple[int, int, int]:
    """Nodes of the three sums, enough for the step at every s up to `_LARGEST`.

    A wide normal smooths the outer integrand over sqrt(s) / 5, and its step may grow with that.
    """
    with jax.ensure_compile_time_eval():
        s = jnp.asarray(np.geomspace(_NARROW, _LARGEST, 128), float)
        widths = [high - low for low, high in _every_range(log_rest, s)]
        steps = np.maximum(_STEP, np.sqrt(np.asarray(s)) / 8), _STEP, _STEP
        return tuple(
            int(np.ceil(np.max(np.asarray(width) / step))) + 2
            for width, step in zip(widths, steps, strict=True)
        )  # type: ignore[return-value]


def _line(ends: tuple[Array, Array], count: int) -> tuple[Array, Array]:
    low, high = ends
    line = low + (high - low) * jnp.linspace(0.0, 1.0, count, dtype=low.dtype)
    return line, (high - low) / (count - 1)


def _terms(x: Array) -> tuple[Array, Array, Array]:
    """`1 - g`, `x`-derivative `-g'` and g of `g(x) = exp(-e^x)`."""
    e = jnp.exp(jnp.minimum(x, 7.0))  # g(7) = exp(-1096) = 0
    g = jnp.exp(-e)
    return -jnp.expm1(-e), e * g, g


def _close(num_classes: float, step: Array, means: tuple[Array, Array, Array]):
    """`(H, mmse)` from q and r at u, and Phi at u + s."""
    q, r, survival = means
    log_phi = jnp.log1p(-jnp.minimum(q, 1 - jnp.finfo(q.dtype).eps / 2))
    entropy = step * jnp.sum(survival * -jnp.expm1((num_classes - 1) * log_phi), -1)
    others = (num_classes - 1) * jnp.exp((num_classes - 2) * log_phi)
    return entropy, step * jnp.sum(survival * others * r, -1)


def _wide(num_classes: float, s: Float[Array, ""]) -> tuple[Array, Array]:
    log_rest = float(np.log(max(num_classes - 1, 1e-3)))
    ends = zip(_ranges(log_rest, s), _num_nodes(log_rest), strict=True)
    lines = jax.lax.stop_gradient(tuple(_line(*one) for one in ends))
    (u, step), (x, inner), (y, survival) = lines
    density = jnp.exp(-((x[None, :] - u[:, None]) ** 2) / (2 * s))
    moved = jnp.exp(-((y[None, :] - u[:, None] - s) ** 2) / (2 * s))
    rest, slope, _ = _terms(x)
    width = jnp.sqrt(2 * jnp.pi * s)
    means = (
        product(density, rest) * inner / width,
        product(density, slope) * inner / width,
        product(moved, _terms(y)[2]) * survival / width,
    )
    return _close(num_classes, step, means)


def _narrow(num_classes: float, s: Float[Array, ""]) -> tuple[Array, Array]:
    log_rest = float(np.log(max(num_classes - 1, 1e-3)))
    u, step = np.linspace(
        -(log_rest + _DROP + 1), 12.0, int((log_rest + _DROP + 13) / 0.25), retstep=True
    )
    z = np.linspace(-9.5, 9.5, 77)
    density = jnp.asarray(np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum(), s.dtype)
    outer, inner = jnp.asarray(u, s.dtype), jnp.asarray(z, s.dtype)
    # Gradient of the root at s = 0: the means' slopes there vanish with z.
    root = jnp.sqrt(jnp.maximum(s, jnp.finfo(s.dtype).tiny))
    x = outer[:, None] + root * inner[None, :]
    rest, slope, _ = _terms(x)
    survival = _terms(x + s)[2]
    means = (product(one, density) for one in (rest, slope, survival))
    return _close(num_classes, jnp.asarray(step, s.dtype), tuple(means))  # type: ignore[arg-type]


@functools.partial(jax.jit, static_argnums=0)
def _entropy_and_mmse(num_classes: float, s: Float[Array, " T"]) -> tuple[Array, Array]:
    def at(s: Array) -> tuple[Array, Array]:
        return jax.lax.cond(
            s > _NARROW,
            lambda s: _wide(num_classes, jnp.maximum(s, _NARROW)),  # under vmap both are computed
            lambda s: _narrow(num_classes, s),
            jnp.minimum(s, _LARGEST),
        )

    return tuple(jnp.where(s > _LARGEST, 0.0, one) for one in jax.lax.map(at, s))  # type: ignore[return-value]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _entropy(num_classes: float, s: Float[Array, " T"]) -> Float[Array, " T"]:
    return _entropy_and_mmse(num_classes, s)[0]


@_entropy.defjvp
def _entropy_jvp(num_classes, primals, tangents):
    entropy, mmse = _entropy_and_mmse(num_classes, primals[0])
    return entropy, -mmse / 2 * tangents[0]


def _mmse(num_classes: float, s: Float[Array, " T"]) -> Float[Array, " T"]:
    return _entropy_and_mmse(num_classes, s)[1]


def _arguments(num_classes: int | float, s: ArrayLike) -> tuple[float, Array]:
    count, array = as_count(num_classes, "num_classes"), as_float_array(s, "s")
    return float(count), require(array, (known(array) >= 0).all(), "`s` must not be negative.")


@eqx.filter_jit
def _flat(function, num_classes: float, s: Array) -> Array:
    if num_classes == 1:
        return jnp.zeros_like(s)
    return function(num_classes, s.reshape(-1)).reshape(s.shape)


def equidistant_entropy(num_classes: int | float, s: ArrayLike) -> Float[Array, "*shape"]:
    """`H(C|X)` in nats of `num_classes` equal, equidistant classes at SNR s.

    Relative accuracy 1e-10 in float64, down to the smallest numbers.

    Args:
        num_classes: K, any whole number from 1 up; not traced.
        s: `alpha^2 delta^2 / (2 v)`, with delta the pairwise distance of the means and v the variance
            of a component with its noise; any shape, infinity allowed. Safe under jit, vmap, grad.

    Raises:
        ValueError: If `num_classes` is not a whole number of at least 1, or s is negative or NaN.
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
    # That of chance at least, where the difference has lost its digits.
    return jnp.maximum(1 - equidistant_mmse(num_classes, s), 1 / float(num_classes))
