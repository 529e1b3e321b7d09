"""Reading official files: everything of them is understood, nothing of them is run."""

import os
import pickle
import struct
import tracemalloc
import warnings

import numpy as np
import official_files as files
import pytest
import torch
from official_files import (
    MEGABYTE,
    WEIGHT,
    Asks,
    content,
    evil,
    module,
    pickled,
    refuse,
    storage_bytes,
    view,
)

from model_bridges.checkpoints import EDM2_LATENTS, UnsafeCheckpointError, read_checkpoint
from model_bridges.edm2 import official_pickle


@pytest.fixture
def saved(tmp_path):
    """`saved(data)`: a file with these bytes, or with the pickle of this content."""

    def save(data):
        path = tmp_path / "file.pkl"
        path.write_bytes(data if isinstance(data, bytes) else pickled(data))
        return path

    return save


# --- whole files ---


def test_everything_in_an_official_file_is_read(tmp_path):
    network = files.write(tmp_path / "net.pkl", noise=(-0.8, 1.6))
    checkpoint = read_checkpoint(tmp_path / "net.pkl")
    expected = {name: value.half() for name, value in network.state_dict().items()}
    assert list(checkpoint.state_dict) == list(expected)
    torch.testing.assert_close(checkpoint.state_dict, expected, rtol=0, atol=0)
    assert checkpoint.network_kwargs == files.TINY
    assert checkpoint.noise == (-0.8, 1.6)
    assert checkpoint.dataset_kwargs["resolution"] == 4
    np.testing.assert_allclose(checkpoint.latent_scaling.scale, EDM2_LATENTS.scale, rtol=1e-6)
    np.testing.assert_allclose(checkpoint.latent_scaling.bias, EDM2_LATENTS.bias, rtol=1e-6)
    digest = os.popen(f"sha256sum {tmp_path / 'net.pkl'}").read().split()[0]
    assert checkpoint.sha256 == checkpoint.file_sha256 == digest
    assert "CC BY-NC-SA 4.0" in checkpoint.licence
    assert set(checkpoint.module_sources) >= {"Precond", "UNet", "MPConv", "StabilityVAEEncoder"}


def test_the_files_of_these_tests_would_run_their_text_in_the_ordinary_reader(tmp_path):
    """Our writer does name the official loader's entry, which an ordinary unpickler calls."""
    files.write(tmp_path / "net.pkl")
    data = (tmp_path / "net.pkl").read_bytes()
    with official_pickle._stand_ins(), pytest.raises(RuntimeError, match="stand-in"):
        pickle.loads(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(pickle.UnpicklingError):
            torch.load(tmp_path / "net.pkl", weights_only=True)


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.bool]
)
def test_storages_of_every_type_and_views_of_every_kind(saved, dtype):
    base = torch.arange(24).reshape(2, 3, 4).to(dtype)
    views = {"transposed": base.mT, "slice": base[1, :, 1:3], "scalar": base[1, 2, 3]}
    views |= {"empty": base[:0], "last": base.permute(2, 0, 1)}
    checkpoint = read_checkpoint(saved(content(module(parameters=views))))
    torch.testing.assert_close(checkpoint.state_dict, views, rtol=0, atol=0)
    assert all(value.is_contiguous() for value in checkpoint.state_dict.values())


def test_buffers_that_are_not_saved_and_empty_places_are_left_out(saved):
    state = {"_non_persistent_buffers_set": {"cache"}}
    ema = module(parameters={"w": WEIGHT, "none": None}, modules={"gone": None}, **state)
    ema.meta["state"]["_buffers"] = {"cache": WEIGHT, "kept": WEIGHT.clone()}
    assert list(read_checkpoint(saved(content(ema))).state_dict) == ["w", "kept"]


