"""Clones: their agreement is that of two draws from the posterior, and it bounds the entropy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from oracle import draw, ten_classes

import gmm_speciation as gs
import model_bridges as mb
from gmm_speciation.entropy import clone_agreement
from model_bridges.entropy.clones import CloneJob, naming_levels
from model_bridges.entropy.problem import problem
from model_bridges.runs.jobs import collect


def clones(denoiser, mixture, num_images, **options):
    x0, labels = draw(mixture, num_images, seed=5)
    given = problem(
        denoiser,
        x0,
        labels,
        sigmas=[0.35, 0.7, 1.4],
        partitions={"classes": list(range(10)), "parity": [0, 1] * 5},
        max_batch=16_384,
    )
    work = CloneJob(given, **options)
    return work, collect(work)


def test_a_range_that_begins_where_classes_are_told_apart_is_no_range_for_clones():
    """Their own slope says little of what is left out; the pilot's rate does, as of tracking."""
    means = np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    mixture = gs.GaussianMixture.isotropic(means, 0.1, [0.2, 0.3, 0.5])
    x0, labels = draw(mixture, 100, seed=0)
    narrow = dataclasses.replace(mb.mixture_denoiser(mixture), sigma_range=(1.0, 2.0))
    with pytest.warns(mb.TrustWarning, match="information beyond the noisiest level"):
        curve = mb.entropy_curve(narrow, x0, labels, estimator="clones")
    assert not curve.trust.ok
    with pytest.raises(ValueError, match=r"`sigmas` must lie in the trained range \[1, 2\]"):
        mb.entropy_curve(narrow, x0, labels, estimator="clones", sigmas=np.geomspace(0.02, 2, 9))


def check(work, merged, mixture, tolerance):
    for name, partition in work.problem.partitions.items():
        found = work.agreement(merged, name)
        options = {"partition": partition, "num_samples": 16_384, "key": jax.random.key(1)}
        truth = [
            float(clone_agreement(mixture, jnp.asarray(level), **options).value)
            for level in found.curve.log_snr
        ]
        low, high = found.agreement.interval(0.999)
        assert np.all((low - tolerance < truth) & (truth < high + tolerance)), name
        entropy = gs.entropy_curve(
            mixture, found.curve.log_snr, method="monte-carlo", **options
        ).entropy
        below, above = found.lower.interval(0.999)[0], found.upper.interval(0.999)[1]
        assert np.all((below - tolerance < entropy.value) & (entropy.value < above + tolerance))
        below, above = found.curve.entropy.interval()  # of the middle of the bounds
        assert np.all((below - tolerance < entropy.value) & (entropy.value < above + tolerance))
    return found


def test_agreement_is_that_of_the_exact_posterior():
    """Up to the sampler's step, which its own check bounds."""
    mixture = ten_classes("isotropic")
    work, merged = clones(mb.mixture_denoiser(mixture), mixture, 96, num_steps=48, check_steps=True)
    found = check(work, merged, mixture, 0.02)
    assert np.all(np.abs(found.step_error.value) < 4 * found.step_error.stderr + 0.04)
    assert "clones" in found.curve.method
    assert np.all(np.diff(found.curve.log_snr) < 0)


def test_classes_that_differ_in_covariance_are_named_as_they_are():
    """Levels where most is gained alone leave steps in which their spreads part, and names go wrong."""
    mixture = gs.GaussianMixture.isotropic(2 * np.eye(3, 4), [0.1, 0.2, 0.3])
    x0, labels = draw(mixture, 160, seed=6)
    given = problem(
        mb.mixture_denoiser(mixture), x0, labels, sigmas=[0.1, 0.5, 1.2], max_batch=16_384
    )
    work = CloneJob(given)
    (name,) = given.partitions
    found = work.agreement(collect(work), name)
    truth = [
        float(clone_agreement(mixture, jnp.asarray(level), key=jax.random.key(1)).value)
        for level in found.log_snr
    ]
    low, high = found.agreement.interval(0.999)
    assert np.all((low - 0.02 < truth) & (truth < high + 0.02))
    assert max(truth) > 0.98  # so clean that a wrong name would show


def test_where_nothing_is_gained_names_take_the_whole_range():
    sigmas = np.geomspace(0.01, 100, 24)
    found = naming_levels(sigmas, np.zeros(24))
    np.testing.assert_allclose(found[[0, -1]], [0.01, 100])
    assert np.diff(np.log(found)).max() <= 0.5


@pytest.mark.slow
def test_without_an_unconditional_model_the_classes_run_back_together():
    mixture = ten_classes("isotropic")
    alone = dataclasses.replace(mb.mixture_denoiser(mixture), has_unconditional=False)
    work, merged = clones(alone, mixture, 48, num_steps=40)
    check(work, merged, mixture, 0.03)


@pytest.mark.parametrize(("unconditional", "number"), [(True, 160), (False, 48)])
def test_a_classifier_may_name_the_ends(unconditional, number):
    mixture, asked = ten_classes("isotropic"), []

    def nearest(x):
        asked.append(len(x))
        return np.asarray(gs.log_class_posterior(mixture, jnp.asarray(x.numpy())))

    options = {"classifier": nearest, "classifier_name": "posterior of the mixture"}
    denoiser = dataclasses.replace(mb.mixture_denoiser(mixture), has_unconditional=unconditional)
    work, merged = clones(denoiser, mixture, number, **options)
    check(work, merged, mixture, 0.02)
    assert sum(asked) == 2 * number * len(merged.pilot.totals["branch"])
    assert work.settings()["named_by"] == "posterior of the mixture"


def test_class_weights_other_than_the_models_hold_for_the_runs_too():
    """Two normal classes on a line, whose unconditional model draws both alike."""
    means, variance, weights = np.array([-1.0, 1.0]), 0.1, np.array([0.9, 0.1])

    def each(x, sigma):  # of both classes: the posterior mean, and the log-density of x
        total = variance + sigma**2
        mean = means + variance / total * (x - means)
        return mean, -((x - means) ** 2) / (2 * total)

    def network(x, sigma, label):
        mean, log_density = (
            torch.from_numpy(part) for part in each(x.numpy(), sigma[:, None].numpy())
        )
        if label is None:
            return (mean * torch.softmax(log_density, 1)).sum(1, keepdim=True)
        return mean.gather(1, label[:, None])

    levels = np.array([0.5, 1.0, 2.0])
    denoiser = mb.from_x0(
        network, num_classes=2, event_shape=(1,), sigma_range=(0.05, 20.0), dtype=torch.float64
    )
    rng = np.random.default_rng(3)

    def drawn(count):
        labels = rng.choice(2, count, p=weights)
        return means[labels, None] + variance**0.5 * rng.standard_normal((count, 1))

    job = CloneJob(problem(denoiser, drawn(400), sigmas=levels, prior=weights), num_steps=48)
    found = job.agreement(collect(job), "classes")
    truth = []
    for sigma in found.sigmas:
        x = drawn(200_000)
        odds = weights * np.exp(each(x + sigma * rng.standard_normal(x.shape), sigma)[1])
        truth.append(np.mean(np.sum((odds / odds.sum(1, keepdims=True)) ** 2, 1)))
    low, high = found.agreement.interval(0.999)
    assert np.all((low - 0.02 < truth) & (truth < high + 0.02))
    own = dataclasses.replace(denoiser, class_prior=(0.5, 0.5))
    with pytest.raises(ValueError, match="another `prior`"):
        mb.entropy_curve(own, drawn(4), estimator="gap-unconditional", prior=weights)
