"""Pictures show the numbers of the result they are given, on an axis that runs from signal to noise."""

import matplotlib
import numpy as np
import pytest
from scipy import stats

from gmm_speciation import plotting
from gmm_speciation.curves import EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.plotting import style
from gmm_speciation.processes import DDPM, OrnsteinUhlenbeck, VarianceExploding
from gmm_speciation.published.cloning import CloningFigure
from gmm_speciation.shares import Share

LOG_SNR = np.linspace(4.0, -8.0, 60)


def logistic_curve(centre: float = -2.0, prior: float = np.log(2), stderr: float = 0.01):
    """A logistic entropy, whose rate peaks at `centre` with height prior / 4."""
    share = 1 / (1 + np.exp(LOG_SNR - centre))
    errors = np.full_like(LOG_SNR, stderr)
    rate = prior * share * (1 - share)
    return EntropyCurve(
        LOG_SNR, Estimate(prior * share, errors, 15.0), Estimate(rate, errors, 15.0), prior, "test"
    )


def test_noise_grows_to_the_right_and_both_panels_share_the_axis():
    upper, lower = plotting.plot_curve(logistic_curve()).axes
    assert lower.get_xlim() == (4.0, -8.0)
    assert upper.get_xlim() == lower.get_xlim()


@pytest.mark.parametrize(("unit", "scale"), [("nats", 1.0), ("bits", 1 / np.log(2))])
def test_lines_are_the_result_in_the_unit(unit, scale):
    curve = logistic_curve()
    upper, lower = plotting.plot_curve(curve, unit=unit).axes
    np.testing.assert_allclose(upper.lines[0].get_ydata(), scale * curve.entropy.value)
    np.testing.assert_allclose(lower.lines[0].get_ydata(), scale * curve.rate.value)
    assert unit in upper.get_ylabel()


def test_bands_are_95_percent_intervals():
    curve = logistic_curve(stderr=0.05)
    upper, _ = plotting.plot_curve(curve).axes
    corners = upper.collections[0].get_paths()[0].vertices
    low, high = curve.entropy.interval(0.95)
    np.testing.assert_allclose(corners[:, 1].max(), high.max())
    np.testing.assert_allclose(corners[:, 1].min(), low.min())


def test_sigma_ticks_stand_at_their_log_snr():
    figure = plotting.plot_curve(logistic_curve())
    figure.draw_without_rendering()
    (scale,) = figure.axes[0].child_axes
    values = np.array([float(label.get_text()) for label in scale.get_xticklabels()])
    np.testing.assert_allclose(scale.get_xticks(), -2 * np.log(values), atol=1e-9)
    assert len(values) >= 3


@pytest.mark.parametrize("process", [OrnsteinUhlenbeck(), VarianceExploding(), DDPM.linear()])
def test_time_ticks_stand_at_the_log_snr_of_the_process(process):
    figure = plotting.plot_curve(logistic_curve(), process=process)
    figure.draw_without_rendering()
    (clock,) = figure.axes[1].child_axes
    times = np.array([float(label.get_text()) for label in clock.get_xticklabels()])
    np.testing.assert_allclose(clock.get_xticks(), process.log_snr(times), atol=1e-4)
    assert len(times) >= 3
    assert type(process).__name__ in clock.get_xlabel()


def test_marks_and_several_curves_are_named_in_one_legend_outside_the_panels():
    curves = {"coarse": logistic_curve(-4.0), "fine": logistic_curve(0.0, np.log(4))}
    figure = plotting.plot_curve(curves, speciation={"spectral": -1.5})
    figure.draw_without_rendering()
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert {"coarse", "fine", "spectral, λ = −1.50"} <= set(labels)
    box = legend.get_window_extent()
    assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes)
    assert [-1.5, -1.5] in [list(line.get_xdata()) for line in figure.axes[1].lines]


