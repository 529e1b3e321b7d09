"""Guidance in a limited interval of noise (Kynkaanniemi et al. 2024, arXiv 2404.07724).

The interval is in noise per signal, sigma / alpha, which is sigma in EDM coordinates and
`exp(-log_snr / 2)` on any process; a process turns it into the steps of a sampler.
"""

import warnings
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Bool, PyTree

from gmm_speciation.arrays import Level, either, like, scales
from gmm_speciation.checks import ArrayLike, as_axis, is_concrete, require
from gmm_speciation.guidance.base import (
    AbstractGuidance,
    Denoise,
    Guidance,
    Label,
    Parameter,
    States,
    Unguided,
    number,
)
from gmm_speciation.guidance.formulae import inside
from gmm_speciation.processes import DiffusionProcess


class Interval(Guidance):
    """A guidance that acts where `low < sigma / alpha <= high`; `outside` acts elsewhere.

    `outside` is another guidance, such as a constant one that goes on while a negative term is limited; by
    default the unguided law of the first.

    It is decided once a step, at the level that the step leaves, as published: the second evaluation of
    Heun's method follows the first. The published code of Koulischer et al. 2025 (arXiv 2506.06085) has
    intervals open at both ends. A guidance with a memory keeps it up to date outside the interval, too;
    there one without costs no more than its unguided law, where the level is known and not traced.

    Raises:
        ValueError: If not `0 <= low < high`.
    """

    guidance: AbstractGuidance
    low: Parameter = eqx.field(converter=number)
    high: Parameter = eqx.field(converter=number)
    outside: AbstractGuidance | None = None

    def __check_init__(self):
        require(
            self.high,
            (self.low >= 0) & (self.high > self.low),
            "An interval of noise per signal needs 0 <= low < high; give sigma, not log-SNR; got "
            f"({self.low}, {self.high}].",
        )

    @property
    def remembers(self) -> bool:  # type: ignore[override]
        return self.guidance.remembers or self._elsewhere.remembers

    @property
    def _elsewhere(self) -> AbstractGuidance:
        return Unguided(self.guidance.base_label) if self.outside is None else self.outside

    @property
    def base_label(self) -> Label:
        return self.guidance.base_label

    @property
    def log_snr(self) -> tuple[float, float]:
        """Noisy and clean end as log-SNR, `-2 log sigma`."""
        with np.errstate(divide="ignore"):  # an interval may reach down to no noise at all
            return tuple(float(-2 * np.log(end)) for end in (self.high, self.low))  # type: ignore[return-value]

    def contains(self, sigma: float) -> bool:
        """Whether guidance acts at this noise per signal."""
        return bool(inside(sigma, self.low, self.high))

    def guided_steps(
        self, process: DiffusionProcess | ArrayLike, times: ArrayLike | None = None
    ) -> Bool[np.ndarray, " S"]:
        """Which steps of a sampler on `times` are guided: a step has the noise it leaves from.

        Args:
            process: The clock; a sampler of DDPM steps has `DDPM` here. Or, alone, decreasing sigmas of EDM
                coordinates, `(S + 1,)`.
            times: The sampler's grid, from noise to signal, `(S + 1,)`.

        Raises:
            ValueError: If the grid is not a vector that decreases strictly to 0 or above.
        """
        on_clock = isinstance(process, DiffusionProcess)
        grid = as_axis(
            times if on_clock else process,
            "times",
            "decrease strictly, from noise to signal, to 0 or above",
            lambda t: len(t) > 1 and np.all(np.diff(t) < 0) and t[-1] >= 0,
        )
        sigma: Any = grid[:-1]
        if isinstance(process, DiffusionProcess):
            sigma = process.sigma(sigma) / process.alpha(sigma)
        return np.asarray(inside(sigma, self.low, self.high))

    def init(self, x: States) -> PyTree:
        return (self.guidance.init(x), self._elsewhere.init(x)), False

    def step(
        self, state: PyTree, x: States, level: Level, denoise: Denoise
    ) -> tuple[States, PyTree]:
        alpha, sigma = scales(level)
        acts = inside(sigma / alpha, like(x, self.low), like(x, self.high))
        means, states = [None, None], list(state[0])
        for place, one, other in ((0, self.guidance, False), (1, self._elsewhere, True)):
            if acts is not other or one.remembers:
                means[place], states[place] = one.step(states[place], x, level, denoise)
        return either(acts, lambda: means[0], lambda: means[1]), (tuple(states), acts)

    def again(self, state: PyTree, x: States, level: Level, denoise: Denoise) -> States:
        (within, beyond), acts = state
        return either(
            acts,
            lambda: self.guidance.again(within, x, level, denoise),
            lambda: self._elsewhere.again(beyond, x, level, denoise),
        )

    def asks(self, state: PyTree, level: Level, further: bool = False) -> tuple[Label, ...] | None:
        own, acts = state or (((), ()), False)
        if not further:
            alpha, sigma = scales(level)
            acts = self.contains(sigma / alpha)
        found: dict[Label, None] = {}
        for one, its, used in ((self.guidance, own[0], acts), (self._elsewhere, own[1], not acts)):
            if used or (one.remembers and not further):
                labels = one.asks(its, level, further)
                if labels is None:
                    return None
                found |= dict.fromkeys(labels)
        return tuple(found)


def warn_of_idle(guidance: Any, sigmas: Any) -> None:
    """Warn where an interval holds none of the levels of a run, noise per signal: nothing is guided there."""
    if not isinstance(guidance, Interval) or not all(
        is_concrete(part) for part in (guidance.low, guidance.high, sigmas)
    ):
        return
    low, high, levels = float(guidance.low), float(guidance.high), np.asarray(sigmas, float)
    if len(levels) and not np.any(inside(levels, low, high)):
        warnings.warn(
            f"No level of this run lies in ({low:.3g}, {high:.3g}], where {type(guidance.guidance).__name__} "
            f"acts: they go from {levels.max():.3g} to {levels.min():.3g}. Take more steps, or a wider "
            "interval.",
            stacklevel=3,
        )
