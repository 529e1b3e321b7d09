"""Clones: their agreement is that of two draws from the posterior, and it bounds the entropy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracle import draw, ten_classes
from scipy.special import xlogy

import gmm_speciation as gs
import model_bridges as mb
from gmm_speciation.entropy import clone_agreement
from model_bridges.clones import CloneWork
from model_bridges.collisions import entropy_lower_bound, entropy_upper_bound
from model_bridges.problem import problem
from model_bridges.work import collect


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
    assert entropy_upper_bound(np.array(phi), 2) == pytest.approx(0.3894, abs=1e-4)
    # m equal weights touch the lower one; certainty and ignorance both.
    for m in (1, 2, 5, 10):
        assert entropy_lower_bound(np.array(1 / m), 10) == pytest.approx(np.log(m))
    ends = entropy_upper_bound(np.array([0.1, 1.0]), 10)
    np.testing.assert_allclose(ends, [np.log(10), 0.0], atol=1e-12)
    with pytest.raises(ValueError, match="two classes"):
        entropy_lower_bound(np.array(0.5), 1)


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
    work = CloneWork(given, **options)
    return work, collect(work)


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
    return found


def test_agreement_is_that_of_the_exact_posterior():
    """Up to the sampler's step, which its own check bounds."""
    mixture = ten_classes("isotropic")
    work, merged = clones(mb.mixture_denoiser(mixture), mixture, 96, num_steps=48, check_steps=True)
    found = check(work, merged, mixture, 0.02)
    assert np.all(np.abs(found.step_error.value) < 4 * found.step_error.stderr + 0.04)
    assert "clones" in found.curve.method
    assert np.all(np.diff(found.curve.log_snr) < 0)


@pytest.mark.slow
def test_without_an_unconditional_model_the_classes_run_back_together():
    mixture = ten_classes("isotropic")
    alone = dataclasses.replace(mb.mixture_denoiser(mixture), has_unconditional=False)
    work, merged = clones(alone, mixture, 48, num_steps=40)
    check(work, merged, mixture, 0.03)


def test_a_classifier_may_name_the_ends():
    mixture = ten_classes("isotropic")

    def nearest(x):
        return np.asarray(gs.log_class_posterior(mixture, jnp.asarray(x.numpy())))

    options = {"classifier": nearest, "classifier_name": "posterior of the mixture"}
    work, merged = clones(mb.mixture_denoiser(mixture), mixture, 160, **options)
    check(work, merged, mixture, 0.02)
    assert work.settings()["named_by"] == "posterior of the mixture"
