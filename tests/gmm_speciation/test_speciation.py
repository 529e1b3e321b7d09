"""Speciation criteria on mixtures whose answers are known."""

import jax.numpy as jnp
import numpy as np
import pytest
from theory_contracts import random_mixtures

import gmm_speciation as gs
from gmm_speciation import speciation


@pytest.mark.parametrize("dim", [1, 2, 16, 256])
def test_spectral_point_of_the_symmetric_pair(dim):
    """Lambda = d mu^2 + s^2; on OU t_S = (1/2) log(1 + Lambda)."""
    mixture = gs.families.symmetric_pair(dim, 2.0, 0.5)
    eigenvalue = 4 * dim + 0.5
    np.testing.assert_allclose(speciation.top_eigenvalue(mixture), eigenvalue, rtol=1e-9)
    point = speciation.spectral_point(speciation.top_eigenvalue(mixture))
    time = point.on(gs.OrnsteinUhlenbeck())
    np.testing.assert_allclose(time.value, np.log1p(eigenvalue) / 2, rtol=1e-9)
    np.testing.assert_allclose(speciation.between_class_eigenvalue(mixture), 4 * dim, rtol=1e-9)


@pytest.mark.parametrize("name", random_mixtures())
def test_top_eigenvalue_is_that_of_the_dense_covariance(name):
    mixture = random_mixtures()[name]
    dense = np.linalg.eigvalsh(np.asarray(mixture.moments().covariance))[-1]
    np.testing.assert_allclose(speciation.top_eigenvalue(mixture), dense, rtol=1e-9)


def test_sample_eigenvalue(rng):
    x = rng.normal(size=(50, 6)) * [3, 1, 1, 1, 1, 1]
    dense = np.linalg.eigvalsh(np.cov(x.T, bias=True))[-1]
    np.testing.assert_allclose(speciation.sample_top_eigenvalue(x), dense, rtol=1e-10)
    with pytest.raises(ValueError, match="two finite points"):
        speciation.sample_top_eigenvalue(x[:1])


@pytest.mark.slow
def test_half_entropy_of_many_classes_comes_before_the_spectral_point():
    """Equidistant classes without variance: s = K spectrally; the entropy halves near s = log K."""
    num, distance = 32, 10.0
    mixture = gs.families.equidistant(num, 32, distance, variance=0.0)
    times = gs.speciation_times(mixture, num_samples=4096)
    s = {name: np.exp(p.log_snr.value) * distance**2 / 2 for name, p in times.points().items()}
    np.testing.assert_allclose(s["spectral"], num, rtol=1e-6)
    assert np.log(num) < s["half entropy"] < 1.3 * np.log(num)


@pytest.mark.slow
def test_coarse_levels_speciate_at_higher_noise():
    mixture, levels = gs.families.hierarchy((2, 2, 2), (64.0, 8.0, 1.0), 8, variance=0.01)
    points = [
        gs.speciation_times(mixture, partition=p, num_samples=2048).half_entropy for p in levels
    ]
    log_snr = [float(p.log_snr.value) for p in points]
    assert log_snr == sorted(log_snr)
    assert log_snr[-1] - log_snr[0] > 2


def test_criteria_that_are_not_defined_say_why():
    single = gs.families.equidistant(1, 2, 1.0)
    with pytest.raises(ValueError, match="one class"):
        gs.speciation_times(single)
    equal = gs.families.equal_means(16, [0.5, 1.5])
    point = gs.speciation_times(equal, num_samples=2048).between_class
    assert point.log_snr is None
    assert "no positive eigenvalue" in point.reason
    assert point.on(gs.OrnsteinUhlenbeck()) is None
    overlapping = gs.families.symmetric_pair(1, 0.5)
    assert "never falls to a half" in gs.speciation_times(overlapping).half_entropy.reason
    with pytest.raises(ValueError, match="a log-SNR or a reason"):
        speciation.SpeciationPoint(None)


def test_transition_grid_covers_the_transition():
    for mixture in (
        gs.families.symmetric_pair(10_000),
        gs.families.symmetric_pair(2, 1e-3, 1e-8),
        gs.families.equal_means(4096, [0.5, 1.5]),
    ):
        grid = gs.transition_grid(mixture)
        entropy = np.asarray(gs.class_entropy(mixture, jnp.asarray(grid), num_samples=2048).value)
        assert entropy[-1] > 0.99 * np.log(2)
        assert entropy[0] < 0.01 * np.log(2)
        assert np.all(np.diff(grid) < 0)


@pytest.mark.parametrize(("dim", "offset"), [(16, -0.1491), (64, -0.1916), (256, -0.2021)])
def test_all_criteria_of_the_symmetric_pair(dim, offset):
    """At s = 1: curvature kappa = 1, phi = 0.775, H half gone at 1.0440133; on OU dH/dt peaks at
    kappa* = 1.5083306 for every d, and dH/dlambda at a time that tends to it from above."""
    mixture, process = gs.families.symmetric_pair(dim), gs.OrnsteinUhlenbeck()
    times = gs.speciation_times(mixture)
    assert times.curve.method == "exact"
    assert set(times.points()) == {
        "spectral",
        "between-class spectral",
        "bifurcation",
        "entropic peak",
        "half entropy",
        "cloning",
    }
    kappa = {
        name: float(gs.decision_snr(mixture, point.log_snr.value))
        for name, point in times.points().items()
    }
    np.testing.assert_allclose(kappa["bifurcation"], 1, rtol=1e-9)
    np.testing.assert_allclose(gs.exact.clone_agreement(kappa["cloning"]), 0.775, rtol=1e-8)
    np.testing.assert_allclose(kappa["half entropy"], 1.0440133, rtol=1e-4)
    # Lambda = d + 1, and v = 1 on OU, so kappa = alpha^2 d = d / (d + 2).
    np.testing.assert_allclose(kappa["spectral"], dim / (dim + 2), rtol=1e-9)
    clocked = times.curve.on(process).peak().time.value
    np.testing.assert_allclose(dim * np.exp(-2 * clocked), 1.5083306, rtol=1e-3)
    peak = times.entropic.on(process).value - np.log(dim) / 2
    np.testing.assert_allclose(peak, offset, atol=2e-4)


