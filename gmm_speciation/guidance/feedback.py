"""Feedback guidance: towards a class, as much as the state needs it."""

import equinox as eqx
from jaxtyping import Array, Float, PyTree

from gmm_speciation.guidance.base import Denoise, Guidance, Parameter, like, parameter
from gmm_speciation.guidance.formulae import (
    classifier_free,
    feedback_floor,
    feedback_offset,
    feedback_scale,
)
from gmm_speciation.guidance.posteriors import PosteriorSource, TrackedRatio


class Feedback(Guidance):
    """`D + P / (P - (1 - pi)) (D_c - D)`: Koulischer et al. 2025 (arXiv 2506.06085).

    `purity` is pi, the share of the true class law in the learned one; 1 draws the class unguided. The
    scale is kept in [1, max_scale].
    """

    label: int = eqx.field(static=True)
    purity: Parameter = eqx.field(converter=parameter)
    posterior: PosteriorSource
    max_scale: Parameter = eqx.field(converter=parameter, default=1e3)

    @classmethod
    def tracked(
        cls,
        label: int,
        *,
        num_steps: int,
        purity: float | int = 0.999,
        start: float | int = 0.556,
        temperature: float | int = 1.0,
        max_scale: float | int = 10.0,
        max_log_ratio: float | int = 3.0,
    ) -> "Feedback":
        """As published: P tracked from 1, with an offset a step, log P in [log P_min, 3].

        Args:
            label: The class.
            num_steps: Steps of the sampler.
            purity: pi.
            start: t_0, the share of the steps left when the scale would reach 3 without evidence.
            temperature: tau; the published code derives it from a second time t_1.
            max_scale: Scale at `log P_min`.
            max_log_ratio: Upper bound of log P.

        Raises:
            ValueError: If a parameter is out of its range.
        """
        offset, floor = (
            feedback_offset(purity, start, num_steps),
            feedback_floor(purity, max_scale),
        )
        source = TrackedRatio(label, 1.0, temperature, offset, 0.0, floor, max_log_ratio)
        return cls(label, purity, source, max_scale)

    @property
    def base_label(self) -> int | None:
        return self.label

    def init(self, x: Float[Array, "n d"]) -> PyTree:
        return self.posterior.init(x)

    def step(
        self, state: PyTree, x: Float[Array, "n d"], level: tuple, denoise: Denoise
    ) -> tuple[Float[Array, "n d"], PyTree]:
        evidence, state = self.posterior.step(state, x, level, denoise)
        purity, most = like(x, self.purity), like(x, self.max_scale)
        scale = feedback_scale(evidence.log_ratio, purity, most)[:, None]
        return classifier_free(denoise(None), denoise(self.label), scale), state
