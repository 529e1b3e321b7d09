"""Single images along their noise paths: the states that were tracked, and their Bayes mixture."""

import jax
import numpy as np
import torch
from elsewhere import DEVICE, Watched, elsewhere

import gmm_speciation as gs
import model_bridges as mb
from model_bridges.crosscheck.frames import frames
from model_bridges.denoisers.devices import place
from model_bridges.tracking.forward import forward_paths


def grey(values, images):
    """Bytes of images on the range of the data, cut at its ends."""
    low, high = images.min(), images.max()
    return np.round(255 * np.clip((values - low) / (high - low), 0, 1)).astype(np.uint8)


def test_the_frames_are_those_of_the_tracking_pass():
    mixture = gs.families.equidistant(3, 6, distance=4.0, variance=0.25)
    model = mb.mixture_denoiser(mixture, event_shape=(1, 2, 3))
    x, labels = (np.array(part) for part in mixture.sample(jax.random.key(0), 5))
    images, sigmas = torch.from_numpy(x.reshape(5, 1, 2, 3)), np.geomspace(0.1, 20, 6)
    record = mb.track(model, images, torch.from_numpy(labels), sigmas=sigmas, num_paths=2, seed=3)
    chosen, names = np.array([7, 1]), ["a", "b", "c"]
    found = frames(model, images, record, chosen, names)
    assert found.names == [f"a {names[labels[path // 2]]}" for path in chosen]
    posterior = np.exp(record.log_posterior)[:, chosen].transpose(1, 0, 2)
    np.testing.assert_allclose(found.posterior, posterior)
    pixels = images.numpy()
    for row, path in enumerate(chosen):
        states = forward_paths(images.repeat_interleave(2, 0), sigmas, 3)[:, path].numpy()
        for level, sigma in enumerate(sigmas):
            flat = states[level].reshape(1, 6)
            means = np.asarray(gs.class_denoisers(mixture, flat, 1.0, sigma))[0]
            mixed = (posterior[row, level] @ means).reshape(1, 2, 3)
            off = found.denoised[row, level].astype(int) - grey(mixed, pixels)
            assert np.abs(off).max() <= 1  # rounding
            centre, spread = pixels.mean(), pixels.std(ddof=1)
            shown = centre + (states[level] - centre) * spread / np.hypot(spread, sigma)
            off = found.noisy[row, level].astype(int) - grey(shown, pixels)
            assert np.abs(off).max() <= 1


def test_frames_of_a_model_on_another_device_are_the_hosts():
    mixture = gs.families.equidistant(3, 6, distance=4.0, variance=0.25)
    model = mb.mixture_denoiser(mixture, event_shape=(1, 2, 3))
    x, labels = (np.array(part) for part in mixture.sample(jax.random.key(0), 3))
    images = torch.from_numpy(x.reshape(3, 1, 2, 3))
    record = mb.track(model, images, torch.from_numpy(labels), sigmas=[0.1, 1.0, 9.0])
    here = frames(model, images, record, np.array([2]), ["a", "b", "c"])
    with elsewhere():
        there = frames(
            Watched(place(model, DEVICE)), images, record, np.array([2]), ["a", "b", "c"]
        )
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one, other)


def test_states_that_are_no_pictures_give_none():
    mixture = gs.families.symmetric_pair(4)
    model = mb.mixture_denoiser(mixture)
    x = torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    record = mb.track(model, x, sigmas=[0.1, 1.0])
    assert frames(model, x, record, np.array([0]), ["a", "b"]) is None
