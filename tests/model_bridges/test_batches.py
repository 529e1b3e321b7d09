"""Batches are as large as there is memory for, and chunks fill them where there are few classes."""

import numpy as np
import pytest
import torch

import model_bridges as mb
from model_bridges.denoisers import memory
from model_bridges.denoisers.counted import CountingDenoiser
from model_bridges.denoisers.memory import fitting_batch, free_memory
from model_bridges.denoisers.network import NetworkDenoiser
from model_bridges.entropy.problem import problem

DIM, COPIES = 4096, 100
# Bytes of one state at its fullest: all copies, and what becomes of them.
STATE = 4 * DIM * (COPIES + 1)
CONSTANT = torch.ones(DIM, COPIES)


def work(x):
    """Copies of each entry that are alive at once, beside constants that are there whatever the batch."""
    weights = 2 * CONSTANT
    copies = x[:, :, None].expand(-1, -1, COPIES).contiguous()
    return (copies.mul_(weights)).sum(-1)


@pytest.mark.parametrize("fitting", [1, 8, 256])
def test_the_batch_is_what_half_of_the_free_memory_holds(fitting, monkeypatch):
    """By hand: the constants once and 404 numbers an entry; a power of two from below."""
    base = 4 * DIM * COPIES
    for free, expected in (
        (2 * (base + 1.05 * fitting * STATE), fitting),
        (2 * (base + 1.95 * fitting * STATE), fitting),
        (2 * base, 1),
    ):
        monkeypatch.setattr(memory, "free_memory", lambda device, free=free: free)
        found = fitting_batch(lambda batch: work(torch.ones(batch, DIM)), torch.device("cpu"))
        assert found == expected


def test_the_free_memory_of_the_host_is_known_and_of_the_unknown_is_not():
    import psutil

    free = free_memory(torch.device("cpu"))
    assert free == pytest.approx(psutil.virtual_memory().available, rel=0.3)
    assert free_memory(torch.device("meta")) is None
    assert fitting_batch(lambda batch: pytest.fail("not needed"), torch.device("meta")) is None


def model(seen):
    def raw(x, sigma, label):
        seen.append(len(x))
        return work(x) * (1 + label[:, None])

    return NetworkDenoiser(
        raw, lambda s: (1 / (1 + s**2), s), 3, (DIM,), (0.01, 10.0), has_unconditional=False
    )


def test_a_large_batch_is_cut_before_memory_is_short(monkeypatch):
    seen, said = [], []
    x = torch.randn(100, DIM, generator=torch.Generator().manual_seed(0))
    label = torch.arange(100) % 3
    whole = model(seen).raw(x, 1.0, label)
    monkeypatch.setattr(memory, "free_memory", lambda device: 2 * 40 * STATE)
    counted = CountingDenoiser(model(seen), said.append)
    seen.clear()
    torch.testing.assert_close(counted.raw(x, 1.0, label), whole)
    assert seen == [1, 2, 32, 32, 32, 4]
    assert said == ["there is memory for 32 states at once"]
    assert counted.evaluations == 100
    seen.clear()
    counted.raw(x[:20], 1.0, label[:20])
    assert seen == [20]


@pytest.mark.parametrize(
    ("num_classes", "num_images", "expected"),
    [(2, 200, 12), (2, 500, 16), (2, 1000, 31), (2, 5000, 64), (1000, 5000, 16), (100, 5000, 16)],
)
def test_few_classes_and_many_images_fill_a_batch(num_classes, num_images, expected):
    denoiser = NetworkDenoiser(
        lambda x, sigma, label: x, lambda s: (s, s), num_classes, (1,), (0.01, 10.0)
    )
    assert problem(denoiser, np.zeros((num_images, 1))).chunk_size == expected


def test_the_numbers_do_not_depend_on_the_memory(monkeypatch):
    x0 = torch.randn(30, DIM, generator=torch.Generator().manual_seed(1))
    levels = np.geomspace(0.1, 5, 3)
    whole = mb.track(model([]), x0, sigmas=levels).log_posterior
    monkeypatch.setattr(memory, "free_memory", lambda device: 2 * 14 * STATE)
    seen = []
    cut = mb.track(CountingDenoiser(model(seen)), x0, sigmas=levels).log_posterior
    assert max(seen) == 8
    np.testing.assert_allclose(cut, whole, rtol=1e-6, atol=1e-9)
