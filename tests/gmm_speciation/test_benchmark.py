"""The benchmark: tasks and their truth, scores, and a runner that survives what it runs."""

import json
import subprocess
import sys

import jax
import numpy as np
import psutil
import pytest
from heard import Heard

from gmm_speciation import cli, families
from gmm_speciation.benchmark import Law, Task, isolation
from gmm_speciation.benchmark.catalogue import TASKS
from gmm_speciation.benchmark.cells import Cell, cells, task_of
from gmm_speciation.benchmark.coverage import coverage, long_table, table
from gmm_speciation.benchmark.crowds import crowd_curve, is_crowd
from gmm_speciation.benchmark.isolation import Limits
from gmm_speciation.benchmark.leaderboard import (
    by_dimension,
    by_size,
    by_task,
    leaderboard,
    scored,
)
from gmm_speciation.benchmark.profiles import PROFILES
from gmm_speciation.benchmark.rows import appending, read_rows, rows_file
from gmm_speciation.benchmark.scores import score
from gmm_speciation.benchmark.selection import select
from gmm_speciation.benchmark.sweep import sweep
from gmm_speciation.benchmark.truth import TOLERANCE, compute, truth
from gmm_speciation.entropy import entropy_curve
from gmm_speciation.estimators.base import Kind
from gmm_speciation.estimators.registry import ESTIMATORS, own_estimator
from gmm_speciation.exact import binary_entropy
from gmm_speciation.families import symmetric_pair
from gmm_speciation.reduction import reduce

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

def without():
    return Task.from_data("without", [[0.0], [1.0]], [0, 2])

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

class Dies(Half):
    def curve(self, problem):
        import os
        os._exit(7)

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


@pytest.fixture(autouse=True)
def float64_stays_with_the_command():
    before = jax.config.jax_enable_x64
    yield
    jax.config.update("jax_enable_x64", before)


def test_the_catalogue_is_large_and_its_truth_is_known():
    assert len(TASKS) >= 24
    for id, task in TASKS.items():
        curve = truth(task)
        low, high = curve.entropy.interval()
        assert np.max(high - low) / 2 <= TOLERANCE, id
        assert np.all(np.diff(curve.entropy.value) > -3 * TOLERANCE), id  # noise only adds
        assert np.all(curve.entropy.value < curve.prior_entropy + TOLERANCE), id
        assert np.all(curve.rate.value >= 0), id
        curve.window(0.8)


def test_shipped_truths_are_the_integrals_of_their_laws():
    for dim in (16, 4096):
        curve = truth(TASKS[f"pair-d{dim}"])
        kappa = dim / (1 + np.exp(-curve.log_snr))
        # alpha^2 + sigma^2 = 1 and unit variance: kappa = alpha^2 d.
        np.testing.assert_allclose(curve.entropy.value, binary_entropy(kappa), atol=1e-8)
    unequal = truth(TASKS["pair-w0.999"])
    kappa = 16 / (1 + np.exp(-unequal.log_snr))
    np.testing.assert_allclose(unequal.entropy.value, binary_entropy(kappa, 0.999), atol=1e-8)


def test_sobol_points_of_the_state_agree_with_the_reduction():
    """The rule for laws without a statistic, tried on one that has: two paths to one entropy."""
    from gmm_speciation.benchmark import truth as module

    law = Law(symmetric_pair(2))
    grid = np.array([1.0, -1.0])
    curve = module._sobol_curve(law, grid, 2**12)
    exact = binary_entropy(2 / (1 + np.exp(-grid)))
    np.testing.assert_allclose(curve.entropy.value, exact, atol=2e-3)
    error = np.abs(np.asarray(curve.entropy.value) - np.asarray(exact))
    assert np.all(error <= 5 * np.asarray(curve.entropy.stderr) + 1e-9)


def test_a_law_that_brings_its_reduction_is_integrated():
    """Equidistant classes may be a crowd, too, but their integral is exact and quick."""
    means, reduced = (families.equidistant(256, 256, 8.0, reduced=flag) for flag in (False, True))
    law = Law(means, None, reduced)
    assert is_crowd(law)
    task = Task("many", lambda: law, "many", log_snr=np.array([0.0, -1.0, -2.0]))
    assert compute(task).method == "exact"


@pytest.mark.slow
def test_a_crowd_of_points_has_the_entropy_of_its_mixture(rng):
    points, labels = rng.normal(size=(300, 2)), rng.integers(0, 3, 300)
    task = Task.from_data("crowd", points, labels, log_snr=np.array([2.0, 0.0, -2.0]))
    assert is_crowd(task.law)
    curve = crowd_curve(task.law, task.grid, 5e-3)
    expected = entropy_curve(
        reduce(task.law.mixture), task.grid, partition=labels, num_samples=2**14
    )
    for one, other in ((curve.entropy, expected.entropy), (curve.rate, expected.rate)):
        error = np.hypot(one.stderr, other.stderr)
        np.testing.assert_array_less(np.abs(one.value - other.value), 4.5 * error + 1e-5)
    with pytest.raises(ValueError, match="not to 1e-05"):
        crowd_curve(task.law, task.grid, 1e-5, max_rounds=1)


