"""Checks of a curve: bounds against dense linear algebra, verdicts at their stated rate of false alarms."""

from dataclasses import replace

import numpy as np
import pytest
import test_wrapped_oracle as wrapped
import torch
from oracle import draw
from wrong_models import ERROR, GAINED, LABELS, LEVELS, curve_of, failed

import gmm_speciation as gs
import model_bridges as mb
from gmm_speciation.curves import Batches, EntropyCurve
from gmm_speciation.estimate import Estimate
from gmm_speciation.reporting.trust import Check
from gmm_speciation.shares import Share
from model_bridges.entropy.evidence import Evidence
from model_bridges.entropy.linear_bounds import scalar_bound, wiener_errors
from model_bridges.entropy.problem import problem
from model_bridges.entropy.tracking import TrackingJob
from model_bridges.entropy.trust import trusted
from model_bridges.runs.jobs import collect

# Bounds and verdicts


@pytest.mark.parametrize("num_images", [64, 200])
def test_bounds_are_those_of_dense_algebra(num_images):
    """`tr (1-G) C (1-G) + s^2 tr G^2` on the other half, with scikit-learn's covariance."""
    from sklearn.covariance import LedoitWolf

    rng = np.random.default_rng(0)
    x = 3 + rng.normal(size=(num_images, 24)) @ rng.normal(size=(24, 24)) / 5
    sigmas = np.array([1e-3, 0.3, 50.0])
    found = wiener_errors(torch.from_numpy(x), sigmas)
    halves = np.array_split(np.random.default_rng(0).permutation(num_images), 2)
    for known, tried in (halves, halves[::-1]):
        fitted = LedoitWolf().fit(x[known])
        for level, sigma in enumerate(sigmas):
            gain = fitted.covariance_ @ np.linalg.inv(fitted.covariance_ + sigma**2 * np.eye(24))
            left = (x[tried] - fitted.location_) @ (np.eye(24) - gain).T
            error = (left**2).sum(1) + sigma**2 * np.trace(gain @ gain.T)
            np.testing.assert_allclose(found[level, tried], error, rtol=1e-8)
    variance = x.var(0, ddof=1).mean()
    bound = scalar_bound(x.mean(0), (x**2).sum(1).mean(), num_images, sigmas)
    np.testing.assert_allclose(bound, 24 * variance * sigmas**2 / (variance + sigmas**2))


@pytest.mark.parametrize("num_images", [2, 3, 6])
def test_few_images_resolve_little_and_refuse_nothing(num_images):
    for seed in range(20):
        x0, labels = draw(wrapped.MIXTURE, num_images, seed)
        curve = curve_of(wrapped.EXACT, x0, labels, sigmas=np.geomspace(0.03, 30, 9), seed=seed)
        assert curve.trust.ok, failed(curve)


def test_one_class_of_an_uneven_prior_is_no_miscalibration():
    """All 40 images may be of the class of weight 0.97: their scatter is 0, and that says nothing."""
    means = 0.5 * np.array([[1.0, 0.0], [-1.0, 0.0]])
    mixture = gs.GaussianMixture.isotropic(means, 0.1, [0.97, 0.03])
    x0, labels = draw(mixture, 400, 1)
    of_one = labels == 0
    curve = curve_of(mb.mixture_denoiser(mixture), x0[of_one][:40], labels[of_one][:40])
    assert curve.trust.ok, failed(curve)
    wrong = curve_of(mb.mixture_denoiser(mixture), x0[of_one][:40], 1 - labels[of_one][:40])
    assert any(LABELS in name for name in failed(wrong))


@pytest.mark.parametrize("weight", [0.003, 0.001])
@pytest.mark.parametrize("labelled", [True, False])
def test_a_rare_class_that_did_not_come_is_no_fault(weight, labelled):
    """Of 300 images most often none is of it, and with it goes what it would have gained."""
    means = np.array([[0.0, 0.0], [3.0, 0.0]])
    mixture = gs.GaussianMixture.isotropic(means, 0.25, [1 - weight, weight])
    for seed in range(6):
        x0, labels = draw(mixture, 300, seed)
        given = labels if labelled else None
        curve = curve_of(mb.mixture_denoiser(mixture), x0, given, seed=seed, sigmas=None)
        assert curve.trust.ok, (seed, failed(curve))


def test_few_images_have_no_wiener_filter_and_equal_ones_no_bound():
    assert wiener_errors(torch.zeros(63, 4), LEVELS) is None
    assert wiener_errors(torch.zeros(64, 5000), LEVELS) is None
    assert np.all(wiener_errors(torch.ones(64, 4), LEVELS) == 0)
    np.testing.assert_array_equal(scalar_bound(np.ones(4), 4.0, 64, LEVELS), 0)


