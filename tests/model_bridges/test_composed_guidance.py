"""Guidance composed: something outside an interval, scales of prompts, several pictures, pipelines in turn.

Pipelines are tiny, of random weights. What is not needed is not computed, counted in calls of the network.
"""

import copy
import functools

import diffusers
import numpy as np
import pytest
import torch
from tiny_pipeline import close, draw, levels_of, made_as, side_by_side

from model_bridges import guidance
from model_bridges.guidance import PROMPT, UNWANTED, ClassifierFree, on_pipeline

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def sizes_of(pipe):
    """Rows of states that the network is given, a number a call, as it is called from now on."""
    network = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
    sizes, own = [], network.forward

    def forward(*args, **kwargs):
        sizes.append(len(args[0] if args else kwargs.get("hidden_states", kwargs.get("sample"))))
        return own(*args, **kwargs)

    network.forward = functools.wraps(own)(forward)
    return sizes, lambda: network.__dict__.pop("forward")


@pytest.mark.parametrize(
    "name",
    [
        "StableDiffusionPipeline",
        "StableDiffusionXLPipeline",
        "StableDiffusion3Pipeline",
        "StableDiffusionImg2ImgPipeline",
        "PixArtAlphaPipeline",
        "DiTPipeline",
        "FluxPipeline",
    ],
)
def test_outside_an_interval_the_network_computes_one_output(pipe, name):
    """And what is drawn is the same: a wide interval around none of the levels draws the prompt alone."""
    made, options = made_as(name, pipe)
    levels = levels_of(made, **options)
    low, high = levels[-2] * 1.001, levels[1] * 1.001
    acts = [low < level <= high for level in levels]
    assert 0 < sum(acts) < len(acts)
    unasked = guidance.Interval(Asks(ClassifierFree(PROMPT, 3.0)), low, high)
    with on_pipeline(made, unasked):
        whole = draw(made, **options)
    sizes, restore = sizes_of(made)
    try:
        with on_pipeline(made, guidance.Interval(ClassifierFree(PROMPT, 3.0), low, high)):
            spared = draw(made, **options)
        both = [2, 2] if name == "FluxPipeline" else [4]  # two calls, or one of both
        assert sizes == [size for act in acts for size in (both if act else [2])]
        sizes.clear()
        with on_pipeline(made, guidance.Interval(guidance.Unguided(None), low, high)):
            draw(made, **options)  # the empty prompt alone
        assert sizes == [2] * len(levels)
        sizes.clear()
        with on_pipeline(made, unasked):
            draw(made, **options)
        assert sizes == both * len(levels)
    finally:
        restore()
    close(spared, whole)


class Asks(guidance.Guidance):
    """Another guidance that does not say what it will ask for, and remembers."""

    remembers, base_label = True, PROMPT

    def __init__(self, inner):
        self.inner = inner

    def step(self, state, x, sigma, denoise):
        return self.inner.step(state, x, sigma, denoise)


def test_a_constant_guidance_goes_on_outside_a_limited_negative_term(pipe):
    """Composed by hand from the two runs' own formula at every level."""
    levels = levels_of(pipe)
    low, high = levels[4] * 1.001, levels[1] * 1.001
    inner = guidance.NegativePrompt(UNWANTED, 1.5, prompt=PROMPT, scale=7.5)
    constant = ClassifierFree(PROMPT, 7.5)
    composed = guidance.Interval(inner, low, high, outside=constant)

    class ByHand(guidance.Guidance):
        def step(self, state, x, sigma, denoise):
            whole, prompt = denoise(None), denoise(PROMPT)
            result = whole + 7.5 * (prompt - whole)
            if low < sigma <= high:
                result = result - 1.5 * (denoise(UNWANTED) - whole)
            return result, state

    drawn = {}
    for kind in (composed, ByHand(), constant, inner):
        with on_pipeline(pipe, kind, unwanted="a red cat"):
            drawn[kind] = draw(pipe)
    first, by_hand, *others = drawn.values()
    close(first, by_hand)
    for other in others:
        assert (other - first).abs().max() > 1e-2


def test_an_interval_inside_another(pipe):
    levels = levels_of(pipe)
    ends = [level * 1.001 for level in levels]
    kind = guidance.Interval(ClassifierFree(PROMPT, 5.0), ends[3], ends[1])
    outer = guidance.Interval(kind, ends[4], ends[2])
    with on_pipeline(pipe, outer):
        nested = draw(pipe)
    with on_pipeline(pipe, guidance.Interval(ClassifierFree(PROMPT, 5.0), ends[3], ends[2])):
        assert torch.equal(nested, draw(pipe))


def test_an_interval_between_two_steps_says_that_it_does_nothing(pipe):
    levels = levels_of(pipe)
    kind = guidance.Interval(ClassifierFree(PROMPT, 5.0), levels[3] * 1.001, levels[2] * 0.999)
    with on_pipeline(pipe, kind), pytest.warns(UserWarning, match="No level of this run lies in"):
        drawn = draw(pipe)
    with on_pipeline(pipe, guidance.Unguided(PROMPT)):
        close(drawn, draw(pipe))


def test_negative_prompts_scales_of_prompts_and_several_pictures(pipe):
    """What stands together is of one prompt; each is drawn as if it were alone at its scale."""
    given = {"negative_prompt": ["a red cat"] * 2, "num_images_per_prompt": 2}
    noise = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    given["latents"] = noise
    own = {scale: draw(pipe, scale, **given) for scale in (2.0, 6.0)}
    for scales in ((2.0, 6.0), (6.0, 2.0), (2.0, 2.0, 6.0, 6.0)):
        each = [scales[k * len(scales) // 4] for k in range(4)]
        with on_pipeline(pipe, ClassifierFree(PROMPT, np.array(scales))):
            drawn = draw(pipe, 9.0, **given)
        close(drawn, torch.stack([own[scale][k] for k, scale in enumerate(each)]))
    kind = guidance.NegativePrompt(UNWANTED, np.array([0.0, 2.0]), prompt=PROMPT, scale=6.0)
    with on_pipeline(pipe, kind, unwanted="a dog"):
        drawn = draw(pipe, 9.0, **given)
    close(drawn[:2], own[6.0][:2])
    assert (drawn[2:] - own[6.0][2:]).abs().amax((1, 2, 3)).min() > 1e-3
    with (
        pytest.raises(ValueError, match=r"got shape \(3,\) for 4 states"),
        on_pipeline(pipe, ClassifierFree(PROMPT, [1.0, 2.0, 3.0])),
    ):
        draw(pipe, 9.0, **given)


def test_two_pipelines_step_by_step_in_turn(pipe):
    """They share their network, in two threads, one step each: what each draws is what it draws alone."""
    levels = levels_of(pipe)
    partner = diffusers.StableDiffusionPipeline(**pipe.components, requires_safety_checker=False)
    partner.scheduler = copy.deepcopy(pipe.scheduler)
    partner.set_progress_bar_config(disable=True)
    kinds = {
        pipe: guidance.Interval(ClassifierFree(PROMPT, 8.0), levels[3], levels[1]),
        partner: guidance.DynamicNegative(
            UNWANTED, 2.0, guidance.TrackedRatio(UNWANTED, 0.3), PROMPT
        ),
    }
    prompts = {pipe: ["a cat"], partner: ["a dog", "a cat", "a red cat"]}

    def run(one, **options):
        with on_pipeline(one, kinds[one], unwanted="a dog"):
            return draw(one, prompts=prompts[one], **options)

    alone = {one: run(one) for one in kinds}
    found = side_by_side(run, kinds)
    assert all(torch.equal(found[one], alone[one]) for one in kinds)
