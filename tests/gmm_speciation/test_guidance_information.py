"""How guidance moves information: identities first, then the published table, then other ways."""

import re

import jax
import numpy as np
import pytest
from scipy import sparse
from scipy.integrate import quad, solve_ivp
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq
from scipy.stats import norm

from gmm_speciation import exact
from gmm_speciation.guidance import information, many
from gmm_speciation.guidance.information import (
    commitment_shift,
    guided_curve,
    interval_gain,
    scheduled_curve,
    strong_guidance_half,
)

KAPPA = np.array([0.05, 0.2, 1.0, 4.0, 10.0])


def test_unguided_is_the_binary_channel():
    curve = guided_curve(1.0, KAPPA)
    np.testing.assert_allclose(curve.cross_entropy.value, exact.binary_entropy(KAPPA), atol=3e-6)
    np.testing.assert_allclose(curve.probability.value, exact.clone_agreement(KAPPA), atol=3e-6)
    np.testing.assert_allclose(curve.rate.value, exact.binary_mmse(KAPPA) / 2, atol=3e-6)


def test_a_crossing_of_few_points_is_read_by_entropy_and_rate():
    """Eight points over three decades; the entropies alone leave 0.02."""

    def left(kappa):  # H(C) of a sign seen at log-odds 2 kappa + 2 sqrt(kappa) z
        def doubt(z):
            return norm.pdf(z) * np.logaddexp(0, -2 * kappa - 2 * np.sqrt(kappa) * z)

        return quad(doubt, -12, 12)[0] - np.log(2) / 2

    found = guided_curve(1.0, np.geomspace(1e-2, 20, 8)).crossing(np.log(2) / 2)
    np.testing.assert_allclose(found.value, brentq(left, 0.5, 2), atol=0.004)


def test_whole_law_at_scale_zero():
    """w = 0 draws the whole law: log-odds of either sign, means over both classes."""
    np.testing.assert_allclose(guided_curve(0.0, KAPPA).probability.value, 0.5, atol=3e-6)


def test_half_is_the_neutral_point():
    """w = 1/2 leaves the cross-entropy where it was, at every kappa."""
    curve = guided_curve(0.5, KAPPA)
    np.testing.assert_allclose(curve.cross_entropy.value, np.log(2), atol=1e-7)
    np.testing.assert_array_equal(curve.rate.value, 0.0)


@pytest.mark.parametrize("scale", [0.7, 1.5, 3.0])
def test_rate_is_the_slope_and_a_power_of_p_is_conserved(scale):
    kappa = np.linspace(0.5, 1.5, 81)
    curve = guided_curve(scale, kappa)
    slope = np.gradient(np.asarray(curve.cross_entropy.value), kappa, edge_order=2)
    np.testing.assert_allclose(-slope[5:-5], curve.rate.value[5:-5], atol=2e-4)
    # E_w p^{1 - 2w} by the same solver, on the density itself.
    cell, last = 0.02, 0.4
    odds = cell * np.arange(-900, 1500)
    density = np.zeros(len(odds))
    density[900] = 1.0
    generator = information._generator(odds, scale)
    for step in information._steps(0.0, last, scale, 0.0, 4):
        density = information._advance(generator, density, step)
    assert abs(density.sum() - 1) < 1e-10
    power = density @ np.exp((2 * scale - 1) * np.logaddexp(0, -odds))
    np.testing.assert_allclose(power, 2 ** (2 * scale - 1), rtol=2e-3)


TABLE = {  # w: CE at kappa = 0.2, 1, 4; p at 1; kappa at CE = log(2) / 2; shift on the OU clock
    1.0: (0.60206, 0.35632, 0.06043, 0.77520, 1.04401, 0.0),
    1.5: (0.52610, 0.20083, 0.01250, 0.84997, 0.52964, 0.3393),
    2.0: (0.46280, 0.12848, 0.00625, 0.89395, 0.35841, 0.5346),
    4.0: (0.29707, 0.04751, 0.00204, 0.95570, 0.15814, 0.9437),
    8.0: (0.16003, 0.02023, 0.00086, 0.98036, 0.07508, 1.3161),
    16.0: (0.07870, 0.00927, 0.00040, 0.99086, 0.03667, 1.6745),
}


