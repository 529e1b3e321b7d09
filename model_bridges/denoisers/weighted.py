"""A model whose classes have other weights: the distribution of what it draws, where nothing else says it."""

from dataclasses import dataclass
from typing import Any, final

from model_bridges.denoisers.base import Denoiser, Wrapped
from model_bridges.denoisers.checks import class_weights


@final
@dataclass(frozen=True, eq=False)
class Weighted(Wrapped):
    """A `Denoiser` of these `weights` of its classes, of sum 1; all else is the model's.

    Its unconditional part is taken to average over them.

    Raises:
        ValueError: If they do not fit.
    """

    denoiser: Denoiser
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        class_weights(self.weights, self.denoiser)

    @property
    def class_prior(self) -> tuple[float, ...]:
        return self.weights

    def __getattr__(self, name: str) -> Any:
        if name == "denoiser" or name.startswith("__"):  # of an object that is being made
            raise AttributeError(name)
        return getattr(self.denoiser, name)
