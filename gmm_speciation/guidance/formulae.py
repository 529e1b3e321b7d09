"""The formulae of guidance, as functions of arrays, of JAX or of torch.

`reference`, `conditional`, `unwanted` are posterior means, scores or noises at one x (all of one kind);
weights of a batch must carry the axis of the coordinates, `weight[..., None]`.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from gmm_speciation.arrays import namespace
from gmm_speciation.checks import ArrayLike, as_axis, positive
from gmm_speciation.processes import DDPM

Number = Any  # a number, or an array of the library
Values = Float[Any, "*batch"]


def classifier_free(reference: Values, conditional: Values, scale: Number) -> Values:
    """`D_ref + w (D_c - D_ref)`, written so that w = 1 gives D_c itself.

    Ho & Salimans 2022 (arXiv 2207.12598), whose weight is w - 1.
    """
    return conditional + (scale - 1) * (conditional - reference)


def away_from(base: Values, reference: Values, unwanted: Values, strength: Number) -> Values:
    """`D_base - strength (D_c - D)`: negative prompting, with one strength or one a point.

    The base is D itself, or what is drawn towards a prompt.
    """
    return base - strength * (unwanted - reference)


def inside(sigma: Number, low: Number, high: Number) -> Any:
    """Whether noise per signal lies in (low, high] (Kynkaanniemi et al. 2024, arXiv 2404.07724)."""
    return (sigma > low) & (sigma <= high)


def feedback_scale(log_ratio: Values, purity: Number, max_scale: Number) -> Values:
    """`P / (P - (1 - pi))` from log P, P = p(x|c) / p(x) of the model; falls to 1 as P grows.

    If a learned class law is `pi p(x|c) + (1 - pi) p(x)` this scale undoes the mixing exactly
    (Koulischer et al. 2025, arXiv 2506.06085). It is `max_scale` from `P = feedback_floor` downwards,
    where the formula grows without bound and then changes sign.
    """
    xp = namespace(log_ratio)
    inverse = 1 - (1 - purity) * xp.exp(-log_ratio)
    return 1 / xp.clip(inverse, 1 / max_scale, 1.0)


def feedback_floor(purity: float, max_scale: float) -> float:
    """The log P at which the feedback scale reaches `max_scale`: `log((1 - pi) m / (m - 1))`.

    Raises:
        ValueError: If `purity` is not in (0, 1) or `max_scale` not above 1.
    """
    if not (0 < purity < 1 and max_scale > 1):
        raise ValueError(
            "`purity` must lie inside (0, 1) and `max_scale` above 1; got "
            f"{purity} and {max_scale}."
        )
    return math.log((1 - purity) * max_scale / (max_scale - 1))


def feedback_offset(
    purity: float, start: float, num_steps: int, reference_scale: float = 3.0
) -> float:
    """Nats a step that bring log P from 0 to the log P of `reference_scale` at time `start`.

    `delta = log((1 - pi) m / (m - 1)) / ((1 - t_0) N)`: without any evidence the scale reaches
    m = `reference_scale` after the first `1 - t_0` of N steps, t_0 counted from the clean end. N is
    the number of positive levels of the grid: the published one steps from the last of them to zero.

    Raises:
        ValueError: As `feedback_floor`, or if `start` is not in [0, 1) or there is no step.
    """
    if not (0 <= start < 1 and num_steps >= 1):
        raise ValueError(
            f"`start` must lie in [0, 1) and `num_steps` be positive; got {start} and {num_steps}."
        )
    return feedback_floor(purity, reference_scale) / ((1 - start) * num_steps)


def feedback_temperature(
    levels: ArrayLike, purity: float = 0.999, start: float = 0.556, peak: float = 0.429
) -> float:
    """`tau = |2 v(t_1) delta| / Delta` of feedback guidance on a grid of noise levels.

    With it a squared distance of Delta = 10, by which the next state is nearer to what the class says than
    to what the whole does, makes up for the offset delta at t_1. v is the variance of the reverse kernel of
    the step that leaves a level, 0 at the last, and `t = i / N` at the i-th of N levels from the clean end;
    between levels v is interpolated (Koulischer et al. 2025, arXiv 2506.06085; t_1 is .429 for feedback alone
    and .492 on top of a limited interval).

    Args:
        levels: sigma in EDM coordinates, `(N,)`, positive, from noise to signal.
        purity, start: pi and t_0, as of `feedback_offset`.
        peak: t_1, a share of the steps left.

    Raises:
        ValueError: As `feedback_offset`, if the levels do not decrease to a positive one, or `peak` is not
            in [0, 1).
    """
    grid = as_axis(
        levels,
        "levels",
        "hold positive, finite values that decrease strictly",
        lambda sigma: np.all(positive(sigma)) and np.all(np.diff(sigma) < 0),
    )
    if not 0 <= peak < 1:
        raise ValueError(f"`peak` must lie in [0, 1); got {peak}.")
    sigma = np.append(grid, 0.0)
    variance = (sigma[:-1] ** 2 - sigma[1:] ** 2) * (sigma[1:] / sigma[:-1]) ** 2
    times = np.arange(len(variance)) / len(variance)
    offset = feedback_offset(purity, start, len(variance))
    return float(abs(2 * np.interp(peak, times, variance[::-1]) * offset) / 10)


def published_levels(num_levels: int) -> Float[np.ndarray, " N"]:
    """The N levels of noise of feedback guidance: Karras' of EDM2, sigma 80 to .002, rho 7."""
    return np.linspace(80 ** (1 / 7), 0.002 ** (1 / 7), num_levels) ** 7


def accumulated_precision(
    schedule: DDPM,
) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """`log sigma` of a schedule's steps, EDM coordinates, and the sum of `1 / (2 v)` up to each.

    v is the variance of the reverse kernel of a step, in the schedule's own variance-preserving
    coordinates. An offset delta of dynamic negative guidance, meant for this schedule, adds delta times
    the difference of the sum between two levels, whichever way a sampler goes from one to the other;
    outside the schedule's levels it adds nothing.
    """
    log_sigma = -np.asarray(schedule.step_log_snr) / 2
    noisy, clean = np.exp(2 * log_sigma[1:]), np.exp(2 * log_sigma[:-1])
    variance = (noisy - clean) * clean / (noisy * (1 + clean))
    return log_sigma, np.r_[0.0, np.cumsum(1 / (2 * variance))]


def negative_bounds(
    prior: float, min_posterior: float, max_posterior: float
) -> tuple[float, float]:
    """Bounds of the tracked log P of dynamic negative guidance, from those of the posterior `prior P`.

    Raises:
        ValueError: If not `0 <= min_posterior < prior < max_posterior < 1`.
    """
    if not 0 <= min_posterior < prior < max_posterior < 1:
        raise ValueError(
            "The tracked posterior needs 0 <= min_posterior < prior < max_posterior < 1; got "
            f"{min_posterior}, {prior}, {max_posterior}."
        )
    floor = math.log(min_posterior / prior) if min_posterior > 0 else -math.inf
    return floor, math.log(max_posterior / prior)
