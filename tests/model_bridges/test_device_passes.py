"""Every pass over a model stays on the model's device, and its numbers are the host's."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from controlled import judged_mixture
from elsewhere import DEVICE, Watched, elsewhere, host

import model_bridges as mb
from gmm_speciation import GaussianMixture
from model_bridges.control.guided import constant, guided_run
from model_bridges.denoisers.counted import CountingDenoiser
from model_bridges.denoisers.devices import place
from model_bridges.entropy.measure import measure
from model_bridges.entropy.own_samples import SamplingJob
from model_bridges.entropy.problem import probe, problem
from model_bridges.images.sets import ImageSet, Parts
from model_bridges.runs.folder import run_job
from model_bridges.samplers import karras_sigmas, sample
from model_bridges.studied import study_denoiser


def law():
    return GaussianMixture.isotropic([[-3.0, 0.0], [0.0, 1.0], [3.0, 0.0]], 0.5, [0.5, 0.2, 0.3])


def subject():
    return mb.mixture_denoiser(law(), sigma_range=(0.02, 20.0))


def data(num=6):
    labels = torch.arange(num) % 3
    rng = np.random.default_rng(5)
    x0 = np.asarray(law().means)[labels] + np.sqrt(0.5) * rng.normal(size=(num, 2))
    return torch.from_numpy(x0), labels


LEVELS = np.geomspace(0.05, 15, 9)


def tracked(denoiser):
    x0, labels = data()
    pairs = {"pairs": [0, 0, 1], "class": [0, 1, 2]}
    record = mb.track(denoiser, x0, labels, sigmas=LEVELS, partitions=pairs, num_paths=2)
    chains = (record.fine, record.coarse)
    return [
        *(values for c in chains for values in (c.log_posterior, c.bayes_gap, c.excess)),
        record.group_gap("pairs"),
        record.label_error,
        record.labelled_gap,
        record.log_ratio,
    ]


def generated(denoiser):
    record, ends = mb.generated_posterior(denoiser, 7, sigmas=LEVELS, max_batch=4)
    free, _ = mb.generated_posterior(denoiser, 3, labels=mb.UNCONDITIONAL, sigmas=LEVELS)
    return record.log_posterior, ends, free.log_posterior


def sampled(denoiser):
    levels, label = karras_sigmas(9, 0.05, 15.0), torch.tensor([0, 1, 2, 1])
    generator = torch.Generator().manual_seed(3)
    return [
        sample(denoiser, (4, 2), levels, label, generator=generator, method=method)
        for method in ("ancestral", "probability-flow")
    ]


def own_samples(denoiser):
    job = SamplingJob(CountingDenoiser(denoiser), 6, num_steps=6)
    return [job.images(run_job(job, None)).images]


def estimated(names, without=False):
    """Curves of estimators; `without` an unconditional part, as a model of some classes has none."""

    def run(denoiser):
        x0, labels = data()
        if without:
            denoiser = mb.ClassSubset(denoiser, (0, 1, 2), (0.5, 0.2, 0.3))
        given = problem(denoiser, x0, labels, sigmas=LEVELS, chunk_size=3)
        result = measure(given, names, clone_steps=5)
        curves = next(iter(result.variables.values())).curves
        assert set(curves) == set(names)
        return [part.value for c in curves.values() for part in (c.entropy, c.rate)]

    return run


def guided(denoiser):
    _, labels = data(6)
    tracked = mb.guidance.TrackedClasses(1, torch.tensor([0.5, 0.2, 0.3]).log())
    kinds = {
        "classifier-free": mb.guidance.ClassifierFree(labels, 2.0),
        "interval": mb.guidance.Interval(mb.guidance.ClassifierFree(1, 2.5), 0.3, 3.0),
        "negative": mb.guidance.NegativePrompt(1, 0.8),
        "safe latent": mb.guidance.SafeLatent(1, 5.0),
        "dynamic": mb.guidance.DynamicNegative(1, 0.7, tracked),
        "published": mb.guidance.DynamicNegative.tracked(1),
        "feedback": mb.guidance.Feedback.tracked(labels, num_steps=8),
    }
    levels = karras_sigmas(8, 0.05, 15.0)
    found = []
    for kind in kinds.values():
        for method in ("ancestral", "probability-flow"):
            generator = torch.Generator().manual_seed(3)
            found.append(
                sample(denoiser, (6, 2), levels, guidance=kind, generator=generator, method=method)
            )
    run = guided_run(denoiser, constant(1.5), labels, LEVELS, scales=np.full(9, 1.5))
    return [*found, run.losses, run.imbalance]


def studied(denoiser):
    model = judged_mixture()
    return [
        replace(model, denoiser=CountingDenoiser(denoiser)).draw(
            lambda labels: mb.guidance.ClassifierFree(labels, 2.0), 9, sigmas=karras_sigmas(6)
        )
    ]


def cross_checked(denoiser):
    draws = ImageSet.of(*data(48), "states", "draws")
    model = study_denoiser(denoiser, "mixture", data=Parts(draws, draws))
    every = mb.critical_times(model, sigmas=LEVELS)
    result = mb.crosscheck(model.denoiser, model.states(draws), law(), sigmas=LEVELS, partitions={})
    return [
        every.curve.entropy.value,
        result.main.tracked.entropy.value,
        result.pairs.measured.value,
    ]


PASSES = {
    "track": tracked,
    "generated paths": generated,
    "samplers": sampled,
    "samples as a job": own_samples,
    "clones": estimated(["clones"]),
    "clones of some classes": estimated(["clones"], without=True),
    "elbo": estimated(["elbo"]),
    "gaps": estimated(["tracking", "gap", "gap-unconditional", "tracking-ratio"]),
    "sampled gap": estimated(["gap-sampled"]),
    "guidance": guided,
    "a study's draws": studied,
    "a cross-check": cross_checked,
    "probe": lambda denoiser: [probe(CountingDenoiser(denoiser))],
    "levels of a pilot": lambda denoiser: [mb.adaptive_sigmas(denoiser, data()[0], 9)],
    "outputs of all classes": lambda denoiser: [
        mb.class_raw(denoiser, data()[0].to(torch.device(denoiser.device)), level)
        for level in (0.5, 1.0)
    ],
}


@pytest.mark.parametrize("name", PASSES)
def test_every_pass_stays_on_the_device_and_says_the_same(name):
    here = PASSES[name](subject())
    with elsewhere() as mode:
        moved = Watched(place(subject(), DEVICE))
        mode.operations = 0
        there = [host(values) for values in PASSES[name](moved)]
        assert mode.operations > 50
    for one, other in zip(here, there, strict=True):
        assert np.isfinite(other).all()
        np.testing.assert_allclose(other, host(one), rtol=1e-9, atol=1e-12)


def test_a_run_continues_on_another_device(tmp_path):
    def run(denoiser, folder):
        x0, labels = data()
        given = problem(denoiser, x0, labels, sigmas=LEVELS, chunk_size=2)
        curves = measure(given, ["tracking"], run=folder).variables["classes"].curves
        return curves["tracking"].entropy.value

    whole = run(subject(), tmp_path / "whole")
    run(subject(), tmp_path / "both")
    for chunk in sorted((tmp_path / "both").rglob("chunks/*.chunk"))[1:]:
        chunk.unlink()
    with elsewhere() as mode:
        moved = Watched(place(subject(), DEVICE))
        mode.operations = 0
        np.testing.assert_allclose(run(moved, tmp_path / "both"), whole, rtol=1e-9)
        assert mode.operations > 1000
