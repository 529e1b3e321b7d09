"""Products, roots and rows that every covariance uses."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Batch = Float[Array, "*batch d"]
Weights = Float[Array, "*batch K"]
Offsets = Float[Array, "K d"]


def safe_sqrt(x: Array) -> Array:
    """Square root with gradient 0, not infinity, at 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def product(x: Array, y: Array) -> Array:
    """Matrix product at the full precision of the inputs, also off the CPU."""
    return jnp.matmul(x, y, precision=jax.lax.Precision.HIGHEST)


def as_row(vector: Array, batched: Array) -> Array:
    """`vector` with the rank of `batched`, to go along its last axis."""
    return vector.reshape((1,) * (batched.ndim - 1) + (-1,))


def add_row(batched: Array, row: Array) -> Array:
    """`batched + row` along the last axis, ranks matched explicitly."""
    return batched + as_row(row, batched)
