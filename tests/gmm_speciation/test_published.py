"""Published experiments: their identities, and agreement with the exact result."""

import jax
import numpy as np
import pytest

import gmm_speciation as gs
from gmm_speciation import exact, plotting, published
from gmm_speciation.speciation import simulate_cloning


def test_one_dimension_is_equivalent_to_all_of_them(key):
    """Same process, same steps: shares of d = 24 and of its projection differ by sampling alone."""
    times, pairs = np.array([1.0, 1.6, 2.5]), 3000
    options = {"key": key, "num_pairs": pairs, "start_time": 5.0, "num_steps": 50}
    projected = published.clone_pairs([24.0], times, **options)[0]
    full = simulate_cloning(
        gs.families.symmetric_pair(24), gs.OrnsteinUhlenbeck(), times, **options
    ).same_class
    difference = full - projected
    assert (np.abs(difference.value) < 4 * np.asarray(difference.stderr)).all()


def test_clones_agree_with_phi_whatever_the_dimension(key):
    """Steps of 0.05 bias shares by 3e-3 at most; five errors of 4e-3 are more."""
    dims, times = np.array([256.0, 1e6]), np.arange(2.0, 9.0)
    share = published.clone_pairs(dims, times, key=key, num_pairs=16_384, num_steps=200)
    phi = np.asarray(exact.clone_agreement(np.outer(dims, np.exp(-2 * times))))
    error = np.sqrt(phi * (1 - phi) / 16_384)
    assert (np.abs(np.asarray(share.value) - phi) < 4 * error + 3e-3).all()
    assert share.value.shape == (2, 7)


def test_the_figure_measures_its_agreement(key):
    figure = published.biroli_cloning((256, 1024), key=key, num_pairs=100, full_pairs={})
    fit = figure.chi_square(256)
    scores = figure.scores[0]
    # Where all pairs agree, or nearly, a share has no normal error.
    assert np.isnan(scores[0])
    assert fit.dof == np.isfinite(scores).sum()
    assert fit.value == pytest.approx(np.nansum(scores**2))
    assert 1e-4 < fit.p_value < 1
    drawn = plotting.plot_cloning(figure).axes[0].lines[0].get_xydata()
    np.testing.assert_allclose(drawn[:, 1], figure.line[0])
    with pytest.raises(ValueError, match=r"one of \(256, 1024\)"):
        figure.chi_square(4096)


def test_bad_settings_are_named(key):
    with pytest.raises(ValueError, match=r"lie in \[0, 10\]"):
        published.clone_pairs([4.0], [11.0], key=key)
    with pytest.raises(ValueError, match="must be positive"):
        published.clone_pairs([-4.0], [1.0], key=key)
    with pytest.raises(ValueError, match="below half"):
        published.deep_hierarchy((10.0, 6.0))
    with pytest.raises(ValueError, match="positive"):
        published.deep_hierarchy((10.0, 1.0), 0.0)


@pytest.fixture(scope="module")
def tree():
    return published.deep_hierarchy((10.0, 1.0), num_points=81)


def test_the_chain_rule_closes(tree):
    assert np.abs(tree.chain.gap).max() < 1e-10
    assert tree.chain.gap.shape == (1, 81)
    assert float(tree.chain.fine[0, -1]) == pytest.approx(2 * np.log(2), rel=1e-2)


def test_each_level_speciates_at_its_own_distance(tree):
    """Separations in decades: a level is a pair of its own, kappa = (distance / 2)^2 / (sigma^2 + v)."""
    wanted = {"bifurcation": 1.0, "half entropy": 1.0440133}
    for distance, points in zip(tree.distances, tree.criteria.values(), strict=True):
        for name, kappa in wanted.items():
            # The classes below add a hundredth of the variance.
            noise = (distance / 2) ** 2 / kappa - 0.01
            assert float(points[name].log_snr.value) == pytest.approx(-np.log(noise), abs=0.025)
    names = list(tree.entropies)
    upper, _ = plotting.plot_hierarchy(tree).axes
    np.testing.assert_allclose(upper.lines[0].get_ydata(), tree.entropies[names[0]].entropy.value)


@pytest.fixture(scope="module")
def line():
    return published.four_points()


def test_four_points_decide_sides_first_and_close_neighbours_last(line):
    late = [float(c.peak().time.value) for c in (line.right, line.left, line.sides)]
    assert late == sorted(late)
    gap = line.points.entropy.value - line.sides.entropy.value
    inside = (line.left.entropy.value + line.right.entropy.value) / 2
    np.testing.assert_allclose(gap, inside, atol=1e-10)


