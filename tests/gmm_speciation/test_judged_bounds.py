"""Bounds on the wrong side of the truth are none: no nearness of theirs counts."""

import csv

import numpy as np
import pytest
from made_rows import TRUTHS, row

from gmm_speciation import cli
from gmm_speciation.benchmark.scores import counted, score

TASK = "pair-d16"
CURVE = TRUTHS[TASK]
EXACT, PRIOR = np.asarray(CURVE.entropy.value), CURVE.prior_entropy
HEAD = "task,access,n,seed,estimator,kind,level,entropy,stderr\n"


def bound(values, kind, **more):
    of = {"kind": f"{kind} bound", "entropy": list(values), "noise": None}
    return row("one", TASK, 0, 0.0) | of | more


@pytest.mark.parametrize(("kind", "side"), [("upper", 1), ("lower", -1)])
def test_no_violation_is_nearer_than_any_bound_that_holds(kind, side):
    """At every level, by a search over all that hold; and not within four errors, nor where none is known."""
    rng = np.random.default_rng(0)
    for wrong in (EXACT - side * rng.uniform(1e-4, 1, EXACT.size) for _ in range(50)):
        holding = np.linspace(EXACT, PRIOR if side > 0 else 0.0, 7)
        off = np.abs(counted(bound(wrong, kind), CURVE) - EXACT)
        for right in holding:
            assert np.all(off >= np.abs(counted(bound(right, kind), CURVE) - EXACT))
        assert np.all(off >= np.abs(np.clip(wrong, 0, PRIOR) - EXACT))
    near = EXACT - side * 0.02
    for chance in ({"stderr": [0.006] * EXACT.size}, {"noise": [0.006] * EXACT.size}):
        np.testing.assert_array_equal(
            counted(bound(near, kind, **chance), CURVE), np.clip(near, 0, PRIOR)
        )
    unknown = {name: value for name, value in bound(near, kind).items() if name != "noise"}
    assert score(unknown, CURVE)["error"] < 0.02 < score(bound(near, kind), CURVE)["error"]
    rounded = bound(EXACT - side * 1e-7, kind)
    assert score(rounded, CURVE)["error"] < 1e-6


def test_a_wrong_bound_ranks_below_the_trivial_one_and_says_so(tmp_path, capsys):
    """Closer by a third than the bound that holds; alone, 0.3 nats off, it is no nearer than log 2."""
    said = {
        "wrong": EXACT - 0.02,
        "right": EXACT + 0.03,
        "far": EXACT - 0.3,
        "log2": 0 * EXACT + PRIOR,
    }
    lines = [
        f"{TASK},noisy,64,{seed},{name},upper bound,{level},{value},1e-6\n"
        for seed in range(4)
        for name, values in said.items()
        for level, value in enumerate(values)
    ]
    (tmp_path / "a.csv").write_text(HEAD + "".join(lines))
    words = ["benchmark", "score", str(tmp_path / "a.csv"), "--out", str(tmp_path / "out")]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    with (tmp_path / "out" / "boards.csv").open(newline="") as file:
        found = {line["estimator"]: float(line["error"]) for line in csv.DictReader(file)}
    assert min(found, key=found.__getitem__) == next(iter(found)) == "right"
    trivial = float(np.sqrt(np.mean((PRIOR - EXACT) ** 2))) / PRIOR
    assert found["log2"] == pytest.approx(trivial)
    assert found["wrong"] >= found["log2"]
    assert found["far"] >= found["wrong"]
    with (tmp_path / "out" / "cells.csv").open(newline="") as file:
        cells = [line for line in csv.DictReader(file) if line["estimator"] == "wrong"]
    off = [float(cell["counted"]) - float(cell["truth"]) for cell in cells]
    assert np.sqrt(np.mean(np.square(off))) / PRIOR == pytest.approx(found["wrong"])
    assert "violation" in shown
    assert "far 0.42" in shown  # by how much of H(C) it was clipped