def test_the_truth_of_ones_own_task_is_computed_once(tmp_path):
    task = Task.of("mine", symmetric_pair(2), log_snr=np.array([1.0, -1.0]))
    first = truth(task, tmp_path)
    (kept,) = tmp_path.iterdir()
    content = json.loads(kept.read_text())
    content["entropy"][0] = 0.5
    kept.write_text(json.dumps(content))
    assert float(truth(task, tmp_path).entropy.value[0]) == 0.5
    np.testing.assert_allclose(
        first.entropy.value, binary_entropy(2 / (1 + np.exp(-task.grid))), atol=1e-9
    )


def test_the_truth_has_no_error_and_a_wrong_bound_is_seen():
    curve = truth(TASKS["pair-d16"])
    row = {"task": "pair-d16", "entropy": list(curve.entropy.value), "rate": list(curve.rate.value)}
    row |= {"stderr": [1e-6] * 16, "dof": 20.0}
    exact = score(row, curve, Kind.ESTIMATE)
    assert exact["error"] == exact["peak"] == exact["rate"] == exact["window"] == 0
    assert exact["inside"] == 1
    noisy = {**row, "stderr": None, "noise": [0.004] * 16}
    high = np.asarray(curve.entropy.value) + 0.01
    assert (
        score({**noisy, "entropy": list(high), "rate": None}, curve, Kind.LOWER)["violation"] == 0
    )
    high = {**row, "entropy": list(np.asarray(curve.entropy.value) + 0.01), "rate": None}
    assert score(high, curve, Kind.LOWER)["violation"] == pytest.approx(0.01, abs=1e-5)
    assert score(high, curve, Kind.UPPER)["violation"] == 0
    assert score(high, curve, Kind.ESTIMATE)["inside"] == 0


def test_estimators_are_compared_at_the_same_number_of_samples():
    """Runs with fewer samples do not move a place; they are in the error against n."""
    exact = truth(TASKS["pair-d16"])
    values = np.asarray(exact.entropy.value)
    rows = []
    for name, n, error in (("ross", 64, 0.3), ("ross", 256, 0.01), ("ksg", 256, 0.02)):
        row = {"task": "pair-d16", "estimator": name, "n": n, "seed": 0, "status": "ok"}
        row |= {"entropy": list(values + error), "stderr": None, "rate": None, "seconds": 1.0}
        rows.append(row | {"evaluations": 0})
    estimators = {name: ESTIMATORS[name] for name in ("ross", "ksg")}
    found = scored(rows, {"pair-d16": exact}, estimators)
    first, second = leaderboard(rows, found, estimators)
    assert (first.estimator, second.estimator) == ("ross", "ksg")
    assert first.rmse == pytest.approx(0.01)
    assert by_task(rows, found)["ross", "pair-d16"] == pytest.approx(0.01 / np.log(2))
    assert list(by_size(found)["ross"]) == [64, 256]
    assert by_dimension(found, {"pair-d16": 16})["ross"] == {16: pytest.approx(0.01)}
    assert by_dimension(found[:1], {"pair-d16": 16})["ross"] == {16: pytest.approx(0.3)}


def test_shards_split_the_sweep():
    wanted = cells(["pair-d1", "pair-d16"], list(ESTIMATORS), [256], range(3))
    parts = [[cell for cell in wanted if cell.in_shard(i, 3)] for i in (1, 2, 3)]
    assert sorted(cell for part in parts for cell in part) == sorted(wanted)
    assert all(parts)


def test_selection():
    demo = PROFILES["demo"]
    chosen = select(demo, [], ["ross"], [64], 2)
    assert set(chosen) == {Cell(task, "ross", 64, seed) for task in demo.tasks for seed in (0, 1)}
    full = select(PROFILES["full"], [], [])
    assert {cell.task for cell in full} == set(TASKS)
    assert {cell.estimator for cell in full} == set(ESTIMATORS)
    runs = {id: {(c.num_samples, c.seed) for c in full if c.task == id} for id in TASKS}
    assert {id for id, of in runs.items() if len(of) == 1} == set(PROFILES["full"].once)
    assert sum(len(of) == 4 for of in runs.values()) >= 20
    more = select(PROFILES["full"], ["pair-d100000"], ["qmc"], [64, 128], 3)
    assert len(more) == 6


