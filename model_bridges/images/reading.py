"""Labelled images from a path, whatever is there.

    a folder of IDX files           MNIST and its kin: a training part and a test part
    a folder of CIFAR-10's files    binary version: the same
    a folder of folders             pictures, one subfolder a class
    an .npz                         `states` of the model, and `labels`

Of the first two the test part is averaged over, in a random order that is always the same: files may be
sorted, and the first half of MNIST's test images is the cleaner one. So may an .npz: a part of it is taken at
random.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Num
from torch import Tensor

from gmm_speciation.reading import read_arrays
from model_bridges.classes.names import ClassNames
from model_bridges.denoisers.arrays import as_states
from model_bridges.images import cifar, idx, read_image_files
from model_bridges.images.cifar import refuse_pickles
from model_bridges.images.folders import labelled_files, read_picture
from model_bridges.images.labelled import LabelledImages
from model_bridges.images.parts import first_file
from model_bridges.images.sets import ImageSet, Parts

Pixels = Callable[[Num[np.ndarray, "..."]], Tensor]


def read_parts(
    path: str | Path,
    words: ClassNames,
    picture_shape: Callable[[], tuple[int, int]],
    stored_images: Pixels | None = None,
) -> Parts:
    """The images of a path with their classes.

    Args:
        path: A folder or a file.
        words: What the class folders may be called.
        picture_shape: `(channels, size)` that pictures are brought to; asked for where there are any.
        stored_images: For a model whose data are known: its images of the array `images` of an `.npz`.

    Raises:
        ValueError: If there is nothing of the kind, or it is malformed.
    """
    root = Path(path)
    if root.suffix == ".npz":
        return Parts(_stored(root, stored_images))
    if not root.is_dir():
        own = "" if stored_images is None else ", 'held-out' or 'train', the model's own"
        raise ValueError(
            f"{root} is not a folder: give one with MNIST (IDX) or CIFAR-10 binary files or one "
            f"subfolder of pictures a class{own}, or a .npz file."
        )
    if first_file(root, idx.FOLDERS, idx.ALL_NAMES) or cifar.place_of(root):
        files = read_image_files(root)
        train, test = (_in_bytes(part) for part in (files.train, files.test))
        return Parts(test.shuffled(), train)
    refuse_pickles(root)
    pictures, labels = labelled_files(root, words)

    def load(rows: np.ndarray) -> Tensor:
        channels, size = picture_shape()
        return torch.from_numpy(
            np.stack([read_picture(pictures[row], size, channels) for row in rows])
        )

    law = f"{len(labels)} pictures in {root.name}"
    rows = np.arange(len(labels))
    return Parts(ImageSet(load, rows, np.array(labels), "pixels", "pictures", root.name, law))


def _in_bytes(files: LabelledImages) -> ImageSet:
    """The bytes of images that the readers have scaled to -1..1."""

    def load(rows: np.ndarray) -> Tensor:
        return ((files.images[rows] + 1) * 127.5).round().to(torch.uint8)

    labels = files.labels.numpy()
    return ImageSet(load, np.arange(len(labels)), labels, "pixels", "images", files.law)


def _stored(path: Path, stored_images: Pixels | None) -> ImageSet:
    content = read_arrays(path)
    kind = "images" if stored_images is not None and "images" in content else "states"
    for name in (kind, "labels"):
        if name not in content:
            wanted = "`states`" if stored_images is None else "`states` or `images`"
            raise ValueError(
                f"{path} must be an .npz file with {wanted} and `labels`; it has no `{name}`, but "
                f"{', '.join(content) or 'nothing'}."
            )
    labels = content["labels"]
    if labels.dtype.kind not in "iu" or labels.shape != content[kind].shape[:1]:
        raise ValueError(
            f"`labels` in {path} must be integers, one a row of `{kind}` {content[kind].shape}; got "
            f"{labels.dtype} of shape {labels.shape}."
        )
    labels = labels.astype(np.int64)
    if kind == "images" and stored_images is not None:
        found = ImageSet.of(stored_images(content[kind]), labels, "images", kind, path.name)
    else:
        states = as_states(content[kind], f"`states` in {path}").float()
        found = ImageSet.of(states, labels, "states", kind, path.name)
    return replace(found, mixed=False)
