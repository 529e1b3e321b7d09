"""The denoiser: a trained diffusion model as an estimate of the posterior mean.

Coordinates (EDM; Karras et al. 2022): `x = x_0 + sigma eps`, `eps ~ N(0, I)`, so that the log-SNR is
`lambda = -2 log sigma`; `sigma` has the units of the data. A denoiser estimates `D(x; sigma, c) =
E[x_0 | x, c]` for a class `c`, or `E[x_0 | x]` for the label `UNCONDITIONAL`, and factors it as

    D(x; sigma, c) = skip(sigma) x + out(sigma) F(x; sigma, c)

with the network's raw output `F`. Differences of classes are `out (F_c - F_c')`: the skip term, which
carries all of the noise, cancels exactly instead of to rounding.

Shapes: `x` and results `(B, *event)`; `sigma` a number, `()` or `(B,)`; `label` integers `(B,)`,
soft labels `(B, C)` where the model can take them, or `UNCONDITIONAL`; all of torch or numpy.
"""

import abc
import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, final, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from gmm_speciation.checks import as_count
from model_bridges.denoisers.arrays import as_levels, as_states, levels_of
from model_bridges.denoisers.devices import Placement, placed


@final
class Unconditional:
    """Type of the label `UNCONDITIONAL`: no class is given, the model averages over all of them."""

    def __repr__(self) -> str:
        return "UNCONDITIONAL"

    def __reduce__(self) -> str:
        return "UNCONDITIONAL"  # the one instance, also after a trip through pickle


UNCONDITIONAL = Unconditional()

# What may be handed over: torch or numpy, whose dtypes are checked where they are used.
States = Shaped[Tensor, "B *event"] | Shaped[np.ndarray, "B *event"]
Sigma = (
    Shaped[Tensor, ""]
    | Shaped[Tensor, " B"]
    | Shaped[np.ndarray, ""]
    | Shaped[np.ndarray, " B"]
    | float
    | int
)
Label = (
    Shaped[Tensor, " B"]
    | Float[Tensor, "B C"]
    | Shaped[np.ndarray, " B"]
    | Float[np.ndarray, "B C"]
    | Unconditional
)


@runtime_checkable
class Denoiser(Protocol):
    """Estimate of the posterior mean `E[x_0 | x, label]` for `x = x_0 + sigma eps`.

    `sigma_range` holds the noise levels the model was trained for; `provenance` says in words where
    it comes from. An optional attribute `class_prior`, a tuple of C weights, is the distribution of the
    classes; without it they are taken as equal. An optional attribute `device` says where it computes, and
    a method `placed(placement)` gives it on another (`devices.place`).
    """

    @property
    def num_classes(self) -> int: ...
    @property
    def event_shape(self) -> tuple[int, ...]: ...
    @property
    def sigma_range(self) -> tuple[float, float]: ...
    @property
    def provenance(self) -> str: ...
    @property
    def has_unconditional(self) -> bool: ...

    def __call__(self, x: States, sigma: Sigma, label: Label) -> Float[Tensor, "B *event"]:
        """The posterior mean `D`."""

    def raw(self, x: States, sigma: Sigma, label: Label) -> Float[Tensor, "B *event"]:
        """The raw output `F`."""

    def coefficients(self, sigma: Sigma) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B"]]:
        """`(skip, out)`, each of the shape of `sigma`, in float64."""


def per_image(values: Float[Tensor, "*L"], x: Float[Tensor, "B *event"]) -> Float[Tensor, "..."]:
    """`values`, `()` or `(B,)`, shaped to multiply `x`, in its dtype and on its device."""
    return values.to(x).reshape(values.shape + (1,) * (x.ndim - 1 if values.ndim else 0))


class Factored(abc.ABC):
    """The posterior mean `D = skip x + out F` of what has `coefficients` and the raw output `F`."""

    @abc.abstractmethod
    def raw(self, x: States, sigma: Sigma, label: Label) -> Float[Tensor, "B *event"]: ...

    @abc.abstractmethod
    def coefficients(self, sigma: Sigma) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B"]]: ...

    def __call__(self, x: States, sigma: Sigma, label: Label) -> Float[Tensor, "B *event"]:
        """The posterior mean, in the dtype and on the device of `x`. Errors as those of `raw`."""
        x = as_states(x, "`x`")
        output = self.raw(x, sigma, label).to(x)  # refuses what does not fit
        skip, out = (per_image(c, x) for c in self.coefficients(sigma))
        return skip * x + out * output


