"""The benchmark's runner, which survives what it runs, and its commands."""

import re
import subprocess
import sys

import numpy as np
import psutil
import pytest
from heard import Heard
from refusals import refused

from gmm_speciation import cli
from gmm_speciation.benchmark import isolation
from gmm_speciation.benchmark.boards import boards, results
from gmm_speciation.benchmark.cells import Cell, cells, task_of
from gmm_speciation.benchmark.isolation import Limits
from gmm_speciation.benchmark.rows import appending, cell_key, read_rows, rows_file
from gmm_speciation.benchmark.sweep import sweep
from gmm_speciation.benchmark.truth import truth

OWN = """
import time
import numpy as np
from gmm_speciation.benchmark import Law, Task
from gmm_speciation.estimate import Estimate
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.estimators import Estimator, Outcome
from gmm_speciation.families import symmetric_pair

def small():
    return Task.of("small", symmetric_pair(2), log_snr=np.array([1.0, 0.0, -1.0, -2.0]))

def unfinite():
    return Task.from_data("unfinite", [[0.0], [np.nan]], [0, 1])

def breaks():
    return {}["x"]

def late():
    return Task("late", lambda: Law(GaussianMixture.isotropic([[0.0], [np.inf]], 1.0)), "late")

def lawless():
    return Task("lawless", lambda: 3, "lawless")

def upward():
    return Task.of("upward", symmetric_pair(2), log_snr=np.array([0.0, 1.0, 2.0]))

def uninformed():
    return Task.of("uninformed", GaussianMixture.isotropic([[0.0], [0.0]], 1.0))

def gapped():
    return Task.of("gapped", symmetric_pair(2), partition=[5, 7])

class Half(Estimator):
    title, reference = "half of what there is", "none"
    def curve(self, problem):
        half = problem.prior_entropy / 2 * np.ones(len(problem.log_snr))
        return Outcome(Estimate(half, 0.01 + 0 * half), has_interval=True)

class Spins(Half):
    def curve(self, problem):
        while True:
            pass

class Eats(Half):
    def curve(self, problem):
        hoard = [np.ones(2**22) for _ in range(400) if not time.sleep(0.01)]
        return hoard

class Keeps(Half):
    hoard = []
    def curve(self, problem):
        self.hoard.append(np.ones(2**24))
        return super().curve(problem)

class Dies(Half):
    def curve(self, problem):
        import os
        os._exit(7)

class Sleeps(Half):
    def curve(self, problem):
        time.sleep(600)

class Raises(Half):
    def curve(self, problem):
        raise ValueError("two\\nlines")
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A user's module in the working directory."""
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("mine", None)
    isolation._own.__dict__.clear()


def test_no_cell_pays_for_the_memory_of_those_before(own):
    """Eight cells that each leave 128 MiB behind, under a cap that fits the libraries and a few of them."""
    wanted = cells(["mine:small"], ["mine:Keeps"], [16], range(8))
    rows = sweep(wanted, own / "out", limits=Limits(seconds=7.0, mib=1000.0), jobs=1)
    assert [row["status"] for row in rows] == ["ok"] * 8


