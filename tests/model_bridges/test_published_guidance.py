"""Guidance as published: the authors' numbers on an exact mixture, and their rules written out in numpy.

Every rule is a plain function, here or in `published_rules`, which gives the published figures in the setting
described there; the samplers of both packages are then compared with it on the noise that they drew.
"""

import math

import jax
import numpy as np
import pytest
import torch
from published_rules import (
    BETAS,
    LATENTS,
    LAW,
    LEVELS,
    MODEL,
    NOISES,
    SIGNAL,
    FeedbackRule,
    below,
    by_jax,
    by_torch,
    constant,
    means,
    reverse,
)

import gmm_speciation as gs
from gmm_speciation.guidance import formulae
from gmm_speciation.processes import DDPM, VarianceExploding
from gmm_speciation.samplers import label_denoiser
from gmm_speciation.samplers import sample as sample_exactly
from model_bridges import guidance
from model_bridges.samplers import sample

INTERVALS = [
    (range(8), (0.0, np.inf), (1.3249254, 0.6756868)),
    ((2, 3, 4), (below(4), below(1)), (1.2540685, 0.6096377)),
    ((3,), (below(3), below(2)), (1.0821558, 0.3620252)),
]


@pytest.mark.parametrize(("steps", "ends", "published"), INTERVALS)
def test_an_interval_decides_once_a_step(steps, ends, published):
    """Scale 3 inside, Heun's method: the second slope is guided as the first."""
    rule = constant(steps)
    np.testing.assert_allclose(reverse(80 * LATENTS, rule), published, atol=5e-8)
    kind = guidance.Interval(guidance.ClassifierFree(1, 3.0), *ends)
    exact, _ = by_jax(kind, LATENTS, method="ode")
    np.testing.assert_allclose(exact, published, atol=5e-8)
    drawn, latents, _ = by_torch(kind, method="probability-flow")
    np.testing.assert_allclose(drawn, reverse(80 * latents, rule), atol=1e-10)


FEEDBACK = {"temperature": 0.05, "offset": -0.9}
PUBLISHED = {
    "stochastic": (1.041860886810269, 1.0383904641739168),
    "heun": (1.3405101590404853, 0.5117088610145928),
}


def feedback(w=1.0, low=0.0, high=np.inf):
    """`Feedback` with pi .999, lambda_max 10 and a given tau and delta."""
    floor = formulae.feedback_floor(0.999, 10.0 - w + 1)
    source = guidance.TrackedRatio(1, 1.0, 0.05, -0.9, 0.0, floor, 3.0)
    return guidance.Feedback(1, 0.999, source, 10.0, w, low, high)


def test_feedback_guidance_has_the_published_numbers():
    rule = FeedbackRule(**FEEDBACK)
    ended = reverse(80 * LATENTS, rule, NOISES)
    np.testing.assert_allclose(ended, PUBLISHED["stochastic"], rtol=1e-13)
    np.testing.assert_allclose(
        [scale[0] for scale in rule.scales],
        [1.0010, 1.0025, 1.0061, 1.0150, 1.0374, 1.0900, 1.2552, 2.0001],
        atol=5e-5,
    )
    np.testing.assert_allclose(
        reverse(80 * LATENTS, FeedbackRule(**FEEDBACK)), PUBLISHED["heun"], rtol=1e-12
    )
    exact, _ = by_jax(feedback(), LATENTS, method="ode")
    np.testing.assert_allclose(exact, PUBLISHED["heun"], rtol=1e-9)


# Feedback alone, on top of a constant scale (FBG_CFG) and of an interval (FBG_LIG).
ON_TOP = [{}, {"w": 2.6}, {"w": 2.6, "low": below(5), "high": below(2)}]


@pytest.mark.parametrize("top", ON_TOP)
def test_feedback_guidance_of_both_samplers_is_its_rule(top):
    for ours, theirs in (("ancestral", "sde"), ("probability-flow", "ode")):
        stochastic = theirs == "sde"
        drawn, latents, noises = by_torch(feedback(**top), method=ours)
        rule = FeedbackRule(**FEEDBACK, **top)
        wanted = reverse(80 * latents, rule, noises if stochastic else None)
        np.testing.assert_allclose(drawn, wanted, rtol=1e-9)
        exact, noises = by_jax(feedback(**top), LATENTS, method=theirs)
        rule = FeedbackRule(**FEEDBACK, **top)
        wanted = reverse(80 * LATENTS, rule, noises if stochastic else None)
        np.testing.assert_allclose(exact, wanted, rtol=1e-9)


