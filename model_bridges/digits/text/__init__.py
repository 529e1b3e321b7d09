"""A small text-to-image model of real handwritten digits, in the layout of Stable Diffusion.

    denoiser = load_denoiser()                       # classes: "a handwritten zero", ..., "nine"
    denoiser = load_denoiser(["an even digit", "an odd digit"])
    pictures = denoiser.decode(latents)              # (n, 1, 32, 32), -1 paper, 1 ink

    pipe = load_pipeline()                           # the same as diffusers knows it

Latents of 4 x 8 x 8 of a small autoencoder, a UNet with cross-attention to a small CLIP text encoder,
prediction of v. How they were trained and how good they are: `weights/CARD.md`.
"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from model_bridges.digits.text.captions import CAPTIONS, PROMPTS
from model_bridges.pipelines import LatentDiffusion, load

__all__ = ["CAPTIONS", "PROMPTS", "load_denoiser", "load_pipeline"]

FOLDER = Path(str(files("model_bridges.digits.text") / "weights"))


def load_denoiser(
    prompts: Sequence[str] | None = None, path: str | Path | None = None, **options: Any
) -> LatentDiffusion:
    """The model with the given prompts as classes; one prompt a digit by default.

    Args:
        prompts: Captions it was trained on: `CAPTIONS`. Others are read, and mean nothing to it.
        path: Folder written by training; the shipped one when `None`.
        **options: As `stable_diffusion.load`.

    Raises:
        ValueError: As `stable_diffusion.load`.
    """
    folder = FOLDER if path is None else path
    texts = PROMPTS if prompts is None else prompts
    described = "" if texts == PROMPTS else f", prompts {' | '.join(texts)}"
    provenance = f"text-to-image model trained on scikit-learn's handwritten digits{described}"
    options = {"provenance": provenance, "max_batch": 512, **options}
    return cast(LatentDiffusion, load(folder, texts, **options))


def load_pipeline(path: str | Path | None = None) -> Any:
    """The model as a `StableDiffusionPipeline` in float32, from safetensors.

    Args:
        path: Folder written by training; the shipped one when `None`.
    """
    import torch
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(
        FOLDER if path is None else path,
        use_safetensors=True,
        local_files_only=True,
        torch_dtype=torch.float32,
    )
