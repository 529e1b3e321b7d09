"""The text-to-image model of digits: captions, pictures, training, card, shipped weights, cross-check."""

import json
from dataclasses import replace
from functools import partial
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from denoiser_contract import check_denoiser
from interrupted import check_continued

import model_bridges as mb
from model_bridges.denoisers.network import NetworkDenoiser
from model_bridges.digits import CheckpointError
from model_bridges.digits.classifier import DigitClassifier
from model_bridges.digits.text import CAPTIONS, PROMPTS, load_denoiser
from model_bridges.digits.text.captions import (
    LEVELS,
    caption_index,
    caption_tokenizer,
    draw_captions,
    true_of,
)
from model_bridges.digits.text.data import to_digits, to_pictures
from model_bridges.digits.text.recipe import TextRecipe
from model_bridges.digits.text.training import (
    TextTraining,
    autoencoder_loss,
    pipeline_files,
    velocity_loss,
)
from model_bridges.digits.training.card import render_card
from model_bridges.digits.training.evaluate import generate
from model_bridges.digits.training.train import train

BASE = TextRecipe()
NANO = TextRecipe(
    autoencoder_steps=3,
    autoencoder_batch=4,
    diffusion_steps=5,
    batch_size=8,
    warmup_steps=2,
    copies=1,
    autoencoder={**BASE.autoencoder, "block_out_channels": [4, 4, 4]},
    unet={**BASE.unet, "block_out_channels": [8, 8], "cross_attention_dim": 8},
    text_encoder={
        **BASE.text_encoder,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    },
)


pytestmark = pytest.mark.usefixtures("offline")


@pytest.fixture(scope="module")
def shipped():
    return load_denoiser()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a run")
    return train(TextTraining(replace(NANO, seed=3)), folder, per_class=1, progress=False)


def test_pictures_carry_the_digits_without_loss(digits):
    pictures = to_pictures(digits, digits.held_out_images)
    assert pictures.shape == (360, 1, 32, 32)
    torch.testing.assert_close(
        to_digits(digits, pictures), digits.held_out_images, rtol=0, atol=1e-5
    )
    # Paper is -1 and ink is 1 where the interpolation has nothing to overshoot.
    blank = torch.full((1, 1, 8, 8), -digits.mean / digits.scale)
    torch.testing.assert_close(to_pictures(digits, blank), torch.full((1, 1, 32, 32), -1.0))
    ink = blank + 16 / digits.scale
    torch.testing.assert_close(to_pictures(digits, ink), torch.full((1, 1, 32, 32), 1.0))


def test_every_caption_of_a_digit_is_true_of_it():
    labels = torch.arange(10)
    for level in LEVELS:
        for digit, index in enumerate(caption_index(labels, level).tolist()):
            assert digit in true_of(CAPTIONS[index])
    assert true_of("a handwritten seven") == (7,)
    assert true_of("an odd digit") == (1, 3, 5, 7, 9)
    assert true_of("") == tuple(range(10))
    for call in (lambda: caption_index(labels, "colour"), lambda: true_of("a cat")):
        with pytest.raises(ValueError, match="must be one of"):
            call()


def test_captions_are_drawn_with_their_weights():
    labels, weights = torch.arange(10).repeat(2000), torch.tensor([0.5, 0.3, 0.0, 0.2])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = draw_captions(labels, weights)
    share = torch.bincount(drawn, minlength=len(CAPTIONS)) / len(labels)
    expected = torch.tensor([0.05] * 10 + [0.15] * 2 + [0.0, 0.2])
    torch.testing.assert_close(share, expected, rtol=0, atol=0.012)
    for index, caption in enumerate(CAPTIONS):
        assert set(labels[drawn == index].tolist()) <= set(true_of(caption))


def test_each_word_of_a_caption_is_one_token_and_any_word_can_be_spelled():
    tokenizer = caption_tokenizer(8)
    rows = tokenizer(list(CAPTIONS)).input_ids
    assert [len(row) - 2 for row in rows] == [len(caption.split()) for caption in CAPTIONS]
    assert len({tuple(row) for row in rows}) == len(CAPTIONS)
    spelled = tokenizer("quux").input_ids
    assert len(spelled) == 6
    assert tokenizer.unk_token_id not in spelled[1:-1]


