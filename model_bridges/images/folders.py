"""Labelled pictures from a folder with one subfolder a class.

Subfolders are called as the model's classes are, by name, WordNet id or label (`classes.names`). A picture is
cropped to its central square and resized.
"""

import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from gmm_speciation.reading import open_regular
from model_bridges.classes.names import ClassNames

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
# What these endings stand for. Pillow goes by content: a PostScript file named .png would reach Ghostscript.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
LARGEST_PICTURE = 1 << 26  # pixels; a picture is decoded whole


def labelled_files(folder: str | Path, words: ClassNames) -> tuple[list[Path], list[int]]:
    """Pictures below the class folders, classes in turn, and the class of each.

    Dot-names and `__MACOSX`, which file managers and archives leave behind, are passed over; of other files
    that are no pictures, and of folders in class folders, a warning says so.

    Raises:
        ValueError: If the folder has no class folders with pictures, one names no class or several or holds
            other files only, or two name the same.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder; it must hold one subfolder of pictures a class.")
    columns: list[list[tuple[Path, int]]] = []
    owners: dict[int, str] = {}
    others: list[Path] = []
    for place in sorted(path for path in root.iterdir() if path.is_dir() and not _left(path)):
        try:
            classes = words.find(place.name).classes
        except ValueError as error:
            raise ValueError(
                f"the folder {place.name!r} in {root} names no class: {error}"
            ) from error
        if len(classes) > 1:
            raise ValueError(
                f"the folder {place.name!r} in {root} names {len(classes)} classes; a folder must hold "
                "one. Name it by the id or the label of its class."
            )
        owner = owners.setdefault(classes[0], place.name)
        if owner != place.name:
            raise ValueError(
                f"the folders {owner!r} and {place.name!r} in {root} name one class, {classes[0]}; a class "
                "must have one folder. Rename what is another class, or put the pictures together."
            )
        found = sorted(path for path in place.iterdir() if not _left(path))
        files = [path for path in found if path.suffix.lower() in SUFFIXES]
        others += (more := [path for path in found if path.suffix.lower() not in SUFFIXES])
        if more and not files:
            raise ValueError(
                f"the folder {place.name!r} in {root} holds no pictures ({', '.join(SUFFIXES)}), but "
                f"{len(more)} of another kind, such as {more[0].name!r}."
            )
        columns.append([(path, classes[0]) for path in files])
    longest = max(map(len, columns), default=0)
    rows = [column[i] for i in range(longest) for column in columns if i < len(column)]
    if len(rows) < 2:
        raise ValueError(
            f"{root} must hold at least two pictures ({', '.join(SUFFIXES)}) in class folders; found "
            f"{len(rows)}."
        )
    if others:
        warnings.warn(
            f"{len(others)} in the class folders of {root} are passed over, such as {others[0].name!r}: "
            f"pictures are {', '.join(SUFFIXES)}, straight in the folder of their class.",
            stacklevel=3,
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
