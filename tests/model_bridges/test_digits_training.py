"""Data, training, card and shipped weights of the digits networks."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from interrupted import check_continued

from model_bridges.digits import CheckpointError, load_digits, load_networks
from model_bridges.digits.pair.recipe import PairRecipe
from model_bridges.digits.pair.training import PairTraining, edm2_loss, generated_quality
from model_bridges.digits.training.batches import augment
from model_bridges.digits.training.card import render_card
from model_bridges.digits.training.evaluate import generate, nearest_distance
from model_bridges.digits.training.train import train
from model_bridges.edm2 import EDM2Network

NANO = PairRecipe(
    conditional_steps=5,
    unconditional_steps=3,
    batch_size=16,
    warmup_steps=2,
    max_shift=0.3,
    max_rotation=0.0,
    max_zoom=0.0,
    network={
        "img_resolution": 8,
        "img_channels": 1,
        "model_channels": 4,
        "channel_mult": [1, 2],
        "num_blocks": 1,
        "attn_resolutions": [4],
        "channels_per_head": 8,
        "sigma_data": 0.5,
    },
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a run")
    return train(PairTraining(replace(NANO, seed=3)), folder, per_class=2, progress=False)


def unconditional(recipe, digits, state, **options):
    return PairTraining(recipe, digits).train_network("unconditional", state, **options)


def test_digits_are_standardised_and_stratified(digits):
    assert digits.train_images.shape == (1437, 1, 8, 8)
    assert digits.held_out_images.shape == (360, 1, 8, 8)
    assert abs(float(digits.train_images.double().mean())) < 1e-6
    assert float(digits.train_images.double().std(correction=0)) == pytest.approx(0.5, abs=1e-6)
    pixels = digits.to_pixels(digits.held_out_images)
    torch.testing.assert_close(pixels, pixels.round(), rtol=0, atol=1e-4)
    assert float(pixels.min()) > -1e-4
    assert float(pixels.max()) < 16.001
    share = torch.bincount(digits.held_out_labels) / torch.bincount(digits.train_labels)
    torch.testing.assert_close(share, torch.full((10,), 0.25), rtol=0, atol=0.02)


def test_no_held_out_digit_is_in_the_training_part(digits):
    assert float(nearest_distance(digits.held_out_images, digits.train_images).min()) > 0.1


def test_held_out_fraction_is_checked():
    for fraction in (0.0, 1.0, -0.2):
        with pytest.raises(ValueError, match=r"inside \(0, 1\)"):
            load_digits(fraction)


def test_interrupted_run_continues_bit_for_bit(digits, tmp_path):
    run = partial(PairTraining(NANO, digits).train_network, "conditional")
    check_continued(run, tmp_path)


def test_runs_with_another_seed_differ_and_leave_the_callers_random_state(digits, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = unconditional(NANO, digits, tmp_path / "a.safetensors")
    second = unconditional(replace(NANO, seed=1), digits, tmp_path / "b.safetensors")
    assert torch.equal(torch.rand(3), expected)
    assert not torch.equal(first.unet.out_conv.weight, second.unet.out_conv.weight)


def test_checkpoint_of_another_recipe_is_refused(digits, tmp_path):
    path = tmp_path / "state.safetensors"
    unconditional(NANO, digits, path)
    with pytest.raises(CheckpointError, match="another recipe"):
        unconditional(replace(NANO, learning_rate=1e-3), digits, path)
    with pytest.raises(CheckpointError, match="another recipe"):
        PairTraining(NANO, digits).train_network("conditional", path)


def test_damaged_checkpoint_is_refused(digits, tmp_path):
    path = tmp_path / "state.safetensors"
    unconditional(NANO, digits, path)
    content = path.read_bytes()
    for keep in (0, 7, 1000):
        path.write_bytes(content[:keep])
        with pytest.raises(CheckpointError, match="truncated"):
            unconditional(NANO, digits, path)


def test_a_few_steps_lower_the_loss(digits, tmp_path):
    recipe = replace(NANO, unconditional_steps=60, batch_size=64, warmup_steps=5)
    losses = []
    state = tmp_path / "a.safetensors"
    unconditional(recipe, digits, state, report=lambda step, loss: losses.append(loss))
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.2


def test_loss_of_a_fresh_network_is_that_of_the_skip_term(digits):
    """With `F = 0` and data of variance `sigma_d^2`, `E lambda |D - x_0|^2 = 1` at every sigma."""
    torch.manual_seed(0)
    network = EDM2Network(**NANO.network_kwargs("unconditional")).eval()
    clean = digits.train_images
    for level in (0.1, 1.0, 10.0):
        sigma = torch.full((len(clean),), level)
        logvar = network.logvar(sigma)[0].detach()
        loss = edm2_loss(network, clean, torch.randn_like(clean), sigma, None).detach()
        assert float((loss - logvar) * logvar.exp()) == pytest.approx(1, abs=0.02)


def test_augmentation_moves_ink_without_making_any(digits):
    torch.manual_seed(0)
    images, background = digits.train_images[:200], -digits.mean / digits.scale
    assert augment(images, background, replace(NANO, max_shift=0.0)) is images
    moved = augment(images, background, replace(NANO, max_rotation=5.0))
    assert not torch.equal(moved, images)
    assert float(moved.min()) >= background - 1e-6
    assert float(moved.max()) <= float(images.max()) + 1e-6
    ink = (moved - background).sum((1, 2, 3)) / (images - background).sum((1, 2, 3))
    assert float(ink.mean()) == pytest.approx(1, abs=0.03)


def test_run_writes_weights_and_card_and_nothing_else(trained):
    names = {file.name for file in trained.weights.parent.iterdir()}
    assert names == {"digits.safetensors", "card.json", "CARD.md"}
    card = json.loads(trained.card.read_text())
    assert card["recipe"]["seed"] == card["seed"] == 3
    assert card["licence"] == "Apache-2.0"
    assert card["data"]["held_out"]["num_images"] == 360
    assert set(card["versions"]) >= {"python", "torch", "scikit-learn"}
    for role in ("conditional", "unconditional"):
        for part in ("train", "held_out"):
            losses = card["loss_per_sigma"][role][part]
            assert all(np.isfinite(entry["loss"]) for entry in losses)
    assert card["generated"]["num_generated"] == 20
    assert card["generated"]["classifier_held_out_accuracy"] >= 0.95
    text = trained.card_text.read_text()
    assert card["file"]["sha256"] in text
    assert "CC BY 4.0" in text


def test_written_networks_load_again(trained, digits):
    conditional, unconditional, metadata = load_networks(trained.weights)
    assert (conditional.label_dim, unconditional.label_dim) == (10, 0)
    assert metadata.mean == digits.mean
    assert metadata.sigma_range == NANO.sigma_range
    assert not conditional.training
    images = digits.held_out_images[:4]
    assert conditional(images, 0.5, digits.held_out_labels[:4]).shape == images.shape
    assert unconditional(images, 0.5).shape == images.shape


@pytest.mark.slow
def test_the_same_seed_writes_the_same_file(trained, tmp_path):
    training = PairTraining(replace(NANO, seed=3))
    again = train(training, tmp_path, per_class=1, checkpoint_every=2, progress=True)
    assert again.weights.read_bytes() == trained.weights.read_bytes()


def test_missing_damaged_and_foreign_weights_are_refused(trained, tmp_path):
    with pytest.raises(CheckpointError, match="there is none"):
        load_networks(tmp_path / "absent.safetensors")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(trained.weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="truncated"):
        load_networks(damaged)
    foreign = tmp_path / "foreign.safetensors"
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, foreign)
    with pytest.raises(CheckpointError, match="not a file of digits networks"):
        load_networks(foreign)


def test_bad_settings_are_refused(tmp_path):
    for settings in ({"checkpoint_every": 0}, {"per_class": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            train(PairTraining(NANO), tmp_path, progress=False, **settings)
    assert list(tmp_path.iterdir()) == []
    for place, says in ((tmp_path / "file", "is a file"), ("", "must have a name")):
        (tmp_path / "file").write_text("")
        training = PairTraining(NANO)
        with pytest.raises(ValueError, match=says):
            train(training, place, progress=False)
        assert not training.networks  # before any step
    for bad in ("conditional_steps", "unconditional_steps", "batch_size", "warmup_steps"):
        with pytest.raises(ValueError, match=f"{bad}.*positive"):
            replace(NANO, **{bad: 0})


def test_shipped_card_describes_the_shipped_weights():
    from hashlib import sha256
    from importlib.resources import files

    folder = files("model_bridges.digits") / "weights"
    content = (folder / "digits.safetensors").read_bytes()
    card = json.loads((folder / "card.json").read_text())
    assert len(content) < 8_000_000
    assert card["file"]["sha256"] == sha256(content).hexdigest()
    assert card["recipe"] == PairRecipe(seed=card["seed"]).to_dict()
    assert render_card(card, PairTraining.page(card)) == (folder / "CARD.md").read_text()
    assert card["generated"]["num_generated"] == 1000
    assert card["generated"]["recognised"] >= 0.95
    assert card["generated"]["num_classes_present"] == 10
    generated = card["generated"]["generated_distance"]["median"]
    assert generated > 0.8 * card["generated"]["held_out_distance"]["median"]


def test_shipped_networks_denoise_held_out_digits(digits):
    """Better than the Wiener filter of white data, and the label helps where it is undecided."""
    conditional, unconditional, _ = load_networks()
    generator = torch.Generator().manual_seed(0)
    images, labels = digits.held_out_images, digits.held_out_labels
    for sigma in (0.5, 1.0, 2.0):
        noisy = images + sigma * torch.randn(images.shape, generator=generator)
        with_label = float((conditional(noisy, sigma, labels) - images).square().mean())
        without = float((unconditional(noisy, sigma) - images).square().mean())
        wiener = 0.25 * sigma**2 / (0.25 + sigma**2)
        assert with_label < without < 0.6 * wiener


def test_probability_flow_and_ancestral_samples_are_recognised(digits):
    from model_bridges.digits.classifier import DigitClassifier

    conditional, _, _ = load_networks()
    classifier, labels = DigitClassifier(digits), torch.arange(10).repeat_interleave(5)
    for method in ("ancestral", "probability-flow"):
        images = generate(
            conditional, (50, 1, 8, 8), (0.02, 80.0), labels, num_steps=24, method=method
        )
        assert classifier.accuracy(images, labels) >= 0.84


@pytest.mark.slow
def test_shipped_networks_generate_recognisable_digits_that_are_not_copies(digits):
    conditional, _, metadata = load_networks()
    quality = generated_quality(conditional, digits, metadata.sigma_range, per_class=100, seed=1)
    assert quality.classifier_held_out_accuracy >= 0.95
    assert quality.recognised >= 0.95
    assert quality.num_classes_present == 10
    assert quality.generated_distance.median > 0.8 * quality.held_out_distance.median
    assert quality.generated_distance.quantile_05 > 0.6 * quality.held_out_distance.quantile_05
