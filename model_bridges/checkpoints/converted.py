"""Checkpoints as safetensors: the tensors, and one JSON object with all the rest in the metadata."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from gmm_speciation.reading import parse_json
from model_bridges.checkpoints.checkpoint import Checkpoint, LatentScaling
from model_bridges.checkpoints.errors import UnsafeCheckpointError

METADATA_KEY = "edm2_checkpoint"
FORMAT = 1
LARGEST_METADATA = 4 << 20  # characters
HEADER_LIMIT = 16 << 20  # bytes


def write_converted(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint as safetensors, whole or not at all."""
    from model_bridges.checkpoints.tensors import (
        write_tensors,
    )  # which needs the networks, and they this

    fields = {
        field.name: getattr(checkpoint, field.name)
        for field in dataclasses.fields(checkpoint)
        if field.name not in ("state_dict", "file_sha256", "latent_scaling")
    }
    scaling = checkpoint.latent_scaling
    fields["latent_scaling"] = None if scaling is None else dataclasses.asdict(scaling)
    text = json.dumps({"format": FORMAT, **fields})
    write_tensors(path, checkpoint.state_dict, {METADATA_KEY: text})


def read_converted(path: Path, file_sha256: str) -> Checkpoint:
    """The checkpoint in a safetensors file.

    Raises:
        UnsafeCheckpointError: If the file is damaged, or was not written by a conversion.
    """
    try:
        with open(path, "rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if header > HEADER_LIMIT:
            raise _unlike(path, f"its header claims {header} bytes")
        with safe_open(path, framework="pt") as file:
            metadata = (file.metadata() or {}).get(METADATA_KEY)
            if metadata is None or len(metadata) > LARGEST_METADATA:
                raise _unlike(path, f"its metadata has no {METADATA_KEY!r}")
            fields = _fields(path, _record(path, metadata))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _unlike(path, f"it cannot be read ({type(error).__name__}: {error})") from error
    return Checkpoint(tensors, file_sha256=file_sha256, **fields)


def _record(path: Path, metadata: str) -> Any:
    try:
        return parse_json(metadata, "its metadata", longest=LARGEST_METADATA)
    except ValueError as error:
        raise _unlike(path, str(error)) from error


def _fields(path: Path, record: Any) -> dict[str, Any]:
    """The fields of a checkpoint beside its tensors, each of its own type."""
    match record:
        case {
            "format": 1,
            "network_kwargs": dict() as network_kwargs,
            "sha256": str() as sha256,
            "name": str() as name,
            "latent_scaling": (None | dict()) as scaling,
            "dataset_kwargs": dict() as dataset_kwargs,
            "noise": (None | list()) as noise,
            "module_sources": dict() as sources,
            "licence": str() as licence,
        }:
            latents = None if scaling is None else _scaling(path, scaling)
            return {
                "network_kwargs": network_kwargs,
                "sha256": sha256,
                "name": name,
                "latent_scaling": latents,
                "dataset_kwargs": dataset_kwargs,
                "noise": None if noise is None else _numbers(path, noise, 2),
                "module_sources": sources,
                "licence": licence,
            }
    raise _unlike(path, f"its metadata is not a checkpoint's of format {FORMAT}")


def _scaling(path: Path, record: dict[str, Any]) -> LatentScaling:
    match record:
        case {"scale": list() as scale, "bias": list() as bias, "vae": str() as vae}:
            return LatentScaling(
                _numbers(path, scale, len(scale)), _numbers(path, bias, len(scale)), vae
            )
    raise _unlike(path, "its latent scaling is not one")


def _numbers(path: Path, values: list, count: int) -> tuple[Any, ...]:
    if len(values) != count or not all(
        type(value) in (int, float) and math.isfinite(value) for value in values
    ):
        raise _unlike(path, f"its metadata has something else than {count} numbers")
    return tuple(float(value) for value in values)


def _unlike(path: Path, what: str) -> UnsafeCheckpointError:
    return UnsafeCheckpointError(
        f"{path.name} is not a converted checkpoint: {what}. Convert the official file again with "
        "`model-bridges convert IN.pkl OUT.safetensors`."
    )
