"""Collapse of the empirical mixture against the Gaussian law, and on real images."""

import numpy as np
import pytest

import gmm_speciation as gs
from gmm_speciation import speciation


@pytest.mark.parametrize(("num", "dim", "variance"), [(100, 8, 1.0), (1500, 64, 0.3), (10, 2, 4.0)])
def test_collapse_time_of_gaussian_data_on_ou(num, dim, variance):
    """t_C = (1/2) log(1 + s^2 / (n^{2/d} - 1)), and f = 0 there (Biroli et al. 2024)."""
    level = speciation.gaussian_collapse(num, dim, variance)
    time = float(gs.OrnsteinUhlenbeck().time(level))
    np.testing.assert_allclose(time, np.log1p(variance / (num ** (2 / dim) - 1)) / 2, rtol=1e-12)
    np.testing.assert_allclose(speciation.excess_entropy(level, num, dim, variance), 0, atol=1e-12)
    # Their form of f, with Delta = 1 - e^{-2t}, at other times.
    t = np.array([0.1, 0.5, 2.0])
    delta = -np.expm1(-2 * t)
    published = np.log(num) / dim + np.log(delta / (delta + variance * np.exp(-2 * t))) / 2
    levels = gs.OrnsteinUhlenbeck().log_snr(t)
    np.testing.assert_allclose(
        speciation.excess_entropy(levels, num, dim, variance), published, atol=1e-12
    )


def test_collapse_needs_no_array_of_the_dimension():
    """It depends on log(n) / d alone: e^lambda -> (2/d) log n for few points, n^{2/d} for many."""
    np.testing.assert_allclose(
        speciation.gaussian_collapse(10**9, 10**12), np.log(2e-12 * np.log(1e9)), rtol=1e-9
    )
    np.testing.assert_allclose(speciation.gaussian_collapse(10**300, 1), 600 * np.log(10))


@pytest.mark.parametrize(("num", "dim"), [(200, 8), (500, 16), (1500, 64)])
def test_excess_entropy_of_gaussian_points_is_the_channel_law_before_collapse(num, dim, rng):
    """H(I|X) / d = f within 0.5 % of (log n)/d where 3/4 of the entropy is left, and the half-entropy
    point is within 1/d + 0.05 of log(n^{1/d} - 1): the edge smooths over a few nats of log n."""
    points = rng.normal(size=(num, dim))
    noisy = np.log(np.expm1(np.log(num) / (2 * dim)))  # a quarter of log n gained
    levels = noisy - np.arange(5.0)
    entropy = speciation.index_entropy(points, levels, num_samples=2048)
    expected = dim * speciation.excess_entropy(levels, num, dim)
    # Of the set drawn too: its mean square differs from 1 by sqrt(2 / (n d)).
    slack = 0.005 * np.log(num)
    assert np.all(np.abs(entropy.value - expected) < 4 * entropy.stderr + slack)
    half = speciation.collapse_point(points).log_snr
    np.testing.assert_allclose(half.value, np.log(np.expm1(np.log(num) / dim)), atol=1 / dim + 0.05)
    # The end of the collapse lies beyond the sharp edge of infinite dimension, on the clean side.
    edge = speciation.collapse_point(points, remaining=0.01).log_snr
    assert edge.value > speciation.gaussian_collapse(num, dim) > half.value


def test_collapse_is_the_speciation_of_the_empirical_mixture(rng):
    """The same half-entropy point as from the entropy curve with a class on every point."""
    points = rng.normal(size=(12, 3))
    times = gs.speciation_times(gs.families.empirical(points), num_samples=4096)
    half, curve = speciation.collapse_point(points, num_samples=8192).log_snr, times.half_entropy
    error = np.hypot(half.stderr, curve.log_snr.stderr)
    assert abs(half.value - curve.log_snr.value) < 4 * error


def test_two_points_collapse_like_two_classes():
    """+-m without variance: H = (1/2) log 2 at kappa = 1.0440133."""
    point = speciation.collapse_point([[-2.0, 0.0], [2.0, 0.0]], num_samples=20_000).log_snr
    assert abs(4 * np.exp(point.value) / 1.0440133 - 1) < 4 * point.stderr


def test_handwritten_digits_collapse():
    """1500 images of 64 pixels: seen as a class each, they collapse at less noise than the clean
    isotropic law says, for their variance lies in few directions."""
    from sklearn.datasets import load_digits

    points = load_digits().data[:1500] / 16
    point = speciation.collapse_point(points, num_samples=512).log_snr
    entropy = speciation.index_entropy(points, point.value, num_samples=512)
    np.testing.assert_allclose(entropy.value, np.log(1500) / 2, rtol=1e-6)
    assert 0 < point.stderr < 0.05
    half_isotropic = np.log(np.expm1(np.log(1500) / 64) / points.var(0).mean())
    assert point.value > half_isotropic


def test_sets_that_cannot_collapse_say_why():
    reason = lambda points: speciation.collapse_point(points).reason  # noqa: E731
    assert "single training point" in reason([[1.0, 2.0]])
    assert "are the same" in reason([[1.0, 2.0], [1.0, 2.0]])
    copies = np.repeat([[0.0], [1.0]], [9, 1], axis=0)
    assert "copies of each other" in reason(copies)
    halves = [[0.0], [0.0], [1.0], [1.0]]  # log 2 is half of log 4, from above and never below
    assert "copies of each other" in reason(halves)
    with pytest.raises(ValueError, match="`remaining` must lie inside"):
        speciation.collapse_point([[0.0], [1.0]], remaining=1.0)
    with pytest.raises(ValueError, match="at least 2 points"):
        speciation.gaussian_collapse(1, 3)
    with pytest.raises(ValueError, match="at least 2; got 1"):
        speciation.index_entropy([[0.0], [1.0]], 0.0, num_samples=1)
