"""Plans: what is counted beforehand is what a run counts, and nothing long begins."""

import json

import jax
import numpy as np
import pytest
import torch
from refusals import refused

import gmm_speciation as gs
import model_bridges as mb
from model_bridges.cli import main
from model_bridges.crosscheck.tracked_job import TrackedJob
from model_bridges.denoisers.base import Wrapped
from model_bridges.denoisers.counted import CountingDenoiser
from model_bridges.entropy.measure import jobs_of
from model_bridges.entropy.plan import Plan, Speed, Work, in_time, planned, probe_speed
from model_bridges.entropy.problem import problem
from model_bridges.runs.folder import run_job


def given(num_images=40, num_classes=5, sigmas=None):
    mixture = gs.families.equidistant(num_classes, 6, 3.0, variance=0.25)
    x, labels = mixture.sample(jax.random.key(1), num_images)
    return problem(
        mb.mixture_denoiser(mixture),
        torch.from_numpy(np.array(x)),
        torch.from_numpy(np.array(labels)),
        sigmas=sigmas,
    )


@pytest.mark.parametrize("kind", ["tracking", "sampled gap", "elbo", "clones"])
def test_what_is_counted_beforehand_is_what_the_run_counts(kind):
    own = given()
    names = {"sampled gap": "gap-sampled"}
    make = lambda p: jobs_of(p, [names.get(kind, kind)], num_paths=2)[kind]  # noqa: E731
    expected = planned(kind, make, own)
    job = make(own)
    # Clones branch at levels that the model's own rate places.
    margin = 0.15 if kind == "clones" else 0
    assert run_job(job, None).evaluations == pytest.approx(expected.total, rel=margin)
    assert expected.chunks == job.num_chunks
    assert expected.beside > 0


def test_the_pass_of_a_crosscheck_is_counted():
    own = given(31, sigmas=np.geomspace(0.02, 80, 11))
    work = planned("tracking", lambda p: TrackedJob(p, 3), own)
    assert work.total == 31 * 3 * 11 * (5 + 1)


def test_a_plan_adds_up_and_whole_chunks_go_to_devices():
    """Ten chunks on four devices take as long as three of them; what comes before is not shared."""
    work = Work("one", 100, 1000, 10, 20.0)
    alone = Plan((work,), Speed("cpu", 8, 50.0, 1, None))
    shared = Plan((work,), Speed("cpu", 8, 50.0, 1, None), devices=4)
    assert alone.total_seconds == pytest.approx(100 / 50 + 1000 / 50 + 20)
    assert shared.total_seconds == pytest.approx(100 / 50 + (1000 / 50 + 20) * 3 / 10)
    assert shared.record()["evaluations"] == 1100
    assert [in_time(s) for s in (0.5, 90.0, 3700.0, 2e6)] == [
        "0.5 s",
        "2 min",
        "1 h 2 min",
        "23.1 days",
    ]


def test_the_probe_ends_in_time_and_keeps_to_its_batch():
    sizes, denoiser = [], given().denoiser.denoiser

    class Watched(Wrapped):
        def __init__(self):
            self.denoiser = denoiser

        def raw(self, x, sigma, label):
            sizes.append(len(x))
            return denoiser.raw(x, sigma, label)

    found = probe_speed(CountingDenoiser(Watched()), 8, seconds=0.3)
    assert max(sizes) == 8
    assert found.evaluations_a_second > 0
    assert found.memory > 0
    sizes.clear()
    probe_speed(CountingDenoiser(Watched()), 8, seconds=600.0)
    # Memory, then speed: done long before the time is over.
    assert sizes == [1, 2, 1, 2, 4, 8, 8, 8]


def test_commands_plan_and_stop(capsys, tmp_path):
    arguments = ["windows", "digits", "--images", "20", "--plan", "--json", "--folder"]
    assert main([*arguments, str(tmp_path / "run")]) == 0
    record = json.loads(capsys.readouterr().out)
    # 32 levels of 20 images, and 24 of the pilot's 16: ten classes and the unconditional network.
    assert record["evaluations"] == (20 * 32 + 16 * 24) * 11
    assert record["seconds"] > 0
    assert not (tmp_path / "run").exists()
    assert main(["crosscheck", "digits", "--images", "20", "--plan", "--generate", "40"]) == 0
    shown = capsys.readouterr().out
    assert f"{40 * 64:,}" in shown  # samples to come
    assert f"{20 * 2 * 40 * 11:,}" in shown
    assert main(["remove", "digits", "--plan", "--kind", "NP", "--images", "40", "--json"]) == 0
    works = json.loads(capsys.readouterr().out)["works"]
    # Unguided at one evaluation a step of 32; NP at two, five strengths and five doublings.
    assert [w["total_evaluations"] // 40 // 32 for w in works.values()] == [1, 20]


def test_guidance_cannot_be_planned(capsys):
    refused(main, ["guidance", "digits", "--plan"], "Plan `windows` or `remove`", capsys)
