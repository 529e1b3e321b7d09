"""The whole run behind the shipped text-to-image model: train, write, judge, describe.

The output folder receives the pipeline in the layout of diffusers, float16, with `card.json` and
`CARD.md`. While the run lasts it also holds a checkpoint of each training; a run that was cut off
continues from them to the same weights, bit for bit.
"""

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gmm_speciation.files import beside, write_text
from model_bridges.digits.data import load_digits
from model_bridges.digits.text import load_denoiser
from model_bridges.digits.text.captions import ANY, PARITY, PROMPTS
from model_bridges.digits.text.card import build_card, render_card
from model_bridges.digits.text.evaluate import TextQuality, latent_losses, text_quality
from model_bridges.digits.text.optimise import train_autoencoder, train_diffusion
from model_bridges.digits.text.recipe import ROLES, Recipe
from model_bridges.digits.training.train import LICENCE, num_parameters, progress_bar

CARD_NAME, CARD_TEXT_NAME = "card.json", "CARD.md"


@dataclass(frozen=True)
class TrainingResult:
    """Where a run left its files, and how good the model is."""

    weights: Path  # the folder of the pipeline
    card: Path
    card_text: Path
    quality: TextQuality
    seconds: float


def train(
    out_dir: str | Path,
    *,
    seed: int = 0,
    recipe: Recipe | None = None,
    checkpoint_every: int = 250,
    per_prompt: int = 100,
    keep_checkpoints: bool = False,
    progress: bool = True,
) -> TrainingResult:
    """Train the text-to-image model of digits and write it with its card.

    Args:
        out_dir: Folder for the results; made if missing. Checkpoints there are continued.
        seed: Seed of everything random; replaces that of `recipe`.
        recipe: Settings; the shipped model used the default.
        checkpoint_every: Steps between checkpoints.
        per_prompt: Pictures of every prompt in the final judgement.
        keep_checkpoints: Keep the training states after the end.
        progress: Show progress bars.

    Raises:
        ValueError: If a setting is not valid.
        CheckpointError: If a checkpoint in `out_dir` is damaged or belongs to another recipe.
        MissingExtraError: If scikit-learn is not installed.
    """
    recipe = replace(recipe or Recipe(), seed=seed)
    folder, digits = Path(out_dir), load_digits()
    states = {role: folder / f"checkpoint-{role}.safetensors" for role in ROLES}
    seconds: dict[str, float] = {}
    with progress_bar("autoencoder of digits", recipe.autoencoder_steps, progress) as report:
        autoencoder, seconds["autoencoder"] = train_autoencoder(
            recipe,
            digits,
            states["autoencoder"],
            checkpoint_every=checkpoint_every,
            report=report,
        )
    with progress_bar("diffusion of their latents", recipe.diffusion_steps, progress) as report:
        unet, text_encoder, tokenizer, seconds["diffusion"] = train_diffusion(
            recipe,
            digits,
            autoencoder,
            states["diffusion"],
            checkpoint_every=checkpoint_every,
            report=report,
        )
    parts = {"unet": unet, "vae": autoencoder, "text_encoder": text_encoder}
    parameters = {name: num_parameters(network) for name, network in parts.items()}
    write_pipeline(folder, recipe, tokenizer, **parts)
    # Judged as it is shipped: read back, weights rounded to half precision.
    denoiser = load_denoiser((*PROMPTS, *PARITY, ANY), folder)
    quality = text_quality(denoiser, digits, per_prompt=per_prompt, seed=seed)
    card = build_card(
        folder=folder,
        files=pipeline_files(folder),
        recipe=recipe,
        digits=digits,
        parameters=parameters,
        losses=latent_losses(denoiser, digits),
        quality=quality,
        seconds=seconds,
        scaling_factor=float(autoencoder.config.scaling_factor),
        licence=LICENCE,
    )
    write_text(folder / CARD_NAME, json.dumps(card, indent=2) + "\n")
    write_text(folder / CARD_TEXT_NAME, render_card(card))
    if not keep_checkpoints:
        for state in states.values():
            state.unlink(missing_ok=True)
    return TrainingResult(
        folder, folder / CARD_NAME, folder / CARD_TEXT_NAME, quality, sum(seconds.values())
    )


PIPELINE = ("model_index.json", "scheduler", "text_encoder", "tokenizer", "unet", "vae")


def write_pipeline(
    folder: Path, recipe: Recipe, tokenizer: Any, *, unet: Any, vae: Any, text_encoder: Any
) -> None:
    """Write the parts in the layout of diffusers, in half precision, each moved into place whole."""
    from diffusers import DDPMScheduler, StableDiffusionPipeline

    pipeline: Any = StableDiffusionPipeline(
        unet=unet.half(),
        vae=vae.half(),
        text_encoder=text_encoder.half(),
        tokenizer=tokenizer,
        scheduler=DDPMScheduler(**recipe.scheduler()),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    with beside(folder / "pipeline") as temporary:
        pipeline.save_pretrained(temporary, safe_serialization=True)
        for name in PIPELINE:
            if (folder / name).is_dir():
                shutil.rmtree(folder / name)
            os.replace(temporary / name, folder / name)


def pipeline_files(folder: Path) -> list[Path]:
    """Every file of the pipeline, in the order of its name."""
    paths = [path for name in PIPELINE for path in (folder / name, *(folder / name).glob("*"))]
    return sorted(path for path in paths if path.is_file())
