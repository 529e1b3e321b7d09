"""The interface of a guidance kind, its wrapper around a model, and the kind that does nothing.

Conventions are those of the package: see `model_bridges.guidance`.
"""

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model_bridges.denoisers.base import UNCONDITIONAL, Denoiser, Label, Sigma

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

    def again(
        self, state: Any, x: Float[Tensor, "B *event"], sigma: float, denoise: Denoise
    ) -> Float[Tensor, "B *event"]:
        """Guided posterior mean at a further evaluation of a step, as the second of Heun's method.

        `state` is the one after the step's first evaluation, and stays. What a kind decides once a step
        is as decided there.
        """
        return self.step(state, x, sigma, denoise)[0]


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


class Threaded:
    """A guidance's state along one run, from noise to signal: it moves on once a level.

    At a level met again, as by samplers that go back to a step's end to correct it, the guidance acts from
    the state ahead of the level. An evaluation that is `provisional`, the further one of a step whose state
    the sampler does not keep, is guided as its step was and leaves no mark.
    """

    def __init__(self, guidance: Guidance):
        self.guidance = guidance
        self.sigma = math.inf  # the level reached
        self._before: Any = None  # the guidance's state ahead of it
        self._after: Any = None

    def __call__(
        self,
        x: Float[Tensor, "B *event"],
        sigma: float,
        denoise: Denoise,
        provisional: bool = False,
    ) -> Float[Tensor, "B *event"]:
        """The guided posterior mean at a level not above the one reached."""
        if self.sigma == math.inf:
            self._after = self.guidance.init(x)
        if provisional:
            return self.guidance.again(self._after, x, sigma, denoise)
        if sigma < self.sigma:
            self._before, self.sigma = self._after, sigma
        guided, self._after = self.guidance.step(self._before, x, sigma, denoise)
        return guided


@final
@dataclass(eq=False)
class Guided:
    """A guided model as a function `(x, sigma, label) -> posterior mean`, for samplers of one's own.

    The sampler must go from noise to signal; the guidance's state moves on once a level, see `Threaded`. A
    level above the one before, or states of another shape, start anew. Labels are the guidance's: the one
    given is not looked at.

    Args:
        denoiser: The model.
        guidance: Its guidance.
        second_order: Say so for a sampler that asks twice a step, as Heun's method: every second evaluation
            from the start of a run is then guided as the one before it, as in `samplers.sample`. A function
            of x and sigma cannot tell.
    """

    denoiser: Denoiser
    guidance: Guidance
    second_order: bool = False
    _run: Threaded | None = field(default=None, init=False)
    _shape: tuple[int, ...] = field(default=(), init=False)
    _first: bool = field(default=True, init=False)  # of its step

    def __call__(
        self, x: Float[Tensor, "B *event"], sigma: Sigma, label: Label | None = None
    ) -> Float[Tensor, "B *event"]:
        """The guided posterior mean. Errors as those of the denoiser."""
        level = float(sigma)
        if self._run is None or level > self._run.sigma or x.shape != self._shape:
            self._run, self._shape, self._first = Threaded(self.guidance), x.shape, True
        provisional = self.second_order and not self._first
        self._first = provisional or not self.second_order
        return self._run(x, level, denoise_at(self.denoiser, x, level), provisional)


def per_state(values: Float[Tensor, " B"], x: Float[Tensor, "B *event"]) -> Tensor:
    """`values`, one a state, shaped to multiply `x`."""
    return values.to(x).reshape(-1, *(1,) * (x.ndim - 1))