class Wrapped(Factored):
    """A `Denoiser` around `self.denoiser`: everything is the inner one's unless it is said anew."""

    denoiser: Any

    @property
    def num_classes(self) -> int:
        return self.denoiser.num_classes

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.denoiser.event_shape)

    @property
    def sigma_range(self) -> tuple[float, float]:
        return self.denoiser.sigma_range

    @property
    def provenance(self) -> str:
        return self.denoiser.provenance

    @property
    def has_unconditional(self) -> bool:
        return self.denoiser.has_unconditional

    @property
    def class_prior(self) -> tuple[float, ...] | None:
        return getattr(self.denoiser, "class_prior", None)

    @property
    def device(self) -> torch.device | str | None:
        """Where the inner one computes, if it says so."""
        return getattr(self.denoiser, "device", None)

    def placed(self, placement: Placement) -> "Wrapped":
        """Around the inner one on a device.

        Raises:
            ImmovableError: If that does not say how it moves.
        """
        moved = copy.copy(self)
        for name in [
            n for n in vars(self) if isinstance(getattr(type(self), n, None), cached_property)
        ]:
            del vars(moved)[name]  # of the place before
        vars(moved)["denoiser"] = placed(self.denoiser, placement)
        return moved

    def raw(self, x: States, sigma: Sigma, label: Label) -> Float[Tensor, "B *event"]:
        """The network's own output. Errors as those of the inner denoiser."""
        return self.denoiser.raw(x, sigma, label)

    def coefficients(self, sigma: Sigma) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B"]]:
        """`(skip, out)`, each of the shape of `sigma`, in float64."""
        return self.denoiser.coefficients(sigma)


class NotFiniteError(ValueError):
    """A network gave NaN or infinity; `image` is the place of the state in the batch it was given."""

    def __init__(self, image: int, words: str) -> None:
        super().__init__(words.format(image=image))
        self.image, self.words = image, words

    def at(self, image: int) -> "NotFiniteError":
        """The same of a larger batch, where the state has another place."""
        return NotFiniteError(image, self.words)


def check_finite(
    output: Float[Tensor, "B *event"], x: Float[Tensor, "B *event"], sigma: Sigma, label: Label
) -> Float[Tensor, "B *event"]:
    """The output of a network for the states `x`, if all of it is finite.

    Raises:
        NotFiniteError: If not; it names the first such state with its level and class.
    """
    # Both ends at once, NaN among them: one pass where a mask takes several.
    if bool(torch.isfinite(torch.stack(output.aminmax())).all()):
        return output
    finite = torch.isfinite(output).flatten(1).all(1)
    image = int((~finite).nonzero()[0, 0])
    levels = as_levels(sigma).expand(len(x))
    named = "no class" if isinstance(label, Unconditional) else f"class {label[image].tolist()}"
    remedy = (
        "Check its weights, the noise level, and that its type has the range: float16 ends at 65504"
        if bool(torch.isfinite(x[image]).all())
        else "The state that it was given is not finite either: look at the data, or the step before"
    )
    raise NotFiniteError(
        image,
        f"the network's output must be finite; got NaN or infinity at sigma = {levels[image]:.6g} for "
        f"{named}, image {{image}}, in {str(output.dtype).removeprefix('torch.')}. {remedy}.",
    )


def of_its_own(value: Any) -> Any:
    """A tensor for a network to keep, as it may work in place: on states, levels and labels alike."""
    return value.clone() if isinstance(value, Tensor) else value


def own_raw(denoiser: Denoiser, x: States, sigma: Sigma, label: Label) -> Float[Tensor, "B *event"]:
    """The raw output in a tensor of its own, of arguments that stay as they are.

    A network that was captured or bound writes every output to one buffer.
    """
    return denoiser.raw(*map(of_its_own, (as_states(x, "`x`"), sigma, label))).clone()


def own_mean(
    denoiser: Callable[..., Tensor], x: Float[Tensor, "B *event"], sigma: Sigma, label: Any
) -> Float[Tensor, "B *event"]:
    """The posterior mean, likewise."""
    return denoiser(*map(of_its_own, (x, sigma, label))).clone()


