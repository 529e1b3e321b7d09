"""Boards: ranks that no third method moves, groups, pairs; samples out and answers in."""

import csv
import itertools
import subprocess
import sys

import numpy as np
import pytest
from made_rows import FAMILIES, PRIORS, SOME, TRUTHS, random_rows, row
from refusals import refused
from scipy.integrate import dblquad
from scipy.stats import chi2

import gmm_speciation as gs
from gmm_speciation import cli
from gmm_speciation.benchmark.boards import boards, by_size, resampled, results
from gmm_speciation.benchmark.catalogue import TASKS
from gmm_speciation.benchmark.exchange import export, read_answers
from gmm_speciation.benchmark.summary import CELL_FIELDS, short_board
from gmm_speciation.benchmark.truth import truth
from gmm_speciation.estimators import Access, problem_of
from gmm_speciation.estimators.registry import ESTIMATORS


def board_of(found):
    (board,) = boards(found, FAMILIES, PRIORS)
    return board


def ranking(rows):
    return board_of(results(rows, TRUTHS))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["estimate", "upper bound", "lower bound"])
def test_no_rank_changes_when_a_third_method_is_dropped(seed, kind):
    """Of bounds, half of the levels are violations."""
    found = results([one | {"kind": kind, "noise": None} for one in random_rows(seed)], TRUTHS)
    order = [line.estimator for line in board_of(found).standings]
    for dropped in order:
        kept = board_of([one for one in found if one.row["estimator"] != dropped])
        assert [line.estimator for line in kept.standings] == [n for n in order if n != dropped]


def test_boards_do_not_depend_on_the_order_of_rows():
    """Shards and stored cells come in any order; the bootstrap and what ties are the same."""
    rows = random_rows(1) + [one | {"estimator": "twin of a"} for one in random_rows(1)[:16]]
    shuffled = [rows[i] for i in np.random.default_rng(3).permutation(len(rows))]
    expected, found = ranking(rows), ranking(shuffled)
    for name in ("standings", "pairs"):
        for one, other in zip(getattr(expected, name), getattr(found, name), strict=True):
            np.testing.assert_equal(one._asdict(), other._asdict())


def test_what_failed_counts_what_does_not_apply_is_left_out_and_time_is_told_apart():
    ends = {"good": "ok", "fails": "failed", "slow": "time-out", "narrow": "not-applicable"}
    rows = [
        row(name, task, 0, 0.1, end if task in SOME[:5] else "ok")
        for name, end in ends.items()
        for task in SOME
    ]
    lines = {line.estimator: line for line in ranking(rows).standings}
    assert lines["good"].error == lines["narrow"].error == pytest.approx(0.1)
    assert lines["fails"].error == lines["slow"].error == np.inf
    assert (lines["fails"].failed, lines["fails"].timed_out) == (5, 0)
    assert (lines["slow"].failed, lines["slow"].timed_out) == (0, 5)
    assert (lines["narrow"].tasks, lines["narrow"].failed) == (3, 0)


def test_methods_are_compared_on_the_same_draws():
    """One that is always a tenth nearer wins every time and is resolved, though tasks differ far more."""
    rng = np.random.default_rng(0)
    rows = []
    for task, seed in itertools.product(SOME, (0, 1)):
        hard = float(rng.uniform(0.02, 0.4))
        rows += [row("far", task, seed, hard), row("near", task, seed, 0.9 * hard)]
        rows += [row("chance", task, seed, hard * float(rng.choice([0.5, 2.0])))]
    board = ranking(rows)
    pair = next(p for p in board.pairs if {p.estimator, p.other} == {"near", "far"})
    assert pair.estimator == "near"
    assert pair.wins == 1
    assert pair.log_ratio == pytest.approx(np.log(0.9), abs=1e-6)
    assert pair.resolved
    assert not next(p for p in board.pairs if {p.estimator, p.other} == {"near", "chance"}).resolved
    group = {line.estimator: line.group for line in board.standings}
    assert group["far"] > group["near"]


