"""The end of a command: its tables, its note, and its report where one was asked for."""

import numpy as np
import pytest

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
