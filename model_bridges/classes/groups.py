"""Decisions between groups of named classes.

A *selection* names some of a model's classes, in groups: `"golden retriever | tabby"`, `"dog | cat"`.
The semantic variable lives on the classes named and on nothing else; their priors p_k are renormalised,

    P(g) = sum_{k in g} p_k / sum_{all named} p_k,        D_g = sum_{k in g} p(k | x, g) D_k,

so that the model restricted to them (`named_classes`) with the groups as its partition goes through
every estimator unchanged.

Cost grows with the classes named. Above a given number each group is represented by a sample: every
group keeps at least one class, sizes are proportional to those of the groups, and inside a group classes
are taken at equal distances in the order of the labels from a random start, so that all parts of it
appear. A group keeps its prior, shared by its sample. D_g, and with it the entropy, then depends on the
sample drawn: `class_samples.over_samples` repeats a measurement with several and gives the spread.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from gmm_speciation.checks import as_count
from gmm_speciation.partitions import Partition
from gmm_speciation.reading import read_json
from model_bridges.classes.names import ClassNames
from model_bridges.denoisers.base import Denoiser
from model_bridges.denoisers.subset import ClassSubset

LONGEST_NAME = 200  # characters of the name of a group or a class in a file


@dataclass(frozen=True)
class ClassGroups:
    """Groups of classes.

    `groups` holds the labels that are evaluated; `named` those that the groups stand for, which are
    more where a sample was drawn.
    """

    names: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    named: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if len(self.groups) < 2:
            raise ValueError(
                f"a partition needs at least two groups, such as 'dog | cat'; got {len(self.groups)}."
            )
        owner: dict[int, str] = {}
        for name, members in zip(self.names, self.named, strict=True):
            for k in members:
                if owner.setdefault(k, name) != name:
                    raise ValueError(
                        f"class {k} is in two groups, {owner[k]!r} and {name!r}; groups must not "
                        "overlap."
                    )

    @classmethod
    def of_partition(cls, partition: Partition) -> "ClassGroups":
        """The classes of a partition of all classes of a model as groups."""
        members = tuple(
            tuple(np.flatnonzero(np.equal(partition.labels, c)).tolist())
            for c in range(partition.num_classes)
        )
        return cls(partition.names or tuple(map(str, range(len(members)))), members, members)

    @property
    def classes(self) -> tuple[int, ...]:
        """Labels of the model that are evaluated, group after group."""
        return tuple(k for group in self.groups for k in group)

    @property
    def partition(self) -> Partition:
        """The groups, over the classes in the order of `classes`."""
        labels = [index for index, group in enumerate(self.groups) for _ in group]
        return Partition(labels, self.names)

    @property
    def is_sample(self) -> bool:
        """Whether a group is represented by a part of its classes."""
        return self.groups != self.named

    def __str__(self) -> str:
        parts = []
        for name, group, named in zip(self.names, self.groups, self.named, strict=True):
            if len(group) < len(named):
                size = f"{len(group)} of {len(named)} classes"
            else:
                size = f"{len(named)} class" + ("es" if len(named) > 1 else "")
            parts.append(f"{name} ({size})")
        return " | ".join(parts)

    def prior(self, class_prior: Sequence[float] | None = None) -> Float[np.ndarray, " M"]:
        """Weights of `classes`, given those of all classes of the model, by default equal ones.

        Raises:
            ValueError: If a group has no weight.
        """
        weights = []
        for name, group, named in zip(self.names, self.groups, self.named, strict=True):
            own = np.ones(len(group)) if class_prior is None else np.take(class_prior, group)
            total = len(named) if class_prior is None else float(np.take(class_prior, named).sum())
            if not own.sum() > 0:
                raise ValueError(f"the group {name!r} has weight 0 under the prior of the model.")
            weights.append(total * own / own.sum())
        joined = np.concatenate(weights)
        return joined / joined.sum()

    def restrict(self, denoiser: Denoiser, whole: bool = False) -> ClassSubset:
        """The model as one of the classes evaluated only; `whole` as of `ClassSubset`.

        Raises:
            ValueError: If the model has fewer classes.
        """
        largest = max(k for named in self.named for k in named)
        if largest >= denoiser.num_classes:
            raise ValueError(
                f"the partition {self} names class {largest}, and the model has "
                f"{denoiser.num_classes}. Is this the model that the names belong to?"
            )
        prior = self.prior(getattr(denoiser, "class_prior", None))
        return ClassSubset(denoiser, self.classes, tuple(float(w) for w in prior), whole)

    def sample(self, max_classes: int, seed: int = 0, index: int = 0) -> "ClassGroups":
        """At most `max_classes` of the classes named, stratified; itself where there are no more.

        Args:
            max_classes: Classes evaluated in all.
            seed: Together with `index` it fixes the sample.
            index: Different samples.

        Raises:
            ValueError: If there are more groups than that.
        """
        if max_classes < len(self.named):
            raise ValueError(
                f"`max_classes` must allow one class for each of {len(self.named)} groups; got "
                f"{max_classes}."
            )
        sizes = np.array([len(named) for named in self.named])
        if sizes.sum() <= max_classes:
            return replace(self, groups=self.named)
        rng = np.random.default_rng([as_count(seed, "seed", 0), as_count(index, "index", 0)])
        counts = _allocate(sizes, max_classes)
        groups = tuple(
            tuple(named[place] for place in _systematic(len(named), count, rng))
            for named, count in zip(self.named, counts, strict=True)
        )
        return replace(self, groups=groups)


def read_selection(text: str, vocabulary: ClassNames) -> ClassGroups:
    """The groups in `a, b | c`, or in a JSON file.

    Groups are separated by `|`, classes of a group by commas; `pets: dog, cat | birds: bird` gives
    the groups names. A name that ends in .json is a file with `{"pets": ["dog", "cat"], ...}` or with
    a list of such lists.

    Raises:
        ValueError: If a word names no class, a group is empty, groups overlap, or the file is not
            such a file.
    """
    if text.strip().endswith(".json"):
        groups = _read_file(Path(text.strip()))
    else:
        groups = []
        for part in text.split("|"):
            before, colon, after = part.rpartition(":")
            groups.append((before.strip() if colon else None, after.split(",")))
    names, members = [], []
    for name, words in groups:
        if not any(word.strip() for word in words):
            raise ValueError(f"a group of the partition {text!r} is empty; write 'dog | cat'.")
        entries = [vocabulary.find(word) for word in words if word.strip()]
        names.append(name or ", ".join(" ".join(word.split()) for word in words if word.strip()))
        members.append(tuple(sorted({k for entry in entries for k in entry.classes})))
    if len(set(names)) < len(names):
        raise ValueError(f"two groups of the partition {text!r} have the same name.")
    return ClassGroups(tuple(names), tuple(members), tuple(members))


def vocabulary_of(denoiser: Denoiser) -> ClassNames:
    """The words that a model's classes have: its own `vocabulary`, else its `class_names`, else labels."""
    own = getattr(denoiser, "vocabulary", None)
    if isinstance(own, ClassNames):
        return own
    names = getattr(denoiser, "class_names", None)
    return ClassNames(denoiser.num_classes) if names is None else ClassNames.of_classes(names)


