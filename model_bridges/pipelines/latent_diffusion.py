"""A latent diffusion pipeline as a denoiser whose classes are prompts, or labels.

The state is the scaled latent z of the encoder's draw (see `latents`), x = z + sigma eps. The label k is
prompt k. `UNCONDITIONAL` is the empty prompt, which stands for the mean over *all* captions of the
training data, and not for the mixture of the prompts given here: a decision between the prompts uses the
Bayes mixture `sum_k p(k|x) D_k`, and a distance to the unconditional output measures I(prompt; x).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from model_bridges.denoisers.arrays import Images, as_states
from model_bridges.denoisers.base import Wrapped
from model_bridges.denoisers.checks import check_made
from model_bridges.denoisers.network import NetworkDenoiser
from model_bridges.pipelines.latents import LatentScale

# Of a picture's values. Decoders overshoot -1..1 by some tenths, a cubic filter in two axes up to 1.375^2.
LARGEST_VALUE = 2.0


@final
@dataclass(frozen=True, eq=False)
class LatentDiffusion(Wrapped):
    """A `Denoiser` of latents; make it with `load`.

    Args:
        denoiser: The network with its prompts.
        prompts: What the classes are.
        read_autoencoder: Gives the autoencoder, when it is first needed.
        scale: The scale of its latents.
        max_batch: Largest batch given to the networks at once.
    """

    denoiser: NetworkDenoiser
    prompts: tuple[str, ...]
    read_autoencoder: Callable[[], Any]
    scale: LatentScale
    max_batch: int

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.denoiser.class_names or self.prompts

    @cached_property
    def autoencoder(self) -> Any:
        """The pipeline's `AutoencoderKL`, read at first use."""
        return self.read_autoencoder().to(self.denoiser.device)

    @torch.no_grad()
    def encode(
        self,
        pictures: Images,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "B channels H W"]:
        """Scaled latents of pictures with values in [-1, 1].

        Args:
            pictures: `(B, channels, height, width)`, floating, of torch or numpy, at the pipeline's size.
            generator: Draws from the encoder's posterior, as in training; its mean without one.

        Raises:
            ValueError: If they are no floating numbers, one is beyond `LARGEST_VALUE`, the channels or the
                size do not fit, or the latents are not finite.
        """
        pictures = as_states(pictures, "`pictures`")
        channels = self.autoencoder.config.in_channels
        if pictures.ndim != 4 or pictures.shape[1] != channels:
            raise ValueError(
                f"`pictures` must have shape (n, {channels}, height, width); got "
                f"{tuple(pictures.shape)}."
            )
        if not bool((pictures.abs() <= LARGEST_VALUE).all()):
            raise ValueError(
                f"`pictures` must have values in [-1, 1]; got {float(pictures.min()):g} to "
                f"{float(pictures.max()):g}. From 0 to 255 take `x / 127.5 - 1`, from 0 to 1 `2 * x - 1`."
            )
        rows = []
        with self._upcast() as autoencoder:
            for part in pictures.split(self.max_batch):
                posterior = autoencoder.encode(self._given(part)).latent_dist
                draw = posterior.mean
                if generator is not None:
                    noise = torch.randn(draw.shape, generator=generator, device=generator.device)
                    draw = draw + posterior.std * noise.to(draw)
                rows.append(check_made(draw, "latents").float())
        mean, scale = (part.to(self.denoiser.device) for part in self.scale)
        latents = (torch.cat(rows) - mean) * scale
        if tuple(latents.shape[1:]) != self.event_shape:
            raise ValueError(
                f"The pictures' latents must have shape {self.event_shape}; those of pictures of "
                f"{tuple(pictures.shape[2:])} have {tuple(latents.shape[1:])}. Resize the pictures."
            )
        return latents

    @contextmanager
    def _upcast(self) -> Iterator[Any]:
        """The autoencoder, in float32 for as long as this lasts where it is of float16 and asks for it.

        As in a call of SDXL's own pipeline: it overflows, and what is cast back has the values that it had.
        """
        own = self.autoencoder
        asks = own.dtype == torch.float16 and getattr(own.config, "force_upcast", False)
        try:
            yield own.to(torch.float32) if asks else own
        finally:
            if asks:
                own.to(torch.float16)

    def _given(self, values: Tensor) -> Tensor:
        return values.to(self.autoencoder.dtype).to(self.denoiser.device)

    @torch.no_grad()
    def decode(self, latents: Images) -> Float[Tensor, "B channels height width"]:
        """Pictures of scaled latents, values about -1 to 1, not clipped.

        Raises:
            ValueError: If they are no floating numbers of torch or numpy, or the pictures are not finite.
        """
        mean, scale = (part.to(self.denoiser.device) for part in self.scale)
        draws = as_states(latents, "`latents`").float().to(self.denoiser.device) / scale + mean
        with self._upcast() as autoencoder:
            return torch.cat(
                [
                    check_made(autoencoder.decode(self._given(part)).sample, "pictures").float()
                    for part in draws.split(self.max_batch)
                ]
            )
