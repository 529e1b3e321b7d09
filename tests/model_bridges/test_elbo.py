"""ELBO differences: the class posterior at a noisy state, without a path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from oracle import draw, ten_classes

import gmm_speciation as gs
import model_bridges as mb
from model_bridges.entropy.elbo import ElboJob
from model_bridges.entropy.problem import problem
from model_bridges.runs.jobs import collect

PARITY = [0, 1] * 5


def states(mixture, sigma, num=32):
    x0, _ = draw(mixture, num, seed=5)
    noise = np.random.default_rng(3).normal(size=x0.shape)
    return x0 + sigma * torch.from_numpy(noise)


def exact_log_posterior(mixture, x, sigma):
    return np.asarray(gs.log_class_posterior(mixture.perturb(1.0, sigma), jnp.asarray(x.numpy())))


@pytest.mark.parametrize("kind", ["isotropic", "full"])
@pytest.mark.parametrize("sigma", [0.5, 1.5])
def test_the_posterior_of_every_class_is_the_exact_one(kind, sigma):
    """Log-likelihood ratios of all classes within their error bars, at every state."""
    mixture = ten_classes(kind)
    x = states(mixture, sigma)
    found = mb.elbo_posterior(mb.mixture_denoiser(mixture), x, sigma, num_strata=16, rng=1)
    exact = exact_log_posterior(mixture, x, sigma)
    centred = [p - p.mean(1, keepdims=True) for p in (found.log_posterior, exact)]
    deviation = np.sqrt(((centred[0] - centred[1]) ** 2).mean(1))
    # What x tells at sigma_max already is left out: 5e-3 covers it.
    assert np.all(deviation < 4 * found.stderr + 5e-3)
    assert np.mean(deviation < 2 * found.stderr + 5e-3) > 0.85
    np.testing.assert_allclose(np.exp(found.log_posterior).sum(1), 1, atol=1e-12)
    assert found.evaluations == 32 * 16 * 4 * 10


def test_more_draws_approach_the_truth_faster_than_independent_ones():
    """Strata: the error falls like the 3/2 power of their number, not the 1/2 power."""
    mixture, sigma = ten_classes("isotropic"), 1.0
    x, errors = states(mixture, 1.0), []
    exact = exact_log_posterior(mixture, x, sigma)
    for strata in (8, 64):
        found = mb.elbo_posterior(mb.mixture_denoiser(mixture), x, sigma, num_strata=strata, rng=1)
        difference = found.log_posterior - exact
        errors.append((difference - difference.mean(1, keepdims=True)).std())
    assert errors[1] < errors[0] / 8


def test_entropies_and_rates_are_those_of_the_closed_form():
    mixture = ten_classes("isotropic")
    x0, labels = draw(mixture, 96, seed=5)
    given = problem(
        mb.mixture_denoiser(mixture),
        x0,
        labels,
        sigmas=[0.5, 0.9, 1.8],
        partitions={"classes": list(range(10)), "parity": PARITY},
        max_batch=16_384,
    )
    work = ElboJob(given)
    merged = collect(work)
    for name, partition in given.partitions.items():
        curve = work.curve(merged, name)
        truth = gs.entropy_curve(
            mixture,
            curve.log_snr,
            partition=partition,
            method="monte-carlo",
            num_samples=16_384,
            key=jax.random.key(1),
        )
        for ours, exact in ((curve.entropy, truth.entropy), (curve.rate, truth.rate)):
            low, high = ours.interval(0.999)
            value = np.asarray(exact.value)
            assert np.all((low - 0.003 < value) & (value < high + 0.003)), name
        assert np.all(np.asarray(curve.entropy.stderr) < 0.08)
        cross, _ = merged.evaluate(lambda means, name=name: means[f"cross_entropy {name}"])
        low, high = cross.interval(0.999)
        assert np.all((low - 0.003 < truth.entropy.value) & (truth.entropy.value < high + 0.003))


def test_the_noise_of_a_posterior_does_not_lift_the_average_entropy():
    """With one stratum the plug-in entropy is far off; the two halves take most of that away."""
    mixture, sigma = ten_classes("isotropic"), 1.5
    x = states(mixture, sigma, 400)
    found = mb.elbo_posterior(
        mb.mixture_denoiser(mixture), x, sigma, num_strata=3, rng=2, max_batch=16_384
    )
    exact = exact_log_posterior(mixture, x, sigma)

    def entropy(log_p):
        return -(np.exp(log_p) * log_p).sum(-1)

    truth = entropy(exact).mean()
    plain = entropy(found.halves).mean() - truth
    assert abs(found.unbias(entropy).mean() - truth) < 0.35 * abs(plain)


def test_at_the_largest_level_the_posterior_is_the_prior():
    denoiser = mb.mixture_denoiser(ten_classes("isotropic"))
    top = denoiser.sigma_range[1]
    found = mb.elbo_posterior(denoiser, torch.zeros(2, 64, dtype=torch.float64), top)
    np.testing.assert_allclose(np.exp(found.log_posterior), 0.1)
    assert found.evaluations == 0


def test_bad_arguments_are_refused():
    mixture = ten_classes("isotropic")
    denoiser, x = mb.mixture_denoiser(mixture), states(mixture, 1.0, 2)
    with pytest.raises(ValueError, match="the model's largest level"):
        mb.elbo_posterior(denoiser, x, 1e6)
    with pytest.raises(ValueError, match="num_strata"):
        mb.elbo_posterior(denoiser, x, 1.0, num_strata=0)
    with pytest.raises(ValueError, match="sum to 1"):
        mb.elbo_posterior(denoiser, x, 1.0, prior=np.ones(10))


@pytest.mark.parametrize("sigma", [4.0, 10.0, 14.6])
def test_what_is_left_out_beyond_the_largest_level_is_in_the_error(sigma):
    """The largest noise of Stable Diffusion, where x tells the classes apart already."""
    mixture = gs.families.equidistant(3, 8, distance=4.0, variance=0.25)
    x, denoiser = states(mixture, sigma, 60), mb.mixture_denoiser(mixture, sigma_range=(0.03, 14.6))
    found = mb.elbo_posterior(denoiser, x, sigma, num_strata=30)
    exact = exact_log_posterior(mixture, x, sigma)
    centred = [p - p.mean(1, keepdims=True) for p in (found.log_posterior, exact)]
    size = np.sqrt(((centred[0] - centred[1]) ** 2).mean())
    assert 0.7 < size / np.sqrt((found.stderr**2).mean()) < 1.3
