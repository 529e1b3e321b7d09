"""Pipelines as their users have them: compiled, in half precision, offloaded, with caches and adapters.

What is measured and how they are guided is as without; what would be another model is refused by name.
"""

import copy
import inspect
import warnings

import accelerate
import diffusers
import numpy as np
import pytest
import torch
from test_schedulers import scheduler_class
from tiny_pipeline import (
    close,
    draw,
    flux,
    made_as,
    pixels,
    side_by_side,
    stable_diffusion_3,
    states,
)

import model_bridges as mb
from model_bridges import guidance
from model_bridges.entropy.windows import GuidanceInterval
from model_bridges.guidance import PROMPT, ClassifierFree, Interval, on_pipeline
from model_bridges.guidance.pipelines import PIPELINES
from model_bridges.pipelines import FAMILIES
from model_bridges.pipelines.schedulers import KNOWN, levels_of, noise_range

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
PROMPTS = ("a cat", "a dog")
TEXT = [
    name
    for name in sorted(PIPELINES)
    if not any(part in name for part in ("Img2Img", "Inpaint", "ControlNet", "Adapter", "DiT"))
]


def in_place(pipe):
    pipe.unet.compile(backend="eager")


def as_another(pipe):
    pipe.unet = torch.compile(pipe.unet, backend="eager")


def offloaded(pipe):
    for part in (pipe.unet, pipe.text_encoder, pipe.vae):
        accelerate.cpu_offload(part, execution_device=torch.device("cpu"))


def hooked(pipe):
    pipe.unet.register_forward_hook(lambda module, args, output: None)


def cast_by_layer(pipe):
    pipe.unet.enable_layerwise_casting(storage_dtype=torch.float16, compute_dtype=torch.float32)


@pytest.mark.parametrize("change", [in_place, as_another, offloaded, hooked])
def test_a_network_in_use_is_the_same(pipe, change):
    """Used before, within and after guidance: what was traced at one time is not kept for another."""
    plain, options = copy.deepcopy(pipe), {"num_inference_steps": 4}
    used = copy.deepcopy(pipe)
    change(used)
    own = {scale: draw(plain, scale, **options) for scale in (3.0, 9.0)}
    for _ in range(2):
        close(draw(used, 9.0, **options), own[9.0])
        with on_pipeline(used, ClassifierFree(PROMPT, 3.0)):
            close(draw(used, 9.0, **options), own[3.0])
    with on_pipeline(used, Interval(ClassifierFree(PROMPT, 3.0), 1e3, 1e4)):
        alone = draw(used, 9.0, **options)
    close(alone, draw(plain, 1.0, **options))
    x, label = states(2, 1.0), torch.arange(2)
    read = mb.from_pipeline(used, PROMPTS)
    close(read(x, 1.0, label), mb.from_pipeline(plain, PROMPTS)(x, 1.0, label))
    close(mb.load(used, prompts=PROMPTS)(x, 1.0, label), read(x, 1.0, label))


def test_what_is_stored_in_half_computes_as_it_says(pipe):
    used = copy.deepcopy(pipe)
    cast_by_layer(used)
    x, label = states(2, 1.0), torch.arange(2)
    read = mb.from_pipeline(used, PROMPTS)(x, 1.0, label)
    whole = mb.from_pipeline(pipe, PROMPTS)(x, 1.0, label)
    assert read.dtype == torch.float32
    assert (read - whole).abs().max() < 1e-2 * whole.abs().max()


@pytest.mark.parametrize("name", TEXT)
def test_in_half_precision(pipe, name):
    """The pipeline's own mixture, no further from that of float32 than twice its own rounding."""
    made, options = made_as(name, copy.deepcopy(pipe))
    exact = draw(made, 3.0, **options)
    made = made.to(torch.bfloat16)
    own = draw(made, 3.0, **options).float()
    with on_pipeline(made, ClassifierFree(PROMPT, 3.0)):
        guided = draw(made, 9.0, **options).float()
    assert (guided - exact).norm() < 2 * (own - exact).norm()
    assert (draw(made, 9.0, **options).float() - exact).norm() > 2 * (own - exact).norm()


