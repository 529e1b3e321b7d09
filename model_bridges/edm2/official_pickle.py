"""Networks written in the format of the official EDM2 files.

For tests and measurements without the released weights. The pickle names globals of the official
program (`dnnlib`, `torch_utils`), which need not be installed: while it is written, stand-ins of these
names are importable. What the official loader would execute, `module_src`, is a text that stops it.
"""

import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from model_bridges.checkpoints import EDM2_LATENTS, LatentScaling
from model_bridges.edm2.network import EDM2Network

MODULE_SOURCE = 'raise RuntimeError("the text inside a checkpoint was executed")\n'


class _EasyDict(dict):
    """Stand-in of a dictionary class."""


def _reconstruct(meta: Any) -> Any:
    """Stand-in of the official loader's entry; never called."""
    raise RuntimeError("stand-in of the official loader")


for _thing, _module, _name in (
    (_EasyDict, "dnnlib.util", "EasyDict"),
    (_reconstruct, "torch_utils.persistence", "_reconstruct_persistent_obj"),
):
    _thing.__module__, _thing.__name__, _thing.__qualname__ = _module, _name, _name  # type: ignore[attr-defined]


class PersistentObject:
    """An object that pickles as the official ones do: class name, program text, state."""

    def __init__(self, class_name: str, state: dict[str, Any], source: str) -> None:
        self.meta = _EasyDict(
            type="class", version=6, module_src=source, class_name=class_name, state=state
        )

    def __reduce__(self) -> tuple:
        return _reconstruct, (self.meta,)


@contextmanager
def _stand_ins() -> Iterator[None]:
    made: dict[str, types.ModuleType] = {}
    for name in ("dnnlib", "dnnlib.util", "torch_utils", "torch_utils.persistence"):
        made[name] = types.ModuleType(name)
    made["dnnlib.util"].EasyDict = _EasyDict  # type: ignore[attr-defined]
    made["torch_utils.persistence"]._reconstruct_persistent_obj = _reconstruct  # type: ignore[attr-defined]
    before = {name: sys.modules.get(name) for name in made}
    sys.modules.update(made)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def write_official_pickle(
    path: str | Path,
    network: EDM2Network,
    network_kwargs: dict[str, Any],
    *,
    latent_scaling: LatentScaling | None = EDM2_LATENTS,
    noise: tuple[float, float] = (-0.4, 1.0),
    dtype: torch.dtype = torch.float16,
    source: str = MODULE_SOURCE,
) -> None:
    """Write a network as an official file has it.

    Args:
        path: The new file.
        network: Weights.
        network_kwargs: What the network was made with, by name.
        latent_scaling: Goes into the encoder; None for a network of pixels.
        noise: Mean and standard deviation of `log sigma` in training.
        dtype: Of the stored tensors; the released ones are float16.
        source: The program text kept with every object.
    """
    state: dict[str, Any] = {"_init_args": (), "_init_kwargs": _EasyDict()}
    name = "StandardRGBEncoder"
    if latent_scaling is not None:
        name = "StabilityVAEEncoder"
        state |= {
            "scale": np.array(latent_scaling.scale, np.float32),
            "bias": np.array(latent_scaling.bias, np.float32),
            "vae_name": latent_scaling.vae,
            "_vae": None,
        }
    loss = {"P_mean": noise[0], "P_std": noise[1], "sigma_data": network.sigma_data}
    content = _EasyDict(
        ema=_persistent(network, "Precond", source, dtype, network_kwargs),
        encoder=PersistentObject(name, state, source),
        dataset_kwargs=_EasyDict(
            class_name="training.dataset.ImageFolderDataset",
            path="datasets/img512-sd.zip",
            resolution=network.img_resolution,
            use_labels=network.label_dim > 0,
        ),
        loss_fn=PersistentObject("EDM2Loss", loss, source),
    )
    with _stand_ins(), open(path, "wb") as file:
        pickle.dump(content, file, protocol=4)


def _persistent(
    module: nn.Module,
    name: str,
    source: str,
    dtype: torch.dtype,
    kwargs: dict[str, Any] | None = None,
) -> Any:
    """A module and its parts as objects of the official format, tensors in `dtype`."""
    parts: dict[str, Any] = OrderedDict()
    for key, part in module._modules.items():
        if part is not None:
            parts[key] = _persistent(part, type(part).__name__, source, dtype)
    state = dict(module.__dict__, _modules=parts)
    state["_parameters"] = OrderedDict(
        (key, None if p is None else nn.Parameter(p.detach().to(dtype, copy=True), False))
        for key, p in module._parameters.items()
    )
    state["_buffers"] = OrderedDict(
        (key, None if b is None else b.to(dtype, copy=True)) for key, b in module._buffers.items()
    )
    if isinstance(module, nn.ModuleDict):
        copied = nn.ModuleDict.__new__(nn.ModuleDict)
        copied.__dict__.update(state)
        return copied
    state |= {"_init_args": (), "_init_kwargs": _EasyDict(kwargs or {})}
    return PersistentObject(name, state, source)
