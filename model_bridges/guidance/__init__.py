"""Guidance of trained models: the kinds of `gmm_speciation.guidance`, on a `Denoiser`.

The kinds, their formulae and conventions are the theory's; here sigma, noise per signal, is the level,

    state = init(x)                                          before the first step
    denoised, state = step(state, x, sigma, denoise)         at every step
    denoised = again(state, x, sigma, denoise)               at a further evaluation of a step, as Heun's

and `denoise(label)` gives the posterior mean at x: of one class for all states, of one class a state
`(B,)`, or of the whole law for `None`. `samplers.sample` threads the state; `Guided` makes a guided model a
plain function for other samplers; `on_pipeline` guides a pipeline of diffusers, `as_guider` a modular one. A
`Guidance` of one's own is a class with these methods.

`None` asks for the unconditional part of a model. It stands for the mixture of the classes as far as the
model is consistent; where it is not, what is exact for a mixture holds only approximately.
"""

from gmm_speciation.guidance import AbstractGuidance as Guidance
from gmm_speciation.guidance import (
    ClassEvidence,
    ClassifierFree,
    DynamicNegative,
    ExactPosterior,
    Feedback,
    Interval,
    NegativePrompt,
    PosteriorSource,
    SafeLatent,
    TrackedClasses,
    TrackedRatio,
    Unguided,
)
from model_bridges.guidance.base import Class, Denoise, Guided, denoise_at
from model_bridges.guidance.callbacks import interval_callback
from model_bridges.guidance.evaluations import PROMPT, UNWANTED
from model_bridges.guidance.guiders import as_guider
from model_bridges.guidance.pipelines import on_pipeline

__all__ = [
    "PROMPT",
    "UNWANTED",
    "Class",
    "ClassEvidence",
    "ClassifierFree",
    "Denoise",
    "DynamicNegative",
    "ExactPosterior",
    "Feedback",
    "Guidance",
    "Guided",
    "Interval",
    "NegativePrompt",
    "PosteriorSource",
    "SafeLatent",
    "TrackedClasses",
    "TrackedRatio",
    "Unguided",
    "as_guider",
    "denoise_at",
    "interval_callback",
    "on_pipeline",
]
