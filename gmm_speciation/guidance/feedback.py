"""Feedback guidance: towards a class, as much as the state needs it."""

import math

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from gmm_speciation.guidance.base import Denoise, Guidance, Parameter, like, parameter
from gmm_speciation.guidance.formulae import (
    classifier_free,
    feedback_floor,
    feedback_offset,
    feedback_scale,
    feedback_temperature,
    inside,
    published_levels,
)
from gmm_speciation.guidance.posteriors import PosteriorSource, TrackedRatio


class Feedback(Guidance):
    """`D + (lambda + (w - 1) 1_interval) (D_c - D)`, `lambda = P / (P - (1 - pi))`.

    Koulischer et al. 2025 (arXiv 2506.06085). `purity` is pi, the share of the true class distribution in
    the learned one; 1 draws the class unguided. `scale` is w of a constant guidance on top, on levels in
    (low, high]: everywhere is their FBG_CFG, a limited interval FBG_LIG, 1 feedback alone. lambda is kept in
    [1, max_scale - w + 1]. The scale is found once a step: a further evaluation of Heun's method has that
    of the first, as published.
    """

    label: int = eqx.field(static=True)
    purity: Parameter = eqx.field(converter=parameter)
    posterior: PosteriorSource
    max_scale: Parameter = eqx.field(converter=parameter, default=1e3)
    scale: Parameter = eqx.field(converter=parameter, default=1.0)
    low: Parameter = eqx.field(converter=parameter, default=0.0)
    high: Parameter = eqx.field(converter=parameter, default=math.inf)

    @classmethod
    def tracked(
        cls,
        label: int,
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
        """As published: P tracked from 1, with an offset a step, log P in [log P_min, 3].

        Args:
            label: The class.
            num_steps: Positive levels of the sampler, N.
            purity: pi.
            start: t_0, the share of the steps left when the scale would reach 3 without evidence.
            temperature: tau; by default `formulae.feedback_temperature` of the levels that the paper has for
                this N, sigma .002 to 80, and t_1 = .429. For other levels or another t_1 give its value.
                1 is the tracked posterior itself.
            max_scale: Largest scale in all, reached at `log P_min`.
            max_log_ratio: Upper bound of log P.
            scale: w of a constant guidance on top.
            interval: (low, high] of noise per signal where it is.

        Raises:
            ValueError: If a parameter is out of its range.
        """
        offset = feedback_offset(purity, start, num_steps)
        floor = feedback_floor(purity, max_scale - scale + 1)
        if temperature is None:
            temperature = feedback_temperature(published_levels(num_steps), purity, start)
        source = TrackedRatio(label, 1.0, temperature, offset, 0.0, floor, max_log_ratio)
        return cls(label, purity, source, max_scale, scale, *interval)

    @property
    def base_label(self) -> int | None:
        return self.label

    def init(self, x: Float[Array, "n d"]) -> PyTree:
        return self.posterior.init(x), jnp.ones(x.shape[:1], x.dtype)

    def step(
        self, state: PyTree, x: Float[Array, "n d"], level: tuple, denoise: Denoise
    ) -> tuple[Float[Array, "n d"], PyTree]:
        evidence, own = self.posterior.step(state[0], x, level, denoise)
        alpha, sigma = level
        acts = inside(sigma / alpha, like(x, self.low), like(x, self.high))
        purity, added = like(x, self.purity), like(x, self.scale) - 1
        scale = feedback_scale(evidence.log_ratio, purity, like(x, self.max_scale) - added)
        state = own, scale + jnp.where(acts, added, 0.0)
        return self.again(state, x, level, denoise), state

    def again(
        self, state: PyTree, x: Float[Array, "n d"], level: tuple, denoise: Denoise
    ) -> Float[Array, "n d"]:
        return classifier_free(denoise(None), denoise(self.label), state[1][:, None])
