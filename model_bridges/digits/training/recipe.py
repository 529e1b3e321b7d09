"""What a training run consists of, as data.

Small shifts, rotations and zooms of the training images keep the class posterior of a conditional
network honest on new digits: without them its classes grow too certain, with larger ones too timid.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run; two runs with equal recipes and seeds agree bit for bit.

    Bitwise agreement holds on one machine with one number of threads. Those who inherit add
    `<role>_steps` and what they need beside.

    Raises:
        ValueError: If a setting is not valid.
    """

    roles: ClassVar[tuple[str, ...]]  # names of the networks, trained in this order
    positive: ClassVar[tuple[str, ...]] = ()  # further settings that must be

    seed: int = 0
    batch_size: int = 128
    learning_rate: float = 1e-2
    warmup_steps: int = 200
    adam_betas: tuple[float, float] = (0.9, 0.99)
    ema_gamma: float = 6.94  # power-function average of relative width 0.10
    dropout: float = 0.1
    max_shift: float = 0.2  # pixels of the 8 x 8 digits
    max_rotation: float = 3.0  # degrees
    max_zoom: float = 0.02  # relative

    def __post_init__(self) -> None:
        steps = (f"{role}_steps" for role in self.roles)
        for name in (*steps, "batch_size", "learning_rate", "warmup_steps", *self.positive):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be positive; got {getattr(self, name)}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1); got {self.dropout}.")

    def steps(self, role: str) -> int:
        """Optimiser steps of the network in the given role."""
        return getattr(self, f"{role}_steps")

    def largest_rate(self, role: str) -> float:
        """Learning rate of a role between warm-up and decay."""
        return self.learning_rate

    def to_dict(self) -> dict:
        """Plain JSON data."""
        return json.loads(json.dumps(vars(self)))

    def fingerprint(self) -> str:
        """SHA-256 of the settings: a checkpoint continues only the recipe that began it."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()
