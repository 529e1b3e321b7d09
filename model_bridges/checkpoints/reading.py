"""`read_checkpoint`: official pickles and converted files, nothing of them run.

What a file may cost: its own size for the tensors and `OBJECTS` bytes for everything else. The file
itself is mapped, not copied.
"""

import hashlib
import mmap
import os
from pathlib import Path

from model_bridges.checkpoints.arrays import Reader
from model_bridges.checkpoints.checkpoint import Checkpoint, LatentScaling
from model_bridges.checkpoints.converted import read_converted, write_converted
from model_bridges.checkpoints.errors import UnsafeCheckpointError
from model_bridges.checkpoints.official import KNOWN, Walker
from model_bridges.checkpoints.symbols import Meter, read_symbols

OBJECTS = 24 << 20
SHORTEST_HASH = 64

# What comes instead of a checkpoint when a download goes wrong, by its first bytes.
_OTHERS = (
    (b"version https://git-lfs", "a git-lfs pointer, not the file itself; run `git lfs pull`"),
    (b"PK\x03\x04", "a zip archive, as torch.save writes it, not a pickle of the official format"),
    (b"\x1f\x8b", "a gzip archive; unpack it"),
    (b"\x89HDF", "an HDF5 file"),
    (b"<", "a web page; the download gave an error page"),
    (b"{", "text; the download gave an error message"),
)


def read_checkpoint(path: str | Path, *, expected_sha256: str | None = None) -> Checkpoint:
    """The weights in an official EDM2 pickle or in a converted file, with what belongs to them.

    Args:
        path: `edm2-*.pkl` as published, or the `.safetensors` of `model-bridges convert`.
        expected_sha256: Refuse a file with another hash, before anything else of it is looked at.

    Raises:
        UnsafeCheckpointError: If the file is missing, damaged, another one than expected, or contains
            anything that weights do not need.
    """
    path = Path(path)
    expected = None if expected_sha256 is None else _check_hash(expected_sha256)
    try:
        if not path.is_file():
            raise OSError("it is no file")
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise UnsafeCheckpointError(f"{path} is empty. Fetch it again.")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        if isinstance(error, UnsafeCheckpointError):
            raise
        raise UnsafeCheckpointError(
            f"{path} cannot be read: {error}. Give the path of an `edm2-*.pkl` or of a converted "
            ".safetensors file."
        ) from error
    # The mapping is closed when the last view of it is gone.
    data = memoryview(mapped)
    file_sha256 = hashlib.sha256(data).hexdigest()
    if expected is not None and file_sha256 != expected:
        raise UnsafeCheckpointError(
            f"{path} has the SHA-256 {file_sha256}, not the expected {expected}. It is another file, "
            "or damaged; nothing of it was read."
        )
    head = bytes(data[:32])
    for start, what in _OTHERS:
        if head.lstrip().startswith(start):
            raise UnsafeCheckpointError(f"{path} is {what}.")
    if head[8:9] == b"{":
        return read_converted(path, file_sha256)
    try:
        return _read_official(data, path.name, file_sha256)
    except UnsafeCheckpointError as error:
        raise UnsafeCheckpointError(f"{path}: {error}") from None


def convert(
    source: str | Path, target: str | Path, *, expected_sha256: str | None = None
) -> Checkpoint:
    """Read an official pickle and write it as safetensors; returns what was read.

    Arguments, hash, latent scaling and licence go into the metadata of the new file.

    Raises:
        ValueError: If the target has another ending or is the source.
        UnsafeCheckpointError: As `read_checkpoint`.
    """
    source, target = Path(source), Path(target)
    if target.suffix != ".safetensors" or target.resolve() == source.resolve():
        raise ValueError(
            f"The converted file must end in .safetensors and be a new one; got {target}."
        )
    checkpoint = read_checkpoint(source, expected_sha256=expected_sha256)
    write_converted(checkpoint, target)
    return checkpoint


def _check_hash(text: str) -> str:
    text = text.strip().lower()
    if len(text) != SHORTEST_HASH or set(text) - set("0123456789abcdef"):
        raise UnsafeCheckpointError(
            f"`expected_sha256` must be {SHORTEST_HASH} hexadecimal digits; got {text[:80]!r}. Take it "
            "from `sha256sum FILE` on a machine you trust."
        )
    return text


def _read_official(data: memoryview, name: str, sha256: str) -> Checkpoint:
    meter = Meter(OBJECTS)
    reader = Reader(meter, len(data))
    content, end = read_symbols(data, known=KNOWN, meter=meter, on_call=reader.on_call)
    if end != len(data):
        raise UnsafeCheckpointError(
            f"{len(data) - end} bytes follow the end of the pickle; an official file has none. "
            "Fetch it again."
        )
    walker = Walker(reader)
    content = walker.mapping(content, "the file")
    if "ema" not in content:
        raise UnsafeCheckpointError(
            f"the file has no network 'ema', but {sorted(content)[:8]}. Give a file with the averaged "
            "weights, `edm2-*.pkl`, not a training state."
        )
    network = content["ema"]
    kwargs = walker.arguments(walker.state(network, "the network"), "the network")
    noise = None
    if content.get("loss_fn") is not None:
        loss = walker.state(content["loss_fn"], "the loss")
        noise = walker.numbers(
            (loss.get("P_mean"), loss.get("P_std")), "the distribution of log sigma"
        )
    return Checkpoint(
        state_dict=walker.tensors(network),
        network_kwargs={k: v for k, v in kwargs.items() if k != "class_name"},
        sha256=sha256,
        file_sha256=sha256,
        name=name,
        latent_scaling=_latent_scaling(walker, content.get("encoder")),
        dataset_kwargs=walker.plain(content.get("dataset_kwargs") or {}, "the dataset's arguments"),
        noise=None if noise is None else (float(noise[0]), float(noise[1])),
        module_sources=walker.sources,
    )


def _latent_scaling(walker: Walker, encoder: object) -> LatentScaling | None:
    """The scaling that the encoder keeps; None where it has none, as for networks of pixels."""
    if encoder is None:
        return None
    state = walker.state(encoder, "the encoder")
    if "scale" not in state or "bias" not in state:
        return None
    scale, bias = (walker.numbers(state[key], "the latent scaling") for key in ("scale", "bias"))
    vae = walker.plain(state.get("vae_name", LatentScaling.vae), "the name of the autoencoder")
    if len(scale) != len(bias) or not all(scale) or not isinstance(vae, str):
        raise UnsafeCheckpointError("the latent scaling of the encoder does not fit together.")
    return LatentScaling(tuple(map(float, scale)), tuple(map(float, bias)), vae)
