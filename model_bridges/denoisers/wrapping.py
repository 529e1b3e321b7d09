"""A denoiser around another one: everything is the inner one's unless it is said anew."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from model_bridges.denoisers.base import Label, Sigma


class Wrapped:
    """A `Denoiser` that hands on to `self.denoiser`, which those who inherit must have."""

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

    def __call__(
        self, x: Float[Tensor, "B *event"], sigma: Sigma, label: Label
    ) -> Float[Tensor, "B *event"]:
        """The posterior mean. Errors as those of the inner denoiser."""
        return self.denoiser(x, sigma, label)

    def raw(
        self, x: Float[Tensor, "B *event"], sigma: Sigma, label: Label
    ) -> Float[Tensor, "B *event"]:
        """The network's own output. Errors as those of the inner denoiser."""
        return self.denoiser.raw(x, sigma, label)

    def coefficients(self, sigma: Sigma) -> tuple[Float[Tensor, "*B"], Float[Tensor, "*B"]]:
        """`(skip, out)`, each of the shape of `sigma`, in float64."""
        return self.denoiser.coefficients(sigma)
