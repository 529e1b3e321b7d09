"""The papers' settings by name.

    handke2026-edm2   arXiv 2602.09651: tracking against the unconditional model along trajectories of the
                      model, stochastic sampler, 64 levels, sigma 0.002 to 80, rho 7, 3000 samples
    handke2026-sd15   the same with 100 steps of the DDPM schedule, 400 samples
    biroli2024        arXiv 2402.18491: clone agreement with 1000 steps

Class against class and the papers' two forms are read from the same trajectories, each under its name.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from model_bridges.samplers import karras_sigmas


@dataclass(frozen=True, eq=False)
class Preset:
    """What a paper ran: estimators, levels, samples, and whether along trajectories of the model."""

    estimators: tuple[str, ...]
    num_samples: int
    trajectories: bool = False
    levels: Float[np.ndarray, " L"] | None = None
    clone_steps: int = 64


def _ddpm_levels() -> Float[np.ndarray, " L"]:
    """100 of 1000 steps of the scaled-linear schedule, as Stable Diffusion takes them: 1, 11, ... 991.

    The spacing "leading" with `steps_offset` 1, as its scheduler is configured in diffusers: sigma from .0413
    to 13.926; the network was trained from .0292 to 14.615.
    """
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    kept = np.cumprod(1 - betas)
    return np.sqrt((1 - kept) / kept)[1::10]


TRACKED = ("tracking", "tracking-ratio", "tracking-forced", "gap-unconditional")
PRESETS = {
    "handke2026-edm2": Preset(
        TRACKED, 3000, True, karras_sigmas(64, 0.002, 80.0, 7.0).numpy()[::-1]
    ),
    "handke2026-sd15": Preset(TRACKED, 400, True, _ddpm_levels()),
    "biroli2024": Preset(("clones",), 1000, clone_steps=1000),
}
