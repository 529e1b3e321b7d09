"""CIFAR-10 in its binary version."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from gmm_speciation.reading import open_regular
from model_bridges.images.parts import (
    MAX_BYTES,
    SplitImages,
    check_labels,
    first_file,
    folder_of,
    labelled,
)

SHAPE, RECORD = (3, 32, 32), 1 + 3 * 32 * 32
TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST = "test_batch.bin"
FOLDERS = ("", "cifar-10-batches-bin")
_PICKLED = ("data_batch_1", "test_batch", "batches.meta")


def read_cifar10(folder: str | Path) -> SplitImages:
    """The six files of CIFAR-10's binary version: images `(n, 3, 32, 32)`.

    Looked for in the folder itself and in `cifar-10-batches-bin`.

    Raises:
        ValueError: If one is missing, empty, no whole number of records, or holds a label above 9;
            or if the folder holds the pickled version.
    """
    root = folder_of(folder)
    place = place_of(root)
    if place is None:
        refuse_pickles(root)
        raise ValueError(
            f"{root} holds no CIFAR-10; looked for {TRAIN[0]} to {TRAIN[-1]} and "
            f"{TEST}, the unpacked binary version."
        )
    missing = [name for name in (*TRAIN, TEST) if not (place / name).is_file()]
    if missing:
        raise ValueError(f"CIFAR-10 in {place} lacks {', '.join(missing)}.")
    pixels, classes = zip(*(_read_batch(place / name) for name in TRAIN), strict=True)
    train = labelled(np.concatenate(pixels), np.concatenate(classes), "CIFAR-10 train")
    return SplitImages(train, labelled(*_read_batch(place / TEST), "CIFAR-10 test"))


def place_of(root: Path) -> Path | None:
    """Where any of the six files lies."""
    file = first_file(root, FOLDERS, (*TRAIN, TEST))
    return None if file is None else file.parent


def _read_batch(path: Path) -> tuple[UInt8[np.ndarray, "n 3 32 32"], UInt8[np.ndarray, " n"]]:
    """The images and labels of one file of records."""
    try:
        with open_regular(path) as file:
            available = path.stat().st_size
            content = file.read(min(available, MAX_BYTES + 1))
        if not 0 < available <= MAX_BYTES or available % RECORD:
            raise ValueError(
                f"{path} must be a whole number of records of {RECORD} bytes, at least one and at "
                f"most {MAX_BYTES} bytes; it has {available} bytes."
            )
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error}).") from error
    if len(content) != available:
        raise ValueError(f"{path} changed while it was read; try again.")
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    check_labels(records[:, 0], path)
    return records[:, 1:].reshape(-1, *SHAPE), records[:, 0]


def refuse_pickles(root: Path) -> None:
    """Say so where the pickled version lies.

    Raises:
        ValueError: If it does.
    """
    for folder in ("", "cifar-10-batches-py"):
        if any((root / folder / name).is_file() for name in _PICKLED):
            raise ValueError(
                f"{root / folder} holds the pickled ('python') version of CIFAR-10, which is not read: a "
                "pickle runs what it says. Unpack the binary version, cifar-10-binary.tar.gz."
            )
