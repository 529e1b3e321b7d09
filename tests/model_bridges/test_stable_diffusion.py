"""Latent diffusion pipelines as denoisers: the same posterior mean in every parametrisation, safe reading.

Pipelines are tiny, of the released layout, written by `save_pretrained` and read back offline.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from denoiser_contract import check_denoiser
from diffusers.configuration_utils import FrozenDict
from tiny_pipeline import PROMPTS, rewrite_json, states
from tiny_pipeline import stable_diffusion as tiny_stable_diffusion

import gmm_speciation as gs
import model_bridges as mb
from model_bridges import pipelines as stable_diffusion
from model_bridges.denoisers.parametrisation import Schedule
from model_bridges.pipelines.parts import Source
from model_bridges.pipelines.schedules import alphas_cumprod

SCALED_LINEAR = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
}


pytestmark = pytest.mark.usefixtures("offline")


@pytest.fixture(scope="module")
def denoiser(folder):
    return stable_diffusion.load(folder, PROMPTS)


def test_schedule_of_stable_diffusion():
    """The ends of its noise range, to the digits known; diffusers' own table to its float32."""
    from diffusers import DDPMScheduler

    schedule = Schedule.from_alphas_cumprod(alphas_cumprod(SCALED_LINEAR))
    np.testing.assert_allclose(schedule.sigma_range, (0.0291672, 14.614641), rtol=2e-6)
    for kind in ("linear", "scaled_linear", "squaredcos_cap_v2"):
        configuration = {**SCALED_LINEAR, "beta_schedule": kind}
        theirs = DDPMScheduler.from_config(configuration).alphas_cumprod.double().numpy()
        np.testing.assert_allclose(alphas_cumprod(configuration), theirs, rtol=2e-3, atol=1e-7)
    steps = torch.arange(1000, dtype=torch.float64)
    levels = torch.from_numpy(np.exp(schedule.log_sigma))
    torch.testing.assert_close(schedule.time(levels), steps, rtol=0, atol=1e-9)


class ExactUNet:
    """A UNet's interface around the exact denoiser of a mixture: what a perfect network predicts.

    The embedding of prompt k is the number k + 1; that of the empty prompt is 0.
    """

    dtype = torch.float32

    def __init__(self, exact, schedule, prediction):
        self.exact, self.schedule, self.prediction = exact, schedule, prediction
        self.config = FrozenDict(sample_size=(1, 3), in_channels=2, cross_attention_dim=1)

    def to(self, device):
        return self

    def __call__(self, noisy, timestep, encoder_hidden_states):
        label = encoder_hidden_states[:, 0, 0].round().long() - 1
        if self.prediction == "flow":
            sigma = timestep.double() / (1000 - timestep.double())
            signal = (1 / (1 + sigma))[:, None, None, None]
        else:
            grid = np.arange(len(self.schedule.log_sigma))
            sigma = torch.from_numpy(
                np.exp(np.interp(timestep.numpy(), grid, self.schedule.log_sigma))
            )
            signal = torch.rsqrt(1 + sigma**2)[:, None, None, None]
        noise_scale = sigma[:, None, None, None] * signal
        noisy, clean = noisy.double(), torch.empty_like(noisy.double())
        for index in label.unique():
            rows = label == index
            name = mb.UNCONDITIONAL if index < 0 else label[rows]
            clean[rows] = self.exact((noisy / signal)[rows], sigma[rows], name)
        noise = (noisy - signal * clean) / noise_scale
        sample = {
            "epsilon": noise,
            "v_prediction": signal * noise - noise_scale * clean,
            "sample": clean,
            "flow": noise - clean,
        }[self.prediction]
        return type("Output", (), {"sample": sample})()


def as_flow(configuration):
    flow = {
        "_class_name": "FlowMatchEulerDiscreteScheduler",
        "num_train_timesteps": 1000,
        "shift": 3.0,
    }
    configuration.write_text(json.dumps(flow))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample", "flow"])
