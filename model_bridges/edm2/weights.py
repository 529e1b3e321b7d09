"""Published EDM2 weights as a denoiser: a conditional network and the unconditional one of its pair.

    model = edm2.load("edm2-img512-xs-2147483-0.045.pkl", "edm2-img512-xs-uncond-2147483-0.045.pkl")

The unconditional model is a network of its own. The zero label of a conditional network was never
trained; it stands in only where `"zero-label"` is given in place of the second file. Weights are stored
in float16 and computed with in float32, differences of classes from raw outputs; the published half
precision also rounds the scalar gains, so its outputs differ from these by up to 1e-3.

Noise levels: training drew `log sigma ~ N(-0.4, 1)`, some 2e9 times, so [0.002, 80], the range of the
published sampler, lies within what it saw; a narrower distribution gives a narrower range (six deviations).
"""

import math
import re
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model_bridges.checkpoints import Checkpoint, UnsafeCheckpointError, read_checkpoint
from model_bridges.checkpoints.weights import check_weights
from model_bridges.denoisers.base import Unconditional
from model_bridges.denoisers.devices import check_floating, find_device
from model_bridges.denoisers.network import NetworkDenoiser
from model_bridges.edm2.model import EDM2Model, from_edm2
from model_bridges.edm2.network import EDM2Network

ZERO_LABEL = "zero-label"
SIGMA_RANGE = (0.002, 80.0)
LARGEST_ARGUMENT, MOST_LEVELS, MOST_BLOCKS = 1 << 16, 12, 64
_PUBLISHED = re.compile(r"^(edm2-img\d+)-(\w+?)(-uncond)?-(\d{6,})-(\d\.\d+)\b")
_announced: set[str] = set()


def load(
    path: str | Path,
    uncond_path: str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    expected_sha256: str | tuple[str | None, str | None] | None = None,
    vae: str | Path | None = None,
    download: bool = False,
) -> EDM2Model:
    """A pair of EDM2 networks as a denoiser; prints the licence once a process, on standard error.

    Args:
        path: Conditional network, official `.pkl` or converted `.safetensors`.
        uncond_path: Unconditional network of the same pair. Without it `UNCONDITIONAL` is refused;
            `"zero-label"` asks for the zero label of the conditional network by name.
        device: Where the networks go.
        dtype: Of the weights in memory. Outputs are float32, or float64 with float64 weights.
        expected_sha256: Of the file, or of both files.
        vae: Folder or hub name of the autoencoder, `AutoencoderKL`; by default the one named in the
            file. It is read when a picture is first encoded.
        download: Whether the autoencoder may be fetched from the hub.

    Raises:
        UnsafeCheckpointError: If a file cannot be read as weights of such a network.
        ValueError: If the two are no pair, `dtype` is not a floating type of torch's, or the
            device is not there.
    """
    check_floating(dtype)
    device = find_device(device)
    hashes = expected_sha256 if isinstance(expected_sha256, tuple) else (expected_sha256, None)
    checkpoint = read_checkpoint(path, expected_sha256=hashes[0])
    conditional = build(checkpoint, device, dtype)
    if conditional.label_dim == 0:
        raise ValueError(
            f"{path} is an unconditional network (label_dim = 0). Give the conditional network of the "
            "pair first, and this one second."
        )
    partner = None
    unconditional = None
    if uncond_path is not None and str(uncond_path) != ZERO_LABEL:
        partner = read_checkpoint(uncond_path, expected_sha256=hashes[1])
        unconditional = build(partner, device, dtype)
        check_pair(checkpoint, partner)
    elif hashes[1] is not None:
        raise ValueError("`expected_sha256` has a second hash, and there is no second file.")
    _announce(checkpoint)
    denoiser = from_edm2(
        conditional,
        unconditional,
        sigma_range=trained_range(checkpoint.noise),
        provenance=_provenance(checkpoint, partner, uncond_path),
    )
    if uncond_path is not None and unconditional is None:
        denoiser = _with_zero_label(denoiser, conditional)
    return EDM2Model(denoiser, checkpoint.latent_scaling, vae, download)


def load_named(name: str, **options: Any) -> EDM2Model:
    """`load` of `COND` or `COND,UNCOND` as one text; a file whose name has a comma is one file.

    Raises:
        ValueError: As `load`.
    """
    first, comma, second = name.rpartition(",")
    if not comma or Path(name).is_file():
        return load(name, **options)
    return load(first.strip(), second.strip(), **options)


