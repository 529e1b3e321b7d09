"""Criteria of speciation, one a file, and all of them at once.

Every criterion names a point on the log-SNR axis, `SpeciationPoint`; `point.on(process)` gives the time.

spectral        noise drowns the leading direction of the covariance
bifurcation     the state of pure noise splits: curvature of log p_t, or stability of a reverse drift
entropic        the class entropy falls fastest, or is half gone
cloning         two reverse runs from one state agree; exact, and simulated (`simulate_cloning`)
collapse        the same question with every training point a class
"""

from gmm_speciation.speciation.bifurcation import curvature_point, drift_stability
from gmm_speciation.speciation.clones import CloningExperiment, simulate_cloning
from gmm_speciation.speciation.cloning import CLONE_SHARE, chance_agreement, cloning_point
from gmm_speciation.speciation.collapse import (
    collapse_point,
    excess_entropy,
    gaussian_collapse,
    index_entropy,
)
from gmm_speciation.speciation.entropic import (
    entropic_point,
    entropic_points,
    half_entropy_point,
    plateau,
)
from gmm_speciation.speciation.grids import transition_grid
from gmm_speciation.speciation.points import SpeciationPoint
from gmm_speciation.speciation.spectral import (
    between_class_eigenvalue,
    sample_top_eigenvalue,
    spectral_point,
    top_eigenvalue,
)
from gmm_speciation.speciation.times import SpeciationTimes, per_level, speciation_times
from gmm_speciation.speciation.tree import bifurcations, first_bifurcation

__all__ = [
    "CLONE_SHARE",
    "CloningExperiment",
    "SpeciationPoint",
    "SpeciationTimes",
    "between_class_eigenvalue",
    "bifurcations",
    "chance_agreement",
    "cloning_point",
    "collapse_point",
    "curvature_point",
    "drift_stability",
    "entropic_point",
    "entropic_points",
    "excess_entropy",
    "first_bifurcation",
    "gaussian_collapse",
    "half_entropy_point",
    "index_entropy",
    "per_level",
    "plateau",
    "sample_top_eigenvalue",
    "simulate_cloning",
    "speciation_times",
    "spectral_point",
    "top_eigenvalue",
    "transition_grid",
]
