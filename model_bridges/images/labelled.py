"""Images with their classes: what every reader of images returns and every estimator averages over."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from model_bridges.denoisers.arrays import Images, Labels, as_labels, as_states


@dataclass(frozen=True, eq=False, init=False)
class LabelledImages:
    """Images with their classes, the name of their distribution (`law`), and pictures of them if any.

    Arrays of numpy become tensors.

    Raises:
        ValueError: If images or pictures are no floating numbers, or the labels no whole numbers from 0,
            one an image.
    """

    images: Float[Tensor, "N *event"]
    labels: Int[Tensor, " N"]
    law: str
    pictures: Float[Tensor, "N C H W"] | None = None

    def __init__(
        self,
        images: Images,
        labels: Labels,
        law: str,
        pictures: Float[Tensor, "N C H W"] | Float[np.ndarray, "N C H W"] | None = None,
    ) -> None:
        states = as_states(images, "`images`")
        if states.ndim == 0:
            raise ValueError("`images` must have shape (N, *event); got a single number.")
        object.__setattr__(self, "images", states)
        object.__setattr__(self, "labels", as_labels(labels, len(states)))
        object.__setattr__(self, "law", law)
        shown = None if pictures is None else as_states(pictures, "`pictures`")
        object.__setattr__(self, "pictures", shown)
