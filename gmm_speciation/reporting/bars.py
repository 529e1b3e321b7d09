"""Progress on stderr: a bar where there is a terminal, and a line now and then where there is none."""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from gmm_speciation.reporting.tables import plain

LINE_SECONDS = 30.0


@contextmanager
def progress(
    num_steps: int | None = None,
    quiet: bool = False,
    *,
    shown: bool = True,
    line_seconds: float = LINE_SECONDS,
) -> Iterator["Steps"]:
    """A `gmm_speciation.progress.Progress` on stderr while the block runs.

    Args:
        num_steps: How many steps the bar stands for; without it every step has a bar of its own.
        quiet: Say nothing at all.
        shown: Whether this process shows the bar; lines of `say` come from every one.
        line_seconds: Without a terminal, the least time between two lines.
    """
    terminal = sys.stderr.isatty()
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[pace]}", markup=False),
        console=Console(stderr=True, quiet=quiet, emoji=False),
        transient=True,
        disable=quiet or not shown or not terminal,
    )
    with bar:
        yield Steps(bar, num_steps, line_seconds if shown and not terminal else math.inf)


class Steps:
    """Progress of a command, one named step after the other."""

    def __init__(self, bar: Progress, num_steps: int | None, line_seconds: float):
        self._bar, self._num_steps, self._line_seconds = bar, num_steps, line_seconds
        self._task = bar.add_task("", total=num_steps, pace="")
        self._finished, self._name, self._unit = -1, "", ""
        self._first: tuple[float, int] | None = None
        self._told = time.monotonic()

    def step(self, name: str, unit: str = "") -> None:
        """The step before is done; this one begins. More steps than announced lengthen the bar."""
        self._finished += 1
        self._name, self._unit, self._first = name, unit, None
        self._show(0, None)

    def part(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` equal parts of the present step are done.

        The pace is counted from the first call on, which has waited for the compiler, or for a folder in
        which something was done before; with a unit the bar says how many a second.
        """
        now = time.monotonic()
        began, first = self._first = self._first or (now, done)
        words = [f"{done:,} of {total:,}", note]
        if done > first and now > began:
            speed = (done - first) / (now - began)
            words.append(pace(speed, (total - done) / speed, self._unit))
        self._show(done, total, ", ".join(filter(None, words)))

    def say(self, line: str) -> None:
        """A line that stays."""
        self._bar.console.print(plain(line), markup=False, highlight=False, soft_wrap=True)

    def _show(self, done: int, total: int | None, words: str = "") -> None:
        completed, length = float(done), total
        if self._num_steps is not None:
            completed = self._finished + done / (total or 1)
            length = self._num_steps = max(self._num_steps, self._finished + 1)
        self._bar.update(
            self._task,
            completed=completed,
            total=length,
            description=plain(self._name),
            pace=plain(words),
        )
        if time.monotonic() - self._told >= self._line_seconds:
            self._told = time.monotonic()
            self.say(f"{self._name}: {words}" if words else self._name)


def pace(speed: float, seconds_left: float, unit: str = "") -> str:
    """`12,300 draws/s, 1:05 left`."""
    minutes, seconds = divmod(round(seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
    return f"{speed:,.0f} {unit}/s, {left} left" if unit else f"{left} left"
