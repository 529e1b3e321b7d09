"""What every method must give on any mixture: weights to 1e-12, variance ratios to 1e8, means 10^3 standard
deviations apart, log-SNR from -20 to 40. Identities only; reference values are in the tests of each rule."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gmm_speciation as gs

# Gauss and Legendre's nodes between whole levels: the integral of the rate over each unit of log-SNR.
NODES, SHARES = np.polynomial.legendre.leggauss(6)
ENDS = np.linspace(40.0, -20.0, 121)
HALF = (ENDS[0] - ENDS[1]) / 2
INSIDE = (ENDS[:-1, None] - HALF - HALF * NODES[None, :]).ravel()
LEVELS = np.concatenate([ENDS, INSIDE])
ORDER = np.argsort(-LEVELS)


@st.composite
def mixtures(draw):
    """Isotropic mixtures: shapes few, so that programs are, values anywhere."""
    num_components, dim = draw(st.sampled_from([(2, 1), (2, 3), (3, 1), (3, 5)]))
    logs = lambda low, high: st.floats(np.log(low), np.log(high))  # noqa: E731
    weights = np.exp([draw(logs(1e-12, 1.0)) for _ in range(num_components)])
    shared = draw(st.booleans())
    scale = np.exp(draw(logs(1e-3, 1e3)))
    variances = np.exp([draw(logs(1e-8, 1.0)) for _ in range(num_components)])
    variances = scale * (variances[0] if shared else variances / variances.max())
    separation = np.exp(draw(logs(1e-2, 1e3))) * np.sqrt(np.max(variances))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    means = rng.standard_normal((num_components, dim))
    if draw(st.integers(0, 5)) == 0:
        means = np.zeros_like(means)
    means *= separation / np.sqrt(dim)
    return gs.GaussianMixture.isotropic(means, variances, weights / weights.sum())


def check_identities(curve, tolerance):
    """Bounds, monotony, and the rate as the derivative of the entropy."""
    back = np.argsort(ORDER)
    entropy, rate = (np.asarray(one.value)[back] for one in (curve.entropy, curve.rate))
    slack = tolerance * (1 + np.asarray(curve.entropy.stderr)[back] / 1e-10)
    prior = curve.prior_entropy
    assert np.all(entropy >= 0)
    assert np.all(entropy <= prior + slack)
    assert np.all(rate >= 0)
    ends = entropy[: len(ENDS)]
    assert np.all(np.diff(ends) >= -slack[1 : len(ENDS)])
    between = rate[len(ENDS) :].reshape(-1, len(NODES)) @ SHARES * HALF
    np.testing.assert_allclose(between, np.diff(ends), rtol=2e-6, atol=2e-8)


def check_methods_agree(mixture, levels):
    """Every method within the errors that the methods state, and the chance of what few draws miss."""
    draws = 2048
    found = {}
    for method in ("auto", "exact", "quasi-monte-carlo", "monte-carlo"):
        try:
            found[method] = gs.class_entropy(mixture, levels, method=method, num_samples=draws)
        except ValueError:
            assert method == "exact"
    best = found.get("exact", found["quasi-monte-carlo"])
    for method, estimate in found.items():
        error = np.hypot(np.asarray(estimate.stderr), np.asarray(best.stderr))
        unseen = 0.0 if method == "exact" else 5.0 / draws  # events rarer than one in n
        difference = np.abs(np.asarray(estimate.value) - np.asarray(best.value))
        assert np.all(difference <= 8 * error + unseen + 1e-9), (method, difference, error)


def check(mixture, levels):
    if gs.entropy_curve(mixture, [40.0, -20.0]).method == "exact":
        curve = gs.entropy_curve(mixture, LEVELS[ORDER])
        assert not np.any(np.asarray(curve.entropy.stderr))
        check_identities(curve, 1e-9)
    check_methods_agree(mixture, levels)


COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True}
NOISE = st.lists(st.floats(-20, 40), min_size=4, max_size=4).map(np.array)


@pytest.mark.usefixtures("optimised")
@settings(max_examples=40, **COMMON)
@given(mixtures(), NOISE)
def test_any_mixture(mixture, levels):
    check(mixture, levels)


@pytest.mark.slow
@pytest.mark.timeout(3600)  # a second or more an example
@settings(max_examples=500, **COMMON)
@given(mixtures(), NOISE)
def test_many_mixtures(mixture, levels):
    check(mixture, levels)