@pytest.mark.parametrize("num_images", [64, 400])
def test_no_exact_model_errs_by_more_than_the_bounds(num_images):
    """Of an isotropic Gaussian the scalar bound is the error itself: the hardest case."""
    mixture = gs.GaussianMixture.isotropic(np.zeros((2, 16)), 0.2)
    x0, labels = draw(mixture, num_images, 5)
    curve = curve_of(mb.mixture_denoiser(mixture), x0, labels)
    ratios = [check for check in curve.trust.checks if ERROR in check.name]
    assert len(ratios) == 2
    for check in ratios:
        assert check.measured - check.half_width < 1.02
        assert check.verdict != "no"


@pytest.mark.parametrize("dof", [4, 15])
def test_a_model_at_the_end_of_the_range_is_seldom_refused(dof):
    """Means of Gaussian samples at the very end: at most 1 % "no" for all levels together."""
    rng = np.random.default_rng(2)
    verdicts = []
    for _ in range(4000):
        estimate = Estimate.from_samples(rng.normal(size=(dof + 1, 20)))
        claim = Check.of("", "", "", estimate, np.ones(20), low=-9.0, high=0.0)
        verdicts.append(claim.verdict)
    assert verdicts.count("no") < 0.01 * 4000 + 3 * 40**0.5
    assert verdicts.count("yes") < 20


@pytest.mark.parametrize(
    ("value", "stderr", "verdict", "level"),
    [
        ([0.5, 0.9], [0.01, 0.01], "yes", 1),
        ([0.5, 1.0], [0.01, 0.3], "open", 1),
        ([2.0, 1.5], [0.5, 0.01], "no", 1),
        ([-3.0, 0.5], [0.01, 0.01], "no", 0),
        ([0.5, np.nan], [0.1, np.nan], "no", 1),
    ],
)
def test_verdicts(value, stderr, verdict, level):
    estimate = Estimate(np.array(value), np.array(stderr), 30.0)
    claim = Check.of("a", "0 to 1", "mend it", estimate, np.array([2.0, 3.0]), 0.0, 1.0)
    assert (claim.verdict, claim.sigma) == (verdict, [2.0, 3.0][level])


PAIR = gs.families.symmetric_pair(4, separation=1.0, variance=0.25)  # of distance 4


def beyond(top, estimator="tracking", end=80.0):
    """What the curve of a pair says about the levels above `top`; the model's own end at `end`."""
    x0, labels = draw(PAIR, 256, 2)
    denoiser = mb.mixture_denoiser(PAIR, sigma_range=(0.002, end))
    curve = curve_of(denoiser, x0, labels, sigmas=np.geomspace(0.05, top, 24), estimator=estimator)
    return _beyond(curve)


def _beyond(curve):
    return next(one for one in curve.trust.checks if "beyond" in one.name)


@pytest.mark.parametrize("estimator", ["tracking", "gap", "gap-unconditional", "gap-sampled"])
def test_levels_that_begin_too_late_are_named(estimator):
    """I(C; X) of a pair in one direction, by quadrature of the binary channel in numpy."""
    z = np.linspace(-12, 12, 4001)
    for top, verdict in ((80.0, "yes"), (12.0, "yes"), (1.5, "no"), (0.8, "no")):
        ratio = 4.0 / (0.25 + top**2)  # |mu|^2 over the variance of a coordinate
        weights = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
        lost = weights @ np.logaddexp(0, -2 * (ratio + np.sqrt(ratio) * z))
        information = np.log(2) - lost
        if estimator == "gap-sampled" and top < 1:
            continue  # it knows no posterior: its rate has fallen again, and the check is open
        check = beyond(top, estimator)
        assert check.verdict == verdict, (top, check)
        assert (information > 0.1 * np.log(2)) == (verdict == "no")
        if top > 10 and estimator != "gap-sampled":
            assert check.measured == pytest.approx(information, rel=0.1)


@pytest.mark.parametrize("estimator", ["elbo", "clones"])
def test_what_begins_with_a_posterior_of_its_own_may_begin_anywhere(estimator):
    """It takes the posterior for the prior where the model's noise ends."""
    check = beyond(1.5, estimator)
    assert check.verdict == "yes"
    assert 0 < check.measured < 0.01
    assert beyond(1.5, estimator, end=1.6).verdict == "no"


def test_trajectories_begin_as_noise_alone():
    """Which says nothing of the class, at whatever level; noised images at that level do."""
    sigmas = np.geomspace(0.05, 1.5, 24)
    x0, labels = draw(PAIR, 64, 2)
    given = problem(mb.mixture_denoiser(PAIR), x0, labels, sigmas=sigmas)
    for trajectories, verdict in ((True, "yes"), (False, "no")):
        job = TrackingJob(given, trajectories=trajectories)
        merged = collect(job)
        curve = trusted(job.curve(merged, "classes"), job.evidence(merged, "classes"))
        assert _beyond(curve).verdict == verdict


