"""A device of its own for tests on machines without one: real numbers under the name of another device.

Tensors there hold their numbers on the host and say they are on `DEVICE`, torch's device without memory.
Every operation that mixes them with tensors of the host is refused, as an accelerator would: but for
single numbers, indices, and copies. So whatever runs here is nowhere computed on the host in silence, and
its results can be compared.
"""

from contextlib import contextmanager

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

from model_bridges.denoisers.base import Wrapped

DEVICE = torch.device("meta")


class There(torch.Tensor):
    """A tensor on `DEVICE`; `held` are its numbers."""

    @staticmethod
    def __new__(cls, held):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    def tolist(self):
        return self.held.tolist()

    def numpy(self, **options):
        raise TypeError(f"a tensor on {DEVICE} must be copied to the host first")

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} outside of the device's mode")


class Elsewhere(TorchDispatchMode):
    """Runs what is on the device, and counts it."""

    def __init__(self):
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        flat = [a for a in tree_flatten((args, kwargs))[0] if isinstance(a, torch.Tensor)]
        there = [a for a in flat if isinstance(a, There)]
        target = kwargs.get("device")
        asked = None if target is None else torch.device(target)
        if not there and asked != DEVICE:
            return func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if there and name not in ("copy_", "index", "index_put", "index_put_", "_to_copy"):
            strangers = [a for a in flat if not isinstance(a, There) and a.ndim]
            if strangers:
                raise RuntimeError(
                    f"{func}: expected all tensors on one device; got {DEVICE} and a tensor of shape "
                    f"{tuple(strangers[0].shape)} on the host"
                )
        if name == "_local_scalar_dense":
            return func(args[0].held)
        self.operations += 1
        if asked is not None:
            kwargs["device"] = torch.device("cpu")
        wrapped = {id(a.held): a for a in there}
        args, kwargs = tree_map_only(There, lambda a: a.held, (args, kwargs))
        result = func(*args, **kwargs)
        leaves_it = asked is not None and asked != DEVICE  # copied to the host
        if leaves_it:
            return result
        return tree_map_only(
            torch.Tensor, lambda r: wrapped[id(r)] if id(r) in wrapped else There(r), result
        )


class Filled(TorchFunctionMode):
    """Numbers of Python become tensors on the host and are copied: torch leaves those of `DEVICE` empty."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if (
            func in (torch.tensor, torch.as_tensor)
            and torch.device(kwargs.get("device") or "cpu") == DEVICE
        ):
            return func(*args, **(kwargs | {"device": "cpu"})).to(DEVICE)
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__) and isinstance(
            args[1], list
        ):
            args = (args[0], torch.tensor(args[1]), *args[2:])
        return func(*args, **kwargs)


@contextmanager
def elsewhere():
    """Inside, `DEVICE` computes."""
    with Filled(), Elsewhere() as mode:
        yield mode


def host(values):
    """Numbers of any library, on the host."""
    return values.cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


class Watched(Wrapped):
    """Refuses whatever is not on the device already, so that nothing is carried there and back unseen."""

    def __init__(self, denoiser):
        self.denoiser = denoiser

    def raw(self, x, sigma, label):
        assert isinstance(x, There)
        for given in (sigma, label):
            assert (
                not isinstance(given, torch.Tensor) or given.ndim == 0 or isinstance(given, There)
            )
        return self.denoiser.raw(x, sigma, label)
