"""Latents and pictures are those of a pipeline's own call: scaled as its class does, in float32 if asked."""

import copy

import pytest
import torch
from diffusers import FluxPipeline
from tiny_parts import autoencoder
from tiny_pipeline import draw, made_as, stable_diffusion_xl, states

import model_bridges as mb
from model_bridges.pipelines import FAMILIES

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
ONE = ("a cat",)
NORMAL = {"latents_mean": [0.3, -0.2, 0.1, 0.5], "latents_std": [2.0, 1.0, 0.5, 1.5]}
CONFIGURATIONS = {
    "plain": {},
    "of no shift": {"shift_factor": 0.0},
    "neutral": {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4, "shift_factor": 0.0},
    "scaled": {"scaling_factor": 1.3, "shift_factor": 0.0},
    "shifted": {"shift_factor": 0.4},
    "normal": NORMAL,
    "normal without a shift": NORMAL | {"shift_factor": 0.0},
}


def with_autoencoder(pipe, **settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        pipe.vae = autoencoder(**settings).eval()
    return pipe


def drawn(pipe, **options):
    return draw(pipe, 1.0, ONE, num_inference_steps=2, **options)


@pytest.mark.parametrize("name", [name for name in FAMILIES if "vae" in FAMILIES[name].kinds])
def test_pictures_are_those_that_the_pipeline_decodes(pipe, name):
    """What its call does not apply, or cannot do without, is refused: it would be of other latents."""
    made, options = made_as(name, copy.deepcopy(pipe))
    given = {} if name == "DiTPipeline" else {"prompts": ONE}
    used = set()
    for words, settings in CONFIGURATIONS.items():
        with_autoencoder(made, **settings)
        unscaled = {key: settings[key] for key in settings if key == "scaling_factor"}
        try:
            pictures = drawn(made, output_type="pt", **options)
        except TypeError:  # z / scaling_factor + None
            with pytest.raises(ValueError, match=r"`vae` must have `shift_factor`|must have no"):
                mb.from_pipeline(made, size=(16, 16), **given)
            continue
        with_autoencoder(made, shift_factor=0.0, **unscaled)
        ignored = torch.equal(drawn(made, output_type="pt", **options), pictures)
        with_autoencoder(made, **settings)
        if ignored and words in ("shifted", "normal", "normal without a shift"):
            with pytest.raises(ValueError, match=r"`vae` must have no .* does not apply it"):
                mb.from_pipeline(made, size=(16, 16), **given)
            continue
        denoiser = mb.from_pipeline(made, size=(16, 16), **given)
        used.add(words)
        if name != "DiTPipeline":  # which gives no latents
            latents = drawn(made, **options)
            if name == "FluxPipeline":
                latents = FluxPipeline._unpack_latents(latents, 16, 16, 2)
            ours = (denoiser.decode(latents) / 2 + 0.5).clamp(0, 1)
            torch.testing.assert_close(ours, pictures, rtol=1e-5, atol=1e-5)
    own = {
        "StableDiffusionXLPipeline": {"plain", "normal", "normal without a shift"},
        "StableDiffusion3Pipeline": {"shifted"},
        "FluxPipeline": {"shifted"},
    }.get(name, {"plain"})
    assert used == {"of no shift", "neutral", "scaled"} | own


@pytest.fixture
def overflowing():
    """In float16 with activations beyond its range and weights within."""
    pipe = with_autoencoder(stable_diffusion_xl(), force_upcast=True)
    with torch.no_grad():
        for part in (pipe.vae.encoder, pipe.vae.decoder):
            part.conv_norm_out.weight.mul_(3e4)
            part.conv_norm_out.bias.fill_(3e4)
            part.conv_out.weight.mul_(1e-4)
    return pipe.to(torch.float16)


def test_an_autoencoder_that_asks_for_float32_gets_it_for_a_call(overflowing):
    """As in the pipeline's own call, with its weights in float32; it is left as it was."""
    whole = copy.deepcopy(overflowing.vae).float()
    before = copy.deepcopy(overflowing.vae.state_dict())
    denoiser = mb.from_pipeline(overflowing, ("a cat", "a dog"))
    latents = drawn(overflowing)
    pictures = drawn(overflowing, output_type="pt")
    assert pictures.isfinite().all()
    ours = (denoiser.decode(latents) / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(ours, pictures.float(), rtol=1e-5, atol=1e-5)
    images = torch.tanh(states(2, 0.0, (3, 16, 16)))
    with torch.no_grad():
        mean = whole.encode(images).latent_dist.mean
    torch.testing.assert_close(denoiser.encode(images), 0.25 * mean, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=r"pictures must be finite; .* in float32"):
        denoiser.decode(torch.full((1, 4, 8, 8), torch.nan))
    after = overflowing.vae.state_dict()
    assert all(after[key].dtype == torch.float16 for key in before)
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_what_overflows_is_refused_with_its_type(overflowing):
    overflowing.vae.register_to_config(force_upcast=False)
    denoiser = mb.from_pipeline(overflowing, ("a cat", "a dog"))
    with pytest.raises(ValueError, match="latents must be finite; got NaN or infinity in float16"):
        denoiser.encode(torch.tanh(states(2, 0.0, (3, 16, 16))))
    with pytest.raises(ValueError, match=r"pictures must be finite; .* in float16.*float32"):
        denoiser.decode(states(1, 0.0))
    overflowing.vae.to(torch.bfloat16)  # with the range of float32
    assert denoiser.decode(states(1, 0.0)).isfinite().all()
    assert overflowing.vae.dtype == torch.bfloat16
