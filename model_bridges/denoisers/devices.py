"""Where a model computes, and in what.

    device   "auto": the accelerator that is there, CUDA before Apple's MPS, else the CPU
    dtype    "auto": what the model came in; "float32"; "bfloat16" or "float16": weights in float32, matrix
             products and convolutions in half precision (`torch.autocast`)

float32 is torch's: on NVIDIA's cards its convolutions keep ten bits of their inputs (TF32) unless
`torch.backends.cudnn.allow_tf32` is off; nothing here changes that.

What is measured lives beside the network in float64: states, noise, tracked likelihoods. MPS has no
float64, so there the network alone is on the device and the rest on the host. Random numbers are drawn on
the host and moved, so that they do not depend on the device.
"""

import functools
import inspect
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from gmm_speciation.lookup import pick

DTYPES = {
    "auto": None,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

FLOATING = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


class ImmovableError(ValueError):
    """Nothing says what a denoiser computes with, so it cannot be brought anywhere."""


@final
@dataclass(frozen=True)
class Placement:
    """Where a model computes and in what; `dtype` None is what it came in."""

    device: torch.device
    dtype: torch.dtype | None = None
    compile: bool = False

    @property
    def half(self) -> torch.dtype | None:
        """The half precision of products, where one is asked for."""
        return None if self.dtype is torch.float32 else self.dtype

    def weights(self, own: torch.dtype) -> torch.dtype:
        """What states and weights are in, where the model's own is `own`."""
        if self.dtype is not None or (own is torch.float64 and not has_float64(self.device)):
            return torch.float32
        return own


def has_float64(device: torch.device) -> bool:
    return device.type != "mps"


def check_floating(dtype: Any) -> None:
    """Refuse what no network computes in.

    Raises:
        ValueError: If it is not one of torch's floating types of 16 to 64 bits.
    """
    if dtype not in FLOATING:
        known = ", ".join(map(str, FLOATING))
        raise ValueError(f"`dtype` must be one of {known}; got {dtype!r}.")


def find_device(name: str | torch.device = "auto") -> torch.device:
    """The device of this name, with its number where it has one.

    Raises:
        ValueError: If there is no such device here.
    """
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    counts = {"cpu": 1, "cuda": cuda, "mps": int(torch.backends.mps.is_available())}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if counts[kind])
    there = [kind for kind, count in counts.items() if count]
    if cuda > 1:
        there += [f"cuda:{index}" for index in range(cuda)]
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(
            f"`device` must be auto, cpu, cuda, cuda:0, ... or mps; got {str(name)!r}."
        ) from error
    absent = (
        f"the device {str(name)!r} is not there; this machine and this torch ({torch.__version__}) "
        f"have {', '.join(there)}. Take one of these, or auto."
    )
    if device.type not in counts:  # of a backend of one's own, or without memory
        try:
            torch.ones(1, device=device).item()
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"{absent} ({str(error).splitlines()[0]})") from error
    elif (device.index or 0) >= counts[device.type]:
        raise ValueError(absent)
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def place(
    denoiser: Any,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    compile: bool = False,
    say: Callable[[str], object] = lambda line: None,
) -> Any:
    """A denoiser brought to a device; as `nn.Module.to`, its modules are moved and not copied.

    Args:
        denoiser: The model. One of another library's making needs a method `placed(placement)`, which gives
            the model there, and an attribute `device`.
        device, dtype: See the module; the dtype also as torch's.
        compile: Compile its modules where they are called (`nn.Module.compile`); slow at first, then faster.
        say: Told in one line what "auto" took.

    Raises:
        ValueError: If the device is not there, or the dtype is none of these.
        ImmovableError: If nothing says what would have to move. With "auto" alone the model stays.
    """
    named = pick(dtype, DTYPES, "dtype") if isinstance(dtype, str) else dtype
    if named not in DTYPES.values():
        raise ValueError(f"`dtype` must be one of {', '.join(DTYPES)}; got {named}.")
    placement = Placement(find_device(device), named, compile)
    own = home(denoiser)
    try:
        if placement != Placement(own):
            denoiser = placed(denoiser, placement)
    except ImmovableError as error:
        if device != "auto" or named is not None or compile:
            raise
        say(f"the network stays on {own}: {error}")
    else:
        if device == "auto":
            say(f"the network computes on {_described(placement.device)}")
    return denoiser


