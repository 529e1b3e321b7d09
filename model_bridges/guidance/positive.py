"""Classifier-free guidance towards a class."""

from dataclasses import dataclass
from typing import Any, final

from jaxtyping import Float
from torch import Tensor

from model_bridges.guidance.base import Class, Denoise, Guidance


def classifier_free(
    reference: Float[Tensor, "B *event"], conditional: Float[Tensor, "B *event"], scale: Any
) -> Float[Tensor, "B *event"]:
    """`D_ref + w (D_c - D_ref)`, written so that w = 1 gives D_c itself."""
    return conditional + (scale - 1) * (conditional - reference)


@final
@dataclass(frozen=True, eq=False)
class ClassifierFree(Guidance):
    """`D_c + (w - 1) (D_c - D_ref)`: Ho & Salimans 2022 (arXiv 2207.12598).

    Scale 1 draws class `label` unguided, 0 the reference. The reference is the whole law, or another
    class: what a negative prompt in the unconditional slot does.
    """

    label: Class
    scale: float | int
    reference: Class = None

    @property
    def base_label(self) -> Class:
        return self.label

    def step(
        self, state: Any, x: Float[Tensor, "B *event"], sigma: float, denoise: Denoise
    ) -> tuple[Float[Tensor, "B *event"], Any]:
        if self.scale == 1:  # nothing to weigh: spares the reference
            return denoise(self.label), state
        return classifier_free(denoise(self.reference), denoise(self.label), self.scale), state
