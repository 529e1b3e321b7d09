"""One exact model in four dresses: F-, epsilon-, v- and flow-prediction give one curve.

The networks of every parametrisation are algebraically the same model, so the estimators, which see
raw outputs and coefficients only, must agree to rounding, and with the closed form within their error bars
plus the discretisation bias that they state.
"""

import jax
import numpy as np
import pytest
import torch

import gmm_speciation as gs
import model_bridges as mb
from model_bridges.denoisers.base import UNCONDITIONAL
from model_bridges.denoisers.network import NetworkDenoiser
from model_bridges.denoisers.parametrisation import Schedule
from model_bridges.entropy.clones import CloneJob
from model_bridges.entropy.elbo import ElboJob
from model_bridges.entropy.problem import problem
from model_bridges.entropy.sampled_gap import SampledGapJob
from model_bridges.entropy.tracking import TrackingJob
from model_bridges.runs.jobs import collect

SIGMA_DATA, DIM = 0.5, 4
MEANS = 0.5 * np.random.default_rng(4).normal(size=(3, DIM))
MIXTURE = gs.GaussianMixture.isotropic(MEANS, 0.03, [0.5, 0.3, 0.2])
EXACT = mb.mixture_denoiser(MIXTURE)
COMMON = {
    "num_classes": 3,
    "event_shape": (DIM,),
    "dtype": torch.float64,
    "class_prior": (0.5, 0.3, 0.2),
}


def schedule():
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return np.cumprod(1 - betas)


RANGE = Schedule.from_alphas_cumprod(schedule()).sigma_range


def posterior_mean(x, sigma, label):
    """`D` at states in EDM coordinates; `None` is the unconditional model."""
    return EXACT.raw_function(x, sigma, UNCONDITIONAL if label is None else label)


def native_sigma(step):
    """The noise level of a fractional step, linear in log sigma between the steps."""
    levels = Schedule.from_alphas_cumprod(schedule()).log_sigma
    return torch.from_numpy(np.exp(np.interp(step.numpy(), np.arange(1000), levels)))


def as_f():
    """EDM2's preconditioning: `D = c_skip x + c_out F`."""

    def coefficients(sigma):
        total = sigma**2 + SIGMA_DATA**2
        return SIGMA_DATA**2 / total, sigma * SIGMA_DATA / total.sqrt()

    def raw(x, sigma, label):
        skip, out = (c[:, None] for c in coefficients(sigma))
        return (EXACT.raw_function(x, sigma, label) - skip * x) / out

    return NetworkDenoiser(raw, coefficients, sigma_range=RANGE, outside="accept", **COMMON)


def as_epsilon():
    def network(native, step, label):
        sigma = native_sigma(step)
        x = native * (1 + sigma**2).sqrt()[:, None]
        return (x - posterior_mean(x, sigma, label)) / sigma[:, None]

    return mb.from_epsilon(network, schedule(), **COMMON)


def as_velocity():
    def network(native, step, label):
        sigma = native_sigma(step)
        scale = (1 + sigma**2).sqrt()[:, None]
        x = native * scale
        mean = posterior_mean(x, sigma, label)
        epsilon = (x - mean) / sigma[:, None]
        return epsilon / scale - sigma[:, None] / scale * mean

    return mb.from_velocity(network, schedule(), **COMMON)


def as_flow():
    def network(native, t, label):
        sigma = t / (1 - t)
        x = native * (1 + sigma)[:, None]
        mean = posterior_mean(x, sigma, label)
        return (x - mean) / sigma[:, None] - mean

    return mb.from_flow(network, sigma_range=RANGE, **COMMON)


DRESSES = {"F": as_f, "epsilon": as_epsilon, "v": as_velocity, "flow": as_flow}
NUM_IMAGES = {"tracking": 500, "gap": 500, "elbo": 240, "clones": 160, "gap-sampled": 500}


def curve_and_bias(dress, estimator, num_images):
    """The curve and the discretisation bias that it states, half the gap of its bounds included."""
    x0, component = MIXTURE.sample(jax.random.key(3), num_images)
    x0, labels = (torch.from_numpy(np.array(a)) for a in (x0, component))
    sigmas = np.geomspace(*RANGE, 32) if estimator in ("tracking", "gap") else [0.3, 0.6, 1.2]
    size = max(4, num_images // 16)
    given = problem(
        DRESSES[dress](), x0, labels.long(), sigmas=sigmas, max_batch=100_000, chunk_size=size
    )
    # What x tells at the largest level is left out by all of them.
    top = 2 * float(((MEANS[:, None] - MEANS[None]) ** 2).sum(-1).max()) / RANGE[1] ** 2
    if estimator in ("tracking", "gap"):
        work = TrackingJob(given)
        merged = collect(work)
        bias = np.abs(work.step_error(merged, "classes").value) + top
        return work.curve(merged, "classes", estimator), bias
    if estimator == "clones":
        work = CloneJob(given, check_steps=True, num_steps=40)
        merged = collect(work)
        found = work.agreement(merged, "classes")
        width = (np.asarray(found.upper.value) - np.asarray(found.lower.value)) / 2
        slope = np.abs(np.asarray(found.upper.value)) / (1 - np.asarray(found.agreement.value))
        step = np.abs(found.step_error.value) + np.asarray(found.step_error.stderr)
        return found.curve, width + slope * step + top
    work = {"elbo": ElboJob, "gap-sampled": SampledGapJob}[estimator](given)
    return work.curve(collect(work), "classes"), top


@pytest.mark.parametrize("estimator", NUM_IMAGES)
def test_every_dress_gives_the_curve_of_the_closed_form(estimator):
    curve, bias = curve_and_bias("F", estimator, NUM_IMAGES[estimator])
    truth = gs.entropy_curve(
        MIXTURE, curve.log_snr, method="monte-carlo", num_samples=65_536, key=jax.random.key(1)
    )
    low, high = curve.entropy.interval(0.999)
    value = np.asarray(truth.entropy.value)
    slack = bias + 4 * np.asarray(truth.entropy.stderr)
    assert np.all((low - slack < value) & (value < high + slack)), estimator


@pytest.mark.parametrize("estimator", NUM_IMAGES)
def test_every_dress_gives_the_same_curve_to_rounding(estimator):
    curve, _ = curve_and_bias("F", estimator, 8)
    for dress in ("epsilon", "v", "flow"):
        other, _ = curve_and_bias(dress, estimator, 8)
        np.testing.assert_allclose(other.log_snr, curve.log_snr, atol=1e-9)
        ours, theirs = (np.asarray(c.entropy.value) for c in (curve, other))
        np.testing.assert_allclose(theirs, ours, atol=1e-5)


def test_the_dresses_are_one_model():
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(5, DIM)))
    label = torch.tensor([0, 1, 2, 0, 1])
    for sigma in (0.05, 0.7, 10.0):
        expected = EXACT(x, sigma, label)
        for make in DRESSES.values():
            torch.testing.assert_close(make()(x, sigma, label), expected, rtol=1e-7, atol=1e-7)
