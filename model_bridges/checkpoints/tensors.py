"""Tensors on disk: safetensors only, written whole or not at all."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from gmm_speciation.files import write_whole
from model_bridges.checkpoints.errors import CheckpointError


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write named tensors and text metadata. Errors as `gmm_speciation.files.write_whole`."""
    dense = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_whole(path, lambda temporary: save_file(dense, temporary, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Named tensors and metadata of a safetensors file.

    Raises:
        CheckpointError: If the file is missing or is not a complete safetensors file.
    """
    if not path.is_file():
        raise CheckpointError(
            f"expected a safetensors file at {path}; there is none. "
            "Check the path, or train the networks with `model-bridges train digits`."
        )
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a readable safetensors file ({error}). "
            "It may be truncated: delete it and train or fetch it again."
        ) from error
