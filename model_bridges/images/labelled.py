"""Images with their classes: what every reader of images returns and every estimator averages over."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with their classes, the name of their distribution (`law`), and pictures of them if any."""

    images: Float[Tensor, "N *event"]
    labels: Int[Tensor, " N"]
    law: str
    pictures: Float[Tensor, "N C H W"] | None = None
