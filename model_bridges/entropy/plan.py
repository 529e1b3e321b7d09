"""What a measurement will take on this machine, before it begins.

Evaluations are counted by running the work's own pilot and two small chunks on a model of the same classes,
levels and shape whose network costs nothing: Gaussian classes about different means. The second chunk tells
the seconds *beside* the network. The network itself is timed for about ten seconds at batches that fit; how
much memory one holds is counted where torch makes its tensors (`denoisers.memory`).

    seconds = once / rate + (evaluations / rate + beside) ceil(chunks / D) / chunks

on D devices: what comes before the chunks is not shared, and a chunk is done by one of them. Levels that are
placed by what the model knows may differ by a few, and so may the counts.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor

from gmm_speciation.reporting.tables import Table
from model_bridges.denoisers.arrays import as_levels, as_states
from model_bridges.denoisers.base import (
    Denoiser,
    Label,
    Sigma,
    States,
    Unconditional,
    Wrapped,
    per_image,
)
from model_bridges.denoisers.counted import CountingDenoiser
from model_bridges.denoisers.devices import brought, home
from model_bridges.denoisers.memory import SHARE, free_memory, held_by
from model_bridges.entropy.levels import NUM_IMAGES
from model_bridges.entropy.problem import Problem

SECONDS = 10.0
_REPEATS = 3  # of the largest batch: the first may still warm up
ROWS = 256  # images times classes of a small chunk


@final
@dataclass(frozen=True, eq=False)
class WithoutNetwork(Wrapped):
    """A `Denoiser` with the shape, levels and classes of another one, of Gaussian classes: free of cost."""

    denoiser: Any

    def raw(self, x: States, sigma: Sigma, label: Label) -> Tensor:
        """What makes `D` the posterior mean of a Gaussian about the mean of its class."""
        x, (low, high) = as_states(x), self.sigma_range
        width = (low * high) ** 0.5
        skip, out = self.coefficients(sigma)
        means = torch.zeros_like(x).flatten(1)
        if not isinstance(label, Unconditional):
            index = torch.as_tensor(label).to(x.device).long() % means.shape[1]
            means.scatter_(1, index.expand(len(x))[:, None], 4 * width)
        means = means.reshape(x.shape)
        share = per_image(1 / (1 + (as_levels(sigma) / width) ** 2), x)
        return (means + share * (x - means) - per_image(skip, x) * x) / per_image(out, x)


@dataclass(frozen=True)
class Work:
    """One kind of work: forward passes of one state, and seconds beside the network."""

    name: str
    once: int  # evaluations before its chunks
    evaluations: int  # of all chunks
    chunks: int
    beside: float = 0.0  # seconds, of one device

    @property
    def total(self) -> int:
        return self.once + self.evaluations


@dataclass(frozen=True)
class Speed:
    """The network on this machine."""

    device: str
    batch: int
    evaluations_a_second: float
    memory: int  # bytes of the tensors of such a batch, at its fullest, weights apart
    free: int | None  # bytes there are; None where nothing says so


@dataclass(frozen=True)
class Plan:
    """What a command will take."""

    works: tuple[Work, ...]
    speed: Speed
    devices: int = 1
    note: str = ""

    def seconds(self, work: Work) -> float:
        """Of one kind of work, on all devices together."""
        rate = self.speed.evaluations_a_second
        share = math.ceil(work.chunks / self.devices) / work.chunks
        return work.once / rate + (work.evaluations / rate + work.beside) * share

    @property
    def total_seconds(self) -> float:
        return sum(map(self.seconds, self.works))

    def tables(self) -> dict[str, Table]:
        """Work by work, and the machine."""
        rows = [
            [w.name, f"{w.total:,}", in_time(w.beside), in_time(self.seconds(w))]
            for w in self.works
        ]
        whole = sum(w.total for w in self.works)
        beside = in_time(sum(w.beside for w in self.works))
        rows.append(["all", f"{whole:,}", beside, in_time(self.total_seconds)])
        on = "this device" if self.devices == 1 else f"{self.devices} devices like this one"
        speed = self.speed
        free = "unknown" if speed.free is None else in_bytes(speed.free)
        machine = [
            ["device", speed.device],
            [
                "evaluations a second",
                f"{speed.evaluations_a_second:.4g} in batches of {speed.batch}",
            ],
            ["memory of a batch, without weights", f"{in_bytes(speed.memory)} of {free} free"],
        ]
        return {
            f"plan: time on {on}": Table(["work", "evaluations", "beside", "time"], rows),
            "the network here": Table(["what", "value"], machine),
        }

    def record(self) -> dict[str, Any]:
        """The same as plain data, seconds and bytes."""
        works = {
            w.name: vars(w) | {"total_evaluations": w.total, "seconds": self.seconds(w)}
            for w in self.works
        }
        return {
            "works": works,
            "network": vars(self.speed),
            "devices": self.devices,
            "evaluations": sum(w.total for w in self.works),
            "seconds": self.total_seconds,
            "note": self.note,
        }


def in_time(seconds: float) -> str:
    """Two units at most."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{seconds / 86400:,.1f} days"