def test_peak_is_marked_where_the_curve_has_it():
    curve = logistic_curve()
    _, lower = plotting.plot_curve(curve).axes
    marked = [c.lines[0].get_xydata()[0] for c in lower.containers]
    np.testing.assert_allclose(marked, [[-2.0, np.log(2) / 4]], atol=2e-3)


def test_a_flat_curve_and_a_grid_inside_the_window_still_give_a_picture(tmp_path):
    zero = Estimate.exact(np.zeros_like(LOG_SNR))
    flat = EntropyCurve(LOG_SNR, zero, zero, 0.0, "exact")
    plotting.save(plotting.plot_curve(flat), tmp_path / "flat.png")
    plotting.save(plotting.plot_curve(logistic_curve(-7.9)), tmp_path / "cut.png")


def test_clock_shows_rates_per_unit_time():
    clocked = logistic_curve().on(OrnsteinUhlenbeck())
    _, lower = plotting.plot_clock(clocked).axes
    np.testing.assert_allclose(lower.lines[0].get_xdata(), clocked.times)
    np.testing.assert_allclose(lower.lines[0].get_ydata(), clocked.rate.value)


def test_style_does_not_leak_and_bad_input_is_named():
    before = dict(matplotlib.rcParams)
    plotting.plot_curve(logistic_curve())
    assert dict(matplotlib.rcParams) == before
    with pytest.raises(ValueError, match="one of nats, bits; got 'hartleys'"):
        plotting.plot_curve(logistic_curve(), unit="hartleys")
    with pytest.raises(ValueError, match="at least one curve"):
        plotting.plot_curve({})
    clocks = {str(p): logistic_curve().on(p) for p in (OrnsteinUhlenbeck(), VarianceExploding())}
    with pytest.raises(ValueError, match="one process"):
        plotting.plot_clock(clocks)


@pytest.mark.parametrize("words", [1, 4, 8])
def test_no_legend_is_cut_at_the_edge_of_its_figure(words):
    figure, (axes,) = style.panels((1.0,))
    for number in range(9):
        axes.plot([0, 1], [0, number], label=f"{number} " + "feedback " * words)
    style.legend_above(figure, ncols=4)
    figure.canvas.draw()
    (legend,) = figure.legends
    assert legend.get_window_extent().x1 <= figure.bbox.x1
    assert len(legend.get_texts()) == 9


def test_clocks_of_different_parameters_share_no_axis():
    curve, short = logistic_curve(), DDPM.from_betas(np.linspace(1e-4, 0.04, 1000))
    with pytest.raises(ValueError, match="DDPM with different parameters"):
        plotting.plot_clock({"a": curve.on(DDPM.linear()), "b": curve.on(short)})
    plotting.plot_clock({"a": curve.on(short), "b": curve.on(short)})
    with pytest.raises(ValueError, match="at least one curve"):
        plotting.plot_clock({})


def test_criteria_that_are_not_defined_have_no_mark():
    figure = plotting.plot_curve(logistic_curve(), speciation={"a": np.nan, "b": -np.inf})
    assert not {"a, λ = nan", "b, λ = −inf"} & {t.get_text() for t in figure.legends[0].get_texts()}


def test_bars_of_shares_are_their_intervals():
    share = Share.counted(np.array([[1.0, 0.8]]), 50)
    none = np.zeros((1, 2))
    result = CloningFigure((4,), np.array([1.0, 2.0]), share, none, np.ones(2), none, 50, {})
    upper, _ = plotting.plot_cloning(result).axes
    ends = np.array([bar[:, 1] for bar in upper.containers[0].lines[2][0].get_segments()])
    exact = [stats.beta.ppf([0.025, 0.975], k, 51 - k) for k in (50, 40)]  # Clopper & Pearson
    np.testing.assert_allclose(ends[0], [exact[0][0], 1.0])
    np.testing.assert_allclose(ends[1], [exact[1][0], stats.beta.ppf(0.975, 41, 10)])
