"""Every claim of the theory, beside the same number measured on another path.

draws         quasi-random draws, in replicates
signals       orthogonal signals, drawn
backward      the backward equation of a diffusion on a line
rows          what a row tolerates
identities    what holds for every mixture: rate, I-MMSE, clock, chain rule, budget, reduction
pairs         two classes: the channel, the peak on the clock, the criteria of speciation
many          many classes, equal means, collapse
memory        modern Hopfield networks
asymptotics   laws of large dimension and of many classes
clocks        VE against VP: one window on two clocks, part of the former
published     published experiments at their settings
guidance      guided sampling against the closed form, removal of a class, strong guidance
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import PRNGKeyArray

from gmm_speciation.reporting.claims import Claim
from gmm_speciation.verification import (
    asymptotics,
    guidance,
    guided_runs,
    identities,
    many,
    memory,
    pairs,
    published,
)

__all__ = ["SECTIONS", "Section"]


class Section(NamedTuple):
    """Claims that are checked together: `claims(key, num_samples)`.

    Where a section is about an experiment, `study(key, num_samples)` runs it, and its claims take the
    result as a third argument; pictures show the same result.
    """

    title: str
    claims: Callable[..., list[Claim]]
    study: Callable[[PRNGKeyArray, int], Any] | None = None

    def check(self, key: PRNGKeyArray, num_samples: int) -> tuple[list[Claim], Any]:
        """The claims, and what the study found; None without one."""
        if self.study is None:
            return self.claims(key, num_samples), None
        found = self.study(key, num_samples)
        return self.claims(key, num_samples, found), found


SECTIONS: dict[str, Section] = {
    "identities": Section("Identities of every mixture", identities.claims),
    "pairs": Section("Two classes", pairs.claims),
    "many": Section("Many classes, shells, memorisation", many.claims),
    "memory": Section("Modern Hopfield networks", memory.claims),
    "asymptotics": Section("Large dimension, many classes", asymptotics.claims),
    "published": Section("Published experiments", published.claims, published.study),
    "guidance": Section("Guidance", guidance.claims, guided_runs.study),
}
