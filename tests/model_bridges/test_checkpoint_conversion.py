"""Converted files keep everything of the official ones, or are refused."""

import struct

import official_files as files
import pytest
import torch
from official_files import MEGABYTE, refuse

from model_bridges.checkpoints import UnsafeCheckpointError, convert, read_checkpoint

# --- converted files ---


def test_conversion_keeps_everything(tmp_path):
    files.write(tmp_path / "net.pkl")
    original = convert(tmp_path / "net.pkl", tmp_path / "net.safetensors")
    converted = read_checkpoint(tmp_path / "net.safetensors")
    assert set(original.state_dict) == set(converted.state_dict)
    for name, value in original.state_dict.items():
        assert value.dtype == converted.state_dict[name].dtype
        torch.testing.assert_close(converted.state_dict[name], value, rtol=0, atol=0)
    for field in ("network_kwargs", "sha256", "name", "latent_scaling", "dataset_kwargs", "noise"):
        assert getattr(converted, field) == getattr(original, field)
    assert converted.licence == original.licence
    assert converted.module_sources == original.module_sources
    assert converted.file_sha256 != converted.sha256
    read_checkpoint(tmp_path / "net.safetensors", expected_sha256=converted.file_sha256)
    with pytest.raises(UnsafeCheckpointError, match="not the expected"):
        read_checkpoint(tmp_path / "net.safetensors", expected_sha256=converted.sha256)


def test_conversion_writes_a_new_safetensors_file_or_nothing(tmp_path):
    files.write(tmp_path / "net.pkl")
    for target in ("net.pkl", "net.bin"):
        with pytest.raises(ValueError, match=r"end in \.safetensors"):
            convert(tmp_path / "net.pkl", tmp_path / target)
    (tmp_path / "bad.pkl").write_bytes(b"\x80\x04}.")
    with pytest.raises(UnsafeCheckpointError):
        convert(tmp_path / "bad.pkl", tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_damaged_and_foreign_converted_files_are_refused(tmp_path):
    files.write(tmp_path / "net.pkl")
    convert(tmp_path / "net.pkl", tmp_path / "net.safetensors")
    data = (tmp_path / "net.safetensors").read_bytes()
    path = tmp_path / "bad.safetensors"
    for bad in (
        data[:-1],
        data[:200],
        struct.pack("<Q", 2**40) + data[8:],
        struct.pack("<Q", 15 * MEGABYTE) + data[8:],
        data.replace(b"edm2_checkpoint", b"edm2_checkpoinx"),
        data.replace(b'\\"format\\": 1', b'\\"format\\": 2'),
        data.replace(b'\\"noise\\": [-0.4', b'\\"noise\\": [true'),
        data.replace(b'\\"noise\\": [-0.4', b'\\"noise\\": [NaN '),
        data.replace(b'\\"noise\\": [-0.4, ', b'\\"noise\\": [1e999,'),
        data.replace(b'\\"scale\\": [', b'\\"scalx\\": ['),
        data.replace(b'\\"network_kwargs\\": {', b'\\"network_kwargs\\": [[[{'),
    ):
        assert bad != data
        path.write_bytes(bad)
        refuse(path, "convert")
