"""Compiled programs that take new shapes all the time, and how many of them are kept.

A program is compiled for the shapes of its arrays and takes some ten megabytes. JAX keeps every one for as
long as the process lives; here the `MOST` used last are kept, of all such functions together, and a shape
that comes back after more than that is compiled again.
"""

import functools
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import equinox as eqx
import jax

MOST = 48
_Function = TypeVar("_Function", bound=Callable[..., Any])


def program(function: _Function) -> _Function:
    """`function` compiled, as by `equinox.filter_jit`: arrays are traced, all else is hashed.

    What it returns must be a pytree of arrays.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        leaves, tree = jax.tree.flatten((args, kwargs))
        arrays = [leaf for leaf in leaves if eqx.is_array(leaf)]
        kinds = tuple(
            (None, leaf.shape, leaf.dtype) if eqx.is_array(leaf) else (type(leaf), leaf)
            for leaf in leaves
        )
        return _compiled(function, tree, kinds)(arrays)

    return call  # type: ignore[return-value]


def is_traced(*trees: Any) -> bool:
    """Whether a transformation of JAX holds back a value of theirs."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))


def refuse_traced(what: str, *trees: Any) -> None:
    """Refuse arguments of what runs on the host.

    Raises:
        ValueError: If the value of one is not known, under `jax.grad`, `jit` or `vmap`.
    """
    if is_traced(*trees):
        raise ValueError(
            f"{what} on the host, by the values of the mixture and of its levels, which `jax.grad`, `jit` "
            "and `vmap` hold back. There `class_entropy(..., method='exact')` takes mixtures with an "
            "integral or a statistic of at most three variables; of others average "
            "`sampling.monte_carlo.posterior_statistics` over fixed draws."
        )


@functools.lru_cache(maxsize=MOST)
def _compiled(
    function: Callable, tree: Hashable, kinds: tuple[tuple, ...]
) -> Callable[[list], Any]:
    """A function of its own for these shapes: what JAX has compiled for it goes with it."""

    def run(arrays: list) -> Any:
        left = iter(arrays)
        leaves = [next(left) if kind[0] is None else kind[1] for kind in kinds]
        args, kwargs = jax.tree.unflatten(tree, leaves)
        return function(*args, **kwargs)

    run.__name__ = run.__qualname__ = function.__name__
    return jax.jit(run)
