"""A third-party network on MNIST: trained with diffusers' own recipe, cross-checked with the theory, guided.

    python benchmarks/mnist.py train PATH_TO_MNIST [--out out/mnist] [--steps 4000]
    python benchmarks/mnist.py check PATH_TO_MNIST [--out out/mnist] [--images 400]
    python benchmarks/mnist.py remove PATH_TO_MNIST [--out out/mnist] [--images 300] [--label 7]

`train` follows diffusers' script for unconditional images: `UNet2DModel` predicts the noise of a
`DDPMScheduler` with linear betas, AdamW, a cosine schedule after a warm-up, `EMAModel`. Classes come by
`num_class_embeds`; one more stands for no class, and takes the place of a tenth of the labels. Nothing here
comes from our own training, and the commands take the network as anyone's: by `mnist:denoiser`. What it says
of an image is its input less sigma times the noise, and errs by sigma times its own error: at sigma = 20 more
than the data's mean would, as the trust block says, at 157, the schedule's end, by far. Its range ends at 20.
The data stay where they are, the weights in `--out`, and the numbers of the reports in `mnist-cpu.json` and
`mnist-removal-cpu.json` of `benchmarks/results`.
"""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from diffusers import DDPMScheduler, UNet2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel

import model_bridges as mb
from gmm_speciation.reporting import records
from model_bridges.cli import main as model_bridges
from model_bridges.images import read_mnist

HERE = Path(__file__).parent
NUM_CLASSES, NULL, SIZE = 10, 10, 28
DROPPED = 0.1  # share of the labels that the null class replaces
LARGEST = 20.0  # noise at which it still denoises
BATCH, RATE = 64, 1e-3
KEPT = ("law", "model", "num_images", "num_paths", "evaluations")
KEPT += ("theory", "checks", "trust", "pairs", "trees")
FOLDER = "MNIST_MODEL"  # environment variable: where `denoiser` finds the network

app = typer.Typer(help=__doc__, add_completion=False)
Data = Annotated[Path, typer.Argument(metavar="PATH", help="Folder of MNIST's IDX files.")]
Out = Annotated[Path, typer.Option("--out", help="Folder of the network and the reports.")]
Results = Annotated[Path, typer.Option(help="Folder of the numbers.")]


def denoiser() -> mb.Denoiser:
    """The trained network, for `mnist:denoiser`."""
    folder = Path(os.environ.get(FOLDER, "out/mnist"))
    unet = UNet2DModel.from_pretrained(folder, subfolder="unet").eval().requires_grad_(False)
    schedule = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")
    card = json.loads((folder / "training.json").read_text())
    denoiser = mb.from_epsilon(
        lambda x, step, label: unet(x, step, class_labels=label).sample,
        schedule.alphas_cumprod,
        event_shape=(1, SIZE, SIZE),
        num_classes=NUM_CLASSES,
        unconditional_label=NULL,
        provenance=f"UNet2DModel of diffusers, {card['parameters']} parameters, {card['steps']} steps",
    )
    return replace(denoiser, sigma_range=(denoiser.sigma_range[0], LARGEST))


@app.command()
def train(data: Data, out: Out = Path("out/mnist"), steps: int = 4000, seed: int = 0) -> None:
    """Train the network on the training part of the data."""
    images = read_mnist(data).train
    torch.manual_seed(seed)
    unet = UNet2DModel(
        sample_size=SIZE,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(16, 32, 64),
        down_block_types=("DownBlock2D",) * 3,
        up_block_types=("UpBlock2D",) * 3,
        norm_num_groups=8,
        num_class_embeds=NUM_CLASSES + 1,
    )
    schedule = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
    optimizer = torch.optim.AdamW(
        unet.parameters(), lr=RATE, betas=(0.95, 0.999), weight_decay=1e-6
    )
    rate = get_cosine_schedule_with_warmup(optimizer, min(500, steps // 5), steps)
    average = EMAModel(unet.parameters(), decay=0.9999, use_ema_warmup=True, power=3 / 4)
    unet.train()
    start, losses = time.process_time(), []
    for step in range(steps):
        index = torch.randint(len(images.labels), (BATCH,))
        clean, labels = images.images[index], images.labels[index]
        labels = torch.where(torch.rand(BATCH) < DROPPED, NULL, labels)
        noise, times = torch.randn_like(clean), torch.randint(1000, (BATCH,))
        noisy = schedule.add_noise(clean, noise, times)
        loss = torch.nn.functional.mse_loss(unet(noisy, times, class_labels=labels).sample, noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        average.step(unet.parameters())
        losses.append(float(loss.detach()))
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}: loss {sum(losses[-100:]) / 100:.4f}", flush=True)
    average.copy_to(unet.parameters())
    unet.save_pretrained(out / "unet")
    schedule.save_pretrained(out / "scheduler")
    card = {"steps": steps, "batch": BATCH, "learning_rate": RATE, "seed": seed}
    card |= {"parameters": unet.num_parameters(), "images": len(images.labels)}
    card |= {"processor_seconds": time.process_time() - start}
    card |= {"loss_of_the_last_100_steps": sum(losses[-100:]) / len(losses[-100:])}
    (out / "training.json").write_text(json.dumps(card, indent=1) + "\n")


@app.command()
def check(
    data: Data,
    out: Out = Path("out/mnist"),
    images: int = 400,
    levels: int = 32,
    results: Results = HERE / "results",
) -> None:
    """Cross-check the network with the theory, and keep the numbers of the report."""
    arguments = ["--images", str(images), "--levels", str(levels), "--paths", "1"]
    record, stamp = _run("crosscheck", data, out, arguments)
    kept: dict[str, Any] = {key: record[key] for key in KEPT}
    main = record["variables"]["class"]
    kept |= {"points": main["points"], "budget": main["budget"]}
    _keep(results / "mnist-cpu.json", {"stamp": stamp, **kept})


@app.command()
def remove(
    data: Data,
    out: Out = Path("out/mnist"),
    images: int = 300,
    steps: int = 24,
    label: int = 7,
    results: Results = HERE / "results",
) -> None:
    """Remove a class by negative prompting, safe latent and dynamic negative guidance."""
    arguments = ["--class", str(label), "--images", str(images), "--steps", str(steps)]
    for kind in ("NP", "SLD", "DNG", "DNG, published"):
        arguments += ["--kind", kind]
    record, stamp = _run("remove", data, out, arguments)
    left = ("format", "provenance")
    kept = {key: value for key, value in record.items() if key not in left}
    _keep(results / "mnist-removal-cpu.json", {"stamp": stamp, **kept})


def _run(
    command: str, data: Path, out: Path, arguments: list[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a command of `model-bridges` on the network writes, and where it comes from."""
    os.environ[FOLDER] = str(out.resolve())
    sys.path.insert(0, str(HERE))
    start, place = time.process_time(), out / command
    words = [
        command,
        "mnist:denoiser",
        "--data",
        str(data),
        "--folder",
        str(out / f"{command}-run"),
    ]
    code = model_bridges([*words, *arguments, "--out", str(place)])
    if code:
        raise typer.Exit(code)
    stamp = records.provenance("benchmarks/mnist.py", packages=("torch", "diffusers"))
    stamp |= {"threads": torch.get_num_threads(), "processor_seconds": time.process_time() - start}
    stamp["training"] = json.loads((out / "training.json").read_text())
    return json.loads((place / "result.json").read_text()), stamp


def _keep(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    app()