def test_a_velocity_that_is_known_has_no_loss():
    """For latents that are all 0, `x = s n` and `v = a n = x / sigma`."""

    def exact(x, time, encoder_hidden_states):
        return type("Output", (), {"sample": x / sigma[:, None, None, None]})()

    sigma = torch.rand(6) * 5 + 0.1
    loss = velocity_loss(exact, torch.zeros(6, 4, 8, 8), sigma, sigma, torch.zeros(6, 1, 1))
    assert float(loss) < 1e-12


def test_the_divergence_of_a_standard_normal_posterior_is_zero():
    class Blank:
        """Encodes everything to N(0, 1) and decodes everything to paper."""

        def encode(self, pictures):
            zeros, ones = torch.zeros(len(pictures), 4, 8, 8), torch.ones(len(pictures), 4, 8, 8)
            law = {"mean": zeros, "std": ones, "var": ones, "logvar": zeros}
            return type("E", (), {"latent_dist": type("P", (), law)()})()

        def decode(self, latents):
            return type("D", (), {"sample": torch.full((len(latents), 1, 32, 32), -1.0)})()

    assert float(autoencoder_loss(Blank(), torch.full((3, 1, 32, 32), -1.0), 10.0)) == 0


def test_an_interrupted_run_continues_bit_for_bit(digits, tmp_path):
    training = TextTraining(NANO, digits)
    training.train_network("autoencoder", tmp_path / "autoencoder.safetensors")
    check_continued(partial(training.train_network, "diffusion"), tmp_path)
    other = TextTraining(replace(NANO, seed=1), digits)
    with pytest.raises(CheckpointError, match="another recipe"):
        other.train_network("autoencoder", tmp_path / "autoencoder.safetensors")


def test_a_run_writes_a_pipeline_and_a_card(trained):
    folder = trained.weights
    names = {path.name for path in folder.iterdir()}
    parts = {"unet", "vae", "text_encoder", "tokenizer", "scheduler", "model_index.json"}
    assert names == parts | {"card.json", "CARD.md"}
    card = json.loads(trained.card.read_text())
    assert card["seed"] == card["recipe"]["seed"] == 3
    assert {row["caption"] for row in card["generated"]["captions"]} == set(CAPTIONS[10:])
    text = trained.card_text.read_text()
    assert "CC BY 4.0" in text
    assert all(file["sha256"] in text for file in card["files"])


