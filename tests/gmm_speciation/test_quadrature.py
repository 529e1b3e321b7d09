"""Tensor quadrature over the reduced statistic against other rules on the states, to 1e-10 nats."""

import itertools
import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import gmm_speciation as gs
from gmm_speciation.exact.quadrature import quadrature_levels


def _line_entropy(means, variances, weights, log_snr):
    """H by mpmath on the line, its intervals halved about every component down to 2^-6 of its width."""
    with mpmath.workdps(25):
        alpha2, sigma2 = 1 / (1 + mpmath.exp(-log_snr)), 1 / (1 + mpmath.exp(log_snr))
        noisy = [alpha2 * mpmath.mpf(v) + sigma2 for v in variances]
        places = [mpmath.sqrt(alpha2) * mpmath.mpf(m) for m in means]

        def integrand(x):
            joint = [
                mpmath.log(w) - (x - m) ** 2 / (2 * v) - mpmath.log(2 * mpmath.pi * v) / 2
                for w, m, v in zip(weights, places, noisy, strict=True)
            ]
            total = max(joint) + mpmath.log(sum(mpmath.exp(one - max(joint)) for one in joint))
            return -sum((one - total) * mpmath.exp(one) for one in joint)

        reach = max(abs(m) + 14 * mpmath.sqrt(v) for m, v in zip(places, noisy, strict=True))
        ends = {-reach, reach}
        for m, v in zip(places, noisy, strict=True):
            ends |= {
                m + s * mpmath.sqrt(v) * mpmath.mpf(2) ** k for s in (-1, 1) for k in range(-6, 18)
            }
        return float(mpmath.quad(integrand, sorted(x for x in ends if abs(x) <= reach)))


LIKE = (-8.0, -4.0, 6.0, 8.0), (0.3, 1.0, 0.6, 0.2), (0.1, 0.4, 0.2, 0.3)
UNLIKE = [
    ((0.0, 0.3), (1e-6, 1.0), (0.5, 0.5)),
    ((0.0, 0.3), (1e-3, 5.0), (0.5, 0.5)),
    ((0.0, 0.3, 2.0), (1e-8, 1e-3, 1.0), (0.2, 0.3, 0.5)),
    ((0.0, 1.0), (1e-8, 1.0), (1e-6, 1 - 1e-6)),
]


@pytest.mark.parametrize(
    ("law", "log_snr"), [(LIKE, -4.0), (LIKE, -2.0), *itertools.product(UNLIKE, (0.0, 12.0, 30.0))]
)
def test_variances_of_any_ratio(law, log_snr):
    means, variances, weights = law
    mixture = gs.GaussianMixture.isotropic(np.array(means)[:, None], variances, weights)
    found = gs.class_entropy(mixture, log_snr)
    truth = _line_entropy(means, variances, weights, log_snr)
    assert float(found.stderr) == 0
    assert abs(float(found.value) - truth) < 1e-11 + 1e-11 * truth


@pytest.mark.parametrize(
    ("dim", "variances", "weight", "log_snr"),
    [
        (1, (0.5, 1.5), 0.9, 0.7),
        (3, (0.5, 1.5), 0.9, 0.7),
        (64, (0.01, 1.0), 0.5, 2.0),
        (64, (0.01, 1.0), 0.5, 0.0),
        (2, (1e-8, 1.0), 0.5, 25.0),
        (10**4, (0.9, 1.0), 0.5, 4.0),
    ],
)
def test_equal_means_of_any_ratio(dim, variances, weight, log_snr):
    """The radius alone, by mpmath in chi-square densities."""
    with mpmath.workdps(30):
        alpha2, sigma2 = 1 / (1 + mpmath.exp(-log_snr)), 1 / (1 + mpmath.exp(log_snr))
        noisy = [alpha2 * mpmath.mpf(v) + sigma2 for v in variances]
        weights = mpmath.mpf(weight), 1 - mpmath.mpf(weight)
        half = mpmath.mpf(dim) / 2

        def integrand(t):  # t = log |x|^2
            joint = [
                mpmath.log(w) + half * (t - mpmath.log(2 * v)) - mpmath.exp(t) / (2 * v)
                for w, v in zip(weights, noisy, strict=True)
            ]
            total = max(joint) + mpmath.log1p(mpmath.exp(min(joint) - max(joint)))
            entropy = sum(mpmath.exp(one) * (total - one) for one in joint)
            return entropy / mpmath.gamma(half)

        places = set()
        for v in noisy:
            width = mpmath.sqrt(2 / mpmath.mpf(dim))
            reach = 14 if dim > 3 else 45
            places |= {mpmath.log(v * dim) + width * k / 2 for k in range(-2 * reach, 2 * reach)}
        truth = float(mpmath.quad(integrand, sorted(places)))
    mixture = gs.GaussianMixture.isotropic(np.zeros((2, dim)), variances, [weight, 1 - weight])
    found = gs.class_entropy(mixture, log_snr)
    assert float(found.stderr) == 0
    assert abs(float(found.value) - truth) < 1e-11 * (1 + truth)


