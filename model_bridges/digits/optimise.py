"""Training of one digits network: loss, optimiser, weight average, checkpoints.

One step draws images and noise, takes an Adam step on the EDM2 loss, and updates the average

    ema_k = b_k ema_{k-1} + (1 - b_k) theta_k,   b_k = (1 - 1/k)^{gamma + 1},

the power-function average of Karras et al. (2024, arXiv 2312.02696, Section 3.1). The randomness of
step `k` is seeded by (seed, role, k) alone, so an interrupted run continues bit for bit.
"""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from model_bridges.digits.data import Digits
from model_bridges.digits.recipe import ROLES, Recipe
from model_bridges.digits.storage import CheckpointError, read_tensors, write_tensors
from model_bridges.edm2 import EDM2Network


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
    images: Float[Tensor, "B 1 H W"], background: float, recipe: Recipe
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
    report: Callable[[int, float], None] | None = None,
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
    if checkpoint_every < 1:
        raise ValueError(f"`checkpoint_every` must be at least 1; got {checkpoint_every}.")
    with torch.random.fork_rng(devices=[]):
        _seed(recipe, role, 0)
        run = _Run(role, recipe)
        if checkpoint.exists():
            run.restore(checkpoint)
        num_steps, last = recipe.steps(role), time.monotonic()
        background = -digits.mean / digits.scale
        while run.step < num_steps:
            _seed(recipe, role, run.step + 1)
            loss = run.advance(digits, background, num_steps)
            now = time.monotonic()
            run.seconds, last = run.seconds + now - last, now
            if run.step % checkpoint_every == 0 or run.step == num_steps:
                run.save(checkpoint)
            if report is not None:
                report(run.step, loss)
        return run.averaged(), run.seconds


class _Run:
    """Network, Adam state and average after `step` steps."""

    def __init__(self, role: str, recipe: Recipe) -> None:
        self.role, self.recipe, self.step, self.seconds = role, recipe, 0, 0.0
        kwargs = recipe.network_kwargs(role)
        self.network = EDM2Network(**kwargs, dropout=recipe.dropout).train()
        # Channels last is the faster layout of small convolutions on a CPU.
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), betas=recipe.adam_betas, fused=True
        )
        self.ema = {name: p.detach().clone() for name, p in self.network.named_parameters()}

    def advance(self, digits: Digits, background: float, num_steps: int) -> float:
        recipe, batch = self.recipe, self.recipe.batch_size
        index = torch.randint(len(digits.train_images), (batch,))
        clean = augment(digits.train_images[index], background, recipe)
        labels = digits.train_labels[index] if self.role == "conditional" else None
        quantile = (torch.arange(batch) + torch.rand(batch)) / batch
        normal = torch.special.ndtri(quantile.double().clamp(1e-9, 1 - 1e-9)).float()
        sigma = torch.exp(recipe.log_sigma_mean + recipe.log_sigma_std * normal)
        warmup = min(1.0, (self.step + 1) / recipe.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * self.step / num_steps))
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.learning_rate * warmup * cosine
        self.optimizer.zero_grad(set_to_none=True)
        loss = edm2_loss(self.network, clean, torch.randn_like(clean), sigma, labels)
        loss.backward()
        self.optimizer.step()
        self.step += 1
        decay = (1 - 1 / self.step) ** (recipe.ema_gamma + 1)
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                self.ema[name].lerp_(parameter, 1 - decay)
        return float(loss.detach())

    def averaged(self) -> EDM2Network:
        network = EDM2Network(**self.recipe.network_kwargs(self.role))
        network.load_state_dict({**self.network.state_dict(), **self.ema})
        return network.eval().requires_grad_(False)

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"ema.{name}": value for name, value in self.ema.items()}
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"adam.{key}.{name}"] = value
        return tensors

    def save(self, path: Path) -> None:
        metadata = {"step": str(self.step), "role": self.role, "seconds": f"{self.seconds:.3f}"}
        metadata |= {"recipe": json.dumps(self.recipe.to_dict())}
        metadata |= {"fingerprint": self.recipe.fingerprint()}
        write_tensors(path, self._tensors(), metadata)

    def restore(self, path: Path) -> None:
        tensors, metadata = read_tensors(path)
        if (metadata.get("fingerprint"), metadata.get("role")) != (
            self.recipe.fingerprint(),
            self.role,
        ):
            raise CheckpointError(
                f"{path} belongs to another recipe or seed than the one asked for. "
                "Choose another output folder, or delete the file to start again."
            )
        try:
            parts: dict[str, dict[str, Tensor]] = {"network": {}, "ema": {}, "adam": {}}
            for name, value in tensors.items():
                part, rest = name.split(".", 1)
                parts[part][rest] = value
            self.network.load_state_dict(parts["network"])
            for name, value in self.ema.items():
                value.copy_(parts["ema"][name])
            for name, parameter in self.network.named_parameters():
                self.optimizer.state[parameter] = {
                    "step": parts["adam"][f"step.{name}"].clone(),
                    "exp_avg": _like(parts["adam"][f"exp_avg.{name}"], parameter),
                    "exp_avg_sq": _like(parts["adam"][f"exp_avg_sq.{name}"], parameter),
                }
            self.step, self.seconds = int(metadata["step"]), float(metadata["seconds"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{path} is not a complete checkpoint ({error}). Delete it to start again."
            ) from error


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    return torch.empty_like(parameter, requires_grad=False).copy_(value)


def _seed(recipe: Recipe, role: str, step: int) -> None:
    entropy = np.random.SeedSequence([recipe.seed, ROLES.index(role), step])
    torch.manual_seed(int(entropy.generate_state(1, np.uint64)[0] >> 1))