def in_bytes(size: int) -> str:
    """In MB or GB."""
    return f"{size / 1e6:.0f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


def planned(name: str, make: Callable[[Problem], Any], problem: Problem) -> Work:
    """One job of a problem: its pilot and two chunks without the network, for all images.

    Args:
        name: Of the work.
        make: The job of a problem.
        problem: Of the images that there will be; their values do not matter.
    """
    size = min(problem.chunk_size, len(problem.x0) // 2, ROWS // problem.denoiser.num_classes)
    size = max(1, size)
    dry = replace(
        problem,
        denoiser=CountingDenoiser(WithoutNetwork(problem.denoiser.denoiser)),
        x0=problem.x0[: 2 * size],
        labels=None if problem.labels is None else problem.labels[: 2 * size],
        chunk_size=size,
    )
    job, images = make(dry), len(problem.x0)
    pilot = job.pilot()
    evaluations = job.chunk(0, pilot).evaluations
    first = time.perf_counter()
    job.chunk(1, pilot)
    beside = time.perf_counter() - first
    if job.num_chunks > 2:  # chunks are draws, as many with any images
        chunks = times = job.num_chunks
        once = pilot.evaluations
    else:
        chunks, times = problem.num_chunks, images / dry.chunk_size
        once = pilot.evaluations * min(NUM_IMAGES, images) // min(NUM_IMAGES, len(dry.x0))
    return Work(name, once, round(times * evaluations), chunks, times * beside)


@torch.no_grad()
def probe_speed(denoiser: Denoiser, max_batch: int, seconds: float = SECONDS) -> Speed:
    """Time the network in batches that double up to what fits and is asked for, the largest a few times.

    Args:
        denoiser: The model.
        max_batch: Largest batch.
        seconds: After which no further batch is begun.
    """
    inner = denoiser.denoiser if isinstance(denoiser, CountingDenoiser) else denoiser
    device = torch.device(home(inner))
    low, high = inner.sigma_range
    sigma = (low * high) ** 0.5

    def run(batch: int) -> Tensor:
        x = brought(inner, sigma * torch.randn(batch, *inner.event_shape))
        return inner.raw(x, sigma, torch.arange(batch, device=x.device) % inner.num_classes)

    base, state = held_by(run)
    free = free_memory(device)
    most = max_batch if free is None else min(max_batch, max(1, int((SHARE * free - base) / state)))
    doubled = [2**power for power in range(most.bit_length()) if 2**power < most]
    start, best = time.perf_counter(), (0.0, 1)
    for batch in doubled + _REPEATS * [most]:
        begun = time.perf_counter()
        run(batch)
        if device.type != "cpu":
            torch.get_device_module(device).synchronize(device)
        spent = time.perf_counter() - begun
        best = max(best, (batch / max(spent, 1e-9), batch))
        if seconds - (time.perf_counter() - start) < 2 * spent:
            break
    return Speed(str(device), best[1], best[0], base + best[1] * state, free)


def plan_of(
    works: Sequence[Work], denoiser: Denoiser, max_batch: int, devices: int = 1, note: str = ""
) -> Plan:
    """The plan of these works, with the network timed."""
    return Plan(tuple(works), probe_speed(denoiser, max_batch), devices, note)
