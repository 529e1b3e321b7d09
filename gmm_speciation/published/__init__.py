"""Published experiments, run again at their settings beside the exact result.

cloning       Biroli et al. 2024, Fig. 1: clones of two classes in 256 to 16384 dimensions
hierarchies   a binary tree of depth four, separations spread over decades; the chain rule
trained       Biroli et al. 2024: clones of trained networks, read from the authors' figures' data
line          Handke et al. 2025: four points on a line under the linear DDPM schedule
"""

from gmm_speciation.published.cloning import ChiSquare, CloningFigure, biroli_cloning, clone_pairs
from gmm_speciation.published.hierarchies import ChainRule, DeepHierarchy, deep_hierarchy
from gmm_speciation.published.line import FourPoints, four_points
from gmm_speciation.published.trained import TrainedClones, trained_clones

__all__ = [
    "ChainRule",
    "ChiSquare",
    "CloningFigure",
    "DeepHierarchy",
    "FourPoints",
    "TrainedClones",
    "biroli_cloning",
    "clone_pairs",
    "deep_hierarchy",
    "four_points",
    "trained_clones",
]
