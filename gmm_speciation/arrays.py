"""One arithmetic for arrays of two libraries: JAX's, and torch's tensors.

A formula that two libraries share takes its functions from the namespace of the array it is given,

    xp = namespace(x);    xp.where(x > 0, xp.log(x), 0.0)

with names that both have. torch is never imported here: who brings a tensor has it loaded.

Numbers beside an array are weak: in torch they stay Python's float64, in JAX they take the precision of the
states, so that a carry of `lax.scan` keeps its type.
"""

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

Level = tuple[Any, Any] | Any  # (alpha, sigma); sigma alone in EDM coordinates, where alpha is 1


def namespace(x: Any) -> Any:
    """The functions for `x`: the module `torch` for its tensors, `jax.numpy` for all else."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(x, torch.Tensor) else jnp


def softmaxes(x: Any) -> Any:
    """Where `logsumexp` and `log_softmax` for `x` are; both take the axis as second argument."""
    xp = namespace(x)
    return jax.nn if xp is jnp else xp


def like(x: Any, value: Any) -> Any:
    """A number or an array, to be used beside `x`: in its precision and on its device.

    torch gets a number as it is, a float.
    """
    if namespace(x) is jnp:
        return jnp.asarray(value, x.dtype)
    if np.ndim(value) == 0 and not hasattr(value, "to"):
        return float(value)
    return namespace(x).as_tensor(value if hasattr(value, "to") else np.array(value)).to(x)


def wide(x: Float[Any, "*shape"]) -> Float[Any, "*shape"]:
    """`x` in the precision that evidence is summed up in: float64 in torch, its own in JAX."""
    return x if namespace(x) is jnp else x.double()


def zeros(x: Float[Any, " n *event"]) -> Float[Any, " n"]:
    """One zero a state, in the precision of evidence."""
    return namespace(x).zeros_like(wide(x.reshape(len(x), -1)[:, 0]))


def weights(values: Float[Any, " n"], x: Float[Any, " n *event"]) -> Float[Any, " n *ones"]:
    """`values`, one a state, shaped to multiply the states."""
    return like(x, values).reshape(-1, *(1,) * (x.ndim - 1))


def per_state(x: Float[Any, " n *event"], value: Any) -> Any:
    """A number as `like`, or one a state, shaped to multiply the states.

    Fewer than states are each of as many that stand together, as the images of one prompt do.

    Raises:
        ValueError: If they have more than one axis, or their number does not divide that of the states.
    """
    if np.ndim(value) == 0:
        return like(x, value)
    copies, left = divmod(len(x), len(value))
    if left or not copies or np.ndim(value) > 1:
        raise ValueError(
            "Weights must be a number, or one a state or a group of them; got shape "
            f"{tuple(np.shape(value))} for {len(x)} states."
        )
    xp = namespace(x)
    return weights(xp.asarray(value)[xp.arange(len(x)) // copies], x)


def either(condition: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
    """`yes()` where the condition holds, else `no()`; of a Python bool only the one that is used."""
    if isinstance(condition, bool):
        return yes() if condition else no()
    return jnp.where(condition, yes(), no())


def scales(level: Level) -> tuple[Any, Any]:
    """`(alpha, sigma)` of a level."""
    return level if isinstance(level, tuple) else (1.0, level)
