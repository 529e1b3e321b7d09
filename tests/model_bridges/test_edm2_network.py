"""The EDM2 network against reference outputs, published shapes, and its own identities."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from model_bridges.edm2 import EDM2Network
from model_bridges.edm2.layers import MPConv, mp_cat, mp_silu, mp_sum, normalize

DATA = Path(__file__).parents[1] / "data" / "edm2"
NANO = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4]}


@pytest.fixture(scope="module")
def reference():
    with np.load(DATA / "micro_cond.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    state = {
        name.removeprefix("state:"): torch.from_numpy(value.astype(np.float32))
        for name, value in arrays.items()
        if name.startswith("state:")
    }
    network = EDM2Network(**json.loads(str(arrays["kwargs"]))).eval()
    network.load_state_dict(state, strict=True)
    io = {k.removeprefix("io:"): torch.from_numpy(v) for k, v in arrays.items() if "io:" in k}
    return network.requires_grad_(False), io


@pytest.fixture
def nano():
    """A fresh network whose gains are no longer zero, so that label and noise level matter."""
    torch.manual_seed(0)
    network = EDM2Network(8, 1, 10, channels_per_head=8, **NANO).eval().requires_grad_(False)
    for name, parameter in network.named_parameters():
        if name.endswith("gain"):
            parameter.fill_(1.0)
    return network


def test_reference_outputs(reference):
    network, io = reference
    denoised, logvar = network(io["x"], io["sigma"], io["label"], return_logvar=True)
    torch.testing.assert_close(denoised, io["D_cond_fp32up"], rtol=0, atol=1e-5)
    torch.testing.assert_close(logvar, io["logvar"], rtol=0, atol=1e-5)


def test_no_label_is_the_zero_label_of_the_reference(reference):
    network, io = reference
    denoised = network(io["x"], io["sigma"], None)
    torch.testing.assert_close(denoised, io["D_none_fp32up"], rtol=0, atol=1e-5)
    zeros = network(io["x"], io["sigma"], torch.zeros_like(io["label_soft"]))
    torch.testing.assert_close(zeros, denoised, rtol=0, atol=1e-6)


def test_half_precision_gains_account_for_the_published_half_precision_output(reference):
    network, io = reference
    difference = (network(io["x"], io["sigma"], io["label"]) - io["D_cond"]).abs().max()
    assert 0 < difference < 1e-3


def test_soft_labels_agree_with_integers_at_the_corners(reference):
    network, io = reference
    corner = torch.nn.functional.one_hot(io["label"], 7).float()
    soft = network(io["x"], io["sigma"], corner)
    torch.testing.assert_close(soft, io["D_cond_fp32up"], rtol=0, atol=1e-5)
    assert (network(io["x"], io["sigma"], io["label_soft"]) - soft).abs().max() > 1e-2


def test_xs_configuration_has_the_published_names_and_shapes():
    expected = json.loads((DATA / "xs_tensors.json").read_text())
    with torch.device("meta"):
        conditional = EDM2Network(64, 4, 1000, model_channels=128)
        unconditional = EDM2Network(64, 4, 0, model_channels=128)
    assert {k: list(v.shape) for k, v in conditional.state_dict().items()} == expected
    assert sum(p.numel() for p in conditional.parameters()) == 124_713_253
    assert set(expected) - set(unconditional.state_dict()) == {"unet.emb_label.weight"}
    assert sum(p.numel() for p in unconditional.parameters()) == 124_201_253


@pytest.mark.parametrize("img_channels", [4, 3])  # of latents, for 512 pixels; of 64 pixels
@pytest.mark.parametrize(
    ("model_channels", "millions"),
    [(128, 125), (192, 280), (256, 498), (320, 777), (384, 1119), (448, 1523)],
)
def test_every_published_size_has_its_number_of_parameters(model_channels, millions, img_channels):
    """XS to XXL, in millions: the counts of Karras et al. 2024 (arXiv 2312.02696) as others quote them.

    S and XXL in Table 1 of Kynkaanniemi et al. 2024 (arXiv 2404.07724), XS to L in the tables of SiDA (Zhou
    et al. 2024), which round XL and XXL to 1.1 and 1.5 thousand.
    """
    with torch.device("meta"):
        network = EDM2Network(64, img_channels, 1000, model_channels=model_channels)
    assert abs(sum(p.numel() for p in network.parameters()) / 1e6 - millions) < 1


def test_dropout_adds_no_tensors_and_acts_in_training_only(nano):
    network = EDM2Network(8, 1, 10, channels_per_head=8, dropout=0.5, **NANO)
    network.load_state_dict(nano.state_dict(), strict=True)
    x, labels = torch.randn(4, 1, 8, 8), torch.arange(4)
    torch.testing.assert_close(network.eval()(x, 0.3, labels), nano(x, 0.3, labels))
    network.train()
    assert not torch.equal(network(x, 0.3, labels), network(x, 0.3, labels))


def test_denoiser_is_the_preconditioned_raw_output(nano):
    x, sigma, labels = torch.randn(5, 1, 8, 8), torch.logspace(-2, 2, 5), torch.arange(5)
    c = nano.preconditioning(sigma)
    torch.testing.assert_close(c.c_skip + (c.c_out / 0.5) ** 2 * 0.25 / sigma**2, 2 * c.c_skip)
    torch.testing.assert_close(c.c_in**2 * (sigma**2 + 0.25), torch.ones(5))
    image = (slice(None), None, None, None)
    expected = c.c_skip[image] * x + c.c_out[image] * nano.raw(x, sigma, labels)
    torch.testing.assert_close(nano(x, sigma, labels), expected)
    difference = nano.raw(x, sigma, labels) - nano.raw(x, sigma, labels.flip(0))
    by_outputs = nano(x, sigma, labels) - nano(x, sigma, labels.flip(0))
    torch.testing.assert_close(c.c_out[image] * difference, by_outputs, rtol=1e-4, atol=1e-4)


def test_fresh_network_returns_the_skip_term():
    network = EDM2Network(8, 1, 0, **NANO).eval()
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(network(x, 2.0), network.preconditioning(torch.tensor(2.0))[0] * x)


def test_scalar_and_batched_noise_levels_and_batches_agree(nano):
    x, labels = torch.randn(4, 1, 8, 8), torch.arange(4)
    together = nano(x, torch.full((4,), 0.7), labels)
    torch.testing.assert_close(together, nano(x, 0.7, labels))
    alone = torch.cat([nano(x[i : i + 1], 0.7, labels[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_double_precision_agrees_with_single(nano):
    x, labels = torch.randn(2, 1, 8, 8), torch.arange(2)
    single = nano(x, 0.7, labels)
    double = nano.double()(x.double(), 0.7, labels)
    assert double.dtype == torch.float64
    torch.testing.assert_close(single, double.float(), rtol=1e-4, atol=1e-5)


def test_layers_preserve_magnitude():
    """Independent unit-normal inputs leave every layer with mean square 1, up to sampling."""
    torch.manual_seed(0)
    a, b = torch.randn(64, 32, 8, 8), torch.randn(64, 96, 8, 8)
    convolution = MPConv(32, 48, (3, 3))
    for output in (
        mp_silu(a),
        mp_sum(a, torch.randn_like(a), 0.3),
        mp_cat(a, b, 0.5),
        convolution(a)[:, :, 1:-1, 1:-1],
        normalize(5 * a, axes=[1]),
    ):
        assert float(output.detach().square().mean()) == pytest.approx(1, abs=0.03)


def test_mp_cat_balances_the_contributions_of_unequal_widths():
    a, b = torch.ones(1, 8, 2, 2), torch.ones(1, 24, 2, 2)
    joined = mp_cat(a, b, 0.6)
    energy_a, energy_b = joined[:, :8].square().sum(), joined[:, 8:].square().sum()
    assert float((energy_b / energy_a) ** 0.5) == pytest.approx(0.6 / 0.4, rel=1e-5)


def test_training_overwrites_weights_by_normalised_ones():
    layer = MPConv(16, 4)
    with torch.no_grad():
        layer.weight.mul_(torch.tensor([[1.0], [10.0], [100.0], [0.1]]))
    before = layer.eval()(torch.ones(1, 16)).detach()
    layer.train()(torch.ones(1, 16))
    magnitude = layer.weight.detach().square().mean(1)
    torch.testing.assert_close(magnitude, torch.ones(4), rtol=5e-3, atol=0)
    torch.testing.assert_close(layer.eval()(torch.ones(1, 16)), before, rtol=5e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(2, 1, 4, 8), 1.0, None), r"\(B, 1, 8, 8\); got \(2, 1, 4, 8\)"),
        ((torch.zeros(2, 1, 8, 8), torch.ones(3), None), r"one entry per image \(2,\)"),
        ((torch.zeros(2, 1, 8, 8), 0.0, None), "positive and finite"),
        ((torch.zeros(2, 1, 8, 8), 1.0, torch.tensor([0, 10])), r"0\.\.9; got 0 to 10"),
        ((torch.zeros(2, 1, 8, 8), 1.0, torch.zeros(2, 9)), r"soft labels of shape \(2, 10\)"),
        ((torch.zeros(2, 1, 8, 8), 1.0, torch.zeros(3, dtype=torch.long)), r"shape \(2,\)"),
    ],
)
def test_bad_input_says_what_was_expected(nano, arguments, message):
    with pytest.raises((ValueError, TypeError)) as error:
        nano(*arguments)
    if isinstance(error.value, ValueError):  # a shape hook may speak first
        error.match(message)


def test_unconditional_network_refuses_labels():
    network = EDM2Network(8, 1, 0, **NANO)
    with pytest.raises(ValueError, match="unconditional"):
        network(torch.zeros(2, 1, 8, 8), 1.0, torch.tensor([0, 1]))


def test_bad_configuration_is_refused():
    with pytest.raises(ValueError, match="modelchannels"):
        EDM2Network(8, 1, 0, modelchannels=8)
    with pytest.raises(ValueError, match="divisible by 8"):
        EDM2Network(12, 1, 0)
