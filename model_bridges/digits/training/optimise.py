"""Training of one digits network: loss, augmentation, and the run that joins them.

How a run takes its steps, averages its weights and continues after a stop: `run`.
"""

import math
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from model_bridges.digits.data import Digits
from model_bridges.digits.training.recipe import ROLES, Recipe
from model_bridges.digits.training.run import Optimiser, Report, Run, seed_step
from model_bridges.edm2 import EDM2Network


@runtime_checkable
class Shifts(Protocol):
    """Largest shift in pixels, rotation in degrees and relative zoom of the training images."""

    @property
    def max_shift(self) -> float: ...
    @property
    def max_rotation(self) -> float: ...
    @property
    def max_zoom(self) -> float: ...


def edm2_loss(
    network: EDM2Network,
    clean: Float[Tensor, "B *event"],
    noise: Float[Tensor, "B *event"],
    sigma: Float[Tensor, " B"],
    labels: Int[Tensor, " B"] | None,
) -> Float[Tensor, ""]:
    """Mean of `lambda e^{-u} |D - x_0|^2 / pixels + u` over a batch (see `recipe`)."""
    denoised = network(clean + sigma[:, None, None, None] * noise, sigma, labels)
    weight = (sigma**2 + network.sigma_data**2) / (sigma * network.sigma_data) ** 2
    error = weight * (denoised - clean).square().mean((1, 2, 3))
    logvar = network.logvar(sigma)
    return (error * torch.exp(-logvar) + logvar).mean()


def augment(
    images: Float[Tensor, "B 1 H W"], background: float, recipe: Shifts
) -> Float[Tensor, "B 1 H W"]:
    """Random small shifts, rotations and zooms (bicubic); `background` fills what enters."""
    if recipe.max_shift == recipe.max_rotation == recipe.max_zoom == 0:
        return images
    batch, _, _, width = images.shape
    uniform = 2 * torch.rand(4, batch) - 1
    angle = math.radians(recipe.max_rotation) * uniform[0]
    zoom = torch.exp(recipe.max_zoom * uniform[1])
    shift = recipe.max_shift * 2 / width * uniform[2:]  # in grid units: the image spans [-1, 1]
    rows = [
        torch.stack([zoom * angle.cos(), -zoom * angle.sin(), shift[0]], 1),
        torch.stack([zoom * angle.sin(), zoom * angle.cos(), shift[1]], 1),
    ]
    grid = nn.functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    lifted = images - background  # outside the image, `grid_sample` reads zeros
    moved = nn.functional.grid_sample(lifted, grid, mode="bicubic", align_corners=False)
    return moved.clamp(0, float(lifted.max())) + background


def train_network(
    role: str,
    recipe: Recipe,
    digits: Digits,
    checkpoint: Path,
    *,
    checkpoint_every: int = 500,
    report: Report | None = None,
) -> tuple[EDM2Network, float]:
    """Train one network of the pair; continue from `checkpoint` if it is there.

    Args:
        role: `"conditional"` or `"unconditional"`.
        recipe: Settings of the run.
        digits: Data; the training part only is used.
        checkpoint: File that holds the state of the run, replaced atomically.
        checkpoint_every: Steps between checkpoints.
        report: Called after every step with (steps done, loss).

    Returns:
        The averaged network in evaluation mode, and the seconds its steps took in all runs.

    Raises:
        ValueError: If `role` or `checkpoint_every` is not valid.
        CheckpointError: If the checkpoint is unreadable or belongs to another recipe.
    """
    if role not in ROLES:
        raise ValueError(f"`role` must be one of {ROLES}; got {role!r}.")
    stream, kwargs = ROLES.index(role), recipe.network_kwargs(role)
    background, batch = -digits.mean / digits.scale, recipe.batch_size

    def loss() -> Tensor:
        index = torch.randint(len(digits.train_images), (batch,))
        clean = augment(digits.train_images[index], background, recipe)
        labels = digits.train_labels[index] if role == "conditional" else None
        normal = torch.special.ndtri(stratified(batch).double().clamp(1e-9, 1 - 1e-9)).float()
        sigma = torch.exp(recipe.log_sigma_mean + recipe.log_sigma_std * normal)
        return edm2_loss(network, clean, torch.randn_like(clean), sigma, labels)

    optimiser = Optimiser(
        recipe.steps(role),
        recipe.learning_rate,
        recipe.warmup_steps,
        recipe.adam_betas,
        recipe.ema_gamma,
    )
    with torch.random.fork_rng(devices=[]):
        seed_step(recipe.seed, stream, 0)
        network = EDM2Network(**kwargs, dropout=recipe.dropout).train()
        run = Run(role, stream, network, recipe, optimiser)
        run.train(loss, checkpoint, checkpoint_every=checkpoint_every, report=report)
        averaged = EDM2Network(**kwargs)
    averaged.load_state_dict(run.averaged())
    return averaged.eval().requires_grad_(False), run.seconds


def stratified(num: int) -> Float[Tensor, " B"]:
    """Uniform numbers, one from each of `num` equal intervals of (0, 1)."""
    return (torch.arange(num) + torch.rand(num)) / num
