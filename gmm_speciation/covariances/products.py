"""Products, roots and rows that every covariance uses."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Batch = Float[Array, "*batch d"]
Weights = Float[Array, "*batch K"]
Offsets = Float[Array, "K d"]
_BLOCK = 64  # rows


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


def by_group(
    function: Callable[[Array, Array], Array],
    rows: Float[Array, "*batch d"],
    index: Int[Array, "*batch"],
    num_groups: int,
) -> Float[Array, "*batch d"]:
    """`function(k, rows)` of the rows with `index` k, for every k: as many rows at once as belong together.

    Groups are filled up to blocks of one size, so that n rows in K groups take less than n + K blocks.
    """
    flat, owner = rows.reshape(-1, rows.shape[-1]), index.reshape(-1)
    size = min(max(len(owner) // num_groups, 1), _BLOCK)
    number = len(owner) // size + num_groups
    blocks = -(-jnp.bincount(owner, length=num_groups) // size)
    ends = jnp.cumsum(blocks)
    order = jnp.argsort(owner, stable=True)
    ranked = owner[order]
    place = jnp.arange(len(owner)) - jnp.searchsorted(ranked, ranked)  # inside its own group
    place = place + size * (ends - blocks)[ranked]
    filled = jnp.zeros((number * size, flat.shape[1]), rows.dtype).at[place].set(flat[order])
    of_block = jnp.minimum(jnp.searchsorted(ends, jnp.arange(number), side="right"), num_groups - 1)
    made = jax.lax.map(
        lambda one: function(*one), (of_block, filled.reshape(number, size, flat.shape[1]))
    )
    found = made.reshape(number * size, -1)[place]
    return jnp.zeros_like(flat).at[order].set(found).reshape(rows.shape)
