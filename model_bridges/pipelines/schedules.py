"""The noise schedule of a diffusers pipeline, in float64.

`abar_k = prod_{j <= k} (1 - beta_j)` from the scheduler's configuration. Diffusers computes it in
float32, which moves `sigma = sqrt((1 - abar) / abar)` at the first steps by up to 1e-4 of itself.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float


def alphas_cumprod(configuration: Mapping[str, Any]) -> Float[np.ndarray, " T"]:
    """`abar` at every training step; 0 at the last one with `rescale_betas_zero_snr`.

    Args:
        configuration: Contents of `scheduler_config.json`.

    Raises:
        ValueError: If the schedule is unknown or incomplete.
    """
    signal = np.cumprod(1 - _betas(configuration))
    if configuration.get("rescale_betas_zero_snr"):
        # Lin et al. 2023 (arXiv 2305.08891), Algorithm 1
        root = np.sqrt(signal)
        signal = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    return signal


def _betas(configuration: Mapping[str, Any]) -> Float[np.ndarray, " T"]:
    trained = configuration.get("trained_betas")
    if trained is not None:
        return np.asarray(trained, float)
    kind = configuration.get("beta_schedule", "linear")
    num_steps = int(configuration.get("num_train_timesteps", 1000))
    start = float(configuration.get("beta_start", 1e-4))
    end = float(configuration.get("beta_end", 0.02))
    if kind == "linear":
        return np.linspace(start, end, num_steps)
    if kind == "scaled_linear":
        return np.linspace(start**0.5, end**0.5, num_steps) ** 2
    if kind == "squaredcos_cap_v2":
        edges = np.cos((np.arange(num_steps + 1) / num_steps + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.minimum(1 - edges[1:] / edges[:-1], 0.999)
    raise ValueError(
        f"`beta_schedule` must be linear, scaled_linear or squaredcos_cap_v2; got {kind!r}. "
        "Wrap the network yourself with `from_epsilon` or `from_velocity`."
    )
