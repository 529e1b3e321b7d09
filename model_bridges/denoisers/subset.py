"""A model restricted to some of its classes.

Label i means the i-th of the classes kept, and the prior is that of these alone. The unconditional part
of the model averages over all of its classes, not over those kept, so there is none here: a decision
between the classes kept is measured against their Bayes mixture `sum_k p(k|x) D_k`. Read-outs of one class
against the whole distribution want just that average: `whole` keeps it.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from model_bridges.denoisers.arrays import as_tensor
from model_bridges.denoisers.base import Denoiser, Label, Sigma, States, Unconditional, Wrapped
from model_bridges.denoisers.checks import class_weights


@final
@dataclass(frozen=True, eq=False)
class ClassSubset(Wrapped):
    """A `Denoiser` of some classes of another one.

    Args:
        denoiser: The model.
        classes: Its labels that are kept, in the new order.
        weights: Their prior, of sum 1.
        whole: Whether `UNCONDITIONAL` is the model's own, over all of its classes, or refused.

    Raises:
        ValueError: If a label is not one of the model's, or is kept twice, the prior does not fit, or `whole`
            is no flag.
    """

    denoiser: Denoiser
    classes: tuple[int, ...]
    weights: tuple[float, ...]
    whole: bool = False

    def __post_init__(self) -> None:
        known = range(self.denoiser.num_classes)
        fit = [k in known and not isinstance(k, bool | np.bool_) for k in self.classes]
        if len(set(self.classes)) < len(self.classes) or not all(fit):
            raise ValueError(
                f"classes must be different labels in 0..{len(known) - 1}; got {self.classes}. Is this "
                "the model that the names belong to?"
            )
        class_weights(self.weights, self)
        if not isinstance(self.whole, bool | np.bool_):
            raise ValueError(f"`whole` must be True or False; got {self.whole!r}.")

    @property
    def has_unconditional(self) -> bool:
        return self.whole and self.denoiser.has_unconditional

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def class_prior(self) -> tuple[float, ...]:
        return self.weights

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes kept, as the model has them."""
        names = getattr(self.denoiser, "class_names", None)
        return tuple(str(k) if names is None else names[k] for k in self.classes)

    @property
    def provenance(self) -> str:
        return f"{self.denoiser.provenance}, classes {', '.join(map(str, self.classes))}"

    def raw(self, x: States, sigma: Sigma, label: Label) -> Float[Tensor, "B *event"]:
        """The raw output. Errors as those of the model."""
        return self.denoiser.raw(x, sigma, self._label(label))

    def _label(self, label: Label) -> Label:
        if isinstance(label, Unconditional) and self.whole:
            return label
        if isinstance(label, Unconditional):
            raise ValueError(
                "the unconditional model averages over all of its classes, not over those named here; "
                "got UNCONDITIONAL. Average these with their posterior, sum_k p(k|x) D_k."
            )
        label = as_tensor(label, "`label`")
        classes = torch.tensor(self.classes, device=label.device)
        if label.dtype is torch.bool or (
            label.is_floating_point() and label.shape[1:] != classes.shape
        ):
            raise ValueError(
                f"`label` must be integers (B,), or soft labels (B, {len(classes)}); got {label.dtype} of "
                f"shape {tuple(label.shape)}."
            )
        if label.is_floating_point():
            full = label.new_zeros(len(label), self.denoiser.num_classes)
            full[:, classes] = label
            return full
        if label.numel() and not bool(((label >= 0) & (label < len(classes))).all()):
            raise ValueError(
                f"`label` must be in 0..{len(classes) - 1}; got {int(label.min())} to "
                f"{int(label.max())}."
            )
        return classes[label.long()]