def placed(denoiser: Any, placement: Placement) -> Any:
    """What the denoiser's own method `placed` gives.

    Raises:
        ImmovableError: If it has none, or as that.
    """
    if not hasattr(type(denoiser), "placed"):
        # Of what it wraps, handed on: what came back would be without the wrapper.
        inner = hasattr(denoiser, "placed")
        raise ImmovableError(
            f"{type(denoiser).__name__} does not say how it moves"
            + (", and what it wraps would come back without it" if inner else "")
            + ": give it a method `placed(placement)` and an attribute `device`, or build it where it "
            "shall compute."
        )
    return denoiser.placed(placement)


def _described(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device}, {torch.cuda.get_device_name(device)}"
    return "cpu, no accelerator is there" if device.type == "cpu" else str(device)


def home(denoiser: Any) -> torch.device:
    """Where a model computes: what its `device` says, else the host."""
    return torch.device(getattr(denoiser, "device", None) or "cpu")


def beside(denoiser: Any) -> torch.device:
    """Where states of a model live: on its device, or on the host where that has no float64."""
    device = home(denoiser)
    return device if has_float64(device) else torch.device("cpu")


def brought(denoiser: Any, values: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """Values beside the model; where they are, if it does not say where it computes."""
    known = getattr(denoiser, "device", None) is not None
    return values.to(beside(denoiser)) if known else values


def normal(
    shape: tuple[int, ...],
    generator: torch.Generator | None,
    device: torch.device | str,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "*shape"]:
    """Standard normal numbers of a generator, drawn where it is and moved to a device."""
    source = None if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=source, dtype=dtype).to(device)


def move(function: Callable[..., Any], placement: Placement, own: torch.dtype) -> None:
    """Bring the modules that a function computes with, in the dtype `own`, to a device; compile them there.

    They are found in what it is bound to, closes over or names.

    Raises:
        ImmovableError: If it holds no module, or tensors outside of one that are elsewhere.
    """
    modules, tensors = _held(function)
    if not modules:
        raise ImmovableError(
            "its network is a function in which no torch module was found to move. Make it an "
            "`nn.Module`, or build it on its device and say so by `device=`."
        )
    astray = [t for t in tensors if t.device != placement.device]
    if astray:
        raise ImmovableError(
            f"its network holds a tensor of shape {tuple(astray[0].shape)} outside of a module, which "
            "would stay behind. Register it as a buffer of an `nn.Module`."
        )
    weights = placement.weights(own)
    keep = placement.dtype is None and weights is own
    for module in modules:
        module.to(placement.device, None if keep else weights)
        if placement.compile:
            module.compile()


def warn_of_training(function: Callable[..., Any]) -> None:
    """Warn of modules whose outputs depend on chance or on the rest of a batch, as in training they do."""
    for module in (inner for held in _held(function)[0] for inner in held.modules()):
        layer = isinstance(module, nn.modules.dropout._DropoutNd)
        # Others drop by a function; diffusers looks up what is absent in its configuration, with a warning.
        rate = inspect.getattr_static(module, "p" if layer else "dropout", 0)
        drops = isinstance(rate, int | float) and rate > 0
        if module.training and (drops or isinstance(module, nn.modules.batchnorm._BatchNorm)):
            warnings.warn(
                f"the network is in training mode and has a {type(module).__name__}, so that its answers "
                "depend on chance or on the other states of a batch: call its `.eval()`.",
                stacklevel=5,
            )
            return


def _held(function: Any) -> tuple[list[nn.Module], list[Tensor]]:
    """Modules and loose tensors that a function reaches."""
    modules: list[nn.Module] = []
    tensors: list[Tensor] = []
    seen: set[int] = set()
    left: list[Any] = [function]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, nn.Module):
            modules.append(one)
        elif isinstance(one, Tensor):
            tensors.append(one)
        elif isinstance(one, functools.partial):
            left += [one.func, *one.args, *one.keywords.values()]
        elif inspect.ismethod(one):
            left += [one.__self__, one.__func__]
        elif inspect.isfunction(one):
            names = inspect.getclosurevars(one)
            left += [*names.nonlocals.values(), *(one.__defaults__ or ())]
            kinds = (nn.Module, Tensor, functools.partial)
            left += [v for v in names.globals.values() if isinstance(v, kinds) or _is_own(v, one)]
        elif isinstance(one, list | tuple | set):
            left += one
        elif isinstance(one, dict):
            left += one.values()
        elif not inspect.isclass(one) and not inspect.ismodule(one):
            left += getattr(one, "__dict__", {}).values()
    return modules, tensors


def _is_own(value: Any, function: Any) -> bool:
    """Whether a name of a function is another function beside it, or a method of something."""
    beside_it = inspect.isfunction(value) and value.__module__ == function.__module__
    return beside_it or inspect.ismethod(value)
