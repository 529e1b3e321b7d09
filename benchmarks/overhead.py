"""Cost of the estimators above bare forward passes, on an EDM2-XS network with random weights.

    python benchmarks/overhead.py [--images 1] [--classes 2] [--levels 2] [--repeats 3] [--out FILE]

Tracking, the sampled gap and ELBO differences are run with their chunks, counters and sums, and the very same
forward passes, same states, levels, labels and batches, are run bare; the two alternate and the overhead
is the median of the ratios of CPU times. Random gains, since a fresh network ignores its label.
"""

import argparse
import json
import platform
import statistics
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from model_bridges.edm2 import EDM2Network
from model_bridges.edm2.model import from_edm2
from model_bridges.entropy.elbo import ElboJob
from model_bridges.entropy.problem import problem
from model_bridges.entropy.sampled_gap import SampledGapJob
from model_bridges.entropy.tracking import TrackingJob
from model_bridges.runs.jobs import ChunkSums

XS = {"img_resolution": 64, "img_channels": 4, "model_channels": 128}


def xs_denoiser(num_classes):
    """The full-size XS pair; the labels are cut to a few classes at its door."""
    torch.manual_seed(0)
    networks = [EDM2Network(label_dim=dim, **XS).eval() for dim in (1000, 0)]
    for network in networks:
        for name, parameter in network.named_parameters():
            if name.endswith("gain"):
                torch.nn.init.constant_(parameter, 0.3)
    denoiser = from_edm2(*networks)
    parameters = [sum(p.numel() for p in network.parameters()) for network in networks]
    return replace(denoiser, num_classes=num_classes), parameters


class Recorder:
    """Keeps what every forward pass was called with."""

    def __init__(self, function):
        self.function, self.calls = function, []

    def __call__(self, x, sigma, label):
        self.calls.append((x.clone(), sigma.clone(), label))
        return self.function(x, sigma, label)


def measure(make, denoiser, repeats):
    """Median ratio of CPU times, work over its own forward passes, and their number."""
    recorder = Recorder(denoiser.raw_function)
    work, pilot = make(replace(denoiser, raw_function=recorder))
    recorder.calls.clear()
    work.chunk(0, pilot)
    calls = list(recorder.calls)
    work, pilot = make(denoiser)
    ratios, seconds = [], []
    for _ in range(repeats):
        bare = cpu(lambda: [denoiser.raw_function(*call) for call in calls])
        ours = cpu(lambda: work.chunk(0, pilot))
        ratios.append(ours / bare)
        seconds.append(bare)
    evaluations = sum(len(x) for x, _, _ in calls)
    return statistics.median(ratios), ratios, evaluations, statistics.median(seconds)


def cpu(function):
    with torch.no_grad():
        start = time.process_time()
        function()
        return time.process_time() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("images", 1), ("classes", 2), ("levels", 2), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    denoiser, parameters = xs_denoiser(options.classes)
    x0 = 0.5 * torch.randn(2 * options.images, *denoiser.event_shape, dtype=torch.float64)
    labels = torch.arange(len(x0)) % options.classes
    sigmas = np.geomspace(0.5, 5, options.levels)
    rate = {"sigmas": np.array([0.002, 80.0]), "rate": np.ones(2), "levels": sigmas}
    nodes = {"nodes": np.log([0.002, 80.0]), "cdf": np.array([0.0, 1.0])}

    def given(model):
        return problem(model, x0, labels, sigmas=sigmas, chunk_size=options.images, max_batch=8)

    kinds = {
        "tracking": lambda model: (TrackingJob(given(model)), ChunkSums(0, {"levels": sigmas})),
        "sampled gap": lambda model: (SampledGapJob(given(model), 2, 4), ChunkSums(0, nodes)),
        "elbo": lambda model: (ElboJob(given(model), num_strata=1), ChunkSums(0, rate)),
    }
    rows = []
    for name, make in kinds.items():
        ratio, ratios, evaluations, seconds = measure(make, denoiser, options.repeats)
        row = {"work": name, "overhead": ratio - 1, "ratios": ratios}
        row |= {"evaluations": evaluations, "seconds_bare": seconds, "target": 0.05}
        rows.append(row)
        print(
            f"{name:12s} {100 * (ratio - 1):+.1f} % above {evaluations} bare evaluations "
            f"({seconds:.1f} s)"
        )
    if options.out is not None:
        stamp = {
            "date": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
            "parameters": parameters,
            "settings": {k: v for k, v in vars(options).items() if k != "out"},
        }
        content = {"stamp": stamp, "rows": rows}
        options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
