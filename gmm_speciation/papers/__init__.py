"""Papers whose claims need no trained model, each as parts that give rows.

biroli2024      speciation of two classes, clones, collapse
handke2026      the entropy rate on the logarithmic scale, clocks, partitions, guidance
koulischer2023  minima of a Hopfield network against beta
wu2024          what strong guidance does to a mixture

Measurements are those of `verification` wherever it has them; a module here says where a claim stands in
the paper, and adds what is the paper's alone.
"""

from gmm_speciation.papers import biroli2024, handke2026, koulischer2023, wu2024
from gmm_speciation.papers.parts import Paper, Part, Settings

__all__ = ["PAPERS", "Paper", "Part", "Settings"]

PAPERS: dict[str, Paper] = {
    "biroli2024": biroli2024.PAPER,
    "handke2026": handke2026.PAPER,
    "koulischer2023": koulischer2023.PAPER,
    "wu2024": wu2024.PAPER,
}
