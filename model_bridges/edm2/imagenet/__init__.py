"""ImageNet's 1000 classes and the WordNet tree above them.

    words = vocabulary()
    words.find("golden retriever").classes   # (207,)
    words.find("dog").classes                # its 118 breeds

`classes.json` and the script that makes it are beside this file; sources and licences in SOURCES.md.
Labels follow the order of the WordNet ids, as those of the published networks do; neighbours in that
order are mostly neighbours in the tree.
"""

import json
from functools import cache
from importlib.resources import files

from model_bridges.classes.names import ClassNames, Entry

__all__ = ["NUM_CLASSES", "class_names", "vocabulary"]

NUM_CLASSES = 1000


@cache
def class_names() -> tuple[str, ...]:
    """The first name of every class, in the order of the labels."""
    return tuple(names[0] for names, _ in _read()["classes"].values())


@cache
def vocabulary() -> ClassNames:
    """Everything that can be named: the classes, and whatever WordNet has above them."""
    read = _read()
    below: dict[str, set[int]] = {identifier: set() for identifier in read["above"]}
    for index, (_, parents) in enumerate(read["classes"].values()):
        seen: set[str] = set()
        open_ids = list(parents)
        while open_ids:
            identifier = open_ids.pop()
            if identifier not in seen:
                seen.add(identifier)
                below[identifier].add(index)
                open_ids += read["above"][identifier][1]
    entries = [
        Entry(identifier, tuple(names), (index,))
        for index, (identifier, (names, _)) in enumerate(read["classes"].items())
    ]
    entries += [
        Entry(identifier, tuple(names), tuple(sorted(below[identifier])))
        for identifier, (names, _) in read["above"].items()
    ]
    return ClassNames(NUM_CLASSES, tuple(entries))


def _read() -> dict[str, dict[str, list]]:
    text = (files("model_bridges.edm2.imagenet") / "classes.json").read_text(encoding="utf-8")
    return json.loads(text)
