"""What the formats share: scaling, the range of labels, the bound on a file, where files lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from model_bridges.images.labelled import LabelledImages

NUM_CLASSES = 10
MAX_BYTES = 2**30  # of one file; MNIST's largest holds 47 MB, CIFAR-10's 31 MB


@dataclass(frozen=True, eq=False)
class SplitImages:
    """Labelled images in the two parts that their files come in."""

    train: LabelledImages
    test: LabelledImages


def labelled(
    pixels: UInt8[np.ndarray, "n c h w"], classes: UInt8[np.ndarray, " n"], law: str
) -> LabelledImages:
    """Bytes and classes as a record."""
    # In place: the training images of CIFAR-10 take 0.6 GB.
    scaled = torch.from_numpy(pixels.astype(np.float32)).div_(127.5).sub_(1)
    return LabelledImages(scaled, torch.from_numpy(classes.astype(np.int64)), law)


def check_labels(labels: UInt8[np.ndarray, " n"], path: Path) -> None:
    """Refuse a label above 9.

    Raises:
        ValueError: If there is one.
    """
    if labels.max() >= NUM_CLASSES:
        first = int(np.argmax(labels >= NUM_CLASSES))
        raise ValueError(
            f"labels in {path} must be 0 to {NUM_CLASSES - 1}; record {first} has {labels[first]}."
        )


def folder_of(folder: str | Path) -> Path:
    """A folder that is there.

    Raises:
        ValueError: If it is not.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder; give the one that holds the image files.")
    return root


def first_file(root: Path, folders: Sequence[str], names: Sequence[str]) -> Path | None:
    """The first file there is, by place and then by name."""
    paths = (root / folder / name for folder in folders for name in names)
    return next((path for path in paths if path.is_file()), None)
