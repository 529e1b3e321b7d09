"""Chunks on disk: each written whole or not at all, each checked when read.

A file is written under a temporary name in its own folder, flushed to the disk and moved into place; a
process that is killed leaves at most a temporary file, which nobody reads. A chunk file is the SHA-256 of
what follows and then arrays in numpy's `.npz` form, with the digest of the settings they belong to. No
pickles.
"""

import errno
import hashlib
import io
import json
import os
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO
from zipfile import BadZipFile

import numpy as np

from model_bridges.runs.jobs import ChunkSums


class CorruptChunkError(ValueError):
    """A finished file cannot be read back; it has to be computed again."""


class DiskFullError(OSError):
    """Nothing more can be written; what is finished stays."""


def write_whole(path: Path, write: Callable[[IO[bytes]], object], *, replace: bool = True) -> None:
    """Write a file so that it appears complete or not at all, also after a loss of power.

    Args:
        path: Where it goes.
        write: Writes the content to an open binary file.
        replace: Without it a file that is there already stays, also one written at this moment.

    Raises:
        DiskFullError: If there is no room.
        OSError: If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            _place(temporary, path, replace)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                error.errno, f"the disk is full: {path.name} could not be written", str(path.parent)
            ) from error
        raise
    _flush_folder(path.parent)


def _place(temporary: Path, path: Path, replace: bool) -> None:
    if not replace:
        try:
            os.link(temporary, path)  # fails where the file exists, whoever wrote it
            return
        except FileExistsError:
            return
        except OSError:
            if path.exists():  # a file system without links
                return
    os.replace(temporary, path)


def _flush_folder(folder: Path) -> None:
    """The folder's entry must reach the disk as well."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # a system without folder handles
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)


def write_sums(path: Path, sums: ChunkSums, digest: str, *, replace: bool = True) -> None:
    """Write the sums of a chunk. Errors as `write_whole`."""
    arrays = {
        "digest": np.array(digest),
        "count": np.array(sums.count),
        "evaluations": np.array(sums.evaluations),
        **{f"total/{name}": np.asarray(value) for name, value in sums.totals.items()},
        **{f"row/{name}": np.asarray(value) for name, value in sums.rows.items()},
    }
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    content = buffer.getvalue()
    checksum = hashlib.sha256(content).digest()
    write_whole(path, lambda file: file.write(checksum + content), replace=replace)


def read_sums(path: Path, digest: str) -> ChunkSums:
    """The sums of a chunk.

    Raises:
        CorruptChunkError: If the file is damaged or belongs to other settings.
    """
    try:
        stored = path.read_bytes()
        if hashlib.sha256(stored[32:]).digest() != stored[:32]:
            raise ValueError("its checksum is not that of its content")
        with np.load(io.BytesIO(stored[32:]), allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
        found = str(arrays.pop("digest"))
        count, evaluations = int(arrays.pop("count")), int(arrays.pop("evaluations"))
        parts: dict[str, dict[str, np.ndarray]] = {"total": {}, "row": {}}
        for name, value in arrays.items():
            kind, _, own = name.partition("/")
            parts[kind][own] = value
    except (OSError, KeyError, ValueError, EOFError, BadZipFile, zlib.error) as error:
        raise CorruptChunkError(f"{path.name} cannot be read ({error})") from error
    if found != digest:
        raise CorruptChunkError(f"{path.name} belongs to other settings")
    return ChunkSums(count, parts["total"], parts["row"], evaluations)


def write_json(path: Path, content: object, *, replace: bool = True) -> None:
    """Write plain data. Errors as `write_whole`."""
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    write_whole(path, lambda file: file.write(text.encode("utf-8")), replace=replace)
