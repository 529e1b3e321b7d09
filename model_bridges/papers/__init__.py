"""Papers whose claims are about trained models, each a run that gives rows.

selections      pairs, groups and prompts where a paper names none
parts           what a run is given, and gives back
decisions       a decision by the paper's read-out and class against class
handke2026      narrow regimes, partitions, guidance
handke2025      every class against the others
koulischer2025  a class removed
"""

from model_bridges.papers import handke2025, handke2026, koulischer2025
from model_bridges.papers.parts import Paper, Settings, Subject

__all__ = ["PAPERS", "Paper", "Settings", "Subject"]

PAPERS: dict[str, Paper] = {
    "handke2026": handke2026.PAPER,
    "handke2025": handke2025.PAPER,
    "koulischer2025": koulischer2025.PAPER,
}