def test_rates_of_the_schedule_are_differences_of_entropies(line):
    """Centred between steps, rates integrate to the entropy: nats per step."""
    for curve in line.named().values():
        gained = np.cumsum(np.asarray(curve.rate.value))
        gained = (gained[1:] + gained[:-1]) / 2
        entropy = np.asarray(curve.entropy.value)
        np.testing.assert_allclose(gained - gained[0], entropy[1:] - entropy[1], atol=1e-4)
    _, lower = plotting.plot_four_points(line).axes
    assert "bits" in lower.get_ylabel()


def test_neighbours_are_a_pair_of_their_own(line):
    alpha_squared = np.cumprod(1 - np.linspace(1e-4, 2e-2, 1000))[[300, 600]]
    clock = gs.DDPM.linear()
    np.testing.assert_allclose(clock.alpha(np.array([300.0, 600.0])) ** 2, alpha_squared)
    kappa = alpha_squared / (1 - alpha_squared + published.line.VARIANCE * alpha_squared)
    at = np.interp([300.0, 600.0], line.right.times, line.right.entropy.value)
    np.testing.assert_allclose(at, exact.binary_entropy(kappa), atol=1e-5)


def test_a_key_gives_the_same_figure():
    one, other = (
        published.clone_pairs([64.0], [2.0], key=jax.random.key(5), num_pairs=64, num_steps=20)
        for _ in range(2)
    )
    assert float(one.value[0, 0]) == float(other.value[0, 0])


# Three rows of 400 pairs at exact shares of two Gaussian classes in d = 256.
TIMES = np.array([4.0, 2.0, 3.0])
SHARES = np.asarray(exact.clone_agreement(256 * np.exp(-2 * TIMES)))
SPREAD = np.sqrt(SHARES * (1 - SHARES))
ROWS = np.stack([SHARES, SPREAD, SPREAD / 20])


@pytest.mark.parametrize("kind", ["array", "npy", "csv", "txt"])
def test_curves_of_trained_networks_are_read_from_any_source(kind, tmp_path):
    """Sorted by time, on the noise axis of the clock, with the degrees of freedom of std / errors."""
    source, path = ROWS, tmp_path / f"clones.{kind}"
    if kind == "npy":
        np.save(path, ROWS)
    elif kind != "array":
        np.savetxt(path, ROWS, delimiter="," if kind == "csv" else " ")
    clones = published.trained_clones(source if kind == "array" else path, TIMES)
    assert clones.times.tolist() == [2.0, 3.0, 4.0]
    kappa = 256 / (np.exp(clones.log_snr / -1) + 1)  # alpha^2 / (alpha^2 + sigma^2) of unit classes
    np.testing.assert_allclose(clones.agreement.value, exact.clone_agreement(kappa), rtol=1e-6)
    assert clones.agreement.dof == 399


def test_the_published_curve_lies_beside_runs_of_clones(key):
    ours = simulate_cloning(
        gs.families.symmetric_pair(256),
        gs.OrnsteinUhlenbeck(),
        np.sort(TIMES),
        key=key,
        num_pairs=300,
        start_time=5.0,
        num_steps=50,
    )
    theirs = published.trained_clones(ROWS, TIMES)
    difference = ours.agreement - theirs.agreement
    np.testing.assert_allclose(ours.log_snr, theirs.log_snr)
    # Steps of 0.1 bias shares by less than 0.02.
    assert (np.abs(difference.value) < 4 * np.asarray(difference.stderr) + 0.02).all()
    axes = plotting.plot_clones({"published": theirs, "ours": ours}).axes[0]
    np.testing.assert_allclose(axes.lines[0].get_xydata()[:, 1], theirs.agreement.value)
    with pytest.raises(ValueError, match="at least one"):
        plotting.plot_clones({})


@pytest.mark.parametrize(
    ("rows", "times", "message"),
    [
        (ROWS.T[:2], TIMES[:2], r"\(3, T\)"),
        (np.c_[ROWS, ROWS].T, np.arange(1, 7.0), "transpose"),
        (ROWS[:2], TIMES, r"\(2, 3\)"),
        (ROWS, TIMES[:2], r"got \(3, 3\) and \(2,\)"),
        (ROWS, np.array([4.0, 2.0, 2.0]), "different"),
        (ROWS, np.array([4.0, 0.0, 2.0]), r"\(0,"),
        (ROWS * 100, TIMES, "not percent"),
        (ROWS[[0, 2, 1]], TIMES, "order mean, std, errors"),
        (ROWS * [[1], [1], [np.nan]], TIMES, "standard errors"),
    ],
)
def test_rows_that_are_no_such_curve_are_named(rows, times, message):
    with pytest.raises(ValueError, match=message):
        published.trained_clones(rows, times)


def test_a_file_without_numbers_is_named(tmp_path):
    path = tmp_path / "clones.txt"
    path.write_text("mean std errors")
    with pytest.raises(ValueError, match="three rows of numbers"):
        published.trained_clones(path, TIMES)
