"""Folders whose weights, size, latents or schedule are not as they should be: refused, or applied."""

import numpy as np
import pytest
import tiny_pipeline
import torch
from denoiser_contract import check_denoiser
from tiny_parts import autoencoder
from tiny_pipeline import PROMPTS, made_as, rewrite_json, states

from model_bridges import pipelines as stable_diffusion
from model_bridges.pipelines import FAMILIES, from_pipeline

pytestmark = pytest.mark.usefixtures("offline")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensor: (100 * tensor).to(torch.int8), "floating weights"),
        (torch.zeros_like, "are zero"),
        (lambda tensor: tensor * torch.nan, "finite weights"),
        (lambda tensor: tensor / 0.0, "finite weights"),
    ],
)
@pytest.mark.parametrize("part", ["unet", "text_encoder", "vae"])
def test_damaged_weights_are_refused(copy, part, change, message):
    from safetensors.torch import load_file, save_file

    file = next((copy / part).glob("*.safetensors"))
    tensors = {name: change(tensor) for name, tensor in load_file(file).items()}
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(ValueError, match=message):
        stable_diffusion.load(copy, PROMPTS).decode(states(1, 0.0))


@pytest.mark.parametrize("size", [0, -8, 1, 7.5, "8", None, [8], [8, 0], [8, 8, 8]])
def test_a_size_that_fits_no_network_is_refused(copy, size):
    rewrite_json(copy / "unet" / "config.json", sample_size=size)
    with pytest.raises(ValueError, match=r"`sample_size`.* whole number"):
        stable_diffusion.load(copy, PROMPTS)


