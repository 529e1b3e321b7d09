"""What a checkpoint says: weights, the arguments of their network, and where they come from."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

LICENCE = (
    "EDM2 weights and code: CC BY-NC-SA 4.0, NVIDIA Corporation (Karras et al. 2024, "
    "https://github.com/NVlabs/edm2); not for commercial use."
)


@dataclass(frozen=True)
class LatentScaling:
    """How latents of an autoencoder become the states of a network: `scale z + bias`, per channel.

    `vae` is the name of the autoencoder; it sees pixels in [0, 1].
    """

    scale: tuple[float, ...]
    bias: tuple[float, ...]
    vae: str = "stabilityai/sd-vae-ft-mse"


# To mean 0 and standard deviation 0.5, from those of raw latents of ImageNet at 512 x 512, as they belong
# to the published weights.
_MEAN, _SCALE = (5.81, 3.25, 0.12, -2.15), tuple(0.5 / std for std in (4.17, 4.62, 3.71, 3.28))
EDM2_LATENTS = LatentScaling(_SCALE, tuple(-m * s for m, s in zip(_MEAN, _SCALE, strict=True)))


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A network's weights with everything that belongs to them.

    `sha256` is that of the official file, also after a conversion; `file_sha256` that of the file read.
    `noise` holds mean and standard deviation of `log sigma` in training. `module_sources` holds the
    SHA-256 of the program text in the official file, class by class; it is never run.
    """

    state_dict: dict[str, Tensor]
    network_kwargs: dict[str, Any]
    sha256: str
    file_sha256: str
    name: str  # of the official file
    latent_scaling: LatentScaling | None  # None: the network sees pixels
    dataset_kwargs: dict[str, Any]
    noise: tuple[float, float] | None
    module_sources: dict[str, str]
    licence: str = LICENCE
