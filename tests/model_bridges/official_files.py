"""Files in the official format, whole and wrong ones: pickles assembled from what they should ask for."""

import io
import os
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from model_bridges.checkpoints import UnsafeCheckpointError, read_checkpoint
from model_bridges.edm2 import EDM2Network
from model_bridges.edm2 import official_pickle as official

MEGABYTE = 2**20
WEIGHT = torch.arange(6.0).half()
TINY = {
    "img_resolution": 4,
    "img_channels": 1,
    "label_dim": 3,
    "model_channels": 4,
    "channel_mult": [1],
    "num_blocks": 1,
    "attn_resolutions": [],
    "logvar_channels": 4,
}


def network(kwargs: dict[str, Any], seed: int = 0, gain: float = 0.7) -> EDM2Network:
    """A network with gains away from 0, where it would ignore its label."""
    torch.manual_seed(seed)
    made = EDM2Network(**kwargs)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("gain"):
                parameter.fill_(gain)
    return made.eval().requires_grad_(False)


def write(path: Path, kwargs: dict[str, Any] = TINY, seed: int = 0, **options: Any) -> EDM2Network:
    """Write a random network as an official file; returns the network."""
    made = network(kwargs, seed)
    official.write_official_pickle(path, made, kwargs, **options)
    return made


class Asks:
    """Pickles as a call of `function` with these arguments."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.call


def pickled(content: Any) -> bytes:
    """Pickle anything while the names of the official program are importable."""
    with official._stand_ins():
        file = io.BytesIO()
        pickle.Pickler(file, protocol=4).dump(content)
        return file.getvalue()


def module(
    parameters: dict[str, Any] | None = None,
    modules: dict[str, Any] | None = None,
    kwargs: Any = None,
    **state: Any,
) -> official.PersistentObject:
    """An object of the official format around any content."""
    state |= {
        "_parameters": parameters or {},
        "_buffers": {},
        "_modules": modules or {},
        "_init_args": (),
        "_init_kwargs": official._EasyDict(kwargs or {}),
    }
    return official.PersistentObject("Precond", state, official.MODULE_SOURCE)


def content(ema: Any, **parts: Any) -> Any:
    """A whole file around a network."""
    return official._EasyDict(ema=ema, dataset_kwargs=official._EasyDict(), **parts)


def storage_bytes(tensor: torch.Tensor) -> bytes:
    """The file inside the file that holds the elements of a tensor."""
    storage = torch.storage.TypedStorage(
        wrap_storage=tensor.untyped_storage(), dtype=tensor.dtype, _internal=True
    )
    return storage.__reduce__()[1][0]


def view(storage: bytes | Any, offset: Any, sizes: Any, strides: Any) -> Asks:
    """A tensor that is any view of a storage."""
    if isinstance(storage, bytes):
        storage = Asks(torch.storage._load_from_bytes, storage)
    return Asks(torch._utils._rebuild_tensor_v2, storage, offset, sizes, strides, False, {})


def small_file() -> bytes:
    """A file with a module dictionary, a parameter, a buffer and an array: short enough to fuzz."""
    inner = nn.ModuleDict()
    leaf = nn.Module()
    leaf.weight = nn.Parameter(torch.arange(6.0).reshape(2, 3).half())
    leaf.register_buffer("phases", torch.ones(2))
    part = official._persistent(leaf, "MPConv", "", torch.float16)
    inner.__dict__["_modules"] = {"4x4_block0": part}
    scaling = official.EDM2_LATENTS
    encoder = {
        "scale": official.np.array(scaling.scale, "f4"),
        "bias": official.np.array(scaling.bias, "f4"),
    }
    return pickled(
        content(
            module(modules={"enc": inner}, kwargs={"img_resolution": 4, "channel_mult": [1, 2]}),
            encoder=official.PersistentObject("StabilityVAEEncoder", encoder, ""),
            loss_fn=official.PersistentObject("EDM2Loss", {"P_mean": -0.4, "P_std": 1.0}, ""),
        )
    )


def refuse(path: Path, message: str) -> None:
    """Reading ends in the one error, with this text, in little memory."""
    tracemalloc.start()
    with pytest.raises(UnsafeCheckpointError, match=message):
        read_checkpoint(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = path.stat().st_size if path.is_file() else 0
    assert peak <= 2 * size + 32 * MEGABYTE


def evil(marker: Path) -> Asks:
    """A pickle that would make a file."""
    return Asks(os.system, f"touch {marker}")
