"""Classifier-free guidance towards a class."""

import equinox as eqx
from jaxtyping import Array, Float, PyTree

from gmm_speciation.guidance.base import Denoise, Guidance, Parameter, like, parameter
from gmm_speciation.guidance.formulae import classifier_free


class ClassifierFree(Guidance):
    """`D_c + (w - 1) (D_c - D_ref)`: Ho & Salimans 2022 (arXiv 2207.12598).

    Scale 1 draws class `label` unguided, 0 the reference. The reference is the whole law, or another
    class: what a negative prompt in the unconditional slot does.
    """

    label: int = eqx.field(static=True)
    scale: Parameter = eqx.field(converter=parameter)
    reference: int | None = eqx.field(static=True, default=None)

    @property
    def base_label(self) -> int | None:
        return self.label

    def init(self, x: Float[Array, "n d"]) -> PyTree:
        return ()

    def step(
        self, state: PyTree, x: Float[Array, "n d"], level: tuple, denoise: Denoise
    ) -> tuple[Float[Array, "n d"], PyTree]:
        scale = like(x, self.scale)
        return classifier_free(denoise(self.reference), denoise(self.label), scale), state
