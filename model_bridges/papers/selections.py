"""Decisions that papers speak of without naming them: pairs, groups and prompts of our choice.

The partitions and prompts of Handke et al. 2026 are not public. `class_pairs.json` has pairs of digits, ten
pairs of ImageNet's classes in three families (near, middle, far) and groups of WordNet at four depths;
`prompt_pairs.json` twelve pairs of prompts in four families. Each says why it is there.
"""

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple


class Choice(NamedTuple):
    """A decision between groups, `a | b`."""

    family: str
    groups: str
    reason: str


def choices(kind: str) -> list[Choice]:
    """Those of "digits", "imagenet", "imagenet groups" or "prompts"."""
    name = "prompt_pairs.json" if kind == "prompts" else "class_pairs.json"
    text = (files("model_bridges.papers") / name).read_text(encoding="utf-8")
    return [Choice(**row) for row in json.loads(text)[kind]]


def prompts() -> list[str]:
    """Every prompt of the pairs, each once: the classes of a text-to-image model."""
    sides = [side.strip() for one in choices("prompts") for side in one.groups.split("|")]
    return list(dict.fromkeys(sides))


def one_a_family(chosen: Sequence[Choice]) -> list[Choice]:
    """The first of every family."""
    return list({one.family: one for one in reversed(chosen)}.values())[::-1]
