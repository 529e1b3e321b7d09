"""Guidance on pipelines of diffusers: the pipeline's own numbers, whatever its class, scheduler and inputs.

Pipelines are tiny, of random weights. "Own" is what the pipeline does without us; a further prompt that is
the prompt must give the prompt's output, with everything the pipeline gives to it.
"""

import copy
import functools
import math
import re
import threading
from pathlib import Path
from typing import ClassVar

import diffusers
import numpy as np
import pytest
import torch
from tiny_pipeline import change, close, draw, further, made_as

from model_bridges import guidance
from model_bridges.entropy.windows import GuidanceInterval
from model_bridges.guidance import PROMPT, UNWANTED, ClassifierFree, on_pipeline
from model_bridges.guidance.evaluations import half
from model_bridges.guidance.pipelines import PIPELINES
from model_bridges.pipelines.schedulers import KNOWN, noise_range

# Its old schedulers warn about NumPy and about their own defaults.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def _check_identities(pipe, **options):
    """Guided as the pipeline guides itself; and by a further prompt that is the prompt, or stands for it.

    A ControlNet reads the prompt, too, and what it says goes on with the further prompt.
    """
    own = draw(pipe, 3.0, ["a cat"] * 2, **options)
    instead = "a cat" if hasattr(pipe, "controlnet") else "a dog"
    with on_pipeline(pipe, ClassifierFree(PROMPT, 3.0)):
        close(draw(pipe, 9.0, ["a cat"] * 2, **options), own)  # the pipe's own scale plays no part
    with on_pipeline(pipe, ClassifierFree(UNWANTED, 3.0), unwanted=further(pipe, "a cat")):
        close(draw(pipe, 9.0, [instead] * 2, **options), own)
    other = draw(pipe, 9.0, ["a cat"] * 2, **options)  # outside the block it does
    assert (other - own).abs().max() > 1e-3 * own.abs().max()


# What diffusers' own UNet pipelines cannot run: they ask for `init_noise_sigma`, `order`,
# or a `step` without further arguments.
NOT_OF_UNETS = {
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "FlowMatchLCMScheduler",
    "CogVideoXDPMScheduler",
    "UnCLIPScheduler",
}
CASES = [
    (name, prediction)
    for name in sorted(set(KNOWN) - NOT_OF_UNETS)
    for prediction in KNOWN[name].predictions
]


@pytest.mark.parametrize(("name", "prediction"), CASES)
def test_guidance_under_every_scheduler_is_the_pipelines_own(pipe, name, prediction):
    settings = {"prediction_type": prediction}
    if prediction == "flow_prediction":
        settings["use_flow_sigmas"] = True
    change(pipe, name, **settings)
    _check_identities(pipe, num_inference_steps=4)


@pytest.mark.parametrize("name", sorted(NOT_OF_UNETS))
def test_the_schedulers_left_out_are_those_that_the_pipeline_cannot_run(pipe, name):
    pipe.scheduler = getattr(diffusers, name)()
    with pytest.raises((AttributeError, TypeError)):
        draw(pipe)


@pytest.mark.parametrize("name", sorted(PIPELINES))
def test_guidance_on_every_known_pipeline_is_its_own(pipe, name):
    made, options = made_as(name, pipe)
    _check_identities(made, **options)
    if "ControlNet" in name:  # the negative prompt goes without the ControlNet
        _check_identities(made, guess_mode=True, **options)


def test_a_further_prompt_gets_the_scale_of_a_lora(pipe):
    from peft import LoraConfig

    tuned = copy.deepcopy(pipe)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        layers = LoraConfig(r=2, init_lora_weights=False, target_modules=["to_q", "to_k", "to_v"])
        tuned.unet.add_adapter(layers)
        words = LoraConfig(r=2, init_lora_weights=False, target_modules=["q_proj", "v_proj"])
        tuned.text_encoder.add_adapter(words)
    half, whole = ({"cross_attention_kwargs": {"scale": scale}} for scale in (0.5, 1.0))
    _check_identities(tuned, **half)
    assert (draw(tuned, **half) - draw(tuned, **whole)).abs().max() > 1e-2


