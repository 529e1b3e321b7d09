"""Pairs of classes and the tree of decisions, where both are known."""

import jax
import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm

import gmm_speciation as gs
import model_bridges as mb
from model_bridges.entropy.pairs import (
    compare_pairs,
    mixture_pairs,
    pairwise_spectral,
    tracked_pairs,
)

LEVELS = np.geomspace(0.05, 60, 24)


def tracked(mixture, num, seed=0, levels=LEVELS, paths=1):
    """Tracked posteriors of draws, the classes in turn."""
    labels = np.arange(num) % mixture.num_components
    key = jax.random.key(seed)
    x0 = mixture.covariance.sample(key, mixture.offsets, jax.numpy.asarray(labels))
    x0 = torch.from_numpy(np.array(x0 + mixture.centre[None]))
    return mb.track(
        mb.mixture_denoiser(mixture),
        x0,
        torch.from_numpy(labels),
        sigmas=levels,
        num_paths=paths,
        seed=seed,
    )


def half_entropy(distance, variance):
    """Log-SNR at which two Gaussians `distance` apart keep half of log 2, by quadrature."""

    def entropy(log_snr):
        kappa = distance**2 / (4 * (variance + np.exp(-log_snr)))

        # log-odds of the true class are N(2 kappa, 4 kappa).
        def h(z):
            l = 2 * kappa + 2 * np.sqrt(kappa) * z
            return norm.pdf(z) * (np.logaddexp(0, -l) + np.exp(-np.logaddexp(0, l)) * l)

        return quad(h, -12, 12, limit=200)[0]

    return brentq(lambda l: entropy(l) - np.log(2) / 2, -15, 15)


@pytest.fixture(scope="module")
def line():
    """Four classes on a line with unequal gaps: six pairs of six distances."""
    means = np.zeros((4, 5))
    means[:, 0] = (0.0, 1.0, 4.0, 12.0)
    return gs.GaussianMixture.isotropic(means, 0.01)


def test_half_entropy_points_of_a_model_and_of_a_mixture_are_those_of_two_gaussians(line):
    """Every pair by quadrature: the other classes do not matter."""
    measured = tracked_pairs(tracked(line, 800))
    theory = mixture_pairs(line, measured.log_snr, measured.classes, num_draws=1000)
    first, second = measured.pairs
    means = np.asarray(line.means)[:, 0]
    truth = np.array([half_entropy(abs(means[a] - means[b]), 0.01) for a, b in zip(first, second)])  # noqa: B905
    for pairs in (measured, theory):
        found, without = pairs.estimate()
        estimate = gs.Estimate.jackknife(found, without)
        assert np.all(np.abs(found - truth) < 4 * np.asarray(estimate.stderr) + 0.03)
        assert np.all(np.asarray(estimate.stderr) < 0.3)


def test_the_error_of_a_half_entropy_point_is_its_scatter(line):
    """Ten sets of images: their scatter is what one of them says, within its chi-square."""
    runs = [tracked_pairs(tracked(line, 120, seed=s)).estimate() for s in range(10)]
    scatter = np.std([found for found, _ in runs], axis=0, ddof=1)
    said = np.sqrt(
        np.mean([np.asarray(gs.Estimate.jackknife(*run).stderr) ** 2 for run in runs], axis=0)
    )
    ratio = float(np.sqrt(np.mean((scatter / said) ** 2)))
    assert 0.6 < ratio < 1.6


def test_slope_and_correlation_of_an_exact_model_are_one(line):
    measured = tracked_pairs(tracked(line, 400, paths=2))
    theory = mixture_pairs(line, measured.log_snr, measured.classes)
    pairs = compare_pairs(measured, theory, line)
    assert abs(float(pairs.slope.value) - 1) < 4 * float(pairs.slope.stderr) + 0.03
    assert float(pairs.correlation.value) > 0.99
    # The spectral law is right up to a constant for equal small variances.
    assert (
        abs(float(pairs.spectral_slope.value) - 1) < 4 * float(pairs.spectral_slope.stderr) + 0.03
    )
    means = np.asarray(line.means)[:, 0]
    np.testing.assert_allclose(
        pairwise_spectral(line, pairs.a, pairs.b),
        [-np.log((means[a] - means[b]) ** 2 / 4) for a, b in zip(pairs.a, pairs.b, strict=True)],
    )