def test_pictures_of_another_size_are_refused(copy):
    rewrite_json(copy / "unet" / "config.json", sample_size=4)
    with pytest.raises(
        ValueError, match=r"must have shape \(4, 4, 4\); those of pictures of \(16, 16\)"
    ):
        stable_diffusion.load(copy, PROMPTS).encode(torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize(
    "changes",
    [
        {"scaling_factor": 0},
        {"scaling_factor": -1.0},
        {"scaling_factor": None},
        {"scaling_factor": "0.25"},
        {"latents_mean": [0.0] * 4},
        {"latents_mean": [0.0] * 4, "latents_std": [1.0, 1.0, 1.0, 0.0]},
        {"latents_mean": [0.0] * 3, "latents_std": [1.0] * 3},
        {"latents_mean": [0.0] * 4, "latents_std": [1.0] * 4, "shift_factor": 0.1},
    ],
    ids=str,
)
def test_latents_without_a_scale_are_refused_before_any_curve(copy, changes):
    rewrite_json(copy / "vae" / "config.json", **changes)
    with pytest.raises(ValueError, match="`vae` must have"):
        stable_diffusion.load(copy, PROMPTS)


@pytest.mark.parametrize("name", ["scaling_factor", "shift_factor"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_scale_that_is_no_number_is_refused_with_its_file(copy, name, value):
    rewrite_json(copy / "vae" / "config.json", **{name: value})
    with pytest.raises(ValueError, match=r"vae.config\.json.* a number must be finite"):
        stable_diffusion.load(copy, PROMPTS)


def test_normalised_latents_are_those_of_the_pipelines_that_have_them(tmp_path):
    """A mean and a deviation a channel as diffusers' image-to-image pipeline applies them; a shift."""
    from diffusers import StableDiffusionXLImg2ImgPipeline

    pictures = torch.tanh(states(3, 0.0, (3, 16, 16)))
    normal = {"latents_mean": [0.1, -0.2, 0.3, 0.0], "latents_std": [0.5, 2.0, 1.0, 1.5]}
    made = tiny_pipeline.stable_diffusion_xl()
    made.vae = autoencoder(**normal).eval()
    made.save_pretrained(tmp_path / "normal")
    theirs = StableDiffusionXLImg2ImgPipeline.from_pipe(made).prepare_latents(
        pictures,
        None,
        3,
        1,
        torch.float32,
        "cpu",
        torch.Generator().manual_seed(7),
        add_noise=False,
    )
    ours = stable_diffusion.load(tmp_path / "normal", PROMPTS)
    torch.testing.assert_close(ours.encode(pictures, torch.Generator().manual_seed(7)), theirs)
    flow = tiny_pipeline.stable_diffusion_3()
    flow.vae = type(flow.vae).from_config(flow.vae.config, shift_factor=0.4).eval()
    flow.vae.load_state_dict(made.vae.state_dict())
    flow.save_pretrained(tmp_path / "shifted")
    shifted = stable_diffusion.load(tmp_path / "shifted", PROMPTS)
    with torch.no_grad():
        mean = made.vae.encode(pictures).latent_dist.mean
        torch.testing.assert_close(shifted.encode(pictures), 0.25 * (mean - 0.4))
        for denoiser in (ours, shifted):
            again = denoiser.decode(denoiser.encode(pictures))
            torch.testing.assert_close(again, made.vae.decode(mean).sample, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("further", ["shift_factor", "latents_mean"])
def test_latents_that_a_pipeline_does_not_normalise_are_refused(copy, further):
    normal = {"latents_mean": [0.1] * 4, "latents_std": [1.0] * 4}
    rewrite_json(copy / "vae" / "config.json", **(normal if "mean" in further else {further: 0.4}))
    with pytest.raises(ValueError, match=rf"`vae` must have no {further}.*does not apply it"):
        stable_diffusion.load(copy, PROMPTS)


SIZES = [(8, 8), (9, 8), (10, 12), (7, 7), (10, 10), (14, 14), (4, 16)]


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_sizes_are_those_that_a_network_takes(pipe, name):
    """What is refused is what the network of diffusers fails at, or answers with another shape."""
    made, _ = made_as(name, pipe)
    if name == "StableDiffusion3Pipeline":
        places = {"patch_size": 2, "pos_embed_max_size": 6}
        kind = type(made.transformer)
        made.transformer = kind.from_config(made.transformer.config, **places).eval()
    given = {} if FAMILIES[name].conditions is None else {"prompts": PROMPTS}
    reduction = 2 if "vae" in FAMILIES[name].kinds else 1
    free = from_pipeline(made, size=(8 * reduction,) * 2, **given)
    raw = getattr(free, "denoiser", free).raw_function
    taken, answered = [], []
    for size in SIZES:
        x = torch.randn(1, free.event_shape[0], *size)
        try:
            if raw(x, torch.ones(1), torch.zeros(1, dtype=int)).shape == x.shape:
                answered.append(size)
        except (RuntimeError, ValueError):
            pass
        try:
            from_pipeline(made, size=tuple(reduction * n for n in size), **given)
            taken.append(size)
        except ValueError as error:
            assert "`size` must be height and width in pixels, multiples of" in str(error)  # noqa: PT017
    assert taken == answered
    assert (8, 8) in taken


def test_a_network_whose_own_size_does_not_fit_is_refused():
    made = tiny_pipeline.pixart("PixArtSigmaPipeline", sample_size=9)
    with pytest.raises(ValueError, match=r"multiples of 4; got \(18, 18\)"):
        from_pipeline(made, PROMPTS)
    assert from_pipeline(made, PROMPTS, size=(20, 16)).event_shape == (4, 10, 8)


def test_a_schedule_that_ends_without_signal_ends_a_step_before(copy):
    from diffusers import DDIMScheduler

    rewrite_json(
        copy / "scheduler" / "scheduler_config.json",
        _class_name="DDIMScheduler",
        rescale_betas_zero_snr=True,
        prediction_type="v_prediction",
    )
    with pytest.warns(UserWarning, match="no signal"):
        denoiser = stable_diffusion.load(copy, PROMPTS)
    theirs = DDIMScheduler.from_config(
        DDIMScheduler.load_config(copy / "scheduler")
    ).alphas_cumprod.double()
    assert theirs[-1] == 0
    sigma = ((1 - theirs[:-1]) / theirs[:-1]) ** 0.5
    np.testing.assert_allclose(denoiser.sigma_range, (sigma[0], sigma[-1]), rtol=1e-3)
    check_denoiser(denoiser, states(4, 1.0), 1.0, 2e-4)
