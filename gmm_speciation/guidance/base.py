"""The interface of a guidance kind, and the kind that does nothing.

Conventions are those of the package: see `gmm_speciation.guidance`.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from gmm_speciation.arrays import Level
from gmm_speciation.checks import as_reals, is_concrete

Label = int | Int[Any, " n"] | None  # a class for all states, one a state (torch), the whole
States = Float[Any, " n *event"]  # of JAX, of torch
Denoise = Callable[[Any], Any]  # a label's posterior mean at x


def plain_label(label: Label) -> Label:
    """An integer of numpy as Python's: a static field takes no arrays."""
    return label.item() if isinstance(label, np.generic) else label


class AbstractGuidance(abc.ABC):
    """Interface of a guidance kind; for classes of one's own that are no pytrees."""

    remembers: bool = False  # whether the state must be kept up to date at every level

    @property
    def base_label(self) -> Label:
        """The class, or None for the whole law, that is drawn where this guidance does nothing."""
        return None

    def init(self, x: States) -> PyTree:
        """State before the first step, at the noisiest level."""
        return ()

    @abc.abstractmethod
    def step(
        self, state: PyTree, x: States, level: Level, denoise: Denoise
    ) -> tuple[States, PyTree]:
        """Guided posterior mean at `x` and the new state; the old one stays as it was."""

    def again(self, state: PyTree, x: States, level: Level, denoise: Denoise) -> States:
        """Guided posterior mean at a further evaluation of a step, as the second of Heun's method.

        `state` is the one after the step's first evaluation, and stays. What a kind decides once a step
        is as decided there.
        """
        return self.step(state, x, level, denoise)[0]

    def asks(self, state: PyTree, level: Level, further: bool = False) -> tuple[Label, ...] | None:
        """The labels that an evaluation at a known level asks `denoise` for; `None`: not known, any.

        Who must prepare a network's batch before it is evaluated leaves the others out.

        Args:
            state: Of `step`, or of `again` at a `further` evaluation; `()` before the first step.
            level: Where.
            further: Whether it is one of `again`.
        """
        return None


class Guidance(AbstractGuidance, eqx.Module):
    """A guidance kind that is a pytree: JAX compiles it, torch calls it."""

    __eq__, __hash__ = object.__eq__, object.__hash__  # keys of a dictionary, whatever their leaves


class Unguided(Guidance):
    """The law as it is: of one class, or of the whole mixture for `label=None`."""

    label: Label = eqx.field(static=True, converter=plain_label, default=None)

    @property
    def base_label(self) -> Label:
        return self.label

    def step(
        self, state: PyTree, x: States, level: Level, denoise: Denoise
    ) -> tuple[States, PyTree]:
        return denoise(self.label), state

    def asks(self, state: PyTree, level: Level, further: bool = False) -> tuple[Label, ...] | None:
        return (self.label,)


Parameter = Float[Array, ""] | Float[np.ndarray, ""] | float  # given as a number, kept as an array

# The same, or one a state; with fewer, each is of as many states that stand together, images of a prompt.
Scale = Parameter | Float[Array, " groups"] | Float[np.ndarray, " groups"]


def parameter(value: Any) -> Any:
    """A strength as a leaf, in float64: a new value is new data to compiled code, not a new program.

    Raises:
        ValueError: If it is not real, or, where it is known, not finite.
    """
    return _leaf(value, np.isfinite, "Scales and strengths of guidance must be finite")


def number(value: Any) -> Any:
    """As `parameter`, for one that is of all states and may be infinite.

    Raises:
        ValueError: If it has an axis, which would broadcast against states or coordinates, or is NaN.
    """
    if np.ndim(value):
        raise ValueError(f"Parameters of all states must be numbers; got shape {np.shape(value)}.")
    return _leaf(value, lambda known: ~np.isnan(known), "Parameters of guidance must be numbers")


def _leaf(value: Any, allowed: Callable[[np.ndarray], np.ndarray], message: str) -> Any:
    if not is_concrete(value):
        return jnp.asarray(value, float)
    known = np.asarray(as_reals(value, "a parameter of guidance", flags=False), float)
    if not np.all(allowed(known)):
        raise ValueError(f"{message}; got {value}.")
    return jnp.asarray(value, float) if isinstance(value, jax.Array) else known
