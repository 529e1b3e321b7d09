"""Networks of other parametrisations as denoisers.

A network sees its native state and time and predicts one of several targets; all of them are the
posterior mean, written as `D = skip x + out F` in EDM coordinates `x = x_0 + sigma eps`:

    predicts          native state            native time           skip            out
    eps               x / sqrt(1 + sigma^2)   step t(sigma)         1               -sigma
    v = a eps - s x_0 x / sqrt(1 + sigma^2)   step t(sigma)         1/(1+sigma^2)   -sigma/sqrt(1+sigma^2)
    x_0               either                  step or sigma         0               1
    flow eps - x_0    x / (1 + sigma)         sigma / (1 + sigma)   1/(1+sigma)     -sigma/(1+sigma)

with a = sqrt(abar), s = sqrt(1 - abar), `sigma = s / a` (Ho et al. 2020; Salimans & Ho 2022; Lipman et
al. 2023). Between the steps of a schedule `log sigma` is linear in the step, and
the network gets a fractional step. Outside its range a level is refused, never clamped.

A wrapped function is called as `fn(x_native, t_native, label)` with `x_native` `(B, *event)`,
`t_native` `(B,)` and `label` integers `(B,)`; for `UNCONDITIONAL` it gets `unconditional_label` in
every entry where one is given, else `None`.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from gmm_speciation.checks import as_reals
from model_bridges.denoisers.base import Unconditional, per_image
from model_bridges.denoisers.network import NetworkDenoiser

Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]
Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Schedule:
    """A discrete variance-preserving schedule: `log sigma` at the steps 0, 1, ..., increasing."""

    log_sigma: Float[np.ndarray, " T"]

    @classmethod
    def from_alphas_cumprod(cls, alphas_cumprod: ArrayLike) -> "Schedule":
        """The schedule with these `abar` per step.

        A last step without any signal, `abar = 0`, has sigma infinite and no place in EDM coordinates. It is
        left out, with a warning: the range of noise ends at the step before. One that ends with more signal
        than noise, as the alphas of one step each do, warns, too.

        Raises:
            ValueError: If they are not at least two, strictly decreasing inside (0, 1).
        """
        values = np.asarray(as_reals(alphas_cumprod, "alphas_cumprod"), float)
        if values.ndim == 1 and len(values) and values[-1] == 0:
            values = values[:-1]
            warnings.warn(
                "The last step of the schedule has no signal, sigma = inf; it is left out.",
                stacklevel=2,
            )
        inside = values.ndim == 1 and np.all((values > 0) & (values < 1))
        if not (inside and len(values) > 1 and np.all(np.diff(values) < 0)):
            raise ValueError(
                "`alphas_cumprod` must be a vector that decreases strictly inside (0, 1), one entry "
                f"a training step; got shape {values.shape}. Pass `scheduler.alphas_cumprod`, not "
                "betas or alphas."
            )
        if values[-1] > 0.5:
            warnings.warn(
                f"The schedule ends at abar = {values[-1]:.3g}, with more signal than noise. Pass "
                "`scheduler.alphas_cumprod`, not alphas.",
                stacklevel=2,
            )
        return cls((np.log1p(-values) - np.log(values)) / 2)

    @property
    def sigma_range(self) -> tuple[float, float]:
        return float(np.exp(self.log_sigma[0])), float(np.exp(self.log_sigma[-1]))

    def time(self, sigma: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """The fractional step at noise level `sigma`, inside the range."""
        levels = np.log(sigma.detach().cpu().double().numpy())
        return torch.as_tensor(np.interp(levels, self.log_sigma, np.arange(len(self.log_sigma))))


class _Native(NamedTuple):
    """How a network is called: `fn(scale(sigma) x, time(sigma), label)`, for levels in a range."""

    scale: Function
    time: Function
    sigma_range: tuple[float, float]

    @classmethod
    def preserving(cls, alphas_cumprod: ArrayLike, options: dict[str, Any]) -> "_Native":
        """On a schedule, at its fractional steps, or at the nearest where `integer_steps` is asked."""
        schedule = Schedule.from_alphas_cumprod(alphas_cumprod)
        time: Function = schedule.time
        if options.pop("integer_steps", False):
            time = lambda sigma: schedule.time(sigma).round().long()  # noqa: E731
        return cls(_preserving, time, schedule.sigma_range)


def _wrap(
    fn: Network,
    predicts: str,
    native: _Native,
    unconditional_label: int | None,
    options: dict[str, Any],
) -> NetworkDenoiser:
    """The denoiser of a network that predicts one of `COEFFICIENTS`."""

    def raw(x: Tensor, sigma: Tensor, label: Tensor | Unconditional) -> Tensor:
        if isinstance(label, Unconditional):
            null = unconditional_label
            label_or_none = None if null is None else torch.full((len(x),), null, device=x.device)
        else:
            label_or_none = label
        step = native.time(sigma)
        step = step.to(sigma) if step.is_floating_point() else step.to(x.device)
        wide = x.to(sigma.dtype)
        try:
            return fn((per_image(native.scale(sigma), wide) * wide).to(x), step, label_or_none)
        except (TypeError, AttributeError, IndexError, RuntimeError) as error:
            remedy = _remedy(error, label_or_none, step, x.dtype)
            if remedy is None:
                raise
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"the network failed with {type(error).__name__}: {reason}. {remedy}"
            ) from error

    settings = {"outside": "refuse", **options}
    found = NetworkDenoiser(raw, COEFFICIENTS[predicts], sigma_range=native.sigma_range, **settings)
    if unconditional_label in range(found.num_classes):
        raise ValueError(
            f"`unconditional_label` must be none of the {found.num_classes} classes, for it stands for no "
            f"class; got {unconditional_label}. Count the classes alone, `num_classes`; where the null label "
            "comes first, add 1 to the labels in your function."
        )
    return found


def _remedy(
    error: Exception, native: Tensor | None, step: Tensor, dtype: torch.dtype
) -> str | None:
    """What to do about an error of the network's that comes from how it was called; None for others."""
    if native is None and not isinstance(error, RuntimeError):
        return (
            "It was called with the label None, which stands for no class. A network without a null "
            "class: pass `has_unconditional=False`. One with: pass its label as `unconditional_label`."
        )
    if "dtype" in str(error) and step.dtype != dtype:
        return (
            f"It was called with states in {dtype} and steps in {step.dtype}, for half precision rounds "
            "steps; cast what it makes of them, `.to(x.dtype)`."
        )
    whole = any(words in str(error) for words in ("Long, Int", "tensors used as indices"))
    if whole and step.is_floating_point():
        return (
            "It was called with fractional steps. A network that looks the steps of a schedule up in a "
            "table: pass `integer_steps=True`."
        )
    return None


