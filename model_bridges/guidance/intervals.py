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

    A guidance with a memory keeps it up to date outside the interval, too.

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
        return self.guidance.init(x)

    def step(
        self, state: Any, x: Float[Tensor, "B *event"], sigma: float, denoise: Denoise
    ) -> tuple[Float[Tensor, "B *event"], Any]:
        if self.contains(sigma):
            return self.guidance.step(state, x, sigma, denoise)
        if self.guidance.remembers:
            _, state = self.guidance.step(state, x, sigma, denoise)
        return denoise(self.base_label), state
