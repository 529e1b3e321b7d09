"""Pictures to EDM2's states and back, through a small autoencoder with random weights."""

import numpy as np
import pytest
import torch
from official_files import TINY, write

import model_bridges as mb
from model_bridges.checkpoints import EDM2_LATENTS
from model_bridges.edm2.latents import Latents, load_latents

diffusers = pytest.importorskip("diffusers")


def autoencoder(latent_channels: int = 4):
    torch.manual_seed(0)
    return diffusers.AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=latent_channels,
        norm_num_groups=4,
        layers_per_block=1,
    ).eval()


@pytest.fixture(scope="module")
def latents():
    return Latents(autoencoder(), EDM2_LATENTS, max_batch=2)


@pytest.fixture(scope="module")
def pictures():
    return torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_the_scaling_standardises_latents_to_half():
    """`scale z + bias` has mean 0 and standard deviation 1/2 for z of the raw mean and deviation."""
    mean, std = np.array([5.81, 3.25, 0.12, -2.15]), np.array([4.17, 4.62, 3.71, 3.28])
    scale, bias = np.array(EDM2_LATENTS.scale), np.array(EDM2_LATENTS.bias)
    np.testing.assert_allclose(scale * mean + bias, 0, atol=1e-12)
    np.testing.assert_allclose(scale * std, 0.5)


@torch.no_grad()
def test_states_are_the_scaled_latents_of_pixels_between_0_and_1(latents, pictures):
    posterior = latents.autoencoder.encode(pictures).latent_dist
    scale = torch.tensor(EDM2_LATENTS.scale)[:, None, None]
    bias = torch.tensor(EDM2_LATENTS.bias)[:, None, None]
    torch.testing.assert_close(latents.encode(pictures), scale * posterior.mean + bias)
    decoded = latents.autoencoder.decode(posterior.mean).sample.clamp(0, 1)
    torch.testing.assert_close(latents.decode(latents.encode(pictures)), decoded)


def test_uint8_pictures_are_the_same_pictures(latents, pictures):
    bytes_ = (pictures * 255).round().to(torch.uint8)
    torch.testing.assert_close(latents.encode(bytes_), latents.encode(bytes_.float() / 255))


def test_arrays_of_numpy_are_the_same_pictures_and_states(latents, pictures):
    bytes_ = (pictures * 255).round().to(torch.uint8)
    for given in (pictures, bytes_):
        torch.testing.assert_close(latents.encode(given.numpy()), latents.encode(given))
    states = latents.encode(pictures)
    torch.testing.assert_close(latents.decode(states.numpy()), latents.decode(states))


def test_draws_follow_the_posterior_of_the_encoder(latents, pictures):
    draws = torch.stack(
        [latents.encode(pictures, torch.Generator().manual_seed(s)) for s in range(200)]
    )
    again = latents.encode(pictures, torch.Generator().manual_seed(0))
    torch.testing.assert_close(draws[0], again)
    with torch.no_grad():
        std = latents.autoencoder.encode(pictures).latent_dist.std
    expected = std * torch.tensor(EDM2_LATENTS.scale)[:, None, None]
    z = (draws.mean(0) - latents.encode(pictures)) / expected * 200**0.5
    assert float(z.square().mean()) == pytest.approx(1, abs=0.3)
    assert float((draws.std(0) / expected).mean()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (torch.full((1, 3, 8, 8), -1.0), r"values in \[0, 1\]; got -1"),
        (torch.full((1, 3, 8, 8), 255.0), "uint8"),
        (torch.full((1, 3, 8, 8), float("nan")), r"values in \[0, 1\]"),
        (torch.zeros(1, 1, 8, 8), r"\(B, 3, height, width\)"),
        (torch.zeros(3, 8, 8), r"\(B, 3, height, width\)"),
    ],
)
def test_pictures_in_other_units_are_refused(latents, pictures, message):
    with pytest.raises(ValueError, match=message):
        latents.encode(pictures)


def test_channels_that_do_not_fit_are_refused(latents):
    with pytest.raises(ValueError, match="3 latent channels, and the scaling 4"):
        Latents(autoencoder(3), EDM2_LATENTS)
    with pytest.raises(ValueError, match=r"\(B, 4, height, width\)"):
        latents.decode(torch.zeros(1, 3, 4, 4))


def test_pictures_and_states_that_are_no_numbers_are_refused(pictures):
    broken = autoencoder()
    with pytest.raises(ValueError, match="pictures must be finite; got NaN or infinity in float32"):
        Latents(broken, EDM2_LATENTS).decode(torch.full((1, 4, 8, 8), torch.inf))
    torch.nn.init.constant_(broken.quant_conv.weight, 3e38)
    with pytest.raises(ValueError, match="latents must be finite; got NaN or infinity in float32"):
        Latents(broken, EDM2_LATENTS).encode(pictures)


def test_a_model_reads_its_autoencoder_at_first_use_and_fetches_nothing(
    tmp_path, pictures, monkeypatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    write(tmp_path / "net.pkl", TINY | {"img_channels": 4})
    autoencoder().save_pretrained(tmp_path / "vae")
    model = mb.edm2.load(tmp_path / "net.pkl", vae=tmp_path / "vae")
    states = model.encode(pictures)
    assert states.shape == (3, *model.event_shape)
    assert model.decode(states).shape == pictures.shape
    named = mb.edm2.load(tmp_path / "net.pkl")
    with pytest.raises(ValueError, match=r"sd-vae-ft-mse.*download=True"):
        named.encode(pictures)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="could not be read"):
        load_latents(EDM2_LATENTS, str(tmp_path / "empty"))


def test_a_network_of_pixels_has_no_autoencoder(tmp_path, pictures):
    write(tmp_path / "net.pkl", latent_scaling=None)
    with pytest.raises(ValueError, match="see pixels"):
        mb.edm2.load(tmp_path / "net.pkl").encode(pictures)
