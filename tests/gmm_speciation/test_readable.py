"""Results one can hold: what they print, and pictures from the result itself."""

import jax
import numpy as np
import pytest

import gmm_speciation as gs
from gmm_speciation import control, hopfield
from gmm_speciation.curves import EntropyCurve, Window
from gmm_speciation.estimate import known
from gmm_speciation.shares import Share

E = gs.Estimate
LOG_SNR = np.linspace(6.0, -6.0, 41)


def curve(stderr=0.01, trust=None):
    share = 1 / (1 + np.exp(LOG_SNR + 1.2))
    errors = np.full_like(LOG_SNR, stderr)
    entropy, rate = E(2 * share, errors, 30.0), E(2 * share * (1 - share), errors, 30.0)
    return EntropyCurve(LOG_SNR, entropy, rate, 2.0, "test", trust=trust)


@pytest.mark.parametrize(
    ("estimate", "shown"),
    [
        (E(np.array(-0.35631), np.array(0.0006)), "Estimate(−0.3563 ± 0.0012)"),
        (E.exact(2.5), "Estimate(2.5)"),
        (E(np.array(0.25), np.array(np.nan)), "Estimate(0.25 ± unknown)"),
        (E(np.array(np.nan), np.array(np.nan)), "Estimate(not defined)"),
        (E.exact(np.arange(2.0)), "Estimate([0, 1], shape (2,))"),
        (E.exact(np.arange(12.0).reshape(3, 4)), "Estimate([0, 1, 2, …, 11], shape (3, 4))"),
        (E.exact(np.zeros((0, 2))), "Estimate([], shape (0, 2))"),
    ],
)
def test_estimates(estimate, shown):
    assert repr(estimate) == shown


def test_the_half_width_printed_is_that_of_95_percent():
    """Student's quantile for 3 degrees of freedom is 3.18."""
    assert repr(E(np.array(1.0), np.array(0.1), 3.0)) == "Estimate(1.00 ± 0.32)"


def test_under_a_transformation_a_repr_is_still_one():
    seen = []

    @jax.jit
    def traced(value):
        estimate = E.exact(value)
        seen.append((known(estimate), repr(estimate)))
        return value

    traced(np.ones(3))
    ((printable, text),) = seen
    assert not printable
    assert text.startswith("Estimate(")
    assert repr(jax.tree.map(lambda _: None, curve())).startswith("EntropyCurve(")
    assert repr(jax.tree.map(lambda _: None, curve().peak())).startswith("Peak(")
    assert repr(jax.tree.map(lambda _: None, curve().window())).startswith("Window(")


def test_curves_say_range_ends_largest_rate_and_method():
    class Bad:
        ok = False

    text = repr(curve(trust=Bad()))
    for part in ("41 levels λ from 6 to −6", "H(C) = 2 nats", "rate 0.500 ± 0.020 nats per unit λ"):
        assert part in text
    assert "at λ = −1.2; test, NOT to be trusted" in text
    assert "trust" not in repr(curve())
    assert "2 nats; largest rate 0.5 nats" in repr(curve(stderr=0.0))
    clocked = repr(curve().on(gs.VarianceExploding()))
    assert "times t of VarianceExploding from 0.0497" in clocked
    assert "nats per unit t at t = " in clocked


def test_peaks_and_windows():
    one = curve(stderr=0.0)
    peak, window = one.peak(), one.window(0.5)
    assert repr(peak).startswith("Peak(λ = −1.2, rate 0.5")
    assert "σ from 1.0" in repr(window)
    ends = Window(E(np.array(-2.0), np.array(0.1)), E(np.array(2.0), np.array(0.1)), 0.8)
    assert repr(ends) == (
        "Window(0.8 of the information: λ from −2.00 ± 0.20 to 2.00 ± 0.20, σ from 0.3679 to 2.718)"
    )
    assert repr(one.on(gs.VarianceExploding()).peak()).startswith("ClockedPeak(t = ")


def test_speciation_times_are_a_table():
    times = gs.speciation_times(gs.families.symmetric_pair(16))
    lines = repr(times).splitlines()
    assert len(lines) == 2 + len(times.points())
    for line, (name, point) in zip(lines[1:], times.points().items(), strict=False):
        assert line.split()[0] == name.split()[0]
        assert f"λ = {point.log_snr}" in line
    nothing = gs.speciation.SpeciationPoint(None, "a single class")
    assert repr(nothing) == "SpeciationPoint(none: a single class)"


def test_a_curve_draws_itself_with_window_and_peaks():
    one = curve()
    upper, lower = one.plot(gs.OrnsteinUhlenbeck(), unit="bits", title="mine")
    np.testing.assert_allclose(
        upper.lines[0].get_ydata(), np.asarray(one.entropy.value) / np.log(2)
    )
    (peak,) = one.peaks()
    assert any(
        line.get_marker() == "o" and np.allclose(line.get_xdata(), float(peak.log_snr.value))
        for line in lower.lines
    )
    window = one.window(0.8)
    spans = [patch.get_extents() for patch in lower.patches]
    assert spans
    ends = sorted(lower.transData.inverted().transform(spans[0].get_points())[:, 0])
    np.testing.assert_allclose(ends, [float(window.low.value), float(window.high.value)])
    above, below = one.on(gs.VarianceExploding()).plot()
    assert above.figure is below.figure
    assert "VarianceExploding" in below.get_xlabel()


def test_results_print_their_numbers_a_field_a_line():
    found = hopfield.equidistant_transitions(5)
    text = repr(found)
    assert f"\n  spectral: {found.spectral}\n" in text
    assert f"\n  curve: {found.curve!r}\n" in text
    gain = control.ConfidenceGain(
        E(np.array(0.25), np.array(0.01), 30.0), Share.counted(0.9123456, 1000)
    )
    assert repr(gain) == (
        "ConfidenceGain(\n  gain: 0.250 ± 0.020\n  share_raised: 0.912 (0.893–0.929)\n)"
    )
    branch = hopfield.Network(np.eye(3)).pattern(0)
    assert f"\n    stability: {branch.betas.stability:.4g}\n" in repr(branch)
    assert f"overlap: shape {branch.branch.overlap.shape}" in repr(branch)
    assert repr(jax.tree.map(lambda _: None, found)).startswith("EntropicTransitions(")
