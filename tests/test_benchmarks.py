"""The benchmark script measures what it says and keeps what fails; no speed is asserted here."""

import json
import math
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def modules(monkeypatch):
    """The script's folder as the place to import from, as it is when the script runs."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def run(*arguments):
    command = [sys.executable, str(BENCHMARKS / "speed.py"), "--quick", "--repeats", "1"]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)


def test_the_script_stores_rows_accuracy_and_where_they_come_from(tmp_path):
    rows = "isotropic score,accuracy"
    done = run("--out", tmp_path, "--rows", rows)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "speed-cpu.json").read_text())
    assert {"jax", "jaxlib", "numpy", "scipy", "torch"} <= set(content["stamp"]["versions"])
    assert content["stamp"]["processor"]
    scores = [row for row in content["rows"] if "score" in row["work"]]
    assert scores
    for row in scores:
        assert not row["failure"], row["failure"]
        assert row["value"] == pytest.approx(row["seconds"] / row["reference_seconds"])
    ours = [e for e in content["accuracy"] if e["library"] == "gmm-speciation"]
    assert {(e["dim"], e["offset"]) for e in ours} == {(d, o) for d in (64,) for o in (0, 1, 10)}
    assert max(e["error"] for e in ours) < 2e-6
    for error in content["accuracy"]:  # every library computes the same posterior
        assert error["failure"] or error["error"] < 1e-2
    assert "isotropic score" in (tmp_path / "speed.md").read_text()


def test_a_ratio_is_that_of_the_two_works(modules):
    """Two sleeps, one three times the other; each run lasts the asked time, the median is the ratio."""
    import time

    from timing import Effort, paired

    effort = Effort(min_seconds=0.01, num_pairs=6, row_seconds=5.0)
    measured = paired(lambda: time.sleep(0.006), lambda: time.sleep(0.002), effort)
    low, high = measured.quartiles
    assert low <= measured.value <= high
    assert 2 < measured.value < 3.5  # a sleep lasts a little longer than asked
    assert measured.num_pairs == 6
    assert measured.seconds >= 0.006
    assert measured.reference_seconds >= 0.002


def test_calls_are_repeated_until_a_run_is_long_enough(modules):
    import time

    from timing import num_calls

    assert num_calls(lambda: time.sleep(0.02), 0.01) == 1
    assert num_calls(lambda: None, 0.01) >= 5


def test_a_row_that_raises_is_stored_with_its_message(modules):
    import speed
    import tables
    from cases import Row

    def fail():
        raise ValueError("no such thing")

    mark = {"date": "now", "commit": "abc"}
    row = speed.record(Row("curves", "work", "K = 2", fail, target=1.0), mark)
    assert row["value"] is None
    assert row["failure"] == "ValueError: no such thing"
    assert tables.number(row) == tables.verdict(row) == "failed"


@pytest.mark.parametrize("library", ["gmm-speciation", "scikit-learn", "numpyro", "torch", "gmmx"])
def test_libraries_agree_on_full_covariances(modules, library):
    """Each library's natural form is set up as the same mixture."""
    from cases import matrices_for, means_for
    from others import LIBRARIES, Unavailable, posterior_of
    from scipy.stats import multivariate_normal

    assert library in LIBRARIES
    means, covariances = means_for(3, 5, np.float32), matrices_for(3, 5, np.float32)
    x = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    density = np.stack(
        [multivariate_normal(m, c).pdf(x) for m, c in zip(means, covariances, strict=True)], 1
    )
    expected = density / density.sum(1, keepdims=True)
    try:
        with jax.numpy_rank_promotion("allow"):  # as other libraries expect it
            posterior = np.asarray(posterior_of(library, x, means, covariances)())
    except Unavailable as reason:
        pytest.skip(str(reason))
    np.testing.assert_allclose(posterior.reshape(7, 3), expected, atol=1e-5)


def test_quartiles_of_nothing_are_refused(modules):
    from timing import Measured

    assert Measured.of([1.0, 2.0, 3.0]).value == 2.0
    with pytest.raises(ValueError, match="finite values"):
        Measured.of([math.nan])


