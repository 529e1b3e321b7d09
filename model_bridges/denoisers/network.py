"""A raw function with its coefficients, made a denoiser whose arguments are checked.

`D = skip(sigma) x + out(sigma) F(x; sigma, label)` in EDM coordinates. Coefficients are computed in
float64; the network runs in its own dtype on its own device, and `D` comes back in those of `x`.
A noise level outside the trained range is reported or refused, never moved.
"""

import math
import warnings
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Literal, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gmm_speciation.checks import as_reals
from model_bridges.denoisers.arrays import as_levels, as_states, as_tensor, levels_of
from model_bridges.denoisers.base import (
    Factored,
    Label,
    Sigma,
    States,
    Unconditional,
    check_finite,
    of_its_own,
)
from model_bridges.denoisers.checks import class_weights
from model_bridges.denoisers.devices import (
    Placement,
    check_floating,
    find_device,
    move,
    warn_of_training,
)


@final
@dataclass(frozen=True, eq=False)
class NetworkDenoiser(Factored):
    """A `Denoiser` made of a raw function and a coefficient function, with its arguments checked.

    Args:
        raw_function: `(x, sigma, label) -> F`, `x` and `sigma` `(B,)` in `dtype` on `device`.
        coefficient_function: `sigma -> (skip, out)`, elementwise.
        num_classes: C; integer labels are `0 .. C-1`.
        event_shape: Shape of one state.
        sigma_range: Trained noise levels, low to high.
        provenance: Where the model comes from.
        has_unconditional: Whether `raw_function` takes `UNCONDITIONAL`.
        soft_labels: Whether it takes labels `(B, C)`.
        outside: Outside `sigma_range`, "warn", "refuse", or "accept" where the model is exact at
            every level. The level itself is never changed.
        class_prior: Weights of the classes; equal when `None`.
        class_names: What they are called; their numbers when `None`.
        dtype: What the network computes in. `D` comes in the dtype of `x`.
        device: Where it computes.
        half: The half precision of its matrix products and convolutions, by `torch.autocast`.

    Raises:
        ValueError: If the sizes or the range are not positive numbers, `outside`, `dtype` or `half` is none
            of those, a function, a flag or the provenance is of another kind, the device is not there, or the
            names are not those of the classes.
    """

    raw_function: Callable[[Tensor, Tensor, Any], Tensor]
    coefficient_function: Callable[[Tensor], tuple[Tensor, Tensor]]
    num_classes: int
    event_shape: tuple[int, ...]
    sigma_range: tuple[float, float]
    provenance: str = "a network of the user's own"
    has_unconditional: bool = True
    soft_labels: bool = False
    outside: Literal["warn", "refuse", "accept"] = "warn"
    class_prior: tuple[float, ...] | None = None
    class_names: tuple[str, ...] | None = None
    dtype: torch.dtype = torch.float32
    device: torch.device | str = "cpu"
    half: torch.dtype | None = None

    def __post_init__(self) -> None:
        kind: Any
        for kind, expected, fields in (
            (Callable, "a function", ("raw_function", "coefficient_function")),
            (bool | np.bool_, "True or False", ("has_unconditional", "soft_labels")),
            (str, "words", ("provenance",)),
        ):
            for name in fields:
                if not isinstance(getattr(self, name), kind):
                    raise ValueError(f"`{name}` must be {expected}; got {getattr(self, name)!r}.")
        for name, sizes in (
            ("num_classes", (self.num_classes,)),
            ("event_shape", self.event_shape),
        ):
            if not isinstance(sizes, Iterable) or any(
                isinstance(size, bool) or not isinstance(size, Integral) for size in sizes
            ):
                raise ValueError(
                    f"`{name}` must be whole numbers; got {getattr(self, name)!r}, "
                    f"{type(getattr(self, name)).__name__}."
                )
        object.__setattr__(self, "event_shape", tuple(self.event_shape))
        ends = as_reals(self.sigma_range, "sigma_range")
        flags = ends.shape == (2,) and any(
            isinstance(end, bool | np.bool_) for end in self.sigma_range
        )
        if ends.shape != (2,) or flags or not 0 < ends[0] < ends[1] < math.inf:
            raise ValueError(
                "`sigma_range` must be (low, high) with 0 < low < high < inf; "
                f"got {self.sigma_range}. Give the noise levels the model was trained for."
            )
        if self.num_classes < 1 or any(size < 1 for size in self.event_shape):
            raise ValueError(
                "`num_classes` and every entry of `event_shape` must be at least 1; got "
                f"{self.num_classes} and {self.event_shape}."
            )
        if self.class_prior is not None:
            class_weights(self.class_prior, self)
        if self.class_names is not None:
            listed = isinstance(self.class_names, Iterable) and not isinstance(
                self.class_names, str
            )
            names = tuple(self.class_names) if listed else ()
            whole = len(set(names)) == len(names) == self.num_classes
            if not (whole and all(isinstance(name, str) for name in names)):
                raise ValueError(
                    f"`class_names` must be {self.num_classes} different names, one a class; got "
                    f"{self.class_names!r}."
                )
            object.__setattr__(self, "class_names", names)
        if self.outside not in ("warn", "refuse", "accept"):
            raise ValueError(
                f"`outside` must be 'warn', 'refuse' or 'accept'; got {self.outside!r}."
            )
        check_floating(self.dtype)
        if self.half not in (None, torch.float16, torch.bfloat16):
            raise ValueError(
                f"`half` must be torch.float16, torch.bfloat16 or None; got {self.half!r}."
            )
        object.__setattr__(self, "device", find_device(self.device))
        warn_of_training(self.raw_function)

    def raw(self, x: States, sigma: Sigma, label: Label) -> Float[Tensor, "B *event"]:
        """The raw output `F`, in the model's dtype and on its device.

        Raises:
            ValueError: If a shape, a noise level or a label does not fit the model.
            NotFiniteError: If it has NaN or infinity; names level, class, image and dtype.
        """
        x = as_states(x, "`x`")
        if x.ndim == 0 or len(x) == 0 or tuple(x.shape[1:]) != self.event_shape:
            raise ValueError(
                f"`x` must have shape (B, {', '.join(map(str, self.event_shape))}) with B >= 1; "
                f"got {tuple(x.shape)}. Reshape or resize the states."
            )
        levels = levels_of(sigma, len(x))
        self._check_range(levels)
        # Half precision has no room for a level or a step.
        wide = torch.promote_types(self.dtype, torch.float32)
        levels = levels.expand(len(x)).to(self.device, wide)
        states = x.to(self.device, self.dtype)
        label = self._label(label, len(x))
        kind = torch.device(self.device).type
        with nullcontext() if self.half is None else torch.autocast(kind, self.half):
            output = self.raw_function(*map(of_its_own, (states, levels, label)))
        output = self._checked(output, states)
        return check_finite(output.clone(), states, levels, label)

    def coefficients(self, sigma: Sigma) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B"]]:
        """`(skip, out)`, each of the shape of `sigma`, in float64.

        Raises:
            ValueError: If a level is negative or NaN, or the coefficients are not two floating tensors of the
                shape of the levels, or not finite.
        """
        levels = as_levels(sigma)
        if not bool((levels >= 0).all()):
            raise ValueError(
                f"`sigma` must not be negative or NaN; got {levels.flatten()[:5].tolist()}."
            )
        given = self.coefficient_function(levels.clone())
        came = given if isinstance(given, tuple | list) else (given,)
        fits = [
            isinstance(c, Tensor) and c.is_floating_point() and c.shape == levels.shape
            for c in came
        ]
        if fits != [True, True]:
            shapes = [tuple(c.shape) if isinstance(c, Tensor) else repr(c) for c in came]
            raise ValueError(
                "`coefficient_function` must give (skip, out), two floating tensors of the shape of the "
                f"levels, {tuple(levels.shape)}; it gave {', '.join(map(str, shapes))}. Of a constant take "
                "`torch.full_like(sigma, c)`."
            )
        finite = torch.stack([c.isfinite() for c in came]).all(0)
        if not bool(finite.all()):
            raise ValueError(
                "`coefficient_function` must give finite coefficients; got NaN or infinity at sigma = "
                f"{float(levels[~finite.to(levels.device)].flatten()[0]):g}."
            )
        return came[0].to(levels), came[1].to(levels)

    def placed(self, placement: Placement) -> "NetworkDenoiser":
        """The model on a device: the modules of its function are moved there, not copied.

        Raises:
            ImmovableError: As `devices.move`.
        """
        move(self.raw_function, placement, self.dtype)
        own = placement.weights(self.dtype)
        return replace(self, device=placement.device, dtype=own, half=placement.half)

    @staticmethod
    def _checked(output: Any, states: Tensor) -> Tensor:
        """What the network gave for these states, if it is one output a state."""
        if isinstance(output, Tensor) and output.is_floating_point():
            if output.shape == states.shape:
                return output
            came = f"{str(output.dtype).removeprefix('torch.')} of shape {tuple(output.shape)}"
            doubled = (len(states), 2 * states.shape[1], *states.shape[2:])
            if states.ndim > 1 and tuple(output.shape) == doubled:
                came += (
                    ", twice the channels: a network with a learned variance. Keep the mean, e.g. "
                    f"`lambda x, t, label: network(x, t, label)[:, :{states.shape[1]}]`"
                )
        elif isinstance(output, Tensor):
            came = f"a tensor of {output.dtype}"
        else:
            came = f"{type(output).__module__}.{type(output).__qualname__}".removeprefix(
                "builtins."
            )
            if isinstance(output, tuple | list):
                came += f" of {', '.join(type(one).__name__ for one in output[:4])}"
            if hasattr(output, "sample") or isinstance(output, tuple):
                came += ". Take the tensor out of it, e.g. its `.sample` or its first entry"
        raise ValueError(
            f"the network must give a floating tensor of the shape of its states, {tuple(states.shape)}; "
            f"it gave {came}."
        )

    def _check_range(self, levels: Tensor) -> None:
        low, high = float(levels.min()), float(levels.max())
        if not (low > 0 and high < math.inf):
            raise ValueError(
                f"`sigma` must be positive and finite; got values from {low:g} to {high:g}. "
                "Stop a schedule before its last zero."
            )
        # A level that went through float32 may miss the end of the range by its rounding.
        inside = self.sigma_range[0] * (1 - 1e-6) <= low and high <= self.sigma_range[1] * (
            1 + 1e-6
        )
        if inside or self.outside == "accept":
            return
        message = (
            f"`sigma` must lie in the trained range [{self.sigma_range[0]:g}, "
            f"{self.sigma_range[1]:g}]; got values from {low:g} to {high:g}. "
            "Choose noise levels inside it."
        )
        if self.outside == "refuse":
            raise ValueError(message)
        warnings.warn(message, stacklevel=4)

    def _label(self, label: Label, batch: int) -> Any:
        if isinstance(label, Unconditional):
            if not self.has_unconditional:
                raise ValueError(
                    "this model has no unconditional part, and a label it never saw would not make "
                    "one; got UNCONDITIONAL. Add the unconditional network of the pair, or average "
                    "the classes with their posterior, sum_c p(c|x) D_c."
                )
            return label
        label = as_tensor(label, "`label`").to(self.device)
        if label.dtype is torch.bool:
            raise ValueError(f"`label` must be integers ({batch},); got booleans.")
        if label.is_floating_point():
            if self.soft_labels and label.shape == (batch, self.num_classes):
                return label.to(self.dtype)
            takes = f" or soft labels ({batch}, {self.num_classes})" if self.soft_labels else ""
            raise ValueError(
                f"`label` must be integers ({batch},){takes}; got {label.dtype} of shape "
                f"{tuple(label.shape)}."
            )
        if label.shape != (batch,):
            raise ValueError(f"`label` must have shape ({batch},); got {tuple(label.shape)}.")
        label = label.long()
        if not bool(((label >= 0) & (label < self.num_classes)).all()):
            raise ValueError(
                f"`label` must be in 0..{self.num_classes - 1}; got {int(label.min())} to "
                f"{int(label.max())}. Use UNCONDITIONAL where no class is meant."
            )
        return label
