"""Chunks on disk: each written whole or not at all (`gmm_speciation.files`), each checked when read.

A chunk file is the SHA-256 of what follows and then arrays in numpy's `.npz` form, with the digest of the
settings and of the place in the job that they belong to: a chunk copied over another's file is noticed. No
pickles.
"""

import hashlib
import io
import json
from pathlib import Path

import numpy as np

from gmm_speciation.files import refuse_folder, write_bytes, write_text
from gmm_speciation.reading import LARGEST_ARRAYS, arrays_of, read_bytes
from model_bridges.runs.jobs import ChunkSums


class CorruptChunkError(ValueError):
    """A finished file cannot be read back; it has to be computed again."""


def write_sums(path: Path, sums: ChunkSums, digest: str, *, replace: bool = True) -> None:
    """Write the sums of a chunk. Errors as `gmm_speciation.files.write_whole`."""
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
    write_bytes(path, checksum + content, replace=replace)


def read_sums(path: Path, digest: str) -> ChunkSums:
    """The sums of a chunk.

    Raises:
        CorruptChunkError: If the file is damaged or belongs to other settings.
        ValueError: If it is a folder.
    """
    refuse_folder(path)
    try:
        stored = read_bytes(path, LARGEST_ARRAYS)
        if hashlib.sha256(stored[32:]).digest() != stored[:32]:
            raise ValueError("its checksum is not that of its content")
        arrays = arrays_of(io.BytesIO(stored[32:]), path.name, kinds="biufU")
        found = str(arrays.pop("digest"))
        count, evaluations = int(arrays.pop("count")), int(arrays.pop("evaluations"))
        parts: dict[str, dict[str, np.ndarray]] = {"total": {}, "row": {}}
        for name, value in arrays.items():
            kind, _, own = name.partition("/")
            parts[kind][own] = value
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise CorruptChunkError(f"{path.name} cannot be read ({error})") from error
    if found != digest:
        raise CorruptChunkError(f"{path.name} belongs to other settings or to another place")
    return ChunkSums(count, parts["total"], parts["row"], evaluations)


def write_json(path: Path, content: object, *, replace: bool = True) -> None:
    """Write plain data. Errors as `gmm_speciation.files.write_whole`."""
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    write_text(path, text, replace=replace)