def test_a_perfect_network_gives_the_posterior_mean(copy, monkeypatch, prediction):
    """Epsilon, v, x_0 and flow of the same exact model are one denoiser: that of the mixture."""
    mixture = gs.families.equidistant(3, 6, 3.0, variance=0.5)
    exact = mb.mixture_denoiser(mixture, event_shape=(2, 1, 3))
    schedule = Schedule.from_alphas_cumprod(alphas_cumprod(SCALED_LINEAR))
    configuration = copy / "scheduler" / "scheduler_config.json"
    if prediction == "flow":
        as_flow(configuration)
    else:
        rewrite_json(configuration, prediction_type=prediction)
    network = ExactUNet(exact, schedule, prediction)
    monkeypatch.setattr(Source, "network", lambda self, family, dtype: network)
    wrapped = stable_diffusion.load(
        copy,
        PROMPTS,
        embeddings=torch.tensor([1.0, 2.0, 3.0])[:, None, None],
        empty_embedding=torch.zeros(1, 1),
    )
    x0 = torch.from_numpy(np.array(mixture.sample(jax.random.key(0), 12)[0])).reshape(12, 2, 1, 3)
    for sigma in (0.03, 0.4, 3.0, 14.6):
        x = x0 + sigma * torch.randn(x0.shape, generator=torch.Generator().manual_seed(2))
        close = {"rtol": 1e-4, "atol": 1e-4 * max(1, sigma)}
        for label in (torch.arange(12) % 3, mb.UNCONDITIONAL):
            torch.testing.assert_close(wrapped(x, sigma, label), exact(x, sigma, label), **close)
    check_denoiser(wrapped, x0, 0.7, 1e-3)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_contract_of_denoisers(copy, prediction):
    rewrite_json(copy / "scheduler" / "scheduler_config.json", prediction_type=prediction)
    for sigma in (0.05, 1.0, 12.0):
        check_denoiser(
            stable_diffusion.load(copy, PROMPTS), states(4, sigma), sigma, 2e-4 * max(1, sigma)
        )


def test_the_denoiser_is_what_the_pipeline_computes(folder, denoiser):
    """Epsilon of the networks called by hand on `x / sqrt(1 + sigma^2)`: `D = x - sigma eps`."""
    from diffusers import DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    unet = UNet2DConditionModel.from_pretrained(folder / "unet", low_cpu_mem_usage=False)
    encoder = CLIPTextModel.from_pretrained(folder / "text_encoder")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    scheduler = DDPMScheduler.from_pretrained(folder / "scheduler")
    step = 321
    abar = float(scheduler.alphas_cumprod.double()[step])
    sigma = ((1 - abar) / abar) ** 0.5
    x = states(4, sigma)
    texts = ["a dog", "a cat", "a red cat", ""]
    tokens = tokenizer(texts, padding="max_length", max_length=16, return_tensors="pt").input_ids
    with torch.no_grad():
        eps = unet(abar**0.5 * x, step, encoder_hidden_states=encoder(tokens)[0]).sample
    close = {"rtol": 1e-3, "atol": 1e-4 * sigma}
    expected = x - sigma * eps
    torch.testing.assert_close(
        denoiser(x[:3], sigma, torch.tensor([1, 0, 2])), expected[:3], **close
    )
    torch.testing.assert_close(denoiser(x[3:], sigma, mb.UNCONDITIONAL), expected[3:], **close)
    assert denoiser.event_shape == (4, 8, 8)
    assert denoiser.class_names == PROMPTS
    assert denoiser.has_unconditional


def test_levels_outside_the_schedule_are_refused_not_clamped(denoiser):
    for sigma in (0.02, 15.0):
        with pytest.raises(ValueError, match="trained range"):
            denoiser(states(1, 1.0), sigma, torch.tensor([0]))


def test_batches_are_split_over_states_and_classes(folder, denoiser):
    narrow = stable_diffusion.load(folder, PROMPTS, max_batch=2)
    x = states(5, 1.0)
    raw = mb.class_raw(narrow, x, 1.0)
    torch.testing.assert_close(raw, mb.class_raw(denoiser, x, 1.0), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="max_batch"):
        stable_diffusion.load(folder, PROMPTS, max_batch=0)


def test_half_precision_keeps_the_step_and_the_state(folder, denoiser):
    half = stable_diffusion.load(folder, PROMPTS, dtype=torch.bfloat16)
    x, label = states(3, 1.0), torch.arange(3)
    denoised = half(x, 1.0, label)
    assert denoised.dtype == torch.float32
    torch.testing.assert_close(denoised, denoiser(x, 1.0, label), rtol=0.05, atol=0.05)


def test_ready_embeddings_need_no_text_encoder(copy, denoiser):
    pipe = tiny_stable_diffusion(copy)
    with torch.no_grad():
        rows = torch.cat([pipe.encode_prompt(text, "cpu", 1, False)[0] for text in (*PROMPTS, "")])
    shutil.rmtree(copy / "text_encoder")
    shutil.rmtree(copy / "tokenizer")
    ready = stable_diffusion.load(copy, PROMPTS, embeddings=rows[:3], empty_embedding=rows[3])
    x, label = states(3, 1.0), torch.arange(3)
    assert torch.equal(ready(x, 1.0, label), denoiser(x, 1.0, label))
    alone = stable_diffusion.load(copy, PROMPTS, embeddings=rows[:3])
    with pytest.raises(ValueError, match="no unconditional"):
        alone(x, 1.0, mb.UNCONDITIONAL)
    with pytest.raises(ValueError, match="one a prompt"):
        stable_diffusion.load(copy, PROMPTS, embeddings=rows[:2])
    with pytest.raises(ValueError, match="tokenizer must hold a vocabulary"):
        stable_diffusion.load(copy, PROMPTS)


