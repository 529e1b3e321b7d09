"""The gap with adaptive levels: right, with honest errors, and cheaper than even sampling."""

import dataclasses

import jax
import numpy as np
import pytest
from oracle import draw, ten_classes

import gmm_speciation as gs
import model_bridges as mb
from model_bridges.entropy.importance import Proposal
from model_bridges.entropy.problem import problem
from model_bridges.entropy.sampled_gap import SampledGapJob
from model_bridges.runs.jobs import collect, merge

SIGMAS = np.geomspace(0.02, 80, 24)
MIXTURE = ten_classes("isotropic")


def sampled(num_draws, num_strata=64, seed=0, num_images=4000):
    denoiser = mb.mixture_denoiser(MIXTURE, sigma_range=(0.02, 80.0))
    x0, labels = draw(MIXTURE, num_images, seed=5)
    given = problem(denoiser, x0, labels, sigmas=SIGMAS, seed=seed, max_batch=4096)
    return SampledGapJob(given, num_draws=num_draws, num_strata=num_strata)


def test_weights_of_strata_integrate_exactly_what_the_density_is_made_of():
    """`E sum w = ` the length of the interval, for any density; a constant needs no luck."""
    proposal = Proposal.from_shape(np.linspace(0.0, 3.0, 7), np.array([0, 0, 5.0, 1, 0, 0, 2]))
    rng = np.random.default_rng(0)
    places, weights = proposal.stratified(rng.random((4000, 8)))
    assert places.min() >= 0
    assert places.max() <= 3
    assert np.all(np.diff(places, axis=1) > 0)
    sums = (weights * np.sin(places)).sum(1)
    stderr = sums.std() / np.sqrt(len(sums))
    assert abs(sums.mean() - (1 - np.cos(3.0))) < 4 * stderr
    assert proposal.density(places).min() >= 0.1 / 3 - 1e-12
    with pytest.raises(ValueError, match="floor"):
        Proposal.from_shape(np.array([0.0, 1.0]), np.ones(2), 0.0)
    with pytest.raises(ValueError, match="finite, non-negative"):
        Proposal.from_shape(np.array([0.0, 1.0]), np.array([1.0, -1.0]))


def test_two_hundredths_of_a_nat_on_the_whole_curve_for_a_third_of_the_evaluations():
    """Against even sampling of log sigma with a noise of its own for every class: the labelled gap
    of single classes, two evaluations a draw on both sides. Measured: about a quarter of them."""
    work = sampled(400, 128, num_images=48_000)
    pilot = work.pilot()
    chunks = [work.chunk(index, pilot) for index in range(work.num_chunks)]
    curve = work.curve(merge(chunks, work.num_chunks, pilot), "classes")
    truth = gs.entropy_curve(
        MIXTURE, curve.log_snr, method="monte-carlo", num_samples=32_768, key=jax.random.key(1)
    )
    deviation = np.abs(np.asarray(curve.entropy.value) - np.asarray(truth.entropy.value))
    assert np.all(deviation < 4 * np.hypot(curve.entropy.stderr, truth.entropy.stderr) + 0.002)
    assert np.max(deviation) < 0.06
    # Chunks are independent: their variance says what an error of 0.02 costs.
    integrals = np.array([chunk.totals["integral"] for chunk in chunks])
    ours = pilot.evaluations + 2 * 128 * integrals.var(0, ddof=1).max() / 0.02**2
    rng, length = np.random.default_rng(1), np.log(SIGMAS[-1] / SIGMAS[0])
    places = np.log(SIGMAS[0]) + length * rng.random(48_000)
    gaps = work._draws(places, rng.permutation(48_000), rng)["gap"]
    even = 2 * np.var(length * gaps) / 0.02**2
    assert ours < even / 3, f"{ours:.0f} against {even:.0f} evaluations"


def test_rates_are_those_of_the_closed_form():
    work = sampled(128, 128)
    curve = work.curve(collect(work), "classes")
    truth = gs.entropy_curve(
        MIXTURE, curve.log_snr, method="monte-carlo", num_samples=16_384, key=jax.random.key(1)
    )
    deviation = np.abs(np.asarray(curve.rate.value) - np.asarray(truth.rate.value))
    assert np.all(deviation < 4 * np.hypot(curve.rate.stderr, truth.rate.stderr) + 0.03)


def test_errors_are_those_of_repetition():
    ends, stderrs = [], []
    for seed in range(24):
        work = sampled(16, 32, seed)
        curve = work.curve(collect(work), "classes")
        ends.append(curve.entropy.value[8])
        stderrs.append(curve.entropy.stderr[8])
    assert np.std(ends, ddof=1) == pytest.approx(np.sqrt(np.mean(np.square(stderrs))), rel=0.4)


def test_what_it_needs_is_asked_for():
    denoiser = mb.mixture_denoiser(MIXTURE)
    x0, labels = draw(MIXTURE, 8, seed=0)
    with pytest.raises(ValueError, match="pass `labels`"):
        mb.entropy_curve(denoiser, x0, estimator="gap-sampled")
    alone = dataclasses.replace(denoiser, has_unconditional=False)
    with pytest.raises(ValueError, match="needs an unconditional model"):
        mb.entropy_curve(alone, x0, labels, estimator="gap-sampled")
    with pytest.raises(ValueError, match="single classes only"):
        mb.entropy_curve(denoiser, x0, labels, estimator="gap-sampled", partition=[0, 1] * 5)
    given = problem(denoiser, x0, labels)
    with pytest.raises(ValueError, match="at least 2"):
        SampledGapJob(given, num_draws=1)
