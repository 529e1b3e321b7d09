"""Real handwritten digits, and a pair of small EDM2 denoisers trained on them.

    digits = load_digits()
    conditional, unconditional, metadata = load_networks()
    denoised = conditional(digits.held_out_images, 0.5, digits.held_out_labels)

The networks work on the standardised images of `Digits` (`sigma_data` 0.5) at noise levels inside
`metadata.sigma_range`. How they were trained and how good they are: `weights/CARD.md`.
"""

import json
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import torch

from model_bridges.checkpoints.errors import CheckpointError
from model_bridges.checkpoints.tensors import read_tensors
from model_bridges.denoisers.network import NetworkDenoiser
from model_bridges.digits.data import Digits, load_digits
from model_bridges.digits.pair.recipe import METADATA_KEY, PairRecipe
from model_bridges.edm2 import EDM2Network
from model_bridges.edm2.model import from_edm2

__all__ = [
    "CheckpointError",
    "Digits",
    "NetworksMetadata",
    "load_denoiser",
    "load_digits",
    "load_networks",
]


@dataclass(frozen=True)
class NetworksMetadata:
    """What the file says about the networks.

    `mean` and `scale` turn pixels 0..16 into the networks' units, `(pixels - mean) / scale`;
    `sigma_range` is the range of noise levels they were trained for, in those units.
    """

    mean: float
    scale: float
    sigma_range: tuple[float, float]
    network_kwargs: dict[str, dict]
    recipe: dict
    licence: str


def load_networks(
    path: str | Path | None = None, device: str | torch.device = "cpu"
) -> tuple[EDM2Network, EDM2Network, NetworksMetadata]:
    """The conditional and the unconditional network in evaluation mode, without gradients.

    Args:
        path: A `digits.safetensors` written by training; the shipped one when `None`.
        device: Where the networks go.

    Raises:
        CheckpointError: If the file is missing, damaged, or not a file of digits networks.
    """
    if path is None:
        with as_file(files("model_bridges.digits") / "weights" / "digits.safetensors") as shipped:
            return load_networks(shipped, device)
    tensors, header = read_tensors(Path(path))
    try:
        fields = json.loads(header[METADATA_KEY])
        metadata = NetworksMetadata(
            mean=float(fields["mean"]),
            scale=float(fields["scale"]),
            sigma_range=(float(fields["sigma_range"][0]), float(fields["sigma_range"][1])),
            network_kwargs=fields["network_kwargs"],
            recipe=fields["recipe"],
            licence=fields["licence"],
        )
        networks = [_network(role, metadata, tensors).to(device) for role in PairRecipe.roles]
    except (IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is not a file of digits networks ({error}). "
            "Give the `digits.safetensors` that `model-bridges train digits` wrote."
        ) from error
    return networks[0], networks[1], metadata


def load_denoiser() -> NetworkDenoiser:
    """The shipped pair in EDM coordinates."""
    conditional, unconditional, metadata = load_networks()
    return from_edm2(
        conditional,
        unconditional,
        sigma_range=metadata.sigma_range,
        provenance="EDM2 networks trained on scikit-learn's handwritten digits",
    )


def _network(role: str, metadata: NetworksMetadata, tensors: dict) -> EDM2Network:
    prefix = f"{role}."
    state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    network = EDM2Network(**metadata.network_kwargs[role])
    network.load_state_dict(state)
    # Channels last is the faster layout of small convolutions on a CPU.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)
