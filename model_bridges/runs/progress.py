"""The progress bar of a run: chunks, evaluations per second and the remaining time."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from model_bridges.runs.folder import Status, process_place


class RunBar:
    """A bar on stderr; `step` names what begins, `update` says how far it is, `say` prints a line."""

    def __init__(self, bar: Progress):
        self._bar = bar
        self._task = bar.add_task("", total=None, pace="")

    def step(self, name: str) -> None:
        """Another kind of job begins."""
        self._bar.reset(self._task, total=None, description=name, pace="")

    def update(self, status: Status) -> None:
        """One chunk more is done."""
        pace = f"{status.evaluations_per_second:,.0f} evaluations/s"
        if math.isfinite(status.remaining_seconds):
            pace += f", {_duration(status.remaining_seconds)} left"
        self._bar.update(self._task, completed=status.done, total=status.total, pace=pace)

    def part(self, done: int, total: int) -> None:
        """Parts of something that is not a run."""
        self._bar.update(self._task, completed=done, total=total)

    def say(self, line: str) -> None:
        """A line that stays."""
        self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def run_progress(quiet: bool = False) -> Iterator[RunBar]:
    """A bar while the block runs, in the first process alone; lines are printed without one, too."""
    hidden = quiet or process_place()[0] > 0
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[pace]}"),
        console=Console(stderr=True, quiet=quiet),
        transient=True,
        disable=hidden or not sys.stderr.isatty(),
    )
    with bar:
        yield RunBar(bar)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