def test_arrays_under_the_name_of_2024_are_read(saved):
    data = files.small_file()
    old = data.replace(b"\x8c\x16numpy._core.multiarray", b"\x8c\x15numpy.core.multiarray")
    assert len(old) == len(data) - 1
    # One byte less in the only frame.
    position = old.index(b"\x95") + 1
    length = struct.unpack("<Q", old[position : position + 8])[0] - 1
    old = old[:position] + struct.pack("<Q", length) + old[position + 8 :]
    read = read_checkpoint(saved(old)).latent_scaling
    assert read == read_checkpoint(saved(data)).latent_scaling


def test_a_network_of_pixels_has_no_latent_scaling(tmp_path):
    files.write(tmp_path / "net.pkl", latent_scaling=None)
    assert read_checkpoint(tmp_path / "net.pkl").latent_scaling is None


def test_memory_is_that_of_the_weights(tmp_path):
    files.write(tmp_path / "net.pkl", files.TINY | {"model_channels": 256})
    size = (tmp_path / "net.pkl").stat().st_size
    assert size > 8 * MEGABYTE
    read_checkpoint(tmp_path / "net.pkl")
    tracemalloc.start()
    checkpoint = read_checkpoint(tmp_path / "net.pkl")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert checkpoint.state_dict
    assert peak < 1.1 * size + 4 * MEGABYTE


def test_the_hash_is_compared_before_anything_else(saved):
    path = saved(b"nonsense")
    with pytest.raises(UnsafeCheckpointError, match="not the expected 00"):
        read_checkpoint(path, expected_sha256="0" * 64)
    with pytest.raises(UnsafeCheckpointError, match="64 hexadecimal digits"):
        read_checkpoint(path, expected_sha256="abc")
    path = saved(files.small_file())
    digest = read_checkpoint(path).sha256
    assert read_checkpoint(path, expected_sha256=f" {digest.upper()}\n").sha256 == digest


# --- files that ask for more ---


def test_a_payload_is_refused_by_name_wherever_it_hides(saved, tmp_path):
    marker = tmp_path / "ran"
    ema = module(parameters={"w": WEIGHT})
    nested = view(pickle.dumps(evil(marker), protocol=2), 0, (1,), (1,))
    for whole in (
        evil(marker),
        content(evil(marker)),
        content(ema, encoder=evil(marker)),
        content(ema, unused=[evil(marker)]),
        content(module(parameters={"w": nested})),
        content(ema, unused=nested),
    ):
        refuse(saved(whole), r"'posix\.system'")
    refuse(saved(content(ema, x=Asks(exec, "1"))), r"'builtins\.exec'")
    refuse(saved(content(ema, x=Asks(getattr, 1, "real"))), r"'builtins\.getattr'")
    refuse(
        saved(content(module(parameters={"w": Asks(torch.load, "x")}))), r"'torch\.serialization"
    )
    assert not marker.exists()


def test_the_classes_of_storages_are_known_inside_storages_only(saved):
    refuse(saved(content(module(), x=torch.HalfStorage)), r"'torch\.HalfStorage'")
    inner = pickle.dumps(torch._utils._rebuild_tensor_v2, protocol=2)
    refuse(
        saved(content(module(parameters={"w": view(inner, 0, (1,), (1,))}))), "_rebuild_tensor_v2"
    )


@pytest.mark.parametrize(
    ("offset", "sizes", "strides"),
    [
        (0, (7,), (1,)),
        (1, (6,), (1,)),
        (7, (0,), (1,)),
        (0, (2, 3), (4, 1)),
        (0, (2,), (2**62,)),
        (0, (2**40, 2**40), (0, 0)),
        (-1, (2,), (1,)),
        (0, (-1,), (1,)),
        (0, (2,), (-1,)),
        (0, (2, 3), (1,)),
        (0, (1,) * 70, (1,) * 70),
        (0, (True,), (1,)),
        (0.0, (2,), (1,)),
        (0, ("a",), (1,)),
        (0, [2], [1]),
        (2**100, (2,), (1,)),
    ],
)
def test_tensors_do_not_reach_beyond_their_storage(saved, offset, sizes, strides):
    bad = view(storage_bytes(WEIGHT), offset, sizes, strides)
    refuse(saved(content(module(parameters={"w": bad}))), "damaged")


