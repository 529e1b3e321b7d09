"""`--cluster`: refused where nothing can be shared, stopped with its driver, the same bits as without."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import distributed
import numpy as np
import psutil
import pytest

from gmm_speciation import clusters
from model_bridges.cli import main

ROOT = str(Path(__file__).parents[2])
LONG = "import time, pathlib; pathlib.Path('begun').touch(); time.sleep(600)"
MODEL = """
import os, time, torch
import model_bridges as mb

def denoiser():
    def output(x, step, label):  # one wide class and one narrow
        time.sleep(float(os.environ.get("TEST_DELAY", "0")))
        return x * torch.where(label == 0, 0.3, 0.6).to(x).reshape(-1, 1, 1, 1)
    return mb.from_epsilon(
        output, torch.linspace(0.999, 0.01, 50), event_shape=(1, 2, 2), num_classes=2,
        has_unconditional=False, provenance="two Gaussians",
    )
"""
WORDS = [
    "entropy",
    "of_workers:denoiser",
    "--generate",
    "32",
    "--levels",
    "9",
    "--estimators",
    "tracking",
]


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder that is current here and has a model, which processes started from here find."""
    (tmp_path / "of_workers.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", ROOT)
    return tmp_path


@pytest.fixture(scope="module")
def address():
    with (
        pytest.MonkeyPatch.context() as patch,
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as own,
    ):
        patch.setenv("PYTHONPATH", ROOT)
        yield own.scheduler_address


