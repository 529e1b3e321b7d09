"""Weights that can be those of a network, whatever file they come from."""

from collections.abc import Iterable

import torch
from torch import Tensor

from model_bridges.checkpoints.errors import UnsafeCheckpointError


def check_weights(name: str, parameters: Iterable[tuple[str, Tensor]]) -> None:
    """Refuse weights that are damaged, or those of a quantised file read as if they were the weights.

    Raises:
        UnsafeCheckpointError: If a tensor is not of 16 to 64 floating bits or has values that are not
            finite, or a matrix whole numbers only; if all matrices are zero.
    """
    named = list(parameters)
    for key, value in named:
        # Of eight bits, numbers have a scale elsewhere, and torch no arithmetic.
        if not value.is_floating_point() or value.element_size() < 2:
            raise UnsafeCheckpointError(
                f"{name} must hold floating weights of 16 to 64 bits; {key} is {value.dtype}, as in a "
                "quantised file. Give the weights themselves."
            )
        if not value.isfinite().all():
            raise UnsafeCheckpointError(
                f"{name} must hold finite weights; {key} has others. The file is damaged."
            )
    matrices = [(key, value) for key, value in named if value.ndim > 1]
    for key, value in matrices:
        whole = value.any() and not (value != value.round()).any()
        # A Stable Diffusion 3 in a single file has no projection, and diffusers takes the identity.
        if whole and not (
            value.ndim == 2 and torch.equal(value, torch.eye(*value.shape).to(value))
        ):
            raise UnsafeCheckpointError(
                f"{name} must hold floating weights; {key} has whole numbers only, as a quantised file "
                "has. Give the weights themselves."
            )
    if not any(value.any() for _, value in matrices):
        raise UnsafeCheckpointError(
            f"{name}: all its matrices are zero. The file is damaged, or was never trained."
        )
