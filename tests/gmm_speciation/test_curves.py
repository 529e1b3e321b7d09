"""Entropy curves: peaks, windows and clocks of curves whose answers are known."""

import dataclasses
import warnings

import jax
import numpy as np
import pytest
from scipy.special import entr, expit

import gmm_speciation as gs
from gmm_speciation.curves import Batches, EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.maxima import persistent_maxima


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


@pytest.mark.parametrize("offset", [0.0, 0.25, 0.5, 0.75])
def test_few_levels_of_a_sampled_curve_are_read_by_entropy_and_rate(offset):
    """Levels 1.5 units of the log-SNR apart; the entropies alone leave 0.04."""
    grid = np.arange(9.0, -10.0, -1.5) + 1.5 * offset
    entropy = 2 / (1 + np.exp(grid))
    rate, error = entropy * (1 - entropy / 2), np.full(len(grid), 1e-9)
    curve = EntropyCurve(
        grid, gs.Estimate(entropy, error), gs.Estimate(rate, error), 2.0, "sampled"
    )
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):
        truth = np.log(1 / share - 1)
        np.testing.assert_allclose(curve.crossing(2 * share).value, truth, atol=0.009)


def test_without_batches_the_error_of_a_place_is_not_known():
    """Errors of the levels alone do not say how their errors go together."""
    curve = logistic_curve(noise=0.1)
    entropy, rate = (
        gs.Estimate.from_samples(part) for part in (curve.batches.entropy, curve.batches.rate)
    )
    means = EntropyCurve(curve.log_snr, entropy, rate, curve.prior_entropy, curve.method)
    for read in (
        lambda one: one.peak().log_snr,
        lambda one: one.window().low,
        lambda one: one.crossing(1.0),
        lambda one: one.information_budget()[0],
        lambda one: one.on(gs.OrnsteinUhlenbeck()).peak().time,
    ):
        np.testing.assert_allclose(read(means).value, read(curve).value, rtol=1e-3, atol=1e-4)
        assert np.isnan(read(means).stderr)
        assert "± unknown" in repr(read(means))


def test_a_grid_that_misses_the_window_is_an_error():
    curve = gs.entropy_curve(gs.families.symmetric_pair(64), np.linspace(2, -4.5, 40))
    with pytest.raises(ValueError, match="widen the grid"):
        curve.window(0.99)
    with pytest.raises(ValueError, match=r"inside \(0, 1\)"):
        curve.window(1.0)


@pytest.mark.parametrize("part", ["entropy", "rate"])
@pytest.mark.parametrize("read", ["peak", "peaks", "window", "information_budget"])
def test_a_curve_with_a_gap_is_read_nowhere(part, read):
    curve = logistic_curve()
    values = np.array(getattr(curve, part).value)
    values[3] = np.nan
    gapped = dataclasses.replace(curve, **{part: gs.Estimate.exact(values)})
    with pytest.raises(
        ValueError, match=f"no value at log-SNR {gs.estimate.in_digits(curve.log_snr[3])}:"
    ):
        getattr(gapped, read)()
    assert len(gapped.plot()) == 2  # a picture with the gap, and without what would be read off


def test_a_process_that_does_not_reach_the_noise_is_an_error():
    with pytest.raises(ValueError, match="range of DDPM"):
        logistic_curve().on(gs.DDPM.scaled_linear())


def test_rates_of_another_length_are_refused():
    exact = gs.Estimate.exact
    with pytest.raises(ValueError, match="one value a noise level"):
        EntropyCurve(np.array([1.0, 0.0]), exact(np.zeros(2)), exact(np.zeros(3)), 1.0, "test")


@pytest.mark.parametrize("shapes", [((2, 3), (2, 3)), ((3, 2), (3, 1)), ((2,), (2,))])
def test_batches_of_another_shape_are_refused(shapes, unchecked):
    exact, batches = gs.Estimate.exact(np.zeros(2)), Batches(*map(np.zeros, shapes))
    with pytest.raises(ValueError, match=r"a row a batch .* \(R, 2\)"):
        EntropyCurve(np.array([1.0, 0.0]), exact, exact, 1.0, "test", batches)


@pytest.mark.parametrize("grid", [[0.0, 1.0], [1.0, 1.0], [np.nan, 0.0], [1.0]])
def test_bad_grids(grid):
    exact = gs.Estimate.exact(np.zeros(len(grid)))
    with pytest.raises(ValueError, match="log_snr"):
        EntropyCurve(np.asarray(grid), exact, exact, 1.0, "test")


