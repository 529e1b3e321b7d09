"""Files of others: every damage is one line of one kind of error, found before any work."""

import io
import json
import os
import zipfile

import numpy as np
import pytest

from gmm_speciation.reading import parse_json, read_array, read_arrays, read_bytes, read_json


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ('{"a": {"b": 1, "c": 2, "b": 1}}', "'b' stands twice"),
        ("[" * 100_000, "nested more than"),
        ('{"a":' * 100_000, "nested more than"),
        ('{"a": NaN}', "finite; got NaN"),
        ('{"a": -Infinity}', "finite; got -Infinity"),
        ('{"a": 1e400}', "finite; got 1e400"),
        ('{"a": 1' + "0" * 400 + "}", "fit 64 bits"),
        ('{"a": ' + "1" * 5000 + "}", "fit 64 bits"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"\\udfff": 1}', "surrogate"),
        ('{"' + "x" * 100_000 + '": 1}', "at most 10000 characters"),
        ("{", "not JSON"),
        ("", "not JSON"),
        (b"\xff\xfe{\x00", "not JSON"),
        (b"\x80abc", "not JSON"),
    ],
)
def test_json_that_means_two_things_or_none_is_refused(text, says):
    with pytest.raises(ValueError, match=says) as error:
        parse_json(text, "groups.json")
    assert "groups.json" in one_line(error)


def test_json_that_is_fine_comes_back(tmp_path):
    content = {"a": [1, -2.5, True, None, {"b": 'x"[[[{\\'}], "é\U0001f600": 2**63, "": []}
    path = tmp_path / "fine.json"
    for encoding in ("utf-8", "utf-8-sig"):
        for ascii_only in (True, False):
            path.write_text(json.dumps(content, ensure_ascii=ascii_only), encoding=encoding)
            assert read_json(path) == content
    # Brackets inside text are not nesting.
    assert parse_json(json.dumps(["[" * 1000]), "x") == ["[" * 1000]


ARRAYS = {
    "a": np.arange(6.0).reshape(2, 3),
    "columns first": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(3, 2)),
    "scalar": np.float32(3),
    "empty": np.zeros((0, 3)),
    "swapped": np.arange(3, dtype=">f8"),
    "half": np.arange(3, dtype=np.float16),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back_as_numpy_reads_them(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    found = read_arrays(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as expected:
        assert set(found) == set(expected.files)
        for name in found:
            np.testing.assert_array_equal(found[name], expected[name])
            assert found[name].dtype.isnative
            assert found[name].dtype == expected[name].dtype.newbyteorder("=")


def saved(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def archive(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members:
            file.writestr(name, content)
    return buffer.getvalue()


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


WHOLE = saved(a=np.arange(100.0), b=np.arange(5))
HUGE = npy(np.zeros(3)).replace(b"'shape': (3,), }", b"'shape': (9999999999,), }")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        WHOLE[: len(WHOLE) // 2],
        WHOLE[:-30],
        WHOLE.replace(np.arange(100.0).tobytes()[80:160], b"\x00" * 80),  # checksum
        npy(np.arange(3)),  # a renamed .npy
        archive([("a.npy", b"")]),
        archive([("a.npy", b"hello")]),
        archive([("a.npy", HUGE)]),
        archive([("a.npy", npy(np.arange(3.0)) + b"more")]),
        archive([("a.npy", npy(np.arange(3.0))[:-1])]),
        archive([("a.npy", npy(np.arange(3.0))), ("a.npy", npy(np.arange(4.0)))]),
        saved(a=np.array(["1", "2"])),
        saved(a=np.array([1 + 2j])),
        saved(a=np.array([{}], object)),
        saved(a=np.array([(1, 2.0)], "i4,f8")),
        saved(a=np.array(["2024-01-01"], "datetime64[D]")),
    ],
)
def test_archives_that_are_damaged_or_of_another_kind_are_refused(tmp_path, content):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not an archive of plain arrays") as error:
        read_arrays(path)
    assert "a.npz" in one_line(error)


def test_what_is_read_is_bounded_before_it_is_read(tmp_path):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, a=np.zeros(1_000_000))
    assert path.stat().st_size < 20_000
    with pytest.raises(ValueError, match="the most is 1000000"):
        read_arrays(path, largest=1_000_000)
    np.save(tmp_path / "a.npy", np.zeros(1000))
    np.testing.assert_array_equal(read_array(tmp_path / "a.npy"), np.zeros(1000))
    with pytest.raises(ValueError, match="the most is 100"):
        read_array(tmp_path / "a.npy", largest=100)
    with pytest.raises(ValueError, match="at most 10 bytes"):
        read_bytes(path, 10)


@pytest.mark.parametrize("read", [read_json, read_arrays, read_array])
def test_what_would_be_waited_for_is_refused(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    for path, says in (
        (tmp_path / "pipe", "pipe"),
        (tmp_path, "a folder"),
        (tmp_path / "none", "no file"),
    ):
        with pytest.raises(ValueError, match=says) as error:
            read(path)
        one_line(error)