@pytest.mark.slow
def test_every_level_of_a_tree_has_its_criteria():
    """A binary tree factorises over its levels: each splits at its own kappa = 1."""
    mixture, levels = gs.families.hierarchy((2, 2), (32.0, 4.0), 2, variance=0.01)
    found = speciation.per_level(mixture, levels, num_samples=1024)
    assert list(found) == ["level 1, 2 classes", "level 2, 4 classes"]
    for distance, times in zip((32.0, 4.0), found.values(), strict=True):
        split = -np.log(distance**2 / 4 - 0.01)
        np.testing.assert_allclose(times.bifurcation.log_snr.value, split, atol=1e-8)
    top, fine = found.values()
    np.testing.assert_allclose(
        gs.clone_agreement(mixture, top.cloning.log_snr.value, partition=levels[0]).value,
        0.775,
        atol=1e-3,
    )
    # The finer decision is taken later; two of its four outcomes were settled with the first.
    assert fine.cloning.log_snr.value > top.cloning.log_snr.value + 3
    named = speciation.per_level(mixture, {"only": levels[0]}, num_samples=1024)
    assert list(named) == ["only"]


def test_criteria_in_single_precision(precision):
    """A float32 user gets the same points to four digits."""
    times = gs.speciation_times(gs.families.symmetric_pair(64))
    np.testing.assert_allclose(times.bifurcation.log_snr.value, -np.log(63), atol=1e-3)
    np.testing.assert_allclose(times.cloning.log_snr.value, -4.1443, atol=1e-3)


@pytest.mark.usefixtures("optimised")
def test_a_point_between_two_decisions_says_that_nothing_is_decided_there():
    mixture, levels = gs.families.hierarchy((2, 2), (3000.0, 3.0), 10**4)
    times = gs.speciation_times(mixture)
    points = times.points()
    assert times.half_entropy.note.startswith("on a plateau")
    assert points["bifurcation"].splits == (((0, 1), (2, 3)),)
    assert points["bifurcation"].note == "0, 1 | 2, 3"
    assert points["bifurcation 2"].note == "0 | 1; 2 | 3"
    # Each split at its own kappa = 1, e^{-lambda} = distance^2 / 4 - 1.
    for name, distance in (("bifurcation", 3000.0), ("bifurcation 2", 3.0)):
        split = -np.log(distance**2 / 4 - 1)
        np.testing.assert_allclose(points[name].log_snr.value, split, atol=1e-7)
    assert points["entropic peak"].note == "57% of the information"
    assert points["entropic peak 2"].note == "43% of the information"
    one = gs.speciation_times(mixture, partition=levels[0])
    assert one.half_entropy.note is None
    assert one.bifurcation.note == "0 | 1"  # by class: its components go together
    assert one.later_bifurcations == ()


def test_a_curve_that_ends_early_blames_its_grid_not_the_classes():
    """A pair that separates, looked at down to much noise only."""
    pair = gs.families.symmetric_pair(64)
    curve = gs.entropy_curve(pair, np.linspace(-5, -9, 20))
    reason = speciation.half_entropy_point(curve).reason
    assert "λ = -5, the cleanest level looked at" in reason
    assert "overlap" not in reason
    clones = speciation.cloning_point(pair, log_snr_range=(-9.0, -5.0)).reason
    assert "λ = -5, the cleanest level looked at" in clones


@pytest.mark.parametrize("rare", [1e-6, 1e-14])
def test_a_rare_class_has_a_transition(rare):
    """Of the entropy that there is: what noise takes is a share of H(C), however small."""
    law = gs.GaussianMixture.isotropic([[-1.0], [1.0]], 0.1, [1 - rare, rare])
    grid = gs.transition_grid(law)
    entropy = gs.class_entropy(law, grid).value
    assert entropy[0] < 0.5 * entropy[-1]
    assert abs(entropy[-1] / gs.prior_entropy(law) - 1) < 0.01
    same = gs.GaussianMixture.isotropic([[1.0], [1.0]], 0.1, [1 - rare, rare])
    with pytest.raises(ValueError, match="Noise takes nothing from these classes"):
        gs.transition_grid(same)


ALIKE = {  # and the information that there is, by its series at small distances
    "means": (gs.GaussianMixture.isotropic([[0.0], [1e-6]], 1.0), 1e-12 / 8),
    "variances": (gs.GaussianMixture.isotropic(np.zeros((2, 3)), [1.0, 1 + 1e-6]), 3e-12 / 16),
}


@pytest.mark.parametrize("name", ALIKE)
def test_classes_too_much_alike_are_refused_with_the_number(name):
    mixture, information = ALIKE[name]
    with pytest.raises(ValueError, match="float64 tells no differences below 7e-13") as error:
        gs.speciation_times(mixture)
    assert f"about {information:.1g} of the 0.693 nats" in str(error.value)
