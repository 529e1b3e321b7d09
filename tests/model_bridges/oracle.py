"""Mixtures of known truth and data drawn from them, for the tests of the estimators."""

import jax
import numpy as np
import torch

from gmm_speciation import GaussianMixture

DIM, NUM_CLASSES = 64, 10


def ten_classes(kind: str) -> GaussianMixture:
    """Ten classes in 64 dimensions at random means: isotropic (shared or not), or full covariances."""
    rng = np.random.default_rng(1)
    means = 0.25 * rng.normal(size=(NUM_CLASSES, DIM))
    if kind == "isotropic":
        return GaussianMixture.isotropic(means, 0.05)
    if kind == "isotropic, per class":
        return GaussianMixture.isotropic(means, np.linspace(0.03, 0.08, NUM_CLASSES))
    spectrum = 0.5 / np.arange(1, DIM + 1)
    bases = np.linalg.qr(rng.normal(size=(NUM_CLASSES, DIM, DIM)))[0]
    return GaussianMixture.full(means, (bases * spectrum) @ bases.swapaxes(-1, -2))


def draw(mixture: GaussianMixture, num_images: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clean data `(n, d)` and the component of each."""
    x0, component = mixture.sample(jax.random.key(seed), num_images)
    return torch.from_numpy(np.array(x0)), torch.from_numpy(np.array(component)).long()