@pytest.mark.parametrize("scale", TABLE)
def test_table(scale):
    row = TABLE[scale]
    curve = guided_curve(scale, np.array([0.2, 1.0, 4.0]))
    np.testing.assert_allclose(curve.cross_entropy.value, row[:3], atol=1.1e-5)
    np.testing.assert_allclose(curve.probability.value[1], row[3], atol=1.1e-5)
    half = guided_curve(scale, np.geomspace(0.01, 3, 300)).crossing(np.log(2) / 2)
    np.testing.assert_allclose(half.value, row[4], atol=2e-5)
    np.testing.assert_allclose(commitment_shift(scale), row[5], atol=1e-4)


def test_strong_guidance_loses_its_noise():
    """kappa_half -> 0.5739 / w: the shift tends to log(w) / 2 + 0.299, with an error that halves with w."""
    assert abs(strong_guidance_half() - 0.5739) < 5e-5
    errors = [commitment_shift(w) - np.log(w) / 2 - 0.2992 for w in (16.0, 64.0)]
    assert abs(errors[0]) < 0.012
    assert abs(errors[1]) < 0.3 * abs(errors[0])


@pytest.mark.parametrize("scale", [1.5, 8.0])
def test_solver_has_converged(scale, monkeypatch):
    coarse = guided_curve(scale, KAPPA)
    monkeypatch.setattr(information, "_CELL", information._CELL / 2)
    monkeypatch.setattr(information, "_STEP", information._STEP / 2)
    fine = guided_curve(scale, KAPPA)
    np.testing.assert_allclose(coarse.cross_entropy.value, fine.cross_entropy.value, atol=3e-6)


def test_intervals_and_schedules():
    inside = guided_curve(3.0, KAPPA, interval=(0.0, 100.0))
    np.testing.assert_allclose(
        inside.cross_entropy.value, guided_curve(3.0, KAPPA).cross_entropy.value, atol=1e-9
    )
    late = guided_curve(3.0, KAPPA, interval=(1.0, 2.0))
    np.testing.assert_allclose(
        late.cross_entropy.value[:3], exact.binary_entropy(KAPPA[:3]), atol=5e-6
    )
    assert late.cross_entropy.value[3] < float(exact.binary_entropy(4.0)) - 0.01
    # Twice the same scale is one piece.
    pieces = scheduled_curve([(0.7, 2.0), (np.inf, 2.0)], KAPPA)
    np.testing.assert_allclose(
        pieces.cross_entropy.value, guided_curve(2.0, KAPPA).cross_entropy.value, atol=3e-6
    )


def test_weak_guidance_pays_the_same_wherever_it_acts():
    """(w - 1) mmse(read-out) for each unit of kappa, in any window before the read-out."""
    weak = interval_gain(1.01, np.geomspace(0.05, 4.0, 6))
    np.testing.assert_allclose(weak.gain_per_kappa / 0.01, exact.binary_mmse(4.0), rtol=0.02)
    strong = interval_gain(8.0, np.geomspace(0.05, 4.0, 6))
    assert np.all(np.diff(strong.gain_per_kappa) < 0)  # strong guidance saturates: early pays more


def test_many_classes_with_two_are_the_closed_form():
    s = np.array([0.4, 1.0, 2.0, 4.0])
    curve = many.guided_classes(2, 2.5, s, key=jax.random.key(1), num_samples=8000)
    truth = guided_curve(2.5, s / 2)
    for name, factor in (("cross_entropy", 1), ("probability", 1), ("rate", 0.5)):
        got, want = getattr(curve, name), factor * getattr(truth, name).value
        assert np.all(np.abs(got.value - want) < 4 * got.stderr + 2e-4)


