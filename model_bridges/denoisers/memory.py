"""The largest batch that a network has memory for, from what two small ones take.

What a forward pass holds at its fullest is `base + batch * state`: tensors alive at once, counted where torch
makes them, on any device. Half of the free memory is spent, for what is not seen: workspaces of
convolutions, fragments. The result is a power of two, so that it does not follow every change of the
free memory.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

SHARE = 0.5


class _Held(TorchDispatchMode):
    """Bytes of the tensors that were made inside and are alive, at most."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                reference = StorageWeakRef(storage)
                self.storages[reference.cdata] = reference, storage.nbytes()
        alive = {k: v for k, v in self.storages.items() if not v[0].expired()}
        self.storages, self.peak = alive, max(self.peak, sum(size for _, size in alive.values()))
        return result


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free there; None where nothing says so."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    known = Path("/proc/meminfo")
    if device.type == "cpu" and known.exists():
        lines = dict(line.split(":") for line in known.read_text(encoding="ascii").splitlines())
        return 1024 * int(lines["MemAvailable"].split()[0])
    return None


def fitting_batch(run: Callable[[int], object], device: torch.device) -> int | None:
    """The largest batch that fits, a power of two and at least 1; None where nobody knows.

    Args:
        run: Does the work of a batch of so many states; called with 1 and 2.
        device: Where it does it.
    """
    free = free_memory(device)
    if free is None:
        return None
    base, state = held_by(run)
    room = (SHARE * free - base) / state
    return 1 << max(0, int(room).bit_length() - 1) if room >= 1 else 1


def held_by(run: Callable[[int], object]) -> tuple[int, int]:
    """`(base, state)`: bytes that the work of a batch holds at its fullest, `base + batch * state`.

    Args:
        run: Does the work of a batch of so many states; called with 1 and 2.
    """
    peaks = []
    for batch in (1, 2):
        with _Held() as held:
            run(batch)
        peaks.append(held.peak)
    state = max(peaks[1] - peaks[0], 1)
    return peaks[0] - state, state