def test_a_sweep_goes_on_where_it_stopped_and_every_end_is_a_row(own):
    names = ["mine:Half", "mine:Raises", "mine:Dies", "mine:Eats", "mine:Spins"]
    wanted = cells(["mine:small"], names, [16], [0])
    limits = Limits(seconds=7.0, mib=1500.0)
    rows = {row["estimator"]: row for row in sweep(wanted[:2], own / "out", limits=limits, jobs=1)}
    path = rows_file(own / "out")
    before = path.read_text()
    path.write_text(before + '{"task": "mine:small", "estim')  # killed while it wrote
    with appending(path):  # another sweep writes
        there = sweep(wanted, own / "out", limits=limits, kept=True)  # of five cells, and none runs
    assert [row["estimator"] for row in there] == names[:2]
    heard = Heard()
    rows |= {
        row["estimator"]: row
        for row in sweep(wanted, own / "out", limits=limits, jobs=1, progress=heard)
    }
    # What failed runs again, what has a result does not.
    assert heard.parts == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [note.partition(" on ")[0] for note in heard.notes] == names[1:]
    assert heard.lines == [
        "1 of 5 runs kept; again: 1 without a result, 0 of other code, versions or limits"
    ]
    assert path.read_text().startswith(before)
    status = {name: rows[name]["status"] for name in names}
    assert list(status.values()) == ["ok", "failed", "crashed", "memory", "time-out"]
    assert rows["mine:Raises"]["message"] == "ValueError: two lines"
    assert "code 7" in rows["mine:Dies"]["message"]
    assert len(read_rows(own / "out")) == 5
    good = rows["mine:Half"]
    assert {"seconds", "peak_mib", "evaluations", "versions", "device", "date"} <= set(good)
    truths = {"mine:small": truth(task_of("mine:small"))}
    (board,) = boards(
        results(list(rows.values()), truths),
        {"mine:small": "own"},
        {"mine:small": truths["mine:small"].prior_entropy},
    )
    first, *others = board.standings
    assert (first.estimator, first.tasks, first.failed) == ("mine:Half", 1, 0)
    # No result is worse than any; a limit of time is told apart from a failure.
    assert all(line.error == np.inf for line in others)
    assert {line.estimator: (line.timed_out, line.failed) for line in others} == {
        name: (1, 0) if name == "mine:Spins" else (0, 1) for name in names[1:]
    }


def test_time_that_others_take_is_not_of_the_limit():
    """A machine so busy that a run gets a tenth of a processor, and one that waits for nothing."""
    assert isolation.counted(elapsed=1200.0, computed=93.0) == 93.0
    assert isolation.counted(elapsed=250.0, computed=240.5) == 240.5
    assert isolation.counted(elapsed=1300.0, computed=2.0) > 240


def test_what_waits_for_nothing_is_stopped_and_says_how_little_it_computed(own, monkeypatch):
    monkeypatch.setattr(isolation, "_PATIENCE", 0.05)
    monkeypatch.setattr(isolation, "_SHORT", 1.0)
    wanted = cells(["mine:small"], ["mine:Sleeps"], [16], [0])
    (row,) = sweep(wanted, own / "out", limits=Limits(seconds=20.0), jobs=1)
    assert row["status"] == "time-out"
    assert re.fullmatch(r"stopped: in \d+ s it computed for \d", row["message"])
    assert row["seconds"] < 20


def test_what_ran_out_of_time_is_not_started_with_more_samples(own):
    """The row says why; fewer samples, and other estimators, are tried."""
    from gmm_speciation.benchmark.sweep import _Beyond

    wanted = cells(["mine:small"], ["mine:Half", "mine:Spins"], [16, 32], [0, 1])
    rows = sweep(wanted, own / "out", limits=Limits(seconds=4.0), jobs=1)
    spins = [row["message"] for row in rows if row["estimator"] == "mine:Spins"]
    assert [row["status"] for row in rows if row["estimator"] == "mine:Half"] == ["ok"] * 4
    assert spins[0] == "stopped after 4 s"
    assert set(spins[1:]) == {"not started: stopped after 4 s, at n = 16, seed 0"}
    beyond = _Beyond()
    for row in rows:
        beyond.add(row)
    assert beyond.row_of(Cell("mine:small", "mine:Spins", "noisy", 8, 0)) is None


def test_an_edit_an_upgrade_or_another_limit_never_leaves_a_stale_row(own, monkeypatch):
    """Of the estimator, of what it imports, of the task or its data, of a version: the cell runs again."""
    from gmm_speciation.benchmark import keys

    def edit(name, old, new):
        path = own / name
        path.write_text(path.read_text().replace(old, new))
        sys.modules.pop(name.removesuffix(".py"), None)

    def run(limits=Limits(seconds=60.0)):  # noqa: B008
        heard = Heard()
        (row,) = sweep(
            cells(["mine:small"], ["other:Part"], [16], [0]),
            own / "out",
            limits=limits,
            jobs=1,
            progress=heard,
        )
        return row["entropy"][0] / float(np.log(2)), len(heard.parts)

    (own / "shares.py").write_text("SHARE = 0.5\n")
    (own / "other.py").write_text(
        "import numpy as np\nfrom mine import Half\n"
        "from gmm_speciation.estimators.base import Outcome\n"
        "from gmm_speciation.estimate import Estimate\n\n"
        "class Part(Half):\n    def curve(self, problem):\n        from shares import SHARE\n"
        "        part = SHARE * 1.0 * problem.prior_entropy * np.ones(len(problem.log_snr))\n"
        "        return Outcome(Estimate(part, 0.01 + 0 * part), has_interval=True)\n"
    )
    assert run() == (pytest.approx(0.5), 1)
    assert run() == (pytest.approx(0.5), 0)
    edit("shares.py", "0.5", "0.25")  # imported inside a function of the estimator
    assert run() == (pytest.approx(0.25), 1)
    edit("other.py", "1.0", "0.5")
    assert run() == (pytest.approx(0.125), 1)
    edit("mine.py", "half of what", "a half of what")  # a parent of the class, and the task
    assert run() == (pytest.approx(0.125), 1)
    assert run() == (pytest.approx(0.125), 0)
    assert run(Limits(seconds=61.0))[1] == 1
    real = keys.versions
    with monkeypatch.context() as patch:
        patch.setattr(keys, "versions", lambda: real() | {"numpy": "0.0"})
        assert run()[1] == 1
    assert run() == (pytest.approx(0.125), 0)  # what these versions made counts again


