"""Exact identities along guided trajectories, for any model."""

import warnings

import jax
import numpy as np
import pytest
import torch
from controlled import law, turns

from gmm_speciation import GaussianMixture, entropy_curve
from gmm_speciation.estimate import Estimate
from gmm_speciation.guidance import GuidedCurve, guided_curve
from model_bridges.control.guided import (
    GuidedRun,
    commitment,
    commitments,
    constant,
    guided_run,
    limited,
)
from model_bridges.control.information import ratio
from model_bridges.denoisers.base import Unconditional, Wrapped
from model_bridges.denoisers.mixture import mixture_denoiser
from model_bridges.guidance import ClassifierFree, Guided, Interval
from model_bridges.tracking.generated import generated_posterior


class Inconsistent(Wrapped):
    """Classes of one law, the whole of another one: a model that nothing trained well."""

    def __init__(self, classes, whole):
        self.denoiser, self.whole = classes, whole

    def _of(self, label):
        return self.whole if isinstance(label, Unconditional) else self.denoiser

    def raw(self, x, sigma, label):
        return self._of(label).raw(x, sigma, label)

    def __call__(self, x, sigma, label):
        return self._of(label)(x, sigma, label)


def inconsistent():
    wrong = GaussianMixture.isotropic([[1.0, 1.0], [-1.0, 2.0]], 1.5, [0.7, 0.3])
    return Inconsistent(mixture_denoiser(law()), mixture_denoiser(wrong))


# Guided trajectories


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("model", ["exact", "inconsistent"])
def test_the_identity_of_guided_information_holds_for_any_model(model, scale):
    """E[d log P] = (2w - 1) (1/sigma'^2 - 1/sigma^2) / 2 E|D_c - D_u|^2, whatever the steps."""
    denoiser = mixture_denoiser(law()) if model == "exact" else inconsistent()
    sigmas = np.geomspace(0.1, 20, 10)  # coarse: nothing is to vanish with the step
    run = guided_run(
        denoiser, constant(scale), turns(1200), sigmas, scales=np.full(10, scale), max_batch=10_000
    )
    assert abs(run.balance.value) < 4 * run.balance.stderr
    # It tells the scale: with another one in place, half the squared distance of the denoisers is left.
    other = guided_run(
        denoiser,
        constant(scale),
        turns(1200),
        sigmas,
        scales=np.full(10, scale + 0.5),
        max_batch=10_000,
    )
    assert abs(other.balance.value) > 8 * other.balance.stderr


def test_scale_one_half_keeps_log_p_and_larger_ones_raise_it():
    sigmas = np.geomspace(0.1, 20, 10)
    gained = {}
    for scale in (0.5, 1.0, 2.0):
        # Scales of 1/2 in the identity leave log P gained alone.
        run = guided_run(
            inconsistent(), constant(scale), turns(1200), sigmas, scales=np.full(10, 0.5)
        )
        gained[scale] = run.balance
    assert abs(gained[0.5].value) < 4 * gained[0.5].stderr
    assert gained[1.0].value > 8 * gained[1.0].stderr
    assert gained[2.0].value > gained[1.0].value


