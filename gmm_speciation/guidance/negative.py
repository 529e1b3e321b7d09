"""Guidance away from a class: negative prompting, safe latent diffusion, dynamic negative guidance.

All three start from what is drawn without them: the whole law, or the class `prompt` at a classifier-free
`scale`. A strength of 0 is off.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from gmm_speciation.guidance.base import Denoise, Guidance, Parameter, like, parameter
from gmm_speciation.guidance.formulae import (
    away_from,
    classifier_free,
    dynamic_strength,
    negative_bounds,
    safe_weight,
)
from gmm_speciation.guidance.posteriors import PosteriorSource, TrackedRatio
from gmm_speciation.processes import DDPM

_LINEAR = DDPM.linear()


def _prompted(denoise: Denoise, prompt: int | None, scale: Parameter) -> Array:
    """`D`, or `D + scale (D_prompt - D)` towards a class."""
    reference = denoise(None)
    if prompt is None:
        return reference
    return classifier_free(reference, denoise(prompt), like(reference, scale))


class NegativePrompt(Guidance):
    """`D - strength (D_c - D)` with one strength everywhere: what is commonly used."""

    label: int = eqx.field(static=True)
    strength: Parameter = eqx.field(converter=parameter)
    prompt: int | None = eqx.field(static=True, default=None)
    scale: Parameter = eqx.field(converter=parameter, default=1.0)

    @property
    def base_label(self) -> int | None:
        return self.prompt

    def init(self, x: Float[Array, "n d"]) -> PyTree:
        return ()

    def step(
        self, state: PyTree, x: Float[Array, "n d"], level: tuple, denoise: Denoise
    ) -> tuple[Float[Array, "n d"], PyTree]:
        base = _prompted(denoise, self.prompt, self.scale)
        strength = like(x, self.strength)
        return away_from(base, denoise(None), denoise(self.label), strength), state


class DynamicNegative(Guidance):
    """`D - strength p / (1 - p) (D_c - D)`, p = p(c|x): Koulischer et al. 2025 (arXiv 2410.14398).

    Strength 1 with the exact posterior draws the mixture without class c, exactly. With a prompt the push
    is added to the prompted law; the paper's text-to-image form could not be read, this is the plain sum.
    """

    label: int = eqx.field(static=True)
    strength: Parameter = eqx.field(converter=parameter)
    posterior: PosteriorSource
    prompt: int | None = eqx.field(static=True, default=None)
    scale: Parameter = eqx.field(converter=parameter, default=1.0)
    max_log_odds: Parameter = eqx.field(converter=parameter, default=20.0)

    @classmethod
    def tracked(
        cls,
        label: int,
        *,
        strength: float | int = 5.0,
        prior: float | int = 0.01,
        temperature: float | int = 0.2,
        distance_offset: float | int = 2e-4,
        min_posterior: float | int = 1e-6,
        max_posterior: float | int = 0.8,
        prompt: int | None = None,
        scale: float | int = 1.0,
        schedule: DDPM | None = _LINEAR,
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
            prior: p at the start.
            temperature: tau.
            distance_offset: delta, a squared distance in variance-preserving coordinates.
            min_posterior: Lower bound of p.
            max_posterior: Upper bound of p.
            prompt, scale: As of the class.
            schedule: Whose step delta is of: `DDPM.scaled_linear()` for Stable Diffusion; None for the steps
                that the sampler takes, whatever they are.

        Raises:
            ValueError: If not `0 <= min_posterior < prior < max_posterior < 1`.
        """
        floor, ceiling = negative_bounds(prior, min_posterior, max_posterior)
        source = TrackedRatio(
            label, prior, temperature, 0.0, distance_offset, floor, ceiling, max_posterior, schedule
        )
        return cls(label, strength, source, prompt, scale)

    @property
    def base_label(self) -> int | None:
        return self.prompt

    def init(self, x: Float[Array, "n d"]) -> PyTree:
        return self.posterior.init(x)

    def step(
        self, state: PyTree, x: Float[Array, "n d"], level: tuple, denoise: Denoise
    ) -> tuple[Float[Array, "n d"], PyTree]:
        evidence, state = self.posterior.step(state, x, level, denoise)
        # p / (1 - p) multiplies a difference that vanishes with 1 - p: beyond the bound it is rounding.
        log_odds = jnp.minimum(evidence.log_odds, like(x, self.max_log_odds))
        strength = dynamic_strength(like(x, self.strength), log_odds)[:, None]
        base = _prompted(denoise, self.prompt, self.scale)
        return away_from(base, denoise(None), denoise(self.label), strength), state


class SafeLatent(Guidance):
    """Safe latent diffusion: Schramowski et al. 2023 (arXiv 2211.05105), Eq. 3-8. In noises, i the step,

        eps = eps_u + scale (eps_p - eps_u - gamma)                 gamma only from step `warmup` on
        gamma = mu (eps_c - eps_u) + momentum_scale nu
        nu <- momentum_decay nu + (1 - momentum_decay) gamma        during the warm-up, too
        mu  as `formulae.safe_weight` of eps_p, eps_c, strength, threshold

    with p the prompt, or the whole law without one, when `eps = eps_u - scale gamma`. Followed line by line
    from the authors' published code; their Eq. 6 bounds mu in words that admit another reading. The paper
    speaks of noises, and so does this class whatever a network predicts; the published code takes the
    network's output as it is, so that for v-prediction its threshold and its bound act on v.
    """

    label: int = eqx.field(static=True)
    strength: Parameter = eqx.field(converter=parameter)
    threshold: Parameter = eqx.field(converter=parameter, default=0.01)
    momentum_scale: Parameter = eqx.field(converter=parameter, default=0.3)
    momentum_decay: Parameter = eqx.field(converter=parameter, default=0.4)
    warmup: int = eqx.field(static=True, default=0)
    prompt: int | None = eqx.field(static=True, default=None)
    scale: Parameter = eqx.field(converter=parameter, default=1.0)

    @property
    def base_label(self) -> int | None:
        return self.prompt

    def init(self, x: Float[Array, "n d"]) -> PyTree:
        return jnp.zeros_like(x), jnp.asarray(0)

    def step(
        self, state: PyTree, x: Float[Array, "n d"], level: tuple, denoise: Denoise
    ) -> tuple[Float[Array, "n d"], PyTree]:
        momentum, count = state
        alpha, sigma = level
        noise_per_mean = -alpha / jnp.where(sigma > 0, sigma, 1.0)  # eps_a - eps_b over D_a - D_b
        whole, unwanted = denoise(None), denoise(self.label)
        prompted = whole if self.prompt is None else denoise(self.prompt)
        weight = safe_weight(
            noise_per_mean * (prompted - whole),
            noise_per_mean * (unwanted - whole),
            like(x, self.strength),
            like(x, self.threshold),
        )
        gamma = weight * noise_per_mean * (unwanted - whole)
        gamma = gamma + like(x, self.momentum_scale) * momentum
        decay = like(x, self.momentum_decay)
        momentum = decay * momentum + (1 - decay) * gamma
        push = jnp.where(count >= self.warmup, like(x, self.scale) / noise_per_mean * gamma, 0.0)
        return _prompted(denoise, self.prompt, self.scale) - push, (momentum, count + 1)

    def again(
        self, state: PyTree, x: Float[Array, "n d"], level: tuple, denoise: Denoise
    ) -> Float[Array, "n d"]:
        momentum, count = state  # the warm-up counts steps
        return self.step((momentum, count - 1), x, level, denoise)[0]
