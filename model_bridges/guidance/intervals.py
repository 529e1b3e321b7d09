"""Guidance in a limited interval of noise (Kynkaanniemi et al. 2024, arXiv 2404.07724).

The interval is in sigma of EDM coordinates, noise per signal, whatever the model's own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from model_bridges.guidance.base import Class, Denoise, Guidance


@final
@dataclass(frozen=True, eq=False)
class Interval(Guidance):
    """A guidance that acts where `low < sigma <= high`; its unguided law elsewhere, at its lower cost.

    It is decided once a step, at the level that the step leaves, as published: the second evaluation of
    Heun's method follows the first. The published code of Koulischer et al. 2025 (arXiv 2506.06085) has
    intervals open at both ends. A guidance with a memory keeps it up to date outside the interval, too.

    Raises:
        ValueError: If not `0 <= low < high`.
    """

    guidance: Guidance
    low: float | int
    high: float | int

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high:
            raise ValueError(
                "An interval of noise needs 0 <= low < high; give sigma, not log-SNR; got "
                f"({self.low}, {self.high}]."
            )

    @property
    def remembers(self) -> bool:  # type: ignore[override]
        return self.guidance.remembers

    @property
    def base_label(self) -> Class:
        return self.guidance.base_label

    @property
    def log_snr(self) -> tuple[float, float]:
        """Noisy and clean end as log-SNR, `-2 log sigma`."""
        low = math.inf if self.low == 0 else -2 * math.log(self.low)
        return -2 * math.log(self.high), low

    def contains(self, sigma: float) -> bool:
        """Whether guidance acts at this noise level."""
        return bool(self.low < sigma <= self.high)

    def guided_steps(self, sigmas: Sequence[float] | Tensor) -> Bool[np.ndarray, " S"]:
        """Which steps of a sampler on decreasing `sigmas` are guided: a step has the noise it leaves."""
        return np.array([self.contains(float(sigma)) for sigma in sigmas[:-1]])

    def init(self, x: Float[Tensor, "B *event"]) -> Any:
        return self.guidance.init(x), False

    def step(
        self, state: Any, x: Float[Tensor, "B *event"], sigma: float, denoise: Denoise
    ) -> tuple[Float[Tensor, "B *event"], Any]:
        acts = self.contains(sigma)
        if not acts and not self.guidance.remembers:
            return denoise(self.base_label), (state[0], acts)
        guided, own = self.guidance.step(state[0], x, sigma, denoise)
        return guided if acts else denoise(self.base_label), (own, acts)

    def again(
        self, state: Any, x: Float[Tensor, "B *event"], sigma: float, denoise: Denoise
    ) -> Float[Tensor, "B *event"]:
        own, acts = state
        return self.guidance.again(own, x, sigma, denoise) if acts else denoise(self.base_label)