def extrapolated(denoiser, scale, labels, sigma_max, sigma_min, num=31):
    """Cross-entropies at `num` levels, noise first, free of the first order in the step: 2 fine - coarse."""
    found = []
    for levels, seed in ((num, 1), (2 * num - 1, 2)):
        sigmas = np.geomspace(sigma_min, sigma_max, levels)
        run = guided_run(denoiser, constant(scale), labels, sigmas, seed=seed, max_batch=10**6)
        found.append(run.curve.cross_entropy[:: (levels - 1) // (num - 1)])
    coarse, fine = found
    value = 2 * np.asarray(fine.value) - np.asarray(coarse.value)
    error = np.hypot(2 * np.asarray(fine.stderr), np.asarray(coarse.stderr))
    return np.geomspace(sigma_max, sigma_min, num), value, error


def test_unguided_cross_entropy_is_the_conditional_entropy_of_the_class():
    mixture = GaussianMixture.isotropic([[-2.0, 0.0], [2.0, 0.0], [0.0, 3.0]], 0.5, [1 / 3] * 3)
    labels = turns(1800, 3)
    sigma, value, error = extrapolated(mixture_denoiser(mixture), 1.0, labels, 100.0, 0.3)
    grid = np.sort(-2 * np.log(sigma))[::-1]
    curve = entropy_curve(mixture, grid, num_samples=2**13, key=jax.random.key(0))
    wanted, known = (np.asarray(a)[::-1] for a in (curve.entropy.value, curve.entropy.stderr))
    error = np.hypot(error, known)
    print(f"largest deviation {np.abs(value - wanted).max():.4f} nats, error {error.max():.4f}")
    np.testing.assert_array_less(np.abs(value - wanted), 4 * error + 2e-3)
    assert error.max() < 0.05


@pytest.mark.parametrize("scale", [2.0, 0.5])
def test_two_classes_follow_the_equation_of_guided_information(scale):
    """In the clock kappa = |m|^2 / (s^2 + sigma^2), whatever the variance and the dimension."""
    mean, variance = np.array([[1.2, -0.5, 0.3]]), 0.4
    pair = GaussianMixture.isotropic(np.concatenate([mean, -mean]), variance, [0.5, 0.5])
    sigma, value, error = extrapolated(mixture_denoiser(pair), scale, turns(2400, 2), 60.0, 0.3)
    kappa = (mean**2).sum() / (variance + sigma**2)
    wanted = np.asarray(guided_curve(scale, kappa).cross_entropy.value)
    print(f"w = {scale:g}: largest deviation {np.abs(value - wanted).max():.4f}, {error.max():.4f}")
    np.testing.assert_array_less(np.abs(value - wanted), 4 * error + 2e-3)


def test_an_interval_has_its_scale_inside_and_leaves_the_start_alone():
    sigmas, labels, denoiser = np.geomspace(0.1, 20, 14), turns(1200), inconsistent()
    scales = np.where((sigmas > 0.5) & (sigmas <= 3.0), 2.0, 1.0)
    run = guided_run(
        denoiser,
        lambda c: Interval(ClassifierFree(c, 2.0), 0.5, 3.0),
        labels,
        sigmas,
        scales=scales,
    )
    assert abs(run.balance.value) < 4 * run.balance.stderr
    plain = guided_run(denoiser, constant(1.0), labels, sigmas, scales=np.ones(14))
    # A level reached by steps from above the interval alone is the unguided one: the noise is the same.
    before = np.flatnonzero(sigmas[::-1] > 3.0)[-1] + 1
    np.testing.assert_array_equal(run.losses[: before + 1], plain.losses[: before + 1])
    assert np.abs(run.losses[before + 1] - plain.losses[before + 1]).max() > 1e-3
    assert run.losses[-1].mean() < plain.losses[-1].mean()
    # Kinds without a constant scale have no identity.
    assert guided_run(denoiser, constant(1.0), labels[:8], sigmas).imbalance is None


def test_an_interval_between_two_levels_says_that_it_does_nothing():
    sigmas, labels, denoiser = np.array([0.1, 1.0, 4.0]), turns(4), mixture_denoiser(law())
    idle, busy = limited(2.0, 1.5, 3.0), limited(2.0, 0.5, 3.0)
    for draw in (
        lambda kind: guided_run(denoiser, kind, labels, sigmas),
        lambda kind: generated_posterior(
            denoiser, 4, labels=labels, sigmas=sigmas, generator=Guided(denoiser, kind(labels))
        ),
    ):
        with pytest.warns(UserWarning, match=r"No level of this run lies in \(1.5, 3\]"):
            draw(idle)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "No level of this run")
            draw(busy)


def run_of(losses, sigma):
    """A run with these losses, noise first, of a prior of log 10."""
    log_snr = -2 * np.log(sigma)
    curve = GuidedCurve(
        log_snr,
        Estimate.from_samples(losses, 1),
        Estimate.from_samples(losses, 1),
        Estimate.from_samples(np.exp(-losses), 1),
        np.log(10),
        "log_snr",
        "made",
    )
    named = losses[-1] < np.log(2)
    return GuidedRun(curve, losses, None, named, torch.zeros(losses.shape[1], 1))


def test_commitment_of_a_step_is_its_place():
    log_sigma = np.linspace(4, -4, 801)
    places = np.array([-2.0, -0.5, 0.3, 1.7])
    losses = np.log(10) * (log_sigma[:, None] > places[None]).astype(float)
    run = run_of(losses, np.exp(log_sigma))
    np.testing.assert_allclose(commitments(run), places, atol=0.0051)
    np.testing.assert_allclose(commitment(run).value, places.mean(), atol=0.0051)
    # Any curve: moved by a shift, it commits by that much earlier.
    smooth = [np.log(10) / (1 + np.exp(-4 * (log_sigma[:, None] - [[a, a]]))) for a in (0.2, 0.9)]
    early, late = (commitments(run_of(s, np.exp(log_sigma))) for s in reversed(smooth))
    np.testing.assert_allclose(early - late, 0.7, atol=1e-6)


# Information


def test_ratio_of_paired_means_and_its_error(rng):
    """Against the spread of many ratios; 400 of them know it to 4 %."""

    def pairs():
        common = rng.normal(size=150)
        return 2 + common + 0.5 * rng.normal(size=150), 5 + 2 * common + rng.normal(size=150)

    found = [ratio(*pairs()) for _ in range(400)]
    above, below = pairs()
    np.testing.assert_allclose(ratio(above, below).value, above.sum() / below.sum(), rtol=1e-12)
    spread = np.std([float(one.value) for one in found])
    error = np.sqrt(np.mean([float(one.stderr) ** 2 for one in found]))
    np.testing.assert_allclose(error, spread, rtol=0.15)
    same = ratio(above, above)
    assert (same.value, same.dof) == (1, 149)
    assert same.stderr < 1e-12
