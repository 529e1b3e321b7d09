"""How a long computation says how far it is.

It takes a `Progress` and tells it of each step as it begins, of the equal parts of that step that are done,
and of what a reader should know. By default nobody listens. Whoever wants the parts alone passes a function
of `(parts done, parts in all)` in its place.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

Parts = Callable[[int, int], object]


@runtime_checkable
class Progress(Protocol):
    """Where a computation tells how far it is."""

    def step(self, name: str, unit: str = "") -> object:
        """The step before is done and this one begins; `unit` says what its parts are."""

    def part(self, done: int, total: int, note: str = "") -> object:
        """`done` of `total` equal parts of the step are done; `note` is worth saying beside it."""

    def say(self, line: str) -> object:
        """A line that stays."""


class Silent:
    """Tells nobody."""

    def step(self, name: str, unit: str = "") -> None: ...

    def part(self, done: int, total: int, note: str = "") -> None: ...

    def say(self, line: str) -> None: ...


SILENT = Silent()


@dataclass(frozen=True)
class _PartsAlone(Silent):
    function: Parts

    def part(self, done: int, total: int, note: str = "") -> None:
        self.function(done, total)


def listening(progress: Progress | Parts | None) -> Progress:
    """The `Progress` that a caller means: one, a function of the parts alone, or nobody."""
    if progress is None:
        return SILENT
    return progress if isinstance(progress, Progress) else _PartsAlone(progress)