def test_the_temperature_of_feedback_guidance_is_the_published_one():
    def temperature(num, peak):
        return formulae.feedback_temperature(formulae.published_levels(num), peak=peak)

    for num, peak, published in ((64, 0.429, 0.0173), (64, 0.492, 0.0545), (32, 0.429, 0.0515)):
        assert temperature(num, peak) == pytest.approx(published, abs=5e-5)
    # What it says: at a level of the grid the distance of 10 makes up for the offset of a step.
    levels = np.geomspace(50.0, 0.1, 20)
    peak, offset = 8 / 20, formulae.feedback_offset(0.999, 0.556, 20)
    noisy, clean = levels[::-1][8], levels[::-1][7]
    variance = (noisy**2 - clean**2) * clean**2 / noisy**2
    tau = formulae.feedback_temperature(levels, peak=peak)
    assert tau * 10 / (2 * variance) == pytest.approx(-offset, rel=1e-12)
    kind = guidance.Feedback.tracked(1, num_steps=64)
    assert float(kind.posterior.temperature) == pytest.approx(temperature(64, 0.429), rel=1e-6)
    assert float(kind.posterior.offset) == pytest.approx(-0.2288, abs=5e-5)
    lig = guidance.Feedback.tracked(1, num_steps=64, scale=2.6, interval=(0.48, 6.84))
    assert float(lig.posterior.floor) == pytest.approx(math.log(1e-3 * 8.4 / 7.4), rel=1e-6)
    with pytest.raises(ValueError, match="decrease strictly"):
        formulae.feedback_temperature(levels[::-1])
    with pytest.raises(ValueError, match="peak"):
        formulae.feedback_temperature(levels, peak=1.0)


# p after one step of DDPM's linear betas from t to t - 1, with delta 2e-4 and without.
STEP = {
    800: (0.05028318328388365, 0.04997058565536252),
    500: (0.0504802143924119, 0.04998048048414502),
    50: (0.054913116802412565, 0.049956912605801596),
}
STATES = np.array([[0.3, -0.2]]), np.array([[0.31, -0.18]])
SAID = {1: np.array([-0.3, 0.4]), None: np.array([0.1, 0.2])}  # noises: of the class, of the whole


def tracked_once(array, t, offset, schedule, vp):
    """The posterior after a step of `TrackedRatio`, in VP or in EDM coordinates."""
    source = guidance.TrackedRatio(1, 0.05, 0.2, distance_offset=offset, schedule=schedule)
    state = None
    for step, x in zip((t, t - 1), STATES, strict=True):
        alpha, sigma = math.sqrt(SIGNAL[step]), math.sqrt(1 - SIGNAL[step])
        scale = 1.0 if vp else alpha
        x = array(x / scale)
        state = source.init(x) if state is None else state

        def denoise(label, x=x, alpha=alpha / scale, sigma=sigma / scale):
            return (x - sigma * array(SAID[label])[None]) / alpha

        level = (alpha / scale, sigma / scale) if vp else sigma / scale
        evidence, state = source.step(state, x, level, denoise)
    return 0.05 * math.exp(float(evidence.log_ratio[0]))


@pytest.mark.parametrize("t", STEP)
def test_the_offset_of_dynamic_guidance_is_in_variance_preserving_coordinates(t, array):
    """p <- p exp([-tau (d_c - d_u) + delta] / (2 v)), v = beta_t (1 - abar_{t-1}) / (1 - abar_t)."""
    x, y = (rows[0] for rows in STATES)
    variance = BETAS[t] * (1 - SIGNAL[t - 1]) / (1 - SIGNAL[t])
    distance = [
        np.sum((y - (x - BETAS[t] / np.sqrt(1 - SIGNAL[t]) * noise) / np.sqrt(1 - BETAS[t])) ** 2)
        for noise in SAID.values()
    ]
    for offset, published in zip((2e-4, 0.0), STEP[t], strict=True):
        rule = 0.05 * np.exp((-0.2 * (distance[0] - distance[1]) + offset) / (2 * variance))
        assert rule == pytest.approx(published, rel=1e-12)
        for schedule in (None, DDPM.linear()):
            for vp in (True, False):
                found = tracked_once(array, t, offset, schedule, vp)
                assert found == pytest.approx(published, rel=1e-10)