@pytest.mark.parametrize("name", TEXT)
def test_scales_of_prompts_and_several_pictures_of_each(pipe, name):
    """Each prompt is drawn as if all were at its scale, its pictures together."""
    made, options = made_as(name, pipe)
    given = {"num_images_per_prompt": 2, "num_inference_steps": 4, **options}
    own = {scale: draw(made, scale, **given) for scale in (2.0, 6.0)}
    with on_pipeline(made, ClassifierFree(PROMPT, np.array([2.0, 6.0]))):
        drawn = draw(made, 9.0, **given)
    assert len(drawn) == 4
    close(drawn, torch.cat([own[2.0][:2], own[6.0][2:]]))


def test_two_flux_pipelines_in_turn():
    """They share their transformer, in two threads, one step each."""
    first = flux()
    second = diffusers.FluxPipeline(
        **{**first.components, "scheduler": copy.deepcopy(first.scheduler)}
    )
    second.set_progress_bar_config(disable=True)
    kinds = {
        first: ClassifierFree(PROMPT, 5.0),
        second: guidance.Feedback.tracked(PROMPT, num_steps=6),
    }

    def run(one, **options):
        with on_pipeline(one, kinds[one]):
            return draw(one, **options)

    alone = {one: run(one) for one in kinds}
    found = side_by_side(run, kinds)
    assert all(torch.equal(found[one], alone[one]) for one in kinds)
    assert (alone[first] - alone[second]).abs().max() > 1e-3


def test_flux_says_how_it_is_called():
    pipe = flux()
    for given in ({"negative_prompt": None}, {"true_cfg_scale": 1.0}):
        with (
            pytest.raises(ValueError, match=r"`true_cfg_scale` above 1 and a `negative_prompt`"),
            on_pipeline(pipe, ClassifierFree(PROMPT, 3.0)),
        ):
            draw(pipe, **given)


def test_a_network_with_a_memory_is_refused():
    pipe = flux()
    pipe.transformer.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.5))
    with pytest.raises(ValueError, match=r"`pipe\.transformer\.disable_cache\(\)`"):
        mb.from_pipeline(pipe, PROMPTS, size=(16, 16))
    with (
        pytest.raises(ValueError, match=r"`pipe\.transformer\.disable_cache\(\)`"),
        on_pipeline(pipe, ClassifierFree(PROMPT, 3.0)),
    ):
        pass
    pipe.transformer.disable_cache()
    mb.from_pipeline(pipe, PROMPTS, size=(16, 16))


def test_what_acts_besides_the_two_outputs_is_refused(pipe):
    made = stable_diffusion_3()
    given = {
        "skip_guidance_layers": [0],
        "skip_layer_guidance_start": 0.0,
        "skip_layer_guidance_stop": 1.0,
        "latents": torch.zeros(2, 4, 8, 8),  # halves that are equal
    }
    with (
        pytest.raises(ValueError, match="skip_guidance_layers"),
        on_pipeline(made, ClassifierFree(PROMPT, 3.0)),
    ):
        draw(made, prompts=["a cat"] * 2, **given)
    made.transformer.encoder_hid_proj = torch.nn.Identity()
    with pytest.raises(ValueError, match="unload_ip_adapter"):
        mb.from_pipeline(made, PROMPTS)


def test_a_loop_without_a_progress_bar_is_not_taken_for_guided(pipe):
    class Own(diffusers.StableDiffusionPipeline):
        def __call__(self, prompt, guidance_scale=7.5):
            return self.unet(torch.zeros(2, 4, 8, 8), 3, torch.zeros(2, 5, 16)).sample

    made = Own(**pipe.components, requires_safety_checker=False)
    with (
        pytest.raises(ValueError, match=r"Own did not ask its `unet`.*nothing was guided"),
        on_pipeline(made, ClassifierFree(PROMPT, 3.0)),
    ):
        made("a cat")


