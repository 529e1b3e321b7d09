"""The EDM2 denoiser together with its way from pictures to states and back."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from model_bridges.checkpoints import LatentScaling
from model_bridges.classes.names import Vocabulary
from model_bridges.denoisers.network import NetworkDenoiser
from model_bridges.denoisers.wrapping import WrappedDenoiser
from model_bridges.edm2.latents import Latents, load_latents


@final
@dataclass(frozen=True, eq=False)
class EDM2Model(WrappedDenoiser):
    """A `Denoiser`; make it with `edm2.load`.

    Args:
        denoiser: The networks.
        latent_scaling: Of the latents that the networks see; None for networks of pixels.
        vae: Where the autoencoder is read from; the one of the scaling by default.
        download: Whether it may be fetched from the hub.
    """

    denoiser: NetworkDenoiser
    latent_scaling: LatentScaling | None = None
    vae: str | Path | None = None
    download: bool = False

    @property
    def class_names(self) -> tuple[str, ...]:
        """ImageNet's names for a network of its 1000 classes, else numbers."""
        from model_bridges.edm2 import imagenet

        if self.num_classes == imagenet.NUM_CLASSES:
            return imagenet.class_names()
        return tuple(str(index) for index in range(self.num_classes))

    @property
    def vocabulary(self) -> Vocabulary:
        """Words for the classes: ImageNet's with all that WordNet has above them, else numbers."""
        from model_bridges.edm2 import imagenet

        if self.num_classes == imagenet.NUM_CLASSES:
            return imagenet.vocabulary()
        return Vocabulary(self.num_classes)

    @cached_property
    def latents(self) -> Latents:
        """The autoencoder with its scaling, read at first use.

        Raises:
            ValueError: If the networks see pixels, or the autoencoder is not there.
        """
        if self.latent_scaling is None:
            raise ValueError(
                "these networks see pixels, not latents: standardise the pixels as in their training."
            )
        name = self.latent_scaling.vae if self.vae is None else str(self.vae)
        device = torch.device(self.denoiser.device)
        return load_latents(self.latent_scaling, name, download=self.download, device=device)

    def encode(
        self,
        pictures: Tensor,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "B *event"]:
        """States of pictures, uint8 or values in [0, 1]. Arguments and errors as `Latents.encode`."""
        return self.latents.encode(pictures, generator)

    def decode(self, states: Float[Tensor, "B *event"]) -> Float[Tensor, "B channels H W"]:
        """Pictures of states, values in [0, 1]."""
        return self.latents.decode(states)
