"""The interface of a guidance kind, and the kind that does nothing.

Conventions are those of the package: see `gmm_speciation.guidance`.
"""

import abc
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from gmm_speciation.checks import ArrayLike

Denoise = Callable[[int | None], Array]


class Guidance(eqx.Module):
    """Interface of a guidance kind."""

    @property
    def base_label(self) -> int | None:
        """The class, or None for the whole law, that is drawn where this guidance does nothing."""
        return None

    @abc.abstractmethod
    def init(self, x: Float[Array, "n d"]) -> PyTree:
        """State before the first step, at the noisiest level."""

    @abc.abstractmethod
    def step(
        self, state: PyTree, x: Float[Array, "n d"], level: tuple, denoise: Denoise
    ) -> tuple[Float[Array, "n d"], PyTree]:
        """Guided posterior mean at `x` and the new state."""

    def again(
        self, state: PyTree, x: Float[Array, "n d"], level: tuple, denoise: Denoise
    ) -> Float[Array, "n d"]:
        """Guided posterior mean at a further evaluation of a step, as the second of Heun's method.

        `state` is the one after the step's first evaluation, and stays. What a kind decides once a step
        is as decided there.
        """
        return self.step(state, x, level, denoise)[0]


class Unguided(Guidance):
    """The law as it is: of one class, or of the whole mixture for `label=None`."""

    label: int | None = eqx.field(static=True, default=None)

    @property
    def base_label(self) -> int | None:
        return self.label

    def init(self, x: Float[Array, "n d"]) -> PyTree:
        return ()

    def step(
        self, state: PyTree, x: Float[Array, "n d"], level: tuple, denoise: Denoise
    ) -> tuple[Float[Array, "n d"], PyTree]:
        return denoise(self.label), state


Parameter = Float[Array, ""] | float  # given as a number, kept as an array


def parameter(value: ArrayLike) -> Float[Array, ""]:
    """A number as a leaf: a new value is new data to compiled code, not a new program."""
    return jnp.asarray(value, float)


def like(x: Array, value: Parameter) -> Float[Array, ""]:
    """A parameter in the precision of the states."""
    return jnp.asarray(value, x.dtype)