def test_latents_carry_the_pipelines_own_scale(folder, denoiser):
    from diffusers import AutoencoderKL

    autoencoder = AutoencoderKL.from_pretrained(folder / "vae", low_cpu_mem_usage=False)
    pictures = torch.tanh(states(3, 0.0, (3, 16, 16)))
    with torch.no_grad():
        posterior = autoencoder.encode(pictures).latent_dist
        torch.testing.assert_close(denoiser.encode(pictures), 0.25 * posterior.mean)
        latents = states(2, 0.0)
        torch.testing.assert_close(
            denoiser.decode(latents), autoencoder.decode(latents / 0.25).sample
        )
    many = pictures[:1].expand(2000, -1, -1, -1)
    drawn = denoiser.encode(many[:400], torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.mean(0), 0.25 * posterior.mean[0], rtol=0, atol=0.08)
    with pytest.raises(ValueError, match="pictures"):
        denoiser.encode(pictures[:, :1])


def test_pictures_of_numpy_are_taken_and_in_other_units_refused(denoiser):
    """What a cubic filter overshoots is a picture; bytes, in whatever type, are not."""
    pictures = torch.tanh(states(2, 0.0, (3, 16, 16)))
    latents = denoiser.encode(pictures)
    torch.testing.assert_close(denoiser.encode(pictures.numpy()), latents)
    decoded = denoiser.decode(latents)
    torch.testing.assert_close(denoiser.decode(latents.numpy()), decoded)
    checks = ((torch.arange(4)[:, None] + torch.arange(4)) % 2 * 2.0 - 1).expand(1, 3, 4, 4)
    sharp = torch.nn.functional.interpolate(checks, 16, mode="bicubic")
    assert sharp.abs().max() > 1.4
    assert denoiser.encode(sharp).shape == (1, 4, 8, 8)
    bytes_ = ((pictures + 1) * 127.5).round()
    for wrong, message in (
        (bytes_.to(torch.uint8), r"got uint8\. .*x / 127\.5 - 1"),
        (bytes_.to(torch.uint8).numpy(), r"got uint8\. .*x / 127\.5 - 1"),
        (bytes_.long(), "must be floating-point numbers"),
        (bytes_, r"values in \[-1, 1\]; got .* to 25\d\. From 0 to 255 take"),
        (bytes_.double().numpy(), r"values in \[-1, 1\]"),
        (torch.full((1, 3, 16, 16), float("nan")), r"values in \[-1, 1\]; got nan"),
    ):
        with pytest.raises(ValueError, match=message):
            denoiser.encode(wrong)
    with pytest.raises(ValueError, match="`latents` must be floating-point numbers"):
        denoiser.decode(latents.long())


def test_load_by_name(folder, denoiser):
    named = mb.load(f"sd:{folder}", prompts=PROMPTS)
    x, label = states(3, 1.0), torch.arange(3)
    assert torch.equal(named(x, 1.0, label), denoiser(x, 1.0, label))
    with pytest.raises(ValueError, match="prompts"):
        mb.load(f"sd:{folder}")
    with pytest.raises(ValueError, match="its own classes"):
        mb.load("digits", prompts=PROMPTS)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "at least one prompt"),
        ("a cat", "list of at least one prompt"),
        (["a cat", "a cat"], "must differ"),
        (["a cat", ""], "UNCONDITIONAL"),
        (["a cat", "A  CAT"], "equal tokens"),
        (["a cat", "a very long story of cats"], "Shorten it"),
    ],
)
def test_prompts_that_are_no_classes_are_refused(folder, prompts, message):
    with pytest.raises(ValueError, match=message):
        stable_diffusion.load(folder, prompts)


@pytest.mark.slow
def test_a_full_size_unet_gives_a_curve(tmp_path):
    """Random weights at the size of Stable Diffusion 1.5, from files of its layout: 4 GB, minutes."""
    script = Path(__file__).parents[2] / "benchmarks" / "full_size_sd15.py"
    words = [sys.executable, str(script), "--out", str(tmp_path), "--dtype", "bfloat16"]
    subprocess.run(words, check=True, capture_output=True)
    result = json.loads((tmp_path / "full-size-sd15-bfloat16.json").read_text())
    assert result["file_bytes"] > 2e9
    np.testing.assert_allclose(result["sigma_range"], (0.0291672, 14.614641), rtol=2e-6)
    assert len(result["entropy"]) == 2
    assert all(0 <= value <= result["prior_entropy"] + 1e-9 for value in result["entropy"])
