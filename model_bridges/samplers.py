"""Reverse-time samplers in EDM coordinates, `x = x_0 + sigma n`.

Two ways from `sigma = t` to `t' < t`, given the posterior mean `D(x; t)`:

- *Probability flow*, `dx/dsigma = (x - D(x; sigma)) / sigma`, by Heun's second-order method
  (Karras et al., 2022, arXiv 2206.00364, Algorithm 1). Deterministic after the first draw.
- *Ancestral*: the posterior kernel of the variance-exploding process,

      x' = (t'^2 / t^2) x + (1 - t'^2 / t^2) D + sqrt((t^2 - t'^2) t'^2 / t^2) n,   n ~ N(0, I),

  the distribution of `x_{t'}` given `x_t` and `x_0 = D`. Tracked class posteriors assume this kernel.

Both end on `D(x; sigma_min)`, the posterior mean at the last level. With a guidance its state is threaded
through the steps; the second slope of Heun's method is guided from the state of the first, and as the
guidance decided there.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from gmm_speciation.checks import as_count
from gmm_speciation.control.entropic_time import karras_numbers
from gmm_speciation.guidance.intervals import warn_of_idle
from gmm_speciation.guidance.posteriors import check_classes
from gmm_speciation.progress import Parts, Progress, listening
from gmm_speciation.tracking import Variance, reverse_kernel
from model_bridges.denoisers.base import Label, own_mean
from model_bridges.denoisers.devices import beside, normal
from model_bridges.guidance import Guidance, denoise_at

DenoiserFunction = Callable[..., Tensor]
Method = Literal["ancestral", "probability-flow"]


def karras_sigmas(
    num_steps: int, sigma_min: float = 0.02, sigma_max: float = 80.0, rho: float = 7.0
) -> Float[Tensor, " T"]:
    """Decreasing levels, equally spaced in `sigma^(1/rho)` (Karras et al., 2022, Eq. 5), no zero.

    Raises:
        ValueError: If there are fewer than two levels, or as `karras_numbers` of the times of Karras et al.
    """
    num_steps = as_count(num_steps, "num_steps", 2)
    low, high, rho = karras_numbers(sigma_min, sigma_max, rho)
    roots = torch.linspace(high ** (1 / rho), low ** (1 / rho), num_steps, dtype=torch.float64)
    return roots**rho


def sample(
    denoiser: DenoiserFunction,
    shape: tuple[int, ...],
    sigmas: Float[Tensor, " T"],
    label: Label | None = None,
    *,
    guidance: Guidance | None = None,
    generator: torch.Generator | None = None,
    method: Method = "ancestral",
    variance: Variance = "posterior",
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    progress: Progress | Parts | None = None,
) -> Float[Tensor, "B *event"]:
    """Draw samples from a denoiser.

    Args:
        denoiser: `denoiser(x, sigma, label)` gives the posterior mean of `x` `(B, *event)`.
        shape: `(B, *event)` of the result.
        sigmas: Strictly decreasing positive noise levels; the first is that of the initial noise.
        label: Passed on to the denoiser.
        guidance: Bends the distribution that is drawn, and says which labels the denoiser is asked for;
            it needs the whole `Denoiser`.
        generator: Source of all randomness; what it draws is moved to `device`.
        method: The reverse step, see the module.
        variance: Of the ancestral noise: "posterior", the kernel above, or "beta" as
            `tracking.reverse_kernel`, which is not the kernel that tracking assumes.
        device: Where the samples live; beside the model by default.
        dtype: Of the states; torch's default.
        progress: Told of the steps that are done; a `Progress`, or a function `(done, in all)`.

    Raises:
        ValueError: If `sigmas` is not decreasing and positive, `method` or `variance` is unknown, both
            a label and a guidance are given, or the guidance tracks not all classes or its
            posterior has others.
    """
    levels, told = [float(sigma) for sigma in sigmas], listening(progress)
    decreasing = all(a > b for a, b in pairwise(levels))
    if not levels or not decreasing or not 0 < levels[-1] <= levels[0] < math.inf:
        raise ValueError(
            "`sigmas` must be strictly decreasing, positive and finite; got "
            f"{levels[:3]}...{levels[-1:]}. Use `karras_sigmas`, which ends above zero."
        )
    if method not in ("ancestral", "probability-flow"):
        raise ValueError(f"`method` must be 'ancestral' or 'probability-flow'; got {method!r}.")
    if variance not in get_args(Variance) or (variance == "beta" and method != "ancestral"):
        raise ValueError(
            "`variance` must be 'posterior' or 'beta', and is of ancestral steps alone; got "
            f"{variance!r} with {method!r}."
        )
    if guidance is not None and label is not None:
        raise ValueError("Give `label` or `guidance`, not both: a guidance brings its own labels.")
    if guidance is not None:
        check_classes(guidance, denoiser.num_classes)  # type: ignore[attr-defined]
        warn_of_idle(guidance, levels)

    def mean(x: Tensor, sigma: float, state: Any) -> tuple[Tensor, Any]:
        if guidance is None:
            return own_mean(denoiser, x, sigma, label), state
        return guidance.step(state, x, sigma, denoise_at(denoiser, x, sigma))  # type: ignore[arg-type]

    def mean_again(x: Tensor, sigma: float, state: Any) -> Tensor:
        if guidance is None:
            return own_mean(denoiser, x, sigma, label)
        return guidance.again(state, x, sigma, denoise_at(denoiser, x, sigma))  # type: ignore[arg-type]

    place = beside(denoiser) if device is None else device
    label = label.to(place) if isinstance(label, Tensor) else label
    with torch.no_grad():
        x = levels[0] * normal(shape, generator, place, dtype)
        state = None if guidance is None else guidance.init(x)
        for index, (sigma, next_sigma) in enumerate(pairwise(levels), start=1):
            denoised, state = mean(x, sigma, state)
            if method == "ancestral":
                average, spread = reverse_kernel(x, denoised, sigma, next_sigma, variance)
                x = average + math.sqrt(spread) * normal(shape, generator, place, dtype)
            else:
                slope = (x - denoised) / sigma
                euler = x + (next_sigma - sigma) * slope
                next_slope = (euler - mean_again(euler, next_sigma, state)) / next_sigma
                x = x + (next_sigma - sigma) * (slope + next_slope) / 2
            told.part(index, len(levels) - 1)
        return mean(x, levels[-1], state)[0]