def test_a_draw_that_one_of_two_methods_had_does_not_enter():
    """One with a second, harder seed is as near as one without on the seed of both."""
    rows = [row("once", task, 0, 0.01) for task in SOME]
    rows += [row("twice", task, seed, 0.02 * 10**seed) for task in SOME for seed in (0, 1)]
    (pair,) = ranking(rows).pairs
    assert (pair.estimator, pair.runs, pair.wins) == ("once", len(SOME), 1)
    assert pair.log_ratio == pytest.approx(np.log(0.5), abs=1e-6)


def test_errors_against_the_number_of_samples_are_of_the_same_tasks():
    """A task of one size alone, twenty times harder, is no effect of the number of samples."""
    rows = [row("one", "pair-d1", 0, 0.02 / (n / 64)) | {"n": n} for n in (64, 128, 256)]
    rows += [row("one", "pair-d16", 0, 0.4) | {"n": 128}]
    (families,) = by_size(results(rows, TRUTHS), FAMILIES).values()
    assert families["pair"]["one"] == pytest.approx({64: 0.02, 128: 0.01, 256: 0.005}, abs=1e-9)


def test_few_families_resolve_nothing():
    """Nor do methods that share few of them: five agree by chance once in sixteen, six once in 32."""
    one_each = list({family: task for task, family in FAMILIES.items()}.values())
    assert len(one_each) == 6
    for tasks, groups in ((one_each[:5], [1, 1]), (one_each, [1, 2])):
        rows = [
            row(name, task, 0, e) for task in tasks for name, e in (("near", 0.01), ("far", 0.4))
        ]
        board = ranking(rows)
        assert [line.group for line in board.standings] == groups
        assert np.isnan([line.low for line in board.standings]).all() == (groups == [1, 1])
        assert board.pairs[0].wins == 1
        headers, lines = short_board(board)
        shown = dict(zip(headers, lines[0], strict=True))
        assert (shown["group"], shown["nearer"]) == (
            "a",
            "(100 %)" if groups == [1, 1] else "100 %",
        )
    apart = [row("here", task, 0, 0.01) for task in SOME[:4]]
    apart += [row("there", task, 0, 0.4) for task in SOME[4:]]
    assert [line.group for line in ranking(apart).standings] == [1, 1]


def test_the_bootstrap_takes_families_whole():
    """Ten tasks of one family are one cluster: its draws have them all or none of them."""
    draws = resampled(["a"] * 10 + ["b"])
    kept = [set(draw[draw < 11]) for draw in draws]
    assert any(of <= set(range(10)) for of in kept)
    assert any(of == {10} for of in kept)
    assert np.mean([of == {10} for of in kept]) == pytest.approx(0.25, abs=0.05)


def test_the_integral_of_blocks_is_that_of_two_chi_squares():
    """By scipy's adaptive rule over both densities, and by draws of the 256 coordinates themselves."""
    law = TASKS["blocks-d256"].law
    found = law.entropy(0.0)
    u, v = (0.5 * variance + 0.5 for variance in (1.3, 0.7))

    def integrand(s, t):
        odds = (1 / v - 1 / u) * (u * s - v * t) / 2
        p = 1 / (1 + np.exp(-odds))
        entropy = 0.0 if p in (0.0, 1.0) else -p * np.log(p) - (1 - p) * np.log(1 - p)
        return entropy * chi2.pdf(s, 128) * chi2.pdf(t, 128)

    expected, _ = dblquad(integrand, 50, 260, 50, 260, epsabs=1e-8)
    assert found == pytest.approx(expected, abs=1e-6)
    curve = truth(TASKS["blocks-d256"])
    slope = np.gradient(curve.entropy.value, curve.log_snr, edge_order=2)
    np.testing.assert_allclose(-slope[2:-2], curve.rate.value[2:-2], atol=0.01)
    problem = problem_of(law.mixture, curve.log_snr, 4000)
    sampled = ESTIMATORS["posterior"]().curve(problem).entropy
    error = np.abs(np.asarray(sampled.value) - curve.entropy.value)
    assert np.all(error < 4.5 * np.asarray(sampled.stderr))


