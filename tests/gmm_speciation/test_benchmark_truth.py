"""The benchmark's tasks: their truth, scores, selection, and data of one's own."""

import json
from dataclasses import replace

import numpy as np
import pytest

from gmm_speciation import families
from gmm_speciation.benchmark import Law, Task
from gmm_speciation.benchmark.catalogue import TASKS
from gmm_speciation.benchmark.cells import Cell, cells
from gmm_speciation.benchmark.coverage import coverage, long_table, table
from gmm_speciation.benchmark.crowds import crowd_curve, is_crowd
from gmm_speciation.benchmark.profiles import PROFILES
from gmm_speciation.benchmark.scores import score
from gmm_speciation.benchmark.selection import select
from gmm_speciation.benchmark.truth import TOLERANCE, compute, truth
from gmm_speciation.entropy import entropy_curve
from gmm_speciation.estimators.base import Kind
from gmm_speciation.estimators.registry import ESTIMATORS
from gmm_speciation.exact import binary_entropy
from gmm_speciation.families import symmetric_pair
from gmm_speciation.mixtures import GaussianMixture
from gmm_speciation.reduction import reduce


def test_the_catalogue_is_large_and_its_truth_is_known():
    assert len(TASKS) >= 24
    families = [task.family for task in TASKS.values()]
    assert max(map(families.count, families)) <= 5 < 2 * min(map(families.count, families)) + 2
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
    row |= {"stderr": [1e-6] * 16, "dof": 20.0, "kind": str(Kind.ESTIMATE)}
    exact = score(row, curve)
    assert exact["error"] == exact["peak"] == exact["rate"] == exact["window"] == 0
    assert exact["inside"] == 1
    noisy = {**row, "stderr": None, "noise": [0.004] * 16}
    high = np.asarray(curve.entropy.value) + 0.01
    lower, upper = {"kind": str(Kind.LOWER)}, {"kind": str(Kind.UPPER)}
    noisy |= {"entropy": list(high), "rate": None}
    assert score(noisy | lower, curve)["violation"] == 0
    high = {**row, "entropy": list(high), "rate": None}
    assert score(high | lower, curve)["violation"] == pytest.approx(0.01, abs=1e-5)
    assert score(high | upper, curve)["violation"] == 0
    assert score(high, curve)["inside"] == 0


def test_one_rule_clips_all_and_keeps_what_was_said():
    """H lies in [0, H(C)]: what is beyond costs no more than its end, and a bound's fault stays a fault."""
    curve = truth(TASKS["pair-d16"])
    row = {"task": "pair-d16", "rate": None, "stderr": None, "noise": None, "dof": 1.0}
    row["kind"] = "lower bound"
    far = score(row | {"entropy": [5.0] * 16}, curve)
    end = score(row | {"entropy": [curve.prior_entropy] * 16}, curve)
    assert far["error"] == end["error"]
    assert far["raw"] > 4 > far["error"]
    assert far["violation"] > 4 > end["violation"]
    below = score(row | {"entropy": [-5.0] * 16}, curve)
    assert below["error"] == score(row | {"entropy": [0.0] * 16}, curve)["error"]


def test_shards_split_the_sweep():
    wanted = cells(["pair-d1", "pair-d16"], list(ESTIMATORS), [256], range(3))
    parts = [[cell for cell in wanted if cell.in_shard(i, 3)] for i in (1, 2, 3)]
    assert sorted(cell for part in parts for cell in part) == sorted(wanted)
    assert all(parts)
    together = [{cell._replace(seed=0) for cell in part} for part in parts]
    assert not together[0] & (together[1] | together[2])  # one compiled program serves all seeds


def test_selection():
    demo = PROFILES["demo"]
    chosen = select(demo, [], ["ross"], [64], 2)
    assert set(chosen) == {
        Cell(task, "ross", access, 64, seed)
        for task in demo.tasks
        for seed in (0, 1)
        for access in ("noisy", "clean")
    }
    assert {c.access for c in select(demo, [], ["ross"], [64], 2, 0, ["clean"])} == {"clean"}
    # Learned estimators are of clean samples; the boards of others are there without them.
    for access in ("noisy", "mixture"):
        assert {c.access for c in select(demo, [], [], None, None, 0, [access])} == {access}
    with pytest.raises(ValueError, match="No task has"):
        select(demo, [], ["ross", "learned-tracking"], None, None, 0, ["mixture"])
    full = select(PROFILES["full"], [], [])
    assert {cell.task for cell in full} == set(TASKS)
    assert {cell.estimator for cell in full} == set(ESTIMATORS)
    assert {cell.num_samples for cell in full if cell.task == "pair-w0.999"} == {16384}
    assert {cell.seed for cell in full} == set(range(5))
    assert {task.family for task in TASKS.values()} == {
        TASKS[cell.task].family for cell in select(PROFILES["small"], [], [])
    }


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


@pytest.mark.parametrize(
    ("x", "labels", "says"),
    [
        ([[0.0], [np.nan]], [0, 1], "must be finite; 1 of 2 rows"),
        ([[0.0], [1.0]], [0, 2], "Class 1 is empty"),
        ([[0.0], [1.0]], [0], "one label each"),
    ],
)
def test_bad_data_of_ones_own_are_named(x, labels, says):
    with pytest.raises(ValueError, match=says):
        Task.from_data("mine", x, labels)


def test_a_curve_of_ones_own_is_on_the_levels_of_its_task():
    mixture = symmetric_pair(2)
    curve = entropy_curve(mixture, np.linspace(3, -3, 16))
    task = Task.of("known", mixture, curve=curve)
    np.testing.assert_array_equal(task.grid, curve.log_snr)
    assert truth(task) is curve
    for levels in (np.linspace(2, -3, 16), np.linspace(3, -3, 8)):
        with pytest.raises(ValueError, match="must be on its levels"):
            Task.of("known", mixture, log_snr=levels, curve=curve)
    other = entropy_curve(
        GaussianMixture.isotropic([[-1.0], [1.0]], 1.0, [0.2, 0.8]), curve.log_snr
    )
    unequal = Task.of("known", mixture, curve=other)
    with pytest.raises(ValueError, match=r"with H\(C\) = 0.693147 nats; got one with 0.50040"):
        truth(unequal)


def test_a_task_needs_a_name_that_can_name_a_file():
    with pytest.raises(ValueError, match="small letters"):
        Task.of("Mine/own", symmetric_pair(2))


@pytest.mark.slow  # all but the digits, which take half an hour
@pytest.mark.parametrize("id", [id for id in TASKS if id != "digits"])
def test_every_shipped_truth_is_computed_again(id):
    """On its levels, which stay as they were when the first runs were made.

    Those of a task without an integral are found among draws, on a scan whose cells are wider than 0.2.
    """
    shipped = truth(TASKS[id])
    close = 0.2 if id == "geometric-k8" else 1e-4
    np.testing.assert_allclose(TASKS[id].grid, shipped.log_snr, atol=close)
    again = compute(replace(TASKS[id], log_snr=shipped.log_snr))
    np.testing.assert_allclose(again.entropy.value, shipped.entropy.value, atol=3 * TOLERANCE)