def test_classes_at_one_distance_have_no_slope_on_a_law_of_distances():
    mixture = gs.families.equidistant(3, 4, distance=4.0, variance=0.25)
    measured = tracked_pairs(tracked(mixture, 60))
    pairs = compare_pairs(
        measured, mixture_pairs(mixture, measured.log_snr, measured.classes), mixture
    )
    assert np.ptp(pairs.spectral) < 1e-6
    assert np.isnan(pairs.spectral_slope.value)
    assert np.isnan(pairs.spectral_correlation.value)
    assert np.isfinite(pairs.spectral_residual.value)
    assert "slope not defined" in repr(pairs)


def test_a_class_without_images_is_in_no_pair(line):
    record = tracked(line, 80)
    keep = record.images(np.flatnonzero(record.labels != 2))
    assert tracked_pairs(keep).classes.tolist() == [0, 1, 3]
    one = record.images(np.flatnonzero(record.labels == 2))
    with pytest.raises(ValueError, match="2 to 100 classes of two images"):
        tracked_pairs(one)


def test_a_pair_that_is_never_told_apart_has_no_point():
    means = np.array([[0.0, 0.0], [0.01, 0.0], [3.0, 0.0]])
    mixture = gs.GaussianMixture.isotropic(means, 1.0)
    pairs = tracked_pairs(tracked(mixture, 60, levels=np.geomspace(0.1, 30, 12)))
    found, _ = pairs.estimate()
    assert np.isnan(found[0])
    assert np.isfinite(found[1:]).all()
    tree = mb.decision_tree(pairs, 20)
    assert tree.groups[0] == frozenset([0, 1])
    assert tree.heights[0] == pytest.approx(pairs.log_snr[0])


def test_the_tree_of_a_hierarchical_mixture_is_the_hierarchy():
    """Eight classes in three levels: every fork, in the right order, with support of 95 % and more."""
    mixture, levels = gs.families.hierarchy((2, 2, 2), (16.0, 4.0, 1.0), 4, variance=0.02)
    tree = mb.decision_tree(tracked(mixture, 240), 100)
    wanted = {
        frozenset(np.flatnonzero(np.equal(level.labels, c)).tolist())
        for level in levels
        for c in range(level.num_classes)
    }
    wanted = {group for group in wanted if len(group) > 1} | {frozenset(range(8))}
    assert set(tree.groups) == wanted
    assert np.all(tree.support >= 0.95)
    assert np.all(np.diff(tree.heights) <= 1e-9)
    sizes = [len(group) for group in tree.groups]
    assert sizes == [2, 2, 2, 2, 4, 4, 8]
    words = tree.in_words(list("abcdefgh"))
    assert words.count("(") == 7


def test_classes_without_a_hierarchy_have_forks_without_support():
    """Equidistant classes: whatever fork comes first is chance, and the words are one group."""
    tree = mb.decision_tree(tracked(gs.families.equidistant(6, 6, 3.0), 120), 60)
    assert np.min(tree.support[:-1]) < 0.5
    assert tree.support[-1] == 1
    assert tree.in_words(list("abcdef")).count("(") < 6


def test_pairs_and_tree_print_and_draw_themselves(line):
    record = tracked(line, 80)
    measured = tracked_pairs(record)
    pairs = compare_pairs(measured, mixture_pairs(line, record.log_snr, measured.classes), line)
    tree = mb.decision_tree(measured, num_bootstraps=20)
    text = repr(pairs)
    assert "6 pairs of 4 classes, 6 with a half-entropy point" in text
    lowest, highest = np.argsort(pairs.measured.value)[[0, -1]]
    assert f"λ from {pairs.measured[lowest]} to {pairs.measured[highest]}" in text
    assert f"slope {pairs.slope}, residual {pairs.residual}" in text
    assert repr(tree).startswith(f"DecisionTree({tree.in_words('0123')}; forks at λ = ")
    assert repr(tree).count("support") == 3
    left, right = pairs.plot()
    np.testing.assert_allclose(right.lines[0].get_xdata(), pairs.spectral)
    named = pairs.plot(["a", "b", "c", "d"])[0].texts
    assert {one.get_text()[0] for one in named} <= set("abcd")
    (axes,) = tree.plot(title="mine")
    assert axes.get_title(loc="left") == "mine" or axes.get_title() == "mine"
    assert {one.get_text() for one in axes.texts} >= set("0123")
    assert left.figure is right.figure