@pytest.mark.parametrize("steps", [[999, 400, 20], [700, 350, 349, 100, 3]])
def test_the_offset_of_a_schedule_is_that_of_its_steps_on_any_grid(steps, array):
    """Without evidence (tau 0): the sum over the schedule's steps between the first level and the last."""
    variance = BETAS[1:] * (1 - SIGNAL[:-1]) / (1 - SIGNAL[1:])
    wanted = 1e-4 * np.sum(1 / (2 * variance[steps[-1] : steps[0]]))
    source = guidance.TrackedRatio(0, 0.1, 0.0, distance_offset=1e-4, schedule=DDPM.linear())
    zero = array(np.zeros((1, 1)))
    state = source.init(zero)
    for step in steps:
        sigma = math.sqrt((1 - SIGNAL[step]) / SIGNAL[step])
        evidence, state = source.step(state, zero, sigma, lambda label: zero)
    assert float(evidence.log_ratio[0]) == pytest.approx(wanted, rel=1e-9)
    kind = guidance.DynamicNegative.tracked(0)
    assert kind.posterior.schedule == DDPM.linear()
    assert float(kind.posterior.floor) == pytest.approx(math.log(1e-6 / 0.01), rel=1e-6)


def dynamic_loop(x, noises, steps, *, strength, prior, offset):
    """Dynamic negative guidance of DDPM on the given steps of the linear betas, noise beta_t, in noises.

    Between neighbours in `steps`, beta_t and the kernel are those of the shortened chain.
    """
    p, before = np.full(len(x), prior), None
    for index, t in enumerate(steps):
        if before is not None:
            last, (of_class, whole), kept, beta, variance, noisy = before
            to = [
                (x - (last - beta / np.sqrt(1 - noisy) * eps) / np.sqrt(kept)) ** 2
                for eps in (of_class, whole)
            ]
            p = np.clip(p * np.exp((-0.2 * (to[0] - to[1]) + offset) / (2 * variance)), 1e-6, 0.8)
        alpha, sigma = np.sqrt(SIGNAL[t]), np.sqrt(1 - SIGNAL[t])
        noise = tuple((x - alpha * mean) / sigma for mean in means(x, sigma, alpha))
        guided = noise[1] - strength * p / (1 - p) * (noise[0] - noise[1])
        if index == len(steps) - 1:
            return (x - sigma * guided) / alpha
        signal = SIGNAL[steps[index + 1]]
        kept = SIGNAL[t] / signal
        beta = 1 - kept
        before = x, noise, kept, beta, beta * (1 - signal) / (1 - SIGNAL[t]), SIGNAL[t]
        mean = (x - beta / sigma * guided) / np.sqrt(kept)
        x = mean + np.sqrt(beta) * noises[index]
    raise AssertionError


@pytest.mark.parametrize("stride", [1, 37])
def test_dynamic_guidance_with_the_noise_of_beta_is_the_published_loop(stride):
    """On DDPM's 1000 steps, where a step of the schedule is one of the sampler, and on fewer."""
    steps = np.arange(999, -1, -stride)
    sigmas = np.sqrt((1 - SIGNAL[steps]) / SIGNAL[steps])
    settings = {"strength": 0.5, "prior": 0.3}
    # A grid's own steps: the published rule has the same delta for each.
    options = settings | {
        "distance_offset": 2e-4,
        "schedule": None if stride > 1 else DDPM.linear(),
    }
    kind = guidance.DynamicNegative.tracked(1, **options)
    drawn = sample(
        MODEL,
        (16, 1),
        torch.tensor(sigmas),
        guidance=kind,
        dtype=torch.float64,
        variance="beta",
        generator=torch.Generator().manual_seed(5),
    )[:, 0].numpy()
    again = torch.Generator().manual_seed(5)
    normals = [torch.randn(16, 1, generator=again, dtype=torch.float64)[:, 0] for _ in steps]
    start = sigmas[0] * normals[0].numpy() * math.sqrt(SIGNAL[steps[0]])
    noises = [one.numpy() for one in normals[1:]]
    wanted = dynamic_loop(start, noises, steps, offset=2e-4, **settings)
    np.testing.assert_allclose(drawn, wanted, rtol=1e-7, atol=1e-9)
    unguided = dynamic_loop(start, noises, steps, offset=2e-4, strength=0.0, prior=0.3)
    assert np.abs(wanted - unguided).max() > 0.1

    key = jax.random.key(1)
    path = sample_exactly(
        LAW, DDPM.linear(), steps, key=key, start=start[:, None], guidance=kind, variance="beta"
    )
    level = (path.alpha[-1], path.sigma[-1])
    ended, _ = kind.step(
        path.guidance_state,
        path.final,
        level,
        lambda label: label_denoiser(LAW, path.final, *level, gs.Partition([0, 1]), label),
    )
    keys = jax.random.split(jax.random.split(key)[1], len(steps) - 1)
    noises = [np.asarray(jax.random.normal(one, (16, 1)))[:, 0] for one in keys]
    wanted = dynamic_loop(start, noises, steps, offset=2e-4, **settings)
    np.testing.assert_allclose(ended[:, 0], wanted, rtol=1e-7, atol=1e-9)


