"""The border: arrays of torch or numpy come in as torch tensors, or are refused.

They mean what they say: images are floating numbers in the model's own units (bytes are not scaled by a
guess), labels are integers, and nothing is taken from which a part would be dropped in silence (masks,
imaginary parts, text that looks like numbers).
"""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

Images = Shaped[Tensor, "N *event"] | Shaped[np.ndarray, "N *event"]
Labels = Shaped[Tensor, " N"] | Shaped[np.ndarray, " N"]
MOST_BYTES = 1 << 36  # of images kept in memory at once, in float32


def as_tensor(values: Any, name: str) -> Tensor:
    """Real numbers of torch, numpy or Python as a dense tensor of their own dtype.

    Raises:
        ValueError: If they are masked, complex, objects, text or ragged, or not dense.
    """
    if isinstance(values, Tensor):
        if values.layout != torch.strided or values.is_complex() or values.is_quantized:
            raise ValueError(
                f"{name} must be a dense tensor of real numbers; got {values.dtype}, {values.layout}."
            )
        return values
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError(
            f"{name} must have a number in every place; got a masked array. Drop what is masked, or "
            "fill it with `filled`."
        )
    try:
        array = np.asarray(values)
    except ValueError as error:  # lists of different lengths
        raise ValueError(f"{name} must be an array of numbers; {error}.") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must be real numbers; got {type(values).__name__} of dtype {array.dtype}."
        )
    if array.dtype.itemsize > 8:
        array = array.astype(np.float64)  # torch has no longer ones
    # In native order, without negative strides, and free to be written to.
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.require(native, requirements=["C", "W"]))


def as_levels(sigma: Any, name: str = "`sigma`") -> Float[Tensor, "*B"]:
    """Noise levels, or other real numbers that are no flags, in float64.

    Raises:
        ValueError: As `as_tensor`, or if they are booleans.
    """
    levels = as_tensor(sigma, name)
    if levels.dtype is torch.bool:
        raise ValueError(f"{name} must be numbers; got booleans.")
    # Apple's devices have no float64.
    return (levels.cpu() if levels.device.type == "mps" else levels).to(torch.float64)


def levels_of(sigma: Any, count: int) -> Float[Tensor, "*B"]:
    """The noise level of `count` states, or one a state, in float64.

    Raises:
        ValueError: As `as_levels`, or if they are not so many.
    """
    levels = as_levels(sigma)
    if levels.shape not in ((), (count,)):
        raise ValueError(
            f"`sigma` must be a number or one a state, shape ({count},); got shape {tuple(levels.shape)}."
        )
    return levels


def as_states(x: Any, name: str = "`x0`") -> Float[Tensor, "*shape"]:
    """Images of torch or numpy as a floating tensor, in their own precision.

    Raises:
        ValueError: If they are no floating real numbers.
    """
    found = as_tensor(x, name)
    if not found.is_floating_point():
        remedy = (
            "Bytes are not scaled by a guess: scale them as the model was trained, e.g. `x / 127.5 - 1`"
            if found.dtype is torch.uint8
            else "Bring them to the model's units as floating-point numbers"
        )
        raise ValueError(
            f"{name} must be floating-point numbers in the model's units; got {_short(found)}. {remedy}."
        )
    return found


def as_labels(
    labels: Any, count: int, num_classes: int | None = None, name: str = "`labels`"
) -> Int[Tensor, " N"]:
    """One class for each of `count` images, of torch or numpy, as int64.

    Raises:
        ValueError: If they are no integers, not so many, or outside 0..num_classes-1, from 0 on where
            that is not known.
    """
    found = as_tensor(labels, name)
    if found.is_floating_point() or found.dtype is torch.bool or tuple(found.shape) != (count,):
        raise ValueError(
            f"{name} must be integers of shape ({count},), one class an image; got {_short(found)} of "
            f"shape {tuple(found.shape)}."
        )
    found = found.long()
    most = math.inf if num_classes is None else num_classes - 1
    if not bool(((found >= 0) & (found <= most)).all()):
        raise ValueError(
            f"{name} must be in 0..{most}; got {int(found.min())} to {int(found.max())}. "
            "They must be the classes of the model."
        )
    return found


def _short(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def check_number(num: int, event_shape: tuple[int, ...]) -> None:
    """Refuse more images than memory can hold.

    Raises:
        ValueError: If they would take more than `MOST_BYTES`.
    """
    most = MOST_BYTES // (4 * math.prod(event_shape))
    if num > most:
        raise ValueError(
            f"{num} images of shape {tuple(event_shape)} do not fit in memory; draw at most {most}."
        )
