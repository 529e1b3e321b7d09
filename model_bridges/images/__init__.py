"""Labelled images from local files: MNIST-style IDX, and CIFAR-10 in its binary version.

IDX (LeCun, Cortes & Burges, "The MNIST database"), big-endian, plain or gzip:

    images   int32 magic 2051, int32 n, int32 height, int32 width, n height width bytes
    labels   int32 magic 2049, int32 n, n bytes

CIFAR-10, binary version (Krizhevsky, 2009): records of 3073 bytes, one label and then the planes
red, green, blue of 32 x 32 bytes, row by row, in `data_batch_1.bin` to `data_batch_5.bin` and
`test_batch.bin`. The "python" version is pickled; reading a pickle runs what it says, so it is
refused. Nothing is fetched, and no more is read than a header that agrees with its file allows.

A byte b becomes `b / 127.5 - 1`: images `(n, channels, height, width)` in float32 from -1 to 1,
whatever the data's mean and spread. Labels are the classes 0 to 9.
"""

from pathlib import Path

from model_bridges.images import cifar, idx
from model_bridges.images.cifar import read_cifar10, refuse_pickles
from model_bridges.images.idx import read_idx, read_mnist
from model_bridges.images.parts import SplitImages, first_file, folder_of

__all__ = ["SplitImages", "read_cifar10", "read_idx", "read_image_files", "read_mnist"]


def read_image_files(folder: str | Path) -> SplitImages:
    """The MNIST-style or CIFAR-10 files of a folder, whichever is there.

    Raises:
        ValueError: If it holds neither, or as `read_mnist` and `read_cifar10`.
    """
    root = folder_of(folder)
    if first_file(root, idx.FOLDERS, idx.ALL_NAMES):
        return read_mnist(root)
    if cifar.place_of(root):
        return read_cifar10(root)
    refuse_pickles(root)
    raise ValueError(
        f"{root} holds no image files; looked for {idx.idx_names('train', 'images')[0]}[.gz] (MNIST) and "
        f"{cifar.TRAIN[0]} (CIFAR-10, binary version)."
    )
