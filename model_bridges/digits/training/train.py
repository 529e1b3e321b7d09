"""The whole run behind the shipped digits networks: train both, judge them, write the files.

The output folder receives `digits.safetensors` (both networks under the prefixes `conditional.` and
`unconditional.`), `card.json` and `CARD.md`. While the run lasts it also holds one checkpoint per
network; a run that was cut off continues from them to the same weights, bit for bit.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from gmm_speciation.files import write_text
from gmm_speciation.reporting.bars import progress as progress_on_stderr
from model_bridges.checkpoints.tensors import write_tensors
from model_bridges.digits.data import Digits, load_digits
from model_bridges.digits.training.card import build_card, render_card
from model_bridges.digits.training.evaluate import (
    GeneratedQuality,
    denoising_loss,
    generated_quality,
)
from model_bridges.digits.training.optimise import train_network
from model_bridges.digits.training.recipe import METADATA_KEY, ROLES, Recipe
from model_bridges.digits.training.run import Report
from model_bridges.edm2 import EDM2Network

WEIGHTS_NAME, CARD_NAME, CARD_TEXT_NAME = "digits.safetensors", "card.json", "CARD.md"
LICENCE = "Apache-2.0"


@dataclass(frozen=True)
class TrainingResult:
    """Where a run left its files, and how good the networks are."""

    weights: Path
    card: Path
    card_text: Path
    quality: GeneratedQuality
    seconds: float


def train(
    out_dir: str | Path,
    *,
    seed: int = 0,
    steps: int | None = None,
    recipe: Recipe | None = None,
    checkpoint_every: int = 500,
    per_class: int = 100,
    keep_checkpoints: bool = False,
    progress: bool = True,
) -> TrainingResult:
    """Train the conditional and the unconditional digits network and write them with their card.

    Args:
        out_dir: Folder for the results; made if missing. Checkpoints there are continued.
        seed: Seed of everything random; replaces that of `recipe`.
        steps: Optimiser steps of each network in place of the recipe's, for a quick trial.
        recipe: Settings; the shipped networks used the default.
        checkpoint_every: Steps between checkpoints.
        per_class: Generated digits per class in the final judgement.
        keep_checkpoints: Keep the training state after the end.
        progress: Show a progress bar.

    Raises:
        ValueError: If a setting is not valid.
        CheckpointError: If a checkpoint in `out_dir` is damaged or belongs to another recipe.
        MissingExtraError: If scikit-learn is not installed.
    """
    recipe = replace(recipe or Recipe(), seed=seed)
    if steps is not None:
        recipe = replace(recipe, conditional_steps=steps, unconditional_steps=steps)
    folder, digits = Path(out_dir), load_digits()
    networks: dict[str, EDM2Network] = {}
    seconds: dict[str, float] = {}
    for role in ROLES:
        with progress_bar(f"{role} digits network", recipe.steps(role), progress) as report:
            networks[role], seconds[role] = train_network(
                role,
                recipe,
                digits,
                _checkpoint(folder, role),
                checkpoint_every=checkpoint_every,
                report=report,
            )
    weights = folder / WEIGHTS_NAME
    _write_weights(weights, networks, recipe, digits)
    quality = generated_quality(
        networks["conditional"],
        digits,
        per_class=per_class,
        seed=seed,
        sigma_range=recipe.sigma_range,
    )
    card = build_card(
        weights=weights,
        recipe=recipe,
        digits=digits,
        parameters={role: num_parameters(networks[role]) for role in ROLES},
        losses={role: _losses(networks[role], digits) for role in ROLES},
        quality=quality,
        seconds=seconds,
        licence=LICENCE,
    )
    write_text(folder / CARD_NAME, json.dumps(card, indent=2) + "\n")
    write_text(folder / CARD_TEXT_NAME, render_card(card))
    if not keep_checkpoints:
        for role in ROLES:
            _checkpoint(folder, role).unlink(missing_ok=True)
    return TrainingResult(
        weights, folder / CARD_NAME, folder / CARD_TEXT_NAME, quality, sum(seconds.values())
    )


def _checkpoint(folder: Path, role: str) -> Path:
    return folder / f"checkpoint-{role}.safetensors"


def _write_weights(
    path: Path, networks: dict[str, EDM2Network], recipe: Recipe, digits: Digits
) -> None:
    tensors = {
        f"{role}.{name}": value
        for role in ROLES
        for name, value in networks[role].state_dict().items()
    }
    fields = {
        "licence": LICENCE,
        "network_kwargs": {role: recipe.network_kwargs(role) for role in ROLES},
        "mean": digits.mean,
        "scale": digits.scale,
        "sigma_range": recipe.sigma_range,
        "recipe": recipe.to_dict(),
        "recipe_sha256": recipe.fingerprint(),
    }
    # One entry: safetensors writes several in random order, and equal runs should give equal files.
    write_tensors(path, tensors, {METADATA_KEY: json.dumps(fields, sort_keys=True)})


def _losses(network: EDM2Network, digits: Digits) -> dict[str, dict[float, float]]:
    conditional = network.label_dim > 0
    return {
        "train": denoising_loss(
            network, digits.train_images, digits.train_labels if conditional else None
        ),
        "held_out": denoising_loss(
            network, digits.held_out_images, digits.held_out_labels if conditional else None
        ),
    }


def num_parameters(network: torch.nn.Module) -> int:
    """Trainable numbers of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


@contextmanager
def progress_bar(what: str, total: int, enabled: bool) -> Iterator[Report]:
    """A progress bar of steps with their loss; gives what a run reports to."""
    with progress_on_stderr(quiet=not enabled) as bar:
        bar.step(what)
        yield lambda step, loss: bar.part(step, total, f"loss {loss:.3f}")
