"""A model of the digits as the subject of a study: its states, and data and samples in them.

The states of a model are the standardised digits themselves, or latents of pictures of them. Data come as
digits 8 x 8, held-out, training, or from a file, and are brought to the states.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from model_bridges.denoisers.base import UNCONDITIONAL_NETWORK, Denoiser, Reference
from model_bridges.digits import load_denoiser
from model_bridges.digits.data import NUM_CLASSES, SIGMA_DATA, Digits, load_digits
from model_bridges.digits.training.run import derived_seed
from model_bridges.images.folders import labelled_files, read_picture
from model_bridges.images.labelled import LabelledImages
from model_bridges.samplers import karras_sigmas, sample

DIGITS = tuple(map(str, range(NUM_CLASSES)))
SAMPLER_STEPS = 64
ENCODER, SAMPLER = 1, 2  # random streams of a seed
Encode = Callable[[Float[Tensor, "n 1 8 8"], torch.Generator], Tensor]


@dataclass(frozen=True)
class Subject:
    """A model of the digits, and what its cross-check needs to know about it.

    Args:
        name: Of the model, for titles.
        denoiser: The model; its ten classes are the digits 0..9.
        class_name: What to call them.
        sigma_data: Standard deviation of its states.
        encode: Standardised digits to states.
        decode: States to pictures; the states are pictures if `None`.
        show: Digits to pictures of the same look.
        reference: What its unconditional part is.
    """

    name: str
    denoiser: Denoiser
    class_name: str = "digit"
    sigma_data: float = SIGMA_DATA
    encode: Encode = lambda images, generator: images
    decode: Callable[[Tensor], Tensor] | None = None
    show: Callable[[Tensor], Tensor] | None = None
    reference: Reference = UNCONDITIONAL_NETWORK

    def states(self, data: LabelledImages, seed: int) -> LabelledImages:
        """Digits in the model's own states, with pictures of them."""
        # Not the seed itself: noise drawn later from it would be the encoder's once more.
        generator = torch.Generator().manual_seed(derived_seed(seed, ENCODER))
        images = self.encode(data.images, generator)
        pictures = None if self.show is None else self.show(data.images)
        return LabelledImages(images, data.labels, data.law, pictures)


def digits_subject() -> Subject:
    """The shipped pair of small EDM2 networks, whose states are the digits."""
    return Subject("digits", load_denoiser())


def digits_images(digits: Digits, source: str) -> LabelledImages:
    """Labelled digits by name of the distribution, or from a file.

    Args:
        digits: The data and its standardisation.
        source: "held-out", "train", or a `.npz` with `images` `(n, 8, 8)`, grey levels 0..16, and
            `labels` `(n,)`.

    Raises:
        ValueError: If the name is unknown, or the file is missing, malformed or out of range.
    """
    if source == "held-out":
        return LabelledImages(digits.held_out_images, digits.held_out_labels, "held-out digits")
    if source == "train":
        return LabelledImages(digits.train_images, digits.train_labels, "training digits")
    path = Path(source)
    if path.suffix != ".npz":
        raise ValueError(
            f"Data must be 'held-out', 'train' or a .npz file with images and labels; got {source!r}."
        )
    try:
        with np.load(path, allow_pickle=False) as content:
            images, labels = content["images"], content["labels"]
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise ValueError(
            f"{path} must be a .npz file with arrays `images` and `labels`; {error}."
        ) from error
    if images.ndim != 3 or images.shape[1:] != (8, 8) or labels.shape != images.shape[:1]:
        raise ValueError(
            f"`images` must be (n, 8, 8) with one label each; got {images.shape} and {labels.shape}."
        )
    if not np.issubdtype(labels.dtype, np.integer) or len(labels) < 2:
        raise ValueError(f"`labels` must be at least two integers 0..9; got dtype {labels.dtype}.")
    pixels = images.astype(float)
    if not np.isfinite(pixels).all() or pixels.min() < 0 or pixels.max() > 16:
        raise ValueError("`images` must be finite grey levels from 0 to 16.")
    standard = torch.from_numpy((pixels - digits.mean) / digits.scale).float()[:, None]
    return LabelledImages(standard, torch.from_numpy(labels.astype(np.int64)), path.name)


def digit_pictures(
    subject: Subject, folder: Path, limit: int | None = None, seed: int = 0
) -> LabelledImages:
    """Pictures of digits, dark ink on light paper or light on dark, as the data set's grey levels."""
    digits = load_digits()
    files, labels = labelled_files(folder, DIGITS, limit)
    grey = np.stack([read_picture(file, 8, 1) for file in files]) / 255 * 16
    # Ink is the smaller part of a picture: it must be the large values.
    ink = np.where((np.median(grey, axis=(1, 2, 3)) > 8)[:, None, None, None], 16 - grey, grey)
    standard = torch.from_numpy((ink - digits.mean) / digits.scale).float()
    law = f"{len(files)} pictures in {folder.name}"
    return subject.states(LabelledImages(standard, torch.tensor(labels), law), seed)


def generated_images(subject: Subject, num: int, seed: int = 0) -> LabelledImages:
    """The model's own samples, the ten classes in turn, by ancestral sampling.

    Raises:
        ValueError: If `num < 20`: every class twice, for an error bar.
    """
    if num < 2 * NUM_CLASSES:
        raise ValueError(f"Generate at least {2 * NUM_CLASSES} images; got {num}.")
    denoiser = subject.denoiser
    labels = torch.arange(num) % NUM_CLASSES
    levels = karras_sigmas(SAMPLER_STEPS, *denoiser.sigma_range)
    generator = torch.Generator().manual_seed(derived_seed(seed, SAMPLER))
    images = sample(denoiser, (num, *denoiser.event_shape), levels, labels, generator=generator)
    pictures = None if subject.decode is None else subject.decode(images)
    return LabelledImages(images, labels, f"{num} images generated by the model", pictures)