def channel(distance: float, log_snr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """H and -dH/dlambda of two unit-variance classes `distance` apart, by sums in numpy."""
    z = np.linspace(-12, 12, 3001)
    bell = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    noise = np.exp(-log_snr)
    kappa = (distance**2 / 4 / (noise + 1))[:, None]
    odds = 2 * kappa + 2 * np.sqrt(kappa) * z
    slope = distance**2 / 4 * noise / (noise + 1) ** 2
    return np.logaddexp(0, -odds) @ bell, slope * (np.exp(-np.logaddexp(0, odds)) @ bell)


def test_a_tree_decides_in_two_steps():
    """A binary tree of one variance is two channels: the sum of their curves, computed here."""
    mixture, _ = gs.families.hierarchy((2, 2), (3000.0, 3.0), 10**4)
    curve = gs.entropy_curve(mixture, gs.transition_grid(mixture))
    fine = np.linspace(5, -21, 2601)
    rates = channel(3000.0, fine)[1] + channel(3.0, fine)[1]
    tops = np.flatnonzero((rates[1:-1] > rates[:-2]) & (rates[1:-1] > rates[2:])) + 1
    first, second = curve.peaks()
    assert curve.method == "exact"
    for peak, coarse, place in zip(
        (first, second), fine[tops][::-1], (-14.21543, -0.75729), strict=True
    ):
        near = coarse + np.linspace(-0.02, 0.02, 401)
        rate = channel(3000.0, near)[1] + channel(3.0, near)[1]
        best = int(np.argmax(rate))
        np.testing.assert_allclose(near[best], place, atol=1e-4)
        np.testing.assert_allclose(peak.log_snr.value, near[best], atol=1e-4)
        np.testing.assert_allclose(peak.rate.value, rate[best], atol=1e-6)
    gained = np.log(4) - float(curve.entropy.value[0])
    floor = channel(3.0, np.array([curve.log_snr[0]]))[0][0]
    np.testing.assert_allclose(second.share.value, (np.log(2) - floor) / gained, atol=1e-4)
    np.testing.assert_allclose(first.share.value, np.log(2) / gained, atol=1e-3)
    np.testing.assert_allclose(curve.peak().log_snr.value, first.log_snr.value, rtol=0)
    assert first.persistence.value == first.rate.value
    # Every clock has both, whichever is the greater there.
    for process in (gs.OrnsteinUhlenbeck(), gs.VarianceExploding()):
        clocked = curve.on(process)
        assert len(clocked.peaks()) == 2
        top = max(clocked.peaks(), key=lambda peak: peak.rate.value)
        np.testing.assert_allclose(clocked.peak().time.value, top.time.value, rtol=0)


@pytest.mark.parametrize("smooth", [1, 7])
def test_noise_makes_no_peaks(smooth):
    """One maximum in the truth: of 60 noisy curves at most two show another, and all show the one."""
    rng = np.random.default_rng(smooth)
    truth = logistic_curve()
    window = np.hanning(smooth + 2)[1:-1]
    false = 0
    for _ in range(60):
        noise = rng.normal(size=(16, 241 + smooth - 1))
        noise = np.array(
            [np.convolve(row, window / np.linalg.norm(window), "valid") for row in noise]
        )
        batches = Batches(
            np.asarray(truth.entropy.value) + 0 * noise, truth.rate.value + 0.1 * noise
        )
        rate = gs.Estimate.from_samples(batches.rate)
        curve = EntropyCurve(truth.log_snr, truth.entropy, rate, 2.0, "test", batches)
        found = curve.peaks()
        false += len(found) > 1
        assert any(abs(float(peak.log_snr.value) - 0.3) < 1.5 for peak in found)
    assert false <= 2


@pytest.mark.parametrize("grid", [np.linspace(10, 1, 20), np.linspace(-4, -9, 20)])
def test_a_rate_that_still_grows_at_an_end_is_said(grid):
    """The decision, at lambda = -0.7, is beyond the levels."""
    curve = gs.entropy_curve(gs.families.equidistant(3, 2, 3.0), grid)
    for read in (curve, curve.on(gs.OrnsteinUhlenbeck())):
        with pytest.warns(UserWarning, match="largest at an end .* widen the grid"):
            read.peak()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gs.entropy_curve(gs.families.equidistant(3, 2, 3.0), np.linspace(4, -8, 20)).peak()
        for read in (curve, curve.on(gs.OrnsteinUhlenbeck())):
            read.peak(at_end=True)  # where the caller looks for it


def test_a_flat_curve_has_no_peaks_but_a_largest_rate():
    exact, grid = gs.Estimate.exact, np.linspace(3, -3, 20)
    noisy = gs.Estimate(np.random.default_rng(0).uniform(0, 1e-3, 20), np.full(20, 1e-2), 15.0)
    curve = EntropyCurve(grid, exact(np.full(20, 0.5)), noisy, 0.5, "test")
    assert curve.peaks() == ()
    np.testing.assert_allclose(curve.peak().log_snr.value, grid[np.argmax(noisy.value)], atol=0.35)


def test_a_clock_that_stands_still_has_a_rate():
    """Far beyond the decision dH/dlambda is 0 in float64, and dlambda/dt of the clock infinite."""
    curve = gs.entropy_curve(gs.families.symmetric_pair(4, 1.0), np.array([740.0, 710.0, 4.0, 0.0]))
    rate = curve.on(gs.OrnsteinUhlenbeck()).rate
    assert np.all(np.isfinite(rate.value))
    assert np.all(np.isfinite(rate.stderr))
    np.testing.assert_array_equal(rate.value[:2], 0.0)
    assert rate.value[2] > 0


def test_a_window_of_a_grid_that_ends_too_early_is_said():
    """At either end; a rest that no noise level decides is none."""
    pair = gs.families.symmetric_pair(16)
    whole = gs.entropy_curve(pair, np.linspace(8, -12, 80))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole.window()
        overlapping = gs.GaussianMixture.isotropic([[-0.5], [0.5]], 1.0)
        gs.entropy_curve(overlapping, np.linspace(12, -8, 60)).window()
    with pytest.warns(UserWarning, match="beyond −2.5 still"):
        gs.entropy_curve(pair, np.linspace(-2.5, -12, 60)).window()
    with pytest.raises(ValueError, match="widen the grid"):
        gs.entropy_curve(pair, np.linspace(8, -4.5, 60)).window()


@pytest.mark.parametrize("dim", [1, 16])
def test_a_curve_crosses_the_entropies_that_it_has_where_it_has_them(dim):
    """A spline through values less a value of them is 0 there, but for rounding."""
    pair = gs.families.symmetric_pair(dim)
    exact = gs.entropy_curve(pair, gs.transition_grid(pair))
    flat = np.linspace(0, 1, 11)
    line = EntropyCurve(
        np.linspace(10, -10, 11),
        Estimate.exact(np.log(2) * flat),
        Estimate.exact(np.full(11, np.log(2) / 20)),
        float(np.log(2)),
        "own",
    )
    for curve in (exact, line):
        for place, entropy in zip(curve.log_snr, curve.entropy.value, strict=True):
            assert float(curve.crossing(float(entropy)).value) == pytest.approx(place, abs=1e-6)
    for mass in (0.2, 0.4, 0.6, 0.8):
        low, high = line.window(mass).low, line.window(mass).high
        assert float(high.value - low.value) == pytest.approx(20 * mass)
    with pytest.raises(ValueError, match="`entropy` must be a number; got nan"):
        exact.crossing(np.nan)


@pytest.mark.parametrize("entropy", [np.nan, np.inf, -1.0])
def test_the_entropy_of_the_prior_is_an_entropy(entropy):
    good = logistic_curve()
    with pytest.raises(ValueError, match="`prior_entropy` must be an entropy in nats"):
        EntropyCurve(good.log_snr, good.entropy, good.rate, entropy, "own")


def test_half_of_the_entropy_lost_before_the_grid_is_a_reason():
    found = gs.speciation.half_entropy_point(logistic_curve().part(slice(0, 100)))
    assert found.log_snr is None
    assert "a half was lost at more noise" in found.reason


@pytest.mark.parametrize("far", [(22, 26), (10, 38)])
def test_of_two_equal_maxima_one_persists_over_the_saddle_between_them(far):
    """A dip of half a standard error between two equal values parts nothing, a deep one does."""
    level = np.arange(49.0)
    heights = np.exp(-(((level - 24) / 8) ** 2))
    heights[[far[0], far[1]]] = 1.0
    heights[far[0] + 1 : far[1]] = 0.99 if far[0] == 22 else 0.4

    def least(index, saddle):
        return 0.05

    found = persistent_maxima(heights, least)
    assert len(found) == (1 if far[0] == 22 else 2)
    assert found[0].place == far[0]
    assert found[0].saddle is None
    if len(found) == 2:  # the second is told from the first by what lies between
        assert heights[found[1].saddle] == 0.4
    assert [one.place for one in persistent_maxima(np.repeat([0.0, 1.0, 0.0], 3), least)] == [4]


def _tracked_pair(seed, log_snr, number=96, variance=0.1):
    """Images of two classes ±1 on Brownian paths of noise: their entropies and rates in 16 batches."""
    rng = np.random.default_rng(seed)
    labels, squares = rng.choice([-1.0, 1.0], number), np.exp(-log_snr)
    steps = np.sqrt(np.diff(squares, prepend=0.0)) * rng.normal(size=(number, len(log_snr)))
    x = (labels + np.sqrt(variance) * rng.normal(size=number))[:, None] + steps.cumsum(1)
    snr = 1 / (variance + squares)
    p = expit(2 * x * snr)
    rate = 2 * p * (1 - p) * snr**2 * squares  # dH/ds = -mmse / 2 of x = y + n / sqrt(s)
    batches = Batches(*(part.reshape(16, -1, len(log_snr)).mean(1) for part in (binary(p), rate)))
    estimates = (gs.Estimate.from_samples(part) for part in (batches.entropy, batches.rate))
    return EntropyCurve(log_snr, *estimates, np.log(2), "tracking", batches)


def binary(p):
    return entr(p) + entr(1 - p)


def test_places_of_a_noisy_curve_have_their_intervals():
    """By the delete-one jackknife those of the peak held 7 of 10 truths, on tracked curves of any length."""
    log_snr, variance = np.linspace(6.0, -6.0, 64), 0.1
    fine = np.linspace(6.0, -6.0, 2401)
    z = np.linspace(-9, 9, 1201)
    density = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    snr = 1 / (variance + np.exp(-fine))[:, None]
    p = expit(2 * (snr + np.sqrt(snr) * z))
    entropy = binary(p) @ density
    rate = (2 * p * (1 - p)) @ density * snr[:, 0] ** 2 * np.exp(-fine)
    left = (np.log(2) - entropy) / (np.log(2) - entropy[0])  # share of the information
    truth = [fine[rate.argmax()], *np.interp([0.1, 0.9], left[::-1], fine[::-1])]
    truth.append(np.interp(np.log(2) / 2, entropy, fine))
    hits = np.zeros(4)
    for seed in range(100):
        curve = _tracked_pair(seed, log_snr)
        window = curve.window()
        places = curve.peak().log_snr, window.low, window.high, curve.crossing(np.log(2) / 2)
        ends = np.array([place.interval() for place in places])
        hits += (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    assert hits.min() >= 88, hits
    share = curve.peak().share  # of the only one: all, but for what lies beyond the noisy end
    assert 0.99 < share.value < 1
    assert share.stderr < 0.002


def test_batches_around_another_mean_have_the_errors_of_their_spread():
    """As pseudo-values have, whose mean is not the statistic of all."""
    curve = _tracked_pair(0, np.linspace(6.0, -6.0, 64))
    moved = Batches(curve.batches.entropy + 0.1, curve.batches.rate + 0.05)
    other = dataclasses.replace(curve, batches=moved)
    for read in (
        lambda one: one.crossing(np.log(2) / 2),
        lambda one: one.peak().log_snr,
        lambda one: one.window().low,
    ):
        assert read(other).value == read(curve).value
        np.testing.assert_allclose(read(other).stderr, read(curve).stderr, rtol=1e-6)


@pytest.mark.parametrize("shift", [0.0, 0.12, 0.25, 0.38])
def test_places_between_the_levels_of_a_smooth_curve_have_their_intervals(shift):
    """Where draws are many, what is left is how the curve is read between its levels."""
    mixture = gs.families.symmetric_pair(8, 1.0, 0.5)
    fine = gs.entropy_curve(mixture, np.linspace(8.0, -10.0, 400))
    sampled = gs.entropy_curve(
        mixture,
        np.arange(8.0, -10.0, -0.5) + shift,
        method="quasi-monte-carlo",
        num_samples=2**15,
        key=jax.random.key(0),
    )
    half = np.log(2) / 2
    for read in (
        lambda curve: curve.peak().log_snr,
        lambda curve: curve.peak().rate,
        lambda curve: curve.window().low,
        lambda curve: curve.window().high,
        lambda curve: curve.crossing(half),
    ):
        low, high = read(sampled).interval()
        assert low <= float(read(fine).value) <= high