@pytest.mark.parametrize(
    ("scale", "s"), [(3.0, [1.0, 10.0]), (10.0, [1.0, 5.0]), (4.0, [0.2, 15.0])]
)
def test_many_classes_read_at_few_places_have_their_intervals(scale, s, optimised):
    """Steps do not go with the places read, and far out few paths carry a mean, often none that came."""
    truth, seeds = guided_curve(scale, np.array(s) / 2), 16
    hits = np.zeros((3, 2))
    for seed in range(seeds):
        curve = many.guided_classes(2, scale, s, key=jax.random.key(seed), num_samples=1024)
        for row, (name, factor) in zip(
            hits, (("cross_entropy", 1), ("probability", 1), ("rate", 0.5)), strict=True
        ):
            low, high = getattr(curve, name).interval()
            row += (low <= factor * getattr(truth, name).value) & (
                factor * getattr(truth, name).value <= high
            )
    assert hits.min() >= 11, hits  # none or one where they ended with what came
    with pytest.raises(ValueError, match=r"takes .* steps, more than 1e"):
        many.guided_classes(2, scale, [1.0, 1e6], key=jax.random.key(0))


def test_weak_guidance_and_open_intervals_have_their_answers():
    """Next to w = 1/2 the half-way point lies at (2w - 1) sqrt(kappa) = 0.416; it was out of the curve."""
    whole = guided_curve(1.0, np.linspace(0.1, 2.0, 100)).crossing(np.log(2) / 2)
    for scale in (0.52, 0.51):
        kappa = np.exp(-2 * commitment_shift(scale)) * float(whole.value)
        half = guided_curve(scale, [kappa]).cross_entropy.value[0]
        np.testing.assert_allclose(half, np.log(2) / 2, atol=1e-4)
        np.testing.assert_allclose((2 * scale - 1) * np.sqrt(kappa), 0.416, atol=0.01)
    # A noise interval down to sigma = 0, turned round.
    ends = [
        guided_curve(2.0, [0.1, 1.0], interval=(0.5, end)).cross_entropy.value
        for end in (np.inf, 1.0)
    ]
    np.testing.assert_allclose(*ends, rtol=1e-9)


def test_unguided_classes_are_the_exact_ones():
    s = np.array([1.0, 5.0, 20.0])
    curve = many.guided_classes(3, 1.0, s, key=jax.random.key(0), num_samples=256)
    np.testing.assert_allclose(
        curve.cross_entropy.value, exact.equidistant_entropy(3, s), rtol=1e-9
    )
    assert np.max(curve.cross_entropy.stderr) < 1e-12


@pytest.mark.slow
def test_many_classes_obey_the_identity():
    """-dCE/ds = (2w - 1)/2 E|e_c - softmax Y|^2, and the cross-entropy stands still at w = 1/2."""
    s = np.linspace(0.5, 4.5, 21)
    curve = many.guided_classes(10, 2.0, s, key=jax.random.key(2), num_samples=3000)
    lost = np.trapezoid(curve.rate.value, s)
    fallen = curve.cross_entropy[0] - curve.cross_entropy[-1]
    assert abs(float(fallen.value) - lost) < 4 * float(fallen.stderr) + 5e-3
    assert fallen.value > 1
    still = many.guided_classes(10, 0.5, s[:3], key=jax.random.key(2), num_samples=3000)
    error = np.abs(still.cross_entropy.value - np.log(10)) / still.cross_entropy.stderr
    assert error.max() < 4


def test_bad_input(unchecked):
    with pytest.raises(ValueError, match="strictly increasing"):
        guided_curve(2.0, [1.0, 0.5])
    with pytest.raises(ValueError, match="low, high"):
        guided_curve(2.0, [1.0], interval=(2.0, 1.0))
    with pytest.raises(ValueError, match="before kappa"):
        scheduled_curve([(1.0, 2.0)], [2.0])
    for schedule in ([(1, 2, 3), (4, 5, 6)], [1, 2, 5, 3], [(1,)]):
        with pytest.raises(ValueError, match=r"is pairs \(end, scale\)"):
            scheduled_curve(schedule, [0.5])
    with pytest.raises(ValueError, match="above 1/2"):
        commitment_shift(0.5)
    with pytest.raises(ValueError, match="read-out"):
        interval_gain(2.0, [1.0, 8.0])
    with pytest.raises(ValueError, match="does not pass"):
        guided_curve(2.0, [1.0, 2.0]).crossing(0.5)
    with pytest.raises(ValueError, match="`num_classes` must be a whole number of at least 2"):
        many.guided_classes(1, 2.0, [1.0], key=jax.random.key(0))