@pytest.mark.parametrize("method", ["auto", "exact", "quasi-monte-carlo", "monte-carlo"])
def test_components_that_nothing_tells_apart(method):
    mixture = gs.GaussianMixture.isotropic(np.zeros((3, 5)), 1.0, [0.5, 0.3, 0.2])
    found = gs.class_entropy(mixture, 3.0, method=method, num_samples=64)
    prior = -sum(w * math.log(w) for w in (0.5, 0.3, 0.2))
    np.testing.assert_allclose(float(found.value), prior, rtol=1e-12)


def test_what_is_not_resolved_is_not_called_exact():
    """Three variables and a component 10^4 times narrower: the tensor rule says so, `auto` samples."""
    means = np.array([[0.0, 0, 0, 0, 0], [0.3, 0, 0, 0, 0], [0, 0.2, 0, 0, 0]])
    mixture = gs.GaussianMixture.isotropic(means, [1e-8, 1.0, 0.7])
    forced = gs.class_entropy(mixture, 20.0, method="exact")
    assert float(forced.stderr) > 0.1
    assert gs.entropy_curve(mixture, [20.0, 19.0], num_samples=1024).method == "quasi-monte-carlo"


def test_errors_of_a_resolved_rule_vanish():
    """Three classes with one covariance: the tensor rule's own estimate is below 1e-10 at every noise."""
    mixture = gs.families.equidistant(3, 5, 3.0)
    centred = gs.GaussianMixture.isotropic(mixture.means, 1.0, [0.5, 0.499, 0.001])
    curve = gs.entropy_curve(centred, np.linspace(20.0, -20.0, 81))
    assert curve.method == "exact"
    assert not np.any(np.asarray(curve.entropy.stderr))


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


def test_a_rule_that_does_not_show_its_error_is_refined():
    """Four corners of a rectangle in unit noise: the sum of two binary channels, summed in numpy."""
    mixture, _ = gs.families.hierarchy((2, 2), (3000.0, 3.0), 10**4)
    grid = np.linspace(10.0, -25.0, 71)
    curve = gs.entropy_curve(mixture, grid)
    assert curve.method == "exact"
    assert not np.any(np.asarray(curve.rate.stderr))
    z = np.linspace(-13, 13, 40_001)
    bell = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    entropy, rate = np.zeros(71), np.zeros(71)
    for distance in (3000.0, 3.0):
        # Variance 1 at every noise of the variance-preserving scale: kappa = alpha^2 distance^2 / 4.
        kappa = distance**2 / 4 / (1 + np.exp(-grid))
        odds = 2 * kappa[:, None] + 2 * np.sqrt(kappa)[:, None] * z
        entropy += np.logaddexp(0, -odds) @ bell
        wrong = np.exp(-np.logaddexp(0, odds)) @ bell  # -dH/dkappa
        rate += wrong * kappa / (1 + np.exp(grid))
    np.testing.assert_allclose(curve.entropy.value, entropy, atol=1e-10)
    np.testing.assert_allclose(curve.rate.value, rate, atol=1e-9)