def test_a_sweep_goes_on_where_it_stopped_and_every_end_is_a_row(own):
    names = ["mine:Half", "mine:Raises", "mine:Dies", "mine:Eats", "mine:Spins"]
    wanted = cells(["mine:small"], names, [16], [0])
    limits = Limits(seconds=7.0, mib=1500.0)
    rows = {row["estimator"]: row for row in sweep(wanted[:2], own / "out", limits=limits, jobs=1)}
    path = rows_file(own / "out")
    before = path.read_text()
    path.write_text(before + '{"task": "mine:small", "estim')  # killed while it wrote
    heard = Heard()
    rows |= {
        row["estimator"]: row
        for row in sweep(
            wanted,
            own / "out",
            limits=limits,
            jobs=1,
            progress=heard,
        )
    }
    assert heard.parts == [(1, 3), (2, 3), (3, 3)]
    assert [note.partition(" on ")[0] for note in heard.notes] == names[2:]
    assert path.read_text().startswith(before)
    status = {name: rows[name]["status"] for name in names}
    assert list(status.values()) == ["ok", "failed", "crashed", "memory", "time-out"]
    assert rows["mine:Raises"]["message"] == "ValueError: two lines"
    assert "code 7" in rows["mine:Dies"]["message"]
    assert len(read_rows(own / "out")) == 5
    good = rows["mine:Half"]
    assert {"seconds", "peak_mib", "evaluations", "versions", "device", "date"} <= set(good)
    truths = {"mine:small": truth(task_of("mine:small"))}
    estimators = {name: own_estimator(name) for name in names}
    (line,) = leaderboard(
        list(rows.values()), scored(list(rows.values()), truths, estimators), estimators
    )
    assert (line.estimator, line.tasks, line.failed) == ("mine:Half", 1, 0)


def test_what_ran_out_of_time_is_not_started_with_more_samples(own):
    """The row says why; fewer samples, and other estimators, are tried."""
    from gmm_speciation.benchmark.sweep import _Beyond

    wanted = cells(["mine:small"], ["mine:Half", "mine:Spins"], [16, 32], [0, 1])
    path = rows_file(own / "out")
    stopped = {"task": "mine:small", "estimator": "mine:Spins", "n": 16, "seed": 0}
    stopped |= {"status": "time-out", "message": "stopped after 40 s", "seconds": 40.0}
    with appending(path) as file:
        file.add(stopped)
    rows = sweep(wanted, own / "out", jobs=1)
    spins = [row for row in rows if row["estimator"] == "mine:Spins" and row != stopped]
    assert [row["status"] for row in rows if row["estimator"] == "mine:Half"] == ["ok"] * 4
    assert {row["message"] for row in spins} == {
        "not started: stopped after 40 s, at n = 16, seed 0"
    }
    assert _Beyond(rows).row_of(Cell("mine:small", "mine:Spins", 8, 0)) is None


def test_coverage_tells_a_bias_from_a_narrow_interval():
    """Three estimators: honest, five standard errors off, and half as wide as it should be."""
    exact = truth(TASKS["pair-d16"])
    level = int(np.argmin(np.abs(exact.entropy.value - exact.prior_entropy / 2)))
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(100):
        for name, shift, claimed in (("honest", 0, 1), ("shifted", 5, 1), ("narrow", 0, 0.5)):
            values = np.asarray(exact.entropy.value).copy()
            values[level] += 0.01 * (rng.normal() + shift)
            rows.append(
                {"task": "pair-d16", "estimator": name, "n": 256, "seed": seed, "status": "ok"}
                | {"entropy": list(values), "stderr": [0.01 * claimed] * 16, "dof": 1e9}
            )
    found = coverage(rows, {"pair-d16": exact})
    assert [one.verdict for one in found] == ["holds", "no: biased", "no: narrow"]
    assert found[1].bias["pair-d16"] == pytest.approx(0.05, abs=0.005)
    assert len(table(found)) == len(long_table(found)[1]) == 3


def test_a_child_ends_with_its_sweep(own):
    """Killed while a cell runs: the child is gone soon after, though it never looks at its stdin."""
    program = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-m', "
        "'gmm_speciation.benchmark.worker'], stdin=subprocess.PIPE, stdout=subprocess.PIPE); "
        'child.stdout.readline(); child.stdin.write(b\'["mine:small", "mine:Spins", 16, 0]\\n\'); '
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
    row = {"task": "pair-d16", "estimator": "tracking", "n": 16, "seed": 0}
    with appending(path) as file:
        file.add(row)
    assert read_rows(tmp_path) == [row]


