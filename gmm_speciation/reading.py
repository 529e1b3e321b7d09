"""Files that come from others: read whole or refused in one line, before any work.

Three rules, whatever the format. A file is a *regular* file: a pipe or a device would be waited for. It is
no longer than its reader says: what is read into memory is bounded before it is read. And it means one
thing: JSON in which a key stands twice, or an archive in which a name does, is refused, where parsers take
the last.

    JSON     UTF-8 with or without a byte order mark, finite numbers in 64 bits, text without unpaired
             surrogates, nested at most `DEEPEST` deep, names and text at most `longest` characters
    .npz     plain arrays whose header, checksum and size agree; no pickles
"""

import itertools
import json
import math
import re
import stat
import zipfile
from collections.abc import Iterator
from io import BufferedIOBase, BufferedReader
from pathlib import Path
from typing import Any, cast

import numpy as np

DEEPEST = 64
LONGEST = 10_000  # characters of a name or of text in JSON
LARGEST_JSON = 64 << 20  # bytes
LARGEST_ARRAYS = 4 << 30  # bytes, unpacked
MOST_ARRAYS = 4096
REAL = "biuf"  # kinds of numpy's dtypes

_STRINGS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_OTHER_BRACKETS = re.compile(r"[^][{}]+")


def read_bytes(path: Path, largest: int) -> bytes:
    """The content of a regular file.

    Raises:
        ValueError: If there is none, it is a pipe or a device, it cannot be read, or it is longer than
            `largest` bytes.
    """
    with open_regular(path) as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"{_name(path)} must be at most {largest} bytes long; it is longer.")
    return content


def open_regular(path: Path) -> BufferedReader:
    """A regular file, open for reading.

    Raises:
        ValueError: If there is none, it is a pipe or a device, or it may not be read.
    """
    try:
        mode = path.stat().st_mode  # before it is opened: opening a pipe waits for its other end
        if stat.S_ISREG(mode):
            return path.open("rb")
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, a socket or a device"
        raise ValueError(f"{_name(path)} must be a file; it is {kind}.")
    except FileNotFoundError:
        raise ValueError(f"There is no file {_name(path)}.") from None
    except OSError as error:
        raise ValueError(f"{_name(path)} cannot be read: {error.strerror}.") from error


def is_regular(path: Path) -> bool:
    """Whether this is a file that can be read without waiting, and no dot-name such as `._a.png`."""
    try:
        return not path.name.startswith(".") and stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def read_json(path: Path, *, largest: int = LARGEST_JSON, longest: int = LONGEST) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: As `read_bytes` and `parse_json`.
    """
    return parse_json(read_bytes(path, largest), _name(path), longest=longest)


def parse_json(content: bytes | str, name: str, *, longest: int = LONGEST) -> Any:
    """The value of a JSON text; `name` is what errors call it.

    Raises:
        ValueError: If it is no JSON, or breaks a rule of this module.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        text = text.removeprefix("\ufeff")
        if _depth(text) > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} deep")
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_whole,
            parse_float=_finite,
            parse_constant=_constant,
        )
        for word in _words(value):
            _check_text(word, longest)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not JSON that can be used: {error}.") from error
    return value


def _depth(text: str) -> int:
    """How deep brackets are nested, those in text left out."""
    brackets = _OTHER_BRACKETS.sub("", _STRINGS.sub("", text))
    steps = (1 if bracket in "[{" else -1 for bracket in brackets)
    return max(itertools.accumulate(steps), default=0)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:60]!r} stands twice in one object; keep one")
    return found


