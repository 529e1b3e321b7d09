"""A guidance on a model: its denoisers by label, its state along a run, a guided model as a function.

Conventions are those of the package: see `model_bridges.guidance`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gmm_speciation.guidance import AbstractGuidance as Guidance
from gmm_speciation.guidance.posteriors import check_classes
from model_bridges.denoisers.base import UNCONDITIONAL, Denoiser, Label, Sigma, own_mean
from model_bridges.pipelines.schedulers import Level

Class = int | Int[Tensor, " B"] | None  # one for all states, one a state, or the whole law
Denoise = Callable[[Class], Tensor]


def denoise_at(denoiser: Denoiser, x: Float[Tensor, "B *event"], sigma: float) -> Denoise:
    """Posterior means at one state by label; each is computed once.

    Labels are told apart by what they hold: a tensor may be filled anew, or its place in memory be reused.
    """
    known: list[tuple[Class, Tensor]] = []

    def denoise(label: Class) -> Tensor:
        for held, output in known:
            if _same(held, label):
                return output
        given: Label
        if label is None:
            given = UNCONDITIONAL
        elif isinstance(label, Tensor):
            given = label.to(x.device)
        else:
            given = torch.full((len(x),), label, device=x.device)
        output = own_mean(denoiser, x, sigma, given)
        known.append((label.clone() if isinstance(label, Tensor) else label, output))
        return output

    return denoise


def _same(held: Class, label: Class) -> bool:
    if isinstance(held, Tensor) and isinstance(label, Tensor):
        return held.device == label.device and torch.equal(held, label)
    return not isinstance(held, Tensor) and not isinstance(label, Tensor) and held == label


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

    def asks(self, sigma: float, provisional: bool = False) -> tuple[Class, ...] | None:
        """The labels that the next call will ask for; `None` where that is not known."""
        state = () if self.sigma == math.inf else self._after
        return self.guidance.asks(state, sigma, provisional)

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

    def output(
        self, states: Tensor, level: Level, output_of: Callable[[Class], Tensor]
    ) -> Float[Tensor, "B *event"]:
        """What a network would return for its `states` if it were the guided one.

        Args:
            states: As the network sees them, `scale x`.
            level: Where they are.
            output_of: What the network returns for a label.
        """
        x = states.to(torch.promote_types(states.dtype, torch.float32)) / level.scale

        def denoise(label: Class) -> Tensor:
            return level.skip * x + level.out * output_of(label).to(x)

        guided = self(x, level.sigma, denoise, level.provisional)
        return (guided - level.skip * x) / level.out


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

    Raises:
        ValueError: If the guidance tracks not all classes of the model or its posterior has others.
    """

    denoiser: Denoiser
    guidance: Guidance
    second_order: bool = False
    _run: Threaded | None = field(default=None, init=False)
    _shape: tuple[int, ...] = field(default=(), init=False)
    _first: bool = field(default=True, init=False)  # of its step

    def __post_init__(self) -> None:
        check_classes(self.guidance, self.denoiser.num_classes)

    @property
    def device(self) -> torch.device | str | None:
        """Where the model computes, if it says so."""
        return getattr(self.denoiser, "device", None)

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
