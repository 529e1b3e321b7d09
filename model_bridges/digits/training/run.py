"""A network in training: Adam, a running average of its weights, checkpoints that continue bit for bit.

One step draws a batch, takes an Adam step on its loss, and updates the average

    ema_k = b_k ema_{k-1} + (1 - b_k) theta_k,   b_k = (1 - 1/k)^{gamma + 1},

the power-function average of Karras et al. (2024, arXiv 2312.02696, Section 3.1). The learning rate
rises linearly over the warm-up and falls as half a cosine. The randomness of step k is seeded by
(seed, role, k) alone, so an interrupted run continues to the same weights.
"""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gmm_speciation.checks import as_count
from model_bridges.checkpoints.errors import CheckpointError
from model_bridges.checkpoints.tensors import read_tensors, write_tensors
from model_bridges.digits.training.recipe import Recipe

Report = Callable[[int, float], object]


class Run:
    """Network, Adam state and average after `step` steps.

    Args:
        role: Which of the recipe's networks; a checkpoint knows it.
        network: What is trained, in training mode.
        recipe: Settings; a checkpoint continues only the recipe that began it.
    """

    def __init__(self, role: str, network: nn.Module, recipe: Recipe) -> None:
        self.role, self.recipe = role, recipe
        self.step, self.seconds = 0, 0.0
        # Channels last is the faster layout of small convolutions on a CPU.
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.Adam(network.parameters(), betas=recipe.adam_betas, fused=True)
        self.ema = {name: p.detach().clone() for name, p in network.named_parameters()}

    def train(
        self,
        loss: Callable[[], Tensor],
        checkpoint: Path,
        *,
        checkpoint_every: int = 500,
        report: Report | None = None,
    ) -> None:
        """Run to the end, from `checkpoint` if it is there.

        Args:
            loss: Draws a batch with torch's global generator and returns its loss.
            checkpoint: File that holds the state of the run, replaced atomically.
            checkpoint_every: Steps between checkpoints.
            report: Called after every step with (steps done, loss).

        Raises:
            ValueError: If `checkpoint_every < 1`.
            CheckpointError: If the checkpoint is unreadable or belongs to another recipe.
        """
        as_count(checkpoint_every, "checkpoint_every")
        if checkpoint.exists():
            self.restore(checkpoint)
        stream, num_steps = self.recipe.roles.index(self.role), self.recipe.steps(self.role)
        last = time.monotonic()
        while self.step < num_steps:
            torch.manual_seed(derived_seed(self.recipe.seed, stream, self.step + 1))
            value = self._advance(loss)
            now = time.monotonic()
            self.seconds, last = self.seconds + now - last, now
            if self.step % checkpoint_every == 0 or self.step == num_steps:
                self.save(checkpoint)
            if report is not None:
                report(self.step, value)

    def _advance(self, loss: Callable[[], Tensor]) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        self.optimizer.zero_grad(set_to_none=True)
        value = loss()
        value.backward()
        self.optimizer.step()
        self.step += 1
        decay = (1 - 1 / self.step) ** (self.recipe.ema_gamma + 1)
        with torch.no_grad():
            for name, parameter in self.network.named_parameters():
                self.ema[name].lerp_(parameter, 1 - decay)
        return float(value.detach())

    def _rate(self) -> float:
        """Learning rate of the next step."""
        warmup = min(1.0, (self.step + 1) / self.recipe.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * self.step / self.recipe.steps(self.role)))
        return self.recipe.largest_rate(self.role) * warmup * cosine

    def averaged(self) -> dict[str, Tensor]:
        """State of the network with its averaged weights."""
        return {**self.network.state_dict(), **self.ema}

    def save(self, path: Path) -> None:
        """Write the state of the run."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"ema.{name}": value for name, value in self.ema.items()}
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"adam.{key}.{name}"] = value
        metadata = {"step": str(self.step), "role": self.role, "seconds": f"{self.seconds:.3f}"}
        metadata |= {"recipe": json.dumps(self.recipe.to_dict())}
        metadata |= {"fingerprint": self.recipe.fingerprint()}
        write_tensors(path, tensors, metadata)

    def restore(self, path: Path) -> None:
        """Continue from a written state.

        Raises:
            CheckpointError: If it is unreadable or belongs to another recipe.
        """
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


def derived_seed(*words: int) -> int:
    """A seed that depends on all of the words: streams of other words are unrelated to its own."""
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    return torch.empty_like(parameter, requires_grad=False).copy_(value)