def test_pictures_show_what_the_results_hold():
    from gmm_speciation import plotting
    from gmm_speciation.estimate import Estimate

    grid = np.geomspace(0.05, 4, 30)
    curves = {w: guided_curve(w, grid) for w in (1.0, 3.0)}
    figure = plotting.plot_guided(curves, {"again": (3.0, curves[3.0])}, (0.1, 2.9))
    upper, lower = figure.axes
    np.testing.assert_allclose(upper.lines[1].get_ydata(), curves[3.0].cross_entropy.value)
    np.testing.assert_allclose(lower.lines[0].get_ydata(), grid * curves[1.0].rate.value)
    assert lower.get_xlim()[0] > lower.get_xlim()[1]  # noise on the right
    gain = interval_gain(2.0, np.array([0.5, 1.0, 2.0]))
    figure = plotting.plot_interval_gain([gain])
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), gain.gain_per_kappa)
    levels = np.linspace(-4, 4, 9)
    spent = {1.0: Estimate.exact(np.ones(9))}
    figure = plotting.plot_divergence(levels, spent, np.ones(9))
    assert "λ" in figure.axes[1].get_xlabel()
    with pytest.raises(ValueError, match="at least one"):
        plotting.plot_guided({})
    many = {f"run {index}": (3.0, curves[3.0]) for index in range(7)}
    (legend,) = plotting.plot_guided(curves, many).legends
    assert {f"simulated, {name}" for name in many} <= {t.get_text() for t in legend.get_texts()}
    for draw in (plotting.plot_interval_gain, plotting.plot_log_law, plotting.plot_sizes):
        with pytest.raises(ValueError, match="at least one"):
            draw({} if draw is plotting.plot_sizes else [])


def test_pictures_of_guidance_mix_no_clocks_and_cut_no_curve():
    from gmm_speciation import plotting

    one = guided_curve(2.0, np.geomspace(0.05, 4, 9))
    longer = guided_curve(2.0, np.geomspace(0.01, 20, 9))
    assert plotting.plot_guided({1.0: one, 2.0: longer}).axes[1].get_xlim() == (20.0, 0.01)
    other = many.guided_classes(2, 2.0, 2 * one.clock, key=jax.random.key(0), num_samples=64)
    for given in (({1.0: other},), ({1.0: one}, {"simulated": (2.0, other)})):
        with pytest.raises(ValueError, match="on the clock kappa; got one on s"):
            plotting.plot_guided(*given)
    edges = [0.1, 0.5, 1.0]
    gains = [interval_gain(2.0, edges, read_out=at) for at in (4.0, 2.0)]
    for given in (gains, [interval_gain(1.0, edges)]):
        with pytest.raises(ValueError, match="per unit of the scale less 1, read at one kappa"):
            plotting.plot_interval_gain(given)


PRIORS = [1e-12, 1e-9, 1e-6, 1e-3, 0.1, 0.5, 0.9, 0.999]


def of_the_true_class(kappa, prior):
    """E[-log p] and E[p] of the true class: log-odds are `N(logit pi + 2 kappa, 4 kappa)`."""
    z = np.linspace(-13, 13, 40_001)
    bell = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    odds = np.log(prior) - np.log1p(-prior) + 2 * kappa + 2 * np.sqrt(kappa) * z
    return bell @ np.logaddexp(0, -odds), bell @ (1 / (1 + np.exp(-odds)))


@pytest.mark.parametrize("prior", PRIORS)
def test_unguided_at_any_prior_is_the_channel_seen_from_one_class(prior):
    curve = guided_curve(1.0, KAPPA, prior=prior)
    entropy, probability = np.transpose([of_the_true_class(k, prior) for k in KAPPA])
    np.testing.assert_allclose(curve.cross_entropy.value, entropy, atol=1e-5)
    np.testing.assert_allclose(curve.probability.value, probability, atol=1e-5)
    assert curve.prior == pytest.approx(-np.log(prior))
    still = guided_curve(0.5, KAPPA, prior=prior)
    np.testing.assert_allclose(still.cross_entropy.value, -np.log(prior), atol=1e-6)


