"""The steps of a pipeline: its scheduler with what the pipeline hands to it besides their number.

FluxPipeline               `sigmas`, even from 1 to 1/n, where the scheduler has no flow levels of its own;
                           `mu`, by the number of tokens
StableDiffusion3Pipeline   `mu`, where the scheduler shifts by it
others of `FAMILIES`       nothing
"""

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_bridges.pipelines.families import FAMILIES, Size, family_of_pipeline, kind_of
from model_bridges.pipelines.opened import latent_size
from model_bridges.pipelines.schedulers import KNOWN, identified, levels_of


@dataclass(frozen=True)
class Stepped:
    """A scheduler in a pipeline.

    Args:
        scheduler: An object of diffusers.
        handed: What the pipeline hands to its `set_timesteps` for a number of steps, besides the number.
    """

    scheduler: Any
    handed: Callable[[int], Mapping[str, Any]]

    def levels(self, num_steps: int) -> list[tuple[float, float]]:
        """`(timestep, sigma)` of the steps. Errors as `levels_of`."""
        return levels_of(self.scheduler, num_steps, self.handed)


def stepped(given: Any, size: Size | None = None) -> Stepped:
    """A pipeline's scheduler in its pipeline, or a scheduler by itself.

    Args:
        given: A pipeline of `FAMILIES` or an heir, a scheduler, or what is stepped already.
        size: Height and width of a pipeline's pictures in pixels; its own by default.

    Raises:
        ValueError: If it is another pipeline, or the size goes with none or does not fit.
    """
    if isinstance(given, Stepped):
        return given
    if hasattr(given, "scheduler"):
        kind = kind_of(given)
        if kind not in FAMILIES:
            raise ValueError(
                f"The pipeline must be one of {', '.join(FAMILIES)}; got {kind}, whose steps are not known "
                "here. Give its scheduler, if it hands no levels of its own to `set_timesteps`."
            )
        network = getattr(given, FAMILIES[kind].network).config
        return in_pipeline(
            given.scheduler, kind, network, getattr(given, "vae_scale_factor", 1), size
        )
    if size is not None:
        raise ValueError("`size` is that of a pipeline's pictures; give the pipeline, too.")
    name, _ = identified(given)
    flow = name in KNOWN and KNOWN[name].name == "flow"
    if flow and "sigmas" in inspect.signature(given.set_timesteps).parameters:
        warnings.warn(
            f"the steps of {name} are those of its pipeline, and FLUX hands levels of its own to it. Give "
            "the pipeline in place of its scheduler.",
            stacklevel=3,
        )
    return Stepped(given, lambda num_steps: {})


def in_pipeline(
    scheduler: Any,
    kind: str,
    network: Mapping[str, Any],
    reduction: int = 1,
    size: Size | None = None,
) -> Stepped:
    """A scheduler in a pipeline of `FAMILIES`.

    Args:
        scheduler: An object of diffusers.
        kind: The pipeline's class.
        network: Configuration of its network.
        reduction: Pixels a latent, along each axis.
        size: As of `stepped`.

    Raises:
        ValueError: If the size does not fit.
    """
    settings = scheduler.config
    rows, columns = latent_size(family_of_pipeline(kind), network, reduction, size)
    if kind == "FluxPipeline":
        side, most = 2, 1.15
    elif kind == "StableDiffusion3Pipeline" and settings.get("use_dynamic_shifting"):
        side, most = network["patch_size"], 1.16
    else:
        return Stepped(scheduler, lambda num_steps: {})
    tokens = (rows // side) * (columns // side)
    ends = settings.get("base_image_seq_len", 256), settings.get("max_image_seq_len", 4096)
    low, high = settings.get("base_shift", 0.5), settings.get("max_shift", most)
    mu = low + (tokens - ends[0]) * (high - low) / (ends[1] - ends[0])
    own = kind == "FluxPipeline" and not settings.get("use_flow_sigmas")

    def handed(num_steps: int) -> dict[str, Any]:
        sigmas = {"sigmas": np.linspace(1.0, 1 / num_steps, num_steps)} if own else {}
        return {"mu": mu, **sigmas}

    return Stepped(scheduler, handed)
