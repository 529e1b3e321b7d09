"""Image files: what is written in the published layout comes back, and anything else is refused."""

import gzip
import pickle
import struct

import numpy as np
import pytest
import torch

from model_bridges.images import cifar as cifar_module
from model_bridges.images import idx as idx_module
from model_bridges.images import read_cifar10, read_idx, read_image_files, read_mnist


def idx(array, magic=None):
    magic = {3: 2051, 1: 2049}[array.ndim] if magic is None else magic
    return struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.tobytes()


def write_mnist(folder, rng, *, packed=False, separator="-", size=(5, 4)):
    """Four IDX files of bytes; returns the arrays by part."""
    written = {}
    for part, count in (("train", 12), ("t10k", 6)):
        pixels = rng.integers(0, 256, (count, *size), dtype=np.uint8)
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        written[part] = pixels, labels
        for kind, axes, array in (("images", 3, pixels), ("labels", 1, labels)):
            name = f"{part}-{kind}{separator}idx{axes}-ubyte"
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                (folder / name).write_bytes(idx(array))
    return written


def write_cifar(folder, rng, count=3):
    """Six files of records; returns labels `(n,)` and pixels `(n, 3, 32, 32)` of each."""
    written = {}
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        pixels = rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
        records = (bytes([label]) + image.tobytes() for label, image in zip(labels, pixels))  # noqa: B905
        (folder / f"{name}.bin").write_bytes(b"".join(records))
        written[name] = labels, pixels
    return written


def pixels_of(images):
    """The bytes that became these images."""
    assert images.dtype == torch.float32
    return ((images.double() + 1) * 127.5).numpy()


@pytest.mark.parametrize("separator", ["-", "."])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_come_back(tmp_path, rng, packed, separator):
    written = write_mnist(tmp_path, rng, packed=packed, separator=separator)
    read = read_mnist(tmp_path)
    for part, own in (("train", read.train), ("t10k", read.test)):
        pixels, labels = written[part]
        assert own.images.shape == (len(pixels), 1, 5, 4)
        np.testing.assert_allclose(pixels_of(own.images)[:, 0], pixels, atol=1e-4)
        assert own.labels.dtype == torch.int64
        np.testing.assert_array_equal(own.labels.numpy(), labels)


def test_bytes_become_minus_one_to_one(tmp_path):
    pixels = np.array([[[0, 255]], [[51, 204]]], np.uint8)
    (tmp_path / "i").write_bytes(idx(pixels))
    (tmp_path / "l").write_bytes(idx(np.array([3, 9], np.uint8)))
    read = read_idx(tmp_path / "i", tmp_path / "l")
    np.testing.assert_allclose(read.images.flatten().numpy(), [-1, 1, -0.6, 0.6], atol=1e-7)
    assert read.labels.tolist() == [3, 9]


def test_cifar_comes_back_plane_by_plane(tmp_path, rng):
    written = write_cifar(tmp_path, rng)
    read = read_cifar10(tmp_path)
    train = [written[f"data_batch_{i}"] for i in range(1, 6)]
    np.testing.assert_array_equal(read.train.labels, np.concatenate([part[0] for part in train]))
    pixels = np.concatenate([part[1] for part in train])
    np.testing.assert_allclose(pixels_of(read.train.images), pixels, atol=1e-4)
    np.testing.assert_allclose(pixels_of(read.test.images), written["test_batch"][1], atol=1e-4)


def test_red_comes_first(tmp_path, rng):
    write_cifar(tmp_path, rng)
    red = bytes([7]) + bytes([255]) * 1024 + bytes(2048)
    (tmp_path / "test_batch.bin").write_bytes(red)
    image = read_cifar10(tmp_path).test.images[0]
    assert image.amin((1, 2)).tolist() == [1, -1, -1]


@pytest.mark.parametrize("place", ["", "raw", "MNIST/raw"])
def test_usual_places_of_mnist(tmp_path, rng, place):
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    write_mnist(tmp_path / place, rng)
    assert len(read_image_files(tmp_path).train.images) == 12


