"""Intervals of noise for the guidance that pipelines and guiders of diffusers have of their own."""

import copy
import warnings

import pytest
import torch
from tiny_pipeline import change, close, draw, levels_of, made_as

from model_bridges.entropy.windows import GuidanceInterval
from model_bridges.guidance import PROMPT, ClassifierFree, Interval, on_pipeline
from model_bridges.guidance.pipelines import PIPELINES
from model_bridges.pipelines.schedulers import level_at

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


# A flow has its own scheduler.
CASES = [
    (name, scheduler)
    for name, tensors in PIPELINES.items()
    if tensors
    for scheduler in ("DDIMScheduler", "KDPM2DiscreteScheduler", "PNDMScheduler", None)
    if (scheduler is None) == ("Diffusion3" in name)
]


@pytest.mark.parametrize(("name", "scheduler"), CASES)
def test_a_callback_guides_the_levels_it_names(pipe, name, scheduler):
    made, options = made_as(name, pipe)
    network = made.unet if hasattr(made, "unet") else made.transformer
    if scheduler:
        used = made.scheduler
        change(made, scheduler, skip_prk_steps=True)
    sizes, levels = [], []

    def count(module, args, kwargs, output):
        given = kwargs.get("sample", kwargs.get("hidden_states", args[0] if args else None))
        sizes.append(len(given))
        levels.append(
            level_at(made.scheduler, kwargs.get("timestep", args[1] if len(args) > 1 else None))
        )

    hook = network.register_forward_hook(count, with_kwargs=True)
    own = draw(made, **options)
    sigmas = [level.sigma for level in levels]
    kept = sorted({*sigmas}, reverse=True)
    low, high = (kept[3] + kept[2]) / 2, (kept[0] + kept[1]) / 2  # two levels of the middle
    sizes.clear()
    called = draw(
        made, callback_on_step_end=GuidanceInterval((low, high)).as_callback(made), **options
    )
    hook.remove()
    acts = [True]
    for level in levels[1 : len(sigmas)]:  # once a step
        acts.append(acts[-1] if level.provisional else low < level.sigma <= high)
    assert sizes == [4 if act else 2 for act in acts]
    assert 0 < sum(acts) < len(acts)
    everywhere = GuidanceInterval((0.0, 1e9)).as_callback(made)
    assert torch.equal(draw(made, callback_on_step_end=everywhere, **options), own)
    if scheduler:
        top = max(sigma for sigma, act in zip(sigmas, acts, strict=True) if act)
        with on_pipeline(made, Interval(ClassifierFree(PROMPT, 3.0), low, top)):
            close(called, draw(made, **options))
        made.scheduler = used


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "KDPM2DiscreteScheduler", "PNDMScheduler"])
def test_a_callback_between_two_steps_says_that_it_does_nothing(pipe, scheduler):
    made = copy.deepcopy(pipe)
    change(made, scheduler, skip_prk_steps=True)
    levels = levels_of(made)
    between = GuidanceInterval((levels[3] * 1.001, levels[2] * 0.999))
    callback = between.as_callback(made)
    for _ in range(2):
        with pytest.warns(UserWarning, match="No level of this run lies in .* ClassifierFree acts"):
            draw(made, callback_on_step_end=callback)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "No level of this run")
        for ends in ((levels[3] * 1.001, levels[2]), (levels[-1] * 0.9, levels[-1])):
            draw(made, callback_on_step_end=GuidanceInterval(ends).as_callback(made))


def test_a_callback_keeps_the_one_image_of_guess_mode(pipe):
    made, options = made_as("StableDiffusionControlNetPipeline", pipe)
    made.scheduler.set_timesteps(6)
    sigmas = [level_at(made.scheduler, step).sigma for step in made.scheduler.timesteps]
    options["guess_mode"] = True
    callback = GuidanceInterval((sigmas[2], 1e3)).as_callback(made)
    called = draw(made, callback_on_step_end=callback, **options)
    with on_pipeline(made, Interval(ClassifierFree(PROMPT, 3.0), sigmas[2], 1e3)):
        close(called, draw(made, **options))


def test_a_callback_on_a_pipeline_of_images_is_refused(pipe):
    for name in (name for name, tensors in PIPELINES.items() if tensors is None):
        with pytest.raises(
            ValueError,
            match=f"callback (cannot halve all that|has no place in|does not reach .* of) {name}",
        ):
            GuidanceInterval((0.1, 1.0)).as_callback(made_as(name, pipe)[0])
    made = copy.deepcopy(pipe)
    made.unet.encoder_hid_proj = torch.nn.Identity()
    callback = GuidanceInterval((0.1, 1.0)).as_callback(made)
    with pytest.raises(ValueError, match="prompted by images"):
        draw(made, callback_on_step_end=callback)
    with pytest.raises(ValueError, match="not guided"):
        draw(pipe, 1.0, callback_on_step_end=GuidanceInterval((0.1, 1.0)).as_callback(pipe))


def test_half_steps_of_a_guider_are_the_steps_meant():
    """All first and last steps of up to 40, against the guider's own rule."""
    from diffusers.guiders import ClassifierFreeGuidance

    guided = GuidanceInterval((1.0, 2.0))
    for num_steps in range(1, 41):
        guider = ClassifierFreeGuidance()
        for first in range(num_steps):
            for last in range(first, num_steps):
                sigmas = [3.0] * first + [1.5] * (last + 1 - first) + [0.5] * (num_steps - 1 - last)
                found = guided.steps(sigmas)
                guider._start, guider._stop = found["start"], found["stop"]
                assert 0 <= found["start"] <= found["stop"] <= 1
                acts = []
                for step in range(num_steps):
                    guider.set_state(step, num_steps, torch.tensor(0))
                    acts.append(guider._is_cfg_enabled())
                assert acts == [first <= step <= last for step in range(num_steps)]
    found = guided.steps([3.0, 1.5, 0.5])
    ClassifierFreeGuidance(start=found["start"], stop=found["stop"])  # it has these names
