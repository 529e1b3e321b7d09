"""Guidance away from a class: negative prompting, dynamic negative guidance, safe latent diffusion."""

from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from gmm_speciation.guidance.formulae import negative_bounds
from gmm_speciation.processes import DDPM
from model_bridges.guidance.base import Class, Denoise, Guidance, per_state
from model_bridges.guidance.positive import classifier_free
from model_bridges.guidance.posteriors import PosteriorSource, TrackedRatio

_LINEAR = DDPM.linear()


def _prompted(denoise: Denoise, prompt: Class, scale: float) -> Tensor:
    """`D`, or `D + scale (D_prompt - D)` towards a class."""
    if prompt is None:
        return denoise(None)
    return classifier_free(denoise(None), denoise(prompt), scale)


@final
@dataclass(frozen=True, eq=False)
class NegativePrompt(Guidance):
    """`D - strength (D_c - D)` with one strength everywhere: what is commonly used."""

    label: Class
    strength: float | int
    prompt: Class = None
    scale: float | int = 1.0

    @property
    def base_label(self) -> Class:
        return self.prompt

    def step(
        self, state: Any, x: Float[Tensor, "B *event"], sigma: float, denoise: Denoise
    ) -> tuple[Float[Tensor, "B *event"], Any]:
        base = _prompted(denoise, self.prompt, self.scale)
        return base - self.strength * (denoise(self.label) - denoise(None)), state


@final
@dataclass(frozen=True, eq=False)
class DynamicNegative(Guidance):
    """`D - strength p / (1 - p) (D_c - D)`, p = p(c|x): Koulischer et al. 2025 (arXiv 2410.14398).

    Strength 1 with the exact posterior draws the law without class c, exactly. With a prompt the push is
    added to the prompted law; the paper's text-to-image form could not be read, this is the plain sum.
    """

    label: Class
    strength: float | int
    posterior: PosteriorSource
    prompt: Class = None
    scale: float | int = 1.0
    max_log_odds: float | int = 20.0
    remembers: ClassVar[bool] = True

    @classmethod
    def tracked(
        cls,
        label: Class,
        *,
        strength: float | int = 5.0,
        prior: float | int = 0.01,
        temperature: float | int = 0.2,
        distance_offset: float | int = 2e-4,
        min_posterior: float | int = 1e-6,
        max_posterior: float | int = 0.8,
        prompt: Class = None,
        scale: float | int = 1.0,
        schedule: DDPM | None = _LINEAR,
    ) -> "DynamicNegative":
        """As published, for CIFAR-10; see `gmm_speciation.guidance.DynamicNegative.tracked`."""
        floor, ceiling = negative_bounds(prior, min_posterior, max_posterior)
        source = TrackedRatio(
            label, prior, temperature, 0.0, distance_offset, floor, ceiling, max_posterior, schedule
        )
        return cls(label, strength, source, prompt, scale)

    @property
    def base_label(self) -> Class:
        return self.prompt

    def init(self, x: Float[Tensor, "B *event"]) -> Any:
        return self.posterior.init(x)

    def step(
        self, state: Any, x: Float[Tensor, "B *event"], sigma: float, denoise: Denoise
    ) -> tuple[Float[Tensor, "B *event"], Any]:
        evidence, state = self.posterior.step(state, x, sigma, denoise)
        # p / (1 - p) multiplies a difference that vanishes with 1 - p: beyond the bound it is rounding.
        odds = evidence.log_odds.clamp(max=self.max_log_odds).exp()
        push = per_state(self.strength * odds, x) * (denoise(self.label) - denoise(None))
        return _prompted(denoise, self.prompt, self.scale) - push, state


@final
@dataclass(frozen=True, eq=False)
class SafeLatent(Guidance):
    """Safe latent diffusion: Schramowski et al. 2023 (arXiv 2211.05105), Eq. 3-8. In noises, i the step,

        eps = eps_u + scale (eps_p - eps_u - gamma)                 gamma only from step `warmup` on
        gamma = mu (eps_c - eps_u) + momentum_scale nu
        nu <- momentum_decay nu + (1 - momentum_decay) gamma        during the warm-up, too
        mu = min(1, |strength (eps_p - eps_c)|)  where eps_p - eps_c < threshold,  else 0

    with p the prompt, or the whole law without one, when `eps = eps_u - scale gamma`. Followed line by line
    from the authors' published code; their Eq. 6 bounds mu in words that admit another reading. The paper
    speaks of noises, and so does this class whatever a network predicts; the published code takes the
    network's output as it is, so that for v-prediction its threshold and its bound act on v. It acts entry
    by entry, so it depends on the axes the states are given in.
    """

    label: Class
    strength: float | int
    threshold: float | int = 0.01
    momentum_scale: float | int = 0.3
    momentum_decay: float | int = 0.4
    warmup: int = 0
    prompt: Class = None
    scale: float | int = 1.0
    remembers: ClassVar[bool] = True

    @property
    def base_label(self) -> Class:
        return self.prompt

    def init(self, x: Float[Tensor, "B *event"]) -> Any:
        return torch.zeros_like(x), 0

    def step(
        self, state: Any, x: Float[Tensor, "B *event"], sigma: float, denoise: Denoise
    ) -> tuple[Float[Tensor, "B *event"], Any]:
        momentum, count = state
        whole, unwanted = denoise(None), denoise(self.label)
        prompted = whole if self.prompt is None else denoise(self.prompt)
        # eps_a - eps_b = -(D_a - D_b) / sigma
        difference = (unwanted - prompted) / sigma
        weight = (self.strength * difference).abs().clamp(max=1.0) * (difference < self.threshold)
        gamma = weight * (whole - unwanted) / sigma + self.momentum_scale * momentum
        momentum = self.momentum_decay * momentum + (1 - self.momentum_decay) * gamma
        base = _prompted(denoise, self.prompt, self.scale)
        if count >= self.warmup:
            base = base + self.scale * sigma * gamma
        return base, (momentum, count + 1)

    def again(
        self, state: Any, x: Float[Tensor, "B *event"], sigma: float, denoise: Denoise
    ) -> Float[Tensor, "B *event"]:
        momentum, count = state  # the warm-up counts steps
        return self.step((momentum, count - 1), x, sigma, denoise)[0]
