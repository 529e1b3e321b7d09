"""The experiments behind the claims of guidance: closed forms, guided trajectories, a class removed.

They run once; claims and pictures read them.
"""

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from scipy.optimize import brentq

from gmm_speciation import control, exact, families
from gmm_speciation.entropy import entropy_curve
from gmm_speciation.estimate import Estimate
from gmm_speciation.guidance import (
    ClassifierFree,
    DynamicNegative,
    ExactPosterior,
    Guidance,
    GuidedCurve,
    Interval,
    IntervalGain,
    NegativePrompt,
    SafeLatent,
    TrackedClasses,
    guided_curve,
    interval_gain,
)
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.processes import OrnsteinUhlenbeck
from gmm_speciation.verification.rows import level_of

CLOCK = OrnsteinUhlenbeck()
DIMS = (16, 64)
_SCALES = (1.0, 2.0, 4.0)
_SHOWN = (0.5, 1.0, 1.5, 2.0, 4.0, 8.0)
_STRENGTHS = (0.1, 0.3, 1.0, 3.0)


class Guided(eqx.Module):
    """Closed forms on kappa, and trajectories in d dimensions."""

    curves: dict[float, GuidedCurve]  # by scale
    runs: dict[tuple[int, float], control.GuidedRun]  # by dimension and scale
    limited: control.GuidedRun  # scale 4 in an interval, d = 16
    interval: tuple[float, float]  # of kappa
    window: tuple[float, float]  # kappa: the central 80 % of the information
    gains: list[IntervalGain]


class Study(eqx.Module):
    """What was run: guided trajectories, removals of a class."""

    guided: Guided
    removals: dict[str, control.Removal]
    levels: Float[np.ndarray, " T"]  # log-SNR
    divergence: dict[float, Estimate]  # of negative prompting by strength, nats per unit log-SNR
    information: Float[np.ndarray, " T"]  # -dH/dlambda of "the class or not" at the same levels


def law_to_thin() -> GaussianMixture:
    """Four classes on the plane, of which class 0 is to be removed; class 1 is its neighbour."""
    means = [[-3.0, 0.0], [-1.0, 1.5], [1.0, 3.0], [3.0, -1.0]]
    return GaussianMixture.isotropic(means, 0.3, [0.3, 0.3, 0.2, 0.2])


def guided_study(key: PRNGKeyArray, num_samples: int) -> Guided:
    """Guided trajectories, half of `num_samples` each, and the closed forms beside them."""
    many = max(num_samples // 2, 128)
    grid = np.geomspace(0.002, 8.0, 241)

    def run(dim: int, guidance: Guidance, key: PRNGKeyArray) -> control.GuidedRun:
        law, times = families.symmetric_pair(dim), np.asarray(CLOCK.time(level_of(grid, dim)))
        return control.guided_run(law, CLOCK, times, guidance, 0, key=key, num_samples=many)

    runs = {
        (dim, scale): run(dim, ClassifierFree(0, scale), jax.random.fold_in(key, dim))
        for dim in DIMS
        for scale in (_SCALES if dim == DIMS[0] else (2.0,))
    }
    ends = (0.3, 1.0)  # of kappa, as noise per signal: kappa = dim / (1 + sigma^2)
    sigma = np.sqrt(DIMS[0] / np.array(ends) - 1)
    limited = run(DIMS[0], Interval(ClassifierFree(0, 4.0), sigma[1], sigma[0]), key)
    kappa = np.geomspace(0.01, 12.0, 240)
    window = tuple(
        brentq(lambda k, h=h: float(exact.binary_entropy(k)) - h * np.log(2), 1e-4, 20)
        for h in (0.9, 0.1)
    )
    return Guided(
        {scale: guided_curve(scale, kappa) for scale in _SHOWN},
        runs,
        limited,
        ends,
        window,  # type: ignore[arg-type]
        [interval_gain(scale, np.geomspace(0.01, 4.0, 10)) for scale in (1.01, 2.0, 4.0, 8.0)],
    )


def study(key: PRNGKeyArray, num_samples: int) -> Study:
    """All experiments; a class is removed on half of `num_samples` trajectories each."""
    count = max(num_samples // 4, 128)
    law, levels = law_to_thin(), np.linspace(-6, 8, 29)
    prompts = {strength: NegativePrompt(0, strength) for strength in (0.3, 1.0, 3.0)}
    divergence = {
        strength: control.removal_error(law, prompt, 0, levels, key=key, num_samples=count)
        for strength, prompt in prompts.items()
    }
    of_class = entropy_curve(law, levels[::-1], partition=[0, 1, 1, 1], num_samples=4096, key=key)
    return Study(
        guided_study(key, num_samples),
        _removals(law, key, count),
        levels,
        divergence,
        np.asarray(of_class.rate.value)[::-1],
    )


def _removals(law: GaussianMixture, key, count) -> dict[str, control.Removal]:
    kinds: dict[str, Guidance] = {
        **{f"negative prompt, {s:g}": NegativePrompt(0, s) for s in _STRENGTHS},
        "safe latent, 1": SafeLatent(0, 1.0),
        "dynamic negative, exact": DynamicNegative(0, 1.0, ExactPosterior(law, 0)),
        "dynamic negative, tracked": DynamicNegative(0, 1.0, TrackedClasses(0, law.log_weights)),
    }
    times = np.asarray(CLOCK.time(np.linspace(-10, 4.6, 161)))
    return {
        name: control.remove_class(law, CLOCK, times, kind, 0, key=key, num_samples=2 * count)
        for name, kind in kinds.items()
    }
