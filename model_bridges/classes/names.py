"""Words for the classes of a model.

An `Entry` names one class or, like "dog", many. A word finds the entry with this identifier or this
name, whatever its case; a number finds the class with this label. Where several entries have a name,
those that have it as their first come before the others, and an entry that contains all others of them
before those: "cat" is the animal, not the lion. What remains unclear is refused with the identifiers.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass


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

    @classmethod
    def of_classes(cls, names: Sequence[str]) -> "ClassNames":
        """Classes with one name each, in the order of their labels."""
        entries = tuple(Entry(f"class {i}", (name,), (i,)) for i, name in enumerate(names))
        return cls(len(names), entries)

    def find(self, word: str) -> Entry:
        """The entry of a word.

        Raises:
            ValueError: If there is none, with the nearest names, or several, with their identifiers.
        """
        plain = _plain(word)
        named: dict[str, list[Entry]] = self.__dict__["_named"]
        found = named.get(plain, [])
        if not found and plain.isdecimal():
            if int(plain) < self.num_classes:
                return Entry(plain, (plain,), (int(plain),))
            raise ValueError(f"class {plain} is not one of 0..{self.num_classes - 1}.")
        if not found:
            near = difflib.get_close_matches(plain, named, n=4, cutoff=0.6)
            hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise ValueError(
                f"{word.strip()!r} is no class or group of classes.{hint} Labels from 0 to "
                f"{self.num_classes - 1} are taken too."
            )
        found = [entry for entry in found if _plain(entry.names[0]) == plain] or found
        widest = max(found, key=lambda entry: len(entry.classes))
        if all(set(entry.classes) <= set(widest.classes) for entry in found):
            return widest
        choices = "; ".join(f"{e.identifier}: {', '.join(e.names)}" for e in found)
        raise ValueError(f"{word.strip()!r} has several meanings; give one by its id: {choices}.")


def _plain(text: str) -> str:
    return " ".join(text.replace("_", " ").casefold().split())
