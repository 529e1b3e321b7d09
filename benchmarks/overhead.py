"""Cost of the estimators beside the network, on an EDM2-XS pair with random weights.

    python benchmarks/overhead.py [--device auto] [--classes 2,10,100,1000] [--batch N] [--out FILE]

Two things are timed on one device: the bare network, in seconds an evaluation (one state, once through),
and everything that a chunk of an estimator does while the network's outputs are ready beforehand, of the same
shape and type. Their ratio is the overhead; peak memory is that of the second part. Seconds are processor
seconds where the device is one, else those of the clock. The bare network runs in batches of 8, on an
accelerator of 256: a small batch leaves it idle.
"""

import argparse
import json
import platform
import resource
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from model_bridges.denoisers.devices import find_device, place
from model_bridges.edm2 import EDM2Network
from model_bridges.edm2.model import from_edm2
from model_bridges.entropy.elbo import ElboJob
from model_bridges.entropy.problem import problem
from model_bridges.entropy.sampled_gap import SampledGapJob
from model_bridges.entropy.tracking import TrackingJob
from model_bridges.runs.jobs import ChunkSums

XS = {"img_resolution": 64, "img_channels": 4, "model_channels": 128}
SIGMAS = np.geomspace(0.5, 5, 4)
LARGEST = 1024
TARGET, TARGET_SECONDS = 0.05, 0.1  # of the bare network; of K = 1000, an image and level


def xs_pair(device):
    """The full-size pair; gains that are not 0, since a fresh network ignores its label."""
    torch.manual_seed(0)
    networks = [EDM2Network(label_dim=dim, **XS).eval() for dim in (1000, 0)]
    for network in networks:
        for name, parameter in network.named_parameters():
            if name.endswith("gain"):
                torch.nn.init.constant_(parameter, 0.3)
    return place(from_edm2(*networks), device)


def with_ready_outputs(denoiser, num_classes):
    """The same model with a network that costs nothing."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(LARGEST, *denoiser.event_shape, generator=generator)
    ready = rows.to(denoiser.device, denoiser.dtype)
    return replace(
        denoiser,
        num_classes=num_classes,
        raw_function=lambda x, sigma, label: ready[: len(x)],
    )


def seconds(function, device, repeats):
    """Median over the repeats, after one that counts for nothing."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    found = []
    with torch.no_grad():
        for _ in range(repeats + 1):
            start = clock()
            function()
            if device.type != "cpu":
                torch.get_device_module(device).synchronize(device)
            found.append(clock() - start)
    return statistics.median(found[1:])


def peak(device):
    """Most memory so far, MB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def jobs(num_classes):
    rate = {"sigmas": np.array([0.002, 80.0]), "rate": np.ones(2), "levels": SIGMAS}
    nodes = {"nodes": np.log([0.002, 80.0]), "cdf": np.array([0.0, 1.0])}
    yield (
        "tracking",
        lambda given: TrackingJob(given, keep_posteriors=False),
        {"levels": SIGMAS},
    )
    yield "sampled gap", lambda given: SampledGapJob(given, 2, 64), nodes
    if num_classes <= 100:
        yield "elbo", lambda given: ElboJob(given, num_strata=1), rate


def rows_of(denoiser, num_classes, bare, device, repeats):
    model = with_ready_outputs(denoiser, num_classes)
    images = min(16, max(1, LARGEST // num_classes))
    generator = torch.Generator().manual_seed(2)
    x0 = 0.5 * torch.randn(2 * images, *denoiser.event_shape, generator=generator)
    labels = torch.arange(len(x0)) % num_classes
    given = problem(model, x0, labels, sigmas=SIGMAS, chunk_size=images, max_batch=LARGEST)
    for name, make, pilot in jobs(num_classes):
        job, before = make(given), peak(device)
        evaluations = job.chunk(0, ChunkSums(0, pilot)).evaluations
        spent = seconds(
            lambda job=job, pilot=pilot: job.chunk(0, ChunkSums(0, pilot)), device, repeats
        )
        row = {"work": name, "classes": num_classes, "evaluations": evaluations}
        row |= {"seconds_beside_an_evaluation": spent / evaluations, "seconds_bare": bare}
        row |= {"overhead": spent / evaluations / bare, "target": TARGET}
        row |= {"peak_mb": peak(device), "peak_mb_before": before}
        if name == "tracking":
            row["seconds_an_image_and_level"] = spent / images / len(SIGMAS)
            row["target_seconds"] = TARGET_SECONDS
        yield row


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--classes", default="2,10,100,1000")
    parser.add_argument("--batch", type=int, help="of the bare network")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = find_device(options.device)
    options.batch = options.batch or (8 if device.type == "cpu" else 256)
    denoiser = xs_pair(device)
    x = torch.randn(options.batch, *denoiser.event_shape, device=device)
    sigma, label = torch.ones(len(x), device=device), torch.arange(len(x), device=device)
    bare = seconds(lambda: denoiser.raw_function(x, sigma, label), device, options.repeats) / len(x)
    network_mb, rows = peak(device), []
    print(f"bare network: {1 / bare:.2f} evaluations/s, {network_mb:.0f} MB at {options.batch}")
    for num_classes in map(int, options.classes.split(",")):
        for row in rows_of(denoiser, num_classes, bare, device, options.repeats):
            rows.append(row)
            beside = 1e3 * row["seconds_beside_an_evaluation"]
            print(
                f"K = {num_classes:4d}  {row['work']:12s} {beside:8.4f} ms beside an evaluation, "
                f"{100 * row['overhead']:.3f} % of it; {row['peak_mb']:.0f} MB in all"
            )
    if options.out is not None:
        cuda = device.type == "cuda"
        stamp = {
            "date": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "device": torch.cuda.get_device_name(device) if cuda else platform.machine(),
            "bare_evaluations_a_second": 1 / bare,
            "bare_peak_mb": network_mb,
            "settings": {k: v for k, v in vars(options).items() if k != "out"},
        }
        content = {"stamp": stamp, "rows": rows}
        options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
