"""Long runs: killed, shared between processes, short of memory or disk, a run ends with the same bits."""

import errno
import json
import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from heard import Heard

from model_bridges.denoisers.counted import CountingDenoiser
from model_bridges.denoisers.network import NetworkDenoiser
from model_bridges.entropy.problem import problem
from model_bridges.entropy.tracking import TrackingJob
from model_bridges.runs import folder as runs
from model_bridges.runs.folder import run_job
from model_bridges.runs.jobs import ChunkSums

NUM_IMAGES, DIM = 40, 3
MEANS = torch.tensor([[0.5, 0.0, 0.0], [-0.5, 0.0, 0.0], [0.0, 0.7, 0.0]], dtype=torch.float64)


def raw(x, sigma, label):
    """Three point-like classes of variance 0.01; torch alone."""
    noise = (sigma**2)[:, None]
    gain = 0.01 / (0.01 + noise)
    own = MEANS[None] + gain[..., None] * (x[:, None] - MEANS[None])
    if isinstance(label, torch.Tensor):
        return own[torch.arange(len(x)), label]
    weights = torch.softmax(-((x[:, None] - MEANS[None]) ** 2).sum(-1) / (2 * (noise + 0.01)), -1)
    return (weights[..., None] * own).sum(1)


def work(seed=0, delay=0.0, function=raw, **options):
    def slow(x, sigma, label):
        time.sleep(delay)
        return function(x, sigma, label)

    denoiser = NetworkDenoiser(
        slow,
        lambda sigma: (torch.zeros_like(sigma), torch.ones_like(sigma)),
        num_classes=3,
        event_shape=(DIM,),
        sigma_range=(0.01, 10.0),
        dtype=torch.float64,
    )
    rng = np.random.default_rng(1)
    labels = torch.from_numpy(rng.integers(3, size=NUM_IMAGES))
    x0 = MEANS[labels] + 0.1 * torch.from_numpy(rng.normal(size=(NUM_IMAGES, DIM)))
    settings = {"sigmas": np.geomspace(0.01, 10, 12), "seed": seed, "chunk_size": 2, **options}
    return TrackingJob(problem(denoiser, x0, labels, **settings))


def same_bits(one, other):
    assert one.counts.tobytes() == other.counts.tobytes()
    assert one.evaluations == other.evaluations
    for mine, theirs in ((one.totals, other.totals), (one.rows, other.rows)):
        assert mine.keys() == theirs.keys()
        assert all(mine[k].tobytes() == theirs[k].tobytes() for k in mine)


class Counting:
    """The smallest work: every chunk is a vector of random numbers, after a while."""

    def __init__(self, seed=0, delay=0.0, num_chunks=24, fail=None):
        self.seed, self.delay, self.num_chunks, self.fail = seed, delay, num_chunks, fail

    def settings(self):
        return {"work": "counting", "seed": self.seed, "chunks": self.num_chunks}

    def pilot(self):
        return ChunkSums(
            0, {"start": np.random.default_rng(self.seed).normal(size=3)}, evaluations=5
        )

    def chunk(self, index, pilot):
        time.sleep(self.delay)
        if self.fail is not None and index == self.fail:
            raise RuntimeError("CUDA error: device-side assert triggered")
        values = np.random.default_rng([self.seed, index]).normal(size=3) + pilot.totals["start"]
        return ChunkSums(1, {"value": values}, {"row": values[None]}, evaluations=7)


@pytest.fixture(scope="module")
def whole():
    return run_job(Counting(), None)


# A fork of this process would hang: JAX has threads. The server is a new process, and its forks are cheap.
START = multiprocessing.get_context("forkserver")
START.set_forkserver_preload(["model_bridges.entropy.tracking", "numpy", "torch"])


def spawn(function, *arguments):
    process = START.Process(target=function, args=arguments)
    process.start()
    return process


def run_in(make, folder, delay=0.0, environment=()):
    os.environ.update(environment)
    run_job(make(delay=delay), folder)


def kill_and_continue(make, folder, num_kills, seed, delay):
    rng, kills = random.Random(seed), 0
    while kills < num_kills:
        process = spawn(run_in, make, folder, delay)
        time.sleep(rng.uniform(0.01, 0.2))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.join()
        if process.exitcode == 0:  # it was through before it could be killed: once more
            for path in random.Random(kills).sample(sorted((folder / "chunks").glob("*.chunk")), 8):
                path.unlink()


def test_a_run_killed_at_random_moments_ends_with_the_same_bits(tmp_path, whole):
    kill_and_continue(Counting, tmp_path / "run", 3, 0, delay=0.01)
    same_bits(run_job(Counting(), tmp_path / "run"), whole)


