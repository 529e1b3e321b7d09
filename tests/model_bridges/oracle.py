"""Mixtures of known truth and data drawn from them, for the tests of the estimators."""

import jax
import numpy as np
import torch
from numpy.polynomial.hermite_e import hermegauss

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


def equidistant_entropy(num_classes: int, s: float) -> float:
    """H(C|X) of orthogonal means `sqrt(s) e_k` in unit noise, by two nested integrals.

    With `Phi_m(l) = E exp(-exp(l + m + sqrt(s) z))`,
    `H = int [exp(-e^l) - Phi_s(l) Phi_0(l)^(K-1)] dl - s`: `E log sum_k e^(y_k)` with
    `log S = int (exp(-e^l) - exp(-S e^l)) dl`.
    """
    nodes, weights = hermegauss(160)
    level = np.linspace(-60 - 2 * s, 12, 40_001)

    def phi(shift: float) -> np.ndarray:
        exponent = np.minimum(level + shift + s**0.5 * nodes[:, None], 700)
        return weights / weights.sum() @ np.exp(-np.exp(exponent))

    integrand = np.exp(-np.exp(level)) - phi(s) * phi(0.0) ** (num_classes - 1)
    return float(np.trapezoid(integrand, level) - s)
