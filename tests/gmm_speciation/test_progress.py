"""Progress: one object, silent by default; a bar on a terminal, a line now and then without one."""

import itertools
import sys

import pytest
from heard import Heard

from gmm_speciation import entropy_curve, families
from gmm_speciation.progress import SILENT, Progress, listening
from gmm_speciation.reporting import bars
from gmm_speciation.reporting.bars import pace, progress


def work(told: Progress):
    told.step("first", "draws")
    for done in (10, 20, 40):
        told.part(done, 40)
    told.say("[bold]a line[/bold]")
    told.step("second")
    told.part(1, 2, "loss 0.25")


def test_a_function_of_the_parts_nobody_and_a_progress_may_listen():
    parts = []
    for listener in (None, SILENT, lambda done, total: parts.append((done, total))):
        work(listening(listener))
    assert parts == [(10, 40), (20, 40), (40, 40), (1, 2)]
    heard = Heard()
    work(listening(heard))
    assert listening(heard) is heard
    assert (heard.steps, heard.parts) == (["first", "second"], parts)
    assert (heard.lines, heard.notes[-1]) == (["[bold]a line[/bold]"], "loss 0.25")


@pytest.mark.parametrize("form", ["object", "function"])
def test_public_functions_take_both(form):
    heard = Heard()
    listener = heard if form == "object" else lambda done, total: heard.part(done, total)
    entropy_curve(
        families.equidistant(3, 4, 3.0),
        [3.0, 0.0, -3.0],
        method="monte-carlo",
        num_samples=64,
        progress=listener,
    )
    assert heard.parts[-1] == (64, 64)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands ten seconds later whenever it is read."""
    seconds = itertools.count(0.0, 10.0)
    monkeypatch.setattr(bars.time, "monotonic", lambda: next(seconds))


def test_without_a_terminal_there_is_a_line_now_and_then(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(bars.time, "monotonic", lambda: now[0])
    with progress(line_seconds=30.0) as bar:
        bar.step("entropy", "draws")
        for second in range(1, 101):
            now[0] = float(second)
            bar.part(10 * second, 1000)
        bar.say("[bold]a line[/bold]")
        now[0] = 131.0
        bar.step("next")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "entropy: 300 of 1,000, 10 draws/s, 1:10 left",
        "entropy: 600 of 1,000, 10 draws/s, 0:40 left",
        "entropy: 900 of 1,000, 10 draws/s, 0:10 left",
        "[bold]a line[/bold]",
        "next",
    ]


def test_a_quick_command_says_nothing_but_what_should_stay(capsys):
    with progress(2) as bar:
        work(bar)
    assert capsys.readouterr().err == "[bold]a line[/bold]\n"
    with progress(quiet=True, line_seconds=0.0) as bar:
        work(bar)
    assert capsys.readouterr().err == ""
    with progress(shown=False, line_seconds=0.0) as bar:  # not the first of several processes
        work(bar)
    assert capsys.readouterr().err == "[bold]a line[/bold]\n"


def test_on_a_terminal_there_is_a_bar(capsys, monkeypatch, clock):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with progress(1) as bar:
        work(bar)
        (task,) = bar._bar.tasks
        assert task.description == "second"
        assert task.fields["pace"] == "1 of 2, loss 0.25"
        # There were more steps than announced, and half of the last one is done.
        assert (task.completed, task.total) == (1.5, 2)
    with progress() as bar:
        work(bar)
        (task,) = bar._bar.tasks
        assert (task.completed, task.total) == (1, 2)
    assert "a line" in capsys.readouterr().err


def test_pace_of_a_bar():
    assert pace(12345.6, 65.4, "draws") == "12,346 draws/s, 1:05 left"
    assert pace(3.0, 3723.0, "draws") == "3 draws/s, 1:02:03 left"
    assert pace(0.1, 9.0) == "0:09 left"