@pytest.mark.slow
@pytest.mark.parametrize("make", [Counting, work])
def test_a_run_killed_fifty_times_ends_with_the_same_bits(make, tmp_path):
    kill_and_continue(make, tmp_path / "run", 50, 1, delay=0.0004)
    same_bits(run_job(make(), tmp_path / "run"), run_job(make(), None))


@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_processes_share_a_run_and_merge_to_the_same_bits(num_processes, tmp_path, whole):
    """RANK and WORLD_SIZE, as `accelerate launch` sets them, are all that they are told."""
    processes = [
        spawn(
            run_in,
            Counting,
            tmp_path,
            0.002,
            {"RANK": str(rank), "WORLD_SIZE": str(num_processes)},
        )
        for rank in range(num_processes)
    ]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    same_bits(run_job(Counting(), tmp_path), whole)
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [2, 4])
def test_processes_that_track_merge_to_the_same_bits(num_processes, tmp_path):
    environments = [
        {"RANK": str(rank), "WORLD_SIZE": str(num_processes)} for rank in range(num_processes)
    ]
    processes = [spawn(run_in, work, tmp_path, 0.0, one) for one in environments]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    same_bits(run_job(work(), tmp_path), run_job(work(), None))


def test_the_share_of_a_lost_process_is_done_by_the_others(tmp_path, whole, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")
    heard = Heard()
    same_bits(run_job(Counting(), tmp_path, progress=heard), whole)
    assert heard.parts == [(done, 24) for done in range(1, 25)]
    assert all(note.endswith(" evaluations/s") for note in heard.notes)
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(ValueError, match="accelerate launch"):
        run_job(Counting(), tmp_path)


def test_a_run_with_other_settings_is_refused_and_says_which(tmp_path):
    run_job(work(sigmas=[0.1, 9.0]), tmp_path)
    with pytest.raises(ValueError, match="seed was 0 and is 1"):
        run_job(work(seed=1, sigmas=[0.1, 9.0]), tmp_path)
    with pytest.raises(ValueError, match="chunk_size was 2 and is 4"):
        run_job(work(chunk_size=4, sigmas=[0.1, 9.0]), tmp_path)

    def others(x, sigma, label):
        return 1.1 * raw(x, sigma, label)

    with pytest.raises(ValueError, match="its weights are others"):
        run_job(work(function=others, sigmas=[0.1, 9.0]), tmp_path)
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert {"gmm-speciation", "torch", "numpy"} == set(settings["versions"])
    (tmp_path / "settings.json").unlink()
    with pytest.raises(ValueError, match=r"no settings\.json"):
        run_job(work(), tmp_path)


@pytest.mark.parametrize(
    "damage", ["truncated", "flipped", "empty", "of another run", "of another place", "the pilot"]
)
def test_a_corrupt_chunk_is_named_and_computed_again(damage, tmp_path, whole):
    run_job(Counting(), tmp_path / "run")
    path = tmp_path / "run" / "chunks" / "000007.chunk"
    content = path.read_bytes()
    if damage == "of another run":
        run_job(Counting(1), tmp_path / "other")
        content = (tmp_path / "other" / "chunks" / "000007.chunk").read_bytes()
    if damage == "of another place":  # the same run, whole, and its sums would count twice
        content = (path.parent / "000008.chunk").read_bytes()
    if damage == "the pilot":
        content = (tmp_path / "run" / "pilot.chunk").read_bytes()
    if damage == "flipped":
        middle = len(content) // 2
        content = content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
    path.write_bytes(content[: {"truncated": 300, "empty": 0}.get(damage, len(content))])
    heard = Heard()
    same_bits(run_job(Counting(), tmp_path / "run", progress=heard), whole)
    (line,) = heard.lines
    assert "000007.chunk" in line
    assert "computed again" in line


@pytest.mark.parametrize("name", ["chunks/000002.chunk", "pilot.chunk"])
def test_a_folder_in_the_place_of_a_chunk_is_named(name, tmp_path):
    run_job(Counting(), tmp_path)
    path = tmp_path / name
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match=rf"{name}' is a folder where a file must be"):
        run_job(Counting(), tmp_path)


@pytest.mark.parametrize("damage", ["nan", "text", "shorter", "none", "twice", "pipe"])
def test_settings_that_cannot_be_compared_are_no_settings(damage, tmp_path):
    """A NaN differs from every number; a key that stands twice has no value."""
    run_job(work(sigmas=[0.1, 9.0]), tmp_path)
    path = tmp_path / "settings.json"
    settings = json.loads(path.read_text())
    probe = settings["model"]["probe"]
    # At five levels one or two of three classes, in the middle all, and twice the whole; two numbers each.
    assert len(probe) == 2 * (4 + 3 + 5 + 3 + 4)
    settings["model"]["probe"] = {
        "text": ["0"] * len(probe),
        "shorter": probe[:-1],
        "none": None,
        "nan": [float("nan")] * len(probe),
    }.get(damage, probe)
    text = json.dumps(settings)
    if damage == "twice":
        text = text.replace('"seed": 0', '"seed": 1, "seed": 0')
    path.unlink()
    if damage == "pipe":
        os.mkfifo(path)
    else:
        path.write_text(text)
    with pytest.raises(
        ValueError, match=r"weights are others|of other classes|Choose another folder"
    ):
        run_job(work(sigmas=[0.1, 9.0]), tmp_path)