def test_a_key_follows_the_package_and_stays_where_nothing_it_uses_changed(tmp_path):
    from gmm_speciation.benchmark.keys import Keys

    one, two = Keys(Limits()), Keys(Limits())
    assert one.of("pair-d16", "ross") == two.of("pair-d16", "ross")
    assert len({one.of(*names) for names in (("pair-d16", "ross"), ("pair-d16", "minde"))}) == 2
    followed = set(one.sources)
    assert {"gmm_speciation.estimators.neighbours", "gmm_speciation.mixtures"} <= followed
    assert not any(
        name.startswith(("gmm_speciation.cli", "gmm_speciation.plotting")) for name in followed
    )
    assert not any(name.partition(".")[0] in ("numpy", "jax", "scipy") for name in followed)


def test_an_estimator_that_raises_is_a_row_and_exit_code_1(own, capsys):
    words = ["benchmark", "--task", "pair-d16", "--num-samples", "64", "--jobs", "1"]
    words += ["--estimator", "kt-lower", "--estimator", "mine:Raises", "--out", str(own / "out")]
    assert cli.main(words) == 1
    shown = capsys.readouterr().out
    assert "kt-lower" in shown
    assert "mine:Raises" in shown
    assert "two lines" in shown
    assert "mine:Raises" in (own / "out" / "report.md").read_text()


def test_a_child_ends_with_its_sweep(own):
    """Killed while a cell runs: the child is gone soon after, though it never looks at its stdin."""
    program = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-m', "
        "'gmm_speciation.benchmark.worker'], stdin=subprocess.PIPE, stdout=subprocess.PIPE); "
        'child.stdout.readline(); child.stdin.write(b\'["mine:small", "mine:Spins", "noisy", 16, 0]\\n\'); '
        "child.stdin.flush(); print(child.pid, flush=True); child.wait()"
    )
    sweep = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    child = psutil.Process(int(sweep.stdout.readline()))
    sweep.kill()
    sweep.wait()
    child.wait(30)  # raises where it is still there


