"""MNIST-style IDX files, plain or gzip."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import UInt8

from gmm_speciation.reading import open_regular
from model_bridges.images.labelled import LabelledImages
from model_bridges.images.parts import (
    MAX_BYTES,
    SplitImages,
    check_labels,
    first_file,
    folder_of,
    labelled,
)

IMAGES_MAGIC, LABELS_MAGIC = 2051, 2049
PARTS, KINDS = ("train", "t10k"), {"images": "idx3", "labels": "idx1"}
FOLDERS = ("", "raw", "MNIST/raw")
_GZIP_MAGIC = b"\x1f\x8b"


def read_mnist(folder: str | Path) -> SplitImages:
    """The four IDX files of a folder, by their usual names, plain or gzip.

    Looked for in the folder itself, in `raw` and in `MNIST/raw`.

    Raises:
        ValueError: If one is missing or malformed, or the two parts have images of different sizes.
    """
    root = folder_of(folder)
    train, test = (
        read_idx(_idx_file(root, part, "images"), _idx_file(root, part, "labels")) for part in PARTS
    )
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            f"the images in {root} must have one size; got {tuple(train.images.shape[2:])} for training "
            f"and {tuple(test.images.shape[2:])} for testing."
        )
    return SplitImages(train, test)


def read_idx(images: str | Path, labels: str | Path) -> LabelledImages:
    """Images `(n, 1, height, width)` and their labels from two IDX files, plain or gzip.

    Raises:
        ValueError: If a file is missing, damaged, empty, of another kind, shorter or longer than its
            header says, their counts differ, or a label exceeds 9.
    """
    pixels = _read_idx(Path(images), IMAGES_MAGIC, 3)
    classes = _read_idx(Path(labels), LABELS_MAGIC, 1)
    if len(pixels) != len(classes):
        raise ValueError(
            f"{images} holds {len(pixels)} images and {labels} {len(classes)} labels; they must be the "
            "two files of one set."
        )
    check_labels(classes, Path(labels))
    return labelled(pixels[:, None], classes, Path(images).name)


def idx_names(part: str, kind: str) -> tuple[str, ...]:
    """Names in use for the images or labels of a part."""
    plain = (f"{part}-{kind}-{KINDS[kind]}-ubyte", f"{part}-{kind}.{KINDS[kind]}-ubyte")
    return (*plain, *(f"{name}.gz" for name in plain))


ALL_NAMES = tuple(name for part in PARTS for kind in KINDS for name in idx_names(part, kind))


def _idx_file(root: Path, part: str, kind: str) -> Path:
    names = idx_names(part, kind)
    path = first_file(root, FOLDERS, names)
    if path is None:
        raise ValueError(f"{root} lacks the {kind} of {part!r}; looked for {', '.join(names)}.")
    return path


def _read_idx(path: Path, magic: int, rank: int) -> UInt8[np.ndarray, "..."]:
    """The array of an IDX file of bytes."""
    kinds = {IMAGES_MAGIC: "an IDX file of images", LABELS_MAGIC: "an IDX file of labels"}
    size = 4 * (1 + rank)
    try:
        with open_regular(path) as raw:
            packed = raw.read(2) == _GZIP_MAGIC or path.suffix == ".gz"
            available = path.stat().st_size
            raw.seek(0)
            file: IO[bytes] = gzip.GzipFile(fileobj=raw) if packed else raw  # type: ignore[assignment]
            header = file.read(size)
            if len(header) < size:
                raise ValueError(f"{path} is empty or cut off inside its header of {size} bytes.")
            found, *shape = struct.unpack(f">{1 + rank}I", header)
            if found != magic:
                raise ValueError(
                    f"{path} must be {kinds[magic]}, magic {magic}; got magic {found}"
                    f"{f', that of {kinds[found]}' if found in kinds else ''}."
                )
            claimed = math.prod(shape)
            if not 0 < claimed <= MAX_BYTES:
                raise ValueError(
                    f"{path} must hold 1 to {MAX_BYTES} bytes of data; its header says "
                    f"{' x '.join(map(str, shape))}."
                )
            if not packed and available != size + claimed:
                raise ValueError(
                    f"{path} must be {size + claimed} bytes long by its header; it has {available}."
                )
            content = file.read(claimed + 1)  # one more, so that what is too long shows
    except (OSError, EOFError, zlib.error) as error:  # gzip's checksum fails with an OSError
        raise ValueError(f"{path} cannot be read ({error}); is it damaged?") from error
    if len(content) != claimed:
        more = "more" if len(content) > claimed else f"only {len(content)}"
        raise ValueError(f"{path} must hold {claimed} bytes of data by its header; it has {more}.")
    return np.frombuffer(content, np.uint8).reshape(shape)
