"""EDM2-XS in full size from files of the official format to an entropy curve of two points.

The weights are random: what is measured is reading, memory and speed, not what a trained model knows.
Seconds are those of the processor, over all threads: with one thread, the time on an idle machine.
Results go to `edm2-xs-cpu.json` in the output folder. Needs 2 GB of memory and disk, and minutes.
"""

import json
import os
import resource
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import model_bridges as mb
from gmm_speciation.reporting import records
from model_bridges.checkpoints import convert, read_checkpoint
from model_bridges.edm2 import EDM2Network, imagenet
from model_bridges.edm2.official_pickle import write_official_pickle

HERE = Path(__file__).parent
XS = {"img_resolution": 64, "img_channels": 4, "label_dim": 1000, "model_channels": 128}
QUICK = XS | {"img_resolution": 8, "model_channels": 16, "channel_mult": [1, 2], "num_blocks": 1}
PARTITION = "golden retriever | tabby"
SIGMAS = [0.5, 5.0]


def write_pair(folder: Path, kwargs: dict[str, Any]) -> tuple[Path, Path]:
    """A conditional and an unconditional network with random weights, as official files."""
    paths = []
    for name, changes in (("cond", {}), ("uncond", {"label_dim": 0})):
        torch.manual_seed(len(paths))
        network = EDM2Network(**{**kwargs, **changes})
        with torch.no_grad():
            for key, parameter in network.named_parameters():
                if key.endswith("gain"):
                    parameter.fill_(1.0)  # at 0 the network would ignore its label
        paths.append(folder / f"{name}.pkl")
        write_official_pickle(paths[-1], network, {**kwargs, **changes})
    return paths[0], paths[1]


def timed(call: Callable[[], Any], repeats: int = 1) -> tuple[Any, float]:
    """The result, and the fewest processor seconds of the repeats."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        result = call()
        seconds.append(time.process_time() - start)
    return result, min(seconds)


def measure(folder: Path, kwargs: dict[str, Any], num_images: int = 2) -> dict[str, Any]:
    """Every step once, from two official files in `folder` to a curve."""
    _ = mb.edm2.load, mb.entropy_curve, mb.read_selection  # imports are not measured
    paths, writing = timed(lambda: write_pair(folder, kwargs))
    tracemalloc.start()
    checkpoint = read_checkpoint(paths[0])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = paths[0].stat().st_size
    tensors = len(checkpoint.state_dict)
    parameters = sum(v.numel() for k, v in checkpoint.state_dict.items() if "fourier" not in k)
    del checkpoint
    _, reading = timed(lambda: read_checkpoint(paths[0]))
    converted = [path.with_suffix(".safetensors") for path in paths]
    _, converting = timed(lambda: convert(paths[0], converted[0]))
    convert(paths[1], converted[1])
    _, from_converted = timed(lambda: mb.edm2.load(*converted))
    model, from_pickles = timed(lambda: mb.edm2.load(*paths))
    generator = torch.Generator().manual_seed(0)
    x0 = 0.5 * torch.randn(num_images, *model.event_shape, generator=generator)
    label = torch.arange(2)
    rows = x0[[0, 0]]
    with torch.no_grad():
        _, forward = timed(lambda: model.raw(rows, 1.0, label), repeats=3)
    selection = mb.read_selection(PARTITION, imagenet.vocabulary())
    restricted = selection.restrict(model)
    curve, seconds = timed(
        lambda: mb.entropy_curve(
            restricted, x0, sigmas=SIGMAS, partition=selection.partition, max_batch=2
        )
    )
    evaluations = num_images * len(SIGMAS) * restricted.num_classes
    return {
        "network": kwargs,
        "parameters": parameters,
        "tensors": tensors,
        "file_bytes": size,
        "write_pair_seconds": writing,
        "read_seconds": reading,
        "read_peak_bytes": peak,
        "read_peak_over_file": peak / size,
        "convert_seconds": converting,
        "load_pair_seconds": from_pickles,
        "load_converted_pair_seconds": from_converted,
        "forward_seconds_per_evaluation": forward / 2,
        "curve": {
            "partition": PARTITION,
            "sigmas": SIGMAS,
            "entropy_nats": [float(v) for v in curve.entropy.value],
            "evaluations": evaluations,
            "seconds": seconds,
            "seconds_per_evaluation": seconds / evaluations,
        },
        "peak_resident_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def main(
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = HERE / "results",
    quick: Annotated[bool, typer.Option("--quick", help="A tiny network.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Of the processor.")] = 1,
) -> None:
    """Measure and store."""
    torch.set_num_threads(threads)
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), QUICK if quick else XS)
    stamp = records.provenance("benchmarks/edm2_xs.py", packages=("torch", "safetensors"))
    stamp |= {"threads": torch.get_num_threads(), "load_at_start": load}
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"stamp": stamp, **result}, indent=2)
    (out / "edm2-xs-cpu.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    typer.run(main)
