"""EDM2 networks as a denoiser, and with their way from pictures to states and back."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from model_bridges.checkpoints import LatentScaling
from model_bridges.classes.names import ClassNames
from model_bridges.denoisers.arrays import Images
from model_bridges.denoisers.base import Unconditional, Wrapped
from model_bridges.denoisers.network import NetworkDenoiser
from model_bridges.edm2.latents import Latents, load_latents
from model_bridges.edm2.network import EDM2Network


@final
@dataclass(frozen=True, eq=False)
class EDM2Model(Wrapped):
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
    def vocabulary(self) -> ClassNames:
        """Words for the classes: ImageNet's with all that WordNet has above them, else numbers."""
        from model_bridges.edm2 import imagenet

        if self.num_classes == imagenet.NUM_CLASSES:
            return imagenet.vocabulary()
        return ClassNames(self.num_classes)

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
        pictures: Images,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "B channels H W"]:
        """States of pictures, uint8 or values in [0, 1]. Arguments and errors as `Latents.encode`."""
        return self.latents.encode(pictures, generator)

    def decode(self, states: Images) -> Float[Tensor, "B channels H W"]:
        """Pictures of states, values in [0, 1]."""
        return self.latents.decode(states)


def from_edm2(
    conditional: EDM2Network,
    unconditional: EDM2Network | None = None,
    *,
    sigma_range: tuple[float, float] = (0.002, 80.0),
    **options: Any,
) -> NetworkDenoiser:
    """A conditional EDM2 network and its unconditional partner, a network of its own.

    The zero label of the conditional network was never trained, so it does not stand in for a
    missing partner: without one, `UNCONDITIONAL` is refused.

    Args:
        conditional: Network with `label_dim` classes.
        unconditional: Network with `label_dim = 0` on the same states.
        sigma_range: Trained noise levels.
        **options: `provenance`, `class_prior`, `outside` ("warn" by default) of `NetworkDenoiser`.

    Raises:
        ValueError: If the networks are not such a pair.
    """
    if conditional.label_dim == 0:
        raise ValueError("`conditional` must have classes; got a network with label_dim = 0.")
    event_shape = (conditional.img_channels, *2 * (conditional.img_resolution,))
    if unconditional is not None:
        partner = (unconditional.img_channels, *2 * (unconditional.img_resolution,))
        if (
            unconditional.label_dim != 0
            or partner != event_shape
            or unconditional.sigma_data != conditional.sigma_data
        ):
            raise ValueError(
                "`unconditional` must have label_dim = 0 and the states and sigma_data of its "
                f"partner, {event_shape} and {conditional.sigma_data}; got label_dim "
                f"{unconditional.label_dim}, {partner} and {unconditional.sigma_data}."
            )

    def raw(x: Tensor, sigma: Tensor, label: Tensor | Unconditional) -> Tensor:
        if isinstance(label, Unconditional):
            assert unconditional is not None  # `has_unconditional` is checked before every call
            return unconditional.raw(x, sigma)
        return conditional.raw(x, sigma, label)

    def coefficients(sigma: Tensor) -> tuple[Tensor, Tensor]:
        preconditioning = conditional.preconditioning(sigma)
        return preconditioning.c_skip, preconditioning.c_out

    weight = next(conditional.parameters())
    return NetworkDenoiser(
        raw,
        coefficients,
        num_classes=conditional.label_dim,
        event_shape=event_shape,
        sigma_range=sigma_range,
        has_unconditional=unconditional is not None,
        soft_labels=True,
        dtype=torch.promote_types(weight.dtype, torch.float32),
        device=weight.device,
        **{"provenance": "an EDM2 network", **options},
    )
