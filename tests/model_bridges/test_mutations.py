"""Mutated files of every kind that is read: read, or refused in one line, in seconds, in bounded memory."""

import copy
import gzip
import io
import json
import random
import shutil
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_pipeline import PROMPTS, UNET, write_pipeline

from gmm_speciation.cli.mixtures import mixture_from_spec
from gmm_speciation.reading import read_arrays, read_json
from gmm_speciation.reporting.stored import load_curve, load_result
from model_bridges import pipelines
from model_bridges.images import cifar, folders, idx, parts
from model_bridges.pipelines.latents import latent_scale
from model_bridges.pipelines.parts import Source

FAST, SLOW = 24, 400  # of each of five kinds
SECONDS = 5.0
ALLOWED = 1 << 20  # bytes that a reader may unpack here; the real bounds are larger
NOISE = 48 << 20  # bytes by which the allocator's peak moves anyhow


def npz(rng):
    buffer = io.BytesIO()
    arrays = {"means": rng.normal(size=(3, 4)), "variance": np.float64(1), "labels": np.arange(3)}
    (np.savez if rng.random() < 0.5 else np.savez_compressed)(buffer, **arrays)
    return buffer.getvalue()


def png(rng):
    buffer = io.BytesIO()
    values = rng.integers(0, 256, (24, 20, 3))
    picture = [
        lambda: Image.fromarray(values.astype(np.uint8)),
        lambda: Image.fromarray((values[..., 0] * 257).astype(np.uint16)),
        lambda: Image.fromarray(values[..., 0].astype(np.uint8)).convert("P"),
    ][int(rng.integers(3))]()
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(1, 9))
    picture.save(buffer, "PNG", exif=exif)
    return buffer.getvalue()


def text(rng):
    curve = {
        "log_snr": [1.0, 0.0, -1.0],
        "entropy": {"value": [0.1, 0.2, 0.3], "stderr": [0, 0, 0], "dof": "inf"},
        "rate": {"value": [0.1, 0.2, 0.1], "stderr": [0, 0, 0], "dof": 15},
        "prior_entropy": 0.7,
        "method": "exact",
        "batches": None,
    }
    mixture = {"means": [[0, 1], [1, 0]], "variance": 1.0, "labels": [0, 1]}
    return json.dumps(mixture if rng.random() < 0.5 else {"curves": {"a": curve}}).encode()


def bytes_of_images(rng):
    pixels = rng.integers(0, 256, (5, 4, 3)).astype(np.uint8)
    content = struct.pack(">4I", 2051, 5, 4, 3) + pixels.tobytes()
    return gzip.compress(content) if rng.random() < 0.5 else content


def mutated(content, rng):
    """Up to six bytes, spans or numbers of a file changed, moved, doubled or cut."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 7))):
        at, length = int(rng.integers(len(data) + 1)), int(rng.integers(1, 24))
        match int(rng.integers(6)):
            case 0:
                data[at : at + 1] = bytes([int(rng.integers(256))])
            case 1:
                data[at:at] = data[at // 2 : at // 2 + length]
            case 2:
                del data[at : at + length]
            case 3:
                data[at : at + 4] = rng.choice(
                    [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0"]
                )
            case 4 if len(data) > 4:
                del data[int(rng.integers(1, len(data))) :]
            case _:
                data[at : at + length] = rng.bytes(length)
    return bytes(data)


ODD = [
    None,
    True,
    -1,
    0,
    1,
    3,
    10**6,
    10**9,
    10**400,
    -(10**400),
    0.5,
    -0.0,
    1e-320,
    1e300,
    float("nan"),
    float("inf"),
    "",
    "0.18",
    "²",
    "\ud800",
    "x" * 10**5,
    [],
    [[]],
    [0],
    [1, "a"],
    [1] * 10**5,
    {},
    {"a": {}},
]


def with_odd_value(content, rng):
    """A JSON text one value of which is something else, or which is damaged as text."""
    if rng.random() < 0.25:
        return mutated(content, rng)
    value = copy.deepcopy(json.loads(content))
    place = value
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = keys[int(rng.integers(len(keys)))]
        if isinstance(place[key], dict | list) and rng.random() < 0.7:
            place = place[key]
            continue
        place[key] = ODD[int(rng.integers(len(ODD)))]
        break
    written = json.dumps(value)
    if rng.random() < 0.1:
        written = written.replace('": ', '": ' + "[" * 10**4, 1)
    if rng.random() < 0.1:
        first = next(iter(value), None) if isinstance(value, dict) else None
        written = written.replace("{", "{" + json.dumps(first) + ": 1, ", 1)
    return written.encode("utf-8", "surrogatepass")


def read_mixture(path):
    read_arrays(path, largest=ALLOWED)
    mixture_from_spec(str(path), {})


def read_text(path):
    read_json(path, largest=ALLOWED)
    for read in (load_result, load_curve, lambda path: mixture_from_spec(str(path), {})):
        allowing(lambda read=read: read(path))


def allowing(call):
    """Whether a call was refused, in one line."""
    try:
        call()
    except ValueError as error:
        message = str(error)
    else:
        return False
    assert len(message) < 2000
    assert "\n" not in message
    return True


KINDS = {
    "arrays.npz": (npz, mutated, read_mixture),
    "picture.png": (png, mutated, lambda path: folders.read_picture(path, 8, 3)),
    "text.json": (text, with_odd_value, read_text),
    "images-idx3-ubyte": (
        bytes_of_images,
        mutated,
        lambda path: idx._read_idx(path, idx.IMAGES_MAGIC, 3),
    ),
}


def peak(reset=False):
    """The most memory that this process held since the last reset; None where that is not known."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def check(call, allowed):
    before, began = peak(reset=True), time.process_time()
    refused = allowing(call)
    assert time.process_time() - began < SECONDS
    after = peak()
    assert before is None or after - before < 8 * allowed + NOISE
    return refused