def test_usual_place_of_cifar(tmp_path, rng):
    (tmp_path / "cifar-10-batches-bin").mkdir()
    write_cifar(tmp_path / "cifar-10-batches-bin", rng)
    assert read_image_files(str(tmp_path)).test.images.shape == (3, 3, 32, 32)


def test_nothing_there(tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        read_image_files(tmp_path / "missing")
    for read, names in (
        (read_image_files, ["train-images-idx3-ubyte", "data_batch_1.bin"]),
        (read_mnist, ["train-images-idx3-ubyte", "train-images.idx3-ubyte.gz"]),
        (read_cifar10, ["data_batch_1.bin", "test_batch.bin"]),
    ):
        with pytest.raises(ValueError) as refusal:  # noqa: PT011
            read(tmp_path)
        assert all(name in str(refusal.value) for name in names)
    with pytest.raises(ValueError, match="There is no file"):
        read_idx(tmp_path / "i", tmp_path / "l")


@pytest.mark.parametrize("part", ["train", "t10k"])
@pytest.mark.parametrize("kind", ["images-idx3", "labels-idx1"])
def test_a_missing_idx_file_is_named(tmp_path, rng, part, kind):
    write_mnist(tmp_path, rng)
    (tmp_path / f"{part}-{kind}-ubyte").unlink()
    with pytest.raises(ValueError, match=f"lacks .* {part}-{kind}-ubyte"):
        read_image_files(tmp_path)


@pytest.mark.parametrize("name", ["data_batch_1.bin", "data_batch_4.bin", "test_batch.bin"])
def test_a_missing_cifar_file_is_named(tmp_path, rng, name):
    write_cifar(tmp_path, rng)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=f"lacks {name}"):
        read_image_files(tmp_path)


PIXELS, LABELS = np.zeros((4, 3, 3), np.uint8), np.zeros(4, np.uint8)
MALFORMED_IMAGES = {
    "labels instead": (
        idx(LABELS) + bytes(20),
        "magic 2051; got magic 2049, that of an IDX file of lab",
    ),
    "another magic": (idx(PIXELS, 2052), "magic 2051; got magic 2052"),
    "little-endian": (idx(PIXELS)[3::-1] + idx(PIXELS)[4:], "got magic 50855936"),
    "truncated": (idx(PIXELS)[:-1], "must be 52 bytes long by its header; it has 51"),
    "overlong": (idx(PIXELS) + b"\0", "must be 52 bytes long by its header; it has 53"),
    "cut header": (idx(PIXELS)[:9], "cut off inside its header"),
    "empty file": (b"", "is empty"),
    "no images": (idx(PIXELS[:0]), "its header says 0 x 3 x 3"),
    "no pixels": (idx(PIXELS[:, :0]), "its header says 4 x 0 x 3"),
    "claims too much": (
        struct.pack(">4I", 2051, 2**32 - 1, 2**32 - 1, 2**32 - 1),
        "1 to 1073741824",
    ),
    "claims a gigabyte": (
        struct.pack(">4I", 2051, 1000, 1024, 1024),
        "bytes long by its header; it has 16",
    ),
    "packed, truncated data": (gzip.compress(idx(PIXELS)[:-1]), "by its header; it has only 35"),
    "packed, overlong": (gzip.compress(idx(PIXELS) + bytes(9)), "by its header; it has more"),
    "packed, cut off": (gzip.compress(idx(PIXELS))[:-9], "is it damaged"),
    "packed, checksum": (gzip.compress(idx(PIXELS))[:-8] + bytes(8), "is it damaged"),
    "packed, rest behind": (gzip.compress(idx(PIXELS)) + b"rest", "is it damaged"),
    "packed, claims a gigabyte": (
        gzip.compress(struct.pack(">4I", 2051, 1000, 1024, 1024)),
        "has only 0",
    ),
}


