"""What a mixture is built from, checked: means, variances, weights, a centre.

Axes: K components, d dimension.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gmm_speciation.checks import ArrayLike, as_float_array, as_reals, is_concrete, known, require

NOT_THE_CONSTRUCTOR = (
    "Build a mixture by `GaussianMixture.full(means, covariances, weights)`, `.isotropic`, `.diagonal` or "
    "`.low_rank`; `GaussianMixture(...)` takes its four fields, the last one a `Covariance`."
)


def finite_means(means: ArrayLike) -> Float[Array, "K d"]:
    mu = as_float_array(means, "means")
    mu = mu.astype(jnp.promote_types(mu.dtype, jnp.float32))
    if mu.ndim != 2 or 0 in mu.shape:
        raise ValueError(
            "`means` must have shape (K, d) with at least one component and one dimension; "
            f"got {mu.shape}."
        )
    return require(mu, (abs(known(mu)) < np.inf).all(), "`means` must be finite.")


@np.errstate(all="ignore")  # as JAX does
def short_centre(means: Float[Array, "K d"]) -> Float[Array, " d"]:
    """The middle of the means down to a multiple of a power of two above twice their spread: a mean
    less the centre is smaller than the mean and has no further digits. Without derivative."""
    seen = known(jax.lax.stop_gradient(means))
    numpy: Any = np if isinstance(seen, np.ndarray) else jnp
    low, high = seen.min(0), seen.max(0)
    middle, spread = low / 2 + high / 2, high / 2 - low / 2
    exponent = numpy.frexp(spread)[1] + 1
    finest = numpy.frexp(middle)[1] - jnp.finfo(means.dtype).nmant - 1
    unit = numpy.ldexp(numpy.ones_like(middle), numpy.maximum(exponent, finest))
    count = numpy.trunc(middle / unit)
    return jnp.asarray(
        numpy.where(spread > 0, numpy.where(count == 0, 0.0, count * unit), middle), means.dtype
    )


def variances(variance: ArrayLike, means: Array) -> Float[Array, " _"]:
    """One variance a component, or one where all are known to be equal."""
    v = jnp.atleast_1d(as_float_array(variance, "variance")).astype(means.dtype)
    if v.shape not in ((1,), means.shape[:1]):
        raise ValueError(
            f"`variance` must be one number or one a component, shape ({len(means)},); "
            f"got shape {v.shape}."
        )
    return shared_if_equal(require(v, (known(v) >= 0).all(), "`variance` must not be negative."))


def log_weights(weights: ArrayLike | None, means: Array) -> Float[Array, " K"]:
    num_components = means.shape[0]
    if weights is None:
        return jnp.asarray(np.full(num_components, -np.log(num_components)), means.dtype)
    # Logarithms before the cast: a weight of 1e-300 is 0 in float32, its logarithm is -691.
    numpy: Any = np if is_concrete(weights) else jnp
    w = numpy.asarray(as_reals(weights, "weights") if numpy is np else weights, float)
    if w.shape != (num_components,):
        raise ValueError(
            f"`weights` must have shape ({num_components},), one a component; got {w.shape}."
        )
    total = w.sum()
    message = "`weights` must be non-negative and sum to 1"
    if is_concrete(total):
        message += f"; got a smallest of {w.min():.6g} and a sum of {total:.9g}"
    valid = numpy.all(numpy.isfinite(w) & (w >= 0)) & (abs(total - 1) <= 1e-5)
    w = require(w, valid, message + "; divide by their sum.")
    with np.errstate(divide="ignore"):
        return jnp.asarray(numpy.log(w / total), means.dtype)


def shared_if_equal(stack: Array | np.ndarray) -> Array:
    """One matrix instead of K where all are known to be equal."""
    seen = known(stack)
    same = is_concrete(stack) and (seen == seen[:1]).all()
    dtype = jax.dtypes.canonicalize_dtype(stack.dtype)  # single where JAX is, without its warning
    return jnp.asarray(seen[:1] if same else stack, dtype)


@np.errstate(over="ignore")
def extent(means: Float[Array, "K d"], largest: Float[Array, ""]) -> Float[Array, ""]:
    """The largest distance of means in a coordinate and the root of the largest eigenvalue."""
    seen = known(means)
    return jnp.asarray((seen.max(0) - seen.min(0)).max() + known(largest) ** 0.5, means.dtype)


def in_range(value: Array, size: Float[Array, ""]) -> Array:
    """The value, refused where squares of sizes or of inverse variances would overflow: `size` is the
    extent of the mixture. A point is no mixture to tell apart, and passes."""
    info = jnp.finfo(size.dtype)
    smallest, greatest = 1e3 * float(info.tiny) ** 0.25, float(info.max) ** 0.5 / 1e3
    return require(
        value,
        (known(size) == 0) | ((known(size) >= smallest) & (known(size) <= greatest)),
        f"A mixture must be wider than {smallest:.0e} and narrower than {greatest:.0e} in {size.dtype}: "
        "squares of its distances and of its inverse variances end there. Change the unit of length, or "
        "use float64.",
    )
