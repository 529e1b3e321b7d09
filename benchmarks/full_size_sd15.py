"""Stable Diffusion 1.5 at full size with random weights: written in the released layout, read, measured.

No released weights are needed or fetched: networks of the released configurations are drawn at random,
written as float16 safetensors by subfolder, read back by `model_bridges.pipelines.load`, and give
an entropy curve of two noise levels. Times and memory go to `full-size-sd15-<dtype>.json`.
"""

import json
import platform
import resource
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

import model_bridges as mb
from model_bridges import pipelines as stable_diffusion
from model_bridges.denoisers.counted import CountingDenoiser

HERE = Path(__file__).parent
PROMPTS = ("cat", "dog")
SIGMAS = (1.0, 5.0)
UNET = {  # the released unet/config.json; what is not named here has diffusers' default
    "sample_size": 64,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
AUTOENCODER = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
    "scaling_factor": 0.18215,
}
TEXT_ENCODER = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "projection_dim": 768,
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = HERE / "results",
    dtype: Annotated[str, typer.Option(help="Of the UNet: float32 or bfloat16.")] = "float32",
    images: Annotated[int, typer.Option(min=2, help="States of the curve.")] = 2,
) -> None:
    """Write, read and measure; prints the result."""
    result: dict = {"dtype": dtype, "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as name:
        result["write_seconds"], folder = timed(lambda: write_sd15(Path(name)))
        result["file_bytes"] = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        result["load_seconds"], denoiser = timed(
            lambda: stable_diffusion.load(
                folder, PROMPTS, dtype=getattr(torch, dtype), max_batch=images
            )
        )
    meter = CountingDenoiser(denoiser)
    states = torch.randn(images, *denoiser.event_shape, generator=torch.Generator().manual_seed(0))
    seconds, curve = timed(lambda: mb.entropy_curve(meter, states, sigmas=SIGMAS))
    result |= {
        "sigma_range": denoiser.sigma_range,
        "sigmas": list(SIGMAS),
        "entropy": np.asarray(curve.entropy.value).tolist(),
        "prior_entropy": float(curve.prior_entropy),
        "evaluations": meter.evaluations,
        "seconds": seconds,
        "seconds_per_evaluation": seconds / meter.evaluations,
        "peak_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "machine": platform.platform(),
        "versions": {p: version(p) for p in ("torch", "diffusers", "transformers")},
    }
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2) + "\n"
    (out / f"full-size-sd15-{dtype}.json").write_text(text)
    print(text)


def write_sd15(folder: Path) -> Path:
    """Networks of the released configurations with random weights, and a tokenizer that spells."""
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    UNet2DConditionModel(**UNET).half().save_pretrained(folder / "unet")
    AutoencoderKL(**AUTOENCODER).half().save_pretrained(folder / "vae")
    CLIPTextModel(CLIPTextConfig(**TEXT_ENCODER)).half().save_pretrained(folder / "text_encoder")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77).save_pretrained(
        folder / "tokenizer"
    )
    DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False
    ).save_pretrained(folder / "scheduler")
    return folder


def timed(work):
    """Seconds of a call, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    app()
