"""The run behind a shipped model of digits: train its networks, write them, judge them, describe them.

The output folder receives the weights, `card.json` and `CARD.md`. While the run lasts it also holds one
checkpoint per network; a run that was cut off continues from them to the same weights, bit for bit.
"""

import abc
import json
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gmm_speciation.checks import as_count
from gmm_speciation.files import write_text
from gmm_speciation.progress import Progress
from gmm_speciation.reporting.bars import progress as progress_on_stderr
from gmm_speciation.reporting.report import check_directory
from model_bridges.digits.data import Digits, load_digits
from model_bridges.digits.training.batches import augment
from model_bridges.digits.training.card import Page, data_facts, loss_facts, render_card
from model_bridges.digits.training.evaluate import SAMPLER_STEPS
from model_bridges.digits.training.recipe import Recipe
from model_bridges.digits.training.run import Report, Run, derived_seed

CARD_NAME, CARD_TEXT_NAME = "card.json", "CARD.md"
LICENCE = "Apache-2.0"


class Training(abc.ABC):
    """A model of the digits in training; those who inherit say what is its own.

    Args:
        recipe: Settings of the run.
        digits: The data; the shipped split by default.
    """

    name: ClassVar[str]  # of the model, on its card
    packages: ClassVar[tuple[str, ...]]  # whose versions the card has

    recipe: Recipe

    def __init__(self, recipe: Recipe, digits: Digits | None = None) -> None:
        self.recipe = recipe
        self.digits = load_digits() if digits is None else digits
        self.networks: dict[str, Any] = {}  # the averaged ones, by role
        self.seconds: dict[str, float] = {}  # that their steps took, in all runs

    @abc.abstractmethod
    def build(self, role: str, dropout: float = 0.0) -> Any:
        """A fresh network, its weights drawn from torch's generator."""

    @abc.abstractmethod
    def loss(self, role: str, network: Any) -> Callable[[], Tensor]:
        """What draws a batch with torch's generator and gives the loss of `network` on it."""

    @abc.abstractmethod
    def write(self, folder: Path) -> Path:
        """Write the trained networks; returns what is loaded again, a file or a folder."""

    @abc.abstractmethod
    def judge(self, weights: Path, per_class: int) -> tuple[Any, dict]:
        """Quality of `per_class` generated images a class, and losses by kind, part and noise level."""

    @abc.abstractmethod
    def facts(self, weights: Path) -> dict:
        """Files, architecture and what else a card says of this model alone."""

    @staticmethod
    @abc.abstractmethod
    def page(card: dict) -> Page:
        """What the card's page says of this model alone."""

    def train_network(
        self,
        role: str,
        checkpoint: Path,
        *,
        checkpoint_every: int = 250,
        report: Report | None = None,
    ) -> Any:
        """Train one network; continue from `checkpoint` if it is there. The caller's random state is kept.

        Args:
            role: Which of the recipe's roles; those before it are trained.
            checkpoint: File that holds the state of the run, replaced atomically.
            checkpoint_every: Steps between checkpoints.
            report: Called after every step with (steps done, loss).

        Returns:
            The averaged network in evaluation mode.

        Raises:
            ValueError: If `role` or `checkpoint_every` is not valid.
            CheckpointError: If the checkpoint is unreadable or belongs to another recipe.
        """
        roles, seed = self.recipe.roles, self.recipe.seed
        if role not in roles:
            raise ValueError(f"`role` must be one of {roles}; got {role!r}.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(seed, roles.index(role), 0))
            network = self.build(role, self.recipe.dropout).train()
            run = Run(role, network, self.recipe)
            loss = self.loss(role, network)
            run.train(loss, checkpoint, checkpoint_every=checkpoint_every, report=report)
            averaged = self.build(role)
        averaged.load_state_dict(run.averaged())
        self.networks[role] = averaged.eval().requires_grad_(False)
        self.seconds[role] = run.seconds
        return averaged

    def moved(self, index: Int[Tensor, " B"]) -> Float[Tensor, "B 1 8 8"]:
        """Training digits, each moved a little at random as the recipe says."""
        background = -self.digits.mean / self.digits.scale
        return augment(self.digits.train_images[index], background, self.recipe)

    def card(self, weights: Path, quality: Any, losses: dict) -> dict:
        """Plain JSON data of the finished run. Arguments as `judge` takes and gives them."""
        return {
            "name": self.name,
            "licence": LICENCE,
            **self.facts(weights),
            "data": data_facts(self.digits),
            "recipe": self.recipe.to_dict(),
            "recipe_sha256": self.recipe.fingerprint(),
            "seed": self.recipe.seed,
            "training_seconds": self.seconds,
            "machine": {
                "platform": platform.platform(),
                "processor": platform.machine(),
                "threads": torch.get_num_threads(),
            },
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in self.packages},
            "loss_per_sigma": loss_facts(losses),
            "generated": asdict(quality) | {"sampler": f"ancestral, {SAMPLER_STEPS} levels, rho 7"},
        }


@dataclass(frozen=True)
class TrainingResult:
    """Where a run left its files, and how good the model is."""

    weights: Path  # a file, or the folder of a pipeline
    card: Path
    card_text: Path
    quality: Any
    seconds: float


def train(
    training: Training,
    out_dir: str | Path,
    *,
    checkpoint_every: int = 250,
    per_class: int = 100,
    keep_checkpoints: bool = False,
    progress: bool = True,
) -> TrainingResult:
    """Train all networks of a model and write them with their card.

    Args:
        training: The model and its recipe.
        out_dir: Folder for the results; made if missing. Checkpoints there are continued.
        checkpoint_every: Steps between checkpoints.
        per_class: Generated images of a class in the final judgement.
        keep_checkpoints: Keep the training states after the end.
        progress: Show progress bars.

    Raises:
        ValueError: If a setting is not valid, or `out_dir` is no folder that can be written into.
        CheckpointError: If a checkpoint in `out_dir` is damaged or belongs to another recipe.
    """
    as_count(per_class, "per_class")
    folder, recipe = check_directory(out_dir), training.recipe
    states = {role: folder / f"checkpoint-{role}.safetensors" for role in recipe.roles}
    for role, state in states.items():
        with progress_on_stderr(quiet=not progress) as bar:
            bar.step(f"{role} network of digits")
            report = partial(_show_loss, bar, recipe.steps(role))
            training.train_network(role, state, checkpoint_every=checkpoint_every, report=report)
    weights = training.write(folder)
    quality, losses = training.judge(weights, per_class)
    card = training.card(weights, quality, losses)
    paths = folder / CARD_NAME, folder / CARD_TEXT_NAME
    write_text(paths[0], json.dumps(card, indent=2) + "\n")
    write_text(paths[1], render_card(card, training.page(card)))
    if not keep_checkpoints:
        for state in states.values():
            state.unlink(missing_ok=True)
    return TrainingResult(weights, *paths, quality, sum(training.seconds.values()))


def _show_loss(bar: Progress, total: int, step: int, loss: float) -> None:
    bar.part(step, total, f"loss {loss:.3f}")