def test_a_schedule_is_set_by_its_configuration(pipe):
    """Another resolution's noise, set in place, is refused; by the way that is named it is the model's."""
    changed = copy.deepcopy(pipe)
    scheduler = changed.scheduler
    told = scheduler.alphas_cumprod.double()
    ratio = told / (1 - told) / 4
    wanted = ratio / (1 + ratio)
    scheduler.alphas_cumprod = wanted.to(torch.float32)
    for ask in (
        lambda: mb.from_pipeline(changed, PROMPTS),
        lambda: GuidanceInterval((0.01, 1000.0)).timesteps(scheduler, 5),
    ):
        with pytest.raises(ValueError, match=r"set in place.*trained_betas"):
            ask()
    betas = 1 - wanted / torch.cat([torch.ones(1), wanted[:-1]])
    changed.scheduler = type(scheduler).from_config(scheduler.config, trained_betas=betas.tolist())
    usual, noisier = (mb.from_pipeline(one, PROMPTS).sigma_range for one in (pipe, changed))
    np.testing.assert_allclose(noisier, np.multiply(usual, 2), rtol=1e-4)
    found = GuidanceInterval((0.01, 1000.0)).timesteps(changed.scheduler, 5)
    draw(changed, num_inference_steps=5)
    assert found["timesteps"] == changed.scheduler.timesteps.tolist()
    for name in ("EulerDiscreteScheduler", "UniPCMultistepScheduler"):  # from no signal at all
        settings = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
        changed.scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config, **settings)
        changed.scheduler.set_timesteps(5)
        mb.from_pipeline(changed, PROMPTS)


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize("dynamic", [True, False])
def test_steps_of_a_pipeline_are_those_that_it_takes(pipe, name, dynamic):
    """FLUX has levels of its own; where the size shifts them, a taller picture's are others."""
    made, options = made_as(name, copy.deepcopy(pipe))
    flow = name in ("FluxPipeline", "StableDiffusion3Pipeline")
    if flow:
        settings = {"use_dynamic_shifting": dynamic, "shift": 2.0}
        made.scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**settings)
    everywhere, size = GuidanceInterval((0.0, 1e9)), (16, 32)
    if flow or "Stable" in name or "PixArt" in name:
        options |= {"height": 16, "width": 32}
    else:
        size = None
    found = everywhere.timesteps(made, 6, size=size)
    if "DDPM" in name or "DDIM" in name:
        made(num_inference_steps=6, output_type="np")
    else:
        draw(made, scale=1.0, **options)
    np.testing.assert_allclose(found["timesteps"], made.scheduler.timesteps, rtol=1e-5)
    if flow:
        other = everywhere.timesteps(made, 6, size=(16, 16))["timesteps"]
        assert (other != found["timesteps"]) == dynamic
        multiple = 4 if name == "FluxPipeline" else 2
        with pytest.raises(ValueError, match=rf"multiples of {multiple}.*; got \(15, 16\)"):
            everywhere.timesteps(made, 6, size=(15, 16))


def test_steps_of_a_flow_belong_to_its_pipeline(pipe):
    """A scheduler alone does not say which pipeline it is in; other pipelines take a part of its steps."""
    made, everywhere = flux(), GuidanceInterval((0.0, 1e9))
    made.scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    made.scheduler.set_shift(3.0)
    with pytest.warns(UserWarning, match="FLUX hands levels of its own .* Give the pipeline"):
        alone = everywhere.timesteps(made.scheduler, 6)
    draw(made)
    own = everywhere.timesteps(made, 6)["timesteps"]
    np.testing.assert_allclose(own, made.scheduler.timesteps, rtol=1e-5)
    assert not np.allclose(own, alone["timesteps"], rtol=0.05)
    other, _ = made_as("StableDiffusionImg2ImgPipeline", pipe)
    with pytest.raises(ValueError, match="got StableDiffusionImg2ImgPipeline, whose steps"):
        everywhere.timesteps(other, 6)
    with pytest.raises(ValueError, match="give the pipeline, too"):
        everywhere.timesteps(pipe.scheduler, 6, size=(16, 16))


