"""The interface of a guidance kind, its wrapper around a model, and the kind that does nothing.

Conventions are those of the package: see `model_bridges.guidance`.
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model_bridges.denoiser import UNCONDITIONAL, Denoiser, Label, Sigma

Class = int | Int[Tensor, " B"] | None  # one for all states, one a state, or the whole law
Denoise = Callable[[Class], Tensor]


class Guidance(abc.ABC):
    """Interface of a guidance kind."""

    remembers: ClassVar[bool] = False  # whether the state must be kept up to date at every level

    @property
    def base_label(self) -> Class:
        """The class, or None for the whole law, that is drawn where this guidance does nothing."""
        return None

    def init(self, x: Float[Tensor, "B *event"]) -> Any:
        """State before the first step, at the noisiest level."""
        return ()

    @abc.abstractmethod
    def step(
        self, state: Any, x: Float[Tensor, "B *event"], sigma: float, denoise: Denoise
    ) -> tuple[Float[Tensor, "B *event"], Any]:
        """Guided posterior mean at `x` and the new state; the old one stays as it was."""


@final
@dataclass(frozen=True, eq=False)
class Unguided(Guidance):
    """The law as it is: of one class, or of all of them for `label=None`."""

    label: Class = None

    @property
    def base_label(self) -> Class:
        return self.label

    def step(
        self, state: Any, x: Float[Tensor, "B *event"], sigma: float, denoise: Denoise
    ) -> tuple[Float[Tensor, "B *event"], Any]:
        return denoise(self.label), state


def denoise_at(denoiser: Denoiser, x: Float[Tensor, "B *event"], sigma: float) -> Denoise:
    """Posterior means at one state by label; each is computed once."""
    known: dict[Any, Tensor] = {}

    def denoise(label: Class) -> Tensor:
        key = id(label) if isinstance(label, Tensor) else label
        if key not in known:
            given: Label
            if label is None:
                given = UNCONDITIONAL
            elif isinstance(label, Tensor):
                given = label
            else:
                given = torch.full((len(x),), label)
            known[key] = denoiser(x, sigma, given)
        return known[key]

    return denoise


@final
@dataclass(eq=False)
class Guided:
    """A guided model as a function `(x, sigma, label) -> posterior mean`, for samplers of one's own.

    The sampler must go from noise to signal and ask once a level, as first-order samplers do; a level that
    is not below the one before starts anew. Labels are the guidance's: the one given is not looked at.
    """

    denoiser: Denoiser
    guidance: Guidance
    _state: Any = field(default=None, init=False)
    _sigma: float = field(default=0.0, init=False)

    def __call__(
        self, x: Float[Tensor, "B *event"], sigma: Sigma, label: Label | None = None
    ) -> Float[Tensor, "B *event"]:
        """The guided posterior mean. Errors as those of the denoiser."""
        level = float(sigma)
        state = self.guidance.init(x) if level >= self._sigma else self._state
        result, self._state = self.guidance.step(
            state, x, level, denoise_at(self.denoiser, x, level)
        )
        self._sigma = level
        return result


def per_state(values: Float[Tensor, " B"], x: Float[Tensor, "B *event"]) -> Tensor:
    """`values`, one a state, shaped to multiply `x`."""
    return values.to(x).reshape(-1, *(1,) * (x.ndim - 1))
