"""Feedback guidance: towards a class, as much as the state needs it."""

from dataclasses import dataclass
from typing import Any, ClassVar, final

from jaxtyping import Float
from torch import Tensor

from gmm_speciation.guidance.formulae import feedback_floor, feedback_offset
from model_bridges.guidance.base import Class, Denoise, Guidance, per_state
from model_bridges.guidance.positive import classifier_free
from model_bridges.guidance.posteriors import PosteriorSource, TrackedRatio


@final
@dataclass(frozen=True, eq=False)
class Feedback(Guidance):
    """`D + P / (P - (1 - pi)) (D_c - D)`: Koulischer et al. 2025 (arXiv 2506.06085).

    `purity` is pi, the share of the true class law in the learned one; 1 draws the class unguided. The
    scale is kept in [1, max_scale].
    """

    label: Class
    purity: float | int
    posterior: PosteriorSource
    max_scale: float | int = 1e3
    remembers: ClassVar[bool] = True

    @classmethod
    def tracked(
        cls,
        label: Class,
        *,
        num_steps: int,
        purity: float | int = 0.999,
        start: float | int = 0.556,
        temperature: float | int = 1.0,
        max_scale: float | int = 10.0,
        max_log_ratio: float | int = 3.0,
    ) -> "Feedback":
        """As published; arguments and errors as `gmm_speciation.guidance.Feedback.tracked`."""
        offset, floor = (
            feedback_offset(purity, start, num_steps),
            feedback_floor(purity, max_scale),
        )
        source = TrackedRatio(label, 1.0, temperature, offset, 0.0, floor, max_log_ratio)
        return cls(label, purity, source, max_scale)

    @property
    def base_label(self) -> Class:
        return self.label

    def init(self, x: Float[Tensor, "B *event"]) -> Any:
        return self.posterior.init(x)

    def step(
        self, state: Any, x: Float[Tensor, "B *event"], sigma: float, denoise: Denoise
    ) -> tuple[Float[Tensor, "B *event"], Any]:
        evidence, state = self.posterior.step(state, x, sigma, denoise)
        inverse = 1 - (1 - self.purity) * (-evidence.log_ratio).exp()
        scale = 1 / inverse.clamp(1 / self.max_scale, 1.0)
        return classifier_free(denoise(None), denoise(self.label), per_state(scale, x)), state