def test_a_killed_sweep_leaves_no_lock(tmp_path):
    path = rows_file(tmp_path)
    program = (
        "import pathlib, sys, time; from gmm_speciation.benchmark.rows import appending\n"
        "with appending(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(path)]
    sweep = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert sweep.stdout.readline() == b"held\n"
    with pytest.raises(ValueError, match="Another sweep"), appending(path):
        pass
    sweep.kill()
    sweep.wait()
    row = {**cell_key(Cell("pair-d16", "tracking", "noisy", 16, 0)), "status": "ok"}
    with appending(path) as file:
        file.add(row)
        with pytest.raises(ValueError, match="Another sweep"), appending(path):
            pass  # of the same process, too
    assert read_rows(tmp_path) == [row]


def test_a_dask_cluster_runs_it(own):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        wanted = cells(["mine:small"], ["mine:Half"], [16], [0, 1])
        rows = sweep(wanted, own / "out", cluster=cluster.scheduler_address)
    assert [row["status"] for row in rows] == ["ok", "ok"]


def test_the_command_ranks_reports_and_resumes(tmp_path, capsys):
    words = ["benchmark", "--task", "pair-d16", "--estimator", "kt-lower", "--estimator", "qmc"]
    words += ["--num-samples", "64", "--jobs", "1", "--out", str(tmp_path)]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert "kt-lower" in shown
    names = {path.name for path in tmp_path.iterdir()}
    assert {"rows.jsonl", "report.html", "cells.csv", "boards.csv", "pairs.csv"} <= names
    before = (tmp_path / "rows.jsonl").read_text()
    assert cli.main([*words, "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "rows.jsonl").read_text() == before


BAD = [
    (["--task", "pair-d15"], "Did you mean 'pair-d1"),
    (["--estimator", "rosss"], "Did you mean 'ross'?"),
    (["--profile", "ful"], "Did you mean 'full'?"),
    (["--num-samples", "1"], "must be at least 2"),
    (["--task", "pair-w0.999", "--num-samples", "64"], "pair-w0.999 from 16384"),
    (["--access", "samples"], "Unknown access 'samples'"),
    (["--num-samples", "many"], "whole numbers"),
    (["--shard", "3/2"], "1 <= i <= n"),
    (["--shard", "one"], "`--shard` takes I/N"),
    (["--jobs", "0"], "must be positive"),
    (["--estimator", "nowhere:X"], "could not be found"),
    (["--task", "math:pi"], "must return a gmm_speciation.benchmark.Task"),
]
BAD_TASKS = {
    "mine:unfinite": "Data must be finite; 1 of 2 rows are not.",
    "mine:breaks": "KeyError: 'x'",
    "mine:late": "`means` must be finite.",
    "mine:lawless": "",
    "mine:upward": "`log_snr` must decrease strictly",
    "mine:uninformed": "Noise takes nothing from these classes",
}
BAD_TASKS["mine:gapped"] = "Class labels must be 0..C-1"
BAD += [(["--task", id], f"Task '{id}': {says}") for id, says in BAD_TASKS.items()]


@pytest.mark.parametrize(("words", "says"), BAD)
def test_a_mistake_is_one_line_and_exit_code_2(own, capsys, words, says):
    line = refused(cli.main, ["benchmark", *words, "--out", str(own / "out")], says, capsys)
    assert "site-packages" not in line  # the user's own, not a library's


def test_the_list_names_everything_and_what_is_missing(capsys):
    assert cli.main(["benchmark", "list"]) == 0
    shown = capsys.readouterr().out.replace("\n", " ")
    for word in ("pair-d4096", "digits", "qmc", "minde", "Ding & Ashok 2021"):
        assert word in shown


def test_a_dimension_without_a_speciation_time_is_named(tmp_path, capsys):
    words = ["log-law", "--family", "equal-means", "--dims", "4,8", "--seeds", "2"]
    words = ["benchmark", *words, "--out", str(tmp_path)]
    refused(cli.main, words, "equal means, d = 4: no speciation time", capsys)


@pytest.mark.slow
def test_the_commands_of_coverage_and_log_law_report(tmp_path, capsys):
    words = ["coverage", "--estimator", "posterior", "--estimator", "tracking-forced"]
    words += ["--seeds", "8", "--jobs", "1", "--out", str(tmp_path / "a")]
    assert cli.main(["benchmark", *words]) == 0
    shown = capsys.readouterr().out
    assert "holds" in shown
    assert "biased" in shown
    assert "begins at" not in shown
    words = ["coverage", "--estimator", "posterior", "--seeds", "2", "--num-samples", "32"]
    words += ["--jobs", "1", "--out", str(tmp_path / "few")]
    assert cli.main(["benchmark", *words]) == 0
    assert "pair-w0.9 begins at 256 samples" in " ".join(capsys.readouterr().out.split())
    words = ["log-law", "--family", "separated-means", "--dims", "4,8,16", "--seeds", "2"]
    words += ["--steps", "300", "--paths", "128", "--out", str(tmp_path / "b")]
    assert cli.main(["benchmark", *words]) == 0
    assert "half entropy" in capsys.readouterr().out
    assert (tmp_path / "b" / "log-law.png").exists()
    kept = sorted((tmp_path / "b" / "trained").iterdir())
    dates = [path.stat().st_mtime for path in kept]
    assert cli.main(["benchmark", *words]) == 0
    assert dates == [path.stat().st_mtime for path in kept]  # nothing was trained again
