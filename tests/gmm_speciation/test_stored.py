"""Cells of another sweep: read back as the rows that they were, or refused; nothing in them is imported."""

import json
import lzma
from pathlib import Path

import numpy as np
import pytest
from made_rows import SOME, TRUTHS, random_rows, row

from gmm_speciation.benchmark.boards import results
from gmm_speciation.benchmark.rows import appending, read_rows, rows_file
from gmm_speciation.benchmark.stored import draw_of, others
from gmm_speciation.benchmark.summary import summarise, write_files
from gmm_speciation.estimators.registry import ESTIMATORS


def varied_rows():
    """Rows of every kind and end, with intervals, noise and a rate of their own, or without."""
    made = random_rows(7)[:60]
    for index, one in enumerate(made):
        errors = list(np.linspace(0.01, 0.03, len(one["entropy"])) + 1e-3 * index)
        one["kind"] = ("estimate", "lower bound", "upper bound")[ord(one["estimator"]) % 3]
        one |= {"dof": [3.0, 15.0, 1e9][index % 3], "noise": None, "device": "cpu theirs"}
        if one["kind"] == "estimate" and index % 2:
            one |= {"stderr": errors, "rate": list(np.array(errors) / 3)}
        elif index % 2:
            one["noise"] = errors
    return made


@pytest.mark.parametrize("form", ["cells.csv", "cells.csv.xz", "sweep"])
def test_cells_are_read_back_as_the_rows_that_they_were(form, tmp_path):
    rows = varied_rows()
    write_files(summarise(rows, tmp_path), tmp_path)
    text = (tmp_path / "cells.csv").read_bytes()
    (tmp_path / "cells.csv.xz").write_bytes(lzma.compress(text))
    with appending(rows_file(tmp_path / "sweep")) as file:
        for one in rows:
            file.add(one)
    draws = {draw_of(one) for one in rows if one["seed"] == 0}
    found = others(tmp_path / form, draws)
    expected = [one for one in rows if one["seed"] == 0]
    assert [(one["task"], one["estimator"], one["status"]) for one in found] == [
        (one["task"], one["estimator"], one["status"]) for one in expected
    ]
    for one, right in zip(results(found, TRUTHS), results(expected, TRUTHS), strict=True):
        assert one.row["kind"] == right.row["kind"]
        assert one.scores == pytest.approx(right.scores, abs=1e-9)
        if one.scores:
            assert one.row["device"] == "cpu theirs"


def test_the_cells_that_come_along_can_be_read():
    """Those of `benchmarks/results`: every estimator on these draws, with errors and without."""
    stored = Path(__file__).parents[2] / "benchmarks" / "results" / "cells.csv.xz"
    draws = {("pair-d16", access, 256, 0) for access in ("noisy", "clean", "scores", "mixture")}
    found = others(stored, draws)
    assert {one["estimator"] for one in found} == set(ESTIMATORS)
    assert {one["status"] for one in found} <= {"ok", "not applicable"}
    known = [result for result in results(found, TRUTHS) if result.scores]
    assert len(known) > 50
    assert any(result.row.get("dof") == np.inf for result in known)