def test_a_network_of_diffusers_is_asked_for_its_dropout_without_a_warning():
    network = pixels().unet
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mb.from_x0(lambda x, s, label: network(x, s).sample, num_classes=1, event_shape=(3, 8, 8))


# Of one step, and of as many as the network was trained with: those whose levels repeat or that take fewer.
REFUSE = {
    1: ("PNDM", "UnCLIP"),
    1000: ("DEIS", "DPMSolverMultistep", "DPMSolverSinglestep", "SASolver", "UniPC", "LCM", "TCD"),
}


@pytest.mark.filterwarnings("ignore:.*scheduler:UserWarning")
@pytest.mark.parametrize("name", sorted(KNOWN))
def test_levels_fall_or_the_number_of_steps_is_refused(name):
    """The solvers of second order themselves end in NaN where diffusers repeats a level."""
    kind = scheduler_class(name)
    spacings = ("linspace", "leading", "trailing")
    spaced = "timestep_spacing" in inspect.signature(kind.__init__).parameters
    for settings in [{"timestep_spacing": one} for one in spacings] if spaced else [{}]:
        scheduler = kind(**settings)
        levels_of(scheduler, 20)
        for number in (1, 1000, 1001):
            try:
                found = levels_of(scheduler, number)
            except ValueError as error:
                assert f"{name} cannot take {number} steps" in str(error)  # noqa: PT017
                assert name.startswith(REFUSE.get(number, ""))
                continue
            assert len(found) == number
            assert (np.diff([sigma for _, sigma in found]) < 0).all()
    if spaced and KNOWN[name].name == "levels":
        with pytest.raises(ValueError, match="cannot take 1001 steps"):
            levels_of(kind(timestep_spacing="leading"), 1001)


@pytest.mark.parametrize(("shift", "number"), [(1, 50), (17, 250), (12, 1000), (100, 1000)])
def test_a_flow_falls_from_no_signal_to_the_levels_of_diffusers(shift, number):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    found = [sigma for _, sigma in levels_of(scheduler, number)]
    scheduler.set_timesteps(number)
    own = scheduler.sigmas[:-1].double().numpy()
    assert own[0] == 1
    np.testing.assert_allclose(found[1:], own[1:] / (1 - own[1:]), rtol=1e-12)
    assert found[0] == pytest.approx(max(4096, 2 * (1 + found[1])))


def test_steps_without_signal_are_noisier_than_all_others():
    settings = {"prediction_type": "v_prediction", "timestep_spacing": "trailing"}
    scheduler = diffusers.DDIMScheduler(rescale_betas_zero_snr=True, **settings)
    signal = scheduler.alphas_cumprod.double().numpy()
    assert signal[-1] == 0
    found = [sigma for _, sigma in levels_of(scheduler, 1000)]
    own = np.sqrt((1 - signal[:-1]) / signal[:-1])[::-1]
    np.testing.assert_allclose(found[1:], own, rtol=1e-12)
    assert found[0] > found[1] > 4096
    assert noise_range(scheduler) == pytest.approx((found[-1], found[0]))
    cosine = diffusers.UnCLIPScheduler()
    assert noise_range(cosine)[1] == pytest.approx(levels_of(cosine, 1000)[0][1])
    # Diffusers puts abar = 2^-24 below the steps that have less.
    euler = diffusers.EulerDiscreteScheduler(rescale_betas_zero_snr=True, **settings)
    levels_of(euler, 50)
    with pytest.raises(ValueError, match="noise must fall at each, and goes from 4096 at step 999"):
        levels_of(euler, 1000)
