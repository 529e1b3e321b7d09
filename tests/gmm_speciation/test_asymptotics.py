"""Laws of large dimension and of many classes: approached at the stated order, seen in measured points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

import gmm_speciation as gs
from gmm_speciation import asymptotics, exact, plotting
from gmm_speciation.estimate import Estimate

CLOCK = gs.OrnsteinUhlenbeck()
# Law, family, and the order in 1/d of corrections on the clock t and on the log-SNR.
LAWS = {
    "means": (
        asymptotics.SeparatedMeans(),
        lambda dim: gs.families.symmetric_pair(dim, variance=3.0, reduced=True),
        (1.0, 1.0),
    ),
    "variances around 1": (
        asymptotics.EqualMeans((0.5, 1.5)),
        lambda dim: gs.families.equal_means(dim, [0.5, 1.5], reduced=True),
        (1.0, 0.5),
    ),
    "variances": (
        asymptotics.EqualMeans((1.0, 2.0)),
        lambda dim: gs.families.equal_means(dim, [1.0, 2.0], reduced=True),
        (0.5, 0.5),
    ),
}


@pytest.mark.parametrize(("law", "family", "orders"), LAWS.values(), ids=LAWS)
def test_a_curve_of_finite_dimension_tends_to_the_law_at_the_stated_order(law, family, orders):
    offset = np.linspace(-0.5, 0.5, 9)
    limit = law.curve(offset)
    ratio = 2**8
    errors = []
    for dim in (2**20, ratio * 2**20):
        times = float(law.speciation_time(dim)) + offset
        curve = gs.entropy_curve(family(dim), CLOCK.log_snr(times)).on(CLOCK)
        agreement = gs.clone_agreement(family(dim), CLOCK.log_snr(times))
        errors.append(
            [
                np.abs(curve.entropy.value - limit.entropy).max(),
                np.abs(curve.rate.value - limit.rate).max(),
                np.abs(curve.curve.rate.value - limit.log_snr_rate).max(),
                np.abs(agreement.value - limit.agreement).max(),
            ]
        )
    errors = np.array(errors)
    order = np.array([orders[0], orders[0], orders[1], orders[0]])
    assert (errors[0] < 10 / 2 ** (20 * order)).all()
    np.testing.assert_allclose(errors[0] / errors[1], ratio**order, rtol=0.05)


@pytest.mark.parametrize("law", [asymptotics.SeparatedMeans(2.0), asymptotics.EqualMeans()])
def test_the_rate_of_the_law_is_the_derivative_of_its_entropy(law):
    offset = jnp.linspace(-1.0, 1.5, 11)
    curve = law.curve(offset)
    _, slope = jax.jvp(lambda tau: law.curve(tau).entropy, (offset,), (jnp.ones_like(offset),))
    np.testing.assert_allclose(curve.rate, slope, rtol=1e-9)
    np.testing.assert_allclose(curve.log_snr_offset, -2 * offset)
    np.testing.assert_allclose(curve.log_snr_rate, slope / 2, rtol=1e-9)


def test_widths_of_the_law():
    law = asymptotics.SeparatedMeans()
    half = law.half_maximum()
    curve = law.curve([half.early, law.peak(), half.late])
    np.testing.assert_allclose(curve.rate / curve.rate[1], [0.5, 1.0, 0.5], rtol=1e-9)
    assert half.width == pytest.approx(1.31, abs=5e-3)
    assert law.peak() == pytest.approx(-0.2055017, abs=1e-6)
    for mass in (0.5, 0.8, 0.99999):
        window = law.window(mass)
        left = law.curve([window.early, window.late]).entropy / np.log(2)
        np.testing.assert_allclose(left, [(1 - mass) / 2, (1 + mass) / 2], rtol=1e-9)
        assert window.log_snr_width == pytest.approx(2 * window.width)
    # Twice the exponent, half the width.
    other = asymptotics.EqualMeans().half_maximum()
    assert other.width == pytest.approx(half.width / 2)
    assert other.log_snr == (-2 * other.late, -2 * other.early)


def test_a_measured_width_is_that_of_the_law():
    law = gs.families.symmetric_pair(10**8, reduced=True)
    times = np.log(10**8) / 2 + np.linspace(-1.5, 2.0, 71)
    curve = gs.entropy_curve(law, CLOCK.log_snr(times)).on(CLOCK)
    width = asymptotics.full_width(curve.times, np.asarray(curve.rate.value))
    assert width == pytest.approx(asymptotics.SeparatedMeans().half_maximum().width, abs=1e-5)
    with pytest.raises(ValueError, match="widen the grid"):
        asymptotics.full_width(curve.times[30:], np.asarray(curve.rate.value)[30:])


@pytest.mark.parametrize(
    ("family", "slope", "intercept"),
    [
        (lambda dim: gs.families.symmetric_pair(dim, 0.5, reduced=True), 0.5, np.log(0.5)),
        (
            lambda dim: gs.families.equal_means(dim, [0.5, 1.5], reduced=True),
            0.25,
            np.log(1 / 8) / 4,
        ),
    ],
    ids=["means", "variances"],
)
@pytest.mark.slow
def test_measured_speciation_times_grow_with_the_slope_of_the_law(family, slope, intercept):
    fits = asymptotics.speciation_scaling(family, [10**4, 10**7, 10**11])
    for name in ("entropic peak", "half entropy", "cloning"):
        low, high = fits[name].slope.interval()
        assert low - 1e-9 <= slope <= high + 1e-9, name
        assert abs(float(fits[name].slope.value) - slope) < 2e-3
    # phi = 0.775 at kappa = 1, up to the third digit.
    assert float(fits["cloning"].intercept.value) == pytest.approx(intercept, abs=2e-3)
    if slope == 0.25:  # the covariance of the data does not see the classes
        assert abs(float(fits["spectral"].slope.value)) < 1e-12


def test_a_weighted_fit_has_the_errors_of_its_points(rng):
    dims = 2.0 ** np.arange(4, 12)
    errors = np.linspace(0.01, 0.05, len(dims))
    scores = []
    for _ in range(300):
        times = np.log(dims) / 2 - 0.2 + errors * rng.standard_normal(len(dims))
        fit = asymptotics.fit_scaling(dims, Estimate(times, errors))
        low, high = fit.slope.interval()
        scores.append(low <= 0.5 <= high)
    # Errors grow with the scatter and never shrink below the points' own: coverage of 95 % or more.
    assert np.mean(scores) > 0.93
    np.testing.assert_allclose(fit.residuals, times - fit(dims))


def test_points_that_make_no_line_are_refused():
    dims = [10.0, 100.0, 1000.0]
    with pytest.raises(ValueError, match="at least three points"):
        asymptotics.fit_scaling(dims[:2], [1.0, 2.0])
    with pytest.raises(ValueError, match="finite"):
        asymptotics.fit_scaling(dims, [1.0, np.nan, 2.0])
    some = Estimate(np.arange(3.0), np.array([0.0, 0.1, 0.1]))
    with pytest.raises(ValueError, match="Either all"):
        asymptotics.fit_scaling(dims, some)
    with pytest.raises(ValueError, match="inside \\(0, 1\\)"):
        asymptotics.SeparatedMeans().window(1.0)
    with pytest.raises(ValueError, match="positive"):
        asymptotics.SeparatedMeans(0.0)
    with pytest.raises(ValueError, match="different"):
        asymptotics.EqualMeans((1.0, 1.0))


@pytest.fixture(scope="module")
def criteria():
    return asymptotics.criteria_by_classes([2, 100, 10**6])


def test_criteria_of_two_classes_are_those_of_the_pair(criteria):
    # s = 2 kappa for two classes.
    law = asymptotics.SeparatedMeans()
    assert criteria.entropic_peak[0] / 2 == pytest.approx(np.exp(-2 * law.peak()), rel=1e-7)
    assert float(exact.binary_entropy(criteria.half_entropy[0] / 2)) == pytest.approx(np.log(2) / 2)
    agreement = float(exact.clone_agreement(criteria.cloning[0] / 2))
    assert agreement == pytest.approx(0.775, abs=1e-9)


def test_points_of_many_classes_satisfy_their_definitions(criteria):
    for index in (1, 2):
        count = int(criteria.num_classes[index])
        half = float(exact.equidistant_entropy(count, criteria.half_entropy[index]))
        assert half == pytest.approx(np.log(count) / 2, rel=1e-10)
        # One call: each number of classes is compiled.
        peak = criteria.entropic_peak[index]
        s = np.array([criteria.cloning[index], 0.999 * peak, peak, 1.001 * peak])
        phi = np.asarray(exact.equidistant_agreement(count, s))
        assert (phi[0] - 1 / count) / (1 - 1 / count) == pytest.approx(0.55, abs=1e-8)
        rate = s * (1 - phi)
        assert rate[2] > rate[1]
        assert rate[2] > rate[3]


def test_criteria_part_as_classes_grow(criteria):
    np.testing.assert_allclose(criteria.spectral, criteria.num_classes, rtol=1e-12)
    np.testing.assert_allclose(criteria.curvature, criteria.num_classes, rtol=1e-12)
    share = {name: getattr(criteria, name) / limit for name, limit in criteria.limits.items()}
    np.testing.assert_allclose(share["half_entropy"][1:], [1.117, 1.008], atol=5e-4)
    np.testing.assert_allclose(share["entropic_peak"][1:], [0.79, 0.72], atol=5e-3)
    assert abs(share["cloning"][2] - 1) < abs(share["cloning"][1] - 1) < 0.05


def test_information_tends_to_the_random_energy_law():
    u = np.array([0.0, 0.5, 1.0, 1.5, 2.5, 3.0])
    limit = asymptotics.many_class_limit(u)
    distances = []
    for count in (1e6, 1e24):
        log_k = np.log(count)
        entropy = np.asarray(exact.equidistant_entropy(count, u * log_k))
        distances.append(np.abs(entropy / log_k - limit.entropy).max())
    assert distances[1] < distances[0] / 4 < 0.02
    np.testing.assert_allclose(1 - limit.entropy, np.minimum(1, u / 2))
    with pytest.raises(ValueError, match="not negative"):
        asymptotics.many_class_limit([-1.0])
    with pytest.raises(ValueError, match="whole numbers"):
        asymptotics.criteria_by_classes([2.5])


def test_pictures_show_the_numbers(criteria):
    (axes,) = plotting.plot_class_criteria(criteria).axes
    drawn = {line.get_label(): line.get_xydata() for line in axes.lines}
    np.testing.assert_allclose(drawn["half entropy"][:, 1], criteria.half_entropy)
    np.testing.assert_allclose(drawn["s = 2 log K"][-1], [1e6, 2 * np.log(1e6)])
    fit = asymptotics.fit_scaling([1e2, 1e4, 1e6], np.log([1e2, 1e4, 1e6]) / 2)
    figure = plotting.plot_scaling({"pair": fit})
    assert "slope 0.5000" in figure.legends[0].get_texts()[0].get_text()
    with pytest.raises(ValueError, match="at least one fit"):
        plotting.plot_scaling({})
    law = asymptotics.SeparatedMeans()
    times = 3.0 + np.linspace(-1, 1, 5)
    curve = gs.entropy_curve(
        gs.families.symmetric_pair(400, reduced=True), CLOCK.log_snr(times)
    ).on(CLOCK)
    upper, _ = plotting.plot_limit(law.curve(np.linspace(-1, 1, 5)), {"d": (curve, 3.0)}).axes
    np.testing.assert_allclose(upper.lines[0].get_xdata(), curve.times - 3.0)


def test_the_window_closes_on_the_clock_of_vp_and_not_on_that_of_ve():
    """Against entropies summed in numpy, read on clocks written out here."""
    z = np.linspace(-13, 13, 40_001)
    bell = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])

    def left(log_kappa):
        kappa = np.exp(log_kappa)
        return bell @ np.logaddexp(0, -2 * kappa - 2 * np.sqrt(kappa) * z) / np.log(2)

    clean, noisy = (np.exp(brentq(lambda x, h=h: left(x) - h, -6, 4)) for h in (0.1, 0.9))
    for variance in (0.0, 1.0, 3.0):
        dims = np.array([64.0, 1e4, 1e12])
        windows = asymptotics.clock_windows(dims, separation=2.0, variance=variance)
        for row, dim in enumerate(dims):
            # kappa = e^{-2t} 4d / (1 - e^{-2t} + e^{-2t} s^2) and 4d / (sigma^2 + s^2)
            signal = 4 * dim
            decay = np.array([k / (signal + k * (1 - variance)) for k in (clean, noisy, 1.0)])
            times = -np.log(decay) / 2
            sigmas = np.sqrt(signal / np.array([clean, noisy, 1.0]) - variance)
            np.testing.assert_allclose(windows.vp[row], times[:2] / times[2], rtol=1e-7)
            np.testing.assert_allclose(windows.ve[row], sigmas[:2] / sigmas[2], rtol=1e-7)
    far = asymptotics.clock_windows([1e6, 1e12])
    assert far.vp_width[0] == pytest.approx(2 * far.vp_width[1], rel=1e-6)
    np.testing.assert_allclose(far.ve_width, far.ve_law, rtol=1e-5)
    assert far.ve_law == pytest.approx(noisy**-0.5 - clean**-0.5, rel=1e-7)
    with pytest.raises(ValueError, match="the classes overlap"):
        asymptotics.clock_windows([2], variance=1.0)
