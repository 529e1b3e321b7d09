"""Feedback guidance: towards a class, as much as the state needs it."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from gmm_speciation.guidance.formulae import (
    feedback_floor,
    feedback_offset,
    feedback_temperature,
    published_levels,
)
from model_bridges.guidance.base import Class, Denoise, Guidance, per_state
from model_bridges.guidance.positive import classifier_free
from model_bridges.guidance.posteriors import PosteriorSource, TrackedRatio


@final
@dataclass(frozen=True, eq=False)
class Feedback(Guidance):
    """`D + (lambda + (w - 1) 1_interval) (D_c - D)`, `lambda = P / (P - (1 - pi))`.

    Koulischer et al. 2025 (arXiv 2506.06085). `purity` is pi, the share of the true class distribution in
    the learned one; 1 draws the class unguided. `scale` is w of a constant guidance on top, on levels in
    (low, high]: everywhere is their FBG_CFG, a limited interval FBG_LIG, 1 feedback alone. lambda is kept in
    [1, max_scale - w + 1]. The scale is found once a step: a further evaluation of Heun's method has that
    of the first, as published.
    """

    label: Class
    purity: float | int
    posterior: PosteriorSource
    max_scale: float | int = 1e3
    scale: float | int = 1.0
    low: float | int = 0.0
    high: float | int = math.inf
    remembers: ClassVar[bool] = True

    @classmethod
    def tracked(
        cls,
        label: Class,
        *,
        num_steps: int,
        purity: float | int = 0.999,
        start: float | int = 0.556,
        temperature: float | int | None = None,
        max_scale: float | int = 10.0,
        max_log_ratio: float | int = 3.0,
        scale: float | int = 1.0,
        interval: tuple[float, float] = (0.0, math.inf),
    ) -> "Feedback":
        """As published; arguments and errors as `gmm_speciation.guidance.Feedback.tracked`."""
        offset = feedback_offset(purity, start, num_steps)
        floor = feedback_floor(purity, max_scale - scale + 1)
        if temperature is None:
            temperature = feedback_temperature(published_levels(num_steps), purity, start)
        source = TrackedRatio(label, 1.0, temperature, offset, 0.0, floor, max_log_ratio)
        return cls(label, purity, source, max_scale, scale, *interval)

    @property
    def base_label(self) -> Class:
        return self.label

    def init(self, x: Float[Tensor, "B *event"]) -> Any:
        return self.posterior.init(x), x.new_ones(len(x), dtype=torch.float64)

    def step(
        self, state: Any, x: Float[Tensor, "B *event"], sigma: float, denoise: Denoise
    ) -> tuple[Float[Tensor, "B *event"], Any]:
        evidence, own = self.posterior.step(state[0], x, sigma, denoise)
        added = self.scale - 1
        inverse = 1 - (1 - self.purity) * (-evidence.log_ratio).exp()
        scale = 1 / inverse.clamp(1 / (self.max_scale - added), 1.0)
        state = own, scale + (added if self.low < sigma <= self.high else 0.0)
        return self.again(state, x, sigma, denoise), state

    def again(
        self, state: Any, x: Float[Tensor, "B *event"], sigma: float, denoise: Denoise
    ) -> Float[Tensor, "B *event"]:
        return classifier_free(denoise(None), denoise(self.label), per_state(state[1], x))
