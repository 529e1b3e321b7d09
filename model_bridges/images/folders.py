"""Labelled pictures from a folder with one subfolder a class.

Subfolders name the classes: by name where the model knows it, or by number. For a model restricted to some
classes (`ClassSubset`) folders are found by name, WordNet id or label of the whole model, and those of other
classes are passed over. Each picture is cropped to its central square, resized to what the model's
autoencoder takes, and encoded; models without one see pixels from -1 to 1. An `.npz` with `states` and
`labels` holds states of the model as they are.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from gmm_speciation.reading import open_regular, read_arrays
from model_bridges.classes.groups import vocabulary_of
from model_bridges.denoisers.arrays import as_labels, as_states
from model_bridges.denoisers.base import Denoiser
from model_bridges.denoisers.subset import ClassSubset
from model_bridges.images.labelled import LabelledImages

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
# What these endings stand for. Pillow goes by content: a PostScript file named .png would reach Ghostscript.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
LARGEST_PICTURE = 1 << 26  # pixels; a picture is decoded whole


def labelled_files(
    folder: str | Path, class_names: Sequence[str], limit: int | None = None
) -> tuple[list[Path], list[int]]:
    """Pictures below the class folders, classes in turn, and the class of each.

    Dot-names and `__MACOSX`, which file managers and archives leave behind, are passed over.

    Raises:
        ValueError: If the folder has no class folders with pictures, or one names no class.
    """
    known = {name.lower(): index for index, name in enumerate(class_names)}

    def label_of(place: Path) -> int:
        label = known.get(place.name.lower())
        number = place.name.isdecimal() and int(place.name)
        if label is None and number is not False and number < len(class_names):
            return number
        if label is None:
            raise ValueError(
                f"the folder {place.name!r} in {place.parent} names no class of the model; its classes "
                f"are {', '.join(class_names[:12])}{', ...' if len(class_names) > 12 else ''}, or 0 to "
                f"{len(class_names) - 1}."
            )
        return label

    return _in_turn(Path(folder), label_of, limit, "class folders")


def _in_turn(
    root: Path, label_of: Callable[[Path], int | None], limit: int | None, where: str
) -> tuple[list[Path], list[int]]:
    """The pictures of the folders that have a label, one of each in turn."""
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder; it must hold one subfolder of pictures a class.")
    columns = []
    for place in sorted(path for path in root.iterdir() if path.is_dir() and not _left(path)):
        label = label_of(place)
        if label is not None:
            files = [path for path in place.iterdir() if path.suffix.lower() in SUFFIXES]
            columns.append([(path, label) for path in sorted(files) if not _left(path)])
    longest = max(map(len, columns), default=0)
    rows = [column[i] for i in range(longest) for column in columns if i < len(column)][:limit]
    if len(rows) < 2:
        raise ValueError(
            f"{root} must hold at least two pictures ({', '.join(SUFFIXES)}) in {where}; found "
            f"{len(rows)}."
        )
    return [path for path, _ in rows], [label for _, label in rows]


def _left(path: Path) -> bool:
    """Whether a file manager or an archive left this behind: `.ipynb_checkpoints`, `._a.png`."""
    return path.name.startswith(".") or path.name == "__MACOSX"


def read_picture(path: Path, size: int, channels: int) -> UInt8[np.ndarray, "channels size size"]:
    """A picture as it is meant to be looked at, cropped to its central square and resized.

    The orientation that a camera wrote is obeyed. Sixteen bits become eight by their range, v / 257.
    Transparency is dropped, the colour beneath it stays.

    Raises:
        ValueError: If it is no such picture, or has more than `LARGEST_PICTURE` pixels.
    """
    from PIL import Image, ImageOps

    with open_regular(path) as file:
        try:
            with Image.open(file, formats=FORMATS) as image:
                if image.width * image.height > LARGEST_PICTURE:
                    raise ValueError(
                        f"it has {image.width} x {image.height} pixels, more than {LARGEST_PICTURE}; "
                        "make it smaller"
                    )
                upright = ImageOps.exif_transpose(image)
                if upright.mode.startswith("I"):  # sixteen bits; Pillow would cut them off at 255
                    values = np.asarray(upright, np.uint32)
                    upright = Image.fromarray(((values + 128) // 257).astype(np.uint8))
                picture = upright.convert("L" if channels == 1 else "RGB")
                side = min(picture.size)
                left, top = (picture.width - side) // 2, (picture.height - side) // 2
                box = (left, top, left + side, top + side)
                resized = picture.resize((size, size), Image.Resampling.LANCZOS, box=box)
        except Exception as error:  # decoders say of damaged bytes what they like
            kinds = ", ".join(FORMATS)
            raise ValueError(f"{path} is not a readable picture ({kinds}): {error}.") from error
    pixels = np.asarray(resized, np.uint8)
    return pixels[None] if channels == 1 else np.moveaxis(pixels, -1, 0).copy()


def folder_images(
    denoiser: Denoiser,
    folder: str | Path,
    class_names: Sequence[str],
    *,
    limit: int | None = None,
    seed: int = 0,
) -> LabelledImages:
    """The states of the pictures in a folder, or those stored in an `.npz`.

    Raises:
        ValueError: If the data are missing, malformed, or do not fit the model.
    """
    path = Path(folder)
    if path.suffix == ".npz":
        return _stored_states(path, denoiser, limit)
    files, labels = labelled_files(path, class_names, limit)
    channels, size = picture_shape(denoiser)
    pictures = np.stack([read_picture(file, size, channels) for file in files])
    states = encode_pictures(denoiser, torch.from_numpy(pictures), seed)
    law = f"{len(files)} pictures in {path.name}"
    return LabelledImages(states, torch.tensor(labels), law)


def named_images(
    restricted: ClassSubset, data: str | Path, *, limit: int | None = None, seed: int = 0
) -> LabelledImages:
    """Pictures or stored states of the classes named; labels are places among these.

    Raises:
        ValueError: If fewer than two are there, a folder names no class of the model, and as
            `folder_images`.
    """
    place = {k: index for index, k in enumerate(restricted.classes)}
    path = Path(data)
    if not path.is_dir():
        stored = folder_images(restricted.denoiser, data, restricted.class_names)
        keep = torch.tensor([int(k) in place for k in stored.labels], dtype=torch.bool)
        labels = [place[int(k)] for k in stored.labels[keep]][:limit]
        law = f"{len(labels)} states of the classes named in {stored.law}"
        found = LabelledImages(
            stored.images[keep][:limit], torch.tensor(labels, dtype=torch.long), law
        )
    else:
        files, labels = _named_files(path, restricted, place, limit)
        channels, size = picture_shape(restricted.denoiser)
        pixels = np.stack([read_picture(file, size, channels) for file in files])
        states = encode_pictures(restricted.denoiser, torch.from_numpy(pixels), seed)
        law = f"{len(files)} pictures of the classes named in {path.name}"
        found = LabelledImages(states, torch.tensor(labels), law)
    if len(found.images) < 2:
        raise ValueError(
            f"{data} must hold at least two pictures or states of the classes named, "
            f"{', '.join(restricted.class_names[:8])}; found {len(found.images)}."
        )
    return found


def _named_files(
    root: Path, restricted: ClassSubset, place: dict[int, int], limit: int | None
) -> tuple[list[Path], list[int]]:
    """Pictures in the folders of the classes named, classes in turn."""
    words = vocabulary_of(restricted.denoiser)

    def label_of(folder: Path) -> int | None:
        classes = words.find(folder.name).classes
        if len(classes) > 1:
            raise ValueError(
                f"the folder {folder.name!r} in {root} names {len(classes)} classes; a folder must hold "
                "one. Name it by the id or the label of its class."
            )
        return place.get(classes[0])

    named = ", ".join(restricted.class_names[:8])
    return _in_turn(root, label_of, limit, f"folders of the classes named, {named}")


def _stored_states(path: Path, denoiser: Denoiser, limit: int | None) -> LabelledImages:
    content = read_arrays(path)
    missing = [name for name in ("states", "labels") if name not in content]
    if missing:
        raise ValueError(
            f"{path} must be an .npz with `states` and `labels`; it has no `{missing[0]}`, but "
            f"{', '.join(content) or 'nothing'}."
        )
    states = as_states(content["states"], f"`states` in {path}")
    labels = as_labels(content["labels"], len(states), denoiser.num_classes, f"`labels` in {path}")
    return LabelledImages(states[:limit].float(), labels[:limit], path.name)


def _autoencoder(denoiser: Any) -> Any:
    holder = denoiser.latents if hasattr(denoiser, "latents") else denoiser
    return holder.autoencoder


def picture_shape(denoiser: Any) -> tuple[int, int]:
    """`(channels, size)` of the pictures that become states."""
    shape = tuple(denoiser.event_shape)
    if not hasattr(denoiser, "encode"):
        if len(shape) != 3 or shape[0] not in (1, 3) or shape[1] != shape[2]:
            raise ValueError(
                f"pictures cannot become states of shape {shape}; give an .npz with `states`, or a "
                "model with `encode`."
            )
        return shape[0], shape[1]
    settings = _autoencoder(denoiser).config
    # Every block of the encoder but the last halves the picture.
    return settings.in_channels, shape[-1] * 2 ** (len(settings.block_out_channels) - 1)


def encode_pictures(denoiser: Any, pictures: Tensor, seed: int) -> Tensor:
    """States of uint8 pictures, in the units that each kind of model takes."""
    signed = pictures.float() / 127.5 - 1
    if not hasattr(denoiser, "encode"):
        return signed
    generator = torch.Generator().manual_seed(seed)
    # EDM2's latents take bytes; the pipelines of diffusers take values from -1 to 1.
    takes_bytes = hasattr(denoiser, "latents")
    return denoiser.encode(pictures if takes_bytes else signed, generator)
