"""Guiders of diffusers' modular pipelines: their own numbers, on their own clock.

Pipelines are tiny, of random weights. "Own" is what the modular pipeline does with diffusers' own guider, or
the pipeline that is not modular within `on_pipeline`.
"""

import copy
import threading
import warnings

import diffusers
import numpy as np
import pytest
import torch
from diffusers.guiders import BaseGuidance, ClassifierFreeGuidance
from tiny_pipeline import close, draw, levels_of, stable_diffusion_3, stable_diffusion_xl

from model_bridges import guidance
from model_bridges.entropy.windows import GuidanceInterval
from model_bridges.guidance import (
    PROMPT,
    UNWANTED,
    ClassifierFree,
    Interval,
    as_guider,
    on_pipeline,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
PROMPTS = ("a cat", "a dog")
# The blocks of the modular pipeline, the pipeline, and what its denoising block calls a prompt's tensors.
MADE = {
    "xl": (diffusers.StableDiffusionXLAutoBlocks, stable_diffusion_xl),
    "3": (diffusers.StableDiffusion3AutoBlocks, stable_diffusion_3),
}


def modular(blocks, pipe):
    """The modular pipeline of the same parts."""
    made = blocks().init_pipeline()
    parts = {
        name: part
        for name, part in pipe.components.items()
        if name in made._component_specs and part is not None
    }
    parts["scheduler"] = copy.deepcopy(parts["scheduler"])
    made.update_components(**parts)
    made.set_progress_bar_config(disable=True)
    return made


def run(made, guider=None, prompts=PROMPTS, **options):
    if guider is not None:
        made.update_components(guider=guider)
    return made(
        prompt=list(prompts),
        negative_prompt="",  # without one Stable Diffusion 3 encodes none
        generator=torch.Generator().manual_seed(0),
        output="latents",
        **{"num_inference_steps": 6, "height": 16, "width": 16, "output_type": "latent", **options},
    )


@pytest.fixture(params=sorted(MADE))
def pair(request):
    """A pipeline, and the modular one of its parts."""
    blocks, make = MADE[request.param]
    pipe = make()
    return pipe, modular(blocks, pipe)


def counted(made):
    """Rows that its network is given, a number a call."""
    network = made.unet if hasattr(made, "unet") else made.transformer
    sizes = []
    network.register_forward_pre_hook(
        lambda module, args, kwargs: sizes.append(
            len(args[0] if args else kwargs["hidden_states"])
        ),
        with_kwargs=True,
    )
    return sizes


def test_everywhere_it_is_diffusers_own_guider(pair):
    _, made = pair
    own = run(made, ClassifierFreeGuidance(3.0))
    guider = as_guider(ClassifierFree(PROMPT, 3.0), made)
    assert isinstance(guider, BaseGuidance)
    assert type(guider).__name__ == "ClassifierFreeGuider"
    close(run(made, guider), own)
    close(run(made), own)  # and once more: nothing is left of the first call
    other = run(made, as_guider(ClassifierFree(PROMPT, 5.0), made))
    assert (other - own).abs().max() > 1e-3 * own.abs().max()
    close(run(made, guider.new()), own)


def test_an_interval_of_noise_asks_for_one_output_outside(pair):
    """The steps meant, by diffusers' own guider of steps, at every call."""
    pipe, made = pair
    levels = levels_of(pipe)
    low, high = levels[4] * 1.001, levels[1] * 1.001
    found = GuidanceInterval((low, high)).steps(levels)
    own = run(made, ClassifierFreeGuidance(7.5, start=found["start"], stop=found["stop"]))
    sizes = counted(made)
    guider = GuidanceInterval((low, high)).as_guider(made)
    for _ in range(2):
        sizes.clear()
        close(run(made, guider), own)
        assert len(sizes) == len(levels) + sum(low < level <= high for level in levels)
    sizes.clear()
    alone = run(made, as_guider(guidance.Unguided(PROMPT), made))
    assert len(sizes) == len(levels)
    close(alone, run(made, ClassifierFreeGuidance(1.0 + 1e-6)))
    idle = GuidanceInterval((levels[3] * 1.001, levels[2] * 0.999)).as_guider(made)
    for _ in range(2):
        with pytest.warns(UserWarning, match="No level of this run lies in"):
            close(run(made, idle), alone)
    last = GuidanceInterval((levels[-1] * 0.9, levels[-1])).as_guider(made)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "No level of this run")
        assert not torch.equal(run(made, last), alone)


