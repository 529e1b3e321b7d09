"""What a paper's command is given, and what its parts give back."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from gmm_speciation.progress import SILENT, Progress
from gmm_speciation.reporting.claims import Claim
from gmm_speciation.reporting.papers import PaperRow, Place
from model_bridges.papers.selections import Choice
from model_bridges.studied import StudiedModel


@dataclass(frozen=True, eq=False)
class Subject:
    """A model and the decisions asked of it.

    Attributes:
        name: As it was asked for; "digits" and "digits-text" are stand-ins.
        model: The model.
        pairs: Decisions between two classes.
        groups: Decisions between groups, coarsest first.
        preset: Of `entropy.presets`, for levels and number of samples; None for a stand-in.
    """

    name: str
    model: StudiedModel
    pairs: Sequence[Choice]
    groups: Sequence[Choice] = ()
    preset: str | None = None

    @property
    def file(self) -> str:
        """The name as a part of a file's."""
        return re.sub(r"[^A-Za-z0-9]+", "-", self.name).strip("-")


@dataclass(frozen=True, eq=False)
class Settings:
    """How closely the parts look."""

    quick: bool = False
    seed: int = 0
    folder: Path | None = None
    num_samples: int | None = None  # trajectories and images of a run
    num_levels: int | None = None  # noise levels of a trajectory
    progress: Progress = SILENT

    def of(self, small: int, large: int) -> int:
        """One of two numbers."""
        return small if self.quick else large

    def drawn(self, small: int, large: int) -> int:
        """Images or trajectories: as many as were asked for, between the two."""
        return max(small, min(large, self.num_samples or self.of(small, large)))

    def levels(self, small: int, large: int) -> int:
        """Noise levels of a trajectory: as asked for, or one of two numbers."""
        return self.num_levels or self.of(small, large)

    def place(self, *names: str) -> Path | None:
        """A subfolder of the run; names may hold what no file name does."""
        if self.folder is None:
            return None
        words = ["".join(c if c.isalnum() else "-" for c in name).strip("-") for name in names]
        return self.folder.joinpath(*words)


@dataclass(eq=False)
class Found:
    """Rows, and what makes their pictures when they are asked for."""

    rows: list[PaperRow] = field(default_factory=list)
    pictures: dict[str, tuple[Callable[[], Any], str]] = field(default_factory=dict)

    def add(self, place: Place, how: str, *claims: Claim) -> None:
        """Claims at one place, and how they were measured where they do not say it."""
        self.rows += [PaperRow(replace(one, how=one.how or how), place) for one in claims]


class Cost(NamedTuple):
    """A part of a plan."""

    part: str
    evaluations: int


class Paper(NamedTuple):
    """A paper: what it is, what of it is not public, what runs it, what it costs, how near it comes."""

    title: str
    reference: str
    about: str
    run: Callable[[Sequence[Subject], Settings], Found]
    plan: Callable[[Sequence[Subject], Settings], list[Cost]]
    scale: Callable[[Sequence[Subject], Settings], str]
