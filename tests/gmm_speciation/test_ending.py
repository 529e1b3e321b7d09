"""The end of a command: its tables, its note, and its report where one was asked for."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from full import full_stdout

from gmm_speciation.estimate import Estimate
from gmm_speciation.reporting import terminal
from gmm_speciation.reporting.records import percent
from gmm_speciation.reporting.report import Report
from gmm_speciation.reporting.stored import load_result
from gmm_speciation.reporting.tables import Table

TABLES = {
    "of [/old] runs": Table(["what", "[red]H[/red]"], [["[bold]a[/bold]", "0.25 ± 0.01"]]),
    "range": Table(["what", "σ"], [["window", "0.1 – 2"]]),
    "nothing": Table(["what"], []),
}


def write():
    return Report("An end"), {"provenance": terminal.stamp(7, {"n": 3}), "run": 1}


def test_tables_then_the_note_then_the_report(tmp_path, capsys):
    terminal.finish(TABLES, write, tmp_path / "out", False, note="a note")
    shown = capsys.readouterr().out
    # In titles, headers and cells brackets are what they are, not markup.
    words = ["of [/old] runs", "[red]H[/red]", "[bold]a[/bold]", "0.25 ± 0.01", "0.1 – 2"]
    places = [shown.index(word) for word in [*words, "a note\n", f"Report: {tmp_path / 'out'}\n"]]
    assert places == sorted(places)
    assert "nothing" not in shown
    assert load_result(tmp_path / "out")["provenance"]["arguments"] == {"n": 3}


def test_narrow_tables_have_the_note_where_there_is_an_error(tmp_path, capsys):
    terminal.finish(TABLES, write, tmp_path / "out", False, note="a note", narrow=True)
    shown = capsys.readouterr().out
    assert "0.25±0.01" in shown
    assert "0.1–2" in shown
    assert shown.count("a note.\n") == 1
    assert shown.index("a note.") < shown.index("range")
    assert shown.endswith(f"Report: {tmp_path / 'out' / 'report.html'}\n")


def test_without_a_place_nothing_is_made_and_quiet_is_quiet(tmp_path, capsys):
    terminal.finish(TABLES, lambda: pytest.fail("made"), None, False)
    assert "Report" not in capsys.readouterr().out
    terminal.finish(TABLES, write, tmp_path / "out", True, note="a note")
    assert capsys.readouterr().out == ""
    assert (tmp_path / "out" / "report.html").exists()


def test_columns_and_shares():
    table = Table(["a", "b", "c"], [["1", "2", "3"], ["4", "5", "6"]])
    assert table.columns(2, 0) == Table(["c", "a"], [["3", "1"], ["6", "4"]])
    half = 1.9599639845400543  # of the 95 % interval, normal
    assert percent(Estimate(np.array(0.256), np.array(0.01 / half))) == "25.6 ± 1.0"
    assert percent(Estimate(np.array(-0.02), np.array(0.001 / half)), 2) == "−2.00 ± 0.10"


COMMANDS = """
from pathlib import Path
from gmm_speciation.reporting import terminal
from gmm_speciation.reporting.report import Report
from gmm_speciation.reporting.tables import Table

app = terminal.application("ending", "1", "Ends.")

@app.command()
def end(out: terminal.Out = None):
    table = Table(["what", "σ"], [["é 😀", "0.1 – 2"]])
    terminal.finish({"λ": table}, lambda: (Report("An end"), {"é": "σ 😀"}), out, False, note="±")

@app.command()
def other(): ...
"""
PROGRAM = "import sys\nfrom gmm_speciation.reporting.start import start\nsys.exit(start('ending'))"


def ended(words, folder, closed="", **settings):
    (folder / "ending.py").write_text(COMMANDS, encoding="utf-8")
    command = [sys.executable, "-c", PROGRAM, "end", "--out", "out", *words]
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", *command]
    return subprocess.run(command, cwd=folder, stderr=subprocess.PIPE, **settings)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_signs_that_stdout_lacks_cost_neither_the_report_nor_the_json(encoding, tmp_path):
    there = {**os.environ, "PYTHONIOENCODING": encoding}
    table = ended([], tmp_path, stdout=subprocess.PIPE, env=there)
    assert table.returncode == 0, table.stderr
    assert ("σ" if encoding == "utf-8" else r"\u03c3") in table.stdout.decode(encoding)
    assert load_result(tmp_path / "out")["é"] == "σ 😀"
    printed = ended(["--json"], tmp_path, stdout=subprocess.PIPE, env=there)
    assert json.loads(printed.stdout.decode(encoding))["é"] == "σ 😀"


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_report_is_there_whether_or_not_stdout_takes_the_text(words, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    assert ended(words, tmp_path, stdout=writer).returncode == 1
    os.close(writer)
    assert load_result(tmp_path / "out")["é"] == "σ 😀"


def test_a_report_is_there_where_stdout_is_full(tmp_path):
    with full_stdout(), pytest.raises(OSError, match="space"):
        terminal.finish(TABLES, write, tmp_path / "out", False)
    assert load_result(tmp_path / "out")["run"] == 1


def test_tables_are_shown_where_the_report_cannot_be_written(tmp_path, capsys):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ValueError, match="is a file"):
        terminal.finish(TABLES, write, tmp_path / "out", False, note="a note")
    assert "a note" in capsys.readouterr().out


def test_a_stdout_that_is_closed_is_said_before_the_work(tmp_path):
    done = ended([], tmp_path, closed=">&-")
    assert done.returncode == 2
    assert b"stdout is closed" in done.stderr
    assert not (tmp_path / "out").exists()
