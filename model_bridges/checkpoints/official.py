"""What the records of an official EDM2 file mean.

The file is a dictionary with the network `ema`, the `encoder` of images to latents, `dataset_kwargs`
and the `loss_fn` it was trained with. An object is `_reconstruct_persistent_obj(meta)` with
`meta = {type, version, module_src, class_name, state}`: the official loader runs the text `module_src`
to get the class back; here its SHA-256 is taken and the state is read. The state of a module is its
`__dict__`: tensors in `_parameters` and `_buffers`, parts in `_modules`, arguments in `_init_args` and
`_init_kwargs`.
"""

import hashlib
import math
from typing import Any

import numpy as np
from torch import Tensor

from model_bridges.checkpoints.arrays import ARRAYS, GLOBALS, Reader
from model_bridges.checkpoints.errors import UnsafeCheckpointError
from model_bridges.checkpoints.symbols import CONTAINER, ENTRY, OBJECT, Call

PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"
MODULE_DICT = "torch.nn.modules.container.ModuleDict"
DICTS = ("dnnlib.util.EasyDict", "collections.OrderedDict")
KNOWN = frozenset({PERSISTENT, MODULE_DICT, *DICTS, *GLOBALS})

DEEPEST = 32
POSITIONAL = ("img_resolution", "img_channels", "label_dim")  # first arguments of the network


class Walker:
    """Turns records into modules, plain data and tensors; `sources` collects what was not run."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.sources: dict[str, str] = {}

    def mapping(self, value: Any, what: str) -> dict[str, Any]:
        """The items of a dictionary, whichever class it has.

        Raises:
            UnsafeCheckpointError: If it is none.
        """
        if isinstance(value, Call) and value.function in DICTS and not value.arguments:
            return value.items
        if isinstance(value, dict):
            return value
        raise _unlike(f"{what} is not a dictionary")

    def state(self, value: Any, what: str) -> dict[str, Any]:
        """The `__dict__` of an object.

        Raises:
            UnsafeCheckpointError: If it is not an object of the official format.
        """
        if isinstance(value, Call) and value.function == MODULE_DICT:
            return self.mapping(value.state, what)
        if not isinstance(value, Call) or value.function != PERSISTENT:
            raise _unlike(f"{what} is not an object with a class of its own")
        if len(value.arguments) != 1:
            raise _unlike(f"{what} is not made of one description")
        meta = self.mapping(value.arguments[0], what)
        source, name = meta.get("module_src"), meta.get("class_name")
        if meta.get("type") != "class" or not isinstance(name, str) or not isinstance(source, str):
            raise _unlike(f"{what} does not say its class and source")
        self.reader.meter.take(OBJECT + 4 * len(name))
        if name not in self.sources:
            self.reader.meter.take(len(source) + 2 * ENTRY)
            self.sources[name] = hashlib.sha256(source.encode()).hexdigest()
        return self.mapping(meta.get("state"), what)

    def tensors(self, module: Any, prefix: str = "", depth: int = 0) -> dict[str, Tensor]:
        """The state dict of a module and its parts.

        Raises:
            UnsafeCheckpointError: If it is not a tree of modules and tensors.
        """
        self.reader.meter.take(4 * CONTAINER)
        what = f"the module {prefix.rstrip('.')[:40] or 'ema'!r}"
        if depth > DEEPEST:
            raise _unlike(f"{what} is more than {DEEPEST} parts deep, or a part of itself")
        state = self.state(module, what)
        transient = state.get("_non_persistent_buffers_set", set())
        found: dict[str, Tensor] = {}
        for kind in ("_parameters", "_buffers"):
            for name, value in self.mapping(state.get(kind, {}), what).items():
                self._charge(prefix, name)
                if value is None or (isinstance(transient, set) and name in transient):
                    continue
                found[prefix + name] = self.reader.tensor(value)
        for name, part in self.mapping(state.get("_modules", {}), what).items():
            self._charge(prefix, name)
            if part is not None:
                found |= self.tensors(part, f"{prefix}{name}.", depth + 1)
        return found

    def _charge(self, prefix: str, name: str) -> None:
        self.reader.meter.take(2 * ENTRY + 4 * (len(prefix) + len(name)))

    def plain(self, value: Any, what: str, depth: int = 0) -> Any:
        """Numbers, text, lists and dictionaries, as JSON has them.

        Raises:
            UnsafeCheckpointError: If there is anything else in it.
        """
        self.reader.meter.take(CONTAINER)
        if depth > DEEPEST:
            raise _unlike(f"{what} is nested more than {DEEPEST} deep, or contains itself")
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        if isinstance(value, list | tuple):
            return [self.plain(entry, what, depth + 1) for entry in value]
        if isinstance(value, Call) and value.function in ARRAYS:
            return self.numbers(value, what)
        if isinstance(value, dict) or (isinstance(value, Call) and value.function in DICTS):
            items = self.mapping(value, what)
            return {key: self.plain(entry, what, depth + 1) for key, entry in items.items()}
        raise _unlike(f"{what} holds something else than finite numbers, text, lists")

    def numbers(self, value: Any, what: str) -> list:
        """The entries of a small array, or of a list or tuple of numbers, as a list.

        Raises:
            UnsafeCheckpointError: If it is neither, not finite, or long.
        """
        if isinstance(value, Call) and value.function in ARRAYS:
            array = self.reader.array(value)
            if array.ndim != 1 or len(array) > 64 or not np.all(np.isfinite(array)):
                raise _unlike(f"{what} is not a short vector of finite numbers")
            return array.tolist()
        listed = self.plain(value, what)
        if not isinstance(listed, list) or not all(type(v) in (int, float) for v in listed):
            raise _unlike(f"{what} is not a vector of numbers")
        return listed

    def arguments(self, state: dict[str, Any], what: str) -> dict[str, Any]:
        """The arguments that an object was made with, by name.

        Raises:
            UnsafeCheckpointError: If they are not there, or not plain data.
        """
        positional = self.plain(state.get("_init_args", ()), f"the arguments of {what}")
        named = self.plain(state.get("_init_kwargs"), f"the arguments of {what}")
        if not isinstance(named, dict) or not isinstance(positional, list):
            raise _unlike(f"{what} does not say what it was made with")
        if len(positional) > len(POSITIONAL):
            raise _unlike(f"{what} has {len(positional)} arguments without a name")
        return dict(zip(POSITIONAL, positional, strict=False)) | named


def _unlike(what: str) -> UnsafeCheckpointError:
    return UnsafeCheckpointError(
        f"{what[:200]}: this is not a checkpoint of the official EDM2 format. Give an `edm2-*.pkl` as "
        "published, or a .safetensors file that `model-bridges convert` wrote."
    )