def _whole(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= int(digits) < 2**64:
        raise ValueError(f"a whole number must fit 64 bits; got one of {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"a number must be finite; got {digits[:40]}")
    return value


def _constant(word: str) -> float:
    raise ValueError(f"a number must be finite; got {word}")


def _words(value: Any) -> Iterator[str]:
    """Every key and text in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for entry in value:
            if isinstance(entry, str | dict | list):
                yield from _words(entry)


def _check_text(word: str, longest: int) -> None:
    if len(word) > longest:
        raise ValueError(
            f"names and text have at most {longest} characters; {word[:20]!r}... has {len(word)}"
        )
    try:
        word.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(
            f"text must be whole characters; {word[:60]!r} has half of a surrogate pair"
        ) from None


def read_arrays(
    path: Path, *, kinds: str = REAL, largest: int = LARGEST_ARRAYS
) -> dict[str, np.ndarray]:
    """The named arrays of an `.npz` file; nothing in it is run.

    Args:
        path: The file.
        kinds: Kinds of dtype that are taken, as numpy's letters; real numbers by default.
        largest: Bytes of all arrays together.

    Raises:
        ValueError: If it is no such file, damaged, too large, or an array is of another kind.
    """
    with open_regular(path) as file:
        return arrays_of(file, _name(path), kinds=kinds, largest=largest)


def read_array(path: Path, *, kinds: str = REAL, largest: int = LARGEST_ARRAYS) -> np.ndarray:
    """The array of an `.npy` file. Arguments and errors as `read_arrays`."""
    with open_regular(path) as file:
        size = path.stat().st_size
        if size > largest:
            raise ValueError(f"{_name(path)} has {size} bytes; the most is {largest}.")
        try:
            return _array(file, path.name, size, kinds)
        except Exception as error:  # whatever a damaged header makes numpy say
            raise ValueError(
                f"{_name(path)} is not an .npy of plain numbers: {' '.join(str(error).split())[:300]}. "
                "Write it by `numpy.save(path, array)`."
            ) from error


def arrays_of(
    file: BufferedIOBase, name: str, *, kinds: str = REAL, largest: int = LARGEST_ARRAYS
) -> dict[str, np.ndarray]:
    """As `read_arrays`, of an open file; `name` is what errors call it."""
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            _check_entries(entries, largest)
            arrays = {}
            for entry in entries:
                with archive.open(entry) as packed:
                    key = entry.filename.removesuffix(".npy")
                    arrays[key] = _array(cast(BufferedIOBase, packed), key, entry.file_size, kinds)
            return arrays
    except ValueError as error:
        raise ValueError(_unlike_arrays(name, error)) from error
    except Exception as error:  # whatever damaged bytes make zip, zlib and numpy say
        what = "it is damaged or of another kind"
        raise ValueError(_unlike_arrays(name, f"{what} ({error})")) from error


def _unlike_arrays(name: str, what: object) -> str:
    return (
        f"{name} is not an archive of plain arrays, .npz: {' '.join(str(what).split())[:300]}. Write it by "
        "`numpy.savez(path, name=array, ...)`."
    )


def _check_entries(entries: list[zipfile.ZipInfo], largest: int) -> None:
    names = [entry.filename for entry in entries]
    if len(names) > MOST_ARRAYS:
        raise ValueError(f"it holds {len(names)} arrays; the most is {MOST_ARRAYS}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:60]!r} is in it twice")
    size = sum(entry.file_size for entry in entries)
    if size > largest:
        raise ValueError(f"its arrays take {size} bytes; the most is {largest}")


def _array(file: BufferedIOBase, name: str, size: int, kinds: str) -> np.ndarray:
    """One array of an archive, once its header agrees with its size."""
    version = np.lib.format.read_magic(file)
    reader = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if reader is None:
        raise ValueError(f"`{name}` is written in version {version} of numpy's format")
    shape, fortran, dtype = reader(file)
    if dtype.kind not in kinds:
        wanted = "real numbers" if kinds == REAL else f"of the kinds {', '.join(kinds)}"
        raise ValueError(f"`{name}` must be {wanted}; got dtype {dtype}")
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count * dtype.itemsize != size - file.tell():
        raise ValueError(
            f"`{name}` says it is {dtype} of shape {shape}, which is not what it holds"
        )
    flat = np.empty(count, dtype)
    target = flat.view(np.uint8).data if flat.nbytes else memoryview(b"")
    filled = 0
    while filled < len(target):
        got = file.readinto(target[filled:])
        if not got:
            raise ValueError(f"`{name}` is cut off")
        filled += got
    if file.read(1):  # reading to the end checks the checksum
        raise ValueError(f"`{name}` is longer than its header says")
    flat = flat.astype(dtype.newbyteorder("="), copy=False)  # torch takes no other order of bytes
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def _name(path: Path) -> str:
    """A path as errors show it: whatever is in the name, on one line."""
    return repr(str(path))
