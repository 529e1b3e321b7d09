"""Checks of values: one rule for concrete and traced arrays.

A concrete bad value raises `ValueError` at once. Under `jit`, where no value is known yet, the
check travels with the computation (`equinox.error_if`); its message reads well under
`equinox.filter_jit`.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# What a user may hand over as numbers; numpy's own alias cannot be checked at run time.
ArrayLike = jax.Array | np.ndarray | np.number | float | int | Sequence[Any]


def is_concrete(x: Any) -> bool:
    """Whether the values of `x` are known now, outside any trace."""
    return not isinstance(x, jax.core.Tracer)


def require(x: Any, condition: Any, message: str) -> Any:
    """Return `x` if `condition` holds everywhere, else raise `ValueError(message)`.

    Args:
        x: Any array; returned unchanged, so that a traced check stays in the computation.
        condition: Boolean array computed from `x`.
        message: What was expected and what to do; the values that came are for the caller to add.

    Raises:
        ValueError: If `condition` is concrete and false somewhere.
    """
    if is_concrete(condition):
        if not np.all(np.asarray(condition)):
            raise ValueError(message)
        return x
    return eqx.error_if(x, jnp.logical_not(condition), message)


def as_float_array(x: Any, name: str) -> Float[Array, "..."]:
    """`x` as a floating JAX array without NaN.

    Raises:
        ValueError: If an entry is NaN or cannot be read as a number.
    """
    try:
        x = jnp.asarray(x)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must be numeric; {error}.") from error
    if not jnp.issubdtype(x.dtype, jnp.floating):
        if not (jnp.issubdtype(x.dtype, jnp.integer) or x.dtype == bool):
            raise ValueError(f"`{name}` must be real numbers; got dtype {x.dtype}.")
        x = x.astype(jnp.result_type(float))
    return require(
        x, ~jnp.any(jnp.isnan(x)), f"`{name}` must not contain NaN; drop or impute such entries."
    )


def decreasing_grid(log_snr: Any) -> Float[Array, " T"]:
    """A strictly decreasing, finite, one-dimensional log-SNR grid: from signal to noise.

    Raises:
        ValueError: If the grid is not one-dimensional, finite and strictly decreasing.
    """
    grid = as_float_array(log_snr, "log_snr")
    if grid.ndim != 1 or grid.shape[0] < 2:
        raise ValueError(
            f"`log_snr` must be one-dimensional with at least two points; got shape {grid.shape}."
        )
    grid = require(grid, jnp.all(jnp.isfinite(grid)), "`log_snr` must be finite on a curve's grid.")
    return require(
        grid,
        jnp.all(jnp.diff(grid) < 0),
        "`log_snr` must decrease strictly, from signal to noise; sort it with `np.sort(...)[::-1]` "
        "and drop repeated points.",
    )