# An estimator that knows numpy and the format, and nothing of this package: LDA by hand.
OUTSIDE = """
import csv, sys
import numpy as np

def lda(x, labels, prior):
    means = [x[labels == c].mean(0) for c in range(len(prior))]
    inside = x - np.array(means)[labels]
    inverse = np.linalg.inv(inside.T @ inside / len(x))
    logits = np.stack([x @ inverse @ m - m @ inverse @ m / 2 for m in means], 1) + np.log(prior)
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return float(-(p * np.log(np.maximum(p, 1e-300))).sum(1).mean())

def read(path):
    if path.endswith(".npz"):
        of = dict(np.load(path))
        return of, list(of["x"]), of["labels"], of["prior"]
    with open(path, newline="") as file:
        lines = list(csv.DictReader(file))
    levels = sorted({int(line["level"]) for line in lines})
    names = [name for name in lines[0] if name[0] == "x"]
    states = [np.array([[float(l[n]) for n in names] for l in lines if int(l["level"]) == k]) for k in levels]
    own = [line for line in lines if int(line["level"]) == 0]
    labels = np.array([int(line["label"]) for line in own])
    prior = [float(next(l["prior"] for l in own if int(l["label"]) == c)) for c in range(labels.max() + 1)]
    return lines[0], states, labels, np.array(prior)

with open(sys.argv[1], "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow("task access n seed estimator kind level entropy seconds".split())
    for path in sys.argv[2:]:
        of, states, labels, prior = read(path)
        head = [str(of[name]) for name in ("task", "access", "n", "seed")]
        for level, x in enumerate(states):
            writer.writerow([*head, "by-hand", "estimate", level, lda(x, labels, prior), 0.1])
"""