def test_a_variance_is_known_and_of_noisy_steps():
    with pytest.raises((ValueError, TypeError), match="variance"):
        sample(MODEL, (1, 1), torch.tensor(LEVELS), variance="small")
    with pytest.raises(ValueError, match="ancestral steps alone"):
        sample(MODEL, (1, 1), torch.tensor(LEVELS), variance="beta", method="probability-flow")
    options = {"key": jax.random.key(0), "num_samples": 1}
    with pytest.raises(ValueError, match="variance"):
        sample_exactly(LAW, VarianceExploding(), LEVELS, variance="small", **options)
    with pytest.raises(ValueError, match="alone"):
        sample_exactly(LAW, VarianceExploding(), LEVELS, variance="beta", method="ode", **options)


def kinds():
    exact = guidance.ExactPosterior(LAW, 1)
    ratio = guidance.TrackedRatio(1, 0.3)
    return {
        "interval": guidance.Interval(guidance.ClassifierFree(1, 3.0), below(4), below(1)),
        "interval of a memory": guidance.Interval(
            guidance.DynamicNegative(1, 0.5, ratio), below(4), below(1)
        ),
        "feedback": feedback(),
        "safe": guidance.SafeLatent(1, 0.5, 0.5, warmup=3),
        "dynamic": guidance.DynamicNegative(1, 0.5, ratio),
        "exact": guidance.DynamicNegative(1, 0.5, exact),
    }


@pytest.mark.parametrize("name", kinds())
def test_a_guided_function_in_heuns_method_is_the_samplers_own(name):
    kind = kinds()[name]
    options = {"dtype": torch.float64, "method": "probability-flow"}
    guided = guidance.Guided(MODEL, kind, second_order=True)
    drawn = [
        sample(model, (4, 1), torch.tensor(LEVELS), generator=one, guidance=own, **options)
        for model, own in ((MODEL, kind), (guided, None))
        for one in [torch.Generator().manual_seed(0)]
    ]
    assert torch.equal(*drawn)


@pytest.mark.parametrize("name", kinds())
def test_a_level_met_again_is_guided_from_its_entry(name):
    """As by Heun's method, which corrects where it stands, and PNDM: no start anew, no further step."""
    x = torch.linspace(-2, 2, 10, dtype=torch.float64).reshape(5, 2).mT[..., None] * LEVELS[2]
    once, twice = (guidance.Guided(MODEL, kinds()[name]) for _ in range(2))
    for index, states in zip((2, 3, 4, 5, 6), [*x, *x, *x], strict=False):
        first = twice(states + 1.0, LEVELS[index])
        again = twice(states, LEVELS[index])
        assert torch.equal(again, once(states, LEVELS[index]))
        assert not torch.equal(again, first)
    assert torch.equal(
        twice(x[0], LEVELS[0]), guidance.Guided(MODEL, kinds()[name])(x[0], LEVELS[0])
    )
    rows = x[0][:3]
    assert twice(rows, LEVELS[0]).shape == rows.shape  # other states: another run


@pytest.mark.parametrize("warmup", [0, 3, 6, 7])
def test_safe_latent_guidance_acts_in_heuns_method_from_its_step_on(warmup):
    """Its warm-up is of steps: the sampler's end differs as soon as one is left to act."""
    kind = guidance.SafeLatent(1, 0.5, 0.5, warmup=warmup)
    ours, latents, _ = by_torch(kind, method="probability-flow")
    momentum, count = 0.0, 0

    def push(x, sigma, momentum, acts):
        of_class, whole = means(x, sigma)
        gap = (of_class - whole) / sigma  # eps_u - eps_c
        gamma = np.where(gap < 0.5, np.minimum(1, np.abs(0.5 * gap)), 0) * -gap + 0.3 * momentum
        return whole + sigma * gamma * acts, 0.4 * momentum + 0.6 * gamma

    x = 80 * latents
    for sigma, lower in zip(LEVELS, np.append(LEVELS[1:], 0.0), strict=True):
        acts = count >= warmup
        guided, momentum = push(x, sigma, momentum, acts)
        slope = (x - guided) / sigma
        if lower > 0:
            euler = x + (lower - sigma) * slope
            slope = (slope + (euler - push(euler, lower, momentum, acts)[0]) / lower) / 2
        x, count = x + (lower - sigma) * slope, count + 1
    np.testing.assert_allclose(ours, x, rtol=1e-9)
