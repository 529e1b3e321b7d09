"""A file appears whole or not at all, and what a killed writer leaves is removed by the next one."""

import errno
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from gmm_speciation import files
from gmm_speciation.benchmark.rows import appending
from gmm_speciation.files import DiskFullError, beside, write_bytes, write_text, write_whole
from gmm_speciation.reporting.report import Report

WRITERS = {
    "file": """
from gmm_speciation.files import write_whole
def write(temporary):
    with temporary.open("wb") as file:
        for _ in range(200):
            file.write(bytes(2**16))
            file.flush()
        print("written", flush=True)
        time.sleep(60)
write_whole(path, write)
""",
    "report": """
from gmm_speciation.reporting import report
def move(partial, directory):
    print("written", flush=True)
    time.sleep(60)
report._move = move
report.Report("Killed").write(path, {"run": 2})
""",
}


@pytest.fixture
def killed(tmp_path):
    """Kills a process between the end of its writing and the move into place; gives its leftover."""

    def kill(writer, path):
        program = "import sys, time\nfrom pathlib import Path\npath = Path(sys.argv[1])\n"
        command = [sys.executable, "-c", program + WRITERS[writer], str(path)]
        before = set(path.parent.iterdir())
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "written\n"
        (leftover,) = set(path.parent.iterdir()) - before
        # While it lives, another writer of the folder leaves its file alone.
        write_text(path.parent / "other", "other")
        assert leftover.exists()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        return leftover

    return kill


def test_a_writer_killed_while_it_writes_costs_nothing(tmp_path, killed):
    path = tmp_path / "weights"
    write_text(path, "old")
    leftover = killed("file", path)
    assert leftover.stat().st_size == 200 * 2**16
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"
    assert {one.name for one in tmp_path.iterdir()} == {"weights", "other"}


def test_a_report_killed_before_it_is_in_place_costs_nothing(tmp_path, killed):
    out = Report("First").write(tmp_path / "out", {"run": 1})
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    leftover = killed("report", out)
    assert (leftover / "result.json").exists()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    Report("Third").write(out, {"run": 3})
    assert "Third" in (out / "report.md").read_text()
    assert {one.name for one in tmp_path.iterdir()} == {"out", "other"}


@pytest.mark.parametrize("age", [0.0, 2 * 24 * 3600.0])
def test_what_another_host_left_is_removed_when_it_is_old(tmp_path, age):
    leftover = tmp_path / f".weights.{'0' * 8}-1-{'a' * 8}.tmp"
    leftover.write_text("half")
    os.utime(leftover, (time.time() - age,) * 2)
    mine = tmp_path / ".notes.tmp"  # not a name that is given here
    mine.write_text("mine")
    os.utime(mine, (0, 0))
    write_text(tmp_path / "weights", "new")
    assert leftover.exists() == (age == 0)
    assert mine.exists()


def test_content_is_on_the_disk_before_its_name_changes(tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "replace", "link"):
        real = getattr(os, name)

        def watched(*arguments, name=name, real=real):
            done.append(name)
            return real(*arguments)

        monkeypatch.setattr(os, name, watched)
    write_text(tmp_path / "a", "1")
    write_text(tmp_path / "a", "2", replace=False)
    assert done == ["fsync", "replace", "fsync", "fsync", "link", "fsync"]
    assert (tmp_path / "a").read_text() == "1"


@pytest.mark.parametrize("fails", ["write", "fsync"])
def test_a_full_disk_names_the_folder_and_leaves_nothing(tmp_path, monkeypatch, fails):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    def write(temporary):
        temporary.write_bytes(bytes(1000))
        if fails == "write":
            full()

    path = tmp_path / "deeper" / "weights"
    write_bytes(path, b"old")
    if fails == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match=r"the disk is full: weights .*deeper"):
        write_whole(path, write)
    assert path.read_bytes() == b"old"
    assert [one.name for one in path.parent.iterdir()] == ["weights"]
    if fails == "fsync":
        with pytest.raises(DiskFullError, match=r"the disk is full: out .*deeper"):
            Report("Full").write(path.parent / "out", {})
        with (
            appending(path.parent / "rows.jsonl") as rows,
            pytest.raises(DiskFullError, match=r"rows.jsonl .*deeper"),
        ):
            rows.add({"a": 1})


def test_what_is_not_moved_into_place_is_gone(tmp_path):
    def write(temporary):
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a", write)
    with beside(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "part").write_text("half")
    assert not list(tmp_path.iterdir())
    write_text(tmp_path / "file", "")
    with pytest.raises(OSError, match="file"):
        write_text(tmp_path / "file" / "below", "")


def test_a_mode_is_that_of_any_new_file(tmp_path):
    """A temporary file that only its owner may read would stay so when it is in place."""
    write_text(tmp_path / "a", "a")
    (tmp_path / "b").write_text("b")
    np.testing.assert_equal((tmp_path / "a").stat().st_mode, (tmp_path / "b").stat().st_mode)


def test_a_process_that_is_gone_is_known_by_its_number(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert files._is_dead(tmp_path, files._host(), process.pid)
    assert not files._is_dead(tmp_path, files._host(), os.getpid())
    assert not files._is_dead(tmp_path, "another", process.pid)
