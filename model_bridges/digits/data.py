"""Handwritten digits: 1797 real images of 8 x 8 pixels in ten classes.

The data set is the UCI "Optical Recognition of Handwritten Digits" test set (Alpaydin & Kaynak,
1998) that scikit-learn carries. A fifth, stratified by class, is held out; nothing of it enters
training. With `mean` and `scale` taken over all pixels of the training images,

    x = (pixels - mean) / scale,   scale = std(pixels) / 0.5,

so that training images have mean 0 and standard deviation 0.5, the `sigma_data` of EDM2.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from gmm_speciation.partitions import Partition
from model_bridges.checkpoints.errors import MissingExtraError

NUM_CLASSES = 10
SIGMA_DATA = 0.5
SPLIT_SEED = 0
PARTITIONS = {
    "closed loop": Partition([0, 1, 1, 1, 1, 1, 0, 1, 0, 0], names=("loop", "no loop")),
    "parity": Partition([0, 1] * 5, names=("even", "odd")),
}


@dataclass(frozen=True)
class Digits:
    """Standardised digits `(n, 1, 8, 8)` in float32 with their labels 0..9, in two parts."""

    train_images: Float[Tensor, "n 1 8 8"]
    train_labels: Int[Tensor, " n"]
    held_out_images: Float[Tensor, "m 1 8 8"]
    held_out_labels: Int[Tensor, " m"]
    mean: float
    scale: float

    def to_pixels(self, x: Float[Tensor, "*batch 1 8 8"]) -> Float[Tensor, "*batch 1 8 8"]:
        """Back to the original grey levels, 0 (paper) to 16 (ink); not clipped."""
        return x * self.scale + self.mean


def load_digits(held_out_fraction: float = 0.2, split_seed: int = SPLIT_SEED) -> Digits:
    """The digits of scikit-learn, split and standardised.

    Args:
        held_out_fraction: Share of images held out, stratified by class, in (0, 1).
        split_seed: Seed of the split. The shipped networks know the default split only.

    Raises:
        ValueError: If `held_out_fraction` is not inside (0, 1).
        MissingExtraError: If scikit-learn is not installed.
    """
    if not 0 < held_out_fraction < 1:
        raise ValueError(
            f"`held_out_fraction` must be inside (0, 1); got {held_out_fraction}. The shipped "
            "networks were trained with 0.2 held out."
        )
    try:
        from sklearn.datasets import load_digits as load_pixels
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise MissingExtraError(
            "the digits come with scikit-learn, which is not installed; "
            "install the extra: pip install 'gmm-speciation[bridge]'"
        ) from error
    pixels, labels = load_pixels(return_X_y=True)
    train, held_out = train_test_split(
        np.arange(len(labels)),
        test_size=held_out_fraction,
        stratify=labels,
        random_state=split_seed,
    )
    mean = float(pixels[train].mean())
    scale = float(pixels[train].std() / SIGMA_DATA)

    def images(index: np.ndarray) -> Tensor:
        standard = ((pixels[index] - mean) / scale).reshape(-1, 1, 8, 8)
        return torch.from_numpy(standard.astype(np.float32))

    def classes(index: np.ndarray) -> Tensor:
        return torch.from_numpy(labels[index].astype(np.int64))

    return Digits(images(train), classes(train), images(held_out), classes(held_out), mean, scale)
