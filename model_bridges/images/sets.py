"""Labelled images of any origin, read when they are needed, and the two parts of a study.

A set knows the class of every image and how to read those asked for; what is left out is never read. It
reads one of

    "pixels"   bytes `(n, channels, height, width)`, which a model turns into its images
    "images"   a model's images, what a judge of its pictures sees
    "states"   what the model itself works on

A study fits (a mixture, a classifier, a judge) to one part, `train`, and averages over the other,
`held_out`. Data that come in one piece are halved class by class, at random and always the same way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

Rows = Int[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Rows of something that can be read, in order, with the class of each.

    Args:
        load: Reads the rows asked for.
        rows: Those of this set.
        labels: Their classes.
        kind: What is read.
        noun: What they are, in the plural.
        place: Where they lie, if `noun` does not say it.
        law: Their distribution in words.
        mixed: Whether their order says nothing of their classes; else a part of them is taken at random.
    """

    load: Callable[[Rows], Tensor]
    rows: Rows
    labels: Rows
    kind: Literal["pixels", "images", "states"]
    noun: str
    place: str = ""
    law: str = ""
    mixed: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "law", self.law or self.place or self.noun)

    def __repr__(self) -> str:
        return f"ImageSet({len(self)} {self.kind}, {self.law})"

    @classmethod
    def of(
        cls,
        values: Tensor,
        labels: Tensor | Rows,
        kind: Literal["pixels", "images", "states"],
        noun: str,
        place: str = "",
        law: str = "",
    ) -> "ImageSet":
        """Values that are at hand, all of them."""
        classes = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
        rows = np.arange(len(classes))
        return cls(lambda rows: values[rows], rows, classes, kind, noun, place, law)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self) -> Tensor:
        """What the set holds, of its kind."""
        return self.load(self.rows)

    def _at(self, index: Rows, law: str) -> "ImageSet":
        return replace(self, rows=self.rows[index], labels=self.labels[index], law=law)

    @property
    def _where(self) -> str:
        return f" in {self.place}" if self.place else ""

    def first(self, limit: int | None) -> "ImageSet":
        """At most `limit` of them: the first, or at random where they may be sorted.

        Raises:
            ValueError: If fewer than two would be left.
        """
        if limit is None or limit >= len(self):
            return self
        if limit < 2:
            raise ValueError(f"An error bar needs at least two images; got `--images {limit}`.")
        of_all = f"{limit} of {len(self)} {self.noun}{self._where}"
        if self.mixed:
            return self._at(np.arange(limit), f"the first {of_all}")
        return self._at(np.sort(self._order()[:limit]), f"{of_all}, taken at random")

    def shuffled(self) -> "ImageSet":
        """In an order that is random and always the same."""
        return self._at(self._order(), self.law)

    def _order(self) -> Rows:
        return torch.randperm(len(self), generator=torch.Generator().manual_seed(0)).numpy()

    def of_classes(self, classes: Sequence[int], names: Sequence[str]) -> "ImageSet":
        """Those of some classes, labelled by their places among these.

        Raises:
            ValueError: If there are fewer than two.
        """
        keep = np.flatnonzero(np.isin(self.labels, classes))
        if len(keep) < 2:
            raise ValueError(
                f"{self.law} must hold at least two pictures or states of the classes named, "
                f"{', '.join(names[:8])}; found {len(keep)}."
            )
        found = self._at(keep, f"{len(keep)} {self.noun} of the classes named{self._where}")
        place = {k: index for index, k in enumerate(classes)}
        return replace(found, labels=np.array([place[int(k)] for k in found.labels]))

    def halves(self) -> "Parts":
        """One half of every class to average over, the other to fit.

        Raises:
            ValueError: If a class has a single image.
        """
        classes, counts = np.unique(self.labels, return_counts=True)
        if (counts == 1).any():
            raise ValueError(
                f"class {classes[np.argmax(counts == 1)]} has a single image among {self.law}; one "
                "half of every class is averaged over and the other fitted: give more of it, or "
                "`--train-data`."
            )
        order = np.random.default_rng(0).permutation(len(self))
        order = order[np.argsort(self.labels[order], kind="stable")]
        rank = np.empty(len(self), int)  # of each image inside its class
        rank[order] = np.arange(len(self)) - np.repeat(np.cumsum(counts) - counts, counts)
        return Parts(
            self._at(np.flatnonzero(rank % 2 == 0), f"one half of {self.law}"),
            self._at(np.flatnonzero(rank % 2 == 1), f"the other half of {self.law}"),
        )


@dataclass(frozen=True, eq=False)
class Parts:
    """What is averaged over, and what is fitted; None where there is no such part."""

    held_out: ImageSet | None
    train: ImageSet | None = None

    def of_classes(self, classes: Sequence[int], names: Sequence[str]) -> "Parts":
        """As `ImageSet.of_classes`, of both."""
        held_out, train = (
            None if part is None else part.of_classes(classes, names)
            for part in (self.held_out, self.train)
        )
        return Parts(held_out, train)