def test_other_weights_of_the_unconditional_part_are_noticed(tmp_path):
    def other(x, sigma, label):
        return raw(x, sigma, label) * (1.0 if isinstance(label, torch.Tensor) else 1.1)

    run_job(work(sigmas=[0.1, 9.0]), tmp_path)
    with pytest.raises(ValueError, match="its weights are others"):
        run_job(work(function=other, sigmas=[0.1, 9.0]), tmp_path)


def test_an_output_taken_for_another_quantity_is_another_model(tmp_path):
    """The same network, wrapped as it should have been: what trust asks for must not give the old numbers."""
    wrong = work(sigmas=[0.1, 9.0])
    run_job(wrong, tmp_path)
    right = work(sigmas=[0.1, 9.0])
    inner = right.problem.denoiser.denoiser
    right.problem.denoiser.denoiser = replace(
        inner, coefficient_function=lambda sigma: (torch.ones_like(sigma), -sigma)
    )
    with pytest.raises(ValueError, match="taken for another quantity"):
        run_job(right, tmp_path)


@pytest.mark.parametrize("at", [0.011, 0.05, 2.0, 9.5])
def test_a_model_that_differs_at_some_levels_is_another_model(at, tmp_path):
    def tuned(x, sigma, label):
        near = (sigma / at).log().abs() < 1.0
        return raw(x, sigma, label) * torch.where(near, 1.1, 1.0)[:, None]

    run_job(work(sigmas=[0.1, 9.0]), tmp_path)
    with pytest.raises(ValueError, match="its weights are others"):
        run_job(work(function=tuned, sigmas=[0.1, 9.0]), tmp_path)


def test_a_finished_run_is_read_where_nothing_can_be_written(tmp_path, monkeypatch, whole):
    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    run_job(Counting(), tmp_path / "run")
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    monkeypatch.setattr(os, "fsync", refuse)
    same_bits(run_job(Counting(), tmp_path / "run"), whole)
    with pytest.raises(ValueError, match="Read-only"):
        run_job(Counting(), tmp_path / "other")


def test_a_folder_without_a_name_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="must have a name"):
        run_job(Counting(), "")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_loses_nothing_that_is_finished(tmp_path, monkeypatch, whole):
    real, left = os.fsync, [6]

    def full(handle):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"disk is full.*chunks in .* finished and safe"):
        run_job(Counting(), tmp_path)
    monkeypatch.undo()
    assert not list(tmp_path.rglob("*.tmp"))
    same_bits(run_job(Counting(), tmp_path), whole)


def test_a_lost_device_is_a_clear_line(tmp_path, whole):
    with pytest.raises(OSError, match=r"the device failed .*11 of 24 chunks .* finished and safe"):
        run_job(Counting(fail=11), tmp_path)
    same_bits(run_job(Counting(), tmp_path), whole)


def test_out_of_memory_splits_the_forward_pass_and_not_the_chunk(tmp_path):
    largest, plain = [0], run_job(work(sigmas=[0.1, 1.0, 9.0]), None)

    def small(x, sigma, label):
        if len(x) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        largest[0] = max(largest[0], len(x))
        return raw(x, sigma, label)

    lines = []
    tight = work(function=small, sigmas=[0.1, 1.0, 9.0])
    tight.problem.denoiser.say = lines.append
    merged = run_job(tight, tmp_path)
    assert largest[0] == 2
    assert lines
    assert "now at most" in lines[0]
    assert merged.evaluations == plain.evaluations
    for name, total in plain.totals.items():
        np.testing.assert_allclose(merged.totals[name], total, rtol=1e-9, atol=1e-12)

    def none(x, sigma, label):
        raise torch.OutOfMemoryError("CUDA out of memory")

    metered = CountingDenoiser(tight.problem.denoiser.denoiser)
    object.__setattr__(metered.denoiser, "raw_function", none)
    with pytest.raises(MemoryError, match="one state"):
        metered.raw(torch.zeros(4, DIM, dtype=torch.float64), 1.0, torch.zeros(4).long())


def test_in_memory_and_in_a_folder_are_the_same(tmp_path):
    short = {"sigmas": np.geomspace(0.01, 10, 5)}
    merged = run_job(work(**short), tmp_path)
    same_bits(merged, run_job(work(**short), None))
    curve = work().curve(merged, "classes")
    assert curve.entropy.dof == 15
    assert curve.batches.entropy.shape == (16, 5)
    assert runs.process_place() == (0, 1)
