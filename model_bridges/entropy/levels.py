"""A cheap first look at where a model decides: its entropy rate on a coarse grid.

A handful of images are tracked through a few levels; the mean Bayes gap `E sum_c p_c |D_c - Dbar|^2 /
sigma^2`, the entropy lost per unit `log sigma`, is all that is kept. Levels and draws of the estimators
are then placed where it is large. Places, not values: a rough pilot costs accuracy, never a bias.
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from gmm_speciation.checks import as_count
from model_bridges.denoisers.arrays import Images, Labels
from model_bridges.denoisers.base import Denoiser
from model_bridges.denoisers.checks import check_data
from model_bridges.entropy.importance import Proposal
from model_bridges.tracking.forward import track
from model_bridges.tracking.tracked import TrackedPosterior

NUM_IMAGES, NUM_LEVELS = 16, 24
LEVEL_FLOOR = 0.35  # share of levels spread evenly: posteriors are tracked everywhere


def pilot_posterior(
    denoiser: Denoiser,
    x0: Images,
    labels: Labels | None = None,
    *,
    seed: int = 0,
    num_images: int = NUM_IMAGES,
    num_levels: int = NUM_LEVELS,
    **options: Any,
) -> tuple[TrackedPosterior, Float[Tensor, "B *event"]]:
    """A tracked posterior of a handful of images, spread over the data, and these images.

    Levels are even over the model's range; the noise is that of the seed and no other pass uses it.
    `options` are those of `track`. Errors as `track`.
    """
    x0, labels = check_data(denoiser, x0, labels)
    chosen = torch.linspace(0, len(x0) - 1, min(num_images, len(x0))).round().long()
    images = x0[chosen.to(x0.device)]
    own = None if labels is None else labels[chosen.to(labels.device)]
    sigmas = np.geomspace(*denoiser.sigma_range, num_levels)
    of_pilots = int(np.random.SeedSequence([seed, 0x9107]).generate_state(1)[0])
    return track(denoiser, images, own, sigmas=sigmas, seed=of_pilots, **options), images


def pilot_rate(
    denoiser: Denoiser, x0: Images, **options: Any
) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
    """Levels `sigma` and the rate per unit log sigma of a `pilot_posterior`, which see."""
    return rate_of(pilot_posterior(denoiser, x0, **options)[0])


def rate_of(record: TrackedPosterior) -> tuple[Float[np.ndarray, " M"], Float[np.ndarray, " M"]]:
    """Levels and the rate per unit log sigma there, smoothed."""
    sigmas = record.sigmas
    rate = np.maximum(record.fine.bayes_gap, 0).mean(1) / sigmas**2
    # Neighbours lend each other weight: the pilot's few images leave gaps.
    padded = np.pad(rate, 1, mode="edge")
    return sigmas, (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4


def adaptive_sigmas(
    denoiser: Denoiser,
    x0: Images,
    num_levels: int = 24,
    *,
    prior: ArrayLike | None = None,
    seed: int = 0,
    max_batch: int = 1024,
) -> Float[np.ndarray, " L"]:
    """Levels for `track` over the model's range, dense in log sigma where its classes are decided.

    Raises:
        ValueError: If there are fewer than two levels, and as `track`.
    """
    num_levels = as_count(num_levels, "num_levels", 2)
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