class Watch(guidance.Guidance):
    """Classifier-free guidance whose state is the noise levels that it has been through."""

    base_label = PROMPT

    def __init__(self):
        self.asked, self.begun = [], 0

    def init(self, x):
        self.begun += 1
        return ()

    def step(self, state, x, sigma, denoise):
        self.asked.append((sigma, state))
        return ClassifierFree(PROMPT, 3.0).step((), x, sigma, denoise)[0], (*state, sigma)


@pytest.mark.parametrize("name", sorted(set(KNOWN) - NOT_OF_UNETS))
def test_the_state_is_of_the_call_and_moves_once_a_level(pipe, name):
    change(pipe, name)
    watch = Watch()
    for run in (1, 2):
        watch.asked.clear()
        with on_pipeline(pipe, watch):
            draw(pipe, num_inference_steps=5)
        assert watch.begun == run
        asked, last = list(watch.asked), watch.asked[-1]
        levels = (*last[1], last[0])
        assert list(levels) == sorted(set(levels), reverse=True)
        # Every evaluation acts from the levels above its own, all of them.
        for sigma, state in asked:
            assert state == tuple(level for level in levels if level > sigma * (1 + 1e-4))
        second = len(asked) - len(levels)
        once = KNOWN[name].second is None and name != "PNDMScheduler"
        assert second == (0 if once else 9 if name == "PNDMScheduler" else 4)


TWICE = [
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "DPMSolverSDEScheduler",
    "PNDMScheduler",
]


@pytest.mark.parametrize("name", TWICE)
def test_an_interval_decides_once_a_step_under_schedulers_that_ask_twice(pipe, name):
    change(pipe, name)

    class Steps(guidance.Guidance):
        """Where each step of an interval began, for every evaluation."""

        base_label = PROMPT
        seen: ClassVar = []

        def step(self, state, x, sigma, denoise):
            self.seen.append((sigma, sigma))
            return denoise(PROMPT), sigma

        def again(self, start, x, sigma, denoise):
            self.seen.append((start, sigma))
            return denoise(PROMPT)

    with on_pipeline(pipe, Steps()):
        draw(pipe, num_inference_steps=5)
    every = list(Steps.seen)
    assert any(start > sigma for start, sigma in every)
    # Ends between a step's two evaluations: by its own level the second would fall out.
    start, second = max((one for one in every if one[0] > one[1]), key=lambda one: one[0])
    low = math.sqrt(start * second)
    Steps.seen.clear()
    with on_pipeline(pipe, guidance.Interval(Steps(), low, 1e9)):
        draw(pipe, num_inference_steps=5)
    assert Steps.seen == [one for one in every if one[0] > low]


def test_two_guidances_do_not_meet(pipe):
    own = draw(pipe)
    partner = diffusers.StableDiffusionPipeline(**pipe.components, requires_safety_checker=False)
    partner.scheduler = copy.deepcopy(pipe.scheduler)
    partner.set_progress_bar_config(disable=True)
    strong, weak = ClassifierFree(PROMPT, 9.0), ClassifierFree(PROMPT, 1.0)
    alone = {}
    for kind in (strong, weak):
        with on_pipeline(pipe, kind):
            alone[kind] = draw(pipe)
    with on_pipeline(pipe, strong):
        with (
            pytest.raises(ValueError, match="guided already, by ClassifierFree"),
            on_pipeline(pipe, weak),
        ):
            pass
        assert torch.equal(draw(partner), own)  # shares the UNet
        assert torch.equal(draw(copy.deepcopy(pipe)), own)
        assert type(copy.deepcopy(pipe)) is diffusers.StableDiffusionPipeline
        with on_pipeline(partner, weak):
            assert torch.equal(draw(partner), alone[weak])
            assert torch.equal(draw(pipe), alone[strong])
        assert torch.equal(draw(pipe), alone[strong])
    assert type(pipe) is diffusers.StableDiffusionPipeline
    assert torch.equal(draw(pipe), own)
    assert not pipe.unet._forward_hooks
    assert not pipe.unet._forward_pre_hooks