def test_tables_of_the_estimators_come_from_what_is_stored(modules, tmp_path):
    """Rendered from the results in the repository, into a page with marks, and refused without them."""
    import estimators

    page = tmp_path / "page.md"
    names = ("coverage", "log-law")
    marks = [f"<!-- {name}: begin -->\nto be replaced\n<!-- {name}: end -->" for name in names]
    page.write_text("\n".join(["a", *marks, "b\n"]))
    estimators.main(tmp_path / "nowhere", BENCHMARKS / "results", page)
    text = page.read_text()
    assert text.startswith("a\n")
    assert text.endswith("b\n")
    assert "to be replaced" not in text
    assert "| `qmc` |" in text
    assert "| `tracking-ratio` |" in text
    assert "| separated means, half entropy | 0.5 |" in text
    page.write_text("nothing here\n")
    with pytest.raises(ValueError, match="coverage: begin"):
        estimators.main(tmp_path / "nowhere", BENCHMARKS / "results", page)


def test_the_parts_of_minde_add_up_to_what_it_says(modules):
    """The networks of the estimator itself, at the cleanest level."""
    from minde import PARTS, parts_of

    from gmm_speciation.benchmark.cells import Cell
    from gmm_speciation.benchmark.worker import run_cell

    said = run_cell(Cell("pair-d1", "minde", "clean", 64, 0))["entropy"][0]
    parts = parts_of("pair-d1", 64)
    assert tuple(parts) == PARTS
    assert sum(parts.values()) == pytest.approx(1 - said / math.log(2), abs=1e-4)
    assert min(parts["true gap"], parts["conditional"], parts["unconditional"]) > 0


def test_a_finding_that_the_numbers_do_not_carry_is_refused(modules):
    """Half the error on eight tasks of eight families; a third seed of one side alone does not enter."""
    from findings import FAMILIES, Ratio, Said, Side, row

    tasks = list({family: task for task, family in FAMILIES.items()}.values())
    near, far = Side("near", "clean"), Side("far", "clean")
    errors = {
        near: {task: {0: 0.01, 1: 0.02, 2: 0.3} for task in tasks},
        far: {task: {0: 0.02, 1: 0.04} for task in tasks},
    }
    shown = row(Ratio(near, far, Said.NEARER), errors)
    assert shown[1:] == ["0.50", "0.50 to 0.50", "0.50 to 0.50", "100 %", "16", "8"]
    assert row(Ratio(far, near, Said.FARTHER), errors)[1] == "2.0"
    for wrong in (Said.FARTHER, Said.OPEN):
        with pytest.raises(ValueError, match=f"is 0.5, nearer, and a finding says {wrong.value}"):
            row(Ratio(near, far, wrong), errors)
    errors[far] = {task: {0: 0.02} if n % 2 else {0: 0.005} for n, task in enumerate(tasks)}
    assert row(Ratio(near, far, Said.OPEN), errors)[4] == "50 %"
    with pytest.raises(ValueError, match=r"'absent'.* is not among the stored cells"):
        row(Ratio(near, Side("absent", "clean"), Said.OPEN), errors)


def test_the_pages_show_the_stored_results(modules, tmp_path):
    """Rendering again changes nothing."""
    import boards
    import estimators
    import tables

    copy, source = tmp_path / "README.md", BENCHMARKS / "README.md"
    copy.write_text(source.read_text())
    estimators.main(tmp_path / "nowhere", BENCHMARKS / "results", copy)
    boards.main(tmp_path / "nowhere", BENCHMARKS / "results", copy)
    for name in ("README.md", "methods.md", "tasks.md"):
        assert (tmp_path / name).read_text() == (BENCHMARKS / name).read_text()
    for stored in (BENCHMARKS / "results").glob("speed-*.json"):
        (tmp_path / stored.name).write_text(stored.read_text())
    assert tables.write(tmp_path) == (BENCHMARKS / "results" / "speed.md").read_text()