def backward_equation(scale, kappa, cell=0.02):
    """`u_kappa = b u' + 2 u''`, u(0) = log(1 + e^{-L}), by central differences of fourth order and BDF:
    CE at all priors at once. Another equation, scheme and stepper than the solver's."""
    odds = np.arange(-60 - 30 * np.sqrt(kappa[-1]), 40, cell)
    drift = 2 + 4 * (scale - 1) / (1 + np.exp(odds))
    size = (len(odds), len(odds))
    inside = sparse.diags_array(np.r_[[0.0] * 2, np.ones(size[0] - 4), [0.0] * 2])
    stencils = ([1.0, -8, 8, -1], [-2, -1, 1, 2]), ([-1.0, 16, -30, 16, -1], [-2, -1, 0, 1, 2])
    first, second = (
        sparse.diags_array(weights, offsets=places, shape=size) / (12 * cell**order)
        for order, (weights, places) in enumerate(stencils, start=1)
    )
    operator = (inside @ (sparse.diags_array(drift) @ first + 2 * second)).tocsc()
    falls = np.zeros(len(odds))
    falls[:2] = -drift[0]  # far below 0, u = -L - drift kappa
    found = solve_ivp(
        lambda _, u: operator @ u + falls,
        (0, kappa[-1]),
        np.logaddexp(0, -odds),
        method="BDF",
        jac=operator,
        t_eval=kappa,
        rtol=1e-9,
        atol=1e-11,
    )
    return CubicSpline(odds, found.y)


@pytest.mark.parametrize(
    ("scale", "priors"),
    [(0.0, PRIORS), (2.0, PRIORS), (4.0, PRIORS), (6.0, PRIORS[1::3]), (16.0, [1e-12, 0.5])],
)
def test_guidance_at_any_prior_solves_the_backward_equation(scale, priors):
    truth = backward_equation(scale, KAPPA)
    for prior in priors:
        curve = guided_curve(scale, KAPPA, prior=prior)
        wanted = truth(np.log(prior) - np.log1p(-prior))
        np.testing.assert_allclose(curve.cross_entropy.value, wanted, atol=1e-5)


def test_guidance_at_a_prior_against_paths():
    """Euler paths of `dY = [1 + 2 (w - 1) (1 - p)] dkappa + dB`, L = logit pi + 2 Y, in numpy."""
    rng, prior, scale, last, steps = np.random.default_rng(5), 0.1, 3.0, 0.8, 800
    start = np.log(prior / (1 - prior))
    odds = np.full(20_000, start)
    for _ in range(steps):
        noise = rng.normal(size=odds.shape) * np.sqrt(last / steps)
        odds += 2 * (1 + 2 * (scale - 1) / (1 + np.exp(odds))) * last / steps + 2 * noise
    loss = np.logaddexp(0, -odds)
    curve = guided_curve(scale, [last], prior=prior)
    assert (
        abs(loss.mean() - curve.cross_entropy.value[0]) < 4 * loss.std() / np.sqrt(len(loss)) + 2e-3
    )


def test_a_rare_class_is_carried_by_the_drift():
    """Far below L = 0 the drift is 2 (2w - 1) in place of 2: the shift tends to log(2w - 1) / 2."""
    off = [abs(commitment_shift(4.0, prior=p) - np.log(7.0) / 2) for p in (0.1, 1e-3, 1e-9)]
    assert off[0] > off[1] > off[2]
    assert off[2] < 0.015
    with pytest.raises(ValueError, match="inside"):
        guided_curve(2.0, [1.0], prior=1.0)


@pytest.mark.parametrize("scale", [1e6, -1e4])
def test_a_scale_that_cannot_be_solved_for_is_refused_with_the_largest(scale):
    with pytest.raises(ValueError, match="The largest scale is about") as refusal:
        guided_curve(scale, [0.1, 1.0])
    largest = float(re.search("scale is about ([^ ]+) there", str(refusal.value))[1])
    assert 1e2 < largest < abs(scale)
    curve = guided_curve(np.sign(scale) * 1e2, [1e-3, 1e-2])
    assert np.isfinite(curve.cross_entropy.value).all()