@pytest.mark.parametrize("command", ["entropy", "windows", "crosscheck", "guidance", "remove"])
def test_workers_need_a_folder(command, capsys):
    assert main([command, "digits", "--cluster", "tcp://127.0.0.1:1"]) == 2
    assert "`--cluster` needs `--folder DIR`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environment", "cluster", "message"),
    [
        ({"RANK": "1", "WORLD_SIZE": "2"}, "tcp://127.0.0.1:1", "not under a launcher"),
        ({}, "nonsense://here", "No Dask scheduler answers at 'nonsense://here'"),
    ],
)
def test_what_cannot_begin_is_refused(environment, cluster, message, tmp_path, monkeypatch, capsys):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    words = ["--cluster", cluster, "--folder", str(tmp_path)]
    assert main(["entropy", "digits", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_missing_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    words = ["--cluster", "tcp://127.0.0.1:1", "--folder", str(tmp_path)]
    assert main(["entropy", "digits", *words]) == 2
    assert 'pip install "gmm-speciation[cluster]"' in capsys.readouterr().err


def test_what_the_driver_does_itself_is_left_out():
    from model_bridges.cli.cluster import _words

    words = [
        "entropy",
        "digits",
        "--cluster",
        "tcp://a:1",
        "--out=x",
        "--folder",
        "f",
        "--out",
        "y",
    ]
    assert list(_words(words)) == ["entropy", "digits", "--folder", "f"]


def child(folder, sign, code):
    (folder / "own.py").write_text(code)
    path = {"PYTHONPATH": os.pathsep.join([ROOT, str(folder)])}
    return clusters.run_child("own", [], str(folder), path, str(sign))


def test_a_child_says_how_it_ended(tmp_path):
    with clusters.sign(tmp_path / "run" / "deep") as (sign, _):
        assert child(tmp_path, sign, "") == (0, "")
        code, words = child(tmp_path, sign, "import sys; sys.exit('error: nothing of the kind')")
        assert (code, words) == (1, "error: nothing of the kind\n")
    with pytest.raises(FileNotFoundError, match="is not there"):
        child(tmp_path, sign, "")
    assert list((tmp_path / "run" / "deep").iterdir()) == []


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("how", ["taken down", "not renewed"])
def test_a_child_stops_with_its_driver(how, tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "PATIENCE", 120.0 if how == "taken down" else 4.0)
    found, before = [], psutil.Process().children()  # of other tests of this process
    with clusters.sign(tmp_path / "run") as (sign, renew):
        thread = threading.Thread(target=lambda: found.append(child(tmp_path, sign, LONG)))
        thread.start()
        until(lambda: renew() or (tmp_path / "begun").exists())
        assert thread.is_alive()
        if how == "not renewed":
            thread.join(60)
    thread.join(60)
    assert found == [(None, "stopped")]
    assert set(psutil.Process().children()) <= set(before)


def test_a_child_ends_when_its_worker_is_killed(tmp_path):
    with clusters.sign(tmp_path / "run") as (sign, _):
        code = (
            "import sys; sys.path.insert(0, sys.argv[1]); from gmm_speciation import clusters; "
            "clusters.run_child('own', [], sys.argv[2], {'PYTHONPATH': sys.argv[1] + ':' + sys.argv[2]}, "
            "sys.argv[3])"
        )
        (tmp_path / "own.py").write_text(LONG)
        worker = subprocess.Popen([sys.executable, "-c", code, ROOT, str(tmp_path), str(sign)])
        until(lambda: (tmp_path / "begun").exists())
        (orphan,) = psutil.Process(worker.pid).children()
        worker.kill()
        worker.wait()
        until(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE)


def curves(out):
    return json.loads((Path(out) / "result.json").read_text())["curves"]


def test_a_cluster_gives_the_same_bits(address, mine, capsys):
    assert main([*WORDS, "--out", "alone", "--quiet"]) == 0
    words = ["--folder", "run/deep", "--cluster", address]
    assert main([*WORDS, *words, "--out", "shared", "--json"]) == 0
    assert curves("shared") == json.loads(capsys.readouterr().out)["curves"] == curves("alone")
    made = {path.parent.parent.name for path in Path("run/deep").rglob("*.chunk")}
    assert {"samples", "tracking"} <= made
    assert not list(Path("run/deep").glob("driver-*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["entropy", "digits", "--levels", "8"], "at least 9 noise levels; got 8"),
        (["windows", "digits", "--levels", "8"], "at least 9 noise levels; got 8"),
        (["crosscheck", "digits", "--levels", "8"], "at least 9 noise levels; got 8"),
        (["entropy", "digits", "--estimators", "trakcing"], "Did you mean 'tracking'"),
        (["entropy", "digits", "--preset", "nothing"], "Unknown preset 'nothing'"),
        (["windows", "digits", "--mass", "2"], "`--mass` must lie inside (0, 1); got 2"),
        (["crosscheck", "digits", "--covariance", "none"], "Unknown covariance 'none'"),
        (["guidance", "digits", "--scale", "1"], "must be above 1, unguided; got 1.0"),
        (["guidance", "digits", "--scale", "inf"], "must be above 1, unguided; got inf"),
        (["remove", "digits", "--kind", "NPP"], "Unknown kind 'NPP'"),
        (["entropy", "of_workers:denoiser"], "`--generate N`"),
        (["remove", "of_workers:denoiser"], "`--generate N`"),
        (
            ["entropy", "of_workers:denoiser", "--generate", "8", "--compile"],
            "no torch module was found",
        ),
        (["remove", "digits", "--class", "10"], "must be one of 0 to 9; got 10"),
        (["entropy", "of_workers:nothing", "--generate", "8"], "could not be found"),
    ],
)
def test_what_the_driver_cannot_run_is_refused_before_it_connects(words, message, mine, capsys):
    assert main([*words, "--folder", "run", "--cluster", "nonsense://here"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "scheduler" not in said
    assert not Path("run").exists()


ELSEWHERE = """
import os
if os.environ.get("RANK"):
    {}
from of_workers import denoiser
"""


def test_a_mistake_found_by_a_worker_is_said_once(address, mine, capsys):
    Path("of_rank.py").write_text(ELSEWHERE.format("from of_workers import nothing"))
    words = ["--folder", "run", "--cluster", address]
    assert main(["entropy", "of_rank:denoiser", "--generate", "8", "--quiet", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: On a worker: 'of_rank:denoiser'")
    assert said.count("\n") == 1


def test_a_process_that_is_lost_is_named_by_its_worker(address, mine, capsys):
    Path("dying.py").write_text(ELSEWHERE.format("os.kill(os.getpid(), 9)"))
    words = ["--folder", "run", "--cluster", address]
    assert main(["entropy", "dying:denoiser", "--generate", "8", *words]) == 2
    with distributed.Client(address) as client:
        (worker,) = client.nthreads()
    said = capsys.readouterr().err
    assert f"the process beside {worker} was lost (signal 9)" in said
    assert "All processes on the cluster were lost" in said


def test_a_plan_is_for_as_many_devices_as_workers(address, mine, capsys):
    assert main([*WORDS, "--plan", "--cluster", address, "--devices", "7", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["devices"] == 1


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_time_and_nothing_else(mine, monkeypatch):
    driver = [sys.executable, "-m", "model_bridges.cli", *WORDS, "--generate", "96"]
    subprocess.run([*driver, "--out", "alone", "--quiet"], check=True)
    monkeypatch.setenv("TEST_DELAY", "0.005")
    with distributed.LocalCluster(
        n_workers=4, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        words = ["--folder", "run", "--cluster", cluster.scheduler_address, "--out", "shared"]
        run = subprocess.Popen(
            [*driver, *words],
            env={**os.environ, "TEST_DELAY": "0"},
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: list(Path("run").rglob("*.chunk")) or run.poll() is not None, 300)
        with distributed.Client(cluster) as client:
            name, pid = next(iter(client.run(os.getpid).items()))
        worker = psutil.Process(pid)
        (orphan,) = [one for one in worker.children() if "model_bridges.cli" in one.cmdline()]
        done = len(list(Path("run").rglob("*.chunk")))
        os.kill(worker.pid, signal.SIGKILL)
        until(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE)
        _, said = run.communicate(timeout=500)
        assert run.returncode == 0
        assert f"the worker {name} is gone" in said
    assert len(list(Path("run").rglob("*.chunk"))) > done
    assert curves("shared") == curves("alone")
    entropy = np.asarray(curves("shared")[next(iter(curves("shared")))]["entropy"]["value"])
    assert np.isfinite(entropy).all()