def class_raw(
    denoiser: Denoiser,
    x: Float[Tensor, "B *event"],
    sigma: Sigma,
    *,
    max_batch: int = 1024,
    wanted: Bool[Tensor, "B C"] | None = None,
) -> Float[Tensor, "C B *event"]:
    """Raw outputs of all classes for the same noisy states: one shared noise for all of them.

    Args:
        denoiser: The model.
        x: Noisy states.
        sigma: Their noise level, a number or one a state.
        max_batch: Largest batch given to the network at once.
        wanted: Classes of each state to evaluate, one at least; the others are 0.

    Raises:
        ValueError: If `max_batch < 1`, the levels or `wanted` are not those of the states, and as the
            denoiser.
        NotFiniteError: If an output is NaN or infinite.
    """
    max_batch = as_count(max_batch, "max_batch")
    levels = levels_of(sigma, len(x))
    if wanted is not None and wanted.shape != (len(x), denoiser.num_classes):
        raise ValueError(
            f"`wanted` must have shape {(len(x), denoiser.num_classes)}, a row a state; got "
            f"{tuple(wanted.shape)}."
        )
    size = denoiser.num_classes * len(x)
    rows = (
        torch.arange(size, device=x.device)
        if wanted is None
        else wanted.T.flatten().nonzero()[:, 0]
    )
    outputs = []
    for chunk in rows.split(max_batch):
        state = chunk % len(x)
        level = levels[state.to(levels.device)] if levels.ndim else levels
        label = torch.div(chunk, len(x), rounding_mode="floor")
        states = x[state]
        try:
            output = own_raw(denoiser, states, level, label)
            outputs.append(check_finite(output, states, level, label))
        except NotFiniteError as error:
            raise error.at(int(state[error.image])) from None
    whole = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    if len(rows) < size:
        whole = whole.new_zeros(size, *whole.shape[1:]).index_copy_(0, rows, whole)
    return whole.reshape(denoiser.num_classes, *x.shape)


def difference(
    denoiser: Denoiser, x: Float[Tensor, "B *event"], sigma: Sigma, label: Label, other: Label
) -> Float[Tensor, "B *event"]:
    """`D(x; sigma, label) - D(x; sigma, other) = out (F - F')`, without the skip term.

    Raises:
        ValueError: As the denoiser.
    """
    _, out = denoiser.coefficients(sigma)
    contrast = own_raw(denoiser, x, sigma, label) - own_raw(denoiser, x, sigma, other)
    return per_image(out, x) * contrast.to(x)


@dataclass(frozen=True)
class Reference:
    """What the label `UNCONDITIONAL` of a model is, in the words of a report."""

    form: str  # of the denoiser gap to it
    curve: str  # label of the entropy curve by that gap
    excess: str  # what E|Dbar - D_u|^2 is
    at_small_noise: str  # where the form's rate is largest at small noise
    meaning: str  # a paragraph


UNCONDITIONAL_NETWORK = Reference(
    form="unconditional form",
    curve="gap to the unconditional network",
    excess="disagreement of the networks",
    at_small_noise="its largest rate is disagreement of two networks at small noise, not information",
    meaning="The unconditional form is the Bayes form plus the excess E|D̄ − D_u|². For exact "
    "networks the mixture D̄ of the conditional outputs *is* the unconditional output D_u and the "
    "excess is 0; two networks trained apart differ by their errors, and divided by σ² that difference "
    "grows towards small noise, where no class information is left to explain it.",
)
EMPTY_PROMPT = Reference(
    form="prompt against empty prompt, I(prompt; X)",
    curve="prompt against empty prompt, H(C) − I(prompt; X)",
    excess="other captions, and errors of the network",
    at_small_noise="its largest rate is the network's own error at small noise, not information",
    meaning="The decision between the prompts is read from the Bayes mixture D̄ of their outputs. The "
    "empty prompt stands for the mean over *all* captions of the training data, not for that mixture, so "
    "prompt against empty prompt is another quantity: the information I(prompt; X) that a prompt has "
    "about the picture. It is the Bayes form plus the excess E|D̄ − D_u|², which vanishes where the "
    "prompts are all there is and the network is exact.",
)
