"""Guidance in a limited interval of noise (Kynkaanniemi et al. 2024, arXiv 2404.07724).

The interval is in noise per signal, sigma / alpha, which is sigma in EDM coordinates and
`exp(-log_snr / 2)` on any process; a process turns it into the steps of a sampler.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from gmm_speciation.checks import ArrayLike, require
from gmm_speciation.guidance.base import Denoise, Guidance, Parameter, like, parameter
from gmm_speciation.guidance.formulae import inside
from gmm_speciation.processes import DiffusionProcess


class Interval(Guidance):
    """A guidance that acts where `low < sigma / alpha <= high`; its unguided law elsewhere.

    It is decided once a step, at the level that the step leaves, as published: the second evaluation of
    Heun's method follows the first. The published code of Koulischer et al. 2025 (arXiv 2506.06085) has
    intervals open at both ends. A guidance with a memory keeps it up to date outside the interval, too.
    """

    guidance: Guidance
    low: Parameter = eqx.field(converter=parameter)
    high: Parameter = eqx.field(converter=parameter)

    def __check_init__(self):
        low, high = parameter(self.low), parameter(self.high)
        require(
            jnp.stack([low, high]),
            (low >= 0) & (high > low),
            "An interval of noise per signal needs 0 <= low < high; give sigma, not log-SNR.",
        )

    @property
    def base_label(self) -> int | None:
        return self.guidance.base_label

    @property
    def log_snr(self) -> tuple[float, float]:
        """Noisy and clean end as log-SNR, `-2 log sigma`."""
        with np.errstate(divide="ignore"):  # an interval may reach down to no noise at all
            return tuple(float(-2 * np.log(end)) for end in (self.high, self.low))  # type: ignore[return-value]

    def guided_steps(self, process: DiffusionProcess, times: ArrayLike) -> Bool[np.ndarray, " S"]:
        """Which steps of a sampler on `times` are guided: a step has the noise it leaves from.

        Args:
            process: The clock; a sampler of DDPM steps has `DDPM` here.
            times: The sampler's grid, from noise to signal, `(S + 1,)`.
        """
        t = np.asarray(times, float)[:-1]
        return np.asarray(inside(process.sigma(t) / process.alpha(t), self.low, self.high))

    def init(self, x: Float[Array, "n d"]) -> PyTree:
        return self.guidance.init(x), jnp.asarray(False)

    def step(
        self, state: PyTree, x: Float[Array, "n d"], level: tuple, denoise: Denoise
    ) -> tuple[Float[Array, "n d"], PyTree]:
        guided, own = self.guidance.step(state[0], x, level, denoise)
        alpha, sigma = level
        acts = inside(sigma / alpha, like(x, self.low), like(x, self.high))
        return jnp.where(acts, guided, denoise(self.base_label)), (own, acts)

    def again(
        self, state: PyTree, x: Float[Array, "n d"], level: tuple, denoise: Denoise
    ) -> Float[Array, "n d"]:
        own, acts = state
        return jnp.where(
            acts, self.guidance.again(own, x, level, denoise), denoise(self.base_label)
        )
