"""What a training run of the digits networks consists of, as data.

The loss is EDM2's (Karras et al., 2024, arXiv 2312.02696, Eq. 14-16 and 21): with
`log sigma ~ N(log_sigma_mean, log_sigma_std^2)`, `x = x_0 + sigma n`, a learned log-variance `u`,

    L = E[ lambda(sigma) e^{-u(sigma)} |D(x; sigma, c) - x_0|^2 / pixels + u(sigma) ],
    lambda(sigma) = (sigma^2 + sigma_d^2) / (sigma sigma_d)^2.

Noise levels of a batch are stratified: one from each of `batch_size` equally likely intervals.

Small shifts, rotations and zooms of the training images keep the class posterior of the conditional
network honest on new digits: without them its classes grow too certain, with larger ones too timid.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field

from model_bridges.digits.data import NUM_CLASSES, SIGMA_DATA

ROLES = ("conditional", "unconditional")
METADATA_KEY = "digits"  # of the file of weights: one JSON object


def _default_network() -> dict:
    return {
        "img_resolution": 8,
        "img_channels": 1,
        "model_channels": 24,
        "channel_mult": [1, 2],
        "num_blocks": 1,
        "attn_resolutions": [4],
        "channels_per_head": 32,
        "sigma_data": SIGMA_DATA,
    }


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run; two runs with equal recipes and seeds agree bit for bit.

    Bitwise agreement holds on one machine with one number of threads.
    """

    seed: int = 0
    conditional_steps: int = 2000
    unconditional_steps: int = 1500
    batch_size: int = 128
    learning_rate: float = 1e-2
    warmup_steps: int = 200
    adam_betas: tuple[float, float] = (0.9, 0.99)
    ema_gamma: float = 6.94  # power-function average of relative width 0.10
    log_sigma_mean: float = -0.2
    log_sigma_std: float = 1.5
    dropout: float = 0.1
    max_shift: float = 0.2  # pixels
    max_rotation: float = 3.0  # degrees
    max_zoom: float = 0.02  # relative
    sigma_range: tuple[float, float] = (0.02, 80.0)
    network: dict = field(default_factory=_default_network)

    def __post_init__(self) -> None:
        positive = ("conditional_steps", "unconditional_steps", "batch_size", "learning_rate")
        for name in positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be positive; got {getattr(self, name)}.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"`dropout` must be in [0, 1); got {self.dropout}.")

    def steps(self, role: str) -> int:
        """Optimiser steps of the network in the given role."""
        return self.conditional_steps if role == "conditional" else self.unconditional_steps

    def network_kwargs(self, role: str) -> dict:
        """Constructor arguments of the network in the given role, as published files name them."""
        return {**self.network, "label_dim": NUM_CLASSES if role == "conditional" else 0}

    def to_dict(self) -> dict:
        """Plain JSON data."""
        return json.loads(json.dumps(asdict(self)))

    def fingerprint(self) -> str:
        """SHA-256 of the settings: a checkpoint continues only the recipe that began it."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()