@pytest.mark.parametrize("form", ["npz", "csv"])
def test_a_script_in_plain_numpy_enters_the_board(tmp_path, capsys, form):
    """Export, a program that imports numpy alone, score; ranked among the registry's on the same draws."""
    words = f"benchmark export --task pair-d1 --task diagonal --n 1024 --format {form}".split()
    assert cli.main([*words, "--out", str(tmp_path / "samples")]) == 0
    files = sorted((tmp_path / "samples").iterdir())
    assert len(files) == 2
    (tmp_path / "outside.py").write_text(OUTSIDE)
    answers = tmp_path / "answers.csv"
    command = [sys.executable, "-I", str(tmp_path / "outside.py"), str(answers), *map(str, files)]
    subprocess.run(command, check=True)
    sweep = ["benchmark", "--task", "pair-d1", "--task", "diagonal", "--estimator", "ross"]
    sweep += ["--jobs", "1", "--access", "noisy", "--num-samples", "1024", "--seeds", "1"]
    sweep += ["--quiet", "--out", str(tmp_path / "sweep")]
    assert cli.main(sweep) == 0
    words = ["benchmark", "score", str(answers), "--beside", str(tmp_path / "sweep")]
    assert cli.main([*words, "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "by-hand" in shown
    assert "ross" in shown
    with (tmp_path / "out" / "cells.csv").open(newline="") as file:
        cells = [line for line in csv.DictReader(file) if line["estimator"] == "by-hand"]
    assert len(cells) == 32
    assert all(0 <= float(line["clipped"]) <= float(line["prior_entropy"]) for line in cells)
    off = [float(c["clipped"]) - float(c["truth"]) for c in cells if c["task"] == "pair-d1"]
    assert np.abs(off).max() < 0.05
    # The other way round: what was run here among the cells of elsewhere.
    sweep.remove("--quiet")
    assert cli.main([*sweep, "--beside", str(tmp_path / "out" / "cells.csv")]) == 0
    again = capsys.readouterr().out
    assert (
        "2 of 2 runs, and 2 of cells.csv" in again + (tmp_path / "sweep" / "report.md").read_text()
    )
    assert "by-hand" in again


def test_exported_samples_are_those_that_estimators_get(tmp_path):
    path = tmp_path / "a.npz"
    export(path, "pair-d16", "clean", 64, 3)
    with np.load(path) as kept:
        problem = problem_of(
            TASKS["pair-d16"].law.mixture,
            kept["log_snr"],
            64,
            seed=3,
            access=Access.CLEAN,
            name="pair-d16",
        )
        np.testing.assert_array_equal(kept["x"], problem.clean().x)
        np.testing.assert_allclose(kept["alpha"] ** 2 + kept["sigma"] ** 2, 1)
        np.testing.assert_allclose(np.log(kept["alpha"] ** 2 / kept["sigma"] ** 2), kept["log_snr"])
    export(tmp_path / "a.csv", "pair-d1", "clean", 64, 0)
    lines = list(csv.DictReader((tmp_path / "a.csv").open(newline="")))
    assert [line["level"] for line in lines[:17]] == [*map(str, range(16)), "-1"]
    assert len(lines) == 16 + 64
    for name, says in (("a.txt", "npz, .csv"), ("a.csv", "begins at 64")):
        with pytest.raises(ValueError, match=says):
            export(tmp_path / name, "pair-d16", "clean", 8, 0)


def test_parquet_holds_the_same(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra `parquet`")
    export(tmp_path / "a.parquet", "pair-d1", "noisy", 64, 0)
    table = parquet.read_table(tmp_path / "a.parquet")
    assert table.num_rows == 16 * 64
    assert {"level", "log_snr", "label", "prior", "x0"} <= set(table.column_names)


def test_without_pyarrow_parquet_is_refused_in_a_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    words = ["benchmark", "export", "--task", "pair-d1", "--n", "64", "--format", "parquet"]
    assert cli.main([*words, "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err.strip()
    assert "pip install 'gmm-speciation[parquet]'" in said
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.iterdir())


GOOD = "task,access,n,seed,estimator,kind,level,entropy\n" + "".join(
    f"pair-d1,noisy,64,0,mine,estimate,{level},0.5\n" for level in range(16)
)
BAD = {
    "lacks the columns kind": GOOD.replace("kind", "sort"),
    "has no answers": GOOD.splitlines()[0] + "\n",
    "line 2: expected a value for each of the 8 columns": GOOD.replace("0.5", "0,5"),
    "line 3: expected a value for each": GOOD.replace(",1,0.5", ",1"),
    "level 3 of": GOOD + "pair-d1,noisy,64,0,mine,estimate,3,0.5\n",
    "levels 0 to 15 once each": "\n".join(GOOD.splitlines()[:-1]),
    "must be a finite number, at every level; got .nan": GOOD.replace("0.5", "nan"),
    "`seconds` must be a finite number, not negative": GOOD.replace(
        "entropy\n", "entropy,seconds\n"
    ).replace("0.5\n", "0.5,-1\n"),
    "must be a finite number, at every level; got .half": GOOD.replace("0.5", "half"),
    "Did you mean 'pair-d1'": GOOD.replace("pair-d1", "pair-d11"),
    "Unknown access": GOOD.replace("noisy", "loud"),
    "Unknown access 'scores'": GOOD.replace("noisy", "scores"),  # no samples are exported for it
    "Unknown access 'mixture'": GOOD.replace("noisy", "mixture"),
    "a seed is a whole number from 0; got -7": GOOD.replace(",64,0,", ",64,-7,"),
    "has the column entropy twice": "\n".join(f"{line},0.5" for line in GOOD.splitlines()).replace(
        "entropy,0.5", "entropy,entropy"
    ),
    "must have commas between its columns": GOOD.replace(",", ";"),
    "Unknown kind": GOOD.replace("estimate", "guess"),
    "no estimator of the registry": GOOD.replace("mine", "ross"),
    "begins at 64": GOOD.replace(",64,", ",32,"),
    "Unknown column of answers.csv 'std_err'. Did you mean 'stderr'": GOOD.replace(
        "entropy\n", "entropy,std_err\n"
    ).replace("0.5\n", "0.5,0.01\n"),
    "has the column stderr twice": GOOD.replace("entropy\n", "entropy,stderr,stderr\n").replace(
        "0.5\n", "0.5,0.01,\n"
    ),
    "the same at every level; got 1 to 2": GOOD.replace("entropy\n", "entropy,seconds\n")
    .replace("0.5\n", "0.5,1\n")
    .replace("0.5,1\n", "0.5,2\n", 1),
    "line 2: invalid literal": GOOD.replace(",64,", ",many,"),
}


@pytest.mark.parametrize("says", BAD)
def test_answers_that_do_not_fit_are_named(tmp_path, says):
    path = tmp_path / "answers.csv"
    path.write_text(GOOD)
    assert len(read_answers(path)) == 1
    path.write_text(BAD[says])
    with pytest.raises(ValueError, match=says):
        read_answers(path)
    path.write_bytes(b"PK\x03\x04\xa4")  # such as the samples themselves
    with pytest.raises(ValueError, match="is no CSV in UTF-8"):
        read_answers(path)


def test_columns_of_samples_and_of_cells_may_stay_in_answers(tmp_path):
    """And an index without a name, as tables have it."""
    export(tmp_path / "samples.csv", "pair-d1", "clean", 64, 0)
    more = (tmp_path / "samples.csv").read_text().splitlines()[0].split(",") + CELL_FIELDS + [""]
    names = [name for name in dict.fromkeys(more) if name not in GOOD.splitlines()[0].split(",")]
    names = [name for name in names if name not in ("stderr", "rate", "seconds")]
    head, *lines = GOOD.splitlines()
    text = "\n".join([",".join([head, *names]), *(line + "," * len(names) for line in lines)])
    (tmp_path / "answers.csv").write_text(text)
    assert len(read_answers(tmp_path / "answers.csv")) == 1


def test_a_folder_that_is_no_sweep_is_nothing_to_stand_beside(tmp_path, capsys):
    (tmp_path / "answers.csv").write_text(GOOD)
    (tmp_path / "samples").mkdir()
    words = [
        "benchmark",
        "score",
        str(tmp_path / "answers.csv"),
        "--beside",
        str(tmp_path / "samples"),
    ]
    refused(cli.main, words, "samples holds no run of a sweep", capsys)


def test_the_command_estimates_ones_own_samples(tmp_path, capsys):
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    x = rng.normal(size=(400, 2)) + 1.5 * (2 * labels - 1)[:, None]
    np.savez(tmp_path / "data.npz", x=x, labels=labels)
    words = ["benchmark", "estimate", str(tmp_path / "data.npz"), "--method", "qda"]
    assert cli.main([*words, "--method", "logistic"]) == 0
    shown = capsys.readouterr().out
    expected = gs.estimate_class_entropy(x, labels, method="qda").value
    assert f"{float(expected):.4f}" in shown
    assert "upper bound in the mean" in shown
    np.savez(tmp_path / "bare.npz", x=x)
    assert cli.main(["benchmark", "estimate", str(tmp_path / "bare.npz")]) == 2
    assert "lacks labels" in capsys.readouterr().err
    for wrong in (labels - 1, labels + 0.5, labels.astype(str)):
        np.savez(tmp_path / "wrong.npz", x=x, labels=wrong)
        assert cli.main(["benchmark", "estimate", str(tmp_path / "wrong.npz")]) == 2
        said = capsys.readouterr().err
        assert "`labels` must be integers 0..C-1" in said
        assert len(said.splitlines()) == 1
    np.savez(tmp_path / "wrong.npz", x=x, labels=labels, priors=[0.9, 0.1])
    assert cli.main(["benchmark", "estimate", str(tmp_path / "wrong.npz")]) == 2
    assert "it has priors, too" in capsys.readouterr().err
    export(tmp_path / "out.npz", "pair-d1", "noisy", 64, 0)
    with np.load(tmp_path / "out.npz") as kept:
        np.savez(tmp_path / "wrong.npz", priors=[0.9, 0.1], **kept)
    assert cli.main(["benchmark", "estimate", str(tmp_path / "wrong.npz")]) == 2
    assert "it has priors, too" in capsys.readouterr().err
    np.savez(tmp_path / "level.npz", x=x, labels=labels, sigma=0.5)
    assert cli.main(["benchmark", "estimate", str(tmp_path / "level.npz"), "--method", "qda"]) == 0
    assert "1.386" in capsys.readouterr().out