def test_the_elements_of_a_storage_are_not_used_again_and_again(saved):
    """A large storage is shared by thousands of tensors, or spread out by strides of 0."""
    shared = Asks(torch.storage._load_from_bytes, storage_bytes(torch.zeros(200_000).half()))
    many = {f"w{i}": view(shared, 0, (200_000,), (1,)) for i in range(1000)}
    refuse(saved(content(module(parameters=many))), "same elements many times")
    wide = view(storage_bytes(WEIGHT), 0, (2**30,), (0,))
    refuse(saved(content(module(parameters={"w": wide}))), "same elements many times")


def test_storages_hold_what_they_claim(saved):
    good = storage_bytes(WEIGHT)
    count = struct.pack("<q", 6)
    for bad in (
        good[:-1],
        good + b"\0",
        good.replace(count, struct.pack("<q", 7)),
        good.replace(count, struct.pack("<q", -1)),
        good.replace(b"K\x06Nt", b"K\x07Nt"),
        good.replace(b"K\x06Nt", b"\x88Nt\0"),
        good.replace(b"storageq", b"stroageq"),
        good.replace(b"\x94", b"\x2e"),
        b"",
        good[:100],
    ):
        if bad == good:
            continue
        path = saved(content(module(parameters={"w": view(bad, 0, (6,), (1,))})))
        refuse(path, "damaged|not one of 2 to 5|Fetch it again")
    big = good.replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89")
    refuse(saved(content(module(parameters={"w": view(big, 0, (6,), (1,))}))), "little endian")


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (1, "not a tensor"),
        ("w", "not a tensor"),
        ([], "not a tensor"),
        (np.ones(2), "not a tensor"),
    ],
)
def test_weights_that_are_no_tensors_are_refused(saved, weight, message):
    refuse(saved(content(module(parameters={"w": weight}))), message)


def test_cycles_and_deep_nesting_end(saved):
    ema = module(parameters={"w": WEIGHT})
    ema.meta["state"]["_modules"]["self"] = ema
    # Through a reducer Python itself writes no cycle; close it by hand in the modules dictionary.
    around = content(module(modules={}))
    ring = around["ema"].meta["state"]["_modules"]
    ring["part"] = official_pickle.nn.ModuleDict.__new__(official_pickle.nn.ModuleDict)
    ring["part"].__dict__["_modules"] = ring
    refuse(saved(around), "a part of itself")
    loop = []
    loop.append(loop)
    refuse(saved(content(module(kwargs={"a": loop}))), "contains itself")
    for opening, closing in ((b"]", b"a"), (b"]", b"\x85")):
        depth = 200_000 if closing == b"a" else 100_000
        data = b"\x80\x04" + opening * depth + closing * (depth - 1) + b"."
        if closing == b"\x85":
            data = b"\x80\x04N" + closing * depth + b"."
        refuse(saved(data), "objects beside|not a dictionary")
    tuples = b"\x80\x04}\x8c\x03ema" + b"N" + b"\x85" * 50_000 + b"s."
    refuse(saved(tuples), "not an object with a class")