def _preserving(sigma: Tensor) -> Tensor:
    return (1 + sigma**2).rsqrt()


# (skip, out) of what a network predicts, by diffusers' names.
COEFFICIENTS: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "epsilon": lambda sigma: (torch.ones_like(sigma), -sigma),
    "v_prediction": lambda sigma: (1 / (1 + sigma**2), -sigma * _preserving(sigma)),
    "sample": lambda sigma: (torch.zeros_like(sigma), torch.ones_like(sigma)),
    "flow_prediction": lambda sigma: (1 / (1 + sigma), -sigma / (1 + sigma)),
}


def from_epsilon(
    fn: Network,
    alphas_cumprod: ArrayLike,
    *,
    num_classes: int,
    event_shape: tuple[int, ...],
    unconditional_label: int | None = None,
    **options: Any,
) -> NetworkDenoiser:
    """A network that predicts the noise, `D = x - sigma eps` (Ho et al. 2020).

    Args:
        fn: `fn(x / sqrt(1 + sigma^2), step, label)`.
        alphas_cumprod: `abar` at every training step.
        num_classes: Number of classes.
        event_shape: Shape of one state.
        unconditional_label: The label the network was trained with where no class is given.
        **options: `provenance`, `has_unconditional`, `class_prior`, `class_names`, `dtype`, `device`,
            `outside` of `NetworkDenoiser`; `integer_steps=True` for a network that looks its steps up in a
            table: it is called at the nearest one, which moves the noise level it is told, not its state's,
            by up to half a step.

    Raises:
        ValueError: If the schedule is not valid, or the null label is one of the classes; at a call, if
            `sigma` is outside it.
    """
    options |= {"num_classes": num_classes, "event_shape": event_shape}
    native = _Native.preserving(alphas_cumprod, options)
    return _wrap(fn, "epsilon", native, unconditional_label, options)


def from_velocity(
    fn: Network,
    alphas_cumprod: ArrayLike,
    *,
    num_classes: int,
    event_shape: tuple[int, ...],
    unconditional_label: int | None = None,
    **options: Any,
) -> NetworkDenoiser:
    """A network that predicts `v = sqrt(abar) eps - sqrt(1 - abar) x_0` (Salimans & Ho 2022).

    `D = x / (1 + sigma^2) - sigma v / sqrt(1 + sigma^2)`. Arguments and errors as `from_epsilon`.
    """
    options |= {"num_classes": num_classes, "event_shape": event_shape}
    native = _Native.preserving(alphas_cumprod, options)
    return _wrap(fn, "v_prediction", native, unconditional_label, options)


def from_x0(
    fn: Network,
    alphas_cumprod: ArrayLike | None = None,
    *,
    num_classes: int,
    event_shape: tuple[int, ...],
    sigma_range: tuple[float, float] = (0.002, 80.0),
    unconditional_label: int | None = None,
    **options: Any,
) -> NetworkDenoiser:
    """A network that predicts the posterior mean itself.

    With `alphas_cumprod` it is called as in `from_epsilon` and has the range of the schedule;
    without, in EDM coordinates, `fn(x, sigma, label)`, on `sigma_range`. Other arguments and errors
    as `from_epsilon`.
    """
    options |= {"num_classes": num_classes, "event_shape": event_shape}
    native = _Native(torch.ones_like, torch.clone, sigma_range)
    if alphas_cumprod is not None:
        native = _Native.preserving(alphas_cumprod, options)
    return _wrap(fn, "sample", native, unconditional_label, options)


def from_flow(
    fn: Network,
    *,
    num_classes: int,
    event_shape: tuple[int, ...],
    sigma_range: tuple[float, float] = (0.002, 500.0),
    unconditional_label: int | None = None,
    **options: Any,
) -> NetworkDenoiser:
    """A flow-matching network: velocity `eps - x_0` at `x_t = (1 - t) x_0 + t eps` (Lipman et al. 2023).

    `t = sigma / (1 + sigma)` in (0, 1) and `D = x_t - t v`. Other arguments and errors as
    `from_epsilon`; the range of levels is `sigma_range`.
    """
    options |= {"num_classes": num_classes, "event_shape": event_shape}
    native = _Native(lambda s: 1 / (1 + s), lambda s: s / (1 + s), sigma_range)
    return _wrap(fn, "flow_prediction", native, unconditional_label, options)