def _allocate(sizes: Int[np.ndarray, " G"], total: int) -> list[int]:
    """`total` places for groups of these sizes: one each, the rest where a place stands for most."""
    counts = np.ones(len(sizes), int)
    for _ in range(total - len(sizes)):
        counts[np.argmax(np.where(counts < sizes, sizes / (counts + 0.5), -1.0))] += 1
    return [int(count) for count in counts]


def _systematic(size: int, count: int, rng: np.random.Generator) -> list[int]:
    """`count` of `size` places at equal distances from a random start; each as likely as the others."""
    start = float(rng.random())
    return [int((index + start) * size / count) for index in range(count)]


def _read_file(path: Path) -> list[tuple[str | None, list[str]]]:
    content: Any = read_json(path, longest=LONGEST_NAME)
    pairs = list(content.items()) if isinstance(content, dict) else content
    if isinstance(content, list):
        pairs = [(None, group) for group in content]
    groups = []
    for name, words in pairs if isinstance(pairs, list) else [(None, None)]:
        words = [words] if isinstance(words, str | int) else words
        if not isinstance(words, list) or not all(isinstance(w, str | int) for w in words):
            raise ValueError(
                f'{path} must hold {{"group": ["class", ...], ...}} or a list of lists of classes; '
                f"got {json.dumps(words)[:80]}."
            )
        groups.append((name, [str(word) for word in words]))
    return groups