def test_what_refers_to_itself_many_times_does_not_grow(saved):
    """Forty levels, each twice the one below: 2^40 visits if they were made."""
    value = [1]
    for _ in range(20):
        value = [value, value, value, value]
    refuse(saved(content(module(kwargs={"a": value}))), "objects beside")
    part = module(parameters={"w": WEIGHT})
    for _ in range(24):
        outer = official_pickle.nn.ModuleDict.__new__(official_pickle.nn.ModuleDict)
        outer.__dict__["_modules"] = {"a": part, "b": part}
        part = outer
    refuse(saved(content(module(modules={"p": part}))), "objects beside|same elements")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x80\x04Nr" + struct.pack("<I", 2**32 - 1) + b".", "not a dictionary"),  # memo bomb
        (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".", "opcode 0x96"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b".", "cut short"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**64 - 1) + b".", "cut short"),
        (b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b".", "cut short"),
        (b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.", "cut short"),
        (b"\x80\x04\x8b" + struct.pack("<I", 2**31 - 1) + b".", "opcode 0x8b"),
        (b"\x80\x04\x8a\xff" + b"\x01" * 255 + b".", "integer of 255 bytes"),
        (b"\x80\x04\x82\x01.", "opcode 0x82"),
        (b"\x80\x04" + b"}" * 200_000 + b".", "objects beside"),
        (b"\x80\x04" + b"N" * 800_000 + b".", "objects beside"),
        (b"\x80\x04X" + struct.pack("<I", 8_000_000) + b"a" * 8_000_000 + b".", "objects beside"),
        (b"\x80\x04N", "cut short"),
        (b"\x80\x04NN.", "left over"),
        (b"\x80\x04.", "not there"),
        (b"\x80\x04(.", "not there"),
        (b"\x80\x04t.", "closes what was not opened"),
        (b"\x80\x04h\x05.", "did not store"),
        (b"\x80\x04}(K\x01K\x02u.", "not text"),
        (b"\x80\x04}(\x8c\x01au.", "holds none"),
        (b"\x80\x04\x8f(K\x01\x90.", "something else than text"),
        (b"\x80\x04NNb.", "takes none"),
        (b"\x80\x04N)R.", "no name"),
        (b"\x80\x04NQ.", "kept elsewhere"),
        (b"\x80\x04Na.", "not there"),
        (b"\x80\x04NNa.", "no list"),
        (b"\x80\x04\x8c\x02\xff\xfe.", "UTF-8"),
        (b"\x80\x06N.", "protocol 6"),
        (b"\x80\x01N.", "protocol 1"),
        (b"(dp0\n.", "does not begin"),
        (b"\x80\x04" + b"c" + b"a" * 5000 + b"\n", "short text"),
        (b"\x80\x04KaKb\x93.", "short text"),
        (b"\x80\x04}.", "no network 'ema'"),
        (b"\x80\x04]." + b"\0", "bytes follow"),
    ],
)
def test_short_programs_that_ask_for_much_or_nonsense(saved, data, message):
    refuse(saved(data), message)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"\n  <html>", "web page"),
        (b'{"error": "not found"}', "error message"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "git lfs pull"),
        (b"PK\x03\x04" + b"\0" * 40, "zip archive"),
        (b"\x1f\x8b" + b"\0" * 40, "gzip"),
        (b"\0" * 100, "does not begin"),
    ],
)
def test_what_comes_instead_of_a_file_is_recognised(saved, data, message):
    refuse(saved(data), message)


def test_missing_files_and_folders_are_refused(tmp_path):
    refuse(tmp_path / "absent.pkl", "cannot be read")
    refuse(tmp_path, "cannot be read")


def test_a_file_cut_anywhere_is_refused(saved):
    data = files.small_file()
    for end in range(1, len(data), 7):
        refuse(saved(data[:end]), "file.pkl: ")


def test_objects_unlike_the_official_ones_are_refused(saved):
    def changed(**meta):
        ema = module(parameters={"w": WEIGHT})
        ema.meta.update(meta)
        return content(ema)

    refuse(saved(changed(type="function")), "class and source")
    refuse(saved(changed(module_src=5)), "class and source")
    refuse(saved(changed(state=[])), "not a dictionary")
    refuse(saved(content(module(kwargs={"a": b"x"}))), "something else than")
    refuse(saved(content(module(kwargs={"a": float("nan")}))), "something else than")
    no_kwargs = module()
    del no_kwargs.meta["state"]["_init_kwargs"]
    refuse(saved(content(no_kwargs)), "does not say what it was made with")
    refuse(saved(content({"a": 1})), "not an object with a class")
    loss = official_pickle.PersistentObject("EDM2Loss", {"P_mean": "a", "P_std": 1.0}, "")
    refuse(saved(content(module(), loss_fn=loss)), "not a vector of numbers")
