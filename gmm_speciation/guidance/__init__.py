"""Guidance: how a sampler bends the law it draws, and how that moves information.

A guidance is a pair of pure functions with a state in between,

    state = init(x)                                          before the first step
    denoised, state = step(state, x, level, denoise)         at every step

where `level = (alpha, sigma)` and `denoise(label)` gives the posterior mean at x: of class `label`, or of
the whole law for `None`. Samplers thread the state and know no kind by name; kinds without memory carry an
empty state.

The kinds take arrays of JAX, points `(n, d)`, and tensors of torch, `(n, *event)`, whose labels may be one
a state. In EDM coordinates, where alpha is 1, the level may be sigma alone. With tensors evidence is summed
up in float64, and nothing is evaluated that is not used. A `Guidance` is a pytree; a class of one's own that
is none has `AbstractGuidance` as its base.

    denoised = again(state, x, level, denoise)               at a further evaluation of the step, as Heun's

leaves the state: what a kind decides once a step, an interval or the scale of feedback, stays decided.

Conventions, here and in the bridges:

    scale      of kinds that draw towards a class: w = 1 is the class's own law, unguided; w = 0 the whole law
    strength   of kinds that push away from a class: 0 is off
    sigma      of intervals: noise per signal sigma / alpha, open below and closed above, (low, high]
    D, s, eps  guidance mixes posterior means, scores or noises with one and the same formula, because at one
               x they are affine in each other: s = (alpha D - x) / sigma^2, eps = (x - alpha D) / sigma

    ClassifierFree    D_c + (w - 1) (D_c - D_ref)
    NegativePrompt    D - strength (D_c - D)
    SafeLatent        the same with a weight for every coordinate, a momentum and a warm-up
    DynamicNegative   D - strength p / (1 - p) (D_c - D),  p = p(c|x)
    Feedback          D + P / (P - (1 - pi)) (D_c - D),    P = p(c|x) / p(c), also on top of a constant scale
    Interval          any of them inside (low, high], its unguided law or another guidance outside

The last three kinds need p(c|x): `posteriors` has the exact one of a mixture and the
tracked ones.

base         the interface; no guidance
formulae     the formulae above as functions of arrays, and the constants of the papers
positive     classifier-free guidance
intervals    limited intervals and the steps they mean to a sampler
posteriors   p(c|x) along a path: exact, tracked against the whole law, tracked class against class
negative     negative prompting, safe latent diffusion, dynamic negative guidance
feedback     feedback guidance
curves       the cross-entropy along guided trajectories, as data
information  what constant guidance does to two classes, in closed form, and where an interval pays
many         the same for many equidistant classes, simulated
"""

from gmm_speciation.guidance.base import AbstractGuidance, Denoise, Guidance, Unguided
from gmm_speciation.guidance.curves import GuidedCurve
from gmm_speciation.guidance.feedback import Feedback, FeedbackConstants
from gmm_speciation.guidance.information import (
    IntervalGain,
    commitment,
    commitment_shift,
    guided_curve,
    interval_gain,
    scheduled_curve,
    strong_guidance_half,
)
from gmm_speciation.guidance.intervals import Interval
from gmm_speciation.guidance.many import guided_classes
from gmm_speciation.guidance.negative import (
    DynamicNegative,
    NegativeConstants,
    NegativePrompt,
    SafeLatent,
)
from gmm_speciation.guidance.positive import ClassifierFree
from gmm_speciation.guidance.posteriors import (
    ClassEvidence,
    ExactPosterior,
    PosteriorSource,
    TrackedClasses,
    TrackedRatio,
)

__all__ = [
    "AbstractGuidance",
    "ClassEvidence",
    "ClassifierFree",
    "Denoise",
    "DynamicNegative",
    "ExactPosterior",
    "Feedback",
    "FeedbackConstants",
    "Guidance",
    "GuidedCurve",
    "Interval",
    "IntervalGain",
    "NegativeConstants",
    "NegativePrompt",
    "PosteriorSource",
    "SafeLatent",
    "TrackedClasses",
    "TrackedRatio",
    "Unguided",
    "commitment",
    "commitment_shift",
    "guided_classes",
    "guided_curve",
    "interval_gain",
    "scheduled_curve",
    "strong_guidance_half",
]