# The curve itself

GRID = np.linspace(6, -6, 13)
NOTHING = Evidence(np.exp(-GRID / 2), {})


def made(entropy, rate=None):
    rate = np.exp(-(GRID**2)) if rate is None else rate
    noise = 1e-3 * np.random.default_rng(0).normal(size=(8, len(GRID)))
    batches = Batches(entropy + noise, rate + noise)
    values = (Estimate.from_samples(part) for part in (batches.entropy, batches.rate))
    return EntropyCurve(GRID, *values, np.log(2), "made", batches)


def smooth(shift=0.0):
    return np.log(2) / (1 + np.exp(GRID - shift))


@pytest.mark.parametrize(
    ("curve", "name", "verdict", "log_snr"),
    [
        (made(smooth()), "peak", "yes", 0),
        (made(smooth(), np.exp(GRID)), "peak", "no", 6),
        (made(smooth(), np.exp(-GRID)), "peak", "no", -6),
        (made(smooth()), "window", "yes", None),
        (made(np.where(GRID > 0.5, 0.0, np.log(2))), "window", "open", None),
        (made(smooth(-6.0)), "window", "open", None),
        (made(np.full(13, np.log(2))), GAINED, "no", 6),
        (made(np.where(GRID == 3, -0.2, smooth())), "H(C|X)", "no", 3),
        (made(np.where(GRID == -3, 0.9, smooth())), "H(C|X)", "no", -3),
    ],
)
def test_faults_of_a_curve_are_named_with_their_level(curve, name, verdict, log_snr):
    checks = trusted(curve, NOTHING).trust.checks
    (check,) = [check for check in checks if name in check.name]
    assert check.verdict == verdict
    if log_snr is not None:
        assert check.sigma == pytest.approx(np.exp(-log_snr / 2))


def test_negative_cross_entropy_and_undecided_paths_are_named_with_their_level():
    flat = np.full(13, 0.3)
    cross = Estimate(np.where(GRID == 4, -0.5, flat), 0.01 * flat, 15.0)
    undecided = Share.of(Estimate(np.array([0.6]), np.array([0.01]), 15.0), 64)
    found = replace(NOTHING, cross_entropy=cross, undecided=undecided, num_images=64)
    checks = {check.name[:12]: check for check in trusted(made(smooth()), found).trust.checks}
    assert checks["extrapolated"].verdict == "no"
    assert checks["extrapolated"].sigma == pytest.approx(np.exp(-2))
    # Classes may overlap: that is no fault of a model.
    assert checks["paths whose "].verdict == "open"
    assert checks["paths whose "].measured == 0.6


@pytest.mark.parametrize(
    "estimator", ["gap", "gap-unconditional", "gap-sampled", "tracking", "elbo"]
)
def test_entropies_have_what_lies_beyond_the_largest_level_in_their_errors(estimator):
    """At Stable Diffusion's largest noise 0.012 nats are known already: once a thousand half-widths."""
    mixture = gs.families.equidistant(3, 8, distance=4.0, variance=0.25)
    denoiser = mb.mixture_denoiser(mixture, sigma_range=(0.03, 14.6))
    x0, labels = draw(mixture, 128, seed=2)
    curve = mb.entropy_curve(denoiser, x0, labels, estimator=estimator)
    low, high = curve.entropy.interval()
    exact = np.asarray(gs.class_entropy(mixture, curve.log_snr).value)
    assert np.mean((low <= exact) & (exact <= high)) > 0.9
    noisy = curve.sigma > 5
    assert np.all((low <= exact) & (exact <= high) | ~noisy)
    assert np.all(curve.entropy.stderr[noisy] < 0.05)


def test_a_window_has_what_lies_beyond_the_largest_level_in_its_error():
    mixture = gs.families.equidistant(3, 8, distance=4.0, variance=0.25)
    truth = gs.entropy_curve(mixture, np.linspace(8.0, -14.0, 200)).window()
    x0, labels = draw(mixture, 512, seed=2)
    denoiser = mb.mixture_denoiser(mixture, sigma_range=(0.03, 14.6))
    curve = mb.entropy_curve(denoiser, x0, labels, estimator="gap")
    for found, end in ((curve.window().low, truth.low), (curve.window().high, truth.high)):
        low, high = found.interval()
        assert low <= float(end.value) <= high
    assert curve.window().low.stderr < 0.2
    # Of the same states, so that the bias of both is one: it cancels.
    same = mb.compare_windows(curve, curve)
    assert same.low.value == same.low.stderr == 0