def test_a_written_model_is_a_pipeline_of_diffusers(trained):
    """The same layout, so the same picture: one step of DDIM at full noise ends on D."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(
        trained.weights, local_files_only=True, use_safetensors=True, torch_dtype=torch.float32
    )
    pipeline.scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing="trailing", set_alpha_to_one=True
    )
    pipeline.set_progress_bar_config(disable=True)
    denoiser = load_denoiser(path=trained.weights)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    drawn = pipeline(
        "a handwritten seven",
        latents=latents,
        num_inference_steps=1,
        guidance_scale=1.0,
        output_type="latent",
        height=32,
        width=32,
    ).images
    sigma = denoiser.sigma_range[1]
    # DDIM reads its unit noise as the state a z + s n; in EDM coordinates that is sqrt(1 + sigma^2) n.
    expected = denoiser((1 + sigma**2) ** 0.5 * latents, sigma, torch.tensor([7]))
    torch.testing.assert_close(drawn, expected, rtol=1e-3, atol=1e-3)


def test_the_same_seed_writes_the_same_files(trained, tmp_path):
    training = TextTraining(replace(NANO, seed=3))
    again = train(training, tmp_path, per_class=1, checkpoint_every=2, progress=False).weights
    for one, other in zip(pipeline_files(trained.weights), pipeline_files(again), strict=True):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes(), one


def test_bad_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 1"):
        train(TextTraining(NANO), tmp_path, progress=False, checkpoint_every=0)
    assert list(tmp_path.iterdir()) == []
    for bad in ({"dropout": 1.0}, {"diffusion_steps": 0}, {"level_weights": (0.0, 0.0, 0.0, 0.0)}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            replace(NANO, **bad)


def test_shipped_card_describes_the_shipped_files():
    folder = Path(str(files("model_bridges.digits.text") / "weights"))
    card = json.loads((folder / "card.json").read_text())
    assert {file["name"] for file in card["files"]} == {
        path.relative_to(folder).as_posix() for path in pipeline_files(folder)
    }
    assert sum(file["bytes"] for file in card["files"]) < 15_000_000
    for file in card["files"]:
        assert file["sha256"] == sha256((folder / file["name"]).read_bytes()).hexdigest()
    assert card["recipe"] == TextRecipe(seed=card["seed"]).to_dict()
    assert render_card(card, TextTraining.page(card)) == (folder / "CARD.md").read_text()
    prompts = card["generated"]["prompts"]
    assert prompts["num_generated"] == 1000
    assert prompts["recognised"] >= 0.9
    assert prompts["num_classes_present"] == 10
    assert all(row["agreement"] >= 0.9 for row in card["generated"]["captions"])
    assert prompts["generated_distance"]["median"] > 0.7 * prompts["held_out_distance"]["median"]


def test_shipped_model_keeps_the_contract_of_denoisers(shipped):
    assert isinstance(shipped, mb.Denoiser)
    assert shipped.prompts == PROMPTS
    generator = torch.Generator().manual_seed(0)
    for sigma in (0.1, 2.0, 50.0):
        x = sigma * torch.randn(4, *shipped.event_shape, generator=generator)
        check_denoiser(shipped, x, sigma, 2e-4 * max(1, sigma))
    named = mb.load("digits-text", prompts=["an even digit", "an odd digit"])
    assert named.num_classes == 2


def test_shipped_model_denoises_held_out_latents(digits, shipped):
    """Better than the Wiener filter of white data, and the prompt helps where it is undecided."""
    generator = torch.Generator().manual_seed(0)
    latents = shipped.encode(to_pictures(digits, digits.held_out_images), generator)
    assert float(latents.std()) == pytest.approx(1, abs=0.05)
    for sigma in (1.0, 2.0):
        noisy = latents + sigma * torch.randn(latents.shape, generator=generator)
        with_prompt = shipped(noisy, sigma, digits.held_out_labels)
        without = shipped(noisy, sigma, mb.UNCONDITIONAL)
        errors = [float((d - latents).square().mean()) for d in (with_prompt, without)]
        assert errors[0] < errors[1] < 0.95 * sigma**2 / (1 + sigma**2)


def test_shipped_model_draws_what_the_caption_says(digits, shipped):
    classifier, labels = DigitClassifier(digits), torch.arange(10).repeat_interleave(4)
    drawn = shipped.decode(draw(shipped, labels))
    assert classifier.accuracy(to_digits(digits, drawn), labels) >= 0.8
    odd = mb.load("digits-text", prompts=["an odd digit"])
    assert isinstance(odd.denoiser, NetworkDenoiser)
    shown = odd.decode(draw(odd, torch.zeros(30, dtype=torch.long)))
    predicted = classifier.predict(to_digits(digits, shown))
    assert (predicted % 2 == 1).mean() >= 0.8
    assert len(np.unique(predicted)) >= 3


def test_the_model_that_is_studied(digits):
    """Its states are the encoder's draws, its pictures are what they came from, its images digits again."""
    model = mb.study("digits-text")
    states = model.states(model.averaged.first(20), seed=0)
    images = digits.held_out_images[:20]
    assert states.images.shape == (20, 4, 8, 8)
    assert states.pictures is not None
    torch.testing.assert_close(states.pictures, to_pictures(digits, images))
    back = model.decode(states.images)
    assert float((back - states.pictures).square().mean()) < 0.01
    torch.testing.assert_close(model.to_images(states.images), to_digits(digits, back))
    assert "empty prompt" in model.unconditional.form


def draw(denoiser, labels):
    shape = (len(labels), *denoiser.event_shape)
    return generate(denoiser, shape, denoiser.sigma_range, labels, num_steps=20)


@pytest.mark.slow
def test_the_main_job_on_held_out_digits(tmp_path):
    """`crosscheck digits-text` at full size: budget, calibration, labels; the empty prompt by its name."""
    from model_bridges.cli import main

    assert main(["crosscheck", "digits-text", "--out", str(tmp_path), "--quiet"]) == 0
    content = json.loads((tmp_path / "result.json").read_text())
    verdicts = {check["claim"]: check for check in content["checks"]}
    for claim, check in verdicts.items():
        if "empty prompt" not in claim:
            assert check["verdict"] != "no", (claim, check["measured"])
    assert any("I(prompt; X)" in claim for claim in verdicts)
    assert (tmp_path / "samples.png").exists()