@pytest.mark.parametrize("name", MALFORMED_IMAGES)
def test_malformed_images_are_refused_in_one_line(tmp_path, name):
    content, message = MALFORMED_IMAGES[name]
    (tmp_path / "i").write_bytes(content)
    (tmp_path / "l").write_bytes(idx(LABELS))
    with pytest.raises(ValueError, match=message) as refusal:
        read_idx(tmp_path / "i", tmp_path / "l")
    assert "\n" not in str(refusal.value)
    assert str(tmp_path / "i") in str(refusal.value)


def test_damaged_stream_is_refused(tmp_path):
    packed = bytearray(gzip.compress(idx(np.arange(36, dtype=np.uint8).reshape(4, 3, 3))))
    packed[14] ^= 0xFF
    (tmp_path / "i").write_bytes(packed)
    (tmp_path / "l").write_bytes(idx(LABELS))
    with pytest.raises(ValueError, match=r"damaged|header|magic"):
        read_idx(tmp_path / "i", tmp_path / "l")


def test_a_plain_file_named_gz_is_refused(tmp_path):
    (tmp_path / "i.gz").write_bytes(idx(PIXELS))
    (tmp_path / "l").write_bytes(idx(LABELS))
    with pytest.raises(ValueError, match="Not a gzipped file"):
        read_idx(tmp_path / "i.gz", tmp_path / "l")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (idx(PIXELS), "magic 2049; got magic 2051"),
        (idx(LABELS[:3]), "4 images and .* 3 labels"),
        (idx(np.array([0, 9, 10, 255], np.uint8)), "must be 0 to 9; record 2 has 10"),
        (gzip.compress(idx(LABELS), mtime=0)[:-3], "damaged"),
    ],
)
def test_malformed_labels_are_refused(tmp_path, labels, message):
    (tmp_path / "i").write_bytes(idx(PIXELS))
    (tmp_path / "l").write_bytes(labels)
    with pytest.raises(ValueError, match=message):
        read_idx(tmp_path / "i", tmp_path / "l")


def test_two_sizes_are_refused(tmp_path, rng):
    write_mnist(tmp_path, rng)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((6, 4, 4), np.uint8)))
    with pytest.raises(ValueError, match=r"one size; got \(5, 4\) .* \(4, 4\)"):
        read_mnist(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it has 0 bytes"),
        (bytes(3072), "records of 3073 bytes.* it has 3072"),
        (bytes(2 * 3073 + 1), "it has 6147"),
        (bytes(3074), "it has 3074"),  # CIFAR-100: two labels a record
        (bytes(3073) + b"\x0a" + bytes(3072), "must be 0 to 9; record 1 has 10"),
    ],
)
def test_malformed_records_are_refused_in_one_line(tmp_path, rng, content, message):
    write_cifar(tmp_path, rng)
    (tmp_path / "data_batch_3.bin").write_bytes(content)
    with pytest.raises(ValueError, match=message) as refusal:
        read_cifar10(tmp_path)
    assert "\n" not in str(refusal.value)
    assert "data_batch_3.bin" in str(refusal.value)


@pytest.mark.parametrize("place", ["", "cifar-10-batches-py"])
def test_pickles_are_refused_unread(tmp_path, place):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").mkdir, ())

    folder = tmp_path / place
    folder.mkdir(exist_ok=True)
    (folder / "data_batch_1").write_bytes(pickle.dumps(Trap()))
    for read in (read_cifar10, read_image_files):
        with pytest.raises(ValueError, match=r"pickled .* binary version"):
            read(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_more_than_the_bound_is_refused(tmp_path, monkeypatch, rng):
    for module in (idx_module, cifar_module):
        monkeypatch.setattr(module, "MAX_BYTES", 30)
    (tmp_path / "i").write_bytes(gzip.compress(idx(PIXELS)))
    (tmp_path / "l").write_bytes(idx(LABELS))
    with pytest.raises(ValueError, match="1 to 30 bytes"):
        read_idx(tmp_path / "i", tmp_path / "l")
    write_cifar(tmp_path, rng)
    with pytest.raises(ValueError, match="at most 30 bytes"):
        read_cifar10(tmp_path)
