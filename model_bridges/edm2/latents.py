"""Pictures to the states of EDM2 and back.

A picture with values in **[0, 1]** goes through an autoencoder, `z = mean + std n`, and every channel is
scaled to mean 0 and standard deviation 1/2:

    state = scale z + bias,    scale = 0.5 / std_raw,    bias = -mean_raw scale.

Stable Diffusion feeds the same kind of autoencoder values in [-1, 1] and multiplies by one number;
latents of the one are nothing to the other.
"""

from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from model_bridges.checkpoints import LatentScaling
from model_bridges.denoisers.arrays import Images, as_states, as_tensor
from model_bridges.denoisers.checks import check_made


@final
@dataclass(frozen=True, eq=False)
class Latents:
    """An autoencoder with the scaling of its latents.

    Args:
        autoencoder: A diffusers `AutoencoderKL` with as many latent channels as the scaling has.
        scaling: Per channel.
        max_batch: Pictures at once.
    """

    autoencoder: Any
    scaling: LatentScaling
    max_batch: int = 8

    def __post_init__(self) -> None:
        channels = self.autoencoder.config.latent_channels
        if channels != len(self.scaling.scale):
            raise ValueError(
                f"the autoencoder has {channels} latent channels, and the scaling "
                f"{len(self.scaling.scale)}. Take the autoencoder {self.scaling.vae!r}."
            )

    @torch.no_grad()
    def encode(
        self,
        pictures: Images,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "B channels H W"]:
        """States of pictures.

        Args:
            pictures: `(B, channels, height, width)`, of torch or numpy, uint8 or values in [0, 1].
            generator: Draws the latent from the encoder's posterior, as in training; its mean without.

        Raises:
            ValueError: If the shape does not fit, values leave [0, 1], or the states are not finite.
        """
        pictures = as_tensor(pictures, "`pictures`")
        channels = self.autoencoder.config.in_channels
        if pictures.ndim != 4 or pictures.shape[1] != channels:
            raise ValueError(
                f"`pictures` must have shape (B, {channels}, height, width); got "
                f"{tuple(pictures.shape)}."
            )
        pixels = pictures.float() / 255 if pictures.dtype == torch.uint8 else pictures.float()
        if not bool(((pixels >= -1e-3) & (pixels <= 1 + 1e-3)).all()):
            raise ValueError(
                f"`pictures` must have values in [0, 1]; got {float(pixels.min()):g} to "
                f"{float(pixels.max()):g}. From [-1, 1] take (x + 1) / 2; 0 to 255 must be uint8."
            )
        states = []
        for part in pixels.split(self.max_batch):
            posterior = self.autoencoder.encode(part.to(self.autoencoder.device)).latent_dist
            latent = posterior.mean
            if generator is not None:
                noise = torch.randn(latent.shape, generator=generator, device=generator.device)
                latent = latent + posterior.std * noise.to(latent)
            states.append(self._scale(latent) * check_made(latent, "latents") + self._bias(latent))
        return torch.cat(states)

    @torch.no_grad()
    def decode(self, states: Images) -> Float[Tensor, "B channels H W"]:
        """Pictures of states, clipped to [0, 1].

        Raises:
            ValueError: If the states are no floating numbers or have another number of channels, or the
                pictures are not finite.
        """
        states = as_states(states, "`states`")
        if states.ndim != 4 or states.shape[1] != len(self.scaling.scale):
            raise ValueError(
                f"`states` must have shape (B, {len(self.scaling.scale)}, height, width); got "
                f"{tuple(states.shape)}."
            )
        pictures = []
        for part in states.split(self.max_batch):
            part = part.float().to(self.autoencoder.device)
            latent = (part - self._bias(part)) / self._scale(part)
            picture = check_made(self.autoencoder.decode(latent).sample, "pictures")
            pictures.append(picture.clamp(0, 1))
        return torch.cat(pictures)

    def _scale(self, like: Tensor) -> Tensor:
        return torch.tensor(self.scaling.scale).to(like)[:, None, None]

    def _bias(self, like: Tensor) -> Tensor:
        return torch.tensor(self.scaling.bias).to(like)[:, None, None]


def load_latents(
    scaling: LatentScaling,
    vae: str,
    *,
    download: bool = False,
    revision: str | None = None,
    device: torch.device | str = "cpu",
) -> Latents:
    """The autoencoder from a folder, from the local cache, or from the hub if it is asked for.

    Args:
        scaling: Of its latents.
        vae: Folder, or name on the hub.
        download: Whether the hub may be asked.
        revision: Commit, tag or branch on the hub.
        device: Where it goes.

    Raises:
        ValueError: If it is not there, or cannot be read as safetensors.
    """
    from diffusers import AutoencoderKL  # takes seconds

    try:
        autoencoder = AutoencoderKL.from_pretrained(
            vae, revision=revision, use_safetensors=True, local_files_only=not download
        )
    except (OSError, ValueError) as error:
        hint = (
            "" if download else f" To fetch it: `hf download {vae}`, or load with `download=True`."
        )
        raise ValueError(
            f"the autoencoder {vae!r} could not be read: {str(error).splitlines()[0]} Give a folder "
            f"with config.json and safetensors weights.{hint}"
        ) from error
    return Latents(autoencoder.to(device).eval().requires_grad_(False), scaling)
