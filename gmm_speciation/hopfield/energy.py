"""Energy and retrieval of a modern Hopfield network, and the denoiser that retrieval is.

For N patterns `x_i`, the rows of X `(N, d)`, and inverse temperature beta (Ramsauer et al. 2021, arXiv
2008.02217, eqs. 3-4)

    E(xi) = -(1/beta) log sum_i exp(beta x_i . xi) + |xi|^2 / 2 + (1/beta) log N + M^2 / 2,
    grad E = xi - X^T softmax(beta X xi),        M = max_i |x_i|,
    xi <- X^T softmax(beta X xi)                 one step of retrieval: a gradient step of length 1.

The step never raises E: the first term of E is concave, the step minimises E with that term replaced
by its tangent.

*Retrieval is denoising* (Ambrogioni 2024, arXiv 2309.17290). At noise (alpha, sigma) = (1, 1/sqrt(beta))
the mixture of the patterns with weights `w_i ~ exp(beta |x_i|^2 / 2)` has

    p(i | xi) = softmax(beta x_i . xi),     E[x_0 | xi] = retrieve(xi),     E = -(1/beta) log p(xi) + const,

for patterns of equal norm the plain empirical mixture. Patterns have any unit, `1/beta` has its square.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gmm_speciation.checks import ArrayLike, as_count, as_float_array, known, require
from gmm_speciation.covariances import add_row, product
from gmm_speciation.families import empirical
from gmm_speciation.mixtures import GaussianMixture


def as_patterns(patterns: ArrayLike) -> Float[Array, "N d"]:
    """Patterns as a finite floating array, one a row.

    Raises:
        ValueError: If they are not `(N, d)` with at least two rows, or not finite.
    """
    rows = as_float_array(patterns, "patterns")
    if rows.ndim != 2 or rows.shape[0] < 2 or rows.shape[1] < 1:
        raise ValueError(
            f"`patterns` must have shape (N, d), at least two rows; got shape {rows.shape}."
        )
    return require(rows, (abs(known(rows)) < np.inf).all(), "`patterns` must be finite.")


def _arguments(patterns: ArrayLike, xi: ArrayLike, beta: ArrayLike) -> tuple[Array, Array, Array]:
    rows = as_patterns(patterns)
    state = as_float_array(xi, "xi").astype(rows.dtype)
    state = require(state, (abs(known(state)) < np.inf).all(), "`xi` must be finite.")
    if state.ndim < 1 or state.shape[-1] != rows.shape[1]:
        raise ValueError(
            f"`xi` must have shape (*batch, {rows.shape[1]}), as the patterns; got {state.shape}."
        )
    return rows, state, _inverse_temperature(beta, rows)


def inverse_temperatures(values: ArrayLike, name: str) -> Float[Array, "*shape"]:
    """Values of beta or beta_eff.

    Raises:
        ValueError: If one is not positive and finite.
    """
    values = as_float_array(values, name)
    seen = known(values)
    return require(values, (seen > 0) & (seen < np.inf), f"`{name}` must be positive and finite.")


def _inverse_temperature(beta: ArrayLike, rows: Array) -> Array:
    value = inverse_temperatures(beta, "beta").astype(rows.dtype)
    smallest = np.finfo(rows.dtype).tiny  # below it processors take 0
    held = f"`beta` must be at least {smallest:.3g} and finite in the patterns' {rows.dtype}."
    value = require(value, (known(value) >= smallest) & (known(value) < np.inf), held)
    if value.ndim:
        raise ValueError(
            f"`beta` must be one number; got shape {value.shape}. Use `jax.vmap` for several."
        )
    return value


def energy(patterns: ArrayLike, xi: ArrayLike, beta: ArrayLike) -> Float[Array, "*batch"]:
    """`E(xi) >= 0`, in the unit of the patterns squared. Safe under jit, vmap and grad.

    Args:
        patterns: `(N, d)`.
        xi: States `(*batch, d)`.
        beta: Inverse temperature.

    Raises:
        ValueError: If shapes disagree, a value is not finite, or beta is not positive.
    """
    return _energy(*_arguments(patterns, xi, beta))


@eqx.filter_jit
def _energy(rows: Array, state: Array, beta: Array) -> Array:
    # (1/beta) (log N - log sum exp) as a log-mean-exp, and patterns and states from the patterns' mean m:
    # the large terms |xi|^2, M^2 and x_i . xi cancel before they are formed.
    mean = jnp.mean(rows, 0, keepdims=True)
    residuals = rows - mean
    overlaps, top = _overlaps(residuals, state)
    soft_top = _log_mean_exp(beta * overlaps) / beta + top
    largest = jnp.max(jnp.sum(residuals * (rows + mean), -1))  # M^2 - |m|^2
    return jnp.sum(add_row(state, -mean[0]) ** 2, -1) / 2 - soft_top + largest / 2


def _log_mean_exp(x: Array) -> Array:
    """`log mean exp x` of numbers of which the largest is 0, with all digits where all are small."""
    below = jnp.mean(jnp.expm1(x), -1)
    near = below > -0.5
    far = jnp.log(jnp.mean(jnp.exp(x), -1))
    return jnp.where(near, jnp.log1p(jnp.where(near, below, 0.0)), far)


def _overlaps(residuals: Array, state: Array) -> tuple[Array, Array]:
    """`(x_i - m) . xi` below the largest, and the largest.

    The maximum comes off before beta multiplies: fused, the product with beta may be rounded differently in
    the maximum than in what it is taken from, and at 1e10 the exponential of that difference overflows.
    A product of one coordinate would be fused as well; with a second, of zeros, it is not.
    """
    if state.shape[-1] == 1:
        residuals, state = (
            jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, 1)]) for x in (residuals, state)
        )
    overlaps = product(state, residuals.T)
    top = jax.lax.stop_gradient(jnp.max(overlaps, -1, keepdims=True))
    return overlaps - top, top[..., 0]


def retrieve(
    patterns: ArrayLike, xi: ArrayLike, beta: ArrayLike, num_steps: int = 1
) -> Float[Array, "*batch d"]:
    """`num_steps` steps `xi <- X^T softmax(beta X xi)`. Safe under jit, vmap and grad.

    Args:
        patterns: `(N, d)`.
        xi: States `(*batch, d)`.
        beta: Inverse temperature.
        num_steps: Not traced. One step suffices for patterns well apart (Ramsauer et al., theorem 4).

    Raises:
        ValueError: As `energy`, or if `num_steps` is not a whole number of at least 0.
    """
    return _retrieve(*_arguments(patterns, xi, beta), as_count(num_steps, "num_steps", 0))


@eqx.filter_jit
def _retrieve(rows: Array, state: Array, beta: Array, num_steps: int) -> Array:
    residuals = rows - jnp.mean(rows, 0, keepdims=True)  # what all overlaps share is no evidence

    def step(_, xi):
        weights = jnp.exp(beta * _overlaps(residuals, xi)[0])
        return product(weights / jnp.sum(weights, -1, keepdims=True), rows)

    return jax.lax.fori_loop(0, num_steps, step, state)


def as_mixture(patterns: ArrayLike, beta: ArrayLike) -> GaussianMixture:
    """The empirical mixture, weights `~ exp(beta |x_i|^2 / 2)`, that retrieval at `beta` denoises.

    `gmm_speciation.inference.denoiser(as_mixture(patterns, beta), xi, 1, 1 / sqrt(beta))` is one step.

    Raises:
        ValueError: As `energy`.
    """
    rows = as_patterns(patterns)
    half_squares = jnp.sum(rows**2, -1) / 2
    # Logarithms are kept: a weight may be far below the smallest float.
    log_weights = jax.nn.log_softmax(
        _inverse_temperature(beta, rows) * (half_squares - jnp.max(half_squares))
    )
    return eqx.tree_at(lambda mixture: mixture.log_weights, empirical(rows), log_weights)
