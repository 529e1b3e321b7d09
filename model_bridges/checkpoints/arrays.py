"""Tensors and arrays from the records of a symbolic pickle.

A tensor is a view `(storage, offset, sizes, strides)` in elements, and a storage is a file inside the
file: four pickles (a magic number, a version, the machine, a reference `(storage, type, key, device,
count, None)`), a fifth with the list of keys, the count again as eight bytes, and the elements, little
endian. All of them are read as symbols too. Nothing reaches beyond its storage, and no storage is used
for more bytes of tensors than the file has.
"""

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model_bridges.checkpoints.errors import UnsafeCheckpointError
from model_bridges.checkpoints.symbols import (
    CONTAINER,
    OBJECT,
    Call,
    Meter,
    Symbol,
    read_symbols,
)

TENSOR = "torch._utils._rebuild_tensor_v2"
PARAMETER = "torch._utils._rebuild_parameter"
STORAGE = "torch.storage._load_from_bytes"
DTYPE = "numpy.dtype"
ARRAYS = ("numpy._core.multiarray._reconstruct", "numpy.core.multiarray._reconstruct")
GLOBALS = (TENSOR, PARAMETER, STORAGE, DTYPE, "numpy.ndarray", *ARRAYS)

STORAGE_TYPES = {
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
ARRAY_TYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1")
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
MOST_AXES = 8
LARGEST = 2**48  # elements


@dataclass(frozen=True, eq=False)
class Storage:
    """Elements of one type, a view of the file."""

    dtype: torch.dtype
    count: int
    data: memoryview


def read_storage(data: memoryview, meter: Meter) -> Storage:
    """The storage in a file inside the file.

    Raises:
        UnsafeCheckpointError: If it is not one whole storage, or asks for anything else.
    """
    heads, end = [], 0
    for index in range(5):
        value, end = read_symbols(
            data, end, known=STORAGE_TYPES, meter=meter, persistent=index == 3
        )
        heads.append(value)
    magic, version, machine, reference, keys = heads
    if magic != MAGIC or version != VERSION or not isinstance(machine, dict):
        raise _damaged("a storage does not begin as one")
    if machine.get("little_endian") is not True:
        raise UnsafeCheckpointError(
            "a storage of the checkpoint is not little endian; only little-endian files are read. "
            "Save it again on a common machine."
        )
    match getattr(reference, "identifier", None):
        case ("storage", Symbol(name=name), str() as key, str(), int() as count, None):
            dtype = STORAGE_TYPES[name]
        case _:
            raise _damaged("a storage is described in another way than by type, key and count")
    payload = data[end + 8 :]
    sizes = {count, *struct.unpack("<q", data[end : end + 8])} if len(data) >= end + 8 else set()
    if keys != [key] or sizes != {count} or len(payload) != count * dtype.itemsize:
        raise _damaged(f"a storage of {count} elements does not hold as many")
    return Storage(dtype, count, payload)


class Reader:
    """Makes tensors and arrays of records, within `meter` for objects and `budget` bytes for elements."""

    def __init__(self, meter: Meter, budget: int) -> None:
        self.meter, self.budget = meter, budget

    def on_call(self, call: Call) -> Any:
        """Storages are read at once, used or not, so that nothing is hidden inside them."""
        if call.function != STORAGE:
            return call
        match call.arguments:
            case (memoryview() as data,):
                return read_storage(data, self.meter)
        raise _damaged("a storage is not given by its bytes")

    def tensor(self, value: Any) -> Tensor:
        """The tensor of a record, dense and with memory of its own.

        Raises:
            UnsafeCheckpointError: If it is not a tensor, or one that its storage does not hold.
        """
        match value:
            case Call(function=function, arguments=(Call() as inner, bool(), _)) if (
                function == PARAMETER
            ):
                return self.tensor(inner) if inner.function == TENSOR else self.tensor(None)
            case Call(
                function=function,
                arguments=(Storage() as storage, offset, tuple() as sizes, tuple() as strides, *_),
            ) if function == TENSOR:
                self._check_view(storage, offset, sizes, strides)
                return self._copy(storage, offset, sizes, strides)
        raise _damaged("a weight is not a tensor as the official format has it")

    def array(self, value: Call) -> np.ndarray:
        """The array of a record, with memory of its own.

        Raises:
            UnsafeCheckpointError: If it is not an array of plain numbers.
        """
        match value.state:
            case (
                int(),
                tuple() as shape,
                Call(function=name) as dtype,
                bool() as fortran,
                data,
            ) if name == DTYPE and isinstance(data, memoryview):
                kind = self._array_type(dtype)
            case _:
                raise _damaged("an array is not given by shape, type and bytes")
        count = self._count(shape)
        if count * kind.itemsize != len(data):
            raise _damaged(f"an array of {count} numbers does not hold as many")
        self._charge(len(data))
        if not count:
            return np.zeros(shape, kind.newbyteorder("="))
        order: Any = "F" if fortran else "C"
        stored = np.frombuffer(data, kind, count).reshape(shape, order=order)
        return np.array(stored, kind.newbyteorder("="), order="C")

    def _array_type(self, record: Call) -> np.dtype:
        """`numpy.dtype("f4", False, True)` with the state `(3, "<", None, None, None, -1, -1, 0)`."""
        match record:
            case Call(arguments=(str() as code, *_), state=(int(), str() as order, *_)) if (
                code in ARRAY_TYPES and order in ("<", "|", "=", ">")
            ):
                return np.dtype((">" if order == ">" else "<") + code)
        raise _damaged("an array is not of a plain type of numbers")

    def _count(self, sizes: tuple) -> int:
        good = all(type(n) is int and 0 <= n <= LARGEST for n in sizes)
        if len(sizes) > MOST_AXES or not good:
            raise _damaged(f"a shape of {len(sizes)} axes is none")
        return math.prod(sizes)

    def _charge(self, size: int) -> None:
        self.meter.take(2 * CONTAINER + 8 * OBJECT)
        self.budget -= size
        if self.budget < 0:
            raise UnsafeCheckpointError(
                "the tensors of the checkpoint are larger together than its file: they use the same "
                "elements many times. It is damaged, or made to fill the memory."
            )

    def _check_view(self, storage: Storage, offset: Any, sizes: tuple, strides: tuple) -> None:
        self._count(strides)
        if len(strides) != len(sizes) or type(offset) is not int or offset < 0:
            raise _damaged(f"a tensor has {len(sizes)} sizes and {len(strides)} strides")
        count = self._count(sizes)
        reach = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True)) + 1
        if (count and reach > storage.count) or offset > storage.count:
            raise _damaged(f"a tensor reaches to element {reach} of a storage of {storage.count}")
        self._charge(count * storage.dtype.itemsize)

    def _copy(self, storage: Storage, offset: int, sizes: tuple, strides: tuple) -> Tensor:
        size = storage.dtype.itemsize
        kind = np.dtype(f"i{size}")
        if 0 in sizes:
            return torch.empty(sizes, dtype=storage.dtype)
        steps = tuple(size * step for step in strides)
        view = np.ndarray(sizes, kind, buffer=storage.data, offset=size * offset, strides=steps)
        elements = torch.from_numpy(np.array(view, order="C"))
        return elements != 0 if storage.dtype is torch.bool else elements.view(storage.dtype)


def _damaged(what: str) -> UnsafeCheckpointError:
    return UnsafeCheckpointError(
        f"{what}: the checkpoint is damaged, or not of the official format. Fetch it again and "
        "compare its size and SHA-256."
    )
