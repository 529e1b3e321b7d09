"""The shipped networks of the digits as a model to study; its states are the standardised digits themselves.

Averages run over the held-out digits, mixtures and classifiers are fitted to the training digits. Other
data are brought to them: the array `images` of an `.npz` holds grey levels 0 (paper) to 16 (ink), and in a
picture the smaller part is ink, dark on light paper or light on dark.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Num, UInt8
from torch import Tensor

from gmm_speciation.progress import SILENT
from model_bridges.denoisers.base import Denoiser
from model_bridges.digits.data import NUM_CLASSES, PARTITIONS, SIGMA_DATA, Digits, load_digits
from model_bridges.images.sets import ImageSet, Parts
from model_bridges.studied import StudiedModel, study_denoiser


def digits_model(denoiser: Denoiser, say: Callable[[str], object] = SILENT.say) -> StudiedModel:
    """The shipped pair of small EDM2 networks."""
    return study_denoiser(
        denoiser,
        "digits",
        say,
        class_name="digit",
        units="data standard deviation 0.5",
        sigma_data=SIGMA_DATA,
        **known_of_digits(load_digits()),
    )


def known_of_digits(digits: Digits) -> dict[str, Any]:
    """What a study of any model of the digits knows: fields of `StudiedModel`."""
    train = ImageSet.of(digits.train_images, digits.train_labels, "images", "training digits")
    held_out = ImageSet.of(
        digits.held_out_images, digits.held_out_labels, "images", "held-out digits"
    )
    return {
        "class_names": tuple(map(str, range(NUM_CLASSES))),
        "partitions": PARTITIONS,
        # Full covariances, shrunk for clean data: 64 dimensions, and 140 digits a class.
        "covariance": "full",
        "data": Parts(held_out, train),
        "picture_shape": lambda: (1, 8),
        "pixels": partial(from_pixels, digits),
        "stored_images": partial(from_grey_levels, digits),
    }


def from_pixels(digits: Digits, pixels: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n 1 8 8"]:
    """Standardised digits of small pictures, whatever is ink in them.

    Raises:
        ValueError: If they have another size.
    """
    if tuple(pixels.shape[1:]) != (1, 8, 8):
        raise ValueError(
            f"digits are images of shape (1, 8, 8); got {tuple(pixels.shape[1:])}. Pictures in class "
            "folders are resized."
        )
    grey = pixels.numpy() / 255 * 16
    # Ink is the smaller part of a picture: it must be the large values.
    ink = np.where((np.median(grey, axis=(1, 2, 3)) > 8)[:, None, None, None], 16 - grey, grey)
    return torch.from_numpy((ink - digits.mean) / digits.scale).float()


def from_grey_levels(digits: Digits, images: Num[np.ndarray, "..."]) -> Float[Tensor, "n 1 8 8"]:
    """Standardised digits of grey levels 0 to 16.

    Raises:
        ValueError: If the shape or a value is another.
    """
    if images.ndim != 3 or images.shape[1:] != (8, 8) or len(images) < 2:
        raise ValueError(f"`images` must be (n, 8, 8), at least two; got {images.shape}.")
    pixels = images.astype(float)
    if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 16:
        raise ValueError("`images` must be finite grey levels from 0 to 16.")
    return torch.from_numpy((pixels - digits.mean) / digits.scale).float()[:, None]
