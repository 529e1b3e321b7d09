"""Tensor quadrature over the reduced statistic against other rules on the states, to 1e-10 nats."""

import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import gmm_speciation as gs
from gmm_speciation.exact.quadrature import quadrature_levels


def _entropy_density(log_joint):
    """`-sum_k p_k log p_k` of the posterior times the density, from `log w_k + log p_k(x)`."""
    fp = mpmath.fp
    largest = max(log_joint)
    total = largest + fp.log(sum(fp.exp(value - largest) for value in log_joint))
    entropy = -sum(fp.exp(value - total) * (value - total) for value in log_joint)
    return entropy * fp.exp(total)


@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.9, 0.1)])
@pytest.mark.parametrize("dim", [1, 3, 40])
def test_equal_means(dim, weights):
    """`N(0, v_k I)`: an integral over the radius, whose density is written out here."""
    variances = (0.5, 1.5)
    mixture = gs.GaussianMixture.isotropic(np.zeros((2, dim)), variances, weights)
    log_snr = 0.7
    alpha2, sigma2 = 1 / (1 + math.exp(-log_snr)), 1 / (1 + math.exp(log_snr))
    noisy = [alpha2 * v + sigma2 for v in variances]
    shell = math.log(2) - math.lgamma(dim / 2)

    def integrand(radius):
        return _entropy_density(
            [
                math.log(w)
                + shell
                + (dim - 1) * math.log(radius)
                - dim / 2 * math.log(2 * v)
                - radius**2 / (2 * v)
                for w, v in zip(weights, noisy, strict=True)
            ]
        )

    reach = math.sqrt(noisy[1] * dim) + 12
    truth = mpmath.fp.quad(integrand, np.linspace(1e-30, reach, 9).tolist())
    entropy = gs.class_entropy(mixture, log_snr, method="exact").value
    assert abs(float(entropy) - truth) < 1e-10


@pytest.mark.parametrize("log_snr", [-4.0, -2.0])
def test_one_dimension_with_variances_that_differ(log_snr):
    means, variances, weights = (-8.0, -4.0, 6.0, 8.0), (0.3, 1.0, 0.6, 0.2), (0.1, 0.4, 0.2, 0.3)
    mixture = gs.GaussianMixture.isotropic(np.array(means)[:, None], variances, weights)
    alpha2, sigma2 = 1 / (1 + math.exp(-log_snr)), 1 / (1 + math.exp(log_snr))

    def integrand(x):
        return _entropy_density(
            [
                math.log(w)
                - (x - math.sqrt(alpha2) * m) ** 2 / (2 * (alpha2 * v + sigma2))
                - math.log(2 * math.pi * (alpha2 * v + sigma2)) / 2
                for w, m, v in zip(weights, means, variances, strict=True)
            ]
        )

    truth = mpmath.fp.quad(integrand, np.linspace(-18, 18, 13).tolist())
    entropy = gs.class_entropy(mixture, log_snr, method="exact").value
    assert abs(float(entropy) - truth) < 1e-10


def test_three_classes_in_a_plane():
    """A shared covariance in 20 dimensions: an integral over two, here by Gauss and Legendre."""
    means = np.zeros((3, 20))
    means[1, 0], means[2, :2] = 3.0, (1.0, 2.5)
    weights = (0.5, 0.3, 0.2)
    mixture = gs.GaussianMixture.isotropic(means, 0.8, weights)
    log_snr = -0.5
    alpha2, sigma2 = 1 / (1 + np.exp(-log_snr)), 1 / (1 + np.exp(log_snr))
    variance = alpha2 * 0.8 + sigma2
    points = np.sqrt(alpha2) * means[:, :2]

    nodes, panel = np.polynomial.legendre.leggauss(240)
    line, panel = 1.0 + 10 * nodes, 10 * panel
    x, y = np.meshgrid(line, line, indexing="ij")
    squares = (x[..., None] - points[:, 0]) ** 2 + (y[..., None] - points[:, 1]) ** 2
    joint = np.array(weights) * np.exp(-squares / (2 * variance)) / (2 * np.pi * variance)
    log_share = np.log(weights) - squares / (2 * variance)
    log_share -= np.logaddexp.reduce(log_share, -1, keepdims=True)
    truth = -np.einsum("i,j,ijk,ijk->", panel, panel, joint, log_share)
    entropy = gs.class_entropy(mixture, log_snr, method="exact").value
    assert abs(float(entropy) - truth) < 1e-10


def test_derivatives_are_those_of_the_integral():
    """In the level, where it is minus the rate, and in a variance, by central differences."""
    means = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.5]])

    def entropy(level, variance):
        mixture = gs.GaussianMixture.isotropic(jnp.asarray(means), variance)
        return quadrature_levels(gs.reduce(mixture), level[None]).mean.entropy[0]

    level, variance = jnp.asarray(0.3), jnp.array([0.5, 1.0, 1.4])
    by_level, by_variance = jax.grad(entropy, (0, 1))(level, variance)
    mixture = gs.GaussianMixture.isotropic(means, variance)
    rate = float(gs.entropy_rate(mixture, 0.3, method="exact").value)
    np.testing.assert_allclose(float(by_level), -rate, rtol=1e-9)
    step = 1e-5
    for k in range(3):
        nudge = jnp.zeros(3).at[k].set(step)
        slope = (entropy(level, variance + nudge) - entropy(level, variance - nudge)) / (2 * step)
        np.testing.assert_allclose(float(by_variance[k]), float(slope), atol=1e-8)
