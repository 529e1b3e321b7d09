"""Words for the classes of a model.

An `Entry` names one class or, like "dog", many. A word finds the entry with this identifier or this
name, whatever its case; a number finds the class with this label. Where classes are called by numbers that
are not their labels, as those of a network without its null class 0, numbers are names and nothing else.
Where several entries have a name, those that have it as their first come before the others, and an entry
that contains all others of them before those: "cat" is the animal, not the lion. What remains unclear is
refused with the identifiers.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

SHOWN = 10  # names in a message


@dataclass(frozen=True)
class Entry:
    """Something with an identifier and names, and the labels of its classes, in order."""

    identifier: str
    names: tuple[str, ...]
    classes: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class ClassNames:
    """Entries of a model with `num_classes` classes.

    Raises:
        ValueError: If a class is none of them.
    """

    num_classes: int
    entries: tuple[Entry, ...] = ()

    def __post_init__(self) -> None:
        named: dict[str, list[Entry]] = {}
        for entry in self.entries:
            if not entry.classes or not all(0 <= k < self.num_classes for k in entry.classes):
                raise ValueError(f"{entry.identifier!r} has no class in 0..{self.num_classes - 1}.")
            for name in dict.fromkeys(map(_plain, (entry.identifier, *entry.names))):
                named.setdefault(name, []).append(entry)
        object.__setattr__(self, "_named", named)
        object.__setattr__(self, "_labels_are_taken", not _renumbered(self.entries))

    @classmethod
    def of_classes(cls, names: Sequence[str]) -> "ClassNames":
        """Classes with one name each, in the order of their labels."""
        entries = tuple(Entry(f"class {i}", (name,), (i,)) for i, name in enumerate(names))
        if _renumbered(entries):  # "class 1" is the one called 1
            entries = tuple(replace(one, identifier=f"class {one.names[0]}") for one in entries)
        return cls(len(names), entries)

    def find(self, word: str) -> Entry:
        """The entry of a word.

        Raises:
            ValueError: If there is none, with the nearest names, or several, with their identifiers.
        """
        plain = _plain(word)
        named: dict[str, list[Entry]] = self.__dict__["_named"]
        found = named.get(plain, [])
        labels = self.__dict__["_labels_are_taken"]
        if not found and plain.isdecimal() and labels:
            if int(plain) < self.num_classes:
                return Entry(plain, (plain,), (int(plain),))
            raise ValueError(f"class {plain} is not one of 0..{self.num_classes - 1}.")
        if not found:
            near = difflib.get_close_matches(plain, named, n=4, cutoff=0.6)
            hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            if labels:
                rule = f"Labels from 0 to {self.num_classes - 1} are taken too."
            else:
                names = [entry.names[0] for entry in self.entries]
                more = ", ..." if len(names) > SHOWN else ""
                rule = f"The classes are called {', '.join(names[:SHOWN])}{more}; numbers are names here."
            raise ValueError(f"{word.strip()!r} is no class or group of classes.{hint} {rule}")
        found = [entry for entry in found if _plain(entry.names[0]) == plain] or found
        widest = max(found, key=lambda entry: len(entry.classes))
        if all(set(entry.classes) <= set(widest.classes) for entry in found):
            return widest
        choices = "; ".join(f"{e.identifier}: {', '.join(e.names)}" for e in found)
        raise ValueError(f"{word.strip()!r} has several meanings; give one by its id: {choices}.")


def _renumbered(entries: Sequence[Entry]) -> bool:
    """Whether a class is called by a number that is not its label."""
    single = [one for one in entries if len(one.classes) == 1]
    numbers = [(name, one.classes[0]) for one in single for name in map(_plain, one.names)]
    return any(name.isdecimal() and int(name) != label for name, label in numbers)


def _plain(text: str) -> str:
    return " ".join(text.replace("_", " ").casefold().split())