def test_a_file_of_cells_is_refused_or_imports_nothing(tmp_path, monkeypatch):
    rows = varied_rows()
    write_files(summarise(rows, tmp_path), tmp_path)
    text = (tmp_path / "cells.csv").read_text()
    draws, path = set(map(draw_of, rows)), tmp_path / "changed.csv"
    header, first = text.splitlines()[:2]
    for changed, message in (
        (text.replace(",truth,", ",said,", 1), "lacks the columns truth"),
        (text.replace(first, first.replace("pair-d1", "pair-d16", 1)), "comes twice"),
        (text.replace(first + "\n", ""), "levels of the task"),
        (text.replace(first, _with(header, first, entropy="nan")), "`entropy` must be a finite"),
        (
            text.replace(first, _with(header, first, entropy="")),
            "`entropy` must be a finite number",
        ),
        (text.replace(first, _with(header, first, stderr="-1")), "finite number, not negative"),
        (text.replace(first, _with(header, first, seconds="inf")), "`seconds` must be a finite"),
        (text + first + "\n", "comes twice"),
        (text.replace(first, f"{first},0"), "line 2: expected a value for each"),
        (text.replace(first, _with(header, first, truth="0.2")), "are others than here"),
        (text.replace(first, _with(header, first, kind="guess")), "kind 'guess' is unknown"),
        (text.replace(first, _with(header, first, seed="one")), "invalid literal"),
        (text.replace(first, _with(header, first, stderr="x", dof="y")), "must be a finite number"),
    ):
        path.write_text(changed)
        with pytest.raises(ValueError, match=message):
            others(path, draws)
    lines = text.splitlines(keepends=True)
    path.write_text(lines[0] + "".join(np.random.default_rng(0).permutation(lines[1:])))
    sorted_rows = sorted(others(path, draws), key=repr)
    (tmp_path / "cells.csv").write_text(text)
    assert repr(sorted_rows) == repr(sorted(others(tmp_path / "cells.csv", draws), key=repr))
    for content in (lzma.compress(text.encode())[:-200], b"no xz"):
        path.with_suffix(".csv.xz").write_bytes(content)
        with pytest.raises(ValueError, match=r"cut off|nor one packed by xz"):
            others(path.with_suffix(".csv.xz"), draws)
    # A task's name would be a module: what comes from outside names none.
    (tmp_path / "theirs.py").write_text("raise AssertionError('imported')")
    monkeypatch.chdir(tmp_path)
    path.write_text(text.replace("pair-d1,", "theirs:task,"))
    named = {("theirs:task", *draw[1:]) for draw in draws}
    assert {one["task"] for one in others(path, draws | named)} == set(SOME) - {"pair-d1"}


def test_a_damaged_line_of_a_sweep_is_dropped_and_the_file_goes_on(tmp_path):
    rows = varied_rows()[:3]
    path = rows_file(tmp_path)
    with appending(path) as file:
        file.add(rows[0])
    strange = {"task": ["x"], "estimator": "a", "access": "noisy", "n": 64, "seed": 5}
    with path.open("ab") as file:
        file.write(b'{"task": "pair-d16", "mes\xe9\n')
        file.write(json.dumps({**strange, "status": "ok"}).encode() + b"\n[1]\n{}\n")
        file.write(json.dumps(rows[1]).encode()[:-9])
    with appending(path) as file:
        file.add(rows[2])
    found = read_rows(tmp_path, lambda row: row["status"] != "")
    assert found == [json.loads(json.dumps(row)) for row in (rows[0], rows[2])]

    def unknown(row):
        raise ValueError("its task is gone")

    with pytest.raises(ValueError, match="its task is gone"):  # no damage of the file
        read_rows(tmp_path, unknown)


def _with(header, line, **changes):
    names, values = header.split(","), line.split(",")
    return ",".join(str(changes.get(n, v)) for n, v in zip(names, values, strict=True))


def test_without_degrees_of_freedom_there_is_no_interval(tmp_path):
    """A file that has none, and begins as spreadsheets write it: the normal's would be made up."""
    rows = [one for one in varied_rows() if one["stderr"] and one["status"] == "ok"]
    write_files(summarise(rows, tmp_path), tmp_path)
    text = (tmp_path / "cells.csv").read_text().replace(",dof,", ",left out,", 1)
    (tmp_path / "cells.csv").write_text(text, encoding="utf-8-sig")
    found = results(others(tmp_path / "cells.csv", set(map(draw_of, rows))), TRUTHS)
    assert len(found) == len(rows) > 1
    for one, right in zip(found, results(rows, TRUTHS), strict=True):
        assert right.scores["inside"] is not None
        assert one.scores["inside"] is None
        assert one.scores["error"] == pytest.approx(right.scores["error"], abs=1e-9)


def test_what_was_not_kept_is_no_violation():
    (found,) = results([row("one", "pair-d1", 0, 0.3) | {"kind": "upper bound"}], TRUTHS)
    assert found.scores["violation"] is None
    (found,) = results(
        [row("one", "pair-d1", 0, 0.3) | {"kind": "upper bound", "noise": None}], TRUTHS
    )
    assert found.scores["violation"] > 0.1
