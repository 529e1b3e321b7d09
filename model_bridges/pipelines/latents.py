"""The scale of latents: `z = (draw of the encoder - mean) scale`, a value a channel.

From the autoencoder's configuration: `mean = shift_factor` and `scale = scaling_factor` (Rombach et al. 2022;
Esser et al. 2024), or `mean = latents_mean` and `scale = scaling_factor / latents_std` (Li et al. 2024, arXiv
2402.17245). Which of them are applied is a matter of the pipeline's class: a configuration that says more is
of latents that its pipeline neither takes nor gives.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

# Of AutoencoderKL, where its file says nothing: that of Stable Diffusion 1 and 2.
DEFAULT_SCALE = 0.18215
NORMAL = ("latents_mean", "latents_std")


class LatentScale(NamedTuple):
    """`z = (draw - mean) scale`."""

    mean: Float[Tensor, "channels 1 1"]
    scale: Float[Tensor, "channels 1 1"]


def latent_scale(settings: Mapping[str, Any], applied: Sequence[str] = ()) -> LatentScale:
    """The scale that an autoencoder's `config.json` names.

    Args:
        settings: That configuration.
        applied: What its pipeline applies of it besides `scaling_factor`.

    Raises:
        ValueError: If it is no `AutoencoderKL`; if a factor is not finite, a scale not positive, or mean and
            deviation do not come together, one a channel, and without a shift; if it says more than is
            applied, or a shift that is applied is missing.
    """
    kind, channels = settings.get("_class_name"), settings.get("latent_channels", 4)
    if kind != "AutoencoderKL":
        raise ValueError(f"`vae` must be an AutoencoderKL; got {kind}.")
    shift = settings.get("shift_factor") or 0.0
    factor = settings.get("scaling_factor", DEFAULT_SCALE)
    mean, deviation = settings.get("latents_mean"), settings.get("latents_std")
    if (mean is None) != (deviation is None) or (mean is not None and shift):
        raise ValueError(
            "`vae` must have `latents_mean` and `latents_std`, or `shift_factor`, or none of them; got "
            f"latents_mean = {mean}, latents_std = {deviation}, shift_factor = {shift}."
        )
    try:
        centre, width, scale = (
            torch.as_tensor(value, dtype=torch.float64).broadcast_to(channels)
            for value in (shift if mean is None else mean, deviation or 1.0, factor)
        )
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"`vae` must have factors that are numbers, or one a channel of {channels}; got {factor}, "
            f"{shift}, {mean}, {deviation}."
        ) from error
    usable = centre.isfinite().all() and (scale > 0).all() and (width > 0).all()
    if not (usable and scale.isfinite().all() and width.isfinite().all()):
        raise ValueError(
            "`vae` must have finite latents_mean and shift_factor, and a positive, finite scaling_factor and "
            f"latents_std; got {mean}, {shift}, {factor} and {deviation}."
        )
    idle = [
        name for name in ("shift_factor", *NORMAL) if settings.get(name) and name not in applied
    ]
    if idle and (centre.any() or (width != 1).any()):
        raise ValueError(
            f"`vae` must have no {' or '.join(idle)}: this class of pipeline does not apply it, and its own "
            "latents are without. Take the autoencoder that the network was trained with, or set it to None."
        )
    if "shift_factor" in applied and settings.get("shift_factor") is None:
        raise ValueError(
            "`vae` must have `shift_factor`, which this class of pipeline adds; got None. Where its latents "
            "have none, `pipe.vae.register_to_config(shift_factor=0.0)`."
        )
    rows = (row.float().reshape(channels, 1, 1) for row in (centre, scale / width))
    return LatentScale(*rows)
