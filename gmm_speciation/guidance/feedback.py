"""Feedback guidance: towards a class, as much as the state needs it."""

import math
from dataclasses import dataclass
from typing import Any

import equinox as eqx
from jaxtyping import PyTree

from gmm_speciation.arrays import Level, like, scales, weights, zeros
from gmm_speciation.checks import require
from gmm_speciation.guidance.base import (
    Denoise,
    Guidance,
    Label,
    Parameter,
    States,
    number,
    plain_label,
)
from gmm_speciation.guidance.formulae import (
    classifier_free,
    feedback_floor,
    feedback_offset,
    feedback_scale,
    feedback_temperature,
    inside,
    published_levels,
)
from gmm_speciation.guidance.posteriors import PosteriorSource, TrackedRatio, check_source


@dataclass(frozen=True)
class FeedbackConstants:
    """The published constants of feedback guidance."""

    purity: float | int = 0.999
    """pi."""
    start: float | int = 0.556
    """t_0, the share of the steps left when the scale would reach 3 without evidence."""
    temperature: float | int | None = None
    """tau; by default `formulae.feedback_temperature` of the levels that the paper has for its number of
    them, sigma .002 to 80, and t_1 = .429. For other levels or another t_1 give its value. 1 is the tracked
    posterior itself."""
    max_scale: float | int = 10.0
    """Largest scale in all, reached at `log P_min`."""
    max_log_ratio: float | int = 3.0
    """Upper bound of log P."""


class Feedback(Guidance):
    """`D + (lambda + (w - 1) 1_interval) (D_c - D)`, `lambda = P / (P - (1 - pi))`.

    Koulischer et al. 2025 (arXiv 2506.06085). `purity` is pi, the share of the true class distribution in
    the learned one; 1 draws the class unguided. `scale` is w of a constant guidance on top, on levels in
    (low, high]: everywhere is their FBG_CFG, a limited interval FBG_LIG, 1 feedback alone. lambda is kept in
    [1, max_scale - w + 1]. The scale is found once a step: a further evaluation of Heun's method has that
    of the first, as published.

    Raises:
        ValueError: If a parameter is out of its range, or the posterior is that of another class.
    """

    label: Label = eqx.field(static=True, converter=plain_label)
    purity: Parameter = eqx.field(converter=number)
    posterior: PosteriorSource
    max_scale: Parameter = eqx.field(converter=number, default=1e3)
    scale: Parameter = eqx.field(converter=number, default=1.0)
    low: Parameter = eqx.field(converter=number, default=0.0)
    high: Parameter = eqx.field(converter=number, default=math.inf)
    remembers = True

    def __check_init__(self):
        check_source(self.label, self.posterior)
        require(
            self.purity,
            (self.purity > 0) & (self.purity <= 1) & (self.max_scale >= self.scale),
            "`purity` must lie in (0, 1] and `max_scale` not below `scale`; got "
            f"{self.purity}, {self.max_scale} and {self.scale}.",
        )

    @classmethod
    def tracked(
        cls,
        label: Label,
        *,
        num_steps: int,
        scale: float | int = 1.0,
        interval: tuple[float, float] = (0.0, math.inf),
        **constants: Any,
    ) -> "Feedback":
        """As published: P tracked from 1, with an offset a step, log P in [log P_min, 3].

        Args:
            label: The class.
            num_steps: Positive levels of the sampler, N.
            scale: w of a constant guidance on top.
            interval: (low, high] of noise per signal where it is.
            constants: Fields of `FeedbackConstants` that are to differ: `purity`, `start`, `temperature`,
                `max_scale`, `max_log_ratio`.

        Raises:
            ValueError: If a parameter is out of its range.
            TypeError: If a constant is unknown.
        """
        known = FeedbackConstants(**constants)
        offset = feedback_offset(known.purity, known.start, num_steps)
        floor = feedback_floor(known.purity, known.max_scale - scale + 1)
        temperature = known.temperature
        if temperature is None:
            levels = published_levels(num_steps)
            temperature = feedback_temperature(levels, known.purity, known.start)
        source = TrackedRatio(label, 1.0, temperature, offset, 0.0, floor, known.max_log_ratio)
        return cls(label, known.purity, source, known.max_scale, scale, *interval)

    @property
    def base_label(self) -> Label:
        return self.label

    def init(self, x: States) -> PyTree:
        return self.posterior.init(x), zeros(x) + 1

    def step(
        self, state: PyTree, x: States, level: Level, denoise: Denoise
    ) -> tuple[States, PyTree]:
        evidence, own = self.posterior.step(state[0], x, level, denoise)
        alpha, sigma = scales(level)
        acts = inside(sigma / alpha, like(x, self.low), like(x, self.high))
        purity, added = like(x, self.purity), like(x, self.scale) - 1
        scale = feedback_scale(evidence.log_ratio, purity, like(x, self.max_scale) - added)
        state = own, scale + added * acts
        return self.again(state, x, level, denoise), state

    def again(self, state: PyTree, x: States, level: Level, denoise: Denoise) -> States:
        return classifier_free(denoise(None), denoise(self.label), weights(state[1], x))
