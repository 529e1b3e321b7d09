"""Estimates: error bars that mean what they say."""

import numpy as np
import pytest
from scipy import stats

import gmm_speciation as gs
from gmm_speciation import bootstrap


def test_mean_and_standard_error(rng):
    samples = rng.normal(size=(50, 3))
    estimate = gs.Estimate.from_samples(samples)
    np.testing.assert_allclose(estimate.value, samples.mean(0))
    np.testing.assert_allclose(estimate.stderr, stats.sem(samples))
    assert estimate.dof == 49


def test_intervals_cover_at_their_level_with_few_samples(rng):
    """t-quantiles: with 4 samples the normal quantile would cover 85 %, not 95 %."""
    samples = rng.normal(size=(4, 20_000))
    low, high = gs.Estimate.from_samples(samples).interval(0.95)
    covered = int(((low <= 0) & (high >= 0)).sum())
    assert stats.binomtest(covered, 20_000, 0.95).pvalue > 1e-3


def test_jackknife_of_a_mean_is_its_standard_error(rng):
    batches = rng.normal(size=16)
    without = (batches.sum() - batches) / 15
    estimate = gs.Estimate.jackknife(batches.mean(), without)
    np.testing.assert_allclose(estimate.stderr, stats.sem(batches))


def test_exact_values_have_no_error():
    low, high = gs.Estimate.exact(np.array([1.0, -2.0])).interval()
    np.testing.assert_array_equal(low, high)


def test_bad_input():
    with pytest.raises(ValueError, match="at least 2 samples"):
        gs.Estimate.from_samples(np.ones((1, 3)))
    with pytest.raises(ValueError, match="one shape"):
        gs.Estimate(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match=r"inside \(0, 1\)"):
        gs.Estimate.exact(np.ones(1)).interval(1.5)
    with pytest.raises(ValueError, match="positive"):
        gs.Estimate(np.ones(1), np.ones(1), 0.0)


def test_the_difference_of_independent_estimates_adds_their_variances():
    one, other = (
        gs.Estimate(np.array([3.0]), np.array([0.3]), 10.0),
        gs.Estimate.exact(np.array([1.0])),
    )
    exact = one - other
    np.testing.assert_allclose([exact.value[0], exact.stderr[0], exact.dof], [2.0, 0.3, 10.0])
    both = one - gs.Estimate(np.array([1.0]), np.array([0.4]), 5.0)
    np.testing.assert_allclose([both.stderr[0], both.dof], [0.5, 5.0])
    number = one - 1.0
    np.testing.assert_allclose([number.value[0], number.stderr[0], number.dof], [2.0, 0.3, 10.0])


def test_an_estimate_prints_its_half_width():
    estimate = gs.Estimate(np.array(0.356316), np.array(0.0006), np.inf)
    assert f"{estimate}" == "0.3563 ± 0.0012"
    assert f"{estimate:.1e}" == "3.6e−01 ± 1.2e−03"
    assert f"{gs.Estimate.exact(np.array(-2.5))}" == "−2.5"
    assert f"{gs.Estimate(np.array(1234.5), np.array(50.0), np.inf)}" == "1234 ± 98"
    assert f"{gs.Estimate(np.array(2e-12), np.array(1e-14), np.inf)}" == "2.000e−12 ± 2.0e−14"
    np.testing.assert_allclose(float(estimate.half_width()), 1.959964 * 0.0006, rtol=1e-6)
    np.testing.assert_allclose(float(estimate.half_width(0.68269)), 0.0006, rtol=1e-4)
    with pytest.raises(ValueError, match="One estimate"):
        format(gs.Estimate.exact(np.ones(2)))
    with pytest.raises(ValueError, match="inside"):
        estimate.half_width(1.0)


def test_a_mapped_estimate_has_the_error_of_its_image():
    rng = np.random.default_rng(0)
    estimate = gs.Estimate(np.array([0.5, 2.0]), np.array([0.01, 0.02]), 30.0)
    image = estimate.map(np.exp)
    draws = np.exp(estimate.value + estimate.stderr * rng.standard_normal((200_000, 2)))
    np.testing.assert_allclose(image.stderr, draws.std(0), rtol=0.01)
    assert image.dof == 30.0
    line = estimate.map(lambda x: 3 - 2 * x)
    np.testing.assert_allclose(line.stderr, 2 * np.asarray(estimate.stderr))


def test_an_infinite_number_may_be_exact(recwarn):
    infinite = gs.Estimate.exact(np.array([np.inf, 1.0]))
    np.testing.assert_array_equal(infinite.stderr, [0.0, 0.0])
    assert not recwarn


@pytest.mark.parametrize("number", [2, 5, 16, 100])
def test_the_bootstrap_of_a_mean_is_its_standard_error(number, rng):
    batches = rng.normal(size=(number, 3))
    expected = gs.Estimate.from_samples(batches)
    for mean in (batches.mean(0), batches.mean(0) + 5):  # of pseudo-values, not their mean
        replicates = bootstrap.replicates(mean, batches)
        np.testing.assert_allclose(replicates.mean(0), mean)
        found = bootstrap.error(mean, replicates, number)
        np.testing.assert_allclose(found.stderr, expected.stderr, rtol=1e-12)
        assert found.dof == expected.dof
    with pytest.raises(ValueError, match="at least 2 batches"):
        bootstrap.replicates(batches[0], batches[:1])
