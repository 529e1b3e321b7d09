"""Entropy curves: peaks, windows and clocks of curves whose answers are known."""

import numpy as np
import pytest

import gmm_speciation as gs
from gmm_speciation.curves import Batches, EntropyCurve


def logistic_curve(noise: float = 0.0, shift: float = 0.3, seed: int = 0) -> EntropyCurve:
    """H = 2 / (1 + e^(lambda - shift)): peak at the shift, quantiles in closed form."""
    grid = np.linspace(12, -12, 241)
    entropy = 2 / (1 + np.exp(grid - shift))
    rate = entropy * (1 - entropy / 2)
    batches = None
    if noise:
        moves = np.random.default_rng(seed).normal(scale=noise, size=16)
        stacked = 2 / (1 + np.exp(grid - shift - moves[:, None]))
        batches = Batches(stacked, stacked * (1 - stacked / 2))
        entropy, rate = stacked.mean(0), batches.rate.mean(0)
    exact = gs.Estimate.exact
    return EntropyCurve(grid, exact(entropy), exact(rate), 2.0, "test", batches)


def test_peak_and_window_of_a_known_curve():
    curve = logistic_curve()
    np.testing.assert_allclose(curve.peak().log_snr.value, 0.3, atol=1e-6)
    np.testing.assert_allclose(curve.peak().rate.value, 0.5, atol=1e-8)
    window = curve.window(0.8)
    ends = (window.low.value - 0.3, window.high.value - 0.3)
    np.testing.assert_allclose(ends, (-np.log(9), np.log(9)), atol=1e-4)
    np.testing.assert_allclose(window.sigma, np.exp(-(0.3 + np.log([9, 1 / 9])) / 2), rtol=1e-4)
    np.testing.assert_allclose(curve.crossing(0.5).value, 0.3 + np.log(3), atol=1e-5)


def test_budget_closes():
    integral, difference = logistic_curve().information_budget()
    np.testing.assert_allclose(integral.value, difference.value, rtol=1e-5)


def test_no_clock_moves_the_window():
    curve = logistic_curve()
    for process in (gs.OrnsteinUhlenbeck(), gs.VarianceExploding(), gs.LinearInterpolant()):
        early, late = curve.on(process).window(0.8)
        levels = np.asarray(process.log_snr(np.array([late, early])))
        window = curve.window(0.8)
        np.testing.assert_allclose(levels, [window.low.value, window.high.value], rtol=1e-6)


def test_jackknife_errors_are_the_spread_of_the_batches():
    """Batches shifted by known amounts: the peak's error is the standard error of the shifts."""
    curve = logistic_curve(noise=0.1)
    moves = np.random.default_rng(0).normal(scale=0.1, size=16)
    expected = moves.std(ddof=1) / 4
    for estimate in (curve.peak().log_snr, curve.crossing(1.0), curve.window().low):
        np.testing.assert_allclose(estimate.stderr, expected, rtol=0.05)
        assert estimate.dof == 15
    np.testing.assert_allclose(curve.crossing(1.0).value, 0.3 + moves.mean(), atol=0.005)


def test_a_grid_that_misses_the_window_is_an_error():
    curve = gs.entropy_curve(gs.families.symmetric_pair(64), np.linspace(2, -4.5, 40))
    with pytest.raises(ValueError, match="widen the grid"):
        curve.window(0.99)
    with pytest.raises(ValueError, match=r"inside \(0, 1\)"):
        curve.window(1.0)


def test_a_process_that_does_not_reach_the_noise_is_an_error():
    with pytest.raises(ValueError, match="range of DDPM"):
        logistic_curve().on(gs.DDPM.scaled_linear())


def test_rates_of_another_length_are_refused():
    exact = gs.Estimate.exact
    with pytest.raises(ValueError, match="one value a noise level"):
        EntropyCurve(np.array([1.0, 0.0]), exact(np.zeros(2)), exact(np.zeros(3)), 1.0, "test")


@pytest.mark.parametrize("grid", [[0.0, 1.0], [1.0, 1.0], [np.nan, 0.0], [1.0]])
def test_bad_grids(grid):
    exact = gs.Estimate.exact(np.zeros(len(grid)))
    with pytest.raises(ValueError, match="log_snr"):
        EntropyCurve(np.asarray(grid), exact, exact, 1.0, "test")