def test_a_network_copied_within_a_call_is_free(pipe):
    copies = []

    def keep(pipe, index, step, given):
        copies.append(copy.deepcopy(pipe.unet))
        return given

    with on_pipeline(pipe, ClassifierFree(PROMPT, 9.0)):
        draw(pipe, callback_on_step_end=keep, num_inference_steps=1)
        given = torch.zeros(2, 4, 8, 8), 3, torch.zeros(2, 5, 16)
        assert torch.equal(copies[0](*given).sample, pipe.unet(*given).sample)


def test_another_thread_is_not_guided_and_not_let_in(pipe):
    own = draw(pipe)
    partner = diffusers.StableDiffusionPipeline(**pipe.components, requires_safety_checker=False)
    partner.scheduler = copy.deepcopy(pipe.scheduler)
    partner.set_progress_bar_config(disable=True)
    results = {}

    def elsewhere():
        results["partner"] = draw(partner)
        try:
            draw(pipe)
        except ValueError as error:
            results["refused"] = str(error)

    def meanwhile(pipe, index, step, given):
        if index == 2:
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
        return given

    with on_pipeline(pipe, ClassifierFree(PROMPT, 9.0)):
        alone = draw(pipe)
        assert torch.equal(draw(pipe, callback_on_step_end=meanwhile), alone)
    assert torch.equal(results["partner"], own)
    assert "in a call already" in results["refused"]


def test_no_signal_at_the_first_step(pipe):
    """With v-prediction the step is guided; a prediction of the noise says nothing there."""
    zero = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    for name in ("DDIMScheduler", "DDPMScheduler", "EulerDiscreteScheduler"):
        change(pipe, name, prediction_type="v_prediction", **zero)
        _check_identities(pipe)
    change(pipe, "DDIMScheduler", prediction_type="epsilon", **zero)
    with (
        pytest.raises(ValueError, match="without any signal"),
        on_pipeline(pipe, ClassifierFree(PROMPT, 3.0)),
    ):
        draw(pipe)


def test_an_interval_on_a_pipeline_guides_the_steps_it_names(pipe):
    sigmas = []
    pipe.scheduler.set_timesteps(6)
    for step in pipe.scheduler.timesteps:
        signal = float(pipe.scheduler.alphas_cumprod[step])
        sigmas.append(((1 - signal) / signal) ** 0.5)
    low, high = (sigmas[4] + sigmas[3]) / 2, (sigmas[0] + sigmas[1]) / 2

    acts = []

    class Watch(guidance.Guidance):
        @property
        def base_label(self):
            return PROMPT

        def step(self, state, x, sigma, denoise):
            acts.append(sigma)
            return guidance.ClassifierFree(PROMPT, 3.0).step(state, x, sigma, denoise)

    with on_pipeline(pipe, guidance.Interval(Watch(), low, high)):
        limited = draw(pipe)
    np.testing.assert_allclose(acts, sigmas[1:4], rtol=1e-6)
    # The callback guides the first step as the pipeline is told; the rest is the same.
    called = draw(pipe, callback_on_step_end=GuidanceInterval((low, high)).as_callback(pipe))
    with on_pipeline(pipe, guidance.Interval(guidance.ClassifierFree(PROMPT, 3.0), low, 1e3)):
        torch.testing.assert_close(called, draw(pipe), rtol=1e-4, atol=1e-4)
    assert (called - limited).abs().max() > 1e-3


def test_tracked_kinds_on_a_pipeline(pipe):
    plain = draw(pipe)
    away = guidance.DynamicNegative(
        UNWANTED, 5.0, guidance.TrackedRatio(UNWANTED, 0.3), PROMPT, 3.0
    )
    with on_pipeline(pipe, away, unwanted="a dog"):
        pushed = draw(pipe, eta=1.0)
    with on_pipeline(pipe, guidance.Feedback.tracked(PROMPT, num_steps=6)):
        fed = draw(pipe, eta=1.0)
    for result in (pushed, fed):
        assert torch.isfinite(result).all()
        assert (result - plain).abs().max() > 1e-3


