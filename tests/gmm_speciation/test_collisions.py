"""Bounds on the entropy from the agreement of clones: adaptive integrals and extremal distributions."""

import mpmath
import numpy as np
import pytest
from scipy.special import xlogy

import gmm_speciation as gs
from gmm_speciation.agreement import entropy_bounds, entropy_lower_bound, entropy_upper_bound
from gmm_speciation.estimate import Estimate


@pytest.mark.parametrize("num_classes", [2, 3, 10, 1000])
def test_no_distribution_leaves_the_bounds(num_classes):
    rng = np.random.default_rng(0)
    concentration = 10.0 ** rng.uniform(-3, 2, size=(4000, 1))
    p = rng.gamma(concentration * np.ones(num_classes)) + 1e-300
    p /= p.sum(1, keepdims=True)
    collision, entropy = (p**2).sum(1), -xlogy(p, p).sum(1)
    assert np.all(entropy >= entropy_lower_bound(collision, num_classes) - 1e-9)
    assert np.all(entropy <= entropy_upper_bound(collision, num_classes) + 1e-5)
    assert np.all(entropy_lower_bound(collision, num_classes) >= -np.log(collision) - 1e-9)


def test_the_bounds_are_reached_and_known_for_two_classes():
    phi = float(gs.exact.clone_agreement(1.0))
    assert entropy_lower_bound(np.array(phi), 2) == pytest.approx(2 * np.log(2) * (1 - phi))
    assert entropy_lower_bound(np.array(phi), 2) == pytest.approx(0.3116, abs=1e-4)
    # Two weights are fixed by their collision probability: the upper bound is their entropy.
    p = (1 + np.sqrt(2 * phi - 1)) / 2
    expected = -xlogy(p, p) - xlogy(1 - p, 1 - p)
    assert entropy_upper_bound(np.array(phi), 2) == pytest.approx(expected, abs=1e-6)
    # m equal weights touch the lower one; certainty and ignorance both.
    for m in (1, 2, 5, 10):
        assert entropy_lower_bound(np.array(1 / m), 10) == pytest.approx(np.log(m))
    ends = entropy_upper_bound(np.array([0.1, 1.0]), 10)
    np.testing.assert_allclose(ends, [np.log(10), 0.0], atol=1e-12)
    with pytest.raises(ValueError, match="two classes"):
        entropy_lower_bound(np.array(0.5), 1)


def test_two_classes_at_kappa_one():
    """Adaptive integrals over the log-odds z, normal with mean 2 kappa and variance 4 kappa."""

    def average(function):
        def integrand(z):
            density = mpmath.npdf(z, 2, 2)
            return density * function(1 / (1 + mpmath.exp(-z)))

        return float(mpmath.quad(integrand, [-30, -10, 0, 2, 10, 40]))

    entropy = average(lambda p: -p * mpmath.log(p) - (1 - p) * mpmath.log1p(-p))
    phi = average(lambda p: p**2 + (1 - p) ** 2)
    lower, upper = (
        float(bound(np.array(phi), 2)) for bound in (entropy_lower_bound, entropy_upper_bound)
    )
    np.testing.assert_allclose([lower, entropy, upper], [0.3116, 0.3563, 0.3846], atol=5e-5)


@pytest.mark.parametrize("num_classes", [3, 10, 100])
def test_extremal_distributions_reach_the_bounds(num_classes):
    """One large weight and equal others; their averages over states fill the concave hull."""
    large = np.linspace(1 / num_classes, 1, 200)
    rest = (1 - large) / (num_classes - 1)
    p = np.c_[large, np.repeat(rest[:, None], num_classes - 1, 1)]
    phi, entropy = (p**2).sum(1), -xlogy(p, p).sum(1)
    assert np.all(entropy_upper_bound(phi, num_classes) >= entropy - 1e-6)
    # Averages over pairs of them reach it: every chord at a few agreements.
    for wanted in np.quantile(phi, [0.1, 0.3, 0.6, 0.9]):
        i, j = np.flatnonzero(phi <= wanted), np.flatnonzero(phi > wanted)
        share = (phi[j] - wanted) / (phi[j] - phi[i, None])
        chords = share * entropy[i, None] + (1 - share) * entropy[j]
        assert float(entropy_upper_bound(np.array(wanted), num_classes)) == pytest.approx(
            chords.max(), abs=1e-3
        )
    # Two states in turn: averages of the pair stay inside.
    i, j = np.random.default_rng(0).integers(200, size=(2, 500))
    for share in (0.2, 0.7):
        mixed = share * phi[i] + (1 - share) * phi[j]
        average = share * entropy[i] + (1 - share) * entropy[j]
        assert np.all(entropy_upper_bound(mixed, num_classes) >= average - 1e-6)
        assert np.all(entropy_lower_bound(mixed, num_classes) <= average + 1e-9)


@pytest.mark.parametrize("phi", [1.0, 0.75, 0.1, 0.09])
def test_a_sampled_agreement_is_never_certain(phi):
    """At the ends of the range the bounds are flat on one side, and clipped beyond."""
    for bound in entropy_bounds(Estimate(phi, 0.01, 9.0), 10):
        assert float(bound.stderr) > 0.01
        assert bound.dof == 9