def build(checkpoint: Checkpoint, device: str | torch.device, dtype: torch.dtype) -> EDM2Network:
    """The network of a checkpoint in evaluation mode, without gradients.

    Raises:
        UnsafeCheckpointError: If the arguments are not those of an EDM2 network, or the tensors are
            not those of these arguments, or as `check_weights`.
    """
    _check_arguments(checkpoint)
    try:
        with torch.device("meta"):  # no memory before the shapes are known to fit
            network = EDM2Network(**checkpoint.network_kwargs)
        shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError) as error:
        raise _unfit(checkpoint, f"arguments that make no EDM2 network ({error})") from error
    stored = {name: tuple(value.shape) for name, value in checkpoint.state_dict.items()}
    if stored != shapes:
        wrong = sorted(n for n in {*stored, *shapes} if stored.get(n) != shapes.get(n))
        raise _unfit(
            checkpoint,
            f"{len(wrong)} tensors that do not fit its arguments: {wrong[0]} is "
            f"{stored.get(wrong[0], 'missing')}, expected {shapes.get(wrong[0], 'none')}",
        )
    check_weights(checkpoint.name, checkpoint.state_dict.items())
    state = {name: value.to(device, dtype) for name, value in checkpoint.state_dict.items()}
    network.load_state_dict(state, strict=True, assign=True)
    # Channels last is the faster layout of small convolutions.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)


def trained_range(noise: tuple[float, float] | None) -> tuple[float, float]:
    """Noise levels that a training with `log sigma ~ N(mean, std^2)` saw, within the sampler's."""
    if noise is None:
        return SIGMA_RANGE
    mean, std = noise
    low = max(SIGMA_RANGE[0], math.exp(min(mean - 6 * std, 700.0)))
    high = min(SIGMA_RANGE[1], math.exp(min(mean + 6 * std, 700.0)))
    return (low, high) if low < high else SIGMA_RANGE


def check_pair(conditional: Checkpoint, unconditional: Checkpoint) -> None:
    """Refuse two files that were not trained on the same states; warn of unequal training.

    Raises:
        ValueError: If latent scaling or noise distribution differ, or the second network has classes.
    """
    if unconditional.network_kwargs.get("label_dim") != 0:
        raise ValueError(
            f"{unconditional.name} has {unconditional.network_kwargs.get('label_dim')} classes; the "
            "second network of a pair has none (its name has `-uncond-`)."
        )
    for what, one, other in (
        ("latent scaling", conditional.latent_scaling, unconditional.latent_scaling),
        ("distribution of noise levels", conditional.noise, unconditional.noise),
    ):
        if one != other:
            raise ValueError(
                f"{conditional.name} and {unconditional.name} are no pair: their {what} differs, "
                f"{one} and {other}. Give two networks trained on the same states."
            )
    names = [_PUBLISHED.match(c.name) for c in (conditional, unconditional)]
    if names[0] and names[1] and names[0].groups()[3:] != names[1].groups()[3:]:
        warnings.warn(
            f"{conditional.name} and {unconditional.name} differ in training length or EMA width; "
            "part of the distance between them is then training, not information.",
            stacklevel=3,
        )


def _with_zero_label(denoiser: NetworkDenoiser, conditional: EDM2Network) -> NetworkDenoiser:
    """Answers `UNCONDITIONAL` by the zero label."""

    def raw(x: Tensor, sigma: Tensor, label: Tensor | Unconditional) -> Tensor:
        return conditional.raw(x, sigma, None if isinstance(label, Unconditional) else label)

    return replace(denoiser, raw_function=raw, has_unconditional=True)


def _provenance(
    checkpoint: Checkpoint, partner: Checkpoint | None, uncond_path: str | Path | None
) -> str:
    text = f"EDM2 {checkpoint.name} (SHA-256 {checkpoint.sha256[:16]})"
    if partner is not None:
        return f"{text} with {partner.name} (SHA-256 {partner.sha256[:16]})"
    return (
        text if uncond_path is None else f"{text}, unconditional by its zero label, never trained"
    )


def _check_arguments(checkpoint: Checkpoint) -> None:
    """Sizes that loops and shapes follow, before anything is made of them."""
    arguments = checkpoint.network_kwargs
    numbers = [v for v in arguments.values() if type(v) in (int, float)]
    lists = [v for v in arguments.values() if isinstance(v, list)]
    entries = [v for values in lists for v in values]
    blocks = arguments.get("num_blocks", 3)
    good = (
        all(type(v) is int and 0 <= v <= LARGEST_ARGUMENT for v in entries)
        and all(abs(v) <= LARGEST_ARGUMENT for v in numbers)
        and all(len(values) <= MOST_LEVELS for values in lists)
        and type(blocks) is int
        and 0 < blocks <= MOST_BLOCKS
    )
    if not good:
        raise _unfit(checkpoint, "arguments out of all proportion for an EDM2 network")


def _unfit(checkpoint: Checkpoint, what: str) -> UnsafeCheckpointError:
    return UnsafeCheckpointError(
        f"{checkpoint.name} has {what}. It is damaged, or holds another kind of network."
    )


def _announce(checkpoint: Checkpoint) -> None:
    if checkpoint.licence not in _announced:
        _announced.add(checkpoint.licence)
        print(checkpoint.licence, file=sys.stderr)