def test_a_network_may_write_where_it_likes(pipe, monkeypatch):
    """On its input, and every output to one place, as captured graphs do."""
    kind = guidance.DynamicNegative.tracked(UNWANTED, strength=2.0)

    def guided():
        with on_pipeline(pipe, kind, unwanted="a dog"):
            return draw(pipe, 3.0)

    own, honest, buffer = guided(), pipe.unet.forward, torch.zeros(64, 4, 64, 64)

    def careless(sample, *args, **kwargs):
        output = honest(sample, *args, **kwargs)[0]
        sample.zero_()
        place = buffer[: len(output), :, : output.shape[2], : output.shape[3]]
        return (place.copy_(output),)

    careless = functools.wraps(honest)(careless)
    monkeypatch.setattr(pipe.unet, "forward", careless)
    close(guided(), own)


def test_a_pipeline_says_what_it_lacks(pipe):
    with (
        pytest.raises(ValueError, match=r"must be one of .*StableDiffusionPipeline.* Got object"),
        on_pipeline(object(), guidance.Unguided()),
    ):
        pass
    plain = ClassifierFree(PROMPT, 3.0)
    for scale, options, message in (
        (1.0, {}, "`guidance_scale` above 1"),
        (3.0, {"guidance_rescale": 0.7}, "guidance_rescale"),
    ):
        with pytest.raises(ValueError, match=message), on_pipeline(pipe, plain):
            draw(pipe, scale, **options)
    with (
        pytest.raises(ValueError, match="asks for label 1"),
        on_pipeline(pipe, guidance.NegativePrompt(UNWANTED, 1.0)),
    ):
        draw(pipe)
    assert not pipe.unet._forward_hooks
    with pytest.raises(ValueError, match="No level of the sampler"):
        GuidanceInterval((1e3, 1e4)).as_callback(pipe)

    change(pipe, "EulerDiscreteScheduler")
    with pytest.raises(ValueError, match="the noise must not rise"), on_pipeline(pipe, plain):
        draw(pipe, num_inference_steps=None, timesteps=[100, 500, 900])
    made, options = made_as("StableDiffusionInpaintPipeline", pipe)
    made.unet = type(pipe.unet).from_config(pipe.unet.config, in_channels=9)
    with pytest.raises(ValueError, match="networks for inpainting"), on_pipeline(made, plain):
        draw(made, **options)
    for rows in (torch.zeros(3, 2), {"boxes": [torch.zeros(2, 2)]}):
        with pytest.raises(
            ValueError, match=r"must have one row, or 4.*further prompt is not known"
        ):
            half(rows, 4, "cross_attention_kwargs")

    class Own(diffusers.DDIMScheduler):
        pass

    pipe.scheduler = Own.from_config(pipe.scheduler.config)
    with pytest.raises(ValueError, match=r"got .*Own, whose noise"), on_pipeline(pipe, plain):
        pass
    with pytest.raises(ValueError, match=r"got .*Own, whose noise"):
        noise_range(pipe.scheduler)


def test_the_pipelines_of_the_docs_are_guided_as_they_say():
    """The page's own lines, on the shipped pipeline; the digit asked for is drawn."""
    from model_bridges.digits import load_digits
    from model_bridges.digits.classifier import DigitClassifier
    from model_bridges.digits.text.data import to_digits

    page = Path(__file__).parents[2] / "docs" / "howto" / "own-pipeline.md"
    blocks = [
        block
        for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S)
        if "on_pipeline" in block
    ]
    assert len(blocks) == 1
    names = {}
    torch.manual_seed(0)
    exec(blocks[0], names)  # our own page
    digits = load_digits()
    judge = DigitClassifier(digits)
    for drawn in (names["limited"], names["called"], names["without"]):
        pixels = np.stack([np.asarray(picture, np.float32) for picture in drawn]) / 127.5 - 1
        shown = judge.predict(to_digits(digits, torch.from_numpy(pixels)[:, None]))
        wanted = shown != 7 if drawn is names["without"] else shown == 7
        assert wanted.mean() >= 0.7
