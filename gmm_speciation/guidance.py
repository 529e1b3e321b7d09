"""Guidance: how a sampler bends the denoiser towards or away from classes.

A guidance is a pair of pure functions with a state in between,

    state = init(x)                                          before the first step
    denoised, state = step(state, x, level, denoise)         at every step

where `level = (alpha, sigma)` and `denoise(label)` gives the posterior mean at x: of class `label`,
or of the whole law for `None`. Samplers thread the state and know no kind by name; kinds without
memory carry an empty state. A guidance *scale* of 1 is unguided.
"""

import abc
from collections.abc import Callable

import equinox as eqx
from jaxtyping import Array, Float, PyTree

Denoise = Callable[[int | None], Array]


class Guidance(eqx.Module):
    """Interface of a guidance kind."""

    @abc.abstractmethod
    def init(self, x: Float[Array, "n d"]) -> PyTree:
        """State before the first step, at the noisiest level."""

    @abc.abstractmethod
    def step(
        self, state: PyTree, x: Float[Array, "n d"], level: tuple, denoise: Denoise
    ) -> tuple[Float[Array, "n d"], PyTree]:
        """Guided posterior mean at `x` and the new state."""


class Unguided(Guidance):
    """The law as it is: of one class, or of the whole mixture for `label=None`."""

    label: int | None = eqx.field(static=True, default=None)

    def init(self, x: Float[Array, "n d"]) -> PyTree:
        return ()

    def step(
        self, state: PyTree, x: Float[Array, "n d"], level: tuple, denoise: Denoise
    ) -> tuple[Float[Array, "n d"], PyTree]:
        return denoise(self.label), state
