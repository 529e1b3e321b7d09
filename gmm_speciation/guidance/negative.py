"""Guidance away from a class: negative prompting, safe latent diffusion, dynamic negative guidance.

All three start from what is drawn without them: the whole law, or the class `prompt` at a classifier-free
`scale`. A strength of 0 is off. Strengths and scales are numbers, or one a state.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import PyTree

from gmm_speciation.arrays import Level, either, like, namespace, per_state, scales, weights
from gmm_speciation.guidance.base import (
    Denoise,
    Guidance,
    Label,
    Parameter,
    Scale,
    States,
    number,
    parameter,
    plain_label,
)
from gmm_speciation.guidance.formulae import away_from, classifier_free, negative_bounds
from gmm_speciation.guidance.posteriors import PosteriorSource, TrackedRatio, check_source
from gmm_speciation.processes import DDPM


def _prompted(denoise: Denoise, prompt: Label, scale: Scale) -> States:
    """`D`, or `D + scale (D_prompt - D)` towards a class."""
    reference = denoise(None)
    if prompt is None:
        return reference
    return classifier_free(reference, denoise(prompt), per_state(reference, scale))


class NegativePrompt(Guidance):
    """`D - strength (D_c - D)` with one strength at all levels: what is commonly used."""

    label: Label = eqx.field(static=True, converter=plain_label)
    strength: Scale = eqx.field(converter=parameter)
    prompt: Label = eqx.field(static=True, converter=plain_label, default=None)
    scale: Scale = eqx.field(converter=parameter, default=1.0)

    @property
    def base_label(self) -> Label:
        return self.prompt

    def step(
        self, state: PyTree, x: States, level: Level, denoise: Denoise
    ) -> tuple[States, PyTree]:
        base = _prompted(denoise, self.prompt, self.scale)
        strength = per_state(x, self.strength)
        return away_from(base, denoise(None), denoise(self.label), strength), state

    def asks(self, state: PyTree, level: Level, further: bool = False) -> tuple[Label, ...] | None:
        return (None, self.label) if self.prompt is None else (None, self.prompt, self.label)


@dataclass(frozen=True)
class NegativeConstants:
    """The published constants of dynamic negative guidance, for CIFAR-10."""

    prior: float | int = 0.01
    """p at the start."""
    temperature: float | int = 0.2
    """tau."""
    distance_offset: float | int = 2e-4
    """delta, a squared distance in variance-preserving coordinates."""
    min_posterior: float | int = 1e-6
    """Lower bound of p."""
    max_posterior: float | int = 0.8
    """Upper bound of p."""
    schedule: DDPM | None = field(default_factory=DDPM.linear)
    """Whose step delta is of: `DDPM.scaled_linear()` for Stable Diffusion; None for the steps that the
    sampler takes, whatever they are."""


def _most_log_odds(x: States) -> float:
    """Where `p / (1 - p)` makes a rounding of the difference e^-6 of the states: 9.9 in single precision."""
    return -math.log(namespace(x).finfo(x.dtype).eps) - 6


class DynamicNegative(Guidance):
    """`D - strength p / (1 - p) (D_c - D)`, p = p(c|x): Koulischer et al. 2025 (arXiv 2410.14398).

    Strength 1 with the exact posterior draws the mixture without class c, exactly. With a prompt the push
    is added to the prompted law; the paper's text-to-image form could not be read, this is the plain sum.
    Log-odds count up to `max_log_odds`, and as far as the precision of the states tells D_c from D.

    Raises:
        ValueError: If the posterior is that of another class.
    """

    label: Label = eqx.field(static=True, converter=plain_label)
    strength: Scale = eqx.field(converter=parameter)
    posterior: PosteriorSource
    prompt: Label = eqx.field(static=True, converter=plain_label, default=None)
    scale: Scale = eqx.field(converter=parameter, default=1.0)
    max_log_odds: Parameter = eqx.field(converter=number, default=20.0)
    remembers = True

    def __check_init__(self):
        check_source(self.label, self.posterior)

    @classmethod
    def tracked(
        cls,
        label: Label,
        *,
        strength: float | int = 5.0,
        prompt: Label = None,
        scale: float | int = 1.0,
        **constants: Any,
    ) -> "DynamicNegative":
        """As published, for CIFAR-10: p tracked from `prior` against the whole distribution and clamped.

        The paper's distance offset is of each of the 1000 steps of DDPM's linear betas; on another grid of
        levels it adds what those steps would between two of them (see `TrackedRatio`), from noise to
        signal 29 nats. It is meant for images of 3 x 32 x 32 entries: with few dimensions it outweighs the
        evidence. The published code never hands its offset on: it runs with 0. It injects the noise of
        `variance="beta"`, see `samplers.sample`, and tracks with the posterior kernel.

        Args:
            label: The class to push away from.
            strength: lambda_0.
            prompt, scale: As of the class.
            constants: Fields of `NegativeConstants` that are to differ: `prior`, `temperature`,
                `distance_offset`, `min_posterior`, `max_posterior`, `schedule`.

        Raises:
            ValueError: If not `0 <= min_posterior < prior < max_posterior < 1`.
            TypeError: If a constant is unknown.
        """
        known = NegativeConstants(**constants)
        floor, ceiling = negative_bounds(known.prior, known.min_posterior, known.max_posterior)
        source = TrackedRatio(
            label,
            known.prior,
            known.temperature,
            distance_offset=known.distance_offset,
            floor=floor,
            ceiling=ceiling,
            max_posterior=known.max_posterior,
            schedule=known.schedule,
        )
        return cls(label, strength, source, prompt, scale)

    @property
    def base_label(self) -> Label:
        return self.prompt

    def init(self, x: States) -> PyTree:
        return self.posterior.init(x)

    def step(
        self, state: PyTree, x: States, level: Level, denoise: Denoise
    ) -> tuple[States, PyTree]:
        evidence, state = self.posterior.step(state, x, level, denoise)
        # p / (1 - p) multiplies a difference that vanishes with 1 - p: beyond the bounds it is rounding.
        xp = namespace(evidence.log_odds)
        log_odds = xp.clip(evidence.log_odds, None, like(x, self.max_log_odds))
        log_odds = xp.clip(log_odds, None, _most_log_odds(x))
        strength = per_state(x, self.strength) * weights(xp.exp(log_odds), x)
        base = _prompted(denoise, self.prompt, self.scale)
        return away_from(base, denoise(None), denoise(self.label), strength), state


class SafeLatent(Guidance):
    """Safe latent diffusion: Schramowski et al. 2023 (arXiv 2211.05105), Eq. 3-8. In noises, i the step,

        eps = eps_u + scale (eps_p - eps_u - gamma)                 gamma only from step `warmup` on
        gamma = mu (eps_c - eps_u) + momentum_scale nu
        nu <- momentum_decay nu + (1 - momentum_decay) gamma        during the warm-up, too
        mu = min(1, |strength (eps_p - eps_c)|)  where eps_p - eps_c < threshold,  else 0

    with p the prompt, or the whole law without one, when `eps = eps_u - scale gamma`. Followed line by line
    from the authors' published code; their Eq. 6 bounds mu in words that admit another reading. The paper
    speaks of noises, and so does this class whatever a network predicts; the published code takes the
    network's output as it is, so that for v-prediction its threshold and its bound act on v. It acts
    coordinate by coordinate, so it depends on the axes the states are given in.
    """

    label: Label = eqx.field(static=True, converter=plain_label)
    strength: Parameter = eqx.field(converter=number)
    threshold: Parameter = eqx.field(converter=number, default=0.01)
    momentum_scale: Parameter = eqx.field(converter=number, default=0.3)
    momentum_decay: Parameter = eqx.field(converter=number, default=0.4)
    warmup: int = eqx.field(static=True, default=0)
    prompt: Label = eqx.field(static=True, converter=plain_label, default=None)
    scale: Scale = eqx.field(converter=parameter, default=1.0)
    remembers = True

    @property
    def base_label(self) -> Label:
        return self.prompt

    def init(self, x: States) -> PyTree:
        return namespace(x).zeros_like(x), 0

    def step(
        self, state: PyTree, x: States, level: Level, denoise: Denoise
    ) -> tuple[States, PyTree]:
        xp = namespace(x)
        momentum, count = state
        alpha, sigma = scales(level)
        if xp is jnp:
            sigma = jnp.where(sigma > 0, sigma, 1.0)
        ratio = sigma / alpha  # eps_a - eps_b = -(D_a - D_b) / ratio
        whole, unwanted = denoise(None), denoise(self.label)
        prompted = whole if self.prompt is None else denoise(self.prompt)
        difference = (unwanted - prompted) / ratio
        weight = xp.clip(xp.abs(like(x, self.strength) * difference), None, 1.0)
        weight = xp.where(difference < like(x, self.threshold), weight, 0.0)
        gamma = weight * (whole - unwanted) / ratio + like(x, self.momentum_scale) * momentum
        decay = like(x, self.momentum_decay)
        momentum = decay * momentum + (1 - decay) * gamma
        # Without signal gamma vanishes as the square of 1 / ratio.
        finite = either(alpha > 0, lambda: ratio, lambda: 0.0)
        push = (count >= self.warmup) * per_state(x, self.scale) * finite * gamma
        return _prompted(denoise, self.prompt, self.scale) + push, (momentum, count + 1)

    def again(self, state: PyTree, x: States, level: Level, denoise: Denoise) -> States:
        momentum, count = state  # the warm-up counts steps
        return self.step((momentum, count - 1), x, level, denoise)[0]
