"""The mixture that poses as a model agrees with the closed form, at every noise level."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from denoiser_contract import check_denoiser

import model_bridges as mb
from gmm_speciation import GaussianMixture, inference
from gmm_speciation.partitions import Partition

DIM, NUM_COMPONENTS = 6, 5
PARTITIONS = [None, [0, 1, 0, 2, 1]]
WEIGHTS = np.array([0.3, 0.25, 0.2, 0.15, 0.1])


def mixture(kind: str) -> GaussianMixture:
    rng = np.random.default_rng(5)
    means = 3.0 + rng.normal(size=(NUM_COMPONENTS, DIM))
    roots = rng.normal(size=(NUM_COMPONENTS, DIM, DIM)) / DIM**0.5
    full = roots @ roots.swapaxes(-1, -2)
    rows = rng.uniform(0.1, 2.0, size=(NUM_COMPONENTS, DIM))
    return {
        "isotropic": lambda: GaussianMixture.isotropic(means, rows[:, 0], WEIGHTS),
        "isotropic, shared": lambda: GaussianMixture.isotropic(means, 0.5, WEIGHTS),
        "diagonal": lambda: GaussianMixture.diagonal(means, rows, WEIGHTS),
        "diagonal, shared": lambda: GaussianMixture.diagonal(means, rows[0], WEIGHTS),
        "full": lambda: GaussianMixture.full(means, full, WEIGHTS),
        "full, shared": lambda: GaussianMixture.full(means, full[0], WEIGHTS),
        "low-rank": lambda: GaussianMixture.low_rank(means, roots[:, :, :2], rows[:, 0], WEIGHTS),
        "low-rank, shared": lambda: GaussianMixture.low_rank(means, roots[0, :, :2], 0.5, WEIGHTS),
        "low-rank, all axes": lambda: GaussianMixture.low_rank(means, roots, 0.5, WEIGHTS),
        "points": lambda: GaussianMixture.isotropic(means, 0.0, WEIGHTS),
    }[kind]()


KINDS = [
    "isotropic",
    "isotropic, shared",
    "diagonal",
    "diagonal, shared",
    "full",
    "full, shared",
    "low-rank",
    "low-rank, shared",
    "low-rank, all axes",
    "points",
]


def states(m: GaussianMixture, sigma: float) -> torch.Tensor:
    rng = np.random.default_rng(6)
    x = np.asarray(m.means)[[0, 1, 2, 3, 4, 0]] + (0.5 + sigma) * rng.normal(size=(6, DIM))
    return torch.from_numpy(x)


@pytest.mark.parametrize("sigma", [1e-4, 0.02, 1.0, 80.0, 1e5])
@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_closed_form_posterior_mean(kind, partition, sigma):
    m = mixture(kind)
    denoiser = mb.mixture_denoiser(m, partition)
    x = states(m, sigma)
    expected = np.asarray(
        inference.class_denoisers(m, jnp.asarray(x.numpy()), 1.0, sigma, partition)
    )
    for c in range(denoiser.num_classes):
        ours = denoiser(x, sigma, torch.full((6,), c)).numpy()
        np.testing.assert_allclose(ours, expected[:, c], rtol=1e-9, atol=1e-9)
    ours = denoiser(x, sigma, mb.UNCONDITIONAL).numpy()
    expected = np.asarray(inference.denoiser(m, jnp.asarray(x.numpy()), 1.0, sigma))
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_it_keeps_the_contract_of_denoisers(kind):
    m = mixture(kind)
    check_denoiser(mb.mixture_denoiser(m, [0, 1, 0, 2, 1]), states(m, 0.7), 0.7, 1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_stays_close_to_float64(kind):
    m = mixture(kind)
    for sigma in (0.02, 1.0, 80.0):
        x = states(m, sigma)
        label = torch.arange(6) % 5
        single = mb.mixture_denoiser(m, dtype=torch.float32)(x, sigma, label)
        torch.testing.assert_close(
            single, mb.mixture_denoiser(m)(x, sigma, label), rtol=0, atol=1e-4
        )


def test_images_are_vectors_of_another_shape():
    m = mixture("full")
    x, label = states(m, 1.0), torch.arange(6) % 5
    image = mb.mixture_denoiser(m, event_shape=(1, 2, 3))(x.reshape(6, 1, 2, 3), 1.0, label)
    torch.testing.assert_close(image.reshape(6, 6), mb.mixture_denoiser(m)(x, 1.0, label))
    with pytest.raises(ValueError, match="6 entries in all"):
        mb.mixture_denoiser(m, event_shape=(1, 5))


def test_its_prior_is_that_of_the_mixture():
    prior = mb.mixture_denoiser(mixture("full"), [0, 1, 0, 2, 1]).class_prior
    np.testing.assert_allclose(prior, [0.5, 0.35, 0.15], rtol=1e-12)


def test_its_classes_are_called_as_those_of_the_partition():
    mixture = GaussianMixture.isotropic([[0.0], [1.0], [2.0]], 0.1)
    named = mb.mixture_denoiser(mixture, Partition([0, 1, 1], names=("low", "high")))
    assert named.class_names == ("low", "high")
    assert mb.mixture_denoiser(mixture).class_names is None


def test_a_class_of_weight_zero_still_has_a_denoiser():
    m = GaussianMixture.isotropic(np.eye(3), 0.1, [0.5, 0.5, 0.0])
    denoiser = mb.mixture_denoiser(m, [0, 1, 1])
    assert torch.isfinite(denoiser(torch.zeros(2, 3), 1.0, torch.tensor([0, 1]))).all()
    alone = mb.mixture_denoiser(m)(torch.zeros(1, 3), 1.0, torch.tensor([2]))
    assert torch.isfinite(alone).all()


def test_a_partition_of_other_components_is_refused():
    with pytest.raises(ValueError, match="got labels of 3"):
        mb.mixture_denoiser(mixture("full"), [0, 1, 1])
