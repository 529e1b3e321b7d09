"""A paper in parts: what each costs, and the rows and studies that it gives."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from jaxtyping import PRNGKeyArray

from gmm_speciation.reporting.papers import PaperRow


class Settings(NamedTuple):
    """How closely the parts look."""

    key: PRNGKeyArray
    num_samples: int  # draws where a claim is sampled
    quick: bool = False
    patterns: Path | None = None  # a file of patterns to store, for Hopfield networks


class Found(NamedTuple):
    """Rows of a part, and what its pictures show, by the name of the study."""

    rows: list[PaperRow]
    studies: Mapping[str, Any] = MappingProxyType({})


class Part(NamedTuple):
    """What is run together.

    `seconds` are about those of one processor, with --quick and without, compiling included.
    """

    name: str
    seconds: tuple[int, int]
    run: Callable[[Settings], Found]


class Paper(NamedTuple):
    """A paper: what it is, what of it is not public, its parts."""

    title: str
    reference: str
    about: str
    parts: tuple[Part, ...]