@pytest.fixture
def bounded(monkeypatch):
    """The readers' bounds, smaller: what is claimed beyond them must not be taken."""
    for module in (idx, cifar, parts):
        monkeypatch.setattr(module, "MAX_BYTES", ALLOWED)
    monkeypatch.setattr(folders, "LARGEST_PICTURE", ALLOWED // 3)


@pytest.mark.usefixtures("bounded")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("num", [FAST, pytest.param(SLOW, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", KINDS)
def test_a_mutated_file_is_read_or_refused_in_one_line(tmp_path, name, num):
    make, mutate, read = KINDS[name]
    rng = np.random.default_rng(num)
    path, refused = tmp_path / name, 0
    path.write_bytes(make(rng))
    assert not allowing(lambda: read(path))  # what is whole is read
    for index in range(num):
        content = mutate(make(rng), rng)
        path.write_bytes(content)
        try:
            refused += check(lambda: read(path), ALLOWED)
        except Exception as error:
            raise AssertionError(f"{name} {index}: {content[:300]!r}") from error
    assert refused > num // 4


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield write_pipeline(tmp_path_factory.mktemp("a pipeline"))


FILES = ("scheduler/scheduler_config.json", "unet/config.json", "vae/config.json")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("num", [FAST, pytest.param(SLOW, marks=pytest.mark.slow)])
def test_a_mutated_configuration_is_read_or_refused_in_one_line(pipeline, tmp_path, num):
    folder = shutil.copytree(pipeline, tmp_path / "copy")
    rng = np.random.default_rng(num)
    table = torch.randn(len(PROMPTS), 3, UNET["cross_attention_dim"])
    size = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))

    def load():
        pipelines.load(folder, PROMPTS, embeddings=table)
        source = Source(str(folder))
        latent_scale(source.settings("vae"))
        source.autoencoder()

    load()
    refused = 0
    for index in range(num):
        name = random.Random(index).choice(FILES)
        whole = (folder / name).read_bytes()
        content = with_odd_value(whole, rng)
        (folder / name).write_bytes(content)
        try:
            refused += check(load, size)
        except Exception as error:
            raise AssertionError(f"{name} {index}: {content[:600]!r}") from error
        (folder / name).write_bytes(whole)
    assert refused > num // 8


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        (FILES[0], "trained_betas", {}),
        (FILES[0], "beta_start", "0.18"),
        (FILES[0], "beta_end", None),
        (FILES[0], "num_train_timesteps", 10**9),
        (FILES[0], "num_train_timesteps", 0),
        (FILES[1], "attention_head_dim", 0),
        (FILES[1], "layers_per_block", 10**6),
        (FILES[1], "block_out_channels", {"0": 8}),
        (FILES[1], "block_out_channels", [16384, 16384]),
        (FILES[1], "norm_num_groups", 0),
        (FILES[2], "latent_channels", "4"),
        (FILES[2], "layers_per_block", 10**6),
    ],
)
def test_a_number_that_no_network_has_is_named_with_its_key(pipeline, tmp_path, name, key, value):
    folder = shutil.copytree(pipeline, tmp_path / "copy")
    table = torch.randn(len(PROMPTS), 3, UNET["cross_attention_dim"])
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(content | {key: value}))

    def load():
        pipelines.load(folder, PROMPTS, embeddings=table)
        Source(str(folder)).autoencoder()

    with pytest.raises(ValueError, match="configuration") as error:
        load()
    assert name.partition("/")[0] in str(error.value)
    assert key in str(error.value) or "do not belong together" in str(error.value)
