"""Sampler levels equally spaced in information (Stancevic et al. 2025, arXiv 2504.13612), on a trained model.

    Karras      sigma^{1/7} equally spaced (arXiv 2206.00364)
    H(x_0|x)    dH/dsigma = sigma^{-3} E|x_0 - D|^2, D of the whole law, on data
    H(C|x)      the tracked class entropy

The model draws without a class; quality is the Frechet distance against the number of levels, by the
ancestral sampler and by Heun's method on the probability flow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Float

from gmm_speciation.checks import as_count
from gmm_speciation.progress import SILENT, Progress
from gmm_speciation.reporting.claims import Claim, at_most
from model_bridges.control.drawing import Draw, Wanted, draw_all
from model_bridges.guidance import Unguided
from model_bridges.quality import paired_difference
from model_bridges.samplers import Method, karras_sigmas
from model_bridges.studied import StudiedModel
from model_bridges.tracking.readouts import tracked_curve
from model_bridges.tracking.tracked import TrackedPosterior

KARRAS, STATE, CLASS = "Karras, ρ = 7", "H(x₀|x)", "H(C|x)"
METHODS: tuple[Method, ...] = ("ancestral", "probability-flow")
NUM_LEVELS = (6, 11, 21)
_FLAT = 1e-3  # of the class entropy, spread evenly: a grid must not stop where nothing is decided


@dataclass(frozen=True, eq=False)
class TimeGrids:
    """Draws by grid, method and number of levels."""

    levels: dict[tuple[str, int], Float[np.ndarray, " T"]]
    draws: dict[tuple[str, Method, int], Draw]
    checks: list[Claim]


def entropic_levels(
    record: TrackedPosterior, num_levels: int, of: str, sigma_range: tuple[float, float]
) -> Float[np.ndarray, " T"]:
    """Decreasing levels, equally spaced in an entropy measured on data.

    Args:
        record: Of data over the whole range.
        num_levels: T, at least 2.
        of: `STATE` or `CLASS`.
        sigma_range: Ends of the grid. Beyond the record nothing is decided.

    Raises:
        ValueError: If `of` is neither, the record has no unconditional part for `STATE`, there are no two
            levels or ends, or nothing is decided between these, or not a number.
    """
    num_levels, (low, high) = as_count(num_levels, "num_levels", 2), sigma_range
    if not 0 < low < high < np.inf:
        raise ValueError(f"`sigma_range` must be 0 < low < high, finite; got {sigma_range}.")
    log_sigma = np.log(record.sigmas)
    if of == CLASS:
        entropy = np.maximum.accumulate(np.asarray(tracked_curve(record).entropy.value))
    elif of == STATE and record.unconditional_error is not None:
        # dH / dlog sigma = E|x_0 - D|^2 / sigma^2
        rate = record.unconditional_error.mean(1) / record.sigmas**2
        entropy = np.r_[0, np.cumsum(np.diff(log_sigma) * (rate[1:] + rate[:-1]) / 2)]
    else:
        raise ValueError(
            f"`of` must be {STATE!r}, of a model with an unconditional part, or {CLASS!r}; got {of!r}."
        )
    first, last = np.interp(np.log([high, low]), log_sigma, entropy)
    if not 0 < first - last < np.inf:
        raise ValueError(
            f"Between sigma = {high:.4g} and {low:.4g} the record must decide something of {of}, so that a "
            f"grid can be even in it; its entropy goes from {first:.4g} to {last:.4g}. Track more images, "
            "take a wider range, or `karras_sigmas`."
        )
    if of == CLASS:
        entropy = entropy + _FLAT * entropy[-1] * np.linspace(0, 1, len(entropy))
        first, last = np.interp(np.log([high, low]), log_sigma, entropy)
    levels = np.exp(np.interp(np.linspace(first, last, num_levels), entropy, log_sigma))
    levels[0], levels[-1] = high, low
    return levels


def compare_grids(
    model: StudiedModel,
    record: TrackedPosterior,
    *,
    num_levels: Sequence[int] = NUM_LEVELS,
    num_images: int = 500,
    seed: int = 0,
    progress: Progress = SILENT,
) -> TimeGrids:
    """Draw on every grid. Arguments as `interval_search.search_intervals`; `record` is of data."""
    ends = model.denoiser.sigma_range
    levels: dict[tuple[str, int], np.ndarray] = {}
    for count in num_levels:
        levels[KARRAS, count] = karras_sigmas(count, *ends).numpy()
        for of in (STATE, CLASS):
            levels[of, count] = entropic_levels(record, count, of, ends)
    wanted = {
        (grid, method, count): Wanted(
            f"{grid}, {count} levels",
            lambda labels: Unguided(),
            num_images,
            torch.from_numpy(levels[grid, count]),
            method,
            seed,
        )
        for method, (grid, count) in product(METHODS, levels)
    }
    draws = dict(zip(wanted, draw_all(model, list(wanted.values()), progress), strict=True))
    checks = [
        at_most(
            f"{grid} beats Karras, {count} levels, {method}: difference of Fréchet distances",
            paired_difference(
                draws[grid, method, count].quality, draws[KARRAS, method, count].quality, "frechet"
            ),
            0.0,
            "Stančević et al. 2025",
        )
        for method, grid, count in product(METHODS, (STATE, CLASS), num_levels)
    ]
    return TimeGrids(levels, draws, checks)
