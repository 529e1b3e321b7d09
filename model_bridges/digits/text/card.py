"""The card that travels with the text-to-image model: plain data of a finished run, and its page."""

from pathlib import Path

from model_bridges.digits.data import Digits
from model_bridges.digits.text.captions import CAPTIONS
from model_bridges.digits.text.evaluate import SAMPLER_STEPS, TextQuality
from model_bridges.digits.text.recipe import Recipe
from model_bridges.digits.training.card import (
    data_facts,
    data_lines,
    file_facts,
    generated_lines,
    loss_lines,
    machine_facts,
    recipe_lines,
    table,
    version_facts,
)


def build_card(
    *,
    folder: Path,
    files: list[Path],
    recipe: Recipe,
    digits: Digits,
    parameters: dict[str, int],
    losses: dict[str, dict[str, dict[float, float]]],
    quality: TextQuality,
    seconds: dict[str, float],
    scaling_factor: float,
    licence: str,
) -> dict:
    """Plain JSON data of a finished run.

    Args:
        folder: The written pipeline.
        files: Its files; their sizes and SHA-256 go into the card.
        recipe: Settings of the run.
        digits: The data it used.
        parameters: Trainable numbers per network.
        losses: Per prompt kind and part, weighted squared error by noise level.
        quality: Judgement of pictures.
        seconds: Training time per role.
        scaling_factor: From the autoencoder's latents to the UNet's.
        licence: SPDX name of the licence of the weights.
    """
    return {
        "name": "digits-text: a small text-to-image model of handwritten digits",
        "licence": licence,
        "files": [file_facts(path, path.relative_to(folder).as_posix()) for path in files],
        "architecture": {
            "source": "latent diffusion (Rombach et al., 2022, arXiv 2112.10752) in the layout of "
            "diffusers: UNet2DConditionModel, AutoencoderKL, CLIPTextModel, CLIPTokenizer",
            "parameters": parameters,
            "stored_as": "float16",
            "scaling_factor": scaling_factor,
        },
        "captions": list(CAPTIONS),
        "data": data_facts(digits),
        "recipe": recipe.to_dict(),
        "recipe_sha256": recipe.fingerprint(),
        "seed": recipe.seed,
        "training_seconds": seconds,
        "machine": machine_facts(),
        "versions": version_facts(
            "torch", "diffusers", "transformers", "numpy", "scikit-learn", "safetensors"
        ),
        "loss_per_sigma": {
            name: {
                part: [{"sigma": sigma, "loss": loss} for sigma, loss in values.items()]
                for part, values in parts.items()
            }
            for name, parts in losses.items()
        },
        "generated": quality.to_dict() | {"sampler": f"ancestral, {SAMPLER_STEPS} levels, rho 7"},
    }


def render_card(card: dict) -> str:
    """The card as a Markdown page."""
    architecture, generated = card["architecture"], card["generated"]
    seconds, total = card["training_seconds"], sum(file["bytes"] for file in card["files"])
    lines = [f"# {card['name']}", ""]
    lines += [f"Licence of the weights: {card['licence']}.", ""]
    lines += table(
        ("file", "bytes", "SHA-256"),
        [(f"`{f['name']}`", f"{f['bytes']:,}", f"`{f['sha256']}`") for f in card["files"]],
    )
    lines += ["", f"{total:,} bytes in all.", ""]
    lines += data_lines(card["data"])
    lines += [
        "Pictures are the digits brought to 32 x 32 by bicubic interpolation, in [-1, 1].",
        "",
    ]
    lines += ["Captions: " + ", ".join(f'"{text}"' for text in card["captions"]) + ".", ""]
    lines += ["## Networks", "", f"{architecture['source']}.", ""]
    lines += [f"- {name}: {num:,} parameters" for name, num in architecture["parameters"].items()]
    lines += [
        "",
        f"Stored in {architecture['stored_as']}; latents times {architecture['scaling_factor']:g} "
        "have standard deviation 1 over the training pictures.",
        "",
        "## Recipe",
        "",
        f"Seed {card['seed']}. Autoencoder {seconds['autoencoder']:.0f} s, diffusion "
        f"{seconds['diffusion']:.0f} s.",
        "",
    ]
    lines += recipe_lines(card)
    lines += [
        "## Denoising loss per noise level",
        "",
        "Weighted squared error per entry of the latents, `(sigma^2 + 1) / sigma^2 |D - z|^2 / 256`.",
        "",
    ]
    lines += loss_lines(card["loss_per_sigma"])
    lines += ["", "## Pictures of the ten prompts", ""]
    lines += generated_lines({**generated["prompts"], "sampler": generated["sampler"]})
    lines += ["", "## Pictures of the other captions", ""]
    lines += table(
        ("caption", "pictures", "caption is true", *range(10)),
        [
            (f'"{row["caption"]}"', row["num_generated"], f"{row['agreement']:.0%}", *row["digits"])
            for row in generated["captions"]
        ],
    )
    lines += [
        "",
        "The last ten columns count the digits shown, by the classifier.",
        "",
        f"The autoencoder alone: held-out pictures come back with an error of "
        f"{generated['reconstruction_rms']:.3f} (root mean square, of [-1, 1]); the classifier names "
        f"{generated['reconstruction_accuracy']:.1%} of them right.",
    ]
    return "\n".join(lines) + "\n"
