"""Guidance of trained models: the kinds of `gmm_speciation.guidance`, on a `Denoiser`.

A guidance is a pair of functions with a state in between,

    state = init(x)                                          before the first step
    denoised, state = step(state, x, sigma, denoise)         at every step

where `denoise(label)` gives the posterior mean at x: of one class for all states, of one class a state
`(B,)`, or of the whole law for `None`. `samplers.sample` threads the state; `Guided` makes a guided model a
plain function for other samplers; `on_pipeline` guides a pipeline of diffusers.

    denoised = again(state, x, sigma, denoise)               at a further evaluation of the step, as Heun's

leaves the state: what a kind decides once a step, an interval or the scale of feedback, stays decided.

Conventions are those of the theory:

    scale      of kinds that draw towards a class: w = 1 is the class's own law, unguided; w = 0 the whole law
    strength   of kinds that push away from a class: 0 is off
    sigma      noise per signal, EDM coordinates; intervals are open below and closed above, (low, high]
    D, s, eps  guidance mixes posterior means, scores or noises with one and the same formula

    ClassifierFree    D_c + (w - 1) (D_c - D_ref)
    NegativePrompt    D - strength (D_c - D)
    SafeLatent        the same with a weight for every entry, a momentum and a warm-up
    DynamicNegative   D - strength p / (1 - p) (D_c - D),  p = p(c|x)
    Feedback          D + P / (P - (1 - pi)) (D_c - D),    P = p(c|x) / p(c), also on top of a constant scale
    Interval          any of them inside (low, high], its unguided law outside

`None` asks for the unconditional part of a model. It stands for the mixture of the classes as far as the
model is consistent; where it is not, what is exact for a mixture holds only approximately.
"""

from model_bridges.guidance.base import Class, Denoise, Guidance, Guided, Unguided, denoise_at
from model_bridges.guidance.callbacks import interval_callback
from model_bridges.guidance.feedback import Feedback
from model_bridges.guidance.intervals import Interval
from model_bridges.guidance.negative import DynamicNegative, NegativePrompt, SafeLatent
from model_bridges.guidance.pipelines import PROMPT, UNWANTED, on_pipeline
from model_bridges.guidance.positive import ClassifierFree
from model_bridges.guidance.posteriors import (
    ClassEvidence,
    ExactPosterior,
    PosteriorSource,
    TrackedClasses,
    TrackedRatio,
)

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
    "denoise_at",
    "interval_callback",
    "on_pipeline",
]
