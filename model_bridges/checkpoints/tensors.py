"""Tensors on disk: safetensors only, written under a temporary name and moved into place."""

import os
import tempfile
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model_bridges.checkpoints.errors import CheckpointError


def write_atomically(path: Path, write) -> None:
    """Call `write(temporary_path)`, then move the result to `path`; nothing half-written stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write named tensors and text metadata atomically."""
    dense = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(path, lambda temporary: save_file(dense, temporary, metadata))


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
