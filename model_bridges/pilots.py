"""A cheap first look at where a model decides: its entropy rate on a coarse grid.

A handful of images are tracked through a few levels; the mean Bayes gap `E sum_c p_c |D_c - Dbar|^2 /
sigma^2`, the entropy lost per unit `log sigma`, is all that is kept. Levels and draws of the estimators
are then placed where it is large. Places, not values: a rough pilot costs accuracy, never a bias.
"""

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from model_bridges.denoiser import Denoiser
from model_bridges.importance import Proposal
from model_bridges.tracking import trace

NUM_IMAGES, NUM_LEVELS = 16, 24
LEVEL_FLOOR = 0.35  # share of levels spread evenly: posteriors are tracked everywhere


def pilot_rate(
    denoiser: Denoiser,
    x0: Float[Tensor, "N *event"],
    *,
    prior: ArrayLike | None = None,
    seed: int = 0,
    num_images: int = NUM_IMAGES,
    num_levels: int = NUM_LEVELS,
    max_batch: int = 1024,
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
    """Levels `sigma`, increasing over the model's range, and the rate per unit log sigma there.

    The images are spread over the data; the noise is that of the seed and no other pass uses it.

    Raises:
        ValueError: As `trace`.
    """
    sigmas = np.geomspace(*denoiser.sigma_range, num_levels)
    chosen = torch.linspace(0, len(x0) - 1, min(num_images, len(x0))).round().long()
    record = trace(
        denoiser,
        x0[chosen.to(x0.device)],
        sigmas=sigmas,
        prior=prior,
        seed=_own_seed(seed),
        max_batch=max_batch,
    )
    rate = np.maximum(record.fine.bayes_gap, 0).mean(1) / sigmas**2
    # Neighbours lend each other weight: the pilot's few images leave gaps.
    padded = np.pad(rate, 1, mode="edge")
    return sigmas, (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4


def _own_seed(seed: int) -> int:
    return int(np.random.SeedSequence([seed, 0x9107]).generate_state(1)[0])


def adaptive_sigmas(
    denoiser: Denoiser,
    x0: Float[Tensor, "N *event"],
    num_levels: int = 24,
    *,
    prior: ArrayLike | None = None,
    seed: int = 0,
    max_batch: int = 1024,
) -> Float[np.ndarray, " L"]:
    """Levels for `trace` over the model's range, dense in log sigma where its classes are decided.

    Raises:
        ValueError: If there are fewer than two levels, and as `trace`.
    """
    if num_levels < 2:
        raise ValueError(f"`num_levels` must be at least 2; got {num_levels}.")
    sigmas, rate = pilot_rate(denoiser, x0, prior=prior, seed=seed, max_batch=max_batch)
    return place_levels(sigmas, rate, num_levels)


def place_levels(
    sigmas: Float[np.ndarray, " M"], rate: Float[np.ndarray, " M"], num_levels: int
) -> Float[np.ndarray, " L"]:
    """Levels at equal shares of the rate's square root mixed with the uniform density."""
    proposal = Proposal.from_shape(np.log(sigmas), np.sqrt(rate), LEVEL_FLOOR)
    levels = np.exp(proposal.quantile(np.linspace(0, 1, num_levels)))
    levels[[0, -1]] = sigmas[[0, -1]]  # the ends, not to rounding
    return levels