KINDS = {
    "negative": guidance.NegativePrompt(UNWANTED, 1.5, prompt=PROMPT, scale=3.0),
    "dynamic": guidance.DynamicNegative(
        UNWANTED, 5.0, guidance.TrackedRatio(UNWANTED, 0.3), PROMPT, 3.0
    ),
    "feedback": guidance.Feedback.tracked(PROMPT, num_steps=6),
    "safe": guidance.SafeLatent(UNWANTED, 500.0, prompt=PROMPT, scale=3.0),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_as_on_the_pipeline_itself(pair, name):
    pipe, made = pair
    kind = KINDS[name]
    with on_pipeline(pipe, kind, unwanted="a red cat"):
        own = draw(pipe, negative_prompt=[""] * 2)
    with torch.no_grad():
        text, _, pooled, _ = pipe.encode_prompt(
            *(["a red cat"] + [None] * (1 if hasattr(pipe, "unet") else 2)),
            do_classifier_free_guidance=False,
            device=torch.device("cpu"),
        )
    names = "prompt_embeds" if hasattr(pipe, "unet") else "encoder_hidden_states"
    guider = as_guider(kind, made, unwanted={names: text, "text_embeds": pooled})
    close(run(made, guider), own)
    plain = run(made, ClassifierFreeGuidance(3.0))
    assert (own - plain).abs().max() > 1e-3 * plain.abs().max()


def test_what_a_guider_lacks_is_said():
    pipe = stable_diffusion_xl()
    made = modular(diffusers.StableDiffusionXLAutoBlocks, pipe)
    with pytest.raises(ValueError, match="No level of the sampler"):
        GuidanceInterval((1e3, 1e4)).as_guider(made)
    with pytest.raises(
        ValueError, match=r"modular pipeline with a guider; got StableDiffusionXLPipeline"
    ):
        as_guider(ClassifierFree(PROMPT, 3.0), pipe)
    with pytest.raises(ValueError, match="asks for label 1"):
        run(made, as_guider(guidance.NegativePrompt(UNWANTED, 1.0), made))
    wrong = as_guider(KINDS["negative"], made, unwanted={"words": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"prompt_embeds.*got 'words'"):
        run(made, wrong)

    class Own(diffusers.DDIMScheduler):
        pass

    made.update_components(scheduler=Own.from_config(made.scheduler.config))
    with pytest.raises(ValueError, match=r"got .*Own, whose noise"):
        as_guider(ClassifierFree(PROMPT, 3.0), made)


def test_a_guider_is_of_its_pipeline(pair):
    """Its clock is the scheduler of the pipeline that it was made for."""
    _, made = pair
    guider = as_guider(ClassifierFree(PROMPT, 3.0), made)
    own = run(made, guider)
    other = copy.deepcopy(made)
    other.scheduler.register_to_config(shift=1.0)
    with pytest.raises(ValueError, match="made for another pipeline"):
        run(other, as_guider(ClassifierFree(PROMPT, 3.0), made))
    close(run(made, guider), own)
    assert torch.equal(run(copy.deepcopy(made)), own)  # with its guider


def test_scales_of_prompts_and_several_pictures_of_each(pair):
    _, made = pair
    given = {"num_images_per_prompt": 2}
    own = {scale: run(made, ClassifierFreeGuidance(scale), **given) for scale in (2.0, 6.0)}
    drawn = run(made, as_guider(ClassifierFree(PROMPT, np.array([2.0, 6.0])), made), **given)
    close(drawn, torch.cat([own[2.0][:2], own[6.0][2:]]))


def test_a_network_that_was_compiled(pair):
    _, made = pair
    part = "unet" if hasattr(made, "unet") else "transformer"
    guider = as_guider(ClassifierFree(PROMPT, 3.0), made)
    own, network = run(made, guider), getattr(made, part)
    made.update_components(**{part: torch.compile(network, backend="eager")})
    close(run(made, guider), own)
    made.update_components(**{part: network})
    network.compile(backend="eager")
    with pytest.raises(ValueError, match="compiled in place"):
        run(made, guider)


def test_a_guider_is_of_one_thread():
    pipe = stable_diffusion_xl()
    made = modular(diffusers.StableDiffusionXLAutoBlocks, pipe)
    guider = as_guider(Interval(ClassifierFree(PROMPT, 3.0), 0.5, 5.0), made)
    own, found = run(made, guider), []
    made.scheduler.set_timesteps(6)
    guider.set_state(0, 6, made.scheduler.timesteps[0])

    def elsewhere():
        try:
            guider.set_state(1, 6, made.scheduler.timesteps[1])
        except ValueError as error:
            found.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "another thread" in found[0]
    assert torch.equal(run(made), own)
