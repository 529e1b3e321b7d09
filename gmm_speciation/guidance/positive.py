"""Classifier-free guidance towards a class."""

import equinox as eqx
import numpy as np
from jaxtyping import PyTree

from gmm_speciation.arrays import Level, per_state
from gmm_speciation.guidance.base import (
    Denoise,
    Guidance,
    Label,
    Scale,
    States,
    parameter,
    plain_label,
)
from gmm_speciation.guidance.formulae import classifier_free


class ClassifierFree(Guidance):
    """`D_c + (w - 1) (D_c - D_ref)`: Ho & Salimans 2022 (arXiv 2207.12598).

    Scale 1 draws class `label` unguided, 0 the reference. The reference is the whole law, or another
    class: what a negative prompt in the unconditional slot does. `scale` is a number, or one a state.
    """

    label: Label = eqx.field(static=True, converter=plain_label)
    scale: Scale = eqx.field(converter=parameter)
    reference: Label = eqx.field(static=True, converter=plain_label, default=None)

    @property
    def base_label(self) -> Label:
        return self.label

    def step(
        self, state: PyTree, x: States, level: Level, denoise: Denoise
    ) -> tuple[States, PyTree]:
        scale = per_state(x, self.scale)
        if isinstance(scale, float) and scale == 1:  # nothing to weigh: spares the reference
            return denoise(self.label), state
        return classifier_free(denoise(self.reference), denoise(self.label), scale), state

    def asks(self, state: PyTree, level: Level, further: bool = False) -> tuple[Label, ...] | None:
        alone = isinstance(self.scale, np.ndarray) and self.scale.ndim == 0 and self.scale == 1
        return (self.label,) if alone else (self.reference, self.label)