def test_a_second_sweep_of_one_folder_is_refused(tmp_path):
    path = rows_file(tmp_path)
    with appending(path), pytest.raises(ValueError, match="Another sweep"), appending(path):
        pass


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
    assert {"rows.jsonl", "report.html", "scores.csv", "leaderboard.csv", "heatmap.png"} <= names
    before = (tmp_path / "rows.jsonl").read_text()
    assert cli.main([*words, "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "rows.jsonl").read_text() == before


BAD = [
    (["--task", "pair-d15"], "Did you mean 'pair-d1"),
    (["--estimator", "rosss"], "Did you mean 'ross'?"),
    (["--profile", "ful"], "Did you mean 'full'?"),
    (["--num-samples", "1"], "must be at least 2"),
    (["--num-samples", "many"], "whole numbers"),
    (["--shard", "3/2"], "1 <= i <= n"),
    (["--shard", "one"], "`--shard` takes I/N"),
    (["--jobs", "0"], "must be positive"),
    (["--estimator", "nowhere:X"], "cannot be loaded"),
    (["--task", "math:pi"], "must return a gmm_speciation.benchmark.Task"),
    (
        ["--task", "mine:unfinite"],
        "Task 'mine:unfinite': Data must be finite; 1 of 2 rows are not.",
    ),
    (
        ["--task", "mine:without"],
        "Task 'mine:without': Class labels must be 0..C-1 with no class empty",
    ),
    (["--task", "mine:breaks"], "Task 'mine:breaks': KeyError: 'x'"),
    (["--task", "mine:late"], "Task 'mine:late': `means` must be finite."),
    (["--task", "mine:lawless"], "Task 'mine:lawless': "),
    (["--task", "mine:upward"], "Task 'mine:upward': `log_snr` must decrease strictly"),
    (
        ["--task", "mine:uninformed"],
        "Task 'mine:uninformed': Noise takes nothing from these classes",
    ),
]


@pytest.mark.parametrize(("words", "says"), BAD)
def test_a_mistake_is_one_line_and_exit_code_2(own, capsys, words, says):
    assert cli.main(["benchmark", *words, "--out", str(own / "out")]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("x", "labels", "says"),
    [
        ([[0.0], [np.nan]], [0, 1], "must be finite; 1 of 2 rows"),
        ([[0.0], [1.0]], [0, 2], "class 1 is empty"),
        ([[0.0], [1.0]], [0], "one label each"),
    ],
)
def test_bad_data_of_ones_own_are_named(x, labels, says):
    with pytest.raises(ValueError, match=says):
        Task.from_data("mine", x, labels)


def test_a_task_needs_a_name_that_can_name_a_file():
    with pytest.raises(ValueError, match="small letters"):
        Task.of("Mine/own", symmetric_pair(2))


def test_the_list_names_everything_and_what_is_missing(capsys):
    assert cli.main(["benchmark", "list"]) == 0
    shown = capsys.readouterr().out.replace("\n", " ")
    for word in ("pair-d100000", "digits", "qmc", "minde", "Ding & Ashok 2021"):
        assert word in shown


def test_a_dimension_without_a_speciation_time_is_named(tmp_path, capsys):
    words = ["log-law", "--family", "equal-means", "--dims", "4,8", "--seeds", "2"]
    assert cli.main(["benchmark", *words, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "equal means, d = 4: no speciation time" in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_the_commands_of_coverage_and_log_law_report(tmp_path, capsys):
    words = ["coverage", "--estimator", "posterior", "--estimator", "tracking-forced"]
    words += ["--seeds", "8", "--jobs", "1", "--out", str(tmp_path / "a")]
    assert cli.main(["benchmark", *words]) == 0
    shown = capsys.readouterr().out
    assert "holds" in shown
    assert "biased" in shown
    words = ["log-law", "--family", "separated-means", "--dims", "4,8,16", "--seeds", "2"]
    words += ["--steps", "300", "--paths", "128", "--out", str(tmp_path / "b")]
    assert cli.main(["benchmark", *words]) == 0
    assert "half entropy" in capsys.readouterr().out
    assert (tmp_path / "b" / "log-law.png").exists()
    kept = sorted((tmp_path / "b" / "trained").iterdir())
    dates = [path.stat().st_mtime for path in kept]
    assert cli.main(["benchmark", *words]) == 0
    assert dates == [path.stat().st_mtime for path in kept]  # nothing was trained again


@pytest.mark.slow  # all but the digits, which take half an hour
@pytest.mark.parametrize("id", [id for id in TASKS if id != "digits"])
def test_every_shipped_truth_is_computed_again(id):
    again, shipped = compute(TASKS[id]), truth(TASKS[id])
    np.testing.assert_allclose(again.log_snr, shipped.log_snr, atol=1e-4)
    np.testing.assert_allclose(again.entropy.value, shipped.entropy.value, atol=3 * TOLERANCE)
