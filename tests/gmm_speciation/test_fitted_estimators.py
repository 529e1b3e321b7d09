"""Fitted classes, calibrated classifiers and mixed neighbours, against dense numpy, scipy and plain loops."""

import tracemalloc

import numpy as np
import pytest
from scipy.special import digamma, log_softmax
from scipy.stats import gaussian_kde, multivariate_normal

from gmm_speciation import families
from gmm_speciation.estimators import Access, problem_of
from gmm_speciation.estimators.classifiers import best_temper, cross_entropy, inner_folds, temper
from gmm_speciation.estimators.gaussians import Gaussians
from gmm_speciation.estimators.registry import CLAIMING, ESTIMATORS, LEARNED
from gmm_speciation.exact import binary_entropy


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("dim", [3, 60])
@pytest.mark.parametrize("noise", [(1.0, 0.0), (0.6, 0.8), (1e-4, 1.0)])
def test_fitted_classes_are_those_of_ledoit_and_wolf(shared, dim, noise):
    """More and fewer samples than dimensions, against scikit-learn's covariance and scipy's dense density."""
    from sklearn.covariance import ledoit_wolf

    rng = np.random.default_rng(3)
    labels = np.arange(48) % 3
    x = rng.normal(size=(48, dim)) * np.linspace(0.3, 2, dim) + 0.7 * labels[:, None] + 5
    prior = np.array([0.5, 0.3, 0.2])
    alpha, sigma = noise
    means = np.stack([x[labels == c].mean(0) for c in range(3)])
    residuals = x - means[labels]
    groups = [residuals] * 3 if shared else [residuals[labels == c] for c in range(3)]
    states = alpha * x[::5] + sigma * rng.normal(size=x[::5].shape)
    joint = [
        multivariate_normal.logpdf(
            states,
            alpha * mean,
            alpha**2 * ledoit_wolf(own, assume_centered=True)[0] + sigma**2 * np.eye(dim),
        )
        for mean, own in zip(means, groups, strict=True)
    ]
    expected = log_softmax(np.stack(joint, 1) + np.log(prior), 1)
    found = Gaussians(x, labels, prior, shared).log_posterior(states, alpha, sigma)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_known_noise_beats_what_is_fitted_to_noisy_states():
    """In 256 dimensions clean states fit the classes to a hundredth of log 2, noisy ones do not."""
    kappas = np.array([4.0, 1.0, 0.3])
    levels = np.log(kappas / (256 - kappas))
    exact = np.asarray(binary_entropy(kappas))
    error = {}
    for name, access in (
        ("lda", Access.NOISY),
        ("lda", Access.CLEAN),
        ("lda-known-noise", "clean"),
    ):
        problem = problem_of(families.symmetric_pair(256), levels, 256, access=Access(access))
        found = np.asarray(ESTIMATORS[name]().curve(problem).entropy.value)
        error[name, str(access)] = np.abs(found - exact).max()
    assert error["lda-known-noise", "clean"] < 0.02 < 0.05 < error["lda", "clean"]
    assert error["lda", "clean"] < error["lda", "noisy"]


def test_a_temperature_is_found_and_what_knows_nothing_says_the_prior():
    rng = np.random.default_rng(0)
    prior = np.array([0.7, 0.2, 0.1])
    logits = rng.normal(size=(20000, 3)) + np.log(prior)
    true = log_softmax(logits, 1)
    labels = (rng.random((20000, 1)) > np.cumsum(np.exp(true), 1)).sum(1)
    marginal = np.bincount(labels, minlength=3) / 20000
    # Twice as sure as it should be, about the prior.
    sure = log_softmax(2 * true - np.log(marginal), 1)
    beta, loss = best_temper(sure, labels, marginal)
    assert beta == pytest.approx(0.5, abs=0.03)
    assert loss == pytest.approx(cross_entropy(true, labels), abs=1e-3)
    np.testing.assert_allclose(temper(sure, 0.5, marginal), true, atol=1e-9)
    ignorant = log_softmax(3 * rng.normal(size=(20000, 3)), 1)
    beta, loss = best_temper(ignorant, labels, marginal)
    assert beta < 0.02
    assert loss == pytest.approx(-np.sum(marginal * np.log(marginal)), abs=2e-3)


def test_noises_of_a_state_stay_together():
    labels = np.tile(np.arange(30) % 2, 4)
    fold = inner_folds(labels, 4, 3, np.random.default_rng(0))
    np.testing.assert_array_equal(fold.reshape(4, 30), np.tile(fold[:30], (4, 1)))


def authors_mixed_ksg(x, labels, k):
    """As Gao and others' program reads, point by point; labels at distance infinity."""
    x = x / x.std(0)
    n, total = len(x), 0.0
    for i in range(n):
        of_x = np.abs(x - x[i]).max(1)
        of_y = np.where(labels == labels[i], 0.0, np.inf)
        rho = np.sort(np.maximum(of_x, of_y))[k]  # the point itself comes first
        near_x, near_y = np.sum(of_x < rho), np.sum(of_y < rho)
        total += digamma(k) + np.log(n) - digamma(near_x) - digamma(near_y)
    return total / n


@pytest.mark.parametrize("dim", [1, 3])
def test_mixed_neighbours_are_the_authors(dim):
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, 150)
    x = rng.normal(size=(150, dim)) * np.linspace(1, 5, dim) + labels[:, None]
    found = ESTIMATORS["ksg"]().level(x, labels, np.full(3, 1 / 3), rng)
    assert float(found.value) == pytest.approx(
        np.log(3) - authors_mixed_ksg(x, labels, 3), abs=1e-9
    )


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name not in LEARNED])
def test_what_claims_an_interval_is_in_the_table_of_coverage(name):
    problem = problem_of(
        families.symmetric_pair(4), [1.0, -1.0], 64, access=ESTIMATORS[name].boards()[-1]
    )
    outcome = ESTIMATORS[name]().curve(problem)
    assert outcome.has_interval == (name in CLAIMING)


@pytest.mark.parametrize("name", ["ross", "ksg", "kde", "kde-loo"])
@pytest.mark.parametrize("dim", [2, 12])
def test_memory_of_distances_grows_with_samples_not_with_pairs(name, dim, rng):
    """All 8,000 x 8,000 distances are 512 MB."""
    labels = np.arange(8000) % 2
    x = rng.normal(size=(8000, dim)) + labels[:, None]
    tracemalloc.start()
    ESTIMATORS[name]().level(x, labels, np.full(2, 0.5), rng)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6


@pytest.mark.parametrize("leave_out", [False, True])
def test_kernel_densities_are_scipys(leave_out, rng):
    """Point by point in one dimension, far from the origin; labels in no order, classes of unequal sizes."""
    labels = rng.choice(3, 200, p=[0.5, 0.3, 0.2])
    x = 1e6 + rng.normal(size=200) * (1 + labels) + 2 * labels
    prior = np.array([0.6, 0.3, 0.1])
    entropy = []
    for i in range(200):
        log_density = np.empty(3)
        for c in range(3):
            own = x[labels == c]
            width = own.std() * len(own) ** -0.2
            seen = x[(labels == c) & (np.arange(200) != i)] if leave_out else own
            kernel = gaussian_kde(seen, width / seen.std(ddof=1))
            log_density[c] = kernel.logpdf(x[i])[0]
        entropy.append(-log_softmax(log_density + np.log(prior))[labels[i]])
    found = ESTIMATORS["kde-loo" if leave_out else "kde"]().level(x[:, None], labels, prior, rng)
    assert float(found.value) == pytest.approx(np.mean(entropy), abs=1e-8)
