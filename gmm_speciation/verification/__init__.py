"""Every claim of the theory, beside the same number measured on another path.

claims        a claim, its error bar and its verdict
identities    what holds for every mixture: rate, I-MMSE, clock, chain rule, budget, reduction
pairs         two classes: the channel, the peak on the clock, the criteria of speciation
many          many classes, equal means, collapse
memory        modern Hopfield networks
"""

from collections.abc import Callable
from typing import NamedTuple

from jaxtyping import PRNGKeyArray

from gmm_speciation.verification import identities, many, memory, pairs
from gmm_speciation.verification.claims import CONFIDENCE, Claim

__all__ = ["CONFIDENCE", "SECTIONS", "Claim", "Section"]


class Section(NamedTuple):
    """Claims that are checked together: `claims(key, num_samples)`."""

    title: str
    claims: Callable[[PRNGKeyArray, int], list[Claim]]


SECTIONS: dict[str, Section] = {
    "identities": Section("Identities of every mixture", identities.claims),
    "pairs": Section("Two classes", pairs.claims),
    "many": Section("Many classes, shells, memorisation", many.claims),
    "memory": Section("Modern Hopfield networks", memory.claims),
}
