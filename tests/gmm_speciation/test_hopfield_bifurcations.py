"""Bifurcations measured on patterns: where they appear, win, and the symmetric state gives way."""

import numpy as np
import pytest

from gmm_speciation import families, hopfield
from gmm_speciation.hopfield.landscape import Landscape
from gmm_speciation.speciation import curvature_point


@pytest.fixture
def patterns(rng):
    """Patterns of any norm, away from the origin."""
    return rng.standard_normal((7, 5)) * rng.uniform(0.5, 2.0, (7, 1)) + 0.3


@pytest.mark.parametrize("num", [2, 3, 5, 10, 50])
def test_measured_transitions_are_those_of_the_potts_model(num):
    x = 2.5 * hopfield.equidistant_patterns(num, num + 2, 0.2)
    found, predicted = hopfield.Network(x).pattern(num - 1), hopfield.critical_betas(num)
    for name in ("appearance", "equal_energy", "stability"):
        assert getattr(found.betas, name) == pytest.approx(getattr(predicted, name), abs=1e-7)
    # The branches carry the Potts overlaps, the minimum first and the saddle after the fold.
    branch = found.branch
    turn = int(np.argmin(branch.beta_eff))
    for place in (turn // 2, (turn + len(branch.beta_eff)) // 2):
        pair = hopfield.potts_overlaps(num, branch.beta_eff[place])
        assert min(abs(branch.overlap[place] - s) for s in pair) < 1e-8
    assert branch.stable[: turn - 1].all()
    assert num == 2 or not branch.stable[turn + 1 :].any()


def test_points_of_a_branch_are_fixed_points_of_retrieval():
    x = hopfield.random_patterns(6, 12, seed=3)
    network = hopfield.Network(x)
    landscape, found = network.landscape, network.pattern(0)
    for point in network._symmetric[::9]:
        np.testing.assert_allclose(
            landscape.residual(point.eta, point.beta), 0 * point.eta, atol=1e-12
        )
    # In the original coordinates: follow the retrieval itself from the pattern.
    place = len(found.branch.beta_eff) // 4
    beta = float(hopfield.beta_from_effective(x, found.branch.beta_eff[place]))
    state = hopfield.retrieve(x, x[0], beta, 2000)
    own = x[0] - x.mean(0)
    overlap = (state - x.mean(0)) @ own / (own @ own)
    assert overlap == pytest.approx(found.branch.overlap[place], abs=1e-8)


def test_the_reduced_landscape_is_the_energy(patterns):
    landscape = Landscape.of(patterns)
    beta = 1.7 / landscape.unit**2
    etas = [np.zeros(5), landscape.patterns[2], landscape.patterns.T @ np.linspace(-1, 1, 7)]
    basis = np.linalg.lstsq(landscape.patterns, (patterns - patterns.mean(0)) / landscape.unit)[0]
    states = [patterns.mean(0) + landscape.unit * eta @ basis for eta in etas]
    reduced = np.array([landscape.energy(eta, 1.7) for eta in etas]) * landscape.unit**2
    full = np.array([float(hopfield.energy(patterns, xi, beta)) for xi in states])
    np.testing.assert_allclose(np.diff(reduced), np.diff(full), rtol=1e-9)


@pytest.mark.parametrize("unit", [1e-200, 1e200])
def test_a_landscape_has_no_unit(patterns, unit):
    """Squares of its patterns in these units are no numbers."""
    found, expected = Landscape.of(unit * patterns), Landscape.of(patterns)
    np.testing.assert_allclose(found.patterns, expected.patterns, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(found.unit / unit, expected.unit, rtol=1e-12)
    assert found.pattern(0).shape == expected.pattern(0).shape


def test_stability_of_equal_norms_is_the_curvature_point():
    """The symmetric state is the maximum of the noisy density that pure noise begins with."""
    x = hopfield.random_patterns(12, 40, seed=1)
    found = hopfield.Network(x).stability
    beta = np.exp(float(curvature_point(families.empirical(x)).log_snr.value))
    assert found == pytest.approx(float(hopfield.effective_beta(x, beta)), rel=1e-4)


def test_a_pattern_inside_the_hull_of_others_is_never_a_minimum():
    x = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.1, 0.1]])
    found = hopfield.Network(x).pattern(3)
    assert found.branch is None
    assert found.betas.appearance is None


@pytest.mark.parametrize("a", [0.1, 0.04, 0.02, 0.003])
def test_close_patterns_fork_where_their_difference_decides(a):
    """Two at (cos a, +-sin a) and one far away: they part at beta sin(a)^2 = 1."""
    x = [[np.cos(a), np.sin(a)], [np.cos(a), -np.sin(a)], [-1.0, 0.0]]
    exact = float(hopfield.effective_beta(x, 1 / np.sin(a) ** 2))
    network = hopfield.Network(x)
    for index in (0, 1):
        assert network.pattern(index).betas.appearance == pytest.approx(exact, rel=1e-5)


def test_a_lost_branch_is_no_branch_without_transition():
    a = 3e-4  # beyond what rounding leaves
    network = hopfield.Network([[np.cos(a), np.sin(a)], [np.cos(a), -np.sin(a)], [-1.0, 0.0]])
    with pytest.warns(UserWarning, match="branch of pattern 0 is lost at beta_eff = 1.49"):
        network.pattern(0)


def test_copies_share_a_minimum():
    """Two of +1 and three of -1 are an Ising spin in a field h = log(3/2) / 2 against the fewer."""
    network = hopfield.Network([[1.0], [1.0], [-1.0], [-1.0], [-1.0]])
    fewer, more = network.pattern(1), network.pattern(4)
    s = np.sqrt(1 - 1 / (b := float(fewer.betas.appearance) / 1.2))  # 1.2 is the unit squared
    assert b * s - np.arctanh(s) == pytest.approx(np.log(1.5) / 2, rel=1e-6)
    assert more.betas.appearance is None  # it is the state of small beta
    np.testing.assert_allclose(more.branch.overlap[0], 1, atol=1e-4)


def test_digits_share_the_axis():
    pytest.importorskip("sklearn")
    x = hopfield.digit_patterns(8, seed=2)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), np.ones(8))
    network = hopfield.Network(x)
    found = [network.pattern(index).betas.appearance for index in range(8)]
    assert len([value for value in found if value is not None and value > 0.5]) >= 6
